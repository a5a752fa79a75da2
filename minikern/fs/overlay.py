"""The root file system: a directory of the host that is only read, and in memory everything that was changed.

Mirrors the idea of ``fs/overlayfs``, not its code: nothing is ever copied up. An inode knows where it is on the host
(`Lower`) and says of itself what the host says of the file, at every look-up anew, until something about it changes.
From then on it is pinned under its name in memory and its attributes are its own. A changed file is its dirty pages
over the host's file; they are never written back. A directory is its changed names, and holes where names were removed,
over the host's directory. Everything is gone when the machine is. Hard links of the host are one inode, since inodes
are known by the host's device and number.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from minikern.fs.inode import Inode, mode_dt
from minikern.fs.kstat import Kstat
from minikern.fs.ramfs import RamDir, RamInode, RamSpecial, RamSuper, RamSymlink
from minikern.fs.regular import LayeredInode
from minikern.fs.super import Kstatfs
from minikern.host.files import HostDir, HostFile, HostTree
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.filemap import AddressSpace

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

OVERLAYFS_SUPER_MAGIC = 0x794C7630
MIN_CACHED_INODES = 10_000  # so many are kept before the first are forgotten
_DIR_BYTES = 4096
_FIRST_OWN_INO = 1 << 40  # beyond the numbers of the host's file systems


class OverlaySuper(RamSuper):
    """The host's tree with changes in memory."""

    dir_size = _DIR_BYTES
    dirent_size = 0

    def __init__(self, kernel: Kernel, root: bytes) -> None:
        tree = HostTree(root)
        st = tree.root.stat()
        super().__init__(kernel, "overlay", dev=st.st_dev)
        self.magic = OVERLAYFS_SUPER_MAGIC
        self.last_ino = _FIRST_OWN_INO
        self.tree = tree
        self.inodes: dict[tuple[int, int], LowerInode] = {}  # by the host's device and inode number
        self.shrink_at = MIN_CACHED_INODES  # with so many inodes it is time to forget some
        self.set_root(OverlayDir(self, st, tree.root))

    def iget(self, directory: OverlayDir, name: bytes, st: os.stat_result) -> Inode:
        """The inode of the host's file ``name``. Source: ``fs/inode.c:iget5_locked``."""
        key = (st.st_dev, st.st_ino)
        inode = self.inodes.get(key)
        if inode is not None and inode.nlink and stat.S_IFMT(inode.mode) == stat.S_IFMT(st.st_mode):
            if not inode.own:
                if inode.above is not directory or inode.name != name:
                    inode.found(directory, name)
                if inode.ctime_ns != st.st_ctime_ns or inode.atime_ns != st.st_atime_ns:
                    inode.follow(st)
            return inode
        match stat.S_IFMT(st.st_mode):
            case stat.S_IFREG:
                inode = OverlayFile(self, st)
            case stat.S_IFDIR:
                assert directory.lower is not None
                inode = OverlayDir(self, st, HostDir(self.tree, directory.lower, name))
            case stat.S_IFLNK:
                inode = OverlaySymlink(self, st)
            case _:
                inode = OverlaySpecial(self, st)
        inode.found(directory, name)
        self.inodes[key] = inode
        return inode

    def shrink(self) -> None:
        """Forget files that nobody uses and nothing was changed about. Source: ``fs/dcache.c:shrink_dcache_sb``.

        To be called where nobody holds a file that was looked up but not yet opened.
        """
        todo = [self.root]
        for directory in todo:
            for name, child in list(directory.children.items()):
                inode = child.inode
                if isinstance(inode, OverlayDir):
                    todo.append(child)
                elif isinstance(inode, LowerInode) and not inode.own and not inode.i_count and not child.mounted:
                    if inode.mapping is None or not inode.mapping.pages:
                        del directory.children[name]
                        self.inodes.pop((inode.dev, inode.ino), None)
        self.shrink_at = max(MIN_CACHED_INODES, 2 * len(self.inodes))

    def statfs(self) -> Kstatfs:
        """As the host's file system, with as much room as there is memory."""
        host = self.tree.root.statvfs()
        return Kstatfs(
            self.magic,
            bsize=host.f_bsize,
            blocks=host.f_blocks,
            bfree=host.f_bfree,
            bavail=host.f_bavail,
            files=host.f_files,
            ffree=host.f_ffree,
            fsid=host.f_fsid,
            namelen=host.f_namemax,
            frsize=host.f_frsize,
        )


