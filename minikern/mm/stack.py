"""The stack of a process: made by exec, grown by faults.

Mirrors ``fs/exec.c:setup_arg_pages`` and the stack part of ``mm/mmap.c``. The stack is put at its final place from the
start, so nothing has to be moved there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.kernel.resource import Rlimit
from minikern.mm.mmap import MMAP_MIN_ADDR, STACK_GUARD_GAP, may_expand_vm
from minikern.mm.pgtable import PAGE_MASK
from minikern.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_STACK_FLAGS,
    Vma,
    vma_index,
    vma_link,
    vma_modify,
)

if TYPE_CHECKING:
    from minikern.mm.mm import Mm

_STACK_EXPAND: Final = 131072  # bytes below the arguments that are part of the area from the start


def bprm_mm_init(mm: Mm, stack_top: int) -> Vma:
    """One page of stack below ``stack_top``, for the argument strings; it grows as they are written with `mm_write`.

    Source: ``fs/exec.c:__bprm_mm_init``.
    """
    vma = Vma(mm, stack_top - PAGE_SIZE, stack_top, VM_STACK_FLAGS | mm.def_flags, stack_top - PAGE_SIZE >> PAGE_SHIFT)
    vma_link(vma)
    mm.account_vm(vma.flags, 1)
    return vma


def setup_arg_pages(mm: Mm, vma: Vma, *, executable: bool) -> Vma:
    """Finish the stack of a new program: permissions, and some room. Returns the area.

    Source: ``fs/exec.c:setup_arg_pages``.
    """
    if executable:
        vma = vma_modify(vma, vma.start, vma.end, vma.flags | VM_EXEC, None)
    limit = mm.rlimit(Rlimit.STACK) & PAGE_MASK
    size = vma.end - vma.start
    wanted = size + _STACK_EXPAND
    expand_downwards(vma, vma.start - _STACK_EXPAND if wanted <= limit else vma.end - max(limit, size))
    return vma


def expand_stack(vma: Vma, address: int) -> bool:
    """A fault at ``address`` below an area that grows down: enlarge it if that is allowed; says whether it was.

    Source: ``mm/mmap.c:expand_stack_locked``.
    """
    return expand_downwards(vma, address & PAGE_MASK)


def expand_downwards(vma: Vma, start: int) -> bool:
    """Let an area begin at ``start`` already. Source: ``mm/mmap.c:expand_downwards``."""
    mm = vma.mm
    if start < MMAP_MIN_ADDR:
        return False
    if start >= vma.start:
        return True
    index = vma_index(mm, vma.start)
    if index > 0:
        below = mm.vmas[index - 1]
        if below.end > start:
            return False
        if not below.flags & VM_GROWSDOWN and below.flags & VM_ACCESS_FLAGS and start - below.end < STACK_GUARD_GAP:
            return False

    grow = vma.start - start >> PAGE_SHIFT
    if not may_expand_vm(mm, vma.flags, grow):
        return False
    if vma.end - start > mm.rlimit(Rlimit.STACK):
        return False
    if vma.flags & VM_LOCKED:
        if (mm.locked_vm + grow) << PAGE_SHIFT > mm.rlimit(Rlimit.MEMLOCK):
            return False
        mm.locked_vm += grow
    if grow > vma.pgoff:
        return False
    vma.start = start
    vma.pgoff -= grow
    mm.account_vm(vma.flags, grow)
    return True
