"""Areas of an address space: what each range of addresses means.

Mirrors ``include/linux/mm_types.h:vm_area_struct`` and ``mm/vma.c``. The areas of an `Mm` are a sorted list; programs
have tens of them, and a list with binary search beats any tree at that size. Neighbours that say the same are one area,
as ``/proc/PID/maps`` shows. Left out: ``anon_vma``, so neighbours merge also where Linux would keep two areas apart
because their pages have different histories.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Protocol

from minikern.engine.arena import PAGE_SHIFT
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.mm.filemap import AddressSpace
    from minikern.mm.mm import Mm

# Plain integers, not an IntFlag: faults test them. The first three equal PROT_* and the bits of a pte.
VM_READ: Final = 0x1
VM_WRITE: Final = 0x2
VM_EXEC: Final = 0x4
VM_SHARED: Final = 0x8  # stores reach the file
VM_MAYREAD: Final = 0x10  # mprotect may add it
VM_MAYWRITE: Final = 0x20
VM_MAYEXEC: Final = 0x40
VM_MAYSHARE: Final = 0x80  # mapped MAP_SHARED, if perhaps read-only
VM_GROWSDOWN: Final = 0x100
VM_PFNMAP: Final = 0x400  # pages of the kernel's own, not counted
VM_LOCKED: Final = 0x2000
VM_IO: Final = 0x4000
VM_SEQ_READ: Final = 0x8000
VM_RAND_READ: Final = 0x10000
VM_DONTCOPY: Final = 0x20000  # not in children
VM_DONTEXPAND: Final = 0x40000  # mremap must not enlarge it
VM_LOCKONFAULT: Final = 0x80000
VM_ACCOUNT: Final = 0x100000  # counts as committed memory
VM_NORESERVE: Final = 0x200000
VM_WIPEONFORK: Final = 0x2000000  # empty in children
VM_DONTDUMP: Final = 0x4000000  # not in core files
VM_MIXEDMAP: Final = 0x10000000
VM_HUGEPAGE: Final = 0x20000000
VM_NOHUGEPAGE: Final = 0x40000000
VM_MERGEABLE: Final = 0x80000000

VM_ACCESS_FLAGS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP  # neither merged nor locked
VM_STACK: Final = VM_GROWSDOWN
VM_STACK_FLAGS: Final = VM_STACK | VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT
VM_DATA_DEFAULT_FLAGS: Final = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

MAX_MAP_COUNT: Final = 65530  # areas that a process may have: the default of vm.max_map_count

_END_OF = attrgetter("end")


class VmOps(Protocol):
    """What the owner of a mapping wants to hear of (``struct vm_operations_struct``); `File.mmap` sets it."""

    def open(self, vma: Vma) -> None:
        """The area was split off another one, or copied by fork."""

    def close(self, vma: Vma) -> None:
        """The area is gone."""


@dataclass(slots=True, eq=False, repr=False)
class Vma:
    """A range of addresses with one meaning (``struct vm_area_struct``)."""

    mm: Mm
    start: int  # first address
    end: int  # first address behind it
    flags: int  # VM_*
    pgoff: int  # page of the file at `start`; for private anonymous memory the page number where it was mapped
    file: File | None = None  # holds one reference
    mapping: AddressSpace | None = None  # pages behind it; None: anonymous
    pfns: tuple[int, ...] = ()  # pages of the kernel's own behind it (vDSO), by page from `start - pgoff` on
    name: str = ""  # of special mappings: "[vdso]", "/dev/zero (deleted)" …
    anon_name: bytes | None = None  # PR_SET_VMA_ANON_NAME
    ops: VmOps | None = None
    page_prot: int = field(init=False)  # rights of a page that was only read: a store may add PTE_W

    def __post_init__(self) -> None:
        self.set_flags(self.flags)

    def __repr__(self) -> str:
        return f"<vma {self.start:x}-{self.end:x} {self.flags:#x} {vma_name(self)}>"

    def set_flags(self, flags: int) -> None:
        """Change VM_* bits, and with them what new entries of its pages allow (``vma_set_page_prot``).

        Neither CPU that matters can deny reads but allow stores or execution, so any permission implies reading.
        Shared pages are writable at once where nobody has to notice the first store.
        """
        self.flags = flags
        prot = (VM_READ | flags & VM_EXEC) if flags & VM_ACCESS_FLAGS else 0
        if (
            flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE
            and self.mapping is not None
            and not self.mapping.backed
        ):
            prot |= VM_WRITE
        self.page_prot = prot

    @property
    def nr_pages(self) -> int:
        """Its length in pages (``vma_pages``)."""
        return (self.end - self.start) >> PAGE_SHIFT

    def page_index(self, address: int) -> int:
        """Which page of the file ``address`` shows (``linear_page_index``)."""
        return self.pgoff + ((address - self.start) >> PAGE_SHIFT)


def vma_name(vma: Vma) -> str:
    """What /proc/PID/maps calls an area that is not a file. Source: ``fs/proc/task_mmu.c:get_vma_name``."""
    if vma.mapping is not None and vma.anon_name is not None:
        return f"[anon_shmem:{vma.anon_name.decode(errors='replace')}]"
    if vma.name or vma.file is not None:
        return vma.name
    mm = vma.mm
    if vma.start < mm.brk and vma.end > mm.start_brk:
        return "[heap]"
    if vma.start <= mm.start_stack <= vma.end:
        return "[stack]"
    if vma.anon_name is not None:
        return f"[anon:{vma.anon_name.decode(errors='replace')}]"
    return ""


# -- looking up


def vma_index(mm: Mm, address: int) -> int:
    """Position in ``mm.vmas`` of the first area that ends above ``address``."""
    return bisect_right(mm.vmas, address, key=_END_OF)


def find_vma(mm: Mm, address: int) -> Vma | None:
    """The first area that ends above ``address``; it may begin above it as well. Source: ``mm/mmap.c:find_vma``."""
    vma = mm.last_vma
    if vma is not None and vma.start <= address < vma.end:
        return vma
    index = bisect_right(mm.vmas, address, key=_END_OF)
    if index == len(mm.vmas):
        return None
    vma = mm.last_vma = mm.vmas[index]
    return vma


def vma_lookup(mm: Mm, address: int) -> Vma | None:
    """The area that contains ``address`` (``vma_lookup``)."""
    vma = find_vma(mm, address)
    return vma if vma is not None and vma.start <= address else None


def find_vma_intersection(mm: Mm, start: int, end: int) -> Vma | None:
    """The first area that overlaps [start, end) (``find_vma_intersection``)."""
    vma = find_vma(mm, start)
    return vma if vma is not None and vma.start < end else None


def vmas_between(mm: Mm, start: int, end: int) -> list[Vma]:
    """Every area that overlaps [start, end), in order (``for_each_vma_range``)."""
    first = vma_index(mm, start)
    last = first
    vmas = mm.vmas
    while last < len(vmas) and vmas[last].start < end:
        last += 1
    return vmas[first:last]


# -- putting in and taking out


def vma_link(vma: Vma) -> None:
    """Enter an area; its place must be free. Its references are the caller's to have taken. Source: ``mm/vma.c:vma_link``."""
    mm = vma.mm
    mm.vmas.insert(vma_index(mm, vma.start), vma)
    if vma.mapping is not None:
        vma.mapping.add_vma(vma)


