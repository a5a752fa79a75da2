"""Page frames: who holds how many references to each, and which are free.

Mirrors ``mm/page_alloc.c`` and what of ``mm/vmscan.c`` is left without swap. A frame (``pfn``) is 4 KiB of the arena.
Frames that were never used read as zeros and cost the host nothing; frames that come back are zeroed when they are
given out again, and when many lie idle their memory goes back to the host. When none is free, clean pages of the page
cache are dropped, and after that the OOM killer makes room. There are no zones, orders or watermarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import Errno, KernelBug, KernelError

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.mm.filemap import AddressSpace

ZERO_PFN: Final = 1  # the frame of zeros behind every anonymous page that was only read (``ZERO_PAGE``)
ZERO_PAGE: Final = bytes(PAGE_SIZE)

_SWAP_CLUSTER_MAX = 32  # pages to free at least when reclaim runs at all
_GIVE_BACK_PAGES = 16384  # idle frames at which their memory goes back to the host: 64 MiB
_GIVE_BACK_RUN = 16  # shortest run of frames that is worth a system call on the host


class OutOfMemory(KernelError):
    """No frame is left, and nobody could be killed for one."""

    def __init__(self) -> None:
        super().__init__(Errno.ENOMEM)


@dataclass(slots=True, eq=False, repr=False)
class PageAllocator:
    """The frames of one machine. Frame 0 is never used, so that no page-table entry is 0; frame 1 is the zero page."""

    kernel: Kernel
    refs: list[int] = field(default_factory=lambda: [1, 1])  # by pfn: references; frames past its end were never used
    free: list[int] = field(default_factory=list)  # came back; contents unknown
    zeroed: list[int] = field(default_factory=list)  # came back, and read as zeros again
    give_back_at: int = _GIVE_BACK_PAGES  # so many in `free` are worth a look at what the host could have back
    caches: dict[AddressSpace, None] = field(default_factory=dict)  # every page cache that has pages, oldest first
    nr_file_pages: int = 0  # frames that belong to page caches, shared memory included
    nr_shmem: int = 0  # those among them that have no file behind them

    @property
    def total(self) -> int:
        """How many frames the machine has."""
        return self.kernel.arena.size >> PAGE_SHIFT

    @property
    def nr_free(self) -> int:
        """How many of them are free."""
        return self.total - len(self.refs) + len(self.free) + len(self.zeroed)

    def alloc_page(self) -> int:
        """A frame of zeros with one reference, the caller's; OutOfMemory when there is none.

        Source: ``mm/page_alloc.c:get_zeroed_page``.
        """
        if self.free:
            pfn = self.free.pop()
            self.refs[pfn] = 1
            start = pfn << PAGE_SHIFT
            self.kernel.arena.view[start : start + PAGE_SIZE] = ZERO_PAGE
            return pfn
        return self.alloc_frame()

    def alloc_frame(self) -> int:
        """The same with unknown contents, for callers that overwrite all of it.

        Reclaim and the OOM killer may run before it returns: whatever the caller looked up earlier in page tables or
        page caches, and holds no reference to, can be gone.
        """
        if self.free:
            pfn = self.free.pop()
            self.refs[pfn] = 1
        elif self.zeroed:
            pfn = self.zeroed.pop()
            self.refs[pfn] = 1
        elif len(self.refs) < self.total:
            pfn = len(self.refs)
            self.refs.append(1)
        else:
            self._make_room()
            return self.alloc_frame()
        return pfn

    def get_page(self, pfn: int) -> None:
        """One more reference."""
        self.refs[pfn] += 1

    def put_page(self, pfn: int) -> None:
        """One reference less; the last one frees the frame."""
        refs = self.refs
        left = refs[pfn] - 1
        refs[pfn] = left
        if left <= 0:
            if left < 0:
                raise KernelBug(f"frame {pfn:#x} was put more often than it was got")
            self.free.append(pfn)
            self._freed((pfn,))

    def put_ptes(self, ptes: Iterable[int]) -> None:
        """Drop the reference that each of many page-table entries holds (``free_pages_and_swap_cache``)."""
        refs = self.refs
        freed = []
        for pte in ptes:
            pfn = pte >> PAGE_SHIFT
            left = refs[pfn] - 1
            refs[pfn] = left
            if not left:
                freed.append(pfn)
        self.free += freed
        self._freed(freed)

    def _freed(self, pfns: Iterable[int]) -> None:
        """Frames have become free: forget code translated from them before anything else is written there."""
        for arch in self.kernel.archs.values():
            cpu = arch.cpu
            if not cpu.code_frames.isdisjoint(pfns):
                for pfn in cpu.code_frames.intersection(pfns):
                    cpu.drop_code(pfn << PAGE_SHIFT, PAGE_SIZE)
        if len(self.free) >= self.give_back_at:
            self._give_back()

    def before_write(self, pfn: int) -> None:
        """The kernel is about to write into a frame that is in use: forget code translated from it."""
        for arch in self.kernel.archs.values():
            if pfn in arch.cpu.code_frames:
                arch.cpu.drop_code(pfn << PAGE_SHIFT, PAGE_SIZE)

    # -- when memory is short

    def _make_room(self) -> None:
        """Free at least one frame or raise OutOfMemory. Source: ``mm/page_alloc.c:__alloc_pages_slowpath``."""
        from minikern.mm.oom_kill import out_of_memory

        if self.shrink_page_cache(_SWAP_CLUSTER_MAX) or self.shrink_page_cache(_SWAP_CLUSTER_MAX, mapped=True):
            return
        out_of_memory(self.kernel)
        if not self.nr_free:
            raise OutOfMemory

    def shrink_page_cache(self, wanted: int, *, mapped: bool = False) -> int:
        """Drop up to ``wanted`` clean page-cache pages, oldest file first. Returns how many were dropped.

        ``mapped``: those that somebody maps, instead of those that nobody does; the next touch reads them in again.
        Source: ``mm/vmscan.c:shrink_inactive_list``.
        """
        dropped = 0
        for cache in list(self.caches):
            dropped += cache.shrink(wanted - dropped, mapped=mapped)
            if dropped >= wanted:
                break
        return dropped

    def _give_back(self) -> None:
        """Return the memory of long runs of idle frames to the host; they read as zeros afterwards."""
        self.free.sort()
        kept: list[int] = []
        first = 0
        free = self.free
        for i in range(1, len(free) + 1):
            if i < len(free) and free[i] == free[i - 1] + 1:
                continue
            run = free[first:i]
            start, length = run[0] << PAGE_SHIFT, len(run) << PAGE_SHIFT
            if len(run) >= _GIVE_BACK_RUN and self.kernel.arena.discard(start, length):
                self.zeroed += run
            else:
                kept += run
            first = i
        self.free = kept
        self.give_back_at = len(kept) + _GIVE_BACK_PAGES