class LowerInode(RamInode):
    """An inode that came from the host."""

    sb: OverlaySuper

    def __init__(self, sb: OverlaySuper, st: os.stat_result) -> None:
        super().__init__(sb, st.st_ino, st.st_mode)
        self.dev = st.st_dev  # the host's number of the file system it is on
        self.above: OverlayDir | None = None  # the directory in which it was found last; None: the root
        self.name = b""  # what it is called there
        self.own = False  # something about it was changed: it no longer follows the host
        LowerInode.follow(self, st)

    def found(self, directory: OverlayDir, name: bytes) -> None:
        """It is called ``name`` in ``directory`` on the host."""
        self.above = directory
        self.name = name

    def follow(self, st: os.stat_result) -> None:
        """Be what the host says."""
        self.mode = st.st_mode
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.nlink = st.st_nlink
        self.size = st.st_size
        self.rdev = st.st_rdev
        self.blksize = st.st_blksize
        self.atime_ns = st.st_atime_ns
        self.mtime_ns = st.st_mtime_ns
        self.ctime_ns = st.st_ctime_ns
        self.host_blocks = st.st_blocks

    def lower_stat(self) -> os.stat_result | None:
        """What the host says now; None: it is gone there."""
        if self.above is None or self.above.lower is None:
            return None
        return self.above.lower.lookup(self.name)

    def refresh(self) -> None:
        """Look at the host again, unless it no longer matters."""
        if not self.own:
            st = self.lower_stat()
            if st is not None and st.st_ino == self.ino:
                self.follow(st)

    def getattr(self, task: Task) -> Kstat:
        """What stat(2) says: what the host says now, or what was changed."""
        self.refresh()
        return super().getattr(task)

    def device(self) -> int:
        """The number of the host's file system."""
        return self.dev

    def birth_ns(self) -> int | None:
        """When it was made on the host."""
        host, name = self._host_name()
        return host.birth_ns(name)

    def blocks(self) -> int:
        """512-byte blocks on the host."""
        return self.host_blocks

    def mark_dirty(self) -> None:
        """Stop following the host, and stay under this name whatever happens there."""
        if self.own:
            return
        self.refresh()
        self.own = True
        if self.above is not None:
            self.above.entries.setdefault(self.name, self)

    def listxattr(self, task: Task) -> list[bytes]:
        """The host's, until one is changed."""
        self._load_xattrs()
        return super().listxattr(task)

    def getxattr(self, task: Task, name: bytes) -> bytes:
        """The host's, until one is changed."""
        self._load_xattrs()
        return super().getxattr(task, name)

    def setxattr(self, task: Task, name: bytes, value: bytes | None) -> None:
        """In memory only."""
        self._load_xattrs()
        super().setxattr(task, name, value)

    def _load_xattrs(self) -> None:
        if self.xattrs is not None and self.own:
            return
        host, name = self._host_name()
        try:
            self.xattrs = {each: host.getxattr(name, each) for each in host.listxattr(name)}
        except KernelError:  # unreadable, or the host's file system has none
            self.xattrs = {}

    def _host_name(self) -> tuple[HostDir, bytes | None]:
        """Where it is on the host: a name in a directory."""
        if self.above is None or self.above.lower is None:
            raise KernelError(Errno.ESTALE)
        return self.above.lower, self.name


class OverlaySymlink(LowerInode, RamSymlink):
    """A symbolic link of the host."""

    def get_link(self, task: Task) -> bytes:
        """Where it points; a link never changes."""
        if not self.target:
            host, name = self._host_name()
            assert name is not None
            self.target = host.readlink(name)
        return self.target


class OverlaySpecial(LowerInode, RamSpecial):
    """A FIFO, socket or device node of the host: shown as it is; opened, it means what it means in this machine."""


class UpperMapping(AddressSpace):
    """The changed pages of a file of the host: memory is where they stay."""

    __slots__ = ()

    def writeback(self, start: int = 0, end: int = 0) -> None:
        """Nothing is ever written to the host."""


