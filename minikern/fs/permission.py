"""Who may do what with an inode.

Mirrors the first part of ``fs/namei.c``. Left out: access control lists, id-mapped mounts.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.task import Task


@fast_flags
class May(IntFlag):
    """What somebody wants to do (``MAY_*``); the low bits are those of a mode."""

    EXEC = 1
    WRITE = 2
    READ = 4


def generic_permission(task: Task, inode: Inode, mask: int) -> None:
    """Decide by mode bits and capabilities; EACCES. Source: ``fs/namei.c:generic_permission``."""
    mode = inode.mode
    cred = task.cred
    if cred.fsuid == inode.uid:
        granted = mode >> 6
    elif (mode >> 3 ^ mode) & 7 and cred.in_group(inode.gid):  # asked only if it makes a difference
        granted = mode >> 3
    else:
        granted = mode
    if not mask & ~granted & 7:
        return
    if stat.S_ISDIR(mode):
        if not mask & May.WRITE and capable(task, Cap.DAC_READ_SEARCH):
            return
        if capable(task, Cap.DAC_OVERRIDE):
            return
        raise KernelError(Errno.EACCES)
    if mask & 7 == May.READ and capable(task, Cap.DAC_READ_SEARCH):
        return
    if (not mask & May.EXEC or mode & 0o111) and capable(task, Cap.DAC_OVERRIDE):
        return
    raise KernelError(Errno.EACCES)


def inode_permission(task: Task, inode: Inode, mask: int) -> None:
    """Check for the rights in ``mask``; EACCES. Source: ``fs/namei.c:inode_permission``."""
    inode.permission(task, mask)


def path_permission(task: Task, path: Path, mask: int) -> None:
    """The same, and EROFS for writing to what is mounted read-only. Source: ``fs/namei.c:sb_permission``."""
    inode = path.dentry.inode
    if mask & May.WRITE and stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        path.mount.want_write()
    inode_permission(task, inode, mask)


def check_sticky(task: Task, directory: Inode, inode: Inode) -> None:
    """In a sticky directory only owners remove files; EPERM. Source: ``fs/namei.c:__check_sticky``."""
    if not directory.mode & stat.S_ISVTX:
        return
    if task.cred.fsuid in (inode.uid, directory.uid) or capable(task, Cap.FOWNER):
        return
    raise KernelError(Errno.EPERM)


def may_delete(task: Task, directory: Inode, victim: Dentry, *, is_dir: bool) -> None:
    """Whether the name may go away. Source: ``fs/namei.c:may_delete``."""
    inode_permission(task, directory, May.WRITE | May.EXEC)
    check_sticky(task, directory, victim.inode)
    if is_dir:
        if not stat.S_ISDIR(victim.inode.mode):
            raise KernelError(Errno.ENOTDIR)
        if victim.is_root():
            raise KernelError(Errno.EBUSY)
    elif stat.S_ISDIR(victim.inode.mode):
        raise KernelError(Errno.EISDIR)


def may_create(task: Task, directory: Inode) -> None:
    """Whether a name may be made; ENOENT in a directory that is gone. Source: ``fs/namei.c:may_create``."""
    if directory.nlink == 0:
        raise KernelError(Errno.ENOENT)
    inode_permission(task, directory, May.WRITE | May.EXEC)
