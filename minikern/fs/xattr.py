"""Extended attributes.

Mirrors ``fs/xattr.c``. Attributes of the user and trusted namespaces live where the file does; of the others nothing here
knows what they mean, so they can only be read where the host shows them.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.attr import inode_owner_or_capable
from minikern.fs.namei import At, user_path_at
from minikern.fs.permission import May, inode_permission
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Buf, CStr, Fd, Int, Path, Size, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user, copy_to_user, strncpy_from_user

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path as FsPath
    from minikern.kernel.task import Task

XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65536
_USER = b"user."
_TRUSTED = b"trusted."
_SECURITY = b"security."


@fast_flags
class XattrFlag(IntFlag):
    """Flags of setxattr (``XATTR_*``)."""

    CREATE = 1
    REPLACE = 2


def _path(task: Task, name: int, follow: bool) -> FsPath:
    return user_path_at(task, At.FDCWD, name, 0 if follow else At.SYMLINK_NOFOLLOW)


def _inode_of(task: Task, fd: int, *, write: bool = False) -> Inode:
    assert task.files is not None
    file = task.files.fget(fd)
    if write and file.f_path is not None:
        file.f_path.mount.want_write()
    return file.inode


def xattr_permission(task: Task, inode: Inode, name: bytes, mask: int) -> None:
    """Who may see and change which attributes. Source: ``fs/xattr.c:xattr_permission``."""
    if name.startswith(_SECURITY):
        if mask & May.WRITE and not capable(task, Cap.SYS_ADMIN):
            raise KernelError(Errno.EPERM)
        return
    if name.startswith(_TRUSTED):
        if not capable(task, Cap.SYS_ADMIN):
            raise KernelError(Errno.EPERM if mask & May.WRITE else Errno.ENODATA)
        return
    if not name.startswith(_USER) or name == _USER:
        raise KernelError(Errno.EOPNOTSUPP)
    if stat.S_IFMT(inode.mode) not in (stat.S_IFREG, stat.S_IFDIR):
        raise KernelError(Errno.EPERM if mask & May.WRITE else Errno.ENODATA)
    if stat.S_ISDIR(inode.mode) and inode.mode & stat.S_ISVTX and mask & May.WRITE:
        if not inode_owner_or_capable(task, inode):
            raise KernelError(Errno.EPERM)
    inode_permission(task, inode, mask)


def _name(task: Task, ptr: int) -> bytes:
    name = strncpy_from_user(task, ptr, XATTR_NAME_MAX + 1)
    if not 0 < len(name) <= XATTR_NAME_MAX:
        raise KernelError(Errno.ERANGE)
    return name


# -- set


@syscall("setxattr")
def sys_setxattr(task: Task, path: Path, name: CStr, value: Buf, size: Size, flags: Int) -> Result:
    """Source: ``fs/xattr.c:setxattr``."""
    return _setxattr_path(task, _path(task, path, True), name, value, size, flags)


@syscall("lsetxattr")
def sys_lsetxattr(task: Task, path: Path, name: CStr, value: Buf, size: Size, flags: Int) -> Result:
    """Source: ``fs/xattr.c:lsetxattr``."""
    return _setxattr_path(task, _path(task, path, False), name, value, size, flags)


@syscall("fsetxattr")
def sys_fsetxattr(task: Task, fd: Fd, name: CStr, value: Buf, size: Size, flags: Int) -> Result:
    """Source: ``fs/xattr.c:fsetxattr``."""
    return _setxattr(task, _inode_of(task, fd, write=True), name, value, size, flags)


def _setxattr_path(task: Task, path: FsPath, name: int, value: int, size: int, flags: int) -> int:
    path.mount.want_write()
    return _setxattr(task, path.dentry.inode, name, value, size, flags)


def _setxattr(task: Task, inode: Inode, name_ptr: int, value: int, size: int, flags: int) -> int:
    """Source: ``fs/xattr.c:do_setxattr``."""
    if flags & ~(XattrFlag.CREATE | XattrFlag.REPLACE):
        raise KernelError(Errno.EINVAL)
    name = _name(task, name_ptr)
    if size > XATTR_SIZE_MAX:
        raise KernelError(Errno.E2BIG)
    data = copy_from_user(task, value, size)
    xattr_permission(task, inode, name, May.WRITE)
    exists = name in inode.listxattr(task)
    if exists and flags & XattrFlag.CREATE:
        raise KernelError(Errno.EEXIST)
    if not exists and flags & XattrFlag.REPLACE:
        raise KernelError(Errno.ENODATA)
    inode.setxattr(task, name, data)
    return 0


# -- get


@syscall("getxattr")
def sys_getxattr(task: Task, path: Path, name: CStr, value: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:getxattr``."""
    return _getxattr(task, _path(task, path, True).dentry.inode, name, value, size)


