"""mremap(2): resize an area, or move it with its pages.

Mirrors ``mm/mremap.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Ptr, Size, ULong, syscall
from minikern.mm.mman import Map, Mremap
from minikern.mm.mmap import (
    do_munmap,
    get_unmapped_area,
    may_expand_vm,
    mlock_future_ok,
    mm_populate,
    unmap_range,
    vm_enough_memory,
)
from minikern.mm.pgtable import (
    OFFSET_MASK,
    TABLE_PAGES_SHIFT,
    page_align,
    present_pages,
    tables_between,
    writable_entries,
)
from minikern.mm.vma import (
    MAX_MAP_COUNT,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
    VM_PFNMAP,
    VM_SHARED,
    Vma,
    copy_vma,
    find_vma_intersection,
    vma_link,
    vma_lookup,
    vma_merge,
)

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_ALL_FLAGS: Final = Mremap.MAYMOVE | Mremap.FIXED | Mremap.DONTUNMAP
_SPARE_MAPS: Final = 3  # a move may split areas so often before it is done


@syscall("mremap")
def sys_mremap(task: Task, addr: Ptr, old_len: Size, new_len: Size, flags: ULong, new_addr: Ptr) -> Result:
    """Source: ``mm/mremap.c:SYSCALL_DEFINE5(mremap)``."""
    mm = task.mm
    assert mm is not None
    if flags & ~_ALL_FLAGS or (flags & Mremap.FIXED and not flags & Mremap.MAYMOVE):
        raise KernelError(Errno.EINVAL)
    if flags & Mremap.DONTUNMAP and (not flags & Mremap.MAYMOVE or old_len != new_len):
        raise KernelError(Errno.EINVAL)
    old_len, new_len = page_align(old_len), page_align(new_len)
    if addr & OFFSET_MASK or not new_len:
        raise KernelError(Errno.EINVAL)
    if vma_lookup(mm, addr) is None:
        raise KernelError(Errno.EFAULT)

    if flags & (Mremap.FIXED | Mremap.DONTUNMAP):
        return _mremap_to(task, mm, addr, old_len, new_addr, new_len, flags)
    if old_len >= new_len:
        if old_len > new_len:
            do_munmap(mm, addr + new_len, old_len - new_len)
        return addr

    vma = _vma_to_resize(task, mm, addr, old_len, new_len, flags)
    if old_len == vma.end - addr and _vma_expandable(vma, new_len - old_len):
        _expand_in_place(vma, new_len - old_len)
        return addr
    if not flags & Mremap.MAYMOVE:
        raise KernelError(Errno.ENOMEM)
    return _move_vma(vma, addr, old_len, new_len, get_unmapped_area(mm, 0, new_len, 0), flags)


def _mremap_to(task: Task, mm: Mm, addr: int, old_len: int, new_addr: int, new_len: int, flags: int) -> int:
    """Move to a place that the caller chose, or away while the old place stays. Source: ``mm/mremap.c:mremap_to``."""
    task_size = mm.arch.task_size
    if new_addr & OFFSET_MASK or new_len > task_size or new_addr > task_size - new_len:
        raise KernelError(Errno.EINVAL)
    if addr + old_len > new_addr and new_addr + new_len > addr:
        raise KernelError(Errno.EINVAL)
    if len(mm.vmas) + 2 >= MAX_MAP_COUNT - _SPARE_MAPS:
        raise KernelError(Errno.ENOMEM)
    if flags & Mremap.FIXED:
        do_munmap(mm, new_addr, new_len)
    if old_len > new_len:
        do_munmap(mm, addr + new_len, old_len - new_len)
        old_len = new_len

    vma = _vma_to_resize(task, mm, addr, old_len, new_len, flags)
    if flags & Mremap.DONTUNMAP and not may_expand_vm(mm, vma.flags, old_len >> PAGE_SHIFT):
        raise KernelError(Errno.ENOMEM)
    place = get_unmapped_area(mm, new_addr, new_len, Map.FIXED if flags & Mremap.FIXED else 0)
    return _move_vma(vma, addr, old_len, new_len, place, flags)


def _vma_to_resize(task: Task, mm: Mm, addr: int, old_len: int, new_len: int, flags: int) -> Vma:
    """The area to be changed, if it may be. Source: ``mm/mremap.c:vma_to_resize``."""
    vma = vma_lookup(mm, addr)
    if vma is None:
        raise KernelError(Errno.EFAULT)
    if not old_len and not vma.flags & (VM_SHARED | VM_MAYSHARE):
        raise KernelError(Errno.EINVAL)
    if flags & Mremap.DONTUNMAP and vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise KernelError(Errno.EINVAL)
    if old_len > vma.end - addr:
        raise KernelError(Errno.EFAULT)
    if new_len == old_len:
        return vma
    if vma.page_index(addr) + (new_len >> PAGE_SHIFT) >= 1 << 64 - PAGE_SHIFT:
        raise KernelError(Errno.EINVAL)
    if vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise KernelError(Errno.EFAULT)
    if not mlock_future_ok(task, vma.flags, new_len - old_len):
        raise KernelError(Errno.EAGAIN)
    if not may_expand_vm(mm, vma.flags, (new_len - old_len) >> PAGE_SHIFT):
        raise KernelError(Errno.ENOMEM)
    if vma.flags & VM_ACCOUNT:
        vm_enough_memory(mm.kernel, (new_len - old_len) >> PAGE_SHIFT)
    return vma


def _vma_expandable(vma: Vma, delta: int) -> bool:
    """Whether the addresses behind an area are free. Source: ``mm/mremap.c:vma_expandable``."""
    end = vma.end + delta
    return end <= vma.mm.arch.task_size and find_vma_intersection(vma.mm, vma.end, end) is None


def _expand_in_place(vma: Vma, delta: int) -> None:
    mm = vma.mm
    start, vma.end = vma.end, vma.end + delta
    mm.account_vm(vma.flags, delta >> PAGE_SHIFT)
    if vma.flags & VM_LOCKED:
        mm.locked_vm += delta >> PAGE_SHIFT
        mm_populate(mm, start, start + delta)
    vma_merge(vma)


def _move_vma(vma: Vma, old_addr: int, old_len: int, new_len: int, new_addr: int, flags: int) -> int:
    """Make the area anew at ``new_addr``, with the pages of the old place, which goes unless it is to stay empty.

    With ``old_len`` 0 the new area is a second view of the same shared pages. Source: ``mm/mremap.c:move_vma``.
    """
    mm = vma.mm
    if len(mm.vmas) >= MAX_MAP_COUNT - _SPARE_MAPS:
        raise KernelError(Errno.ENOMEM)
    vm_flags = vma.flags
    copy = copy_vma(vma, mm, old_addr, old_addr + new_len)
    copy.start, copy.end = new_addr, new_addr + new_len
    vma_link(copy)
    move_page_tables(mm, old_addr, new_addr, old_len)
    mm.account_vm(vm_flags, new_len >> PAGE_SHIFT)
    if vm_flags & VM_LOCKED:
        mm.locked_vm += new_len >> PAGE_SHIFT
    vma_merge(copy)

    if flags & Mremap.DONTUNMAP:
        if vm_flags & VM_LOCKED:
            mm.locked_vm -= vma.nr_pages
        vma.set_flags(vma.flags & ~VM_LOCKED_MASK)
        mm.flush_tlb()
        return new_addr
    if old_len:
        unmap_range(mm, old_addr, old_addr + old_len)
    mm.flush_tlb()
    if vm_flags & VM_LOCKED:
        mm_populate(mm, new_addr, new_addr + new_len)
    return new_addr


def move_page_tables(mm: Mm, old_addr: int, new_addr: int, length: int) -> None:
    """Hang pages over to another place. Source: ``mm/mremap.c:move_page_tables``."""
    first, last = old_addr >> PAGE_SHIFT, (old_addr + length) >> PAGE_SHIFT
    delta = (new_addr - old_addr) >> PAGE_SHIFT
    for key in tables_between(mm, first, last):
        present = present_pages(mm.tables[key].entries, first, last)
        if not present:
            continue
        source = writable_entries(mm, key)
        for vpn in present:
            target = vpn + delta
            writable_entries(mm, target >> TABLE_PAGES_SHIFT)[target] = source.pop(vpn)
        if not source:
            del mm.tables[key]