def vma_unlink(vma: Vma) -> None:
    """Take an area out, its pages being gone already, and drop what it holds. Source: ``mm/vma.c:remove_vma``."""
    mm = vma.mm
    del mm.vmas[vma_index(mm, vma.start)]
    if mm.last_vma is vma:
        mm.last_vma = None
    release_vma(vma)


def release_vma(vma: Vma) -> None:
    """Drop what an area holds."""
    if vma.mapping is not None:
        vma.mapping.remove_vma(vma)
    if vma.ops is not None:
        vma.ops.close(vma)
    if vma.file is not None:
        vma.file.fput()


def copy_vma(vma: Vma, mm: Mm, start: int, end: int) -> Vma:
    """An area like a part of ``vma``, with references of its own, not entered yet. Source: ``kernel/fork.c:vm_area_dup``."""
    copy = Vma(
        mm,
        start,
        end,
        vma.flags,
        vma.page_index(start),
        vma.file.get() if vma.file is not None else None,
        vma.mapping,
        vma.pfns,
        vma.name,
        vma.anon_name,
        vma.ops,
    )
    if vma.ops is not None:
        vma.ops.open(copy)
    return copy


# -- splitting and merging


def split_vma(vma: Vma, address: int) -> Vma:
    """Cut an area in two at ``address`` and return the upper one; ENOMEM when there are too many.

    Source: ``mm/vma.c:split_vma``.
    """
    mm = vma.mm
    if len(mm.vmas) >= MAX_MAP_COUNT:
        raise KernelError(Errno.ENOMEM)
    upper = copy_vma(vma, mm, address, vma.end)
    vma.end = address
    vma_link(upper)
    return upper


def _can_merge(low: Vma, high: Vma) -> bool:
    """Whether two neighbours say the same. Source: ``mm/vma.c:can_vma_merge_after``."""
    return (
        low.end == high.start
        and low.flags == high.flags
        and low.file is high.file
        and low.mapping is high.mapping
        and low.pgoff + low.nr_pages == high.pgoff
        and low.anon_name == high.anon_name
        and not low.flags & VM_SPECIAL
        and low.ops is None
        and high.ops is None
        and not low.pfns
        and not high.pfns
    )


def vma_merge(vma: Vma) -> Vma:
    """Join an area with its neighbours where they say the same; returns the area that covers it now.

    Source: ``mm/vma.c:vma_merge_new_range``.
    """
    mm = vma.mm
    index = vma_index(mm, vma.start)
    if index + 1 < len(mm.vmas) and _can_merge(vma, mm.vmas[index + 1]):
        _absorb_next(vma, mm.vmas[index + 1])
    if index > 0 and _can_merge(mm.vmas[index - 1], vma):
        low = mm.vmas[index - 1]
        _absorb_next(low, vma)
        return low
    return vma


def _absorb_next(low: Vma, high: Vma) -> None:
    vma_unlink(high)
    low.end = high.end


def vma_modify(vma: Vma, start: int, end: int, flags: int, anon_name: bytes | None) -> Vma:
    """Give the part [start, end) of an area other flags or another name; returns the area that covers it now.

    Source: ``mm/vma.c:vma_modify``.
    """
    if start > vma.start:
        vma = split_vma(vma, start)
    if end < vma.end:
        split_vma(vma, end)
    vma.set_flags(flags)
    vma.anon_name = anon_name
    return vma_merge(vma)
