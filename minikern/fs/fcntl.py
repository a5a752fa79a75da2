"""Duplicating descriptors and everything fcntl(2) does.

Mirrors ``fs/fcntl.c`` and the calls of ``fs/file.c``. Left out: leases, directory notification, signals for readiness
(F_SETOWN and F_SETSIG are remembered).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.fs.attr import inode_owner_or_capable
from minikern.fs.file import File, FMode, OpenFlag, filp_close
from minikern.fs.locks import fcntl_getlk, fcntl_setlk
from minikern.fs.memfd import memfd_fcntl
from minikern.fs.pipe import PipeFile, get_pipe_size, pipe_set_size
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import Rlimit
from minikern.kernel.syscalls import Fd, OpenFlags, UInt, ULong, syscall
from minikern.kernel.task import NSIG, PidType
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.pid import Pid
    from minikern.kernel.task import Task

FD_CLOEXEC = 1
_F_OWNER_EX = struct.Struct("<ii")  # struct f_owner_ex: type, pid
_SETFL_MASK = OpenFlag.APPEND | OpenFlag.NONBLOCK | OpenFlag.DIRECT | OpenFlag.NOATIME | OpenFlag.ASYNC


class Fcntl(IntEnum):
    """Commands of fcntl(2) (``F_*``)."""

    DUPFD = 0
    GETFD = 1
    SETFD = 2
    GETFL = 3
    SETFL = 4
    GETLK = 5
    SETLK = 6
    SETLKW = 7
    SETOWN = 8
    GETOWN = 9
    SETSIG = 10
    GETSIG = 11
    SETOWN_EX = 15
    GETOWN_EX = 16
    OFD_GETLK = 36
    OFD_SETLK = 37
    OFD_SETLKW = 38
    GETLEASE = 1025
    DUPFD_QUERY = 1027
    DUPFD_CLOEXEC = 1030
    SETPIPE_SZ = 1031
    GETPIPE_SZ = 1032
    ADD_SEALS = 1033
    GET_SEALS = 1034


# What can be done with a descriptor that was opened with O_PATH. Source: ``fs/fcntl.c:check_fcntl_cmd``.
_ALLOWED_ON_O_PATH = (
    Fcntl.DUPFD,
    Fcntl.DUPFD_CLOEXEC,
    Fcntl.DUPFD_QUERY,
    Fcntl.GETFD,
    Fcntl.SETFD,
    Fcntl.GETFL,
)

# F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP
_OWNER_TYPES = (PidType.PID, PidType.TGID, PidType.PGID)
_F_UNLCK = 2

# -- dup


@syscall("dup")
def sys_dup(task: Task, fildes: Fd) -> Result:
    """Source: ``fs/file.c:dup``."""
    assert task.files is not None
    return _dupfd(task, task.files.fget_raw(fildes), 0, cloexec=False)


@syscall("dup3")
def sys_dup3(task: Task, oldfd: Fd, newfd: Fd, flags: OpenFlags) -> Result:
    """Source: ``fs/file.c:ksys_dup3``."""
    flags = task.arch.open_flags(flags)
    if flags & ~OpenFlag.CLOEXEC or oldfd == newfd:
        raise KernelError(Errno.EINVAL)
    return do_dup2(task, oldfd, newfd, cloexec=bool(flags & OpenFlag.CLOEXEC))


def do_dup2(task: Task, oldfd: int, newfd: int, *, cloexec: bool = False) -> int:
    """Make ``newfd`` another name for the file of ``oldfd``, closing what it was. Source: ``fs/file.c:do_dup2``."""
    files = task.files
    assert files is not None
    if not 0 <= newfd < task.signal.rlim.cur(Rlimit.NOFILE):
        raise KernelError(Errno.EBADF)
    file = files.fget_raw(oldfd)
    if oldfd == newfd:
        return newfd
    replaced = files.remove(newfd) if newfd in files.fds else None
    files.install(newfd, file.get(), cloexec=cloexec)
    if replaced is not None:
        filp_close(task, replaced, files)
    return newfd


def _dupfd(task: Task, file: File, start: int, *, cloexec: bool) -> int:
    assert task.files is not None
    fd = task.files.alloc_fd(task, file, start=start, cloexec=cloexec)
    file.get()
    return fd


# -- fcntl


@syscall("fcntl", partial="leases, F_NOTIFY, SIGIO")
def sys_fcntl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> Result:
    """Source: ``fs/fcntl.c:do_fcntl``."""
    files = task.files
    assert files is not None
    file = files.fget_raw(fd)
    if file.f_mode & FMode.PATH and cmd not in _ALLOWED_ON_O_PATH:
        raise KernelError(Errno.EBADF)
    match cmd:
        case Fcntl.DUPFD | Fcntl.DUPFD_CLOEXEC:
            return _dupfd(task, file, arg & 0xFFFFFFFF, cloexec=cmd == Fcntl.DUPFD_CLOEXEC)
        case Fcntl.GETFD:
            return FD_CLOEXEC if fd in files.close_on_exec else 0
        case Fcntl.SETFD:
            if arg & FD_CLOEXEC:
                files.close_on_exec.add(fd)
            else:
                files.close_on_exec.discard(fd)
            return 0
        case Fcntl.GETFL:
            return task.arch.guest_open_flags(file.f_flags)
        case Fcntl.SETFL:
            return setfl(task, file, task.arch.open_flags(arg))
        case Fcntl.GETLK | Fcntl.OFD_GETLK:
            return fcntl_getlk(task, file, arg, ofd=cmd == Fcntl.OFD_GETLK)
        case Fcntl.SETLK | Fcntl.SETLKW:
            return fcntl_setlk(task, file, arg, ofd=False, wait=cmd == Fcntl.SETLKW)
        case Fcntl.OFD_SETLK | Fcntl.OFD_SETLKW:
            return fcntl_setlk(task, file, arg, ofd=True, wait=cmd == Fcntl.OFD_SETLKW)
        case Fcntl.SETPIPE_SZ | Fcntl.GETPIPE_SZ:
            return _pipe_fcntl(task, file, cmd, arg & 0xFFFFFFFF)
        case Fcntl.ADD_SEALS | Fcntl.GET_SEALS:
            return memfd_fcntl(file, arg & 0xFFFFFFFF, add=cmd == Fcntl.ADD_SEALS)
        case Fcntl.GETLEASE:
            return _F_UNLCK
        case Fcntl.DUPFD_QUERY:
            return int(files.fds.get(arg & 0xFFFFFFFF) is file)
    return _owner_fcntl(task, file, cmd, arg)


def setfl(task: Task, file: File, flags: int) -> int:
    """Change the flags that can change. Source: ``fs/fcntl.c:setfl``."""
    newly = flags & ~file.f_flags
    if newly & OpenFlag.NOATIME and not inode_owner_or_capable(task, file.inode):
        raise KernelError(Errno.EPERM)
    file.f_flags = (file.f_flags & ~_SETFL_MASK) | (flags & _SETFL_MASK)
    return 0


def _pipe_fcntl(task: Task, file: File, cmd: int, arg: int) -> int:
    """Source: ``fs/pipe.c:pipe_fcntl``."""
    if not isinstance(file, PipeFile):
        raise KernelError(Errno.EBADF)
    return pipe_set_size(task, file, arg) if cmd == Fcntl.SETPIPE_SZ else get_pipe_size(file)


# -- who is told of readiness


def _owner_fcntl(task: Task, file: File, cmd: int, arg: int) -> int:
    match cmd:
        case Fcntl.SETOWN:
            who = ((arg & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
            if who == -0x80000000:
                raise KernelError(Errno.EINVAL)
            _set_owner(task, file, PidType.PGID if who < 0 else PidType.TGID, abs(who))
            return 0
        case Fcntl.GETOWN:
            nr = _owner_nr(file.owner)
            return -nr if file.owner_type == PidType.PGID else nr
        case Fcntl.SETOWN_EX:
            kind, nr = _F_OWNER_EX.unpack(copy_from_user(task, arg, _F_OWNER_EX.size))
            if not 0 <= kind < len(_OWNER_TYPES):
                raise KernelError(Errno.EINVAL)
            _set_owner(task, file, _OWNER_TYPES[kind], nr)
            return 0
        case Fcntl.GETOWN_EX:
            kind = _OWNER_TYPES.index(PidType(file.owner_type))
            copy_to_user(task, arg, _F_OWNER_EX.pack(kind, _owner_nr(file.owner)))
            return 0
        case Fcntl.SETSIG:
            if arg > NSIG:
                raise KernelError(Errno.EINVAL)
            file.owner_sig = arg
            return 0
        case Fcntl.GETSIG:
            return file.owner_sig
    raise KernelError(Errno.EINVAL)


def _set_owner(task: Task, file: File, kind: PidType, nr: int) -> None:
    """Source: ``fs/fcntl.c:f_setown``."""
    pid = task.kernel.pids.find(nr) if nr else None
    if nr and pid is None:
        raise KernelError(Errno.ESRCH)
    file.owner = pid
    file.owner_type = kind


def _owner_nr(pid: Pid | None) -> int:
    return pid.nr if pid is not None and any(pid.tasks) else 0
