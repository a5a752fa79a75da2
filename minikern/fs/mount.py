"""mount(2) and umount2(2), for whoever is root in the guest.

Mirrors the system calls of ``fs/namespace.c``. Left out: the new mount API, propagation (accepted and without effect),
expiry, pivot_root.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.namei import At, Lookup, filename_lookup, getname, user_path_at
from minikern.fs.namespace import Mount, MountFlags
from minikern.fs.path import Path as FsPath
from minikern.fs.proc_misc import proc_mount
from minikern.fs.ramfs import RamSuper
from minikern.fs.super import SuperBlock
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import CStr, Int, Path, Ptr, ULong, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user_partial, strncpy_from_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikern.kernel.task import Task

_PAGE_SIZE = 4096
_KEPT = (
    MountFlags.RDONLY
    | MountFlags.NOSUID
    | MountFlags.NODEV
    | MountFlags.NOEXEC
    | MountFlags.NOATIME
    | MountFlags.NODIRATIME
    | MountFlags.RELATIME
)


@fast_flags
class MountHow(IntFlag):
    """What mount(2) is to do, beside the options (``MS_*``)."""

    REMOUNT = 0x20
    BIND = 0x1000
    MOVE = 0x2000
    REC = 0x4000
    PROPAGATION = 0x1E0000  # MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED
    MGC_VAL = 0xC0ED0000  # very old programs put it into the upper half
    MGC_MSK = 0xFFFF0000


@fast_flags
class Umount(IntFlag):
    """Flags of umount2 (``MNT_*``)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


@syscall("mount", partial="file systems other than tmpfs, proc, sysfs, devpts and devtmpfs; propagation")
def sys_mount(task: Task, dev_name: CStr, dir_name: Path, fstype: CStr, flags: ULong, data: Ptr) -> Result:
    """Source: ``fs/namespace.c:path_mount``."""
    kind = strncpy_from_user(task, fstype, _PAGE_SIZE) if fstype else b""
    source = strncpy_from_user(task, dev_name, _PAGE_SIZE) if dev_name else b""
    options = copy_from_user_partial(task, data, _PAGE_SIZE).split(b"\0")[0] if data else b""
    where = user_path_at(task, At.FDCWD, dir_name)
    if not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EPERM)
    if flags & MountHow.MGC_MSK == MountHow.MGC_VAL:
        flags &= ~MountHow.MGC_MSK
    kept = MountFlags(flags & _KEPT)
    if not kept & MountFlags.NOATIME:
        kept |= MountFlags.RELATIME

    if flags & MountHow.REMOUNT:
        _root_of_mount(where).flags = kept
    elif flags & MountHow.BIND:
        _do_bind(task, source, where, recursive=bool(flags & MountHow.REC))
    elif flags & MountHow.PROPAGATION:
        _root_of_mount(where)
    elif flags & MountHow.MOVE:
        _do_move(task, source, where)
    else:
        _do_new_mount(task, kind, source, where, kept, options)
    return 0


def _root_of_mount(path: FsPath) -> Mount:
    """The mount whose root ``path`` is; EINVAL (``path_mounted``)."""
    if path.dentry is not path.mount.root:
        raise KernelError(Errno.EINVAL)
    return path.mount


