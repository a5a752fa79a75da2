"""Asking about files: attributes, targets of links, file systems.

Mirrors ``fs/stat.c`` and ``fs/statfs.c``.
"""

from __future__ import annotations

import stat
import struct
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.kdev_t import major, minor
from minikern.fs.kstat import Kstat
from minikern.fs.namei import At, Lookup, filename_lookup, getname_flags, user_path_at
from minikern.fs.super import Kstatfs
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Buf, DirFd, Fd, Int, Path, Ptr, UInt, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_to_user

if TYPE_CHECKING:
    from minikern.fs.path import Path as FsPath
    from minikern.kernel.task import Task

_NS = 10**9
_STATX_RESERVED = 0x80000000
_AT_STATX_SYNC = At.STATX_FORCE_SYNC | At.STATX_DONT_SYNC
_STATFS = struct.Struct("<15Q")  # struct statfs: f_type … f_flags, and four spare words
assert _STATFS.size == 120
_STATX = struct.Struct("<IIQIIIHHQQQQ" + "qII" * 4 + "IIIIQII12Q")  # struct statx
assert _STATX.size == 256
_STATX_ATTR_MOUNT_ROOT = 0x2000


@fast_flags
class Statx(IntFlag):
    """Which attributes statx(2) is asked for, or gives (``STATX_*``)."""

    BASIC_STATS = 0x07FF
    BTIME = 0x0800
    MNT_ID = 0x1000


def vfs_getattr(task: Task, path: FsPath, request_mask: int = Statx.BASIC_STATS) -> Kstat:
    """Attributes of what ``path`` names; `Statx` bits say which are wanted. Source: ``fs/stat.c:vfs_getattr``."""
    inode = path.dentry.inode
    kstat = inode.getattr(task)
    if request_mask & Statx.BTIME:
        kstat.btime_ns = inode.birth_ns()
    kstat.mnt_id = path.mount.id
    if path.dentry is path.mount.root:
        kstat.attributes |= _STATX_ATTR_MOUNT_ROOT
    return kstat


def vfs_fstat(task: Task, fd: int, request_mask: int = Statx.BASIC_STATS) -> Kstat:
    """Attributes of an open file. Source: ``fs/stat.c:vfs_fstat``."""
    assert task.files is not None
    file = task.files.fget_raw(fd)
    if file.f_path is not None:
        return vfs_getattr(task, file.f_path, request_mask)
    return file.inode.getattr(task)


def vfs_fstatat(task: Task, dfd: int, filename: int, flags: int, request_mask: int = Statx.BASIC_STATS) -> Kstat:
    """Attributes by name, or with AT_EMPTY_PATH of ``dfd`` itself. Source: ``fs/stat.c:vfs_fstatat``."""
    if flags & At.EMPTY_PATH and (not filename or not getname_flags(task, filename, flags)):
        if dfd >= 0:
            return vfs_fstat(task, dfd, request_mask)
        return vfs_getattr(task, filename_lookup(task, dfd, b"", Lookup.EMPTY), request_mask)
    return vfs_getattr(task, user_path_at(task, dfd, filename, flags), request_mask)


@syscall("newfstatat")
def sys_newfstatat(task: Task, dfd: DirFd, filename: Path, statbuf: Ptr, flag: Int) -> Result:
    """Source: ``fs/stat.c:newfstatat``."""
    return do_newfstatat(task, dfd, filename, statbuf, flag)


def do_newfstatat(task: Task, dfd: int, filename: int, statbuf: int, flag: int) -> int:
    """stat(2) and lstat(2) in all their shapes. Source: ``fs/stat.c:vfs_statx``."""
    if flag & ~(At.SYMLINK_NOFOLLOW | At.NO_AUTOMOUNT | At.EMPTY_PATH | _AT_STATX_SYNC):
        raise KernelError(Errno.EINVAL)
    copy_to_user(task, statbuf, task.arch.pack_stat(vfs_fstatat(task, dfd, filename, flag)))
    return 0


@syscall("fstat")
def sys_fstat(task: Task, fd: Fd, statbuf: Ptr) -> Result:
    """Source: ``fs/stat.c:newfstat``."""
    copy_to_user(task, statbuf, task.arch.pack_stat(vfs_fstat(task, fd)))
    return 0


