"""Making, removing and renaming names.

Mirrors the last part of ``fs/namei.c``: mkdir, mknod, symlink, link, unlink, rmdir, rename.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.fsnotify import In, fsnotify_inode, fsnotify_move, fsnotify_name
from minikern.fs.namei import (
    At,
    Lookup,
    Nameidata,
    filename_lookup,
    filename_parentat,
    getname,
    getname_flags,
    lookup_child,
)
from minikern.fs.path import Path as FsPath
from minikern.fs.permission import May, inode_permission, may_create, may_delete
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import DirFd, Int, Mode, Path, UInt, syscall
from minikern.kernel.waitqueue import Result

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.inode import Inode
    from minikern.kernel.task import Task

S_IALLUGO = 0o7777
S_IRWXUGO = 0o777
_DIR_MODE = S_IRWXUGO | stat.S_ISVTX  # what mkdir(2) can set


@fast_flags
class Rename(IntFlag):
    """Flags of renameat2 (``RENAME_*``)."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


_DOTS = (b"", b".", b"..")  # last components that are no name: the root, here, above


# -- making


def filename_create(task: Task, dfd: int, name: bytes, *, is_dir: bool = False) -> Nameidata:
    """Walk to where a new name is to be: ``path`` is the directory, ``last`` the name; EEXIST.

    Source: ``fs/namei.c:filename_create``.
    """
    nd = filename_parentat(task, dfd, name)
    if nd.last in _DOTS:
        raise KernelError(Errno.EEXIST)
    if lookup_child(nd, nd.last) is not None:
        raise KernelError(Errno.EEXIST)
    if nd.trailing_slash and not is_dir:
        raise KernelError(Errno.ENOENT)
    nd.path.mount.want_write()
    return nd


def _umasked(task: Task, mode: int) -> int:
    assert task.fs is not None
    return mode & ~task.fs.umask


@syscall("mkdirat")
def sys_mkdirat(task: Task, dfd: DirFd, pathname: Path, mode: Mode) -> Result:
    """Source: ``fs/namei.c:mkdirat``."""
    return do_mkdirat(task, dfd, pathname, mode)


def do_mkdirat(task: Task, dfd: int, pathname: int, mode: int) -> int:
    """Source: ``fs/namei.c:do_mkdirat``, ``vfs_mkdir``."""
    nd = filename_create(task, dfd, getname(task, pathname), is_dir=True)
    directory = nd.path.dentry
    may_create(task, directory.inode)
    _made(task, directory, nd.last, directory.inode.mkdir(task, nd.last, _umasked(task, mode & _DIR_MODE)))
    return 0


def _made(task: Task, directory: Dentry, name: bytes, inode: Inode) -> Dentry:
    """A name was made: let it be known. Source: ``d_instantiate`` and ``fsnotify_create``."""
    fsnotify_name(task.kernel, directory.inode, name, inode, In.CREATE)
    return directory.add(name, inode)


@syscall("mknodat")
def sys_mknodat(task: Task, dfd: DirFd, filename: Path, mode: Mode, dev: UInt) -> Result:
    """Source: ``fs/namei.c:mknodat``."""
    return do_mknodat(task, dfd, filename, mode, dev)


def do_mknodat(task: Task, dfd: int, filename: int, mode: int, dev: int) -> int:
    """Source: ``fs/namei.c:do_mknodat``."""
    match stat.S_IFMT(mode):
        case 0:
            mode |= stat.S_IFREG
        case stat.S_IFREG | stat.S_IFCHR | stat.S_IFBLK | stat.S_IFIFO | stat.S_IFSOCK:
            pass
        case stat.S_IFDIR:
            raise KernelError(Errno.EPERM)
        case _:
            raise KernelError(Errno.EINVAL)
    vfs_mknod_at(task, dfd, getname(task, filename), _umasked(task, mode), dev)
    return 0


def vfs_mknod_at(task: Task, dfd: int, name: bytes, mode: int, dev: int = 0) -> FsPath:
    """`vfs_mknod` by name; EEXIST. Source: ``fs/namei.c:do_mknodat``, ``net/unix/af_unix.c:unix_bind_bsd``."""
    nd = filename_create(task, dfd, name)
    return FsPath(nd.path.mount, vfs_mknod(task, nd.path.dentry, nd.last, mode, dev))


def vfs_mknod(task: Task, directory: Dentry, name: bytes, mode: int, dev: int) -> Dentry:
    """Make a file of the type in ``mode``, no directory and no link; the umask has been applied.

    Source: ``fs/namei.c:vfs_mknod``.
    """
    may_create(task, directory.inode)
    is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    if is_device and not capable(task, Cap.MKNOD):
        raise KernelError(Errno.EPERM)
    return _made(task, directory, name, directory.inode.create(task, name, mode, dev if is_device else 0))


