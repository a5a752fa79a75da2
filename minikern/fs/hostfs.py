"""Directories and files of the host that the guest sees as they are (``--bind``).

Mirrors ``fs/hostfs``. Every change goes to the host at once; of the contents only what is mapped is kept in pages, which
writes bring up to date and which msync, fsync, unmapping and closing bring home. No name and no link of the guest leads
out of what was bound, see `minikern.host.files`. The host decides as well who may do what: its answer is passed on.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from minikern.fs.attr import Attr, Iattr
from minikern.fs.file import File, OpenFlag
from minikern.fs.inode import Inode
from minikern.fs.kstat import Kstat
from minikern.fs.ramfs import inode_init_owner
from minikern.fs.regular import LayeredInode
from minikern.fs.super import Kstatfs, SuperBlock
from minikern.host.files import HostDir, HostFile, HostTree
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.filemap import AddressSpace

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

HOSTFS_SUPER_MAGIC = 0x00C0FFEE
_NO_ID = -1


class HostfsSuper(SuperBlock):
    """A directory or a file of the host."""

    def __init__(self, kernel: Kernel, source: bytes) -> None:
        self.inodes: dict[tuple[int, int], HostInode] = {}  # by the host's device and inode number
        single = not os.path.isdir(source)
        directory, name = os.path.split(os.path.realpath(source)) if single else (source, b"")
        self.tree = HostTree(directory)
        st = self.tree.root.lookup(name) if single else self.tree.root.stat()
        if st is None:
            raise KernelError(Errno.ENOENT)
        super().__init__(kernel, "hostfs", HOSTFS_SUPER_MAGIC, st.st_dev)
        top = HostfsDir(self, self.tree.root.stat(), self.tree.root)
        self.set_root(self.iget(top, name, st) if single else top)

    def iget(self, directory: HostfsDir, name: bytes, st: os.stat_result) -> HostInode:
        """The inode of the host's file ``name``."""
        key = (st.st_dev, st.st_ino)
        inode = self.inodes.get(key)
        if inode is None or stat.S_IFMT(inode.mode) != stat.S_IFMT(st.st_mode):
            match stat.S_IFMT(st.st_mode):
                case stat.S_IFREG:
                    inode = HostfsFile(self, st)
                case stat.S_IFDIR:
                    inode = HostfsDir(self, st, HostDir(self.tree, directory.lower, name))
                case _:
                    inode = HostInode(self, st)
            self.inodes[key] = inode
        inode.found(directory, name)
        inode.follow(st)
        return inode

    def statfs(self) -> Kstatfs:
        """As the host's file system."""
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

    def sync_fs(self) -> None:
        """Bring every dirty page home."""
        for inode in self.inodes.values():
            inode.fsync()


class HostInode(Inode):
    """A file of the host; of this class itself: a symbolic link or a special file."""

    sb: HostfsSuper

    def __init__(self, sb: HostfsSuper, st: os.stat_result) -> None:
        super().__init__(sb, st.st_ino, st.st_mode)
        self.dev = st.st_dev  # the host's number of the file system it is on
        self.above: HostfsDir | None = None  # the directory in which it was found last; None: the root
        self.name = b""  # what it is called there
        self.host_blocks = 0  # of 512 bytes, as the host says
        HostInode.follow(self, st)

    def found(self, directory: HostfsDir, name: bytes) -> None:
        """It is called ``name`` in ``directory``."""
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

    def place(self) -> tuple[HostDir, bytes | None]:
        """Where it is on the host: a name in a directory, or the directory itself."""
        assert self.above is not None
        return self.above.lower, self.name

    def host_stat(self) -> os.stat_result | None:
        """What the host says now; None: the name is gone."""
        host, name = self.place()
        return host.lookup(name) if name is not None else host.stat()

    def refresh(self) -> None:
        """Look at the host again."""
        st = self.host_stat()
        if st is not None and st.st_ino == self.ino:
            self.follow(st)

    def getattr(self, task: Task) -> Kstat:
        """What the host says."""
        self.refresh()
        return super().getattr(task)

    def device(self) -> int:
        """The number of the host's file system."""
        return self.dev

    def birth_ns(self) -> int | None:
        """When it was made on the host."""
        host, name = self.place()
        return host.birth_ns(name)

    def blocks(self) -> int:
        """512-byte blocks on the host."""
        return self.host_blocks

    def get_link(self, task: Task) -> bytes:
        """Where the host's symbolic link points; followed in the guest's tree."""
        host, name = self.place()
        assert name is not None
        return host.readlink(name)

    def open(self, task: Task, path: Path, flags: int) -> File:
        """A FIFO of the host works within the machine; sockets and devices of the host stay out of reach."""
        if stat.S_ISFIFO(self.mode):
            from minikern.fs.pipe import fifo_open

            return fifo_open(task, self, path, flags)
        raise KernelError(Errno.ENXIO)

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Change the host's file."""
        host, name = self.place()
        if attr.valid & Attr.SIZE:
            self.truncate(attr.size)
        if attr.valid & (Attr.UID | Attr.GID):
            uid = attr.uid if attr.valid & Attr.UID else _NO_ID
            gid = attr.gid if attr.valid & Attr.GID else _NO_ID
            host.chown(name, uid, gid)
        if attr.valid & Attr.MODE:
            host.chmod(name, stat.S_IMODE(attr.mode))
        if attr.valid & (Attr.ATIME | Attr.MTIME):
            self.refresh()
            atime_ns = attr.atime_ns if attr.valid & Attr.ATIME else self.atime_ns
            mtime_ns = attr.mtime_ns if attr.valid & Attr.MTIME else self.mtime_ns
            host.utimens(name, atime_ns, mtime_ns)
        self.refresh()

    def listxattr(self, task: Task) -> list[bytes]:
        """The host's."""
        host, name = self.place()
        return host.listxattr(name)

    def getxattr(self, task: Task, name: bytes) -> bytes:
        """The host's."""
        host, place = self.place()
        return host.getxattr(place, name)

    def setxattr(self, task: Task, name: bytes, value: bytes | None) -> None:
        """The host's."""
        host, place = self.place()
        host.setxattr(place, name, value)


