"""Page faults: how a page comes to be where a program touches it, and how pages are taken away again.

Mirrors ``mm/memory.c``. Anonymous memory appears when it is first written (until then every page is the one page of
zeros), file pages come from the page cache, private ones are copied at the first store. Left out: swap, huge pages, NUMA.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import KernelError
from minikern.kernel.siginfo import FaultCode, Layout, SiCode, SigInfo, Signal
from minikern.mm.page_alloc import ZERO_PFN, OutOfMemory
from minikern.mm.pgtable import (
    PTE_ANON,
    PTE_R,
    PTE_W,
    PTE_X,
    PTRS_PER_TABLE,
    TABLE_PAGES_SHIFT,
    present_pages,
    pte_of,
    set_pte,
    tables_between,
    writable_entries,
)
from minikern.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_DONTCOPY,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED_MASK,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
    copy_vma,
    find_vma,
    release_vma,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minikern.kernel.task import Task
    from minikern.mm.mm import Mm

FAULT_AROUND_PAGES: Final = 16  # cached file pages are mapped in aligned groups of so many

# Which areas allow an access. No CPU of interest can deny a load where it allows anything else.
_ALLOWED_BY: Final = {PTE_R: VM_ACCESS_FLAGS, PTE_W: VM_WRITE, PTE_X: VM_EXEC}


class Fault(Enum):
    """Why a page could not be had (``VM_FAULT_*``, and the si_code it leads to)."""

    SEGV_MAPERR = 1  # nothing is mapped there
    SEGV_ACCERR = 2  # what is mapped there does not allow it
    BUS_ADRERR = 3  # behind the end of a mapped file, or the file could not be read
    OOM = 4  # no memory; the OOM killer has chosen this process, or nobody


_SIGNAL_OF: Final = {
    Fault.SEGV_MAPERR: (Signal.SIGSEGV, FaultCode.SEGV_MAPERR),
    Fault.SEGV_ACCERR: (Signal.SIGSEGV, FaultCode.SEGV_ACCERR),
    Fault.BUS_ADRERR: (Signal.SIGBUS, FaultCode.BUS_ADRERR),
}


def fault_siginfo(task: Task, address: int, access: int) -> SigInfo | None:
    """The signal for an access that ``task`` just failed to make; None: run the instruction again.

    Source: ``arch/*/mm/fault.c:do_user_addr_fault``, its error paths.
    """
    from minikern.kernel.signal import fatal_signal_pending

    mm = task.mm
    assert mm is not None
    if mm.fault(address, access):
        return None
    if mm.fault_reason is Fault.OOM:
        if fatal_signal_pending(task):
            return None
        return SigInfo(Signal.SIGKILL, SiCode.SI_KERNEL)
    signo, code = _SIGNAL_OF[mm.fault_reason]
    return SigInfo(signo, code, layout=Layout.FAULT, addr=address)


def do_user_addr_fault(mm: Mm, address: int, access: int) -> int:
    """Resolve a fault: the area must allow it, then `handle_mm_fault`. Returns the pte, or 0 with ``mm.fault_reason`` set.

    When a frame is replaced by a private copy, the page that the CPU asked for is looked up again anyway; whoever else
    calls this must flush the TLB (`uaccess.fault_in_user_page`). Source: ``arch/*/mm/fault.c:do_user_addr_fault``.
    """
    vma = find_vma(mm, address)
    if vma is None or (address < vma.start and not _grow(vma, address)):
        mm.fault_reason = Fault.SEGV_MAPERR
        return 0
    if not vma.flags & _ALLOWED_BY[access]:
        mm.fault_reason = Fault.SEGV_ACCERR
        return 0
    return handle_mm_fault(vma, address, access == PTE_W)


def _grow(vma: Vma, address: int) -> bool:
    """Enlarge the area above ``address`` if it is a stack that may grow so far."""
    from minikern.mm.stack import expand_stack

    return vma.flags & VM_GROWSDOWN != 0 and expand_stack(vma, address)


def handle_mm_fault(vma: Vma, address: int, write: bool) -> int:
    """Make the page at ``address`` present, and the process's own if ``write``; permissions are the caller's business.

    Returns the pte, or 0 with ``mm.fault_reason`` set. Source: ``mm/memory.c:handle_mm_fault``.
    """
    mm = vma.mm
    vpn = address >> PAGE_SHIFT
    pte = pte_of(mm, vpn)
    current = mm.kernel.sched.current
    if current is not None:
        current.usage.min_flt += 1
    try:
        if mm.oom_reaped:
            raise OutOfMemory
        if pte:
            return _do_wp_page(vma, vpn) if write else pte
        if vma.mapping is None and not vma.pfns:
            return _do_anonymous_page(vma, vpn, write)
        return _do_fault(vma, vpn, write)
    except OutOfMemory:
        mm.fault_reason = Fault.OOM
    except KernelError:  # the file could not be read
        mm.fault_reason = Fault.BUS_ADRERR
    return 0


def _do_anonymous_page(vma: Vma, vpn: int, write: bool) -> int:
    """First touch of anonymous memory. Source: ``mm/memory.c:do_anonymous_page``."""
    mm = vma.mm
    frames = mm.kernel.frames
    if not write:
        frames.refs[ZERO_PFN] += 1
        pte = ZERO_PFN << PAGE_SHIFT | vma.page_prot
    else:
        pfn = _alloc_user_page(mm, frames.alloc_page())
        pte = _anon_pte(vma, pfn)
        mm.rss_anon += 1
    set_pte(mm, vpn, pte)
    return pte


def _alloc_user_page(mm: Mm, pfn: int) -> int:
    """Pass on a frame just allocated for ``mm``, unless that cost ``mm`` its life."""
    if mm.oom_reaped:
        mm.kernel.frames.put_page(pfn)
        raise OutOfMemory
    return pfn


def _anon_pte(vma: Vma, pfn: int) -> int:
    """The entry of a private page that was just stored to; the W bit of a pte has the value of VM_WRITE."""
    return pfn << PAGE_SHIFT | PTE_ANON | vma.page_prot | vma.flags & VM_WRITE


def _do_fault(vma: Vma, vpn: int, write: bool) -> int:
    """First touch of a file page. Source: ``mm/memory.c:do_fault``."""
    mm = vma.mm
    frames = mm.kernel.frames
    index = vma.pgoff + vpn - (vma.start >> PAGE_SHIFT)
    pfn = _file_page(vma, index)
    if pfn is None:
        mm.fault_reason = Fault.BUS_ADRERR
        return 0

    if write and not vma.flags & VM_SHARED:
        pte = _copy_user_page(vma, pfn)
        mm.rss_anon += 1
    else:
        frames.refs[pfn] += 1
        pte = pfn << PAGE_SHIFT | vma.page_prot
        if write:
            assert vma.mapping is not None
            vma.mapping.page_mkwrite(index)
            pte |= PTE_W
        _account_file_pages(vma, 1)
    set_pte(mm, vpn, pte)
    if not write:
        _do_fault_around(vma, vpn)
    return pte


def _file_page(vma: Vma, index: int) -> int | None:
    """The frame behind page ``index`` of what is mapped; None: there is no such page."""
    if vma.pfns:
        return vma.pfns[index] if index < len(vma.pfns) else None
    mapping = vma.mapping
    assert mapping is not None
    pfn = mapping.pages.get(index)
    if index >= mapping.end_index:
        return None
    if pfn is not None:
        return pfn
    current = vma.mm.kernel.sched.current
    if mapping.backed and current is not None:  # a fault is either minor or, like this one, major
        current.usage.maj_flt += 1
        current.usage.min_flt -= 1
    return mapping.get_page(index)


def _account_file_pages(vma: Vma, pages: int) -> None:
    """``pages`` of a file appeared in the area (negative: went)."""
    if vma.mapping is None or vma.mapping.backed:
        vma.mm.rss_file += pages
    else:
        vma.mm.rss_shmem += pages


def _do_fault_around(vma: Vma, vpn: int) -> None:
    """Map the neighbours that are cached already: the next faults would do nothing else.

    Source: ``mm/memory.c:do_fault_around``.
    """
    mapping = vma.mapping
    if mapping is None or mapping.nr_pages == 1:
        return
    mm = vma.mm
    refs = mm.kernel.frames.refs
    pages = mapping.pages
    base = vma.start >> PAGE_SHIFT
    first = max(vpn & -FAULT_AROUND_PAGES, base)
    last = min((vpn | FAULT_AROUND_PAGES - 1) + 1, vma.end >> PAGE_SHIFT, base + mapping.end_index - vma.pgoff)
    delta = vma.pgoff - base
    entries = writable_entries(mm, vpn >> TABLE_PAGES_SHIFT)
    prot = vma.page_prot
    mapped = 0
    for near in range(first, last):
        if near not in entries:
            pfn = pages.get(near + delta)
            if pfn is not None:
                refs[pfn] += 1
                entries[near] = pfn << PAGE_SHIFT | prot
                mapped += 1
    _account_file_pages(vma, mapped)


def _do_wp_page(vma: Vma, vpn: int) -> int:
    """A store to a page that is present and read-only. Source: ``mm/memory.c:do_wp_page``."""
    mm = vma.mm
    frames = mm.kernel.frames
    entries = writable_entries(mm, vpn >> TABLE_PAGES_SHIFT)
    pte = entries[vpn]
    if pte & PTE_W:
        return pte
    pfn = pte >> PAGE_SHIFT
    if vma.flags & VM_SHARED:
        assert vma.mapping is not None
        vma.mapping.page_mkwrite(vma.page_index(vpn << PAGE_SHIFT))
        entries[vpn] = pte = pte | PTE_W
        return pte
    if pte & PTE_ANON and frames.refs[pfn] == 1:
        entries[vpn] = pte = pte | vma.flags & VM_WRITE
        return pte

    new = _copy_user_page(vma, pfn)
    if pte_of(mm, vpn) == pte:  # else the copy's frame cost the page its place: it was reclaimed
        _account_zapped(vma, (pte,))
        frames.put_page(pfn)
    mm.rss_anon += 1
    set_pte(mm, vpn, new)
    return new


def _copy_user_page(vma: Vma, pfn: int) -> int:
    """The pte of a private copy of a frame. Source: ``mm/memory.c:wp_page_copy``."""
    frames = vma.mm.kernel.frames
    if pfn == ZERO_PFN:
        return _anon_pte(vma, _alloc_user_page(vma.mm, frames.alloc_page()))
    frames.refs[pfn] += 1  # allocating must not reclaim it
    try:
        new = _alloc_user_page(vma.mm, frames.alloc_frame())
        view = vma.mm.kernel.arena.view
        source, target = pfn << PAGE_SHIFT, new << PAGE_SHIFT
        view[target : target + PAGE_SIZE] = view[source : source + PAGE_SIZE]
    finally:
        frames.put_page(pfn)
    return _anon_pte(vma, new)


# -- fork


def copy_page_range(mm: Mm, old: Mm) -> None:
    """Give ``mm`` the areas and pages of ``old``: every table is shared until one of the two changes it.

    Source: ``kernel/fork.c:dup_mmap``, ``mm/memory.c:copy_page_range``.
    """
    mm.tables.update(old.tables)
    for table in old.tables.values():
        table.refs += 1
    old.flush_tlb()
    mm.rss_file, mm.rss_anon, mm.rss_shmem = old.rss_file, old.rss_anon, old.rss_shmem
    mm.hiwater_rss, mm.hiwater_vm = mm.rss, old.total_vm

    for vma in old.vmas:
        copy = copy_vma(vma, mm, vma.start, vma.end)
        if vma.flags & (VM_DONTCOPY | VM_WIPEONFORK):
            zap_page_range(copy, copy.start, copy.end)
        if vma.flags & VM_DONTCOPY:
            release_vma(copy)
            continue
        copy.set_flags(copy.flags & ~VM_LOCKED_MASK)
        mm.vmas.append(copy)
        if copy.mapping is not None:
            copy.mapping.add_vma(copy)
        mm.account_vm(copy.flags, copy.nr_pages)


# -- taking pages away


def zap_page_range(vma: Vma, start: int, end: int, *, keep_anon: bool = False) -> None:
    """Take the pages of [start, end), a part of the area, out of the page tables; the caller flushes the TLB.

    ``keep_anon``: private copies stay. Source: ``mm/memory.c:zap_page_range_single``.
    """
    mm = vma.mm
    mm.update_hiwater_rss()
    frames = mm.kernel.frames
    first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    for key in tables_between(mm, first, last):
        table = mm.tables[key]
        low = key << TABLE_PAGES_SHIFT
        whole = first <= low and low + PTRS_PER_TABLE <= last
        if whole and not keep_anon:
            _account_zapped(vma, table.entries.values())
            table.refs -= 1
            del mm.tables[key]
            if not table.refs:
                frames.put_ptes(table.entries.values())
            continue

        gone = present_pages(table.entries, first, last)
        if keep_anon:
            gone = [vpn for vpn in gone if not table.entries[vpn] & PTE_ANON]
        if gone:
            entries = writable_entries(mm, key)
            ptes = [entries.pop(vpn) for vpn in gone]
            _account_zapped(vma, ptes)
            if not entries:
                del mm.tables[key]
            frames.put_ptes(ptes)


def _account_zapped(vma: Vma, ptes: Iterable[int]) -> None:
    anon = other = 0
    for pte in ptes:
        if pte & PTE_ANON:
            anon += 1
        elif pte >> PAGE_SHIFT != ZERO_PFN:
            other += 1
    vma.mm.rss_anon -= anon
    _account_file_pages(vma, -other)
