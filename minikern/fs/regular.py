"""Regular files: contents that are a page cache over something else, or over nothing.

Mirrors the part of ``mm/filemap.c`` that read(2) and write(2) use. Pages that are not in the cache are read from below
without being put there: only mappings and writes fill it. What lies below is the business of the file system: nothing
(`ramfs`), a host file that is never changed (`overlay`) or one that follows every write (`hostfs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.fs.attr import file_remove_privs
from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.inode import Inode, current_time, touch_atime
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import send_sig
from minikern.mm.vma import VM_SHARED, VM_WRITE

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.kernel.task import Task
    from minikern.mm.filemap import AddressSpace
    from minikern.mm.vma import Vma

MAX_LFS_FILESIZE = (1 << 63) - 1

SEEK_SET = 0
SEEK_CUR = 1
SEEK_END = 2
SEEK_DATA = 3
SEEK_HOLE = 4


class RegularInode(Inode):
    """A regular file of any file system that keeps pages in memory."""

    __slots__ = ()

    mapping: AddressSpace

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``mm/filemap.c:generic_file_open``."""
        return RegularFile(self, path, flags)

    def read_at(self, pos: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``pos``; fewer at the end of the file only."""
        return self.mapping.read(pos, count)

    def write_at(self, pos: int, data: bytes | memoryview) -> int:
        """Store ``data`` at ``pos``; how much was stored."""
        self.mark_dirty()
        done = self.mapping.write(pos, data)
        self.mtime_ns = self.ctime_ns = current_time(self.sb.kernel)
        return done

    def truncate(self, size: int) -> None:
        """Make the file ``size`` bytes long. Source: ``mm/shmem.c:shmem_setattr``."""
        self.mark_dirty()
        self.mapping.truncate(size)
        self.mtime_ns = self.ctime_ns = current_time(self.sb.kernel)

    def allocate(self, pos: int, length: int) -> None:
        """Make room for a range; here room is made when it is used."""

    def punch_hole(self, pos: int, length: int) -> None:
        """Zeros in a range of the file. Source: ``mm/shmem.c:shmem_fallocate``."""
        self.mark_dirty()
        self.mapping.punch_hole(pos, min(pos + length, self.size))
        self.mtime_ns = self.ctime_ns = current_time(self.sb.kernel)

    def check_seals(self, *, write: bool = False, size: int | None = None) -> None:
        """EPERM when a seal forbids to write, or to change the size to ``size`` (memfd)."""

    def read_page(self, index: int) -> bytes:
        """What is below a page of the cache; nothing is (`PageCacheOwner`)."""
        return b""

    def write_page(self, index: int, data: bytes) -> None:
        """Store a page below the cache; there is nothing below (`PageCacheOwner`)."""

    def blocks(self) -> int:
        """512-byte blocks: those of the pages in memory."""
        return self.mapping.nr_pages * (PAGE_SIZE // 512)

    def note_read(self) -> None:
        """Somebody has read the file: its access time."""
        touch_atime(self)

    def refresh(self) -> None:
        """Find out the size before an append or a seek from the end; it is known."""


class LayeredInode(RegularInode):
    """A regular file whose pages, as far as there are any, lie over something else.

    What is not in the cache is read from below without being put there: only mappings and writes fill the cache.
    """

    __slots__ = ()

    def read_below(self, pos: int, count: int) -> bytes:
        """Up to ``count`` bytes of what the page cache lies over; what is missing is zeros."""
        raise NotImplementedError

    def read_page(self, index: int) -> bytes:
        """What a page holds that is not in the cache yet (`PageCacheOwner`)."""
        return self.read_below(index << PAGE_SHIFT, PAGE_SIZE)

    def read_at(self, pos: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``pos``, from the pages that are there and from below."""
        end = min(pos + count, self.size)
        if pos >= end:
            return b""
        mapping = self.mapping
        pages = mapping.pages
        last = (end - 1) >> PAGE_SHIFT
        parts: list[bytes] = []
        while pos < end:
            index = pos >> PAGE_SHIFT
            cached = index in pages
            while index <= last and (index in pages) is cached:
                index += 1
            length = min(end, index << PAGE_SHIFT) - pos
            parts.append(mapping.read(pos, length) if cached else self.read_below(pos, length).ljust(length, b"\0"))
            pos += length
        return parts[0] if len(parts) == 1 else b"".join(parts)


class RegularFile(File):
    """An open regular file."""

    __slots__ = ()

    inode: RegularInode

    def __init__(self, inode: RegularInode, path: Path | None, flags: int) -> None:
        mode = FMode.LSEEK | FMode.PREAD | FMode.PWRITE
        super().__init__(inode, path, flags, mode)

    def read(self, task: Task, count: int, pos: int) -> bytes:
        """Source: ``mm/filemap.c:generic_file_read_iter``."""
        data = self.inode.read_at(pos, count)
        if data and not self.f_flags & OpenFlag.NOATIME:
            self.inode.note_read()
        return data

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int:
        """Source: ``mm/filemap.c:generic_file_write_iter``."""
        inode = self.inode
        if self.f_flags & OpenFlag.APPEND:
            inode.refresh()
            pos = inode.size
        count = generic_write_checks(task, pos, len(data))
        if not count:
            return 0
        inode.check_seals(write=True, size=max(inode.size, pos + count))
        file_remove_privs(task, inode)
        return inode.write_at(pos, data if count == len(data) else data[:count])

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Source: ``fs/read_write.c:generic_file_llseek``. SEEK_HOLE and SEEK_DATA know one hole: what follows the end."""
        if whence != SEEK_CUR:
            self.inode.refresh()
        size = self.inode.size
        match whence:
            case _ if whence == SEEK_CUR:
                pos = self.f_pos + offset
            case _ if whence == SEEK_END:
                pos = size + offset
            case _ if whence == SEEK_SET:
                pos = offset
            case _ if whence in (SEEK_DATA, SEEK_HOLE):
                if not 0 <= offset < size:
                    raise KernelError(Errno.ENXIO)
                pos = offset if whence == SEEK_DATA else size
            case _:
                raise KernelError(Errno.EINVAL)
        if not 0 <= pos <= MAX_LFS_FILESIZE:
            raise KernelError(Errno.EINVAL)
        self.f_pos = pos
        return pos

    def mmap(self, task: Task, vma: Vma) -> AddressSpace:
        """Source: ``mm/filemap.c:generic_file_mmap``."""
        if vma.flags & VM_SHARED and vma.flags & VM_WRITE:
            self.inode.check_seals(write=True)
        if not self.f_flags & OpenFlag.NOATIME:
            self.inode.note_read()
        return self.inode.mapping


def generic_write_checks(task: Task, pos: int, count: int) -> int:
    """How much of a write may be done; SIGXFSZ and EFBIG at the limit. Source: ``fs/read_write.c:generic_write_checks``."""
    if not count:
        return 0
    limit = task.signal.rlim.cur(Rlimit.FSIZE)
    if limit != RLIM_INFINITY:
        if pos >= limit:
            send_sig(Signal.SIGXFSZ, task, False)
            raise KernelError(Errno.EFBIG)
        count = min(count, limit - pos)
    if pos >= MAX_LFS_FILESIZE:
        raise KernelError(Errno.EFBIG)
    return min(count, MAX_LFS_FILESIZE - pos)


def inode_newsize_ok(task: Task, inode: Inode, size: int) -> None:
    """Whether a file may become ``size`` bytes long; SIGXFSZ and EFBIG. Source: ``fs/attr.c:inode_newsize_ok``."""
    if size <= inode.size:
        return
    if size > task.signal.rlim.cur(Rlimit.FSIZE):
        send_sig(Signal.SIGXFSZ, task, False)
        raise KernelError(Errno.EFBIG)
    if size > MAX_LFS_FILESIZE:
        raise KernelError(Errno.EFBIG)