class HostfsFile(HostInode, LayeredInode):
    """A regular file of the host; ``mapping`` holds what is mapped of it."""

    mapping: AddressSpace

    def __init__(self, sb: HostfsSuper, st: os.stat_result) -> None:
        super().__init__(sb, st)
        self.mapping = AddressSpace(sb.kernel, self, backed=True)
        self.host: HostFile | None = None  # the host's file, while it is open here
        self.writable = False  # … and whether it is open for writing

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Open the host's file too, for writing as well once somebody wants to write."""
        writing = flags & OpenFlag.ACCMODE != OpenFlag.RDONLY
        if self.host is None or (writing and not self.writable):
            self._open_host(writing)
        return super(HostInode, self).open(task, path, flags)

    def _open_host(self, writing: bool) -> None:
        host, name = self.place()
        assert name is not None
        try:
            self.host = host.open(name, os.O_RDWR if writing else os.O_RDONLY)
        except KernelError as error:
            if not writing or error.errno != Errno.EACCES:
                raise
            self.host = host.open(name, os.O_WRONLY)
        self.writable = writing

    def last_file_released(self) -> None:
        """Bring home what was stored through mappings, then let go of the host's file."""
        self.mapping.writeback()
        self.host = None
        self.writable = False

    def follow(self, st: os.stat_result) -> None:
        """Be what the host says; what was cached of other contents is forgotten."""
        if self.mapping.pages and (st.st_mtime_ns, st.st_size) != (self.mtime_ns, self.size):
            self.mapping.invalidate()
        super().follow(st)

    def host_stat(self) -> os.stat_result | None:
        """The open file knows best."""
        return self.host.stat() if self.host is not None else super().host_stat()

    def _file(self) -> HostFile:
        if self.host is None:
            self._open_host(writing=False)
            assert self.host is not None
        return self.host

    def read_below(self, pos: int, count: int) -> bytes:
        """From the host's file."""
        return self._file().pread(count, pos)

    def read_at(self, pos: int, count: int) -> bytes:
        """Straight from the host as long as nothing was stored through a mapping."""
        if self.mapping.dirty:
            return super().read_at(pos, count)
        return self.read_below(pos, count)

    def write_at(self, pos: int, data: bytes | memoryview) -> int:
        """To the host, and to the pages that show the same place."""
        done = self._file().pwrite(data, pos)
        self.mapping.update(pos, data[:done])
        self._changed_here()
        return done

    def write_page(self, index: int, data: bytes) -> None:
        """A page that was stored to through a mapping comes home."""
        self._file().pwrite(data, index << 12)
        self._changed_here()

    def _changed_here(self) -> None:
        """What just changed on the host was our doing: nothing that is cached is out of date."""
        HostInode.follow(self, self._file().stat())

    def truncate(self, size: int) -> None:
        """Cut or enlarge the host's file."""
        if not self.writable:
            self._open_host(writing=True)
        self._file().truncate(size)
        self.mapping.truncate(size)
        self._changed_here()
        if not self.i_count:
            self.last_file_released()

    def allocate(self, pos: int, length: int) -> None:
        """Make room on the host."""
        self._file().fallocate(pos, length)
        self._changed_here()

    def punch_hole(self, pos: int, length: int) -> None:
        """Zeros."""
        self.write_at(pos, bytes(max(min(length, self.size - pos), 0)))

    def note_read(self) -> None:
        """The host keeps its own account of who read."""

    def blocks(self) -> int:
        """512-byte blocks on the host."""
        return self.host_blocks

    def fsync(self) -> None:
        """Bring mapped pages home, and have the host do the same."""
        self.mapping.writeback()
        if self.writable:
            self._file().sync()


