"""mincore(2): which pages are in memory.

Mirrors ``mm/mincore.c``. Left out: hiding the page cache from those who could not write the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Buf, Ptr, Size, syscall
from minikern.mm.pgtable import OFFSET_MASK, page_align, pte_of
from minikern.mm.uaccess import copy_to_user
from minikern.mm.vma import Vma, vma_lookup

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result


@syscall("mincore")
def sys_mincore(task: Task, start: Ptr, length: Size, vec: Buf) -> Result:
    """Source: ``mm/mincore.c:SYSCALL_DEFINE3(mincore)``."""
    mm = task.mm
    assert mm is not None
    if start & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    if start + length > mm.arch.task_size:
        raise KernelError(Errno.ENOMEM)
    at, end = start, start + page_align(length)
    while at < end:
        vma = vma_lookup(mm, at)
        if vma is None:
            raise KernelError(Errno.ENOMEM)
        upto = min(vma.end, end, at + (PAGE_SIZE << PAGE_SHIFT))  # as Linux, a page of answers at a time
        answer = bytes(_in_memory(vma, address) for address in range(at, upto, PAGE_SIZE))
        copy_to_user(task, vec + (at - start >> PAGE_SHIFT), answer)
        at = upto
    return 0


def _in_memory(vma: Vma, address: int) -> bool:
    """Whether a touch would cost no read. Source: ``mm/mincore.c:mincore_pte_range``."""
    if pte_of(vma.mm, address >> PAGE_SHIFT):
        return True
    return vma.mapping is not None and vma.page_index(address) in vma.mapping.pages
