"""Bringing changes to where they stay.

Mirrors ``fs/sync.c``. Only files bound from the host read-write have such a place; everything else is memory.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.file import FMode
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Fd, Int, Long, Size, UInt, syscall
from minikern.kernel.waitqueue import Result

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_SYNCABLE = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFBLK, stat.S_IFLNK)


@fast_flags
class SyncFileRange(IntFlag):
    """Flags of sync_file_range (``SYNC_FILE_RANGE_*``)."""

    WAIT_BEFORE = 1
    WRITE = 2
    WAIT_AFTER = 4


@syscall("sync")
def sys_sync(task: Task) -> Result:
    """Source: ``fs/sync.c:ksys_sync``."""
    for mount in task.kernel.mounts.mounts:
        mount.sb.sync_fs()
    return 0


@syscall("syncfs")
def sys_syncfs(task: Task, fd: Fd) -> Result:
    """Source: ``fs/sync.c:syncfs``."""
    assert task.files is not None
    task.files.fget(fd).inode.sb.sync_fs()
    return 0


@syscall("fsync")
def sys_fsync(task: Task, fd: Fd) -> Result:
    """Source: ``fs/sync.c:fsync``."""
    return do_fsync(task, fd)


@syscall("fdatasync")
def sys_fdatasync(task: Task, fd: Fd) -> Result:
    """Source: ``fs/sync.c:fdatasync``."""
    return do_fsync(task, fd)


def do_fsync(task: Task, fd: int) -> int:
    """EINVAL: there is nothing that could be brought anywhere. Source: ``fs/sync.c:do_fsync``."""
    assert task.files is not None
    inode = task.files.fget(fd).inode
    if stat.S_IFMT(inode.mode) not in _SYNCABLE:
        raise KernelError(Errno.EINVAL)
    inode.fsync()
    return 0


@syscall("sync_file_range")
def sys_sync_file_range(task: Task, fd: Fd, offset: Long, nbytes: Long, flags: UInt) -> Result:
    """Source: ``fs/sync.c:sync_file_range``."""
    assert task.files is not None
    inode = task.files.fget(fd).inode
    if flags & ~(SyncFileRange.WAIT_BEFORE | SyncFileRange.WRITE | SyncFileRange.WAIT_AFTER):
        raise KernelError(Errno.EINVAL)
    if offset < 0 or nbytes < 0:
        raise KernelError(Errno.EINVAL)
    if stat.S_IFMT(inode.mode) not in _SYNCABLE:
        raise KernelError(Errno.ESPIPE)
    inode.fsync()
    return 0


@syscall("fadvise64")
def sys_fadvise64(task: Task, fd: Fd, offset: Long, length: Size, advice: Int) -> Result:
    """Advice is checked and not needed. Source: ``mm/fadvise.c:ksys_fadvise64_64``."""
    assert task.files is not None
    inode = task.files.fget(fd).inode
    if stat.S_ISFIFO(inode.mode):
        raise KernelError(Errno.ESPIPE)
    if not 0 <= advice <= 5 or length >> 63:
        raise KernelError(Errno.EINVAL)
    return 0


@syscall("readahead")
def sys_readahead(task: Task, fd: Fd, offset: Long, count: Size) -> Result:
    """The host reads ahead by itself. Source: ``mm/readahead.c:ksys_readahead``."""
    assert task.files is not None
    file = task.files.fget(fd)
    if not file.f_mode & FMode.READ:
        raise KernelError(Errno.EBADF)
    if not stat.S_ISREG(file.inode.mode):
        raise KernelError(Errno.EINVAL)
    return 0
