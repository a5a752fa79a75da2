"""Changing attributes: owner, mode, times, size.

Mirrors ``fs/attr.c``. Left out: delegations, id-mapped mounts.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.fsnotify import In, fsnotify_dentry
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.task import Task


@fast_flags
class Attr(IntFlag):
    """Which attributes are to change (``ATTR_*``)."""

    MODE = 0x1
    UID = 0x2
    GID = 0x4
    SIZE = 0x8
    ATIME = 0x10
    MTIME = 0x20
    ATIME_SET = 0x80  # to a time that the caller chose
    MTIME_SET = 0x100
    FORCE = 0x200  # not a user's wish: no permission needed
    KILL_SUID = 0x800
    KILL_SGID = 0x1000
    TOUCH = 0x20000  # both times, to now


ATTR_TIMES = Attr.ATIME | Attr.MTIME


@dataclass(slots=True)
class Iattr:
    """New attributes (``struct iattr``)."""

    valid: Attr  # which of the following count
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0


def inode_owner_or_capable(task: Task, inode: Inode) -> bool:
    """Whether the task owns the file or may act as if. Source: ``fs/inode.c:inode_owner_or_capable``."""
    return task.cred.fsuid == inode.uid or capable(task, Cap.FOWNER)


def setattr_prepare(task: Task, inode: Inode, attr: Iattr) -> None:
    """Check that the task may do what ``attr`` says; EPERM. Source: ``fs/attr.c:setattr_prepare``."""
    if attr.valid & Attr.FORCE:
        return
    cred = task.cred
    owner = cred.fsuid == inode.uid
    if attr.valid & Attr.UID and not (owner and attr.uid == inode.uid) and not capable(task, Cap.CHOWN):
        raise KernelError(Errno.EPERM)
    if attr.valid & Attr.GID:
        mine = owner and (attr.gid == inode.gid or cred.in_group(attr.gid))
        if not mine and not capable(task, Cap.CHOWN):
            raise KernelError(Errno.EPERM)
    if attr.valid & Attr.MODE:
        if not inode_owner_or_capable(task, inode):
            raise KernelError(Errno.EPERM)
        gid = attr.gid if attr.valid & Attr.GID else inode.gid
        if not cred.in_group(gid) and not capable(task, Cap.FSETID):
            attr.mode &= ~stat.S_ISGID
    if attr.valid & (Attr.ATIME_SET | Attr.MTIME_SET | Attr.TOUCH) and not inode_owner_or_capable(task, inode):
        raise KernelError(Errno.EPERM)


def notify_change(task: Task, path: Path, attr: Iattr) -> None:
    """Change attributes of what ``path`` names, if the task may. Source: ``fs/attr.c:notify_change``."""
    path.mount.want_write()
    change_inode(task, path.dentry.inode, attr)
    fsnotify_dentry(task.kernel, path.dentry, In.ATTRIB)


def change_inode(task: Task, inode: Inode, attr: Iattr) -> None:
    """The same for an inode whose mount is known to be writable."""
    setattr_prepare(task, inode, attr)
    if attr.valid & Attr.KILL_SUID and inode.mode & stat.S_ISUID:
        if not attr.valid & Attr.MODE:
            attr.mode = inode.mode
            attr.valid |= Attr.MODE
        attr.mode &= ~stat.S_ISUID
    if attr.valid & Attr.KILL_SGID and inode.mode & stat.S_ISGID:
        if not attr.valid & Attr.MODE:
            attr.mode = inode.mode
            attr.valid |= Attr.MODE
        attr.mode &= ~stat.S_ISGID
    if attr.valid & ~(Attr.KILL_SUID | Attr.KILL_SGID | Attr.FORCE):
        inode.setattr(task, attr)


def setattr_should_drop_sgid(task: Task, inode: Inode) -> bool:
    """Whether a change of data or owner takes the set-group-id bit. Source: ``fs/attr.c:setattr_should_drop_sgid``."""
    if not inode.mode & stat.S_ISGID:
        return False
    if inode.mode & stat.S_IXGRP:
        return True
    return not task.cred.in_group(inode.gid) and not capable(task, Cap.FSETID)


def setattr_should_drop_suidgid(task: Task, inode: Inode) -> Attr:
    """Which set-id bits a change of data takes away. Source: ``fs/attr.c:setattr_should_drop_suidgid``."""
    kill = Attr(0)
    if not inode.mode & (stat.S_ISUID | stat.S_ISGID) or not stat.S_ISREG(inode.mode):
        return kill
    if inode.mode & stat.S_ISUID:
        kill |= Attr.KILL_SUID
    if setattr_should_drop_sgid(task, inode):
        kill |= Attr.KILL_SGID
    return Attr(0) if kill and capable(task, Cap.FSETID) else kill


def file_remove_privs(task: Task, inode: Inode) -> None:
    """Writing to a set-id program makes it an ordinary one. Source: ``fs/inode.c:file_remove_privs``."""
    kill = setattr_should_drop_suidgid(task, inode)
    if kill:
        change_inode(task, inode, Iattr(kill | Attr.FORCE))
