"""devpts: the file system that names the slaves of pseudo terminals, and /dev/ptmx, which makes them.

Mirrors ``fs/devpts/inode.c`` and ``drivers/tty/pty.c:ptmx_open``. One instance per machine. Its mount options are
fixed to what distributions use: ``gid=5,mode=620``.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from minikern.fs.file import OpenFlag
from minikern.fs.inode import Inode, current_time, mode_dt
from minikern.fs.kdev_t import makedev
from minikern.fs.path import Path
from minikern.fs.pty import PtyMaster, PtySlave
from minikern.fs.ramfs import RamSpecial
from minikern.fs.readdir import DirFile
from minikern.fs.super import SuperBlock
from minikern.fs.tty import TTYAUX_MAJOR, tty_open
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

DEVPTS_SUPER_MAGIC = 0x1CD1
UNIX98_PTY_SLAVE_MAJOR = 136
PTMX_MINOR = 2
MAX_PTYS = 4096
_MINORS = 256  # slaves per major number
_TTY_GID = 5
_SLAVE_MODE = 0o620
_FIRST_INO = 3  # of slave 0


class PtsDir(Inode):
    """The root: only the kernel makes and removes names here."""

    __slots__ = ("entries",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int) -> None:
        super().__init__(sb, ino, mode)
        self.nlink = 2
        self.entries: dict[bytes, Inode] = {}

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/libfs.c:simple_lookup``."""
        return self.entries.get(name)

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Slaves that exist."""
        return [(inode.ino, mode_dt(inode.mode), name) for name, inode in self.entries.items()]

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        return DirFile(self, path, flags)


class DevPts:
    """The file system and the driver behind it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sb = SuperBlock(kernel, "devpts", DEVPTS_SUPER_MAGIC)
        self.root = PtsDir(self.sb, self.sb.next_ino(), stat.S_IFDIR | 0o755)
        self.sb.set_root(self.root)
        self.ptys: dict[int, PtyMaster] = {}  # by index

    def ptmx_open(self, task: Task, inode: Inode, path: Path | None, flags: int) -> File:
        """Open /dev/ptmx: make a new pair and open its master. Source: ``drivers/tty/pty.c:ptmx_open``."""
        index = next((each for each in range(MAX_PTYS) if each not in self.ptys), None)
        if index is None:
            raise KernelError(Errno.ENOSPC)
        number = UNIX98_PTY_SLAVE_MAJOR + index // _MINORS, index % _MINORS
        master = PtyMaster(self, index, makedev(TTYAUX_MAJOR, PTMX_MINOR))
        slave = PtySlave(self, index, makedev(*number))
        master.link, slave.link = slave, master
        file = tty_open(task, master, inode, path, flags, noctty=True)
        self.ptys[index] = master
        self.kernel.chrdevs.add(number, "", 0, slave.open_file)
        node = RamSpecial(self.sb, _FIRST_INO + index, stat.S_IFCHR | _SLAVE_MODE, task.cred.fsuid, _TTY_GID, slave.dev)
        node.atime_ns = node.mtime_ns = node.ctime_ns = node.btime_ns = current_time(self.kernel)
        self.root.entries[b"%d" % index] = node
        return file

    def kill(self, index: int) -> None:
        """The pair is gone. Source: ``devpts_pty_kill``, ``devpts_kill_index``."""
        del self.ptys[index]
        del self.kernel.chrdevs.table[UNIX98_PTY_SLAVE_MAJOR + index // _MINORS, index % _MINORS]
        self.root.entries.pop(b"%d" % index).drop_nlink()

    def open_peer(self, task: Task, master: PtyMaster, flags: int) -> int:
        """A descriptor of the slave, whatever /dev looks like (TIOCGPTPEER). Source: ``ptm_open_peer``."""
        flags = task.arch.open_flags(flags)
        inode = self.root.entries[b"%d" % master.index]
        mount = next((each for each in self.kernel.mounts.mounts if each.sb is self.sb), None)
        path = None
        if mount is not None:
            dentry = mount.root.lookup(task, b"%d" % master.index)
            path = Path(mount, dentry) if dentry is not None else None
        file = master.link.open_file(task, inode, path, flags & ~OpenFlag.CLOEXEC)
        assert task.files is not None
        try:
            return task.files.alloc_fd(task, file, cloexec=bool(flags & OpenFlag.CLOEXEC))
        except KernelError:
            file.fput()
            raise


def register_ptys(kernel: Kernel) -> DevPts:
    """Make the driver and its file system, to be mounted at /dev/pts (``unix98_pty_init``)."""
    driver = DevPts(kernel)
    kernel.chrdevs.add((TTYAUX_MAJOR, PTMX_MINOR), "ptmx", 0o666, driver.ptmx_open)
    return driver
