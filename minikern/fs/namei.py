"""Names: from a path to the place that it means.

Mirrors ``fs/namei.c``. A walk takes one component at a time from the directory where it stands; ``..`` never leads above
the root of the walk, and a symbolic link is walked by itself, in the guest's tree, so no name means anything outside
it. Opening is in `minikern.fs.open_namei`, making and removing names in `minikern.fs.dirops`. Left out: RCU walk,
automounts, audit.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import IntFlag, nonmember
from typing import TYPE_CHECKING

from minikern.fs.path import Path
from minikern.fs.permission import May, inode_permission
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.mm.uaccess import strncpy_from_user

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.kernel.task import Task

PATH_MAX = 4096
NAME_MAX = 255
MAXSYMLINKS = 40
_S_IXUGO = 0o111


@fast_flags
class At(IntFlag):
    """Flags of the calls that end in "at" (``AT_*``), and the descriptor that stands for the working directory."""

    FDCWD = nonmember(-100)
    SYMLINK_NOFOLLOW = 0x100
    REMOVEDIR = 0x200
    EACCESS = 0x200
    SYMLINK_FOLLOW = 0x400
    NO_AUTOMOUNT = 0x800
    EMPTY_PATH = 0x1000
    STATX_FORCE_SYNC = 0x2000
    STATX_DONT_SYNC = 0x4000


@fast_flags
class Lookup(IntFlag):
    """How to walk (``LOOKUP_*``)."""

    FOLLOW = 0x1  # a symbolic link at the end is followed
    DIRECTORY = 0x2  # the end must be a directory
    EMPTY = 0x4  # the empty name means the start
    NO_SYMLINKS = 0x10000
    NO_MAGICLINKS = 0x20000
    NO_XDEV = 0x40000
    BENEATH = 0x80000
    IN_ROOT = 0x100000
    IS_SCOPED = BENEATH | IN_ROOT


@dataclass(slots=True)
class Nameidata:
    """A walk on its way (``struct nameidata``)."""

    task: Task
    root: Path  # where ``/`` is, and what ``..`` does not leave
    path: Path  # where the walk stands
    flags: Lookup
    last: bytes = b""  # the component at the end, not yet walked; empty: the name was ``/`` or empty
    trailing_slash: bool = False  # … and a slash behind it
    total_link_count: int = 0  # symbolic links followed


def getname(task: Task, ptr: int) -> bytes:
    """A file name from the guest; ENOENT when it is empty. Source: ``fs/namei.c:getname``."""
    name = getname_flags(task, ptr, 0)
    if not name:
        raise KernelError(Errno.ENOENT)
    return name


def getname_flags(task: Task, ptr: int, flags: int) -> bytes:
    """A file name, which may be empty; ENAMETOOLONG. Source: ``fs/namei.c:getname_flags``."""
    name = strncpy_from_user(task, ptr, PATH_MAX)
    if len(name) >= PATH_MAX:
        raise KernelError(Errno.ENAMETOOLONG)
    if not name and not flags & At.EMPTY_PATH:
        raise KernelError(Errno.ENOENT)
    return name


def lookup_flags(at_flags: int) -> Lookup:
    """AT_* as `Lookup`, for calls that follow symbolic links unless told not to."""
    flags = Lookup(0) if at_flags & At.SYMLINK_NOFOLLOW else Lookup.FOLLOW
    if at_flags & At.EMPTY_PATH:
        flags |= Lookup.EMPTY
    return flags


def filename_lookup(task: Task, dirfd: int, name: bytes, flags: int = Lookup.FOLLOW) -> Path:
    """The place that ``name`` means, seen from ``dirfd``. Source: ``fs/namei.c:filename_lookup``."""
    nd = path_init(task, dirfd, name, flags)
    link_path_walk(nd, name)
    path_lookup_last(nd)
    if nd.flags & Lookup.DIRECTORY and not stat.S_ISDIR(nd.path.dentry.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    return nd.path


def user_path_at(task: Task, dirfd: int, ptr: int, at_flags: int = 0) -> Path:
    """The same for a name in guest memory and AT_* flags. Source: ``fs/namei.c:user_path_at``."""
    return filename_lookup(task, dirfd, getname_flags(task, ptr, at_flags), lookup_flags(at_flags))


def filename_parentat(task: Task, dirfd: int, name: bytes) -> Nameidata:
    """Walk to the directory that the last component of ``name`` is in. Source: ``fs/namei.c:filename_parentat``."""
    nd = path_init(task, dirfd, name, Lookup(0))
    link_path_walk(nd, name)
    return nd


def path_init(task: Task, dirfd: int, name: bytes, flags: int) -> Nameidata:
    """Where a walk begins. Source: ``fs/namei.c:path_init``."""
    flags = Lookup(flags)
    if not name and not flags & Lookup.EMPTY:
        raise KernelError(Errno.ENOENT)
    fs = task.fs
    assert fs is not None
    root = fs.root
    if name.startswith(b"/") and not flags & Lookup.IS_SCOPED:
        return Nameidata(task, root, root, flags)
    if dirfd == At.FDCWD:
        start = fs.pwd
    else:
        assert task.files is not None
        file = task.files.fget_raw(dirfd)
        if file.f_path is None:
            raise KernelError(Errno.ENOTDIR if name else Errno.ENOENT)
        start = file.f_path
        if name and not stat.S_ISDIR(start.dentry.inode.mode):
            raise KernelError(Errno.ENOTDIR)
    if flags & Lookup.IS_SCOPED:
        root = start
        if name.startswith(b"/") and flags & Lookup.BENEATH:
            raise KernelError(Errno.EXDEV)
    return Nameidata(task, root, start, flags)


def link_path_walk(nd: Nameidata, name: bytes) -> None:
    """Walk every component but the last, which is left in ``nd.last``. Source: ``fs/namei.c:link_path_walk``."""
    todo = [component for component in reversed(name.split(b"/")) if component]
    nd.trailing_slash = name.endswith(b"/")
    if not todo:
        nd.last = b""
        return
    while True:
        may_lookup(nd)
        component = todo.pop()
        if not todo:
            nd.last = component
            return
        link = walk_component(nd, component, follow=True)
        if link is not None:
            todo += [each for each in reversed(link.split(b"/")) if each]
        elif not stat.S_ISDIR(nd.path.dentry.inode.mode):
            raise KernelError(Errno.ENOTDIR)


def may_lookup(nd: Nameidata) -> None:
    """Names may be looked up where the walk stands. Source: ``fs/namei.c:may_lookup``."""
    inode = nd.path.dentry.inode
    if inode.mode & _S_IXUGO != _S_IXUGO or not inode.fastperm:  # else everybody may, whoever it is
        inode_permission(nd.task, inode, May.EXEC)


def path_lookup_last(nd: Nameidata) -> None:
    """Walk the last component, and the links that it leads through. Source: ``fs/namei.c:lookup_last``."""
    while nd.last:
        if nd.trailing_slash:
            nd.flags |= Lookup.FOLLOW | Lookup.DIRECTORY
        link = walk_component(nd, nd.last, follow=bool(nd.flags & Lookup.FOLLOW))
        if link is None:
            return
        trailing = nd.trailing_slash
        link_path_walk(nd, link)
        nd.trailing_slash |= trailing
    if nd.trailing_slash and not stat.S_ISDIR(nd.path.dentry.inode.mode):
        raise KernelError(Errno.ENOTDIR)


def walk_component(nd: Nameidata, component: bytes, *, follow: bool) -> bytes | None:
    """Take one step. Returns the text of a symbolic link that is to be walked from here, None when the step is done.

    Source: ``fs/namei.c:walk_component`` and ``step_into``.
    """
    if component == b".":
        return None
    if component == b"..":
        handle_dotdot(nd)
        return None
    dentry = lookup_child(nd, component)
    if dentry is None:
        raise KernelError(Errno.ENOENT)
    return step_into(nd, dentry, follow=follow)


def lookup_child(nd: Nameidata, component: bytes) -> Dentry | None:
    """What a name means in the directory where the walk stands. Source: ``fs/namei.c:lookup_fast``, ``lookup_slow``."""
    if len(component) > NAME_MAX:
        raise KernelError(Errno.ENAMETOOLONG)
    directory = nd.path.dentry
    if not stat.S_ISDIR(directory.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    return directory.lookup(nd.task, component)


def step_into(nd: Nameidata, dentry: Dentry, *, follow: bool) -> bytes | None:
    """Go to a child, through what is mounted there. Source: ``fs/namei.c:step_into``."""
    path = Path(nd.path.mount, dentry)
    if dentry.mounted:
        top = nd.task.kernel.mounts.topmost(path)
        if top.mount is not path.mount and nd.flags & Lookup.NO_XDEV:
            raise KernelError(Errno.EXDEV)
        path = top
    if follow and stat.S_ISLNK(path.dentry.inode.mode):
        return pick_link(nd, path)
    nd.path = path
    return None


def pick_link(nd: Nameidata, path: Path) -> bytes | None:
    """Follow a symbolic link as far as its first step. Source: ``fs/namei.c:pick_link``."""
    nd.total_link_count += 1
    if nd.total_link_count > MAXSYMLINKS or nd.flags & Lookup.NO_SYMLINKS:
        raise KernelError(Errno.ELOOP)
    link = path.dentry.inode.get_link(nd.task)
    if isinstance(link, Path):
        nd_jump_link(nd, link)
        return None
    if not link:
        raise KernelError(Errno.ENOENT)
    if link.startswith(b"/"):
        nd_jump_root(nd)
    return link


def nd_jump_root(nd: Nameidata) -> None:
    """Go on from the root. Source: ``fs/namei.c:nd_jump_root``."""
    if nd.flags & Lookup.BENEATH:
        raise KernelError(Errno.EXDEV)
    if nd.flags & Lookup.NO_XDEV and nd.path.mount is not nd.root.mount:
        raise KernelError(Errno.EXDEV)
    nd.path = nd.root


def nd_jump_link(nd: Nameidata, path: Path) -> None:
    """Go where a magic link leads, whatever that is called. Source: ``fs/namei.c:nd_jump_link``."""
    if nd.flags & Lookup.NO_MAGICLINKS:
        raise KernelError(Errno.ELOOP)
    if nd.flags & Lookup.NO_XDEV and nd.path.mount is not path.mount:
        raise KernelError(Errno.EXDEV)
    if nd.flags & Lookup.IS_SCOPED:
        raise KernelError(Errno.EXDEV)
    nd.path = path


def handle_dotdot(nd: Nameidata) -> None:
    """Go up, but never above the root of the walk. Source: ``fs/namei.c:follow_dotdot``."""
    mount, dentry = nd.path.mount, nd.path.dentry
    if dentry is nd.root.dentry and mount is nd.root.mount:
        if nd.flags & Lookup.BENEATH:
            raise KernelError(Errno.EXDEV)
        return
    while dentry is mount.root:
        if mount.parent is None:
            return  # the root of everything
        dentry, mount = mount.mountpoint, mount.parent
        if nd.flags & Lookup.NO_XDEV:
            raise KernelError(Errno.EXDEV)
        if dentry is nd.root.dentry and mount is nd.root.mount:
            if nd.flags & Lookup.BENEATH:
                raise KernelError(Errno.EXDEV)
            nd.path = nd.task.kernel.mounts.topmost(nd.root)
            return
    nd.path = nd.task.kernel.mounts.topmost(Path(mount, dentry.parent))