class HostfsDir(HostInode):
    """A directory of the host."""

    def __init__(self, sb: HostfsSuper, st: os.stat_result, lower: HostDir) -> None:
        super().__init__(sb, st)
        self.lower = lower

    def found(self, directory: HostfsDir, name: bytes) -> None:
        """It is called ``name`` in ``directory``, and its handle must know."""
        super().found(directory, name)
        self.lower.moved(directory.lower, name)

    def place(self) -> tuple[HostDir, bytes | None]:
        """The directory itself."""
        return self.lower, None

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """What the host has."""
        st = self.lower.lookup(name)
        return self.sb.iget(self, name, st) if st is not None else None

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """The host's names in the host's order."""
        return self.lower.scan()

    def _made(self, task: Task, name: bytes, mode: int) -> Inode:
        """A new file: give it the owner and the mode that the guest means, as far as the host lets us."""
        mode, gid = inode_init_owner(task, self, mode)
        inode = self.lookup(task, name)
        if inode is None:
            raise KernelError(Errno.ENOENT)
        if (inode.uid, inode.gid) != (task.cred.fsuid, gid):
            try:
                self.lower.chown(name, task.cred.fsuid, gid)
            except KernelError:  # an ordinary user of the host owns what it makes
                pass
        if not stat.S_ISLNK(mode) and stat.S_IMODE(inode.mode) != stat.S_IMODE(mode):
            self.lower.chmod(name, stat.S_IMODE(mode))
        self.refresh()
        inode = self.lookup(task, name)
        if inode is None:
            raise KernelError(Errno.ENOENT)
        return inode

    def create(self, task: Task, name: bytes, mode: int, rdev: int = 0) -> Inode:
        """On the host; devices are none of the guest's business there."""
        if stat.S_ISREG(mode):
            self.lower.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IMODE(mode))
        elif stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            self.lower.mknod(name, mode, 0)
        else:
            raise KernelError(Errno.EPERM)
        return self._made(task, name, mode)

    def mkdir(self, task: Task, name: bytes, mode: int) -> Inode:
        """On the host."""
        self.lower.mkdir(name, stat.S_IMODE(mode))
        return self._made(task, name, stat.S_IFDIR | mode)

    def symlink(self, task: Task, name: bytes, target: bytes) -> Inode:
        """On the host."""
        self.lower.symlink(target, name)
        return self._made(task, name, stat.S_IFLNK | 0o777)

    def link(self, task: Task, inode: Inode, name: bytes) -> None:
        """On the host."""
        assert isinstance(inode, HostInode)
        host, old_name = inode.place()
        assert old_name is not None
        host.link(old_name, self.lower, name)
        inode.refresh()
        self.refresh()

    def unlink(self, task: Task, name: bytes, inode: Inode) -> None:
        """On the host."""
        self.lower.unlink(name)
        inode.nlink = max(inode.nlink - 1, 0)
        self.refresh()
        self._forget(inode)

    def rmdir(self, task: Task, name: bytes, inode: Inode) -> None:
        """On the host."""
        self.lower.rmdir(name)
        inode.nlink = 0
        self.refresh()
        self._forget(inode)

    def _forget(self, inode: Inode) -> None:
        """The host may give the number to another file once nobody has it open."""
        assert isinstance(inode, HostInode)
        if inode.nlink == 0:
            self.sb.inodes.pop((inode.dev, inode.ino), None)
            if inode.i_count == 0:
                inode.evict()

    def rename(
        self,
        task: Task,
        name: bytes,
        inode: Inode,
        new_dir: Inode,
        new_name: bytes,
        target: Inode | None,
        *,
        exchange: bool,
    ) -> None:
        """On the host, which has no call to swap two names that could be used here."""
        assert isinstance(new_dir, HostfsDir) and isinstance(inode, HostInode)
        if exchange:
            raise KernelError(Errno.EINVAL)
        self.lower.rename(name, new_dir.lower, new_name)
        inode.found(new_dir, new_name)
        if target is not None:
            target.nlink = 0 if stat.S_ISDIR(target.mode) else max(target.nlink - 1, 0)
            self._forget(target)
        self.refresh()
        new_dir.refresh()