@syscall("lgetxattr")
def sys_lgetxattr(task: Task, path: Path, name: CStr, value: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:lgetxattr``."""
    return _getxattr(task, _path(task, path, False).dentry.inode, name, value, size)


@syscall("fgetxattr")
def sys_fgetxattr(task: Task, fd: Fd, name: CStr, value: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:fgetxattr``."""
    return _getxattr(task, _inode_of(task, fd), name, value, size)


def _getxattr(task: Task, inode: Inode, name_ptr: int, value: int, size: int) -> int:
    """Source: ``fs/xattr.c:do_getxattr``."""
    name = _name(task, name_ptr)
    if not name.startswith((b"system.", _SECURITY)):
        xattr_permission(task, inode, name, May.READ)
    return _put(task, inode.getxattr(task, name), value, size)


# -- list


@syscall("listxattr")
def sys_listxattr(task: Task, path: Path, names: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:listxattr``."""
    return _listxattr(task, _path(task, path, True).dentry.inode, names, size)


@syscall("llistxattr")
def sys_llistxattr(task: Task, path: Path, names: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:llistxattr``."""
    return _listxattr(task, _path(task, path, False).dentry.inode, names, size)


@syscall("flistxattr")
def sys_flistxattr(task: Task, fd: Fd, names: Buf, size: Size) -> Result:
    """Source: ``fs/xattr.c:flistxattr``."""
    return _listxattr(task, _inode_of(task, fd), names, size)


def _listxattr(task: Task, inode: Inode, names: int, size: int) -> int:
    trusted = task.cred.has_cap(Cap.SYS_ADMIN)
    shown = [name for name in inode.listxattr(task) if trusted or not name.startswith(_TRUSTED)]
    return _put(task, b"".join(name + b"\0" for name in shown), names, size)


def _put(task: Task, data: bytes, address: int, size: int) -> int:
    """Store a value if there is room; a size of 0 asks for the length."""
    if size:
        if len(data) > size:
            raise KernelError(Errno.ERANGE)
        copy_to_user(task, address, data)
    return len(data)


# -- remove


@syscall("removexattr")
def sys_removexattr(task: Task, path: Path, name: CStr) -> Result:
    """Source: ``fs/xattr.c:removexattr``."""
    return _removexattr_path(task, _path(task, path, True), name)


@syscall("lremovexattr")
def sys_lremovexattr(task: Task, path: Path, name: CStr) -> Result:
    """Source: ``fs/xattr.c:lremovexattr``."""
    return _removexattr_path(task, _path(task, path, False), name)


@syscall("fremovexattr")
def sys_fremovexattr(task: Task, fd: Fd, name: CStr) -> Result:
    """Source: ``fs/xattr.c:fremovexattr``."""
    return _removexattr(task, _inode_of(task, fd, write=True), name)


def _removexattr_path(task: Task, path: FsPath, name: int) -> int:
    path.mount.want_write()
    return _removexattr(task, path.dentry.inode, name)


def _removexattr(task: Task, inode: Inode, name_ptr: int) -> int:
    name = _name(task, name_ptr)
    xattr_permission(task, inode, name, May.WRITE)
    inode.setxattr(task, name, None)
    return 0
