"""Mounted file systems.

Mirrors ``fs/super.c`` and ``fs/statfs.c``. A `SuperBlock` is one file system, wherever it is mounted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SIZE
from minikern.fs.dcache import Dentry

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.kernel.kernel import Kernel

NAME_MAX = 255


@dataclass(slots=True)
class Kstatfs:
    """What statfs(2) knows of a file system (``struct kstatfs``)."""

    type: int  # magic number
    bsize: int = PAGE_SIZE  # bytes per block
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0  # … for users
    files: int = 0
    ffree: int = 0
    fsid: int = 0
    namelen: int = NAME_MAX
    frsize: int = PAGE_SIZE
    flags: int = 0  # ST_*


class SuperBlock:
    """One file system (``struct super_block``)."""

    def __init__(self, kernel: Kernel, fstype: str, magic: int, dev: int | None = None) -> None:
        self.kernel = kernel
        self.fstype = fstype  # its name in /proc/mounts
        self.magic = magic
        self.dev = kernel.mounts.new_anon_dev() if dev is None else dev
        self.last_ino = 0
        self.root: Dentry = None  # type: ignore[assignment]  # set by `set_root`

    def set_root(self, inode: Inode) -> Dentry:
        """Make the root dentry (``d_make_root``)."""
        self.root = Dentry(self, None, b"/", inode)
        return self.root

    def next_ino(self) -> int:
        """A number for a new inode (``get_next_ino``)."""
        self.last_ino += 1
        return self.last_ino

    def statfs(self) -> Kstatfs:
        """How full it is. Source: ``fs/libfs.c:simple_statfs``."""
        return Kstatfs(self.magic)

    def sync_fs(self) -> None:
        """Bring every change to where it stays (``s_op->sync_fs``)."""

    def kill(self) -> None:
        """It is mounted nowhere any more (``kill_sb``)."""

    def show_options(self) -> str:
        """Its own mount options, each with a comma before it."""
        return ""
