"""Making and removing areas: mmap(2) and munmap(2).

Mirrors ``mm/mmap.c``. Areas are placed from the top down below ``mm.mmap_base``. Left out: huge pages, protection keys,
personalities, and overcommit accounting beyond the heuristic that refuses what could never fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.fs.file import FMode
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.syscalls import Fd, Ptr, Size, ULong, syscall
from minikern.mm.memory import handle_mm_fault, zap_page_range
from minikern.mm.mm import Mm, is_data_mapping
from minikern.mm.mman import LEGACY_MAP_MASK, MAP_TYPE, Map, Prot
from minikern.mm.pgtable import OFFSET_MASK, PAGE_MASK, page_align
from minikern.mm.shmem import shmem_zero_setup
from minikern.mm.vma import (
    MAX_MAP_COUNT,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_IO,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PFNMAP,
    VM_SHARED,
    VM_SPECIAL,
    VM_WRITE,
    Vma,
    find_vma_intersection,
    release_vma,
    split_vma,
    vma_index,
    vma_link,
    vma_merge,
    vma_unlink,
    vmas_between,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikern.fs.file import File
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

MMAP_MIN_ADDR: Final = 65536  # vm.mmap_min_addr
STACK_GUARD_GAP: Final = 256 << PAGE_SHIFT  # kept free below an area that grows down
_MIN_GAP: Final = 128 << 20  # room for the stack that mmap_base leaves at least
_STACK_MAXRANDOM: Final = 16 << 30  # how far ASLR may shift the stack
_LOW_BEGIN, _LOW_END = 0x40000000, 0x80000000  # where MAP_32BIT puts areas
_MAX_PGOFF: Final = (1 << 63) - 1 >> PAGE_SHIFT  # pages of the largest file


@syscall("mmap")
def sys_mmap(task: Task, addr: Ptr, length: Size, prot: ULong, flags: ULong, fd: Fd, offset: ULong) -> Result:
    """Source: ``arch/*/kernel/sys*.c:mmap``."""
    if offset & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    return ksys_mmap_pgoff(task, addr, length, prot, flags, fd, offset >> PAGE_SHIFT)


@syscall("munmap")
def sys_munmap(task: Task, addr: Ptr, length: Size) -> Result:
    """Source: ``mm/mmap.c:munmap``."""
    assert task.mm is not None
    do_munmap(task.mm, addr, length)
    if (hook := task.kernel.events.munmap) is not None:
        hook(task, addr, addr + page_align(length))
    return 0


def ksys_mmap_pgoff(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    """mmap with its offset in pages. Source: ``mm/mmap.c:ksys_mmap_pgoff``."""
    if flags & Map.ANONYMOUS:
        if flags & Map.HUGETLB:
            raise KernelError(Errno.ENOMEM)  # no huge page was set aside
        return do_mmap(task, None, addr, length, prot, flags, pgoff)
    assert task.files is not None
    file = task.files.fget(fd)
    if flags & Map.HUGETLB:
        raise KernelError(Errno.EINVAL)
    return do_mmap(task, file, addr, length, prot, flags, pgoff)


def do_mmap(task: Task, file: File | None, addr: int, length: int, prot: int, flags: int, pgoff: int) -> int:
    """Map ``file`` from page ``pgoff`` on (None: anonymous memory) into the task's address space; returns where.

    Source: ``mm/mmap.c:do_mmap``.
    """
    mm = task.mm
    assert mm is not None
    if not length:
        raise KernelError(Errno.EINVAL)
    if flags & Map.FIXED_NOREPLACE:
        flags |= Map.FIXED
    if not flags & Map.FIXED:
        addr = _round_hint_to_min(addr)
    length = page_align(length)
    if not length:
        raise KernelError(Errno.ENOMEM)
    if len(mm.vmas) > MAX_MAP_COUNT:
        raise KernelError(Errno.ENOMEM)

    vm_flags = prot & VM_ACCESS_FLAGS | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if flags & Map.GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & Map.LOCKED:
        vm_flags |= VM_LOCKED
    if flags & Map.STACK:
        vm_flags |= VM_NOHUGEPAGE

    addr = get_unmapped_area(mm, addr, length, flags)
    if flags & Map.FIXED_NOREPLACE and find_vma_intersection(mm, addr, addr + length) is not None:
        raise KernelError(Errno.EEXIST)
    if flags & Map.LOCKED and not can_do_mlock(task):
        raise KernelError(Errno.EPERM)
    if not mlock_future_ok(task, vm_flags, length):
        raise KernelError(Errno.EAGAIN)

    if file is not None:
        if pgoff + (length >> PAGE_SHIFT) > _MAX_PGOFF:
            raise KernelError(Errno.EOVERFLOW)
        vm_flags = _file_vm_flags(file, vm_flags, prot, flags)
    else:
        match flags & MAP_TYPE:
            case Map.SHARED:
                if vm_flags & VM_GROWSDOWN:
                    raise KernelError(Errno.EINVAL)
                pgoff = 0
                vm_flags |= VM_SHARED | VM_MAYSHARE
            case Map.PRIVATE:
                pgoff = addr >> PAGE_SHIFT
            case _:
                raise KernelError(Errno.EINVAL)
    if flags & Map.NORESERVE:
        vm_flags |= VM_NORESERVE

    vma = mmap_region(task, file, addr, length, vm_flags, pgoff)
    if (hook := task.kernel.events.mmap) is not None:
        hook(task, addr, addr + length, prot, flags, file)
    if vma.flags & VM_LOCKED or flags & (Map.POPULATE | Map.NONBLOCK) == Map.POPULATE:
        mm_populate(mm, addr, addr + length)
    return addr


def _round_hint_to_min(hint: int) -> int:
    """A hint is rounded down, and moved up out of the forbidden first pages. Source: ``mm/mmap.c:round_hint_to_min``."""
    hint &= PAGE_MASK
    return MMAP_MIN_ADDR if 0 < hint < MMAP_MIN_ADDR else hint


def _file_vm_flags(file: File, vm_flags: int, prot: int, flags: int) -> int:
    """What a file allows of a mapping. Source: ``mm/mmap.c:do_mmap``, the part for files."""
    kind = flags & MAP_TYPE
    if kind not in (Map.SHARED, Map.SHARED_VALIDATE, Map.PRIVATE):
        raise KernelError(Errno.EINVAL)
    if kind == Map.SHARED_VALIDATE and flags & ~(LEGACY_MAP_MASK | Map.SHARED_VALIDATE):
        raise KernelError(Errno.EOPNOTSUPP)
    if kind != Map.PRIVATE:
        if prot & Prot.WRITE and not file.f_mode & FMode.WRITE:
            raise KernelError(Errno.EACCES)
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not file.f_mode & FMode.WRITE:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)

    if not file.f_mode & FMode.READ:
        raise KernelError(Errno.EACCES)
    if file.f_path is not None and file.f_path.mount.noexec():
        if vm_flags & VM_EXEC:
            raise KernelError(Errno.EPERM)
        vm_flags &= ~VM_MAYEXEC
    if vm_flags & VM_GROWSDOWN:
        raise KernelError(Errno.EINVAL)
    return vm_flags


def mmap_region(task: Task, file: File | None, addr: int, length: int, vm_flags: int, pgoff: int) -> Vma:
    """Put an area at [addr, addr + length), over whatever is there; returns the area that covers it, neighbours merged.

    Source: ``mm/mmap.c:mmap_region``.
    """
    mm = task.mm
    assert mm is not None
    end = addr + length
    overlapped = sum(min(end, vma.end) - max(addr, vma.start) for vma in vmas_between(mm, addr, end))
    if not may_expand_vm(mm, vm_flags, (length - overlapped) >> PAGE_SHIFT):
        raise KernelError(Errno.ENOMEM)
    if accountable_mapping(file, vm_flags):
        vm_enough_memory(mm.kernel, length >> PAGE_SHIFT)
        vm_flags |= VM_ACCOUNT

    unmap_range(mm, addr, end)
    vma = Vma(mm, addr, end, vm_flags, pgoff)
    if file is not None:
        vma.file = file.get()
        try:
            vma.mapping = file.mmap(task, vma)
        except KernelError:
            release_vma(vma)
            raise
    if vma.mapping is None and vm_flags & VM_SHARED:
        shmem_zero_setup(vma)

    vma.set_flags(vma.flags)  # what is behind it decides whether stores must be noticed
    vma_link(vma)
    mm.account_vm(vma.flags, length >> PAGE_SHIFT)
    if vma.flags & VM_LOCKED:
        if vma.flags & VM_SPECIAL:
            vma.set_flags(vma.flags & ~VM_LOCKED_MASK)
        else:
            mm.locked_vm += length >> PAGE_SHIFT
    return vma_merge(vma)


# -- limits


def accountable_mapping(file: File | None, vm_flags: int) -> bool:
    """Whether memory must be there for it some day. Source: ``mm/mmap.c:accountable_mapping``."""
    return vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE or (
        file is None and vm_flags & VM_SHARED != 0 and not vm_flags & VM_NORESERVE
    )


def vm_enough_memory(kernel: Kernel, pages: int) -> None:
    """Heuristic overcommit: ENOMEM for what is larger than the whole memory. Source: ``mm/util.c:__vm_enough_memory``."""
    if pages > kernel.frames.total:
        raise KernelError(Errno.ENOMEM)


def may_expand_vm(mm: Mm, vm_flags: int, pages: int) -> bool:
    """Whether RLIMIT_AS and RLIMIT_DATA allow so many pages more. Source: ``mm/mmap.c:may_expand_vm``."""
    if mm.total_vm + pages > mm.rlimit(Rlimit.AS) >> PAGE_SHIFT:
        return False
    if is_data_mapping(vm_flags) and mm.data_vm + pages > mm.rlimit(Rlimit.DATA) >> PAGE_SHIFT:
        return False
    return True


def can_do_mlock(task: Task) -> bool:
    """Whether the task may lock any memory at all. Source: ``mm/mlock.c:can_do_mlock``."""
    return task.signal.rlim.cur(Rlimit.MEMLOCK) != 0 or capable(task, Cap.IPC_LOCK)


def mlock_future_ok(task: Task, vm_flags: int, length: int) -> bool:
    """Whether RLIMIT_MEMLOCK allows a new area. Source: ``mm/mmap.c:mlock_future_ok``."""
    if not vm_flags & VM_LOCKED:
        return True
    assert task.mm is not None
    limit = task.signal.rlim.cur(Rlimit.MEMLOCK)
    return (
        limit == RLIM_INFINITY
        or task.mm.locked_vm + (length >> PAGE_SHIFT) <= limit >> PAGE_SHIFT
        or capable(task, Cap.IPC_LOCK)
    )


# -- finding room


def arch_pick_mmap_layout(mm: Mm, stack_top: int) -> None:
    """Decide where areas go: below the stack and the room that its limit lets it grow into.

    Source: ``mm/util.c:arch_pick_mmap_layout``, ``mmap_base``.
    """
    kernel = mm.kernel
    gap = mm.rlimit(Rlimit.STACK) + STACK_GUARD_GAP
    random_offset = 0
    if kernel.config.aslr:
        gap += _STACK_MAXRANDOM
        random_offset = (int.from_bytes(kernel.sources.random_bytes(4), "little") >> 4) << PAGE_SHIFT
    gap = min(max(gap, _MIN_GAP), stack_top // 6 * 5)
    mm.mmap_base = page_align(stack_top - gap - random_offset)


def get_unmapped_area(mm: Mm, addr: int, length: int, flags: int) -> int:
    """Where to put an area of ``length`` bytes for which ``addr`` is a hint, or an order with MAP_FIXED.

    Source: ``mm/mmap.c:get_unmapped_area``, ``arch_get_unmapped_area_topdown``.
    """
    task_size = mm.arch.task_size
    if length > task_size:
        raise KernelError(Errno.ENOMEM)
    if flags & Map.FIXED:
        if addr > task_size - length:
            raise KernelError(Errno.ENOMEM)
        if addr & OFFSET_MASK:
            raise KernelError(Errno.EINVAL)
        if addr < MMAP_MIN_ADDR and not _may_map_low(mm):
            raise KernelError(Errno.EPERM)
        return addr
    ceiling = _LOW_END if flags & Map.LOW_32BIT else task_size
    if addr and addr <= ceiling - length and _is_free(mm, addr, length):
        return addr
    if flags & Map.LOW_32BIT:
        found = _lowest_gap(mm, length, _LOW_BEGIN, _LOW_END)
    else:
        found = _highest_gap(mm, length, MMAP_MIN_ADDR, mm.mmap_base)
        if found is None:
            found = _lowest_gap(mm, length, mm.mmap_base, task_size)
    if found is None:
        raise KernelError(Errno.ENOMEM)
    return found


def _may_map_low(mm: Mm) -> bool:
    """Source: ``security/commoncap.c:cap_mmap_addr``."""
    current = mm.kernel.sched.current
    return current is not None and capable(current, Cap.SYS_RAWIO)


def _is_free(mm: Mm, addr: int, length: int) -> bool:
    """Whether nothing is at [addr, addr + length), nor a stack close above it."""
    index = vma_index(mm, addr)
    return index == len(mm.vmas) or addr + length <= vm_start_gap(mm.vmas[index])


def vm_start_gap(vma: Vma) -> int:
    """Where an area begins, with the gap below it that a stack keeps. Source: ``include/linux/mm.h:vm_start_gap``."""
    return max(vma.start - STACK_GUARD_GAP, 0) if vma.flags & VM_GROWSDOWN else vma.start


def _gaps(mm: Mm, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The free ranges within [low, high), from the bottom up."""
    start = low
    for vma in mm.vmas[vma_index(mm, low) :]:
        if start >= high:
            return
        yield start, min(vm_start_gap(vma), high)
        start = max(start, vma.end)
    yield start, high


def _lowest_gap(mm: Mm, length: int, low: int, high: int) -> int | None:
    return next((start for start, end in _gaps(mm, low, high) if end - start >= length), None)


def _highest_gap(mm: Mm, length: int, low: int, high: int) -> int | None:
    """The highest place for ``length`` bytes in [low, high). Source: ``mm/mmap.c:unmapped_area_topdown``."""
    vmas = mm.vmas
    end = high
    for index in range(vma_index(mm, high - 1) - 1, -2, -1):
        above = vmas[index + 1] if index + 1 < len(vmas) else None
        if above is not None:
            end = min(end, vm_start_gap(above))
        start = max(vmas[index].end if index >= 0 else 0, low)
        if end - start >= length:
            return end - length
        if start == low:
            return None
    return None


# -- filling and removing


def mm_populate(mm: Mm, start: int, end: int) -> None:
    """Fault in what can be faulted in; errors are nobody's business. Source: ``mm/gup.c:__mm_populate``."""
    for vma in vmas_between(mm, start, end):
        if vma.flags & (VM_IO | VM_PFNMAP) or vma.flags & VM_LOCKONFAULT or not vma.flags & VM_ACCESS_FLAGS:
            continue
        if not populate_vma(vma, max(start, vma.start), min(end, vma.end)):
            return


def populate_vma(vma: Vma, start: int, end: int) -> bool:
    """Fault in a part of an area, for writing where that means a private copy; says whether all of it could be.

    Source: ``mm/gup.c:populate_vma_page_range``.
    """
    write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    done = all(handle_mm_fault(vma, address, write) for address in range(start, end, PAGE_SIZE))
    vma.mm.flush_tlb()
    return done


def do_munmap(mm: Mm, start: int, length: int) -> None:
    """Remove whatever is at [start, start + length). Source: ``mm/vma.c:do_vmi_munmap``."""
    task_size = mm.arch.task_size
    if start & OFFSET_MASK or start > task_size or length > task_size - start:
        raise KernelError(Errno.EINVAL)
    end = start + page_align(length)
    if end == start:
        raise KernelError(Errno.EINVAL)
    unmap_range(mm, start, end)


def unmap_range(mm: Mm, start: int, end: int) -> None:
    """The same for a range that is known to be sound. Source: ``mm/vma.c:do_vmi_align_munmap``."""
    vmas = vmas_between(mm, start, end)
    if not vmas:
        return
    if start > vmas[0].start:
        if end < vmas[0].end and len(mm.vmas) >= MAX_MAP_COUNT:
            raise KernelError(Errno.ENOMEM)
        upper = split_vma(vmas[0], start)
        vmas[0] = upper
    if end < vmas[-1].end:
        split_vma(vmas[-1], end)
    for vma in vmas:
        zap_page_range(vma, vma.start, vma.end)
        mm.account_vm(vma.flags, -vma.nr_pages)
        if vma.flags & VM_LOCKED:
            mm.locked_vm -= vma.nr_pages
    mm.flush_tlb()
    for vma in vmas:
        vma_unlink(vma)
