"""Mounts: which file system begins where.

Mirrors ``fs/namespace.c``. One namespace for all tasks. Left out: propagation between mounts, the new mount API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.kdev_t import makedev
from minikern.fs.path import Path
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.fsnotify import Mark
    from minikern.fs.inode import Inode
    from minikern.fs.super import SuperBlock


@fast_flags
class MountFlags(IntFlag):
    """Options of a mount, numbered as the arguments of mount(2) (``MS_*``)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x400
    NODIRATIME = 0x800
    RELATIME = 0x200000


_OPTION_NAMES = (
    (MountFlags.NOSUID, "nosuid"),
    (MountFlags.NODEV, "nodev"),
    (MountFlags.NOEXEC, "noexec"),
    (MountFlags.NOATIME, "noatime"),
    (MountFlags.NODIRATIME, "nodiratime"),
    (MountFlags.RELATIME, "relatime"),
)


_ST_VALID = 0x20
_ST_RELATIME = 0x1000


@dataclass(slots=True, eq=False, repr=False)
class Mount:
    """One file system, or a part of it, at one place (``struct mount``)."""

    id: int
    sb: SuperBlock
    root: Dentry  # what is seen at the mount point
    source: str  # the device column of /proc/mounts
    flags: MountFlags = MountFlags.RELATIME
    parent: Mount | None = None  # None: the root of everything, or no longer mounted
    mountpoint: Dentry = None  # type: ignore[assignment]  # the dentry of the parent that it covers; None with no parent

    def __repr__(self) -> str:
        return f"<Mount {self.id} {self.sb.fstype}>"

    def want_write(self) -> None:
        """EROFS when it is read-only. Source: ``fs/namespace.c:mnt_want_write``."""
        if self.flags & MountFlags.RDONLY:
            raise KernelError(Errno.EROFS)

    def noexec(self) -> bool:
        """Whether nothing on it can be executed. Source: ``fs/exec.c:path_noexec``."""
        return bool(self.flags & MountFlags.NOEXEC)

    def statfs_flags(self) -> int:
        """The options as statfs(2) shows them (``ST_*``). Source: ``fs/statfs.c:flags_by_mnt``."""
        flags = _ST_VALID | self.flags & ~MountFlags.RELATIME
        return flags | _ST_RELATIME if self.flags & MountFlags.RELATIME else flags

    def root_name(self) -> bytes:
        """Which part of the file system is mounted, as a path in it."""
        names: list[bytes] = []
        dentry = self.root
        while not dentry.is_root():
            names.append(dentry.name)
            dentry = dentry.parent
        return b"/" + b"/".join(reversed(names))

    def options(self) -> str:
        """The options as /proc/mounts lists them."""
        first = "ro" if self.flags & MountFlags.RDONLY else "rw"
        return ",".join([first, *(name for flag, name in _OPTION_NAMES if self.flags & flag)])


@dataclass(slots=True, eq=False, repr=False)
class MountNamespace:
    """All mounts of a machine (``struct mnt_namespace``)."""

    mounts: list[Mount] = field(default_factory=list)  # in the order in which they were made
    covered: dict[tuple[Mount, Dentry], Mount] = field(default_factory=dict)  # what is mounted on top of what
    marks: dict[Inode, list[Mark]] = field(default_factory=dict)  # who watches which inode (inotify)
    move_cookie: int = 0  # ties the two events of a rename together
    shm_mnt: Mount = None  # type: ignore[assignment]  # where memfd files are; mounted nowhere
    last_id: int = 0
    last_anon_dev: int = 0  # minor numbers of file systems without a device

    def new_anon_dev(self) -> int:
        """A device number for a file system that has no device. Source: ``fs/super.c:get_anon_bdev``."""
        self.last_anon_dev += 1
        return makedev(0, self.last_anon_dev)

    @property
    def root(self) -> Path:
        """The root of everything."""
        mount = self.mounts[0]
        return self.topmost(Path(mount, mount.root))

    def attach(
        self,
        sb: SuperBlock,
        source: str,
        where: Path | None,
        flags: MountFlags = MountFlags.RELATIME,
        root: Dentry | None = None,
    ) -> Mount:
        """Mount ``sb`` at ``where``, or as the root of everything. Source: ``fs/namespace.c:do_add_mount``."""
        self.last_id += 1
        mount = Mount(self.last_id, sb, root if root is not None else sb.root, source, flags)
        if where is not None:
            self._cover(mount, self.topmost(where))
        self.mounts.append(mount)
        return mount

    def detach(self, mount: Mount) -> None:
        """Take a mount out of the tree. Source: ``fs/namespace.c:umount_tree``."""
        self._uncover(mount)
        self.mounts.remove(mount)

    def move(self, mount: Mount, where: Path) -> None:
        """Mount it somewhere else. Source: ``fs/namespace.c:do_move_mount``."""
        self._uncover(mount)
        self._cover(mount, self.topmost(where))

    def _cover(self, mount: Mount, where: Path) -> None:
        mount.parent = where.mount
        mount.mountpoint = where.dentry
        self.covered[where.mount, where.dentry] = mount
        where.dentry.mounted += 1

    def _uncover(self, mount: Mount) -> None:
        assert mount.parent is not None
        del self.covered[mount.parent, mount.mountpoint]
        mount.mountpoint.mounted -= 1
        mount.parent = None

    def topmost(self, path: Path) -> Path:
        """What is seen at ``path``: the root of whatever is mounted there. Source: ``fs/namei.c:traverse_mounts``."""
        while path.dentry.mounted:
            mount = self.covered.get((path.mount, path.dentry))
            if mount is None:
                break
            path = Path(mount, mount.root)
        return path

    def children(self, mount: Mount) -> list[Mount]:
        """What is mounted somewhere on ``mount``."""
        return [each for each in self.mounts if each.parent is mount]