@syscall("symlinkat")
def sys_symlinkat(task: Task, oldname: Path, newdfd: DirFd, newname: Path) -> Result:
    """Source: ``fs/namei.c:symlinkat``."""
    return do_symlinkat(task, oldname, newdfd, newname)


def do_symlinkat(task: Task, oldname: int, newdfd: int, newname: int) -> int:
    """Source: ``fs/namei.c:do_symlinkat``, ``vfs_symlink``."""
    target = getname(task, oldname)
    nd = filename_create(task, newdfd, getname(task, newname))
    directory = nd.path.dentry
    may_create(task, directory.inode)
    _made(task, directory, nd.last, directory.inode.symlink(task, nd.last, target))
    return 0


@syscall("linkat")
def sys_linkat(task: Task, olddfd: DirFd, oldname: Path, newdfd: DirFd, newname: Path, flags: Int) -> Result:
    """Source: ``fs/namei.c:linkat``."""
    return do_linkat(task, olddfd, oldname, newdfd, newname, flags)


def do_linkat(task: Task, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int) -> int:
    """Source: ``fs/namei.c:do_linkat``, ``vfs_link``."""
    if flags & ~(At.SYMLINK_FOLLOW | At.EMPTY_PATH):
        raise KernelError(Errno.EINVAL)
    how = Lookup.FOLLOW if flags & At.SYMLINK_FOLLOW else Lookup(0)
    name = getname_flags(task, oldname, flags)
    if flags & At.EMPTY_PATH:
        if not name and not capable(task, Cap.DAC_READ_SEARCH):
            raise KernelError(Errno.ENOENT)
        how |= Lookup.EMPTY
    old = filename_lookup(task, olddfd, name, how)
    nd = filename_create(task, newdfd, getname(task, newname))
    if old.mount is not nd.path.mount:
        raise KernelError(Errno.EXDEV)
    directory, inode = nd.path.dentry, old.dentry.inode
    may_create(task, directory.inode)
    if stat.S_ISDIR(inode.mode):
        raise KernelError(Errno.EPERM)
    if inode.nlink == 0 and not inode.linkable:
        raise KernelError(Errno.ENOENT)
    directory.inode.link(task, inode, nd.last)
    inode.linkable = False
    fsnotify_inode(task.kernel, inode, In.ATTRIB)
    _made(task, directory, nd.last, inode)
    return 0


# -- removing


@syscall("unlinkat")
def sys_unlinkat(task: Task, dfd: DirFd, pathname: Path, flag: Int) -> Result:
    """Source: ``fs/namei.c:unlinkat``."""
    if flag & ~At.REMOVEDIR:
        raise KernelError(Errno.EINVAL)
    return do_rmdir(task, dfd, pathname) if flag & At.REMOVEDIR else do_unlinkat(task, dfd, pathname)


def do_unlinkat(task: Task, dfd: int, pathname: int) -> int:
    """Source: ``fs/namei.c:do_unlinkat``."""
    unlink_name(task, dfd, getname(task, pathname))
    return 0


def unlink_name(task: Task, dfd: int, name: bytes) -> None:
    """Remove a name that is no directory's. Source: ``fs/namei.c:do_unlinkat``, ``vfs_unlink``."""
    nd = filename_parentat(task, dfd, name)
    if nd.last in _DOTS:
        raise KernelError(Errno.EISDIR)
    nd.path.mount.want_write()
    dentry = _existing(nd)
    if nd.trailing_slash:
        raise KernelError(Errno.EISDIR if stat.S_ISDIR(dentry.inode.mode) else Errno.ENOTDIR)
    directory = nd.path.dentry.inode
    may_delete(task, directory, dentry, is_dir=False)
    if dentry.mounted:
        raise KernelError(Errno.EBUSY)
    inode = dentry.inode
    inode.ihold()  # whoever watches it hears of the lost link before its end
    try:
        directory.unlink(task, nd.last, inode)
        fsnotify_inode(task.kernel, inode, In.ATTRIB)
    finally:
        inode.iput()
    fsnotify_name(task.kernel, directory, nd.last, inode, In.DELETE)
    dentry.drop()


def do_rmdir(task: Task, dfd: int, pathname: int) -> int:
    """Source: ``fs/namei.c:do_rmdir``, ``vfs_rmdir``."""
    nd = filename_parentat(task, dfd, getname(task, pathname))
    match nd.last:
        case b"..":
            raise KernelError(Errno.ENOTEMPTY)
        case b".":
            raise KernelError(Errno.EINVAL)
        case b"":
            raise KernelError(Errno.EBUSY)
    nd.path.mount.want_write()
    dentry = _existing(nd)
    directory = nd.path.dentry.inode
    may_delete(task, directory, dentry, is_dir=True)
    if dentry.mounted:
        raise KernelError(Errno.EBUSY)
    inode = dentry.inode
    directory.rmdir(task, nd.last, inode)
    fsnotify_name(task.kernel, directory, nd.last, inode, In.DELETE)
    dentry.drop()
    return 0


