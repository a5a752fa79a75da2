"""Opening by name.

Mirrors the last third of ``fs/namei.c``, ``fs/open.c:do_dentry_open`` and the opening of programs in ``fs/exec.c``.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from minikern.fs.attr import Attr, Iattr, change_inode, inode_owner_or_capable, setattr_should_drop_suidgid
from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.fsnotify import In, fsnotify_dentry, fsnotify_name
from minikern.fs.namei import (
    Lookup,
    Nameidata,
    link_path_walk,
    lookup_child,
    path_init,
    path_lookup_last,
    step_into,
    walk_component,
)
from minikern.fs.namespace import MountFlags
from minikern.fs.path import Path
from minikern.fs.permission import May, inode_permission, may_create
from minikern.fs.regular import inode_newsize_ok
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.inode import Inode
    from minikern.kernel.task import Task

S_IALLUGO = 0o7777
_EXEC = 1 << 30  # not an open flag: the file is opened to be executed

# O_RDONLY, O_WRONLY, O_RDWR and 3 (neither, for ioctls, but checked as both).
_ACC_MODE = (May.READ, May.WRITE, May.READ | May.WRITE, May.READ | May.WRITE)
_FMODE = (FMode.READ, FMode.WRITE, FMode.READ | FMode.WRITE, FMode(0))


def do_filp_open(task: Task, dirfd: int, name: bytes, flags: int, mode: int = 0, resolve: int = 0) -> File:
    """Open ``name`` as open(2) does; ``flags`` are `OpenFlag` and have been checked. Source: ``fs/namei.c:do_filp_open``."""
    nd = path_init(task, dirfd, name, Lookup.FOLLOW | resolve)
    if flags & OpenFlag.NOFOLLOW:
        nd.flags &= ~Lookup.FOLLOW
    if flags & OpenFlag.DIRECTORY:
        nd.flags |= Lookup.DIRECTORY
    if flags & OpenFlag.TMPFILE == OpenFlag.TMPFILE:
        return _do_tmpfile(nd, name, flags, mode)
    if flags & OpenFlag.PATH:
        return _do_o_path(nd, name, flags)
    link_path_walk(nd, name)
    created = _open_last_lookups(nd, flags, mode)
    return _do_open(nd, flags, created=created)


def open_exec(task: Task, dirfd: int, name: bytes, flags: int = 0) -> File:
    """Open a program; nobody can write to it until `allow_write_access`. ``flags`` are AT_*.

    EACCES: no regular file, no execute permission or mounted noexec; ETXTBSY. Source: ``fs/exec.c:do_open_execat``.
    """
    from minikern.fs.namei import lookup_flags

    if flags & ~0x1100:
        raise KernelError(Errno.EINVAL)
    nd = path_init(task, dirfd, name, lookup_flags(flags))
    link_path_walk(nd, name)
    nofollow = not nd.flags & Lookup.FOLLOW
    path_lookup_last(nd)
    inode = nd.path.dentry.inode
    if nofollow and stat.S_ISLNK(inode.mode):
        raise KernelError(Errno.ELOOP)
    may_open(task, nd.path, May.EXEC, _EXEC)
    if not stat.S_ISREG(inode.mode) or nd.path.mount.flags & MountFlags.NOEXEC:
        raise KernelError(Errno.EACCES)
    file = vfs_open(task, nd.path, OpenFlag.RDONLY, execute=True)
    try:
        inode.deny_write_access()
    except KernelError:
        file.fput()
        raise
    return file


def allow_write_access(file: File) -> None:
    """The file may be written to again as far as this execution goes. Source: ``include/linux/fs.h:allow_write_access``."""
    file.inode.allow_write_access()


def _open_last_lookups(nd: Nameidata, flags: int, mode: int) -> bool:
    """Walk to the file itself, making it with O_CREAT; says whether it was made. Source: ``fs/namei.c:open_last_lookups``."""
    while nd.last:
        if nd.trailing_slash:
            nd.flags |= Lookup.FOLLOW | Lookup.DIRECTORY
        if nd.last in (b".", b".."):
            walk_component(nd, nd.last, follow=True)
            return False
        if flags & OpenFlag.CREAT and nd.trailing_slash:
            raise KernelError(Errno.EISDIR)
        dentry = lookup_child(nd, nd.last)
        if dentry is None:
            if not flags & OpenFlag.CREAT:
                raise KernelError(Errno.ENOENT)
            nd.path.mount.want_write()
            dentry = vfs_create(nd.task, nd.path.dentry, nd.last, mode)
            nd.path = Path(nd.path.mount, dentry)
            return True
        if flags & OpenFlag.EXCL and flags & OpenFlag.CREAT:
            raise KernelError(Errno.EEXIST)
        link = step_into(nd, dentry, follow=bool(nd.flags & Lookup.FOLLOW))
        if link is None:
            return False
        trailing = nd.trailing_slash
        link_path_walk(nd, link)
        nd.trailing_slash |= trailing
    return False


def vfs_create(task: Task, directory: Dentry, name: bytes, mode: int) -> Dentry:
    """Make a regular file. Source: ``fs/namei.c:vfs_create``."""
    may_create(task, directory.inode)
    assert task.fs is not None
    mode = stat.S_IFREG | mode & S_IALLUGO & ~task.fs.umask
    inode = directory.inode.create(task, name, mode)
    fsnotify_name(task.kernel, directory.inode, name, inode, In.CREATE)
    return directory.add(name, inode)


def _do_open(nd: Nameidata, flags: int, *, created: bool) -> File:
    """Check permissions, open, truncate. Source: ``fs/namei.c:do_open``."""
    task, path = nd.task, nd.path
    inode = path.dentry.inode
    if flags & OpenFlag.CREAT and flags & OpenFlag.EXCL and not created:
        raise KernelError(Errno.EEXIST)
    if flags & OpenFlag.CREAT and stat.S_ISDIR(inode.mode):
        raise KernelError(Errno.EISDIR)
    if nd.flags & Lookup.DIRECTORY and not stat.S_ISDIR(inode.mode):
        raise KernelError(Errno.ENOTDIR)

    acc_mode = May(0) if created else _ACC_MODE[flags & OpenFlag.ACCMODE]
    truncate = bool(flags & OpenFlag.TRUNC) and not created and stat.S_ISREG(inode.mode)
    if flags & OpenFlag.TRUNC and not created:
        acc_mode |= May.WRITE
    if acc_mode & May.WRITE and stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFDIR):
        if stat.S_ISDIR(inode.mode):
            raise KernelError(Errno.EISDIR)
        path.mount.want_write()
    may_open(task, path, acc_mode, flags)
    file = vfs_open(task, path, flags & ~(OpenFlag.CREAT | OpenFlag.EXCL | OpenFlag.TRUNC))
    if truncate:
        try:
            do_truncate(task, inode, 0)
            fsnotify_dentry(task.kernel, path.dentry, In.MODIFY)
        except KernelError:
            file.fput()
            raise
    return file


def may_open(task: Task, path: Path, acc_mode: int, flags: int) -> None:
    """Whether the file can be opened like that. Source: ``fs/namei.c:may_open``."""
    inode = path.dentry.inode
    match stat.S_IFMT(inode.mode):
        case stat.S_IFLNK:
            raise KernelError(Errno.ELOOP)
        case stat.S_IFDIR if acc_mode & May.WRITE:
            raise KernelError(Errno.EISDIR)
        case stat.S_IFDIR if flags & _EXEC:
            raise KernelError(Errno.EACCES)
        case stat.S_IFCHR | stat.S_IFBLK if path.mount.flags & MountFlags.NODEV or flags & _EXEC:
            raise KernelError(Errno.EACCES)
    inode_permission(task, inode, acc_mode)
    if flags & OpenFlag.NOATIME and not flags & _EXEC and not inode_owner_or_capable(task, inode):
        raise KernelError(Errno.EPERM)


def vfs_open(task: Task, path: Path, flags: int, *, execute: bool = False) -> File:
    """Open what ``path`` names, permissions apart. Source: ``fs/open.c:do_dentry_open``."""
    inode = path.dentry.inode
    writer = flags & OpenFlag.ACCMODE != OpenFlag.RDONLY and stat.S_ISREG(inode.mode)
    if writer:
        inode.get_write_access()
    try:
        file = inode.open(task, path, flags & ~OpenFlag.CLOEXEC)
    except KernelError:
        if writer:
            inode.put_write_access()
        raise
    file.f_flags &= ~OpenFlag.NOCTTY  # only the driver of a terminal cares
    file.f_mode |= _FMODE[flags & OpenFlag.ACCMODE] | (FMode.WRITER if writer else FMode(0))
    if execute:
        file.f_mode |= FMode.EXEC
    fsnotify_dentry(task.kernel, path.dentry, In.OPEN)
    return file


class PathFile(File):
    """A file opened with O_PATH: a place, nothing to read or write (``fs/open.c:empty_fops``)."""

    __slots__ = ()


def _do_o_path(nd: Nameidata, name: bytes, flags: int) -> File:
    """Source: ``fs/namei.c:do_o_path``."""
    link_path_walk(nd, name)
    path_lookup_last(nd)
    inode = nd.path.dentry.inode
    if nd.flags & Lookup.DIRECTORY and not stat.S_ISDIR(inode.mode):
        raise KernelError(Errno.ENOTDIR)
    return PathFile(inode, nd.path, flags & (OpenFlag.PATH | OpenFlag.DIRECTORY | OpenFlag.NOFOLLOW), FMode.PATH)


def _do_tmpfile(nd: Nameidata, name: bytes, flags: int, mode: int) -> File:
    """A regular file without a name in the directory ``name``. Source: ``fs/namei.c:do_tmpfile``."""
    nd.flags |= Lookup.DIRECTORY
    link_path_walk(nd, name)
    path_lookup_last(nd)
    task, parent = nd.task, nd.path.dentry
    if not stat.S_ISDIR(parent.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    nd.path.mount.want_write()
    inode_permission(task, parent.inode, May.WRITE | May.EXEC)
    assert task.fs is not None
    inode = parent.inode.tmpfile(task, stat.S_IFREG | mode & S_IALLUGO & ~task.fs.umask)
    inode.linkable = not flags & OpenFlag.EXCL
    dentry = d_tmpfile(parent, inode)
    kept = flags & ~(OpenFlag.CREAT | OpenFlag.EXCL | OpenFlag.NOCTTY | OpenFlag.TRUNC)
    return vfs_open(task, Path(nd.path.mount, dentry), kept)


def d_tmpfile(parent: Dentry, inode: Inode) -> Dentry:
    """The name of a file that has none, as /proc shows it. Source: ``fs/dcache.c:d_mark_tmpfile``."""
    from minikern.fs.dcache import Dentry

    dentry = Dentry(parent.sb, parent, b"#%d" % inode.ino, inode)
    dentry.hashed = False
    return dentry


def do_truncate(task: Task, inode: Inode, size: int) -> None:
    """Set the size of a regular file; set-id bits go. Source: ``fs/open.c:do_truncate``."""
    inode_newsize_ok(task, inode, size)
    kill = setattr_should_drop_suidgid(task, inode)
    change_inode(task, inode, Iattr(Attr.SIZE | Attr.FORCE | kill, size=size))
