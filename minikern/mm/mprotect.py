"""mprotect(2): what may be done with memory that is mapped already.

Mirrors ``mm/mprotect.c``. Left out: protection keys (pkey_mprotect knows key -1 only).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Int, Ptr, Size, ULong, syscall
from minikern.mm.mman import Prot
from minikern.mm.mmap import may_expand_vm, mm_populate, vm_enough_memory
from minikern.mm.pgtable import (
    OFFSET_MASK,
    PTE_ANON,
    PTE_RWX,
    PTE_W,
    page_align,
    present_pages,
    tables_between,
    writable_entries,
)
from minikern.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
    Vma,
    find_vma,
    vma_modify,
    vmas_between,
)

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_MAY_SHIFT: Final = 4  # VM_READ << 4 is VM_MAYREAD, and so on
_PROT_MASK: Final = Prot.READ | Prot.WRITE | Prot.EXEC | Prot.SEM
_PKEY_ACCESS_MASK: Final = 0x3  # PKEY_DISABLE_ACCESS and PKEY_DISABLE_WRITE
_GROWS: Final = Prot.GROWSDOWN | Prot.GROWSUP


@syscall("mprotect")
def sys_mprotect(task: Task, start: Ptr, length: Size, prot: ULong) -> Result:
    """Source: ``mm/mprotect.c:SYSCALL_DEFINE3(mprotect)``."""
    assert task.mm is not None
    return do_mprotect(task.mm, start, length, prot)


@syscall("pkey_mprotect", partial="no protection keys: only key -1")
def sys_pkey_mprotect(task: Task, start: Ptr, length: Size, prot: ULong, pkey: Int) -> Result:
    """Source: ``mm/mprotect.c:SYSCALL_DEFINE4(pkey_mprotect)``."""
    if pkey != -1:
        raise KernelError(Errno.EINVAL)
    assert task.mm is not None
    return do_mprotect(task.mm, start, length, prot)


@syscall("pkey_alloc", partial="no protection keys: none is ever free")
def sys_pkey_alloc(task: Task, flags: ULong, init_val: ULong) -> Result:
    """Source: ``mm/mprotect.c:SYSCALL_DEFINE2(pkey_alloc)``."""
    if flags or init_val & ~_PKEY_ACCESS_MASK:
        raise KernelError(Errno.EINVAL)
    raise KernelError(Errno.ENOSPC)


@syscall("pkey_free", partial="no protection keys: none was ever given out")
def sys_pkey_free(task: Task, pkey: Int) -> Result:
    """Source: ``mm/mprotect.c:SYSCALL_DEFINE1(pkey_free)``."""
    raise KernelError(Errno.EINVAL)


def do_mprotect(mm: Mm, start: int, length: int, prot: int) -> int:
    """Change the protection of [start, start + length), up to the first place where that cannot be done.

    Source: ``mm/mprotect.c:do_mprotect_pkey``.
    """
    grows = prot & _GROWS
    prot &= ~_GROWS
    if grows == _GROWS or start & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    if not length:
        return 0
    end = start + page_align(length)
    if end <= start or end > 1 << 64:
        raise KernelError(Errno.ENOMEM)
    if prot & ~_PROT_MASK:
        raise KernelError(Errno.EINVAL)

    first = find_vma(mm, start)
    if first is None or (not grows and first.start > start):
        raise KernelError(Errno.ENOMEM)
    if grows & Prot.GROWSDOWN:
        if first.start >= end:
            raise KernelError(Errno.ENOMEM)
        start = first.start
        if not first.flags & VM_GROWSDOWN:
            raise KernelError(Errno.EINVAL)
    elif grows:
        raise KernelError(Errno.EINVAL)  # nothing grows up

    at = start
    for vma in vmas_between(mm, start, end):
        if vma.start > at:
            raise KernelError(Errno.ENOMEM)
        flags = vma.flags & ~VM_ACCESS_FLAGS | prot & VM_ACCESS_FLAGS
        if flags & ~(flags >> _MAY_SHIFT) & VM_ACCESS_FLAGS:
            raise KernelError(Errno.EACCES)
        upto = min(vma.end, end)
        mprotect_fixup(vma, at, upto, flags)
        at = upto
    if at < end:
        raise KernelError(Errno.ENOMEM)
    return 0


def mprotect_fixup(vma: Vma, start: int, end: int, flags: int) -> None:
    """Give a part of an area other flags, and its pages with it. Source: ``mm/mprotect.c:mprotect_fixup``."""
    old = vma.flags
    if flags == old:
        return
    mm = vma.mm
    pages = (end - start) >> PAGE_SHIFT
    if flags & VM_WRITE:
        if not may_expand_vm(mm, flags, pages) and may_expand_vm(mm, old, pages):
            raise KernelError(Errno.ENOMEM)
        if not old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
            vm_enough_memory(mm.kernel, pages)
            flags |= VM_ACCOUNT
    elif old & VM_ACCOUNT and vma.mapping is None and not _has_private_pages(vma):
        flags &= ~VM_ACCOUNT

    vma = vma_modify(vma, start, end, flags, vma.anon_name)
    change_protection(vma, start, end)
    mm.account_vm(old, -pages)
    mm.account_vm(flags, pages)
    if old & VM_LOCKED and flags & VM_WRITE and not old & (VM_SHARED | VM_WRITE):
        mm_populate(mm, start, end)


def _has_private_pages(vma: Vma) -> bool:
    """Whether anything was ever stored to an anonymous area; Linux looks whether it has an ``anon_vma``."""
    first, last = vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT
    tables = (vma.mm.tables[key].entries for key in tables_between(vma.mm, first, last))
    return any(entries[vpn] & PTE_ANON for entries in tables for vpn in present_pages(entries, first, last))


def change_protection(vma: Vma, start: int, end: int) -> None:
    """Make the entries of [start, end) say what their area says. A page becomes writable with the next store only.

    Source: ``mm/mprotect.c:change_protection``.
    """
    mm = vma.mm
    first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    keep = ~PTE_RWX if not vma.flags & VM_WRITE else ~(PTE_RWX & ~PTE_W)
    prot = vma.page_prot
    for key in tables_between(mm, first, last):
        present = present_pages(mm.tables[key].entries, first, last)
        if present:
            entries = writable_entries(mm, key)
            for vpn in present:
                entries[vpn] = entries[vpn] & keep | prot
    mm.flush_tlb()