def _do_new_mount(task: Task, kind: bytes, source: bytes, where: FsPath, flags: MountFlags, options: bytes) -> None:
    """Source: ``fs/namespace.c:do_new_mount``."""
    if not kind:
        raise KernelError(Errno.EINVAL)
    if not stat.S_ISDIR(where.dentry.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    sb = _new_super(task, kind, options)
    task.kernel.mounts.attach(sb, source.decode(errors="surrogateescape") or "none", where, flags)


def _new_super(task: Task, kind: bytes, options: bytes) -> SuperBlock:
    """A file system of the given type; ENODEV. The one of the devices is always the same."""
    kernel = task.kernel
    match kind:
        case b"tmpfs" | b"ramfs":
            return _new_tmpfs(task, kind, options)
        case b"proc":
            return proc_mount(kernel)
        case b"sysfs":
            return RamSuper(kernel, "sysfs", mode=0o555)
        case b"devpts":
            return kernel.devpts.sb
        case b"devtmpfs":
            for mount in kernel.mounts.mounts:
                if mount.sb.fstype == "devtmpfs":
                    return mount.sb
    raise KernelError(Errno.ENODEV)


def _new_tmpfs(task: Task, kind: bytes, options: bytes) -> RamSuper:
    """A tmpfs with the mode and owner that its options say. Source: ``mm/shmem.c:shmem_parse_one``."""
    sb = RamSuper(task.kernel, kind.decode())
    root = sb.root.inode
    for option in options.split(b","):
        name, _, value = option.partition(b"=")
        try:
            match name:
                case b"mode":
                    root.mode = stat.S_IFDIR | int(value, 8) & 0o7777
                case b"uid":
                    root.uid = int(value)
                case b"gid":
                    root.gid = int(value)
        except ValueError:
            raise KernelError(Errno.EINVAL) from None
    return sb


def _do_bind(task: Task, source: bytes, where: FsPath, *, recursive: bool) -> None:
    """Show a directory or file at a second place. Source: ``fs/namespace.c:do_loopback``."""
    old = filename_lookup(task, At.FDCWD, source)
    if stat.S_ISDIR(old.dentry.inode.mode) != stat.S_ISDIR(where.dentry.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    mounts = task.kernel.mounts
    below = _subtree(task, old.mount) if recursive else []
    copy = mounts.attach(old.mount.sb, old.mount.source, where, old.mount.flags, old.dentry)
    copies = {old.mount: copy}
    for mount in below[1:]:
        parent = mount.parent
        if parent in copies and mount.mountpoint.is_below(copies[parent].root):
            place = FsPath(copies[parent], mount.mountpoint)
            copies[mount] = mounts.attach(mount.sb, mount.source, place, mount.flags, mount.root)


def _do_move(task: Task, source: bytes, where: FsPath) -> None:
    """Source: ``fs/namespace.c:do_move_mount``."""
    old = filename_lookup(task, At.FDCWD, source)
    mount = _root_of_mount(old)
    if mount.parent is None or where.mount in _subtree(task, mount):
        raise KernelError(Errno.EINVAL if mount.parent is None else Errno.ELOOP)
    if stat.S_ISDIR(old.dentry.inode.mode) != stat.S_ISDIR(where.dentry.inode.mode):
        raise KernelError(Errno.ENOTDIR)
    task.kernel.mounts.move(mount, where)


# -- umount


@syscall("umount2", partial="MNT_EXPIRE")
def sys_umount2(task: Task, name: Path, flags: Int) -> Result:
    """Source: ``fs/namespace.c:ksys_umount``."""
    if flags & ~(Umount.FORCE | Umount.DETACH | Umount.NOFOLLOW):
        raise KernelError(Errno.EINVAL)
    follow = Lookup(0) if flags & Umount.NOFOLLOW else Lookup.FOLLOW
    path = filename_lookup(task, At.FDCWD, getname(task, name), follow)
    if not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EPERM)
    mount = _root_of_mount(path)
    if mount.parent is None:
        raise KernelError(Errno.EINVAL)
    subtree = _subtree(task, mount)
    if not flags & Umount.DETACH and (len(subtree) > 1 or mount in set(_mounts_in_use(task))):
        raise KernelError(Errno.EBUSY)
    mounts = task.kernel.mounts
    for each in reversed(subtree):
        mounts.detach(each)
        if not any(other.sb is each.sb for other in mounts.mounts):
            each.sb.kill()
    return 0


def _subtree(task: Task, mount: Mount) -> list[Mount]:
    """A mount and everything that is mounted on it, parents first."""
    found = [mount]
    for each in found:
        found += task.kernel.mounts.children(each)
    return found


def _mounts_in_use(task: Task) -> Iterator[Mount]:
    """The mounts that some task stands in, or has a file of open or mapped."""
    for each in task.kernel.pids.all_tasks():
        if each.fs is not None:
            yield each.fs.root.mount
            yield each.fs.pwd.mount
        files = list(each.files.fds.values()) if each.files is not None else []
        if each.mm is not None:
            files += [vma.file for vma in each.mm.vmas if vma.file is not None]
            files += [each.mm.exe_file] if each.mm.exe_file is not None else []
        for file in files:
            if file.f_path is not None:
                yield file.f_path.mount
