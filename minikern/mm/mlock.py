"""mlock(2) and its relatives: memory that must not go away.

Mirrors ``mm/mlock.c``. There is no swap, so a locked page is only one that was faulted in and that is counted; the OOM
killer's reaper leaves it alone until its process exits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import Rlimit
from minikern.kernel.syscalls import Int, Ptr, Size, syscall
from minikern.mm.memory import Fault
from minikern.mm.mman import MLOCK_ONFAULT, Mcl
from minikern.mm.mmap import can_do_mlock, mm_populate, populate_vma
from minikern.mm.pgtable import OFFSET_MASK, PAGE_MASK, page_align
from minikern.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_SPECIAL,
    find_vma,
    vma_modify,
    vmas_between,
)

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_ALL_MCL: Final = Mcl.CURRENT | Mcl.FUTURE | Mcl.ONFAULT


@syscall("mlock")
def sys_mlock(task: Task, start: Ptr, length: Size) -> Result:
    """Source: ``mm/mlock.c:SYSCALL_DEFINE2(mlock)``."""
    return _do_mlock(task, start, length, VM_LOCKED)


@syscall("mlock2")
def sys_mlock2(task: Task, start: Ptr, length: Size, flags: Int) -> Result:
    """Source: ``mm/mlock.c:SYSCALL_DEFINE3(mlock2)``."""
    if flags & ~MLOCK_ONFAULT:
        raise KernelError(Errno.EINVAL)
    return _do_mlock(task, start, length, VM_LOCKED | (VM_LOCKONFAULT if flags & MLOCK_ONFAULT else 0))


@syscall("munlock")
def sys_munlock(task: Task, start: Ptr, length: Size) -> Result:
    """Source: ``mm/mlock.c:SYSCALL_DEFINE2(munlock)``."""
    assert task.mm is not None
    _apply_vma_lock_flags(task.mm, start & PAGE_MASK, page_align(length + (start & OFFSET_MASK)), 0)
    return 0


@syscall("mlockall")
def sys_mlockall(task: Task, flags: Int) -> Result:
    """Source: ``mm/mlock.c:SYSCALL_DEFINE1(mlockall)``."""
    mm = task.mm
    assert mm is not None
    if not flags or flags & ~_ALL_MCL or flags == Mcl.ONFAULT:
        raise KernelError(Errno.EINVAL)
    if not can_do_mlock(task):
        raise KernelError(Errno.EPERM)
    limit = task.signal.rlim.cur(Rlimit.MEMLOCK) >> PAGE_SHIFT
    if flags & Mcl.CURRENT and mm.total_vm > limit and not capable(task, Cap.IPC_LOCK):
        raise KernelError(Errno.ENOMEM)

    lock = VM_LOCKED | (VM_LOCKONFAULT if flags & Mcl.ONFAULT else 0)
    mm.def_flags &= ~VM_LOCKED_MASK
    if flags & Mcl.FUTURE:
        mm.def_flags |= lock
    if flags & Mcl.CURRENT:
        _lock_everything(mm, lock)
        mm_populate(mm, 0, mm.arch.task_size)
    return 0


@syscall("munlockall")
def sys_munlockall(task: Task) -> Result:
    """Source: ``mm/mlock.c:SYSCALL_DEFINE0(munlockall)``."""
    assert task.mm is not None
    task.mm.def_flags &= ~VM_LOCKED_MASK
    _lock_everything(task.mm, 0)
    return 0


def _do_mlock(task: Task, start: int, length: int, lock: int) -> int:
    """Source: ``mm/mlock.c:do_mlock``."""
    mm = task.mm
    assert mm is not None
    if not can_do_mlock(task):
        raise KernelError(Errno.EPERM)
    length = page_align(length + (start & OFFSET_MASK))
    start &= PAGE_MASK
    pages = length >> PAGE_SHIFT
    limit = task.signal.rlim.cur(Rlimit.MEMLOCK) >> PAGE_SHIFT
    if mm.locked_vm + pages > limit and not capable(task, Cap.IPC_LOCK):
        if mm.locked_vm + pages - _locked_between(mm, start, start + length) > limit:
            raise KernelError(Errno.ENOMEM)
    _apply_vma_lock_flags(mm, start, length, lock)
    if not lock & VM_LOCKONFAULT:
        _populate_or_fail(mm, start, start + length)
    return 0


def _populate_or_fail(mm: Mm, start: int, end: int) -> None:
    """Fault everything in; ENOMEM or EAGAIN when that cannot be done. Source: ``mm/mlock.c:__mlock_posix_error_return``."""
    for vma in vmas_between(mm, start, end):
        if vma.flags & VM_SPECIAL:
            continue
        if not vma.flags & VM_ACCESS_FLAGS:
            raise KernelError(Errno.ENOMEM)
        if not populate_vma(vma, max(start, vma.start), min(end, vma.end)):
            raise KernelError(Errno.EAGAIN if mm.fault_reason is Fault.OOM else Errno.ENOMEM)


def _locked_between(mm: Mm, start: int, end: int) -> int:
    """How many pages of a range are locked already. Source: ``mm/mlock.c:count_mm_mlocked_page_nr``."""
    vmas = [vma for vma in vmas_between(mm, start, end) if vma.flags & VM_LOCKED]
    return sum(min(end, vma.end) - max(start, vma.start) for vma in vmas) >> PAGE_SHIFT


def _apply_vma_lock_flags(mm: Mm, start: int, length: int, lock: int) -> None:
    """Lock or unlock a range; ENOMEM at the first hole. Source: ``mm/mlock.c:apply_vma_lock_flags``."""
    end = start + length
    if end >= 1 << 64:
        raise KernelError(Errno.EINVAL)
    if end == start:
        return
    first = find_vma(mm, start)
    if first is None or first.start > start:
        raise KernelError(Errno.ENOMEM)
    at = start
    for vma in vmas_between(mm, start, end):
        if vma.start > at:
            raise KernelError(Errno.ENOMEM)
        upto = min(vma.end, end)
        _mlock_fixup(mm, at, upto, lock)
        at = upto
    if at < end:
        raise KernelError(Errno.ENOMEM)


def _lock_everything(mm: Mm, lock: int) -> None:
    """Source: ``mm/mlock.c:apply_mlockall_flags``."""
    for start, end in [(vma.start, vma.end) for vma in mm.vmas]:
        _mlock_fixup(mm, start, end, lock)


def _mlock_fixup(mm: Mm, start: int, end: int, lock: int) -> None:
    """Lock or unlock a part of one area. Source: ``mm/mlock.c:mlock_fixup``."""
    vma = find_vma(mm, start)
    assert vma is not None
    flags = vma.flags & ~VM_LOCKED_MASK | lock
    if flags == vma.flags or vma.flags & VM_SPECIAL:
        return
    pages = (end - start) >> PAGE_SHIFT
    if vma.flags & VM_LOCKED:
        pages = -pages if not lock else 0
    mm.locked_vm += pages
    vma_modify(vma, start, end, flags, vma.anon_name)
