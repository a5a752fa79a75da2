"""System calls that architectures newer than x86-64 left out, because others can do the same.

Each forwards to the body of the call that took its place, as ``fs/*.c`` and ``kernel/*.c`` do; a docstring says so only
where there is more to it.
"""

from __future__ import annotations

import struct
from typing import Final

from minikern.fs.dirops import do_linkat, do_mkdirat, do_mknodat, do_renameat2, do_rmdir, do_symlinkat, do_unlinkat
from minikern.fs.eventfd import sys_eventfd2
from minikern.fs.eventpoll import do_epoll_create, do_epoll_wait, epoll_deadline, no_finish
from minikern.fs.fcntl import do_dup2
from minikern.fs.file import OpenFlag
from minikern.fs.namei import At
from minikern.fs.open import do_faccessat, do_fchmodat, do_fchownat, do_sys_open
from minikern.fs.pipe import do_pipe2
from minikern.fs.readdir import iterate_dir, pack_dirent
from minikern.fs.select import kern_select, ksys_poll
from minikern.fs.signalfd import sys_signalfd4
from minikern.fs.stat import do_newfstatat, do_readlinkat
from minikern.fs.utimes import Stamps, do_utimes
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.itimer import alarm_setitimer
from minikern.kernel.signal_calls import do_pause
from minikern.kernel.sys import sys_getpgid
from minikern.kernel.syscalls import Buf, DirFd, Fd, Int, Mode, OpenFlags, Path, Ptr, Size, SyscallTable, UInt
from minikern.kernel.task import Task
from minikern.kernel.time import do_time
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user

TABLE = SyscallTable()

_UTIMBUF = struct.Struct("<2q")  # struct utimbuf: access and modification time in seconds
_TIMEVALS = struct.Struct("<4q")  # struct timeval[2]
_USEC_PER_SEC: Final = 1_000_000
_NSEC_PER_USEC: Final = 1000


# Files by name


@TABLE.declare("open")
def sys_open(task: Task, filename: Path, flags: OpenFlags, mode: UInt) -> Result:
    return do_sys_open(task, At.FDCWD, filename, flags, mode)


@TABLE.declare("creat")
def sys_creat(task: Task, pathname: Path, mode: UInt) -> Result:
    return do_sys_open(task, At.FDCWD, pathname, OpenFlag.CREAT | OpenFlag.WRONLY | OpenFlag.TRUNC, mode)


@TABLE.declare("stat")
def sys_stat(task: Task, filename: Path, statbuf: Ptr) -> Result:
    return do_newfstatat(task, At.FDCWD, filename, statbuf, 0)


@TABLE.declare("lstat")
def sys_lstat(task: Task, filename: Path, statbuf: Ptr) -> Result:
    return do_newfstatat(task, At.FDCWD, filename, statbuf, At.SYMLINK_NOFOLLOW)


@TABLE.declare("access")
def sys_access(task: Task, filename: Path, mode: Int) -> Result:
    return do_faccessat(task, At.FDCWD, filename, mode, 0)


@TABLE.declare("readlink")
def sys_readlink(task: Task, path: Path, buf: Buf, bufsiz: Int) -> Result:
    return do_readlinkat(task, At.FDCWD, path, buf, bufsiz)


@TABLE.declare("rename")
def sys_rename(task: Task, oldname: Path, newname: Path) -> Result:
    return do_renameat2(task, At.FDCWD, oldname, At.FDCWD, newname, 0)


@TABLE.declare("mkdir")
def sys_mkdir(task: Task, pathname: Path, mode: Mode) -> Result:
    return do_mkdirat(task, At.FDCWD, pathname, mode)


@TABLE.declare("rmdir")
def sys_rmdir(task: Task, pathname: Path) -> Result:
    return do_rmdir(task, At.FDCWD, pathname)


@TABLE.declare("link")
def sys_link(task: Task, oldname: Path, newname: Path) -> Result:
    return do_linkat(task, At.FDCWD, oldname, At.FDCWD, newname, 0)


@TABLE.declare("unlink")
def sys_unlink(task: Task, pathname: Path) -> Result:
    return do_unlinkat(task, At.FDCWD, pathname)


@TABLE.declare("symlink")
def sys_symlink(task: Task, oldname: Path, newname: Path) -> Result:
    return do_symlinkat(task, oldname, At.FDCWD, newname)


@TABLE.declare("chmod")
def sys_chmod(task: Task, filename: Path, mode: UInt) -> Result:
    return do_fchmodat(task, At.FDCWD, filename, mode, 0)


@TABLE.declare("chown")
def sys_chown(task: Task, filename: Path, user: UInt, group: UInt) -> Result:
    return do_fchownat(task, At.FDCWD, filename, user, group, 0)


