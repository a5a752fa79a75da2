"""Telling whoever watches what happens to files.

Mirrors ``fs/notify/fsnotify.c`` and ``include/linux/fsnotify.h``. A watch hangs on an inode; what happens to a file is told
to those who watch it and, with its name, to those who watch its directory. As long as nobody watches anything a hook
costs one test. Changes that the host makes by itself are not seen.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING, Protocol

from minikern.kernel.flags import fast_flags

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.kernel.kernel import Kernel


@fast_flags
class In(IntFlag):
    """What happened, numbered as inotify shows it (``IN_*``)."""

    ACCESS = 0x1
    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    CLOSE_NOWRITE = 0x10
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    ALL_EVENTS = 0xFFF
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x01000000
    DONT_FOLLOW = 0x02000000
    EXCL_UNLINK = 0x04000000
    MASK_CREATE = 0x10000000
    MASK_ADD = 0x20000000
    ISDIR = 0x40000000
    ONESHOT = 0x80000000


class Mark(Protocol):
    """One watch (``struct fsnotify_mark``)."""

    def event(self, mask: int, name: bytes, cookie: int, *, unlinked: bool) -> None:
        """Something happened to the inode, or with ``name`` to an entry of the directory."""

    def inode_gone(self) -> None:
        """The inode is no more."""


def fsnotify_dentry(kernel: Kernel, dentry: Dentry, mask: int) -> None:
    """Something happened to the file that has this name. Source: ``include/linux/fsnotify.h:fsnotify_dentry``."""
    marks = kernel.mounts.marks
    if not marks:
        return
    if stat.S_ISDIR(dentry.inode.mode):
        mask |= In.ISDIR
    parent = dentry.parent.inode
    if parent is not dentry.inode:
        _tell(kernel, parent, mask, dentry.name, unlinked=not dentry.hashed)
    _tell(kernel, dentry.inode, mask)


def fsnotify_file(file: File, mask: int) -> None:
    """Something was done with an open file. Source: ``include/linux/fsnotify.h:fsnotify_file``."""
    kernel = file.inode.sb.kernel
    if kernel.mounts.marks and file.f_path is not None:
        fsnotify_dentry(kernel, file.f_path.dentry, mask)


def fsnotify_name(kernel: Kernel, directory: Inode, name: bytes, inode: Inode, mask: int, cookie: int = 0) -> None:
    """A name came to or went from a directory. Source: ``include/linux/fsnotify.h:fsnotify_name``."""
    if kernel.mounts.marks:
        _tell(kernel, directory, mask | (In.ISDIR if stat.S_ISDIR(inode.mode) else 0), name, cookie)


def fsnotify_inode(kernel: Kernel, inode: Inode, mask: int) -> None:
    """Something happened to a file, whatever it is called. Source: ``include/linux/fsnotify.h:fsnotify_inode``."""
    if kernel.mounts.marks:
        _tell(kernel, inode, mask | (In.ISDIR if stat.S_ISDIR(inode.mode) else 0))


def fsnotify_inoderemove(inode: Inode) -> None:
    """The inode is no more: its watches end. Source: ``include/linux/fsnotify.h:fsnotify_inoderemove``."""
    kernel = inode.sb.kernel
    if inode in kernel.mounts.marks:
        _tell(kernel, inode, In.DELETE_SELF)
        for mark in kernel.mounts.marks.pop(inode, []):
            mark.inode_gone()


def fsnotify_move(
    kernel: Kernel,
    old_dir: Inode,
    old_name: bytes,
    new_dir: Inode,
    new_name: bytes,
    inode: Inode,
    target: Inode | None = None,
) -> None:
    """A file got another name, which ``target`` lost. Source: ``include/linux/fsnotify.h:fsnotify_move``."""
    mounts = kernel.mounts
    if not mounts.marks:
        return
    mounts.move_cookie += 1
    fsnotify_name(kernel, old_dir, old_name, inode, In.MOVED_FROM, mounts.move_cookie)
    fsnotify_name(kernel, new_dir, new_name, inode, In.MOVED_TO, mounts.move_cookie)
    if target is not None:
        fsnotify_inode(kernel, target, In.ATTRIB)
    _tell(kernel, inode, In.MOVE_SELF)


def _tell(
    kernel: Kernel, inode: Inode, mask: int, name: bytes = b"", cookie: int = 0, *, unlinked: bool = False
) -> None:
    for mark in tuple(kernel.mounts.marks.get(inode, ())):
        mark.event(mask, name, cookie, unlinked=unlinked)
