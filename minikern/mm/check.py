"""A machine that checks itself: every reference to every frame must have a holder.

Linux has nothing like it; CONFIG_DEBUG_VM and the "Bad page state" messages come closest.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT
from minikern.mm.page_alloc import ZERO_PFN
from minikern.mm.pgtable import PTE_ANON, PTE_RWX, PageTable
from minikern.mm.vma import VM_WRITE, Vma

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minikern.kernel.kernel import Kernel
    from minikern.mm.mm import Mm


def check_frames(kernel: Kernel, mms: Iterable[Mm], pinned: Iterable[int] = ()) -> list[str]:
    """What is wrong with the frames of a machine whose living address spaces are ``mms``; empty: nothing.

    ``pinned``: frames that the kernel itself holds, once per reference.
    """
    frames = kernel.frames
    held: Counter[int] = Counter({0: 1, ZERO_PFN: 1})
    held.update(pinned)
    for cache in frames.caches:
        held.update(cache.pages.values())
    unique = list({id(mm): mm for mm in mms}.values())
    tables: dict[int, PageTable] = {}
    users: Counter[int] = Counter()
    for mm in unique:
        for table in mm.tables.values():
            tables[id(table)] = table
            users[id(table)] += 1
    for table in tables.values():
        held.update(pte >> PAGE_SHIFT for pte in table.entries.values())

    complaints = [
        f"frame {pfn:#x} has {count} references, of which {held[pfn]} are known"
        for pfn, count in enumerate(frames.refs)
        if count != held[pfn]
    ]
    complaints += [
        f"a page table of {len(table.entries)} pages has {table.refs} users, of which {users[key]} are known"
        for key, table in tables.items()
        if table.refs != users[key]
    ]
    idle = frames.free + frames.zeroed
    if len(set(idle)) != len(idle) or any(frames.refs[pfn] for pfn in idle):
        complaints.append("a frame is free twice, or free and in use")
    return complaints


def check_mm(mm: Mm) -> list[str]:
    """What is wrong with one address space: areas out of order, pages that no area explains, wrong sums."""
    complaints = []
    for low, high in zip(mm.vmas, mm.vmas[1:], strict=False):
        if low.end > high.start:
            complaints.append(f"{mm!r}: {low!r} overlaps {high!r}")
    anon = other = 0
    for table in mm.tables.values():
        for vpn, pte in table.entries.items():
            if pte & PTE_ANON:
                anon += 1
            elif pte >> PAGE_SHIFT != ZERO_PFN:
                other += 1
            vma = next((vma for vma in mm.vmas if vma.start <= vpn << PAGE_SHIFT < vma.end), None)
            if vma is None:
                complaints.append(f"{mm!r}: page {vpn << PAGE_SHIFT:#x} lies in no area")
            elif not _allowed(vma, pte):
                complaints.append(f"{mm!r}: page {vpn << PAGE_SHIFT:#x} of {vma!r} has pte {pte:#x}")
    if (anon, other) != (mm.rss_anon, mm.rss_file + mm.rss_shmem):
        complaints.append(f"{mm!r}: counts {mm.rss_anon} + {mm.rss_file + mm.rss_shmem} pages but has {anon} + {other}")
    total = sum(vma.nr_pages for vma in mm.vmas)
    if total != mm.total_vm:
        complaints.append(f"{mm!r}: its areas have {total} pages")
    return complaints


def _allowed(vma: Vma, pte: int) -> bool:
    """Whether a pte gives the rights of its area, but perhaps not yet the right to store."""
    rights = pte & PTE_RWX
    return rights == vma.page_prot or rights == vma.page_prot | vma.flags & VM_WRITE