def _existing(nd: Nameidata) -> Dentry:
    """What the last component names; ENOENT."""
    dentry = lookup_child(nd, nd.last)
    if dentry is None:
        raise KernelError(Errno.ENOENT)
    return dentry


# -- renaming


@syscall("renameat")
def sys_renameat(task: Task, olddfd: DirFd, oldname: Path, newdfd: DirFd, newname: Path) -> Result:
    """Source: ``fs/namei.c:renameat``."""
    return do_renameat2(task, olddfd, oldname, newdfd, newname, 0)


@syscall("renameat2", partial="RENAME_WHITEOUT")
def sys_renameat2(task: Task, olddfd: DirFd, oldname: Path, newdfd: DirFd, newname: Path, flags: UInt) -> Result:
    """Source: ``fs/namei.c:renameat2``."""
    return do_renameat2(task, olddfd, oldname, newdfd, newname, flags)


def do_renameat2(task: Task, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int) -> int:
    """Source: ``fs/namei.c:do_renameat2``."""
    if flags & ~(Rename.NOREPLACE | Rename.EXCHANGE) or flags == Rename.NOREPLACE | Rename.EXCHANGE:
        raise KernelError(Errno.EINVAL)
    exchange = bool(flags & Rename.EXCHANGE)
    old_nd = filename_parentat(task, olddfd, getname(task, oldname))
    new_nd = filename_parentat(task, newdfd, getname(task, newname))
    if old_nd.path.mount is not new_nd.path.mount:
        raise KernelError(Errno.EXDEV)
    if old_nd.last in _DOTS:
        raise KernelError(Errno.EBUSY)
    if new_nd.last in _DOTS:
        raise KernelError(Errno.EEXIST if flags & Rename.NOREPLACE else Errno.EBUSY)
    old_nd.path.mount.want_write()

    old = _existing(old_nd)
    new = lookup_child(new_nd, new_nd.last)
    if flags & Rename.NOREPLACE and new is not None:
        raise KernelError(Errno.EEXIST)
    if exchange and new is None:
        raise KernelError(Errno.ENOENT)
    if exchange and new is not None and new_nd.trailing_slash and not stat.S_ISDIR(new.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    if not stat.S_ISDIR(old.inode.mode) and (old_nd.trailing_slash or (not exchange and new_nd.trailing_slash)):
        raise KernelError(Errno.ENOTDIR)
    if new_nd.path.dentry.is_below(old):
        raise KernelError(Errno.EINVAL)
    if new is not None and old_nd.path.dentry.is_below(new):
        raise KernelError(Errno.EINVAL if exchange else Errno.ENOTEMPTY)
    vfs_rename(task, old_nd.path, old, new_nd.path, new_nd.last, new, exchange=exchange)
    return 0


def vfs_rename(
    task: Task, old_dir: FsPath, old: Dentry, new_dir: FsPath, new_name: bytes, new: Dentry | None, *, exchange: bool
) -> None:
    """Move a name, or swap two. Source: ``fs/namei.c:vfs_rename``."""
    source, target = old.inode, new.inode if new is not None else None
    if source is target:
        return
    is_dir = stat.S_ISDIR(source.mode)
    new_is_dir = target is not None and stat.S_ISDIR(target.mode)
    source_dir, target_dir = old_dir.dentry.inode, new_dir.dentry.inode

    may_delete(task, source_dir, old, is_dir=is_dir)
    if new is None:
        may_create(task, target_dir)
    else:
        may_delete(task, target_dir, new, is_dir=new_is_dir if exchange else is_dir)
    if source_dir is not target_dir:  # then ".." changes
        if is_dir:
            inode_permission(task, source, May.WRITE)
        if exchange and new_is_dir:
            assert target is not None
            inode_permission(task, target, May.WRITE)
    if old.mounted or (new is not None and new.mounted):
        raise KernelError(Errno.EBUSY)

    old_name = old.name
    held = target if target is not None else source
    held.ihold()
    try:
        source_dir.rename(task, old_name, source, target_dir, new_name, target, exchange=exchange)
        replaced = None if exchange else target
        fsnotify_move(task.kernel, source_dir, old_name, target_dir, new_name, source, replaced)
        if exchange and target is not None:
            fsnotify_move(task.kernel, target_dir, new_name, source_dir, old_name, target)
    finally:
        held.iput()
    if exchange:
        assert new is not None
        old.exchange(new)
    else:
        old.move(new_dir.dentry, new_name)
