"""The page cache: the pages of one file, shared by everyone who reads, writes or maps it.

Mirrors ``mm/filemap.c``, ``mm/truncate.c`` and ``include/linux/fs.h:struct address_space``. A file in memory (tmpfs,
memfd, shared anonymous memory) *is* its page cache. A file with something behind it is cached page by page; its clean
pages can be dropped, stores through shared mappings make pages dirty, and `AddressSpace.writeback` brings them home.
The same program run twice runs from the same frames. Left out: readahead, folios, and writeback by itself: whoever owns
the file calls it (msync, fsync, unmapping).
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import KernelError
from minikern.mm.pgtable import OFFSET_MASK, PTE_W, TABLE_PAGES_SHIFT, pte_of, writable_entries
from minikern.mm.vma import VM_SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikern.kernel.kernel import Kernel
    from minikern.mm.vma import Vma

_END_OF_FILE: Final = 1 << 63  # past every offset


class PageCacheOwner(Protocol):
    """What a page cache needs of its inode (``address_space_operations`` and ``i_size``)."""

    size: int  # bytes

    def read_page(self, index: int) -> bytes:
        """Up to one page of the file from page ``index`` on; what is missing reads as zeros. KernelError(EIO)."""

    def write_page(self, index: int, data: bytes) -> None:
        """Store page ``index``, cut off at the end of the file. KernelError(EIO, ENOSPC …)."""

    def punch_hole(self, pos: int, length: int) -> None:
        """Bytes [pos, pos + length) read as zeros from now on. KernelError(EOPNOTSUPP …)."""


class AddressSpace:
    """The cached pages of one file."""

    __slots__ = ("backed", "dirty", "host", "i_mmap", "kernel", "pages")

    def __init__(self, kernel: Kernel, host: PageCacheOwner, *, backed: bool) -> None:
        self.kernel = kernel
        self.host = host
        self.backed = backed  # False: the pages are all there is of the file (read_page and write_page are not called)
        self.pages: dict[int, int] = {}  # page of the file -> frame; each holds a reference
        self.dirty: set[int] = set()  # pages that the file behind does not have yet
        self.i_mmap: dict[Vma, None] = {}  # areas that show the file, oldest first

    @property
    def nr_pages(self) -> int:
        """How many pages are cached (``nrpages``)."""
        return len(self.pages)

    @property
    def end_index(self) -> int:
        """The first page that lies wholly behind the end of the file: touching it is SIGBUS."""
        return (self.host.size + OFFSET_MASK) >> PAGE_SHIFT

    # -- areas that show the file

    def add_vma(self, vma: Vma) -> None:
        """An area shows the file from now on (``vma_link_file``)."""
        self.i_mmap[vma] = None

    def remove_vma(self, vma: Vma) -> None:
        """… no longer; one that never did is no error (``unlink_file_vma``).

        Stores through it are brought home now, since nobody does that later by himself.
        """
        self.i_mmap.pop(vma, None)
        if self.dirty and vma.flags & VM_SHARED:
            with suppress(KernelError):  # there is nobody left to tell
                self.writeback()

    # -- pages

    def get_page(self, index: int) -> int:
        """The frame of a page, read in if need be; it stays the cache's. OutOfMemory, or KernelError from the file.

        Nothing is checked against the size. Source: ``mm/filemap.c:read_cache_page``.
        """
        pfn = self.pages.get(index)
        if pfn is not None:
            return pfn
        frames = self.kernel.frames
        if not self.backed:
            pfn = frames.alloc_page()
            frames.nr_shmem += 1
        else:
            data = self.host.read_page(index)
            pfn = frames.alloc_frame()
            start = pfn << PAGE_SHIFT
            self.kernel.arena.view[start : start + PAGE_SIZE] = data.ljust(PAGE_SIZE, b"\0")
        self.pages[index] = pfn
        frames.nr_file_pages += 1
        frames.caches[self] = None
        return pfn

    def page_mkwrite(self, index: int) -> None:
        """A shared mapping is about to store into a cached page (``page_mkwrite``)."""
        if self.backed:
            self.dirty.add(index)

    def _forget(self, index: int) -> None:
        """Drop a page that nobody maps any more (``delete_from_page_cache``)."""
        pfn = self.pages.pop(index)
        self.dirty.discard(index)
        frames = self.kernel.frames
        frames.nr_file_pages -= 1
        if not self.backed:
            frames.nr_shmem -= 1
        frames.put_page(pfn)
        if not self.pages:
            frames.caches.pop(self, None)

    def shrink(self, wanted: int, *, mapped: bool) -> int:
        """Drop up to ``wanted`` clean pages, oldest first, either only mapped ones or only others; returns how many.

        A mapped page that somebody else holds as well, such as a fault in progress, stays. Source: ``mm/vmscan.c:shrink_folio_list``.
        """
        if not self.backed:
            return 0
        refs, pages, dirty = self.kernel.frames.refs, self.pages, self.dirty
        candidates = (index for index, pfn in pages.items() if (refs[pfn] > 1) is mapped and index not in dirty)
        dropped = 0
        for index in list(islice(candidates, wanted)):
            if mapped:
                self.unmap_range(index, index + 1, even_cows=False)
            if refs[pages[index]] == 1:
                self._forget(index)
                dropped += 1
        return dropped

    # -- read(2) and write(2)

    def read(self, pos: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``pos``, ending at the end of the file. Source: ``mm/filemap.c:filemap_read``."""
        end = min(pos + count, self.host.size)
        if pos >= end:
            return b""
        view = self.kernel.arena.view
        chunks = []
        for index, offset, length in _pages_of(pos, end):
            if not self.backed and index not in self.pages:
                chunks.append(bytes(length))  # a hole
                continue
            start = (self.get_page(index) << PAGE_SHIFT) + offset
            chunks.append(view[start : start + length].tobytes())
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, pos: int, data: bytes | memoryview) -> int:
        """Store ``data`` at ``pos``, enlarging the file; returns how much was stored before memory ran out.

        Source: ``mm/filemap.c:generic_perform_write``.
        """
        host = self.host
        done = 0
        for index, offset, length in _pages_of(pos, pos + len(data)):
            try:
                pfn = self.get_page(index)
            except KernelError:
                if not done:
                    raise
                break
            self._store(pfn, offset, data[done : done + length])
            if self.backed:
                self.dirty.add(index)
            done += length
            host.size = max(host.size, pos + done)
        return done

    def update(self, pos: int, data: bytes | memoryview) -> None:
        """The file behind was changed at ``pos`` by other means: bring the pages that are cached up to date."""
        done = 0
        for index, offset, length in _pages_of(pos, pos + len(data)):
            pfn = self.pages.get(index)
            if pfn is not None:
                self._store(pfn, offset, data[done : done + length])
            done += length

    def _store(self, pfn: int, offset: int, data: bytes | memoryview) -> None:
        self.kernel.frames.before_write(pfn)
        start = (pfn << PAGE_SHIFT) + offset
        self.kernel.arena.view[start : start + len(data)] = data

    # -- bringing dirty pages home

    def writeback(self, start: int = 0, end: int = _END_OF_FILE) -> None:
        """Write the dirty pages of bytes [start, end) to the file behind. Source: ``mm/filemap.c:filemap_write_and_wait_range``."""
        first, last = start >> PAGE_SHIFT, (end + OFFSET_MASK) >> PAGE_SHIFT
        view = self.kernel.arena.view
        for index in sorted(index for index in self.dirty if first <= index < last):
            length = min(PAGE_SIZE, self.host.size - (index << PAGE_SHIFT))
            self._page_mkclean(index)
            self.dirty.discard(index)
            if length > 0:
                begin = self.pages[index] << PAGE_SHIFT
                self.host.write_page(index, view[begin : begin + length].tobytes())

    def _page_mkclean(self, index: int) -> None:
        """Take the right to store away from every mapping of a page, so that the next store makes it dirty again.

        Source: ``mm/rmap.c:folio_mkclean``.
        """
        paddr = self.pages[index] << PAGE_SHIFT
        for vma, vpn in self._mappings_of(index):
            pte = pte_of(vma.mm, vpn)
            if pte & PTE_W and pte & ~OFFSET_MASK == paddr:
                writable_entries(vma.mm, vpn >> TABLE_PAGES_SHIFT)[vpn] = pte & ~PTE_W
                vma.mm.flush_tlb()

    def _mappings_of(self, index: int) -> Iterator[tuple[Vma, int]]:
        """Every area that shows page ``index``, with the virtual page number at which it does."""
        for vma in self.i_mmap:
            if vma.pgoff <= index < vma.pgoff + vma.nr_pages:
                yield vma, (vma.start >> PAGE_SHIFT) + index - vma.pgoff

    # -- taking pages away

    def truncate(self, size: int) -> None:
        """The file is ``size`` bytes long from now on: set it, and cut off mappings and pages behind it.

        Private copies go too, as POSIX wants. Source: ``mm/truncate.c:truncate_setsize``.
        """
        self.host.size = size
        first = self.end_index
        self.unmap_range(first, _END_OF_FILE, even_cows=True)
        for index in [index for index in self.pages if index >= first]:
            self._forget(index)
        if size & OFFSET_MASK:
            pfn = self.pages.get(size >> PAGE_SHIFT)
            if pfn is not None:
                offset = size & OFFSET_MASK
                self._store(pfn, offset, bytes(PAGE_SIZE - offset))

    def punch_hole(self, start: int, end: int) -> None:
        """Bytes [start, end) read as zeros from now on. Source: ``mm/shmem.c:shmem_fallocate``."""
        first, last = (start + OFFSET_MASK) >> PAGE_SHIFT, end >> PAGE_SHIFT
        self.unmap_range(first, last, even_cows=False)
        for index in [index for index in self.pages if first <= index < last]:
            self._forget(index)
        for index, offset, length in _pages_of(start, end):
            if length < PAGE_SIZE and (pfn := self.pages.get(index)) is not None:
                self._store(pfn, offset, bytes(length))

    def invalidate(self) -> None:
        """The file behind was changed by someone else: forget its clean pages, mapped ones too.

        Source: ``mm/truncate.c:invalidate_inode_pages2``.
        """
        self.unmap_range(0, _END_OF_FILE, even_cows=False)
        for index in [index for index in self.pages if index not in self.dirty]:
            self._forget(index)

    def evict(self) -> None:
        """The inode is gone for good, and so are its pages. Source: ``mm/truncate.c:truncate_inode_pages_final``."""
        for index in list(self.pages):
            self._forget(index)

    def unmap_range(self, first: int, last: int, *, even_cows: bool) -> None:
        """Take pages [first, last) of the file out of every address space; ``even_cows``: private copies as well.

        Source: ``mm/memory.c:unmap_mapping_pages``.
        """
        from minikern.mm.memory import zap_page_range

        for vma in self.i_mmap:
            low = max(first, vma.pgoff)
            high = min(last, vma.pgoff + vma.nr_pages)
            if low < high:
                start = vma.start + ((low - vma.pgoff) << PAGE_SHIFT)
                zap_page_range(vma, start, start + ((high - low) << PAGE_SHIFT), keep_anon=not even_cows)
                vma.mm.flush_tlb()


def _pages_of(pos: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Cut bytes [pos, end) of a file into pages: (page, offset in it, length)."""
    while pos < end:
        offset = pos & OFFSET_MASK
        length = min(PAGE_SIZE - offset, end - pos)
        yield pos >> PAGE_SHIFT, offset, length
        pos += length
