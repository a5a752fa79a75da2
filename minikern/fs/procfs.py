"""What all of /proc has in common: directories, files and links that are made when somebody looks.

Mirrors ``fs/proc/generic.c``, ``fs/proc/root.c`` and ``fs/seq_file.c``. A file is a function that says what it shows at
the moment when it is read from its beginning. What there is to see is in `proc_base` (processes), `proc_misc` (the
machine) and `proc_sys` (settings).
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from minikern.fs.file import File, FMode
from minikern.fs.inode import Inode, current_time, mode_dt
from minikern.fs.path import Path
from minikern.fs.regular import MAX_LFS_FILESIZE, SEEK_CUR, SEEK_SET
from minikern.fs.super import SuperBlock
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.fs.attr import Iattr
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

PROC_SUPER_MAGIC = 0x9FA0

Show = Callable[["Task"], str | bytes]  # what a file shows to the task that reads it
Store = Callable[["Task", bytes], None]  # what writing to it does; KernelError(EINVAL) for what makes no sense


class ProcSuper(SuperBlock):
    """One /proc."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "proc", PROC_SUPER_MAGIC)


class ProcInode(Inode):
    """Anything in /proc; it is as old as the look at it."""

    __slots__ = ()

    def __init__(self, sb: SuperBlock, mode: int) -> None:
        super().__init__(sb, sb.next_ino(), mode)
        now = current_time(sb.kernel)
        self.atime_ns = self.mtime_ns = self.ctime_ns = now
        self.blksize = 1024

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Source: ``fs/proc/base.c:proc_setattr``."""
        raise KernelError(Errno.EPERM)

    # A name that is not there is an error already when it is looked up (``fs/proc/generic.c:proc_lookup_de``).

    def create(self, task: Task, name: bytes, mode: int, rdev: int = 0) -> Inode:
        raise KernelError(Errno.ENOENT)

    def mkdir(self, task: Task, name: bytes, mode: int) -> Inode:
        raise KernelError(Errno.ENOENT)

    def symlink(self, task: Task, name: bytes, target: bytes) -> Inode:
        raise KernelError(Errno.ENOENT)

    def link(self, task: Task, inode: Inode, name: bytes) -> None:
        raise KernelError(Errno.ENOENT)


class ProcDir(ProcInode):
    """A directory with entries that never change."""

    __slots__ = ("entries",)

    def __init__(self, sb: SuperBlock, mode: int = 0o555) -> None:
        super().__init__(sb, stat.S_IFDIR | mode)
        self.nlink = 2
        self.entries: dict[bytes, Inode] = {}

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/proc/generic.c:proc_lookup``."""
        return self.entries.get(name)

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Source: ``fs/proc/generic.c:proc_readdir``."""
        return [(inode.ino, mode_dt(inode.mode), name) for name, inode in self.entries.items()]

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)

    def mkdir_p(self, name: str) -> ProcDir:
        """The directory ``name`` below, made if need be (``proc_mkdir``)."""
        directory = self
        for part in name.split("/"):
            child = directory.entries.get(part.encode())
            if child is None:
                child = ProcDir(self.sb)
                directory.entries[part.encode()] = child
                directory.nlink += 1
            assert isinstance(child, ProcDir)
            directory = child
        return directory

    def add_file(self, name: str, show: Show, mode: int = 0o444, store: Store | None = None) -> None:
        """A file that shows what a function says (``proc_create``)."""
        self.entries[name.encode()] = ProcFile(self.sb, mode, show, store)

    def add_link(self, name: str, target: Show) -> None:
        """A symbolic link to wherever a function says (``proc_symlink``)."""
        self.entries[name.encode()] = ProcLink(self.sb, target)


class ProcFile(ProcInode):
    """A file that shows what a function says."""

    __slots__ = ("show", "store")

    def __init__(self, sb: SuperBlock, mode: int, show: Show, store: Store | None = None) -> None:
        super().__init__(sb, stat.S_IFREG | mode)
        self.show = show
        self.store = store

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/seq_file.c:single_open``."""
        return SeqFile(self, path, flags, self.show, self.store)

    def truncate(self, size: int) -> None:
        """Opening with O_TRUNC means nothing here."""

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Only O_TRUNC gets as far as this."""


class ProcLink(ProcInode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, sb: SuperBlock, target: Show) -> None:
        super().__init__(sb, stat.S_IFLNK | 0o777)
        self.target = target

    def get_link(self, task: Task) -> bytes | Path:
        """Where it leads, for this task."""
        return as_bytes(self.target(task))


class SeqFile(File):
    """An open file that shows what a function said when reading began (``struct seq_file``)."""

    __slots__ = ("data", "show", "store")

    def __init__(self, inode: Inode, path: Path | None, flags: int, show: Show, store: Store | None = None) -> None:
        super().__init__(inode, path, flags, FMode.LSEEK | FMode.PREAD | FMode.PWRITE)
        self.show = show
        self.store = store
        self.data: bytes | None = None  # what is being read

    def read(self, task: Task, count: int, pos: int) -> bytes:
        """Source: ``fs/seq_file.c:seq_read``."""
        if pos == 0 or self.data is None:
            self.data = as_bytes(self.show(task))
        return self.data[pos : pos + count]

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int:
        """Source: ``fs/proc/inode.c:proc_reg_write``."""
        if self.store is None:
            raise KernelError(Errno.EIO)
        self.store(task, bytes(data))
        return len(data)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Source: ``fs/seq_file.c:seq_lseek``."""
        if whence not in (SEEK_SET, SEEK_CUR):
            raise KernelError(Errno.EINVAL)
        pos = offset + self.f_pos if whence == SEEK_CUR else offset
        if not 0 <= pos <= MAX_LFS_FILESIZE:
            raise KernelError(Errno.EINVAL)
        self.f_pos = pos
        return pos


def as_bytes(text: str | bytes) -> bytes:
    """Text as the guest reads it."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def mangle(name: bytes, special: bytes = b" \t\n\\") -> str:
    """A name with blanks and the like as octal escapes. Source: ``fs/seq_file.c:mangle_path``."""
    return (
        "".join(f"\\{byte:03o}" if byte in special else chr(byte) for byte in name)
        .encode("latin-1")
        .decode(errors="surrogateescape")
    )
