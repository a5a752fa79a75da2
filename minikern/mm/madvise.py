"""madvise(2): what a program knows of its memory and the kernel does not.

Mirrors ``mm/madvise.c``. MADV_FREE frees at once, as Linux may; advice about huge pages, reading ahead and merging is
checked, remembered in the area's flags, and has no further effect. Left out: poisoning, and madvise of other processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Int, Ptr, Size, syscall
from minikern.mm.memory import Fault, handle_mm_fault, zap_page_range
from minikern.mm.mman import Madv
from minikern.mm.pgtable import OFFSET_MASK, page_align
from minikern.mm.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_IO,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
    vma_lookup,
    vma_modify,
    vmas_between,
)

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_KNOWN: Final = frozenset(Madv) - {Madv.HWPOISON, Madv.SOFT_OFFLINE, Madv.COLLAPSE}
_READ_AHEAD: Final = VM_SEQ_READ | VM_RAND_READ

# Advice that only changes flags: (to clear, to set).
_FLAG_CHANGES: Final = {
    Madv.NORMAL: (_READ_AHEAD, 0),
    Madv.RANDOM: (_READ_AHEAD, VM_RAND_READ),
    Madv.SEQUENTIAL: (_READ_AHEAD, VM_SEQ_READ),
    Madv.DONTFORK: (0, VM_DONTCOPY),
    Madv.DOFORK: (VM_DONTCOPY, 0),
    Madv.WIPEONFORK: (0, VM_WIPEONFORK),
    Madv.KEEPONFORK: (VM_WIPEONFORK, 0),
    Madv.DONTDUMP: (0, VM_DONTDUMP),
    Madv.DODUMP: (VM_DONTDUMP, 0),
    Madv.MERGEABLE: (0, VM_MERGEABLE),
    Madv.UNMERGEABLE: (VM_MERGEABLE, 0),
    Madv.HUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
    Madv.NOHUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
}


@syscall("madvise")
def sys_madvise(task: Task, start: Ptr, length: Size, behavior: Int) -> Result:
    """Source: ``mm/madvise.c:SYSCALL_DEFINE3(madvise)``."""
    assert task.mm is not None
    return do_madvise(task.mm, start, length, behavior)


def do_madvise(mm: Mm, start: int, length: int, behavior: int) -> int:
    """Follow the advice on every area in the range; ENOMEM afterwards when there were holes.

    Source: ``mm/madvise.c:do_madvise``.
    """
    if behavior not in _KNOWN or start & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    end = start + page_align(length)
    if end >= 1 << 64 or (length and end == start):
        raise KernelError(Errno.EINVAL)
    if end == start:
        return 0
    if behavior in (Madv.POPULATE_READ, Madv.POPULATE_WRITE):
        _populate(mm, start, end, behavior == Madv.POPULATE_WRITE)
        return 0

    at = start
    hole = False
    for vma in vmas_between(mm, start, end):
        hole |= vma.start > at
        low, at = max(vma.start, start), min(vma.end, end)
        covering = vma_lookup(mm, low)  # an earlier part may have been merged with this one
        assert covering is not None
        _madvise_vma(covering, low, at, behavior)
    if hole or at < end:
        raise KernelError(Errno.ENOMEM)
    return 0


def _madvise_vma(vma: Vma, start: int, end: int, behavior: int) -> None:
    """Source: ``mm/madvise.c:madvise_vma_behavior``."""
    match behavior:
        case Madv.REMOVE:
            _remove(vma, start, end)
        case Madv.WILLNEED:
            pass
        case Madv.COLD | Madv.PAGEOUT:
            if vma.flags & (VM_LOCKED | VM_PFNMAP):
                raise KernelError(Errno.EINVAL)
        case Madv.DONTNEED | Madv.DONTNEED_LOCKED | Madv.FREE:
            _dontneed(vma, start, end, behavior)
        case _:
            _check_flag_change(vma, behavior)
            clear, add = _FLAG_CHANGES[Madv(behavior)]
            flags = vma.flags & ~clear | add
            if flags != vma.flags:
                vma_modify(vma, start, end, flags, vma.anon_name)


def _check_flag_change(vma: Vma, behavior: int) -> None:
    refused = (
        (behavior == Madv.DOFORK and vma.flags & VM_IO)
        or (behavior == Madv.WIPEONFORK and (vma.file is not None or vma.flags & VM_SHARED))
        or (behavior == Madv.DODUMP and vma.flags & VM_SPECIAL)
    )
    if refused:
        raise KernelError(Errno.EINVAL)


def _dontneed(vma: Vma, start: int, end: int, behavior: int) -> None:
    """Forget contents: zeros, or the file again, at the next touch. Source: ``mm/madvise.c:madvise_dontneed_free``."""
    forbidden = VM_PFNMAP if behavior == Madv.DONTNEED_LOCKED else VM_PFNMAP | VM_LOCKED
    if vma.flags & forbidden:
        raise KernelError(Errno.EINVAL)
    if behavior == Madv.FREE and vma.mapping is not None:
        raise KernelError(Errno.EINVAL)
    zap_page_range(vma, start, end)
    vma.mm.flush_tlb()


def _remove(vma: Vma, start: int, end: int) -> None:
    """Punch a hole into what is mapped. Source: ``mm/madvise.c:madvise_remove``."""
    if vma.flags & VM_LOCKED or vma.mapping is None:
        raise KernelError(Errno.EINVAL)
    if vma.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise KernelError(Errno.EACCES)
    vma.mapping.host.punch_hole(vma.page_index(start) << PAGE_SHIFT, end - start)


def _populate(mm: Mm, start: int, end: int, write: bool) -> None:
    """Fault pages in, and say what went wrong. Source: ``mm/madvise.c:madvise_populate``."""
    for address in range(start, end, PAGE_SIZE):
        vma = vma_lookup(mm, address)
        if vma is None:
            raise KernelError(Errno.ENOMEM)
        needed = VM_WRITE if write else VM_READ
        if vma.flags & (VM_IO | VM_PFNMAP) or not vma.flags & needed:
            raise KernelError(Errno.EINVAL)
        if not handle_mm_fault(vma, address, write):
            raise KernelError(Errno.ENOMEM if mm.fault_reason is Fault.OOM else Errno.EFAULT)
    mm.flush_tlb()


def madvise_set_anon_name(mm: Mm, start: int, length: int, name: bytes | None) -> None:
    """Name anonymous memory for /proc/PID/maps (PR_SET_VMA_ANON_NAME). Source: ``mm/madvise.c:madvise_set_anon_name``."""
    if start & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    end = start + page_align(length)
    if end >= 1 << 64 or (length and end == start):
        raise KernelError(Errno.EINVAL)
    at = start
    hole = False
    for vma in vmas_between(mm, start, end):
        hole |= vma.start > at
        low, at = max(vma.start, start), min(vma.end, end)
        covering = vma_lookup(mm, low)
        assert covering is not None
        if covering.file is not None:
            raise KernelError(Errno.EBADF)
        vma_modify(covering, low, at, covering.flags, name)
    if hole or (at < end):
        raise KernelError(Errno.ENOMEM)
