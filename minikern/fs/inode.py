"""Inodes: what a file is, whatever it is called.

Mirrors ``fs/inode.c``, ``include/linux/fs.h:struct inode`` and ``struct inode_operations``. Operations are methods; a
file system overrides those it has, the others fail as a missing operation fails in Linux. An inode that nobody has
open and that has no name left is evicted at once: there is no inode cache beside the one that its file system keeps.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SIZE
from minikern.fs.attr import ATTR_TIMES, Attr, Iattr
from minikern.fs.fsnotify import In, fsnotify_file, fsnotify_inoderemove
from minikern.fs.kstat import Kstat
from minikern.kernel.errno import Errno, KernelBug, KernelError

if TYPE_CHECKING:
    from minikern.fs.file import File, FilesStruct
    from minikern.fs.locks import FileLockContext
    from minikern.fs.path import Path
    from minikern.fs.pipe import Pipe
    from minikern.fs.super import SuperBlock
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.mm.filemap import AddressSpace

S_IALLUGO = 0o7777  # every bit of the mode that chmod can set
S_IRWXUGO = 0o777


class Inode:
    """One file of any type (``struct inode``)."""

    __slots__ = (
        "atime_ns",
        "blksize",
        "btime_ns",
        "ctime_ns",
        "flock_ctx",
        "gid",
        "i_count",
        "i_writecount",
        "ino",
        "linkable",
        "mapping",
        "mode",
        "mtime_ns",
        "nlink",
        "pipe",
        "rdev",
        "sb",
        "size",
        "uid",
        "xattrs",
    )

    fastperm = True  # whether the mode bits alone decide who may search a directory (``IOP_FASTPERM``)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0, rdev: int = 0) -> None:
        self.sb = sb
        self.ino = ino
        self.mode = mode  # type and permissions, as st_mode
        self.uid = uid
        self.gid = gid
        self.nlink = 1
        self.size = 0  # bytes
        self.rdev = rdev  # of a device special file, as `makedev` packs it
        self.blksize = PAGE_SIZE  # preferred size for I/O
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.btime_ns = 0  # since 1970
        self.mapping: AddressSpace | None = None  # the page cache of a regular file
        self.pipe: Pipe | None = None  # what runs through a FIFO or pipe while somebody has it open
        self.linkable = False  # has no name, but may be given one (O_TMPFILE)
        self.i_count = 0  # files open on it, and whoever holds it for a moment
        self.i_writecount = 0  # > 0: open for writing so often; < 0: executed so often
        self.xattrs: dict[bytes, bytes] | None = None  # extended attributes kept in memory; None: never had one
        self.flock_ctx: FileLockContext | None = None  # locks of any kind; None: never had one

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ino} {stat.filemode(self.mode)}>"

    # struct inode_operations of directories

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """The inode called ``name`` in this directory now; the same object as long as it is the same file."""
        raise KernelError(Errno.ENOTDIR)

    def create(self, task: Task, name: bytes, mode: int, rdev: int = 0) -> Inode:
        """Make a file of the type in ``mode`` that is no directory and no link (``create`` and ``mknod``)."""
        raise KernelError(Errno.EACCES)

    def mkdir(self, task: Task, name: bytes, mode: int) -> Inode:
        """Make a directory."""
        raise KernelError(Errno.EPERM)

    def symlink(self, task: Task, name: bytes, target: bytes) -> Inode:
        """Make a symbolic link."""
        raise KernelError(Errno.EPERM)

    def tmpfile(self, task: Task, mode: int) -> Inode:
        """Make a regular file without a name (O_TMPFILE)."""
        raise KernelError(Errno.EOPNOTSUPP)

    def link(self, task: Task, inode: Inode, name: bytes) -> None:
        """Give ``inode`` another name."""
        raise KernelError(Errno.EPERM)

    def unlink(self, task: Task, name: bytes, inode: Inode) -> None:
        """Remove the name of ``inode``, which is no directory."""
        raise KernelError(Errno.EPERM)

    def rmdir(self, task: Task, name: bytes, inode: Inode) -> None:
        """Remove the directory ``inode``; ENOTEMPTY."""
        raise KernelError(Errno.EPERM)

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
        """Move ``inode`` over ``target``, or swap the two. The types have been compared, emptiness has not."""
        raise KernelError(Errno.EPERM)

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """(ino, DT_*, name) of everything in this directory but ``.`` and ``..``."""
        raise KernelError(Errno.ENOTDIR)

    # struct inode_operations of any type

    def get_link(self, task: Task) -> bytes | Path:
        """Where a symbolic link leads: a name, or with a magic link of /proc the place itself."""
        raise KernelError(Errno.EINVAL)

    def readlink(self, task: Task) -> bytes:
        """What readlink(2) says of a symbolic link."""
        target = self.get_link(task)
        if not isinstance(target, bytes):
            raise KernelBug(f"{self!r} is a magic link without a text")
        return target

    def getattr(self, task: Task) -> Kstat:
        """What stat(2) says. Source: ``fs/stat.c:generic_fillattr``."""
        return Kstat(
            dev=self.device(),
            ino=self.ino,
            mode=self.mode,
            nlink=self.nlink,
            uid=self.uid,
            gid=self.gid,
            rdev=self.rdev,
            size=self.size,
            blksize=self.blksize,
            blocks=self.blocks(),
            atime_ns=self.atime_ns,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
        )

    def birth_ns(self) -> int | None:
        """When it was made, in ns since 1970; None: nobody knows."""
        return self.btime_ns or None

    def device(self) -> int:
        """The device number that stat(2) shows."""
        return self.sb.dev

    def blocks(self) -> int:
        """512-byte blocks in use."""
        return 0

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Change what ``attr`` says; permissions have been checked. Source: ``fs/attr.c:setattr_copy``."""
        if attr.valid & Attr.SIZE:
            self.truncate(attr.size)
        self.mark_dirty()
        if attr.valid & Attr.UID:
            self.uid = attr.uid
        if attr.valid & Attr.GID:
            self.gid = attr.gid
        if attr.valid & Attr.MODE:
            self.mode = stat.S_IFMT(self.mode) | attr.mode & S_IALLUGO
        if attr.valid & ATTR_TIMES:
            if attr.valid & Attr.ATIME:
                self.atime_ns = attr.atime_ns
            if attr.valid & Attr.MTIME:
                self.mtime_ns = attr.mtime_ns
        self.ctime_ns = current_time(self.sb.kernel)

    def mark_dirty(self) -> None:
        """It is about to differ from what its file system found. Source: ``fs/fs-writeback.c:__mark_inode_dirty``."""

    def truncate(self, size: int) -> None:
        """Make a regular file ``size`` bytes long."""
        raise KernelError(Errno.EINVAL)

    def permission(self, task: Task, mask: int) -> None:
        """A file system's own idea of who may do what; EACCES. None: the mode bits decide."""
        from minikern.fs.permission import generic_permission

        generic_permission(task, self, mask)

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Open; permissions have been checked. Sockets and devices without a driver: ENXIO."""
        if stat.S_ISFIFO(self.mode):  # a pipe, by its name in /proc
            from minikern.fs.pipe import fifo_open

            return fifo_open(task, self, None, flags)
        raise KernelError(Errno.ENXIO)

    def listxattr(self, task: Task) -> list[bytes]:
        """Names of the extended attributes."""
        return []

    def getxattr(self, task: Task, name: bytes) -> bytes:
        """Value of an extended attribute; ENODATA."""
        raise KernelError(Errno.EOPNOTSUPP)

    def setxattr(self, task: Task, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or remove it with None (ENODATA when there is none)."""
        raise KernelError(Errno.EOPNOTSUPP)

    def fsync(self) -> None:
        """Bring what was written to where it stays."""

    def evict(self) -> None:
        """Nobody can reach the inode any more: free what it holds (``s_op->evict_inode``)."""
        fsnotify_inoderemove(self)
        if self.mapping is not None:
            self.mapping.evict()

    # references

    def file_released(self, file: File) -> None:
        """The last reference to a file on this inode is gone. Source: ``fs/file_table.c:__fput``."""
        from minikern.fs.file import FMode

        if not file.f_mode & FMode.PATH:
            fsnotify_file(file, In.CLOSE_WRITE if file.f_mode & FMode.WRITE else In.CLOSE_NOWRITE)
        if self.flock_ctx is not None:
            self.flock_ctx.remove_file(file)
        if file.f_mode & FMode.WRITER:
            self.put_write_access()
        self.iput()

    def remove_posix_locks(self, files: FilesStruct) -> None:
        """The record locks that a process holds go at any close. Source: ``fs/locks.c:locks_remove_posix``."""
        if self.flock_ctx is not None:
            self.flock_ctx.remove_posix(files)

    def ihold(self) -> None:
        """Keep it from being evicted for a moment (``ihold``)."""
        self.i_count += 1

    def iput(self) -> None:
        """One reference less. Source: ``fs/inode.c:iput``."""
        self.i_count -= 1
        if self.i_count < 0:
            raise KernelBug(f"{self!r} released more often than it was opened")
        if self.i_count == 0:
            self.last_file_released()
            if self.nlink == 0:
                self.evict()

    def last_file_released(self) -> None:
        """Nothing is open on the inode now."""

    def drop_nlink(self) -> None:
        """One name less. Source: ``fs/inode.c:drop_nlink``."""
        self.mark_dirty()
        if self.nlink > 0:
            self.nlink -= 1
        self.ctime_ns = current_time(self.sb.kernel)
        if self.nlink == 0 and self.i_count == 0:
            self.evict()

    # who writes, who executes

    def get_write_access(self) -> None:
        """One writer more; ETXTBSY while it is executed. Source: ``include/linux/fs.h:get_write_access``."""
        if self.i_writecount < 0:
            raise KernelError(Errno.ETXTBSY)
        self.i_writecount += 1

    def put_write_access(self) -> None:
        """One writer less."""
        self.i_writecount -= 1

    def deny_write_access(self) -> None:
        """It is executed; ETXTBSY while somebody writes. Source: ``include/linux/fs.h:deny_write_access``."""
        if self.i_writecount > 0:
            raise KernelError(Errno.ETXTBSY)
        self.i_writecount -= 1

    def allow_write_access(self) -> None:
        """It is executed once less."""
        self.i_writecount += 1


def mode_dt(mode: int) -> int:
    """DT_* of a mode (``S_DT``)."""
    return (mode & 0o170000) >> 12


def current_time(kernel: Kernel) -> int:
    """Wall-clock nanoseconds for a time stamp. Source: ``fs/inode.c:current_time``."""
    return kernel.sources.realtime_ns()


def touch_atime(inode: Inode) -> None:
    """Note a read, as ``relatime`` does: once a day, or after a change. Source: ``fs/inode.c:relatime_need_update``."""
    now = current_time(inode.sb.kernel)
    if inode.atime_ns <= max(inode.mtime_ns, inode.ctime_ns) or now - inode.atime_ns >= _DAY_NS:
        inode.atime_ns = now


_DAY_NS = 24 * 3600 * 10**9
