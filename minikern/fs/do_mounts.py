"""The tree of a machine at boot.

Mirrors ``init/do_mounts.c`` and ``drivers/base/devtmpfs.c``: the host's directory with memory above it is the root; /dev,
/proc and /sys are mounted where it has a directory for them, and the host's directories and files that the user wants to
see are bound over what is there.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from minikern.fs.fs_struct import FsStruct
from minikern.fs.hostfs import HostfsSuper
from minikern.fs.inode import Inode, current_time
from minikern.fs.namei import At, Lookup, filename_lookup
from minikern.fs.namespace import Mount, MountFlags
from minikern.fs.overlay import OverlaySuper
from minikern.fs.path import Path
from minikern.fs.proc_misc import proc_mount
from minikern.fs.ramfs import RamDir, RamSpecial, RamSuper, RamSymlink
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel

_DEV_FLAGS = MountFlags.NOSUID | MountFlags.RELATIME
_PTS_FLAGS = MountFlags.NOSUID | MountFlags.NOEXEC | MountFlags.RELATIME
_PROC_FLAGS = MountFlags.NOSUID | MountFlags.NODEV | MountFlags.NOEXEC | MountFlags.RELATIME
_SHM_FLAGS = MountFlags.NOSUID | MountFlags.NODEV | MountFlags.RELATIME
_DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


def mount_root(kernel: Kernel) -> None:
    """Build the tree that ``kernel.config`` describes; its root becomes that of init. Source: ``prepare_namespace``."""
    mounts = kernel.mounts
    shm = RamSuper(kernel)
    mounts.shm_mnt = Mount(0, shm, shm.root, "tmpfs")
    mounts.attach(OverlaySuper(kernel, os.fsencode(kernel.config.root)), "overlay", None)
    kernel.init_task.fs = FsStruct(mounts.root, mounts.root)

    if (dev := _directory_at(kernel, b"/dev")) is not None:
        _mount_devtmpfs(kernel, dev)
    if (proc := _directory_at(kernel, b"/proc")) is not None:
        mounts.attach(proc_mount(kernel), "proc", proc, _PROC_FLAGS)
    if (sys := _directory_at(kernel, b"/sys")) is not None:
        mounts.attach(RamSuper(kernel, "sysfs", mode=0o555), "sysfs", sys, _PROC_FLAGS)
    for bind in kernel.config.binds:
        _bind(kernel, os.fsencode(bind.src), os.fsencode(bind.dst), read_only=not bind.rw)


def _directory_at(kernel: Kernel, name: bytes) -> Path | None:
    """The directory ``name``, if there is one."""
    try:
        return filename_lookup(kernel.init_task, At.FDCWD, name, Lookup.FOLLOW | Lookup.DIRECTORY)
    except KernelError:
        return None


def _bind(kernel: Kernel, source: bytes, target: bytes, *, read_only: bool) -> None:
    """Show a directory or file of the host at ``target``, which is made if it does not exist."""
    sb = HostfsSuper(kernel, source)
    where = _mount_point(kernel, target, stat.S_ISDIR(sb.root.inode.mode))
    flags = MountFlags.RELATIME | (MountFlags.RDONLY if read_only else MountFlags(0))
    kernel.mounts.attach(sb, os.fsdecode(source), where, flags)


def _mount_point(kernel: Kernel, name: bytes, is_dir: bool) -> Path:
    """The place ``name``; what is missing on the way is made in memory."""
    task = kernel.init_task
    try:
        return filename_lookup(task, At.FDCWD, name)
    except KernelError as error:
        if error.errno != Errno.ENOENT:
            raise
    directory, last = os.path.split(name)
    parent = _mount_point(kernel, directory, True)
    inode = parent.dentry.inode
    made = inode.mkdir(task, last, 0o755) if is_dir else inode.create(task, last, stat.S_IFREG | 0o644)
    return Path(parent.mount, parent.dentry.add(last, made))


def _mount_devtmpfs(kernel: Kernel, where: Path) -> None:
    """/dev with a node for every driver. Source: ``drivers/base/devtmpfs.c``."""
    sb = RamSuper(kernel, "devtmpfs", mode=0o755)
    root = sb.root.inode
    assert isinstance(root, RamDir)
    for name, mode, rdev in kernel.chrdevs.nodes():
        *directories, last = name.split("/")
        parent = root
        for each in directories:
            parent = _directory(sb, parent, each, 0o755)
        parent.entries[last.encode()] = _stamped(RamSpecial(sb, sb.next_ino(), stat.S_IFCHR | mode, rdev=rdev))
    for name, target in _DEV_LINKS:
        link = RamSymlink(sb, sb.next_ino(), stat.S_IFLNK | 0o777)
        link.target = target.encode()
        link.size = len(link.target)
        root.entries[name.encode()] = _stamped(link)
    _directory(sb, root, "shm", 0o755)
    _directory(sb, root, "pts", 0o755)
    mount = kernel.mounts.attach(sb, "devtmpfs", where, _DEV_FLAGS)
    shm = mount.root.lookup(kernel.init_task, b"shm")
    assert shm is not None
    kernel.mounts.attach(RamSuper(kernel), "tmpfs", Path(mount, shm), _SHM_FLAGS)
    pts = mount.root.lookup(kernel.init_task, b"pts")
    assert pts is not None
    kernel.mounts.attach(kernel.devpts.sb, "devpts", Path(mount, pts), _PTS_FLAGS)


def _directory(sb: RamSuper, parent: RamDir, name: str, mode: int) -> RamDir:
    """The directory ``name``, made if need be."""
    inode = parent.entries.get(name.encode())
    if inode is None:
        inode = _stamped(RamDir(sb, sb.next_ino(), stat.S_IFDIR | mode))
        parent.entries[name.encode()] = inode
        parent.nlink += 1
    assert isinstance(inode, RamDir)
    return inode


def _stamped(inode: Inode) -> Inode:
    """A new inode with the time of the boot on it."""
    inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = current_time(inode.sb.kernel)
    return inode