class OverlayFile(LowerInode, LayeredInode):
    """A regular file of the host."""

    mapping: UpperMapping

    def __init__(self, sb: OverlaySuper, st: os.stat_result) -> None:
        super().__init__(sb, st)
        self.mapping = UpperMapping(sb.kernel, self, backed=True)
        self.host: HostFile | None = None  # the host's file, while it is open here
        self.lower_size = 0  # so many bytes of the host's file count, once it does not follow the host

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Open the host's file as well, so that it stays the same even if its name is given to another one."""
        if self.host is None and (not self.own or self.lower_size):
            self._open_host()
        return super().open(task, path, flags)

    def last_file_released(self) -> None:
        """Nobody needs the host's file now."""
        self.host = None

    def follow(self, st: os.stat_result) -> None:
        """Be what the host says; what was cached of other contents is forgotten."""
        if self.mapping.pages and (st.st_mtime_ns, st.st_size) != (self.mtime_ns, self.size):
            self.mapping.invalidate()
        super().follow(st)

    def lower_stat(self) -> os.stat_result | None:
        """The open file knows best."""
        return self.host.stat() if self.host is not None else super().lower_stat()

    def mark_dirty(self) -> None:
        """Stop following the host."""
        if not self.own:
            super().mark_dirty()
            self.lower_size = self.size

    def read_below(self, pos: int, count: int) -> bytes:
        """From the host's file."""
        if self.own:
            count = min(count, self.lower_size - pos)
            if count <= 0:
                return b""
        if self.host is None:
            self._open_host()
            assert self.host is not None
        return self.host.pread(count, pos)

    def read_at(self, pos: int, count: int) -> bytes:
        """Straight from the host as long as nothing is cached."""
        if self.own or self.mapping.pages:
            return super().read_at(pos, count)
        return self.read_below(pos, count)

    def truncate(self, size: int) -> None:
        """What is cut off never comes back from the host."""
        self.mark_dirty()
        self.lower_size = min(self.lower_size, size)
        super().truncate(size)

    def punch_hole(self, pos: int, length: int) -> None:
        """Pages of zeros hide what the host has there."""
        self.write_at(pos, bytes(max(min(length, self.size - pos), 0)))

    def blocks(self) -> int:
        """The host's, or those that the contents would take without holes."""
        return (self.size + 4095) // 4096 * 8 if self.own and self.mapping.dirty else self.host_blocks

    def note_read(self) -> None:
        """The host keeps its own account of who read."""

    def _open_host(self) -> None:
        host, name = self._host_name()
        assert name is not None
        self.host = host.open(name, os.O_RDONLY)


class OverlayDir(LowerInode, RamDir):
    """A directory of the host: its changed names over the host's."""

    sb: OverlaySuper

    def __init__(self, sb: OverlaySuper, st: os.stat_result, lower: HostDir) -> None:
        super().__init__(sb, st)
        self.lower = lower  # the directory on the host

    def found(self, directory: OverlayDir, name: bytes) -> None:
        """It is called ``name`` in ``directory`` on the host, and its handle must know."""
        super().found(directory, name)
        assert directory.lower is not None
        self.lower.moved(directory.lower, name)

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """A changed name, or what the host has."""
        if name in self.entries:
            return self.entries[name]
        st = self.lower.lookup(name)
        return self.sb.iget(self, name, st) if st is not None else None

    def lower_stat(self) -> os.stat_result | None:
        """What the host says now."""
        return self.lower.stat()

    def is_empty(self) -> bool:
        """Whether neither the host nor memory has a name in it."""
        if any(inode is not None for inode in self.entries.values()):
            return False
        return all(name in self.entries for _, _, name in self.lower.scan())

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """The host's names in the host's order, then those that are new."""
        if len(self.sb.inodes) >= self.sb.shrink_at:
            self.sb.shrink()
        listed = []
        new = dict(self.entries)
        for entry in self.lower.scan():
            name = entry[2]
            if name not in new:
                listed.append(entry)
            elif (inode := new.pop(name)) is not None:
                listed.append((inode.ino, mode_dt(inode.mode), name))
        listed += [(inode.ino, mode_dt(inode.mode), name) for name, inode in new.items() if inode is not None]
        return listed

    def _forget(self, name: bytes) -> None:
        if self.lower.lookup(name) is not None:
            self.entries[name] = None
        else:
            del self.entries[name]

    def _host_name(self) -> tuple[HostDir, bytes | None]:
        return self.lower, None
