"""Error numbers, and the two ways in which kernel code says that something went wrong.

Mirrors ``include/uapi/asm-generic/errno*.h`` and ``include/linux/errno.h``. The numbers are those of every
architecture that uses the generic table, x86-64 and arm64 among them.
"""

from __future__ import annotations

from enum import IntEnum


class Errno(IntEnum):
    """The error numbers that a guest can see."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EINTR = 4
    EIO = 5
    ENXIO = 6
    E2BIG = 7
    ENOEXEC = 8
    EBADF = 9
    ECHILD = 10
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    ENOTBLK = 15
    EBUSY = 16
    EEXIST = 17
    EXDEV = 18
    ENODEV = 19
    ENOTDIR = 20
    EISDIR = 21
    EINVAL = 22
    ENFILE = 23
    EMFILE = 24
    ENOTTY = 25
    ETXTBSY = 26
    EFBIG = 27
    ENOSPC = 28
    ESPIPE = 29
    EROFS = 30
    EMLINK = 31
    EPIPE = 32
    EDOM = 33
    ERANGE = 34
    EDEADLK = 35
    ENAMETOOLONG = 36
    ENOLCK = 37
    ENOSYS = 38
    ENOTEMPTY = 39
    ELOOP = 40
    ENOMSG = 42
    EIDRM = 43
    ENODATA = 61
    ETIME = 62
    EPROTO = 71
    EBADMSG = 74
    EOVERFLOW = 75
    ELIBBAD = 80
    EUSERS = 87
    ENOTSOCK = 88
    EDESTADDRREQ = 89
    EMSGSIZE = 90
    EPROTOTYPE = 91
    ENOPROTOOPT = 92
    EPROTONOSUPPORT = 93
    ESOCKTNOSUPPORT = 94
    EOPNOTSUPP = 95
    EPFNOSUPPORT = 96
    EAFNOSUPPORT = 97
    EADDRINUSE = 98
    EADDRNOTAVAIL = 99
    ENETDOWN = 100
    ENETUNREACH = 101
    ECONNABORTED = 103
    ECONNRESET = 104
    ENOBUFS = 105
    EISCONN = 106
    ENOTCONN = 107
    ESHUTDOWN = 108
    ETIMEDOUT = 110
    ECONNREFUSED = 111
    EHOSTUNREACH = 113
    EALREADY = 114
    EINPROGRESS = 115
    ESTALE = 116
    EDQUOT = 122
    ECANCELED = 125
    EOWNERDEAD = 130
    ENOTRECOVERABLE = 131


# Never seen by the guest: signal delivery turns them into a restart of the call or into EINTR.
ERESTARTSYS = 512  # restart if no handler runs, or if it has SA_RESTART
ERESTARTNOINTR = 513  # restart always
ERESTARTNOHAND = 514  # restart only if no handler runs
ERESTART_RESTARTBLOCK = 516  # continue by restart_syscall(2), which knows how much time is left
ENOIOCTLCMD = 515  # a device does not know this ioctl


class KernelError(Exception):
    """A system call fails with ``errno``; becomes ``-errno`` in one place (`syscalls.invoke`)."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno

    def __str__(self) -> str:
        try:
            return Errno(self.errno).name
        except ValueError:
            return f"errno {self.errno}"


class KernelBug(Exception):
    """An invariant of the kernel is broken (``BUG()``): stops the machine, never reaches the guest."""
