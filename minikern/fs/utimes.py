"""Setting access and modification times.

Mirrors ``fs/utimes.c``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.fs.attr import Attr, Iattr, notify_change
from minikern.fs.inode import current_time
from minikern.fs.namei import At, user_path_at
from minikern.fs.permission import May, inode_permission
from minikern.kernel.cred import Cap
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import DirFd, Int, Path, Ptr, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user

if TYPE_CHECKING:
    from minikern.fs.path import Path as FsPath
    from minikern.kernel.task import Task

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
_NS = 10**9
_TIMESPECS = struct.Struct("<4q")  # two of seconds and nanoseconds


@syscall("utimensat")
def sys_utimensat(task: Task, dfd: DirFd, filename: Path, utimes: Ptr, flags: Int) -> Result:
    """Source: ``fs/utimes.c:utimensat``."""
    stamps = None
    if utimes:
        raw = _TIMESPECS.unpack(copy_from_user(task, utimes, _TIMESPECS.size))
        stamps = (raw[0], raw[1]), (raw[2], raw[3])
        if stamps[0][1] == stamps[1][1] == UTIME_OMIT:
            return 0
    return do_utimes(task, dfd, filename, stamps, flags)


Stamps = tuple[tuple[int, int], tuple[int, int]] | None  # access and modification: (seconds, nanoseconds); None: now


def do_utimes(task: Task, dfd: int, filename: int, stamps: Stamps, flags: int) -> int:
    """utime(2) in all its shapes; without a name it is about ``dfd`` itself. Source: ``fs/utimes.c:do_utimes``."""
    if filename or dfd == At.FDCWD:
        if flags & ~(At.SYMLINK_NOFOLLOW | At.EMPTY_PATH):
            raise KernelError(Errno.EINVAL)
        path = user_path_at(task, dfd, filename, flags)
    else:
        if flags:
            raise KernelError(Errno.EINVAL)
        assert task.files is not None
        file = task.files.fget(dfd)
        if file.f_path is None:
            raise KernelError(Errno.EINVAL)
        path = file.f_path
    return vfs_utimes(task, path, stamps)


def vfs_utimes(task: Task, path: FsPath, stamps: Stamps) -> int:
    """Source: ``fs/utimes.c:vfs_utimes``."""
    for _, ns in stamps or ():
        if ns not in (UTIME_NOW, UTIME_OMIT) and not 0 <= ns < _NS:
            raise KernelError(Errno.EINVAL)
    if stamps is not None and stamps[0][1] == stamps[1][1] == UTIME_NOW:
        stamps = None
    now = current_time(task.kernel)
    attr = Iattr(Attr.ATIME | Attr.MTIME, atime_ns=now, mtime_ns=now)
    if stamps is not None:
        (a_sec, a_ns), (m_sec, m_ns) = stamps
        if a_ns == UTIME_OMIT:
            attr.valid &= ~Attr.ATIME
        elif a_ns != UTIME_NOW:
            attr.atime_ns = a_sec * _NS + a_ns
            attr.valid |= Attr.ATIME_SET
        if m_ns == UTIME_OMIT:
            attr.valid &= ~Attr.MTIME
        elif m_ns != UTIME_NOW:
            attr.mtime_ns = m_sec * _NS + m_ns
            attr.valid |= Attr.MTIME_SET
        attr.valid |= Attr.TOUCH  # times that are not both "now" are the owner's to set
    elif task.cred.fsuid != path.dentry.inode.uid and not task.cred.has_cap(Cap.FOWNER):
        inode_permission(task, path.dentry.inode, May.WRITE)
    notify_change(task, path, attr)
    return 0