@TABLE.declare("lchown")
def sys_lchown(task: Task, filename: Path, user: UInt, group: UInt) -> Result:
    return do_fchownat(task, At.FDCWD, filename, user, group, At.SYMLINK_NOFOLLOW)


@TABLE.declare("mknod")
def sys_mknod(task: Task, filename: Path, mode: Mode, dev: UInt) -> Result:
    return do_mknodat(task, At.FDCWD, filename, mode, dev)


@TABLE.declare("utime")
def sys_utime(task: Task, filename: Path, times: Ptr) -> Result:
    """Times in seconds. Source: ``fs/utimes.c:utime``."""
    stamps: Stamps = None
    if times:
        access, modification = _UTIMBUF.unpack(copy_from_user(task, times, _UTIMBUF.size))
        stamps = (access, 0), (modification, 0)
    return do_utimes(task, At.FDCWD, filename, stamps, 0)


@TABLE.declare("utimes")
def sys_utimes(task: Task, filename: Path, utimes: Ptr) -> Result:
    return _do_futimesat(task, At.FDCWD, filename, utimes)


@TABLE.declare("futimesat")
def sys_futimesat(task: Task, dfd: DirFd, filename: Path, utimes: Ptr) -> Result:
    return _do_futimesat(task, dfd, filename, utimes)


def _do_futimesat(task: Task, dfd: int, filename: int, utimes: int) -> int:
    """Times in microseconds, which have no special values. Source: ``fs/utimes.c:do_futimesat``."""
    stamps: Stamps = None
    if utimes:
        a_sec, a_usec, m_sec, m_usec = _TIMEVALS.unpack(copy_from_user(task, utimes, _TIMEVALS.size))
        if not (0 <= a_usec < _USEC_PER_SEC and 0 <= m_usec < _USEC_PER_SEC):
            raise KernelError(Errno.EINVAL)
        stamps = (a_sec, a_usec * _NSEC_PER_USEC), (m_sec, m_usec * _NSEC_PER_USEC)
    return do_utimes(task, dfd, filename, stamps, 0)


# Descriptors


@TABLE.declare("getdents")
def sys_getdents(task: Task, fd: Fd, dirent: Buf, count: UInt) -> Result:
    """Entries with the kind of the file behind the name. Source: ``fs/readdir.c:getdents``."""
    return iterate_dir(task, fd, dirent, count, pack_dirent)


@TABLE.declare("dup2")
def sys_dup2(task: Task, oldfd: Fd, newfd: Fd) -> Result:
    """With twice the same descriptor it only looks whether it is open. Source: ``fs/file.c:dup2``."""
    if oldfd == newfd:
        assert task.files is not None
        task.files.fget_raw(oldfd)
        return newfd
    return do_dup2(task, oldfd, newfd)


@TABLE.declare("pipe")
def sys_pipe(task: Task, fildes: Ptr) -> Result:
    return do_pipe2(task, fildes, 0)


@TABLE.declare("eventfd")
def sys_eventfd(task: Task, count: UInt) -> Result:
    return sys_eventfd2(task, count, 0)


@TABLE.declare("signalfd")
def sys_signalfd(task: Task, ufd: Fd, user_mask: Ptr, sizemask: Size) -> Result:
    return sys_signalfd4(task, ufd, user_mask, sizemask, 0)


@TABLE.declare("poll")
def sys_poll(task: Task, ufds: Ptr, nfds: UInt, timeout_msecs: Int) -> Result:
    return ksys_poll(task, ufds, nfds, timeout_msecs)


@TABLE.declare("select")
def sys_select(task: Task, n: Int, inp: Ptr, outp: Ptr, exp: Ptr, tvp: Ptr) -> Result:
    return kern_select(task, n, inp, outp, exp, tvp)


@TABLE.declare("epoll_create")
def sys_epoll_create(task: Task, size: Int) -> Result:
    """The size means nothing any more, but it must not be 0. Source: ``fs/eventpoll.c:epoll_create``."""
    if size <= 0:
        raise KernelError(Errno.EINVAL)
    return do_epoll_create(task, 0)


@TABLE.declare("epoll_wait")
def sys_epoll_wait(task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Int) -> Result:
    return do_epoll_wait(task, epfd, events, maxevents, epoll_deadline(task, timeout), no_finish)


# Time and identity


@TABLE.declare("time")
def sys_time(task: Task, tloc: Ptr) -> Result:
    return do_time(task, tloc)


@TABLE.declare("alarm")
def sys_alarm(task: Task, seconds: UInt) -> Result:
    return alarm_setitimer(task, seconds)


@TABLE.declare("pause")
def sys_pause(task: Task) -> Result:
    return do_pause(task)


@TABLE.declare("getpgrp")
def sys_getpgrp(task: Task) -> Result:
    return sys_getpgid(task, 0)
