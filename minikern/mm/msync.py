"""msync(2): bring stores through shared mappings home.

Mirrors ``mm/msync.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Int, Ptr, Size, syscall
from minikern.mm.mman import Ms
from minikern.mm.pgtable import OFFSET_MASK, page_align
from minikern.mm.vma import VM_LOCKED, VM_SHARED, vmas_between

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_ALL_FLAGS: Final = Ms.ASYNC | Ms.INVALIDATE | Ms.SYNC


@syscall("msync")
def sys_msync(task: Task, start: Ptr, length: Size, flags: Int) -> Result:
    """Holes are an error, but only after everything else was done. Source: ``mm/msync.c:SYSCALL_DEFINE3(msync)``."""
    if flags & ~_ALL_FLAGS or start & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    if flags & Ms.ASYNC and flags & Ms.SYNC:
        raise KernelError(Errno.EINVAL)
    end = start + page_align(length)
    if end >= 1 << 64:
        raise KernelError(Errno.ENOMEM)
    if end == start:
        return 0

    assert task.mm is not None
    at = start
    hole = False
    for vma in vmas_between(task.mm, start, end):
        hole |= vma.start > at
        low, at = max(vma.start, start), min(vma.end, end)
        if flags & Ms.INVALIDATE and vma.flags & VM_LOCKED:
            raise KernelError(Errno.EBUSY)
        if flags & Ms.SYNC and vma.mapping is not None and vma.flags & VM_SHARED:
            position = vma.page_index(low) << PAGE_SHIFT
            vma.mapping.writeback(position, position + at - low)
    if hole or at < end:
        raise KernelError(Errno.ENOMEM)
    return 0
