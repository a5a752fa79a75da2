"""The heap: brk(2), and anonymous areas at addresses that the kernel chose.

Mirrors the brk part of ``mm/mmap.c`` and ``fs/binfmt_elf.c:padzero``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.syscalls import Ptr, syscall
from minikern.mm.mman import Map
from minikern.mm.mmap import (
    do_munmap,
    get_unmapped_area,
    may_expand_vm,
    mlock_future_ok,
    mm_populate,
    unmap_range,
    vm_enough_memory,
    vm_start_gap,
)
from minikern.mm.pgtable import OFFSET_MASK, page_align
from minikern.mm.uaccess import mm_write
from minikern.mm.vma import (
    MAX_MAP_COUNT,
    VM_ACCOUNT,
    VM_DATA_DEFAULT_FLAGS,
    VM_EXEC,
    VM_LOCKED,
    Vma,
    find_vma,
    find_vma_intersection,
    vma_link,
    vma_merge,
)

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm


@syscall("brk")
def sys_brk(task: Task, brk: Ptr) -> Result:
    """Move the end of the heap; says where it is afterwards, which is no error. Source: ``mm/mmap.c:brk``."""
    mm = task.mm
    assert mm is not None
    if brk < mm.start_brk:
        return mm.brk
    data_limit = mm.rlimit(Rlimit.DATA)
    if data_limit != RLIM_INFINITY and (brk - mm.start_brk) + (mm.end_data - mm.start_data) > data_limit:
        return mm.brk

    old, new = page_align(mm.brk), page_align(brk)
    if new == old:
        mm.brk = brk
        return brk
    try:
        if brk <= mm.brk:
            do_munmap(mm, new, old - new)
        else:
            _grow(task, mm, old, new)
    except KernelError:
        return mm.brk
    mm.brk = brk
    if brk > old and mm.def_flags & VM_LOCKED:
        mm_populate(mm, old, new)
    return brk


def _grow(task: Task, mm: Mm, old: int, new: int) -> None:
    """Enlarge the heap, unless something is in the way."""
    following = find_vma(mm, old)
    if following is not None and new + PAGE_SIZE > vm_start_gap(following):
        raise KernelError(Errno.ENOMEM)
    get_unmapped_area(mm, old, new - old, Map.FIXED)
    if not mlock_future_ok(task, mm.def_flags, new - old):
        raise KernelError(Errno.EAGAIN)
    do_brk_flags(mm, old, new - old, 0)


def do_brk_flags(mm: Mm, addr: int, length: int, flags: int) -> None:
    """Put anonymous memory at a free place, as part of the area before it where that fits. ``flags``: 0 or VM_EXEC.

    Source: ``mm/mmap.c:do_brk_flags``.
    """
    flags |= VM_DATA_DEFAULT_FLAGS & ~VM_EXEC | VM_ACCOUNT | mm.def_flags
    pages = length >> PAGE_SHIFT
    if not may_expand_vm(mm, flags, pages) or len(mm.vmas) > MAX_MAP_COUNT:
        raise KernelError(Errno.ENOMEM)
    vm_enough_memory(mm.kernel, pages)
    vma = Vma(mm, addr, addr + length, flags, addr >> PAGE_SHIFT)
    vma_link(vma)
    mm.account_vm(flags, pages)
    if flags & VM_LOCKED:
        mm.locked_vm += pages
    vma_merge(vma)


def vm_brk_flags(mm: Mm, addr: int, length: int, flags: int) -> None:
    """Anonymous memory for a new program (its bss), over whatever is there. ``flags``: 0 or VM_EXEC.

    Source: ``mm/mmap.c:vm_brk_flags``.
    """
    length = page_align(length)
    if not length:
        return
    if addr & OFFSET_MASK or addr + length > mm.arch.task_size:
        raise KernelError(Errno.EINVAL)
    if find_vma_intersection(mm, addr, addr + length) is not None:
        unmap_range(mm, addr, addr + length)
    do_brk_flags(mm, addr, length, flags)


def padzero(mm: Mm, addr: int) -> None:
    """Clear the rest of the page at ``addr``: a bss that begins within a file page. EFAULT when it cannot be written.

    Source: ``fs/binfmt_elf.c:padzero``.
    """
    rest = -addr & OFFSET_MASK
    if rest and mm_write(mm, addr, bytes(rest)) != rest:
        raise KernelError(Errno.EFAULT)