@syscall("statx")
def sys_statx(task: Task, dfd: DirFd, filename: Path, flags: UInt, mask: UInt, buffer: Ptr) -> Result:
    """Source: ``fs/stat.c:do_statx``."""
    if mask & _STATX_RESERVED or flags & _AT_STATX_SYNC == _AT_STATX_SYNC:
        raise KernelError(Errno.EINVAL)
    if flags & ~(At.SYMLINK_NOFOLLOW | At.NO_AUTOMOUNT | At.EMPTY_PATH | _AT_STATX_SYNC):
        raise KernelError(Errno.EINVAL)
    copy_to_user(task, buffer, pack_statx(vfs_fstatat(task, dfd, filename, flags, mask)))
    return 0


def pack_statx(kstat: Kstat) -> bytes:
    """``struct statx``. Source: ``fs/stat.c:cp_statx``."""
    mask = Statx.BASIC_STATS | Statx.MNT_ID | (0 if kstat.btime_ns is None else Statx.BTIME)
    times: list[int] = []
    for stamp_ns in (kstat.atime_ns, kstat.btime_ns or 0, kstat.ctime_ns, kstat.mtime_ns):
        times += (stamp_ns // _NS, stamp_ns % _NS, 0)
    return _STATX.pack(
        mask,
        kstat.blksize,
        kstat.attributes,
        kstat.nlink,
        kstat.uid,
        kstat.gid,
        kstat.mode,
        0,
        kstat.ino,
        kstat.size,
        kstat.blocks,
        _STATX_ATTR_MOUNT_ROOT,
        *times,
        major(kstat.rdev),
        minor(kstat.rdev),
        major(kstat.dev),
        minor(kstat.dev),
        kstat.mnt_id,
        *(0,) * 14,
    )


@syscall("readlinkat")
def sys_readlinkat(task: Task, dfd: DirFd, pathname: Path, buf: Buf, bufsiz: Int) -> Result:
    """Source: ``fs/stat.c:do_readlinkat``."""
    return do_readlinkat(task, dfd, pathname, buf, bufsiz)


def do_readlinkat(task: Task, dfd: int, pathname: int, buf: int, bufsiz: int) -> int:
    """readlink(2); how many bytes of the target were stored, without a NUL."""
    if bufsiz <= 0:
        raise KernelError(Errno.EINVAL)
    name = getname_flags(task, pathname, At.EMPTY_PATH)
    path = filename_lookup(task, dfd, name, Lookup.EMPTY)
    inode = path.dentry.inode
    if not stat.S_ISLNK(inode.mode):
        raise KernelError(Errno.EINVAL if name else Errno.ENOENT)
    target = inode.readlink(task)[:bufsiz]
    copy_to_user(task, buf, target)
    return len(target)


# -- file systems


@syscall("statfs")
def sys_statfs(task: Task, pathname: Path, buf: Ptr) -> Result:
    """Source: ``fs/statfs.c:user_statfs``."""
    _put_statfs(task, user_path_at(task, At.FDCWD, pathname), buf)
    return 0


@syscall("fstatfs")
def sys_fstatfs(task: Task, fd: Fd, buf: Ptr) -> Result:
    """Source: ``fs/statfs.c:fd_statfs``."""
    assert task.files is not None
    file = task.files.fget_raw(fd)
    if file.f_path is not None:
        _put_statfs(task, file.f_path, buf)
    else:
        copy_to_user(task, buf, pack_statfs(file.inode.sb.statfs()))
    return 0


def _put_statfs(task: Task, path: FsPath, buf: int) -> None:
    kstatfs = path.dentry.sb.statfs()
    kstatfs.flags = path.mount.statfs_flags()
    copy_to_user(task, buf, pack_statfs(kstatfs))


def pack_statfs(kstatfs: Kstatfs) -> bytes:
    """``struct statfs``, the same on every 64-bit architecture. Source: ``fs/statfs.c:do_statfs_native``."""
    return _STATFS.pack(
        kstatfs.type,
        kstatfs.bsize,
        kstatfs.blocks,
        kstatfs.bfree,
        kstatfs.bavail,
        kstatfs.files,
        kstatfs.ffree,
        kstatfs.fsid,
        kstatfs.namelen,
        kstatfs.frsize,
        kstatfs.flags,
        *(0,) * 4,
    )
