"""Making, changing and removing areas: what is allowed, where things go, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from minikern.fs.file import FMode
from minikern.kernel.cred import Cap
from minikern.kernel.errno import KernelError
from minikern.kernel.resource import Rlimit
from minikern.mm.brk import padzero, sys_brk, vm_brk_flags
from minikern.mm.madvise import do_madvise, madvise_set_anon_name
from minikern.mm.mincore import sys_mincore
from minikern.mm.mlock import sys_mlock, sys_mlockall, sys_munlock, sys_munlockall
from minikern.mm.mm import Mm
from minikern.mm.mman import Madv, Map, Mcl, Mremap, Ms, Prot
from minikern.mm.mmap import STACK_GUARD_GAP, do_mmap, do_munmap
from minikern.mm.mprotect import do_mprotect
from minikern.mm.mremap import sys_mremap
from minikern.mm.msync import sys_msync
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern.mm.vma import VM_EXEC, VM_MAYEXEC, VM_MAYWRITE, VM_SHARED, Vma, vma_name

from .fakes import TASK_SIZE, FakeCred, FakeFile, FakeInode, Machine, check

PAGE = 4096
RW = Prot.READ | Prot.WRITE
ANON = Map.PRIVATE | Map.ANONYMOUS
AT = 0x4000_0000


@pytest.fixture
def machine() -> Machine:
    return Machine()


def mm_of(machine: Machine) -> Mm:
    assert machine.task.mm is not None
    return machine.task.mm


def mmap(
    machine: Machine, at: int, pages: int, prot: int = RW, flags: int = ANON, file: Any = None, pgoff: int = 0
) -> int:
    return do_mmap(machine.task, file, at, pages * PAGE, prot, flags, pgoff)


def areas(machine: Machine) -> list[tuple[int, int]]:
    return [(vma.start, vma.end) for vma in mm_of(machine).vmas]


def fails(errno: str) -> Any:
    return pytest.raises(KernelError, match=f"^{errno}$")


# -- where


def test_from_the_top_down(machine: Machine) -> None:
    base = mm_of(machine).mmap_base
    assert mmap(machine, 0, 2) == base - 2 * PAGE
    assert mmap(machine, 0, 1, Prot.READ) == base - 3 * PAGE
    assert mmap(machine, 0, 1, RW) == base - 4 * PAGE
    do_munmap(mm_of(machine), base - 3 * PAGE, PAGE)
    assert mmap(machine, 0, 2) == base - 6 * PAGE
    assert mmap(machine, 0, 1) == base - 3 * PAGE  # the hole fits
    assert areas(machine) == [(base - 6 * PAGE, base)]  # and all is one area


def test_hints(machine: Machine) -> None:
    assert mmap(machine, AT + 5, 1) == AT
    assert mmap(machine, AT, 1) == mm_of(machine).mmap_base - PAGE  # taken
    assert mmap(machine, 5000, 1) == 65536  # moved out of the forbidden first pages
    assert mmap(machine, TASK_SIZE - PAGE, 1) == TASK_SIZE - PAGE
    assert mmap(machine, TASK_SIZE, 1) == mm_of(machine).mmap_base - 2 * PAGE


def test_low_addresses_on_request(machine: Machine) -> None:
    assert mmap(machine, 0, 1, RW, ANON | Map.LOW_32BIT) == 0x4000_0000
    assert mmap(machine, 0, 1, RW, ANON | Map.LOW_32BIT) == 0x4000_1000
    assert mmap(machine, 0x5000_0000, 1, RW, ANON | Map.LOW_32BIT) == 0x5000_0000
    with fails("ENOMEM"):
        mmap(machine, 0, 0x40000, RW, ANON | Map.LOW_32BIT | Map.NORESERVE)


def test_fixed(machine: Machine) -> None:
    mmap(machine, AT, 4, RW, ANON | Map.FIXED)
    copy_to_user(machine.task, AT, b"x" * 4 * PAGE)
    assert mmap(machine, AT + PAGE, 2, Prot.READ, ANON | Map.FIXED) == AT + PAGE
    assert copy_from_user(machine.task, AT, 4 * PAGE) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
    assert areas(machine) == [(AT, AT + PAGE), (AT + PAGE, AT + 3 * PAGE), (AT + 3 * PAGE, AT + 4 * PAGE)]
    with fails("EEXIST"):
        mmap(machine, AT + 3 * PAGE, 2, RW, ANON | Map.FIXED_NOREPLACE)
    with fails("EINVAL"):
        mmap(machine, AT + 1, 1, RW, ANON | Map.FIXED)
    with fails("ENOMEM"):
        mmap(machine, TASK_SIZE - PAGE, 2, RW, ANON | Map.FIXED)
    with fails("EPERM"):
        mmap(machine, 0, 1, RW, ANON | Map.FIXED)
    machine.task.cred = FakeCred(frozenset({Cap.SYS_RAWIO}))  # type: ignore[assignment]
    assert mmap(machine, 0, 1, RW, ANON | Map.FIXED) == 0


def test_distance_to_a_stack(machine: Machine) -> None:
    mmap(machine, AT, 1, RW, ANON | Map.FIXED | Map.GROWSDOWN)
    near = AT - STACK_GUARD_GAP
    assert mmap(machine, near, 1) != near
    assert mmap(machine, near - PAGE, 1) == near - PAGE


def test_when_everything_is_full(machine: Machine) -> None:
    mm = mm_of(machine)
    mmap(machine, 65536, (mm.mmap_base - 65536) // PAGE - 1, Prot.NONE, ANON | Map.FIXED)
    assert mmap(machine, 0, 1) == mm.mmap_base - PAGE
    assert mmap(machine, 0, 1) == mm.mmap_base  # above it, from the bottom up


# -- whether


def test_arguments(machine: Machine) -> None:
    file = FakeFile(FakeInode(machine.kernel, b"x" * PAGE))
    with fails("EINVAL"):
        mmap(machine, 0, 0)
    with fails("ENOMEM"):
        do_mmap(machine.task, None, 0, (1 << 64) - 1, RW, ANON, 0)
    with fails("ENOMEM"):
        do_mmap(machine.task, None, 0, TASK_SIZE + PAGE, RW, ANON | Map.NORESERVE, 0)
    with fails("EINVAL"):
        mmap(machine, 0, 1, RW, Map.ANONYMOUS)
    with fails("EINVAL"):
        mmap(machine, 0, 1, RW, Map.ANONYMOUS | Map.SHARED_VALIDATE)
    with fails("EINVAL"):
        mmap(machine, 0, 1, RW, Map.ANONYMOUS | Map.SHARED | Map.GROWSDOWN)
    with fails("EINVAL"):
        mmap(machine, 0, 1, RW, Map.PRIVATE | Map.GROWSDOWN, file)
    with fails("EOPNOTSUPP"):
        mmap(machine, 0, 1, RW, Map.SHARED_VALIDATE | Map.SYNC, file)
    with fails("EOPNOTSUPP"):
        mmap(machine, 0, 1, RW, Map.SHARED_VALIDATE | 1 << 26 | 1 << 30, file)
    assert mmap(machine, 0, 1, RW, Map.SHARED | 1 << 30, file)
    with fails("EOVERFLOW"):
        mmap(machine, 0, 1, RW, Map.PRIVATE, file, (1 << 51) - 1)


def test_what_a_file_allows(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * PAGE)
    readable, writable = FakeFile(inode, FMode.READ), FakeFile(inode, FMode.WRITE)
    with fails("EACCES"):
        mmap(machine, 0, 1, RW, Map.SHARED, readable)
    with fails("EACCES"):
        mmap(machine, 0, 1, Prot.READ, Map.SHARED, writable)
    with fails("EACCES"):
        mmap(machine, 0, 1, Prot.READ, Map.PRIVATE, writable)
    at = mmap(machine, AT, 1, Prot.READ, Map.SHARED, readable)
    assert mm_of(machine).vmas[0].flags & (VM_SHARED | VM_MAYWRITE) == 0
    with fails("EACCES"):
        do_mprotect(mm_of(machine), at, PAGE, RW)
    mmap(machine, 0, 1, RW, Map.PRIVATE, readable)


def test_file_systems_without_execution(machine: Machine) -> None:
    class Mount:
        def noexec(self) -> bool:
            return True

    class Path:
        mount = Mount()

    file: Any = FakeFile(FakeInode(machine.kernel, b"x" * PAGE))
    file.f_path = Path()
    with fails("EPERM"):
        mmap(machine, 0, 1, Prot.EXEC, Map.PRIVATE, file)
    at = mmap(machine, 0, 1, Prot.READ, Map.PRIVATE, file)
    assert not mm_of(machine).vmas[0].flags & (VM_EXEC | VM_MAYEXEC)
    with fails("EACCES"):
        do_mprotect(mm_of(machine), at, PAGE, Prot.READ | Prot.EXEC)


def test_a_file_that_cannot_be_mapped(machine: Machine) -> None:
    class Unmappable(FakeFile):
        def mmap(self, task: Any, vma: Any) -> Any:
            from minikern.kernel.errno import Errno

            raise KernelError(Errno.ENODEV)

    file = Unmappable(FakeInode(machine.kernel))
    with fails("ENODEV"):
        mmap(machine, 0, 1, RW, Map.PRIVATE, file)
    assert (file.count, areas(machine), mm_of(machine).total_vm) == (1, [], 0)


def test_limits(machine: Machine) -> None:
    limits = machine.task.signal.rlim.pairs
    limits[Rlimit.AS] = (10 * PAGE, 10 * PAGE)
    mmap(machine, AT, 9, Prot.READ)
    with fails("ENOMEM"):
        mmap(machine, 0, 2)
    mmap(machine, AT, 10, RW, ANON | Map.FIXED)  # what it replaces does not count
    limits[Rlimit.AS] = (1 << 40, 1 << 40)
    limits[Rlimit.DATA] = (12 * PAGE, 12 * PAGE)
    with fails("ENOMEM"):
        mmap(machine, 0, 3)
    at = mmap(machine, 0, 3, Prot.READ)
    with fails("ENOMEM"):
        do_mprotect(mm_of(machine), at, 3 * PAGE, RW)
    assert mm_of(machine).data_vm == 10


def test_overcommit_heuristic(machine: Machine) -> None:
    total = machine.kernel.frames.total
    with fails("ENOMEM"):
        mmap(machine, 0, total + 1)
    mmap(machine, 0, total)
    mmap(machine, 0, total)  # each one could fit
    mmap(machine, 0, 100 * total, RW, ANON | Map.NORESERVE)
    at = mmap(machine, 0, 100 * total, Prot.NONE)
    with fails("ENOMEM"):
        do_mprotect(mm_of(machine), at, 100 * total * PAGE, RW)


def test_populate(machine: Machine) -> None:
    mmap(machine, AT, 5, RW, ANON | Map.POPULATE)
    assert mm_of(machine).rss_anon == 5
    inode = FakeInode(machine.kernel, b"x" * 3 * PAGE)
    mmap(machine, 0, 5, Prot.READ, Map.PRIVATE | Map.POPULATE, FakeFile(inode))
    assert mm_of(machine).rss_file == 3
    mmap(machine, 0, 5, Prot.NONE, ANON | Map.POPULATE)
    assert mm_of(machine).rss == 8
    assert mm_of(machine).max_rss == 8
    do_munmap(mm_of(machine), AT, 5 * PAGE)
    assert (mm_of(machine).rss, mm_of(machine).max_rss) == (3, 8)


# -- one area or several


def test_equal_neighbours_are_one_area(machine: Machine) -> None:
    mmap(machine, AT, 1)
    mmap(machine, AT + 2 * PAGE, 1)
    mmap(machine, AT + PAGE, 1)
    assert areas(machine) == [(AT, AT + 3 * PAGE)]
    do_mprotect(mm_of(machine), AT + PAGE, PAGE, Prot.NONE)
    assert len(areas(machine)) == 3
    do_mprotect(mm_of(machine), AT + PAGE, PAGE, RW)
    assert areas(machine) == [(AT, AT + 3 * PAGE)]


def test_file_areas_join_where_the_file_goes_on(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 4 * PAGE)
    file = FakeFile(inode)
    mmap(machine, AT, 1, RW, Map.SHARED, file, 0)
    mmap(machine, AT + PAGE, 1, RW, Map.SHARED, file, 1)
    mmap(machine, AT + 2 * PAGE, 1, RW, Map.SHARED, file, 3)
    mmap(machine, AT + 3 * PAGE, 1, RW, Map.SHARED, FakeFile(inode), 4)
    assert areas(machine) == [(AT, AT + 2 * PAGE), (AT + 2 * PAGE, AT + 3 * PAGE), (AT + 3 * PAGE, AT + 4 * PAGE)]
    assert file.count == 3


def test_owners_hear_of_their_areas(machine: Machine) -> None:
    class Ops:
        opened = closed = 0

        def open(self, vma: Vma) -> None:
            self.opened += 1

        def close(self, vma: Vma) -> None:
            self.closed += 1

    ops = Ops()

    class Owned(FakeFile):
        def mmap(self, task: Any, vma: Any) -> Any:
            vma.ops = ops
            return self.inode.mapping

    mmap(machine, AT, 3, RW, Map.SHARED, Owned(FakeInode(machine.kernel, backed=False)))
    do_munmap(mm_of(machine), AT + PAGE, PAGE)
    assert (ops.opened, ops.closed) == (2, 1)
    do_munmap(mm_of(machine), AT, 3 * PAGE)
    assert (ops.opened, ops.closed) == (2, 3)


# -- brk


def heap(machine: Machine, at: int = AT) -> Mm:
    mm = mm_of(machine)
    mm.start_brk = mm.brk = at
    return mm


def test_brk(machine: Machine) -> None:
    mm = heap(machine, AT + 100)
    assert sys_brk(machine.task, 0) == AT + 100
    assert sys_brk(machine.task, AT + 3 * PAGE) == AT + 3 * PAGE
    assert areas(machine) == [(AT + PAGE, AT + 3 * PAGE)]
    assert vma_name(mm.vmas[0]) == "[heap]"
    machine.cpu.store(AT + PAGE, 1)
    assert sys_brk(machine.task, AT + 5 * PAGE + 1) == AT + 5 * PAGE + 1
    assert areas(machine) == [(AT + PAGE, AT + 6 * PAGE)]
    assert sys_brk(machine.task, AT + 2 * PAGE) == AT + 2 * PAGE
    assert areas(machine) == [(AT + PAGE, AT + 2 * PAGE)]
    assert machine.cpu.load(AT + PAGE) == 1
    assert sys_brk(machine.task, AT) == AT + 2 * PAGE  # below its start: no


def test_brk_finds_no_room(machine: Machine) -> None:
    heap(machine)
    mmap(machine, AT + 4 * PAGE, 1, RW, ANON | Map.FIXED)
    assert sys_brk(machine.task, AT + 4 * PAGE) == AT  # a page must stay free
    assert sys_brk(machine.task, AT + 3 * PAGE) == AT + 3 * PAGE
    machine.task.signal.rlim.pairs[Rlimit.DATA] = (PAGE, PAGE)
    assert sys_brk(machine.task, AT + 3 * PAGE - 1) == AT + 3 * PAGE
    assert sys_brk(machine.task, TASK_SIZE) == AT + 3 * PAGE


def test_bss(machine: Machine) -> None:
    file = FakeFile(FakeInode(machine.kernel, b"d" * PAGE))
    mmap(machine, AT, 1, RW, Map.PRIVATE | Map.FIXED, file)
    padzero(mm_of(machine), AT + 100)
    vm_brk_flags(mm_of(machine), AT + PAGE, 5000, 0)
    assert copy_from_user(machine.task, AT, 2 * PAGE) == b"d" * 100 + bytes(2 * PAGE - 100)
    assert areas(machine) == [(AT, AT + PAGE), (AT + PAGE, AT + 3 * PAGE)]
    padzero(mm_of(machine), AT)
    assert copy_from_user(machine.task, AT, 1) == b"d"  # nothing to pad at the start of a page
    with fails("EFAULT"):
        padzero(mm_of(machine), AT - 1)


# -- mremap


def test_mremap_in_place(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    machine.cpu.store(AT, 1)
    assert sys_mremap(machine.task, AT, 2 * PAGE, 4 * PAGE, 0, 0) == AT
    assert areas(machine) == [(AT, AT + 4 * PAGE)]
    assert sys_mremap(machine.task, AT, 4 * PAGE, PAGE, 0, 0) == AT
    assert areas(machine) == [(AT, AT + PAGE)]
    assert mm_of(machine).total_vm == 1
    mmap(machine, AT + 2 * PAGE, 1, Prot.READ, ANON | Map.FIXED)
    with fails("ENOMEM"):
        sys_mremap(machine.task, AT, PAGE, 3 * PAGE, 0, 0)


def test_mremap_moves_pages(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    mmap(machine, AT + 2 * PAGE, 1, Prot.READ, ANON | Map.FIXED)
    machine.cpu.store(AT + 1, 1)
    frame = machine.cpu.translate(AT + PAGE, 2)
    there = sys_mremap(machine.task, AT, 2 * PAGE, 600 * PAGE, Mremap.MAYMOVE, 0)
    assert there == mm_of(machine).mmap_base - 600 * PAGE
    assert machine.cpu.load(AT) is None
    assert machine.cpu.load(there + 1) == 1
    assert machine.cpu.translate(there + PAGE, 2) == frame
    assert mm_of(machine).total_vm == 601
    check(machine, machine.task)


def test_mremap_leaves_an_empty_place(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    machine.cpu.store(AT, 1)
    there = sys_mremap(machine.task, AT, 2 * PAGE, 2 * PAGE, Mremap.MAYMOVE | Mremap.DONTUNMAP, 0)
    assert (machine.cpu.load(AT), machine.cpu.load(int(there))) == (0, 1)  # type: ignore[arg-type]


def test_mremap_doubles_shared_memory(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, Map.SHARED | Map.ANONYMOUS | Map.FIXED)
    there = sys_mremap(machine.task, AT, 0, 2 * PAGE, Mremap.MAYMOVE, 0)
    assert isinstance(there, int)
    machine.cpu.store(AT, 9)
    assert machine.cpu.load(there) == 9
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    with fails("EINVAL"):
        sys_mremap(machine.task, AT, 0, 2 * PAGE, Mremap.MAYMOVE, 0)


def test_mremap_arguments(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    task = machine.task
    for addr, old, new, flags, to, errno in (
        (AT, PAGE, PAGE, 8, 0, "EINVAL"),
        (AT, PAGE, PAGE, Mremap.FIXED, 0, "EINVAL"),
        (AT, PAGE, 2 * PAGE, Mremap.DONTUNMAP | Mremap.MAYMOVE, 0, "EINVAL"),
        (AT + 1, PAGE, PAGE, 0, 0, "EINVAL"),
        (AT, PAGE, 0, 0, 0, "EINVAL"),
        (AT - PAGE, PAGE, PAGE, 0, 0, "EFAULT"),
        (AT, 3 * PAGE, 4 * PAGE, 0, 0, "EFAULT"),
        (AT, 2 * PAGE, PAGE, Mremap.MAYMOVE | Mremap.FIXED, AT + PAGE, "EINVAL"),
        (AT, PAGE, PAGE, Mremap.MAYMOVE | Mremap.FIXED, AT + 1, "EINVAL"),
        (AT, PAGE, PAGE, Mremap.MAYMOVE | Mremap.FIXED, TASK_SIZE, "EINVAL"),
    ):
        with fails(errno):
            sys_mremap(task, addr, old, new, flags, to)


# -- mprotect


def test_mprotect_goes_as_far_as_it_can(machine: Machine) -> None:
    mmap(machine, AT, 1, RW, ANON | Map.FIXED)
    mmap(machine, AT + 2 * PAGE, 1, RW, ANON | Map.FIXED)
    with fails("ENOMEM"):
        do_mprotect(mm_of(machine), AT, 3 * PAGE, Prot.READ)
    assert (machine.cpu.store(AT, 1), machine.cpu.store(AT + 2 * PAGE, 1)) == (False, True)


def test_mprotect_arguments(machine: Machine) -> None:
    mmap(machine, AT, 1, RW, ANON | Map.FIXED)
    mm = mm_of(machine)
    assert do_mprotect(mm, 0, 0, 0) == 0
    for start, length, prot, errno in (
        (AT + 1, PAGE, RW, "EINVAL"),
        (AT, PAGE, 0x10, "EINVAL"),
        (AT, PAGE, Prot.GROWSDOWN | Prot.GROWSUP, "EINVAL"),
        (AT, PAGE, RW | Prot.GROWSDOWN, "EINVAL"),
        (AT, PAGE, RW | Prot.GROWSUP, "EINVAL"),
        (AT - PAGE, PAGE, RW, "ENOMEM"),
        (AT, (1 << 64) - PAGE, RW, "ENOMEM"),
    ):
        with fails(errno):
            do_mprotect(mm, start, length, prot)
    mmap(machine, AT + PAGE, 2, RW, ANON | Map.FIXED | Map.GROWSDOWN)
    do_mprotect(mm, AT + 2 * PAGE, PAGE, Prot.READ | Prot.GROWSDOWN)  # from the start of the stack on
    assert not machine.cpu.store(AT + PAGE, 1)


def test_protection_takes_effect_at_once(machine: Machine) -> None:
    mmap(machine, AT, 1, RW, ANON | Map.FIXED)
    machine.cpu.store(AT, 1)
    do_mprotect(mm_of(machine), AT, PAGE, Prot.READ)
    assert not machine.cpu.store(AT, 2)
    do_mprotect(mm_of(machine), AT, PAGE, Prot.NONE)
    assert machine.cpu.load(AT) is None
    do_mprotect(mm_of(machine), AT, PAGE, RW | Prot.EXEC)
    assert machine.cpu.translate(AT, 4) is not None
    assert machine.cpu.store(AT, 3)


# -- madvise, mincore, mlock, msync


def test_dontneed(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"f" * PAGE)
    mmap(machine, AT, 1, RW, ANON | Map.FIXED)
    mmap(machine, AT + PAGE, 1, RW, Map.PRIVATE | Map.FIXED, FakeFile(inode))
    mmap(machine, AT + 2 * PAGE, 1, RW, Map.SHARED | Map.ANONYMOUS | Map.FIXED)
    for page in range(3):
        machine.cpu.store(AT + page * PAGE, 1)
    do_madvise(mm_of(machine), AT, 3 * PAGE, Madv.DONTNEED)
    assert [machine.cpu.load(AT + page * PAGE) for page in range(3)] == [0, ord("f"), 1]
    with fails("ENOMEM"):
        do_madvise(mm_of(machine), AT - PAGE, 2 * PAGE, Madv.DONTNEED)
    with fails("EINVAL"):
        do_madvise(mm_of(machine), AT + PAGE, PAGE, Madv.FREE)
    with fails("EINVAL"):
        do_madvise(mm_of(machine), AT, PAGE, 77)


def test_remove(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, Map.SHARED | Map.ANONYMOUS | Map.FIXED)
    mmap(machine, AT + 2 * PAGE, 1, RW, ANON | Map.FIXED)
    machine.cpu.store(AT, 1)
    machine.cpu.store(AT + PAGE, 2)
    do_madvise(mm_of(machine), AT, PAGE, Madv.REMOVE)
    assert (machine.cpu.load(AT), machine.cpu.load(AT + PAGE)) == (0, 2)
    with fails("EINVAL"):
        do_madvise(mm_of(machine), AT + 2 * PAGE, PAGE, Madv.REMOVE)


def test_populate_by_advice(machine: Machine) -> None:
    mmap(machine, AT, 2, RW, ANON | Map.FIXED)
    do_madvise(mm_of(machine), AT, 2 * PAGE, Madv.POPULATE_WRITE)
    assert mm_of(machine).rss_anon == 2
    mmap(machine, AT, 1, Prot.READ, ANON | Map.FIXED)
    with fails("EINVAL"):
        do_madvise(mm_of(machine), AT, PAGE, Madv.POPULATE_WRITE)
    with fails("ENOMEM"):
        do_madvise(mm_of(machine), AT, 3 * PAGE, Madv.POPULATE_READ)
    file = FakeFile(FakeInode(machine.kernel, b""))
    mmap(machine, AT, 1, Prot.READ, Map.PRIVATE | Map.FIXED, file)
    with fails("EFAULT"):
        do_madvise(mm_of(machine), AT, PAGE, Madv.POPULATE_READ)


def test_names(machine: Machine) -> None:
    mmap(machine, AT, 3, RW, ANON | Map.FIXED)
    madvise_set_anon_name(mm_of(machine), AT + PAGE, PAGE, b"mine")
    assert [vma_name(vma) for vma in mm_of(machine).vmas] == ["", "[anon:mine]", ""]
    madvise_set_anon_name(mm_of(machine), AT + PAGE, PAGE, None)
    assert len(areas(machine)) == 1
    mmap(machine, AT + 3 * PAGE, 1, RW, Map.SHARED | Map.ANONYMOUS | Map.FIXED)
    madvise_set_anon_name(mm_of(machine), AT + 3 * PAGE, PAGE, b"ours")
    assert vma_name(mm_of(machine).vmas[1]) == "[anon_shmem:ours]"


def test_mincore(machine: Machine) -> None:
    mmap(machine, AT, 4, RW, ANON | Map.FIXED)
    machine.cpu.store(AT + PAGE, 1)
    inode = FakeInode(machine.kernel, b"f" * 2 * PAGE)
    inode.mapping.get_page(1)
    mmap(machine, AT + 4 * PAGE, 2, Prot.READ, Map.PRIVATE | Map.FIXED, FakeFile(inode))
    assert sys_mincore(machine.task, AT, 6 * PAGE, AT) == 0
    assert copy_from_user(machine.task, AT, 6) == b"\0\1\0\0\0\1"
    with fails("ENOMEM"):
        sys_mincore(machine.task, AT, 7 * PAGE, AT)
    with fails("EFAULT"):
        sys_mincore(machine.task, AT, PAGE, 0)


def test_mlock(machine: Machine) -> None:
    machine.task.signal.rlim.pairs[Rlimit.MEMLOCK] = (4 * PAGE, 4 * PAGE)
    mm = mm_of(machine)
    mmap(machine, AT, 6, RW, ANON | Map.FIXED)
    assert sys_mlock(machine.task, AT + PAGE + 5, 2 * PAGE) == 0
    assert (mm.locked_vm, mm.rss_anon, len(mm.vmas)) == (3, 3, 3)
    sys_mlock(machine.task, AT, 4 * PAGE)  # what is locked already does not count twice
    with fails("ENOMEM"):
        sys_mlock(machine.task, AT, 5 * PAGE)
    with fails("EINVAL"):
        do_madvise(mm, AT, PAGE, Madv.DONTNEED)
    sys_munlock(machine.task, AT, 2 * PAGE)
    assert mm.locked_vm == 2
    do_munmap(mm, AT + 3 * PAGE, PAGE)
    assert mm.locked_vm == 1
    with fails("ENOMEM"):
        sys_munlock(machine.task, AT, 6 * PAGE)
    with fails("EAGAIN"):
        mmap(machine, 0, 5, RW, ANON | Map.LOCKED)
    machine.task.signal.rlim.pairs[Rlimit.MEMLOCK] = (0, 0)
    with fails("EPERM"):
        sys_mlock(machine.task, AT, PAGE)
    with fails("EPERM"):
        mmap(machine, 0, 1, RW, ANON | Map.LOCKED)


def test_mlockall(machine: Machine) -> None:
    mm = mm_of(machine)
    mmap(machine, AT, 3, RW, ANON | Map.FIXED)
    sys_mlockall(machine.task, Mcl.CURRENT | Mcl.FUTURE)
    assert (mm.locked_vm, mm.rss_anon) == (3, 3)
    mmap(machine, AT + 3 * PAGE, 2, RW, ANON | Map.FIXED)
    assert (mm.locked_vm, mm.rss_anon, len(mm.vmas)) == (5, 5, 1)
    sys_munlockall(machine.task)
    mmap(machine, AT + 5 * PAGE, 2, RW, ANON | Map.FIXED)
    assert (mm.locked_vm, mm.rss_anon, len(mm.vmas)) == (0, 5, 1)
    for flags in (0, Mcl.ONFAULT, 8):
        with fails("EINVAL"):
            sys_mlockall(machine.task, flags)


def test_msync(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 3 * PAGE)
    mmap(machine, AT, 3, RW, Map.SHARED | Map.FIXED, FakeFile(inode))
    for page in range(3):
        machine.cpu.store(AT + page * PAGE, ord("y"))
    assert sys_msync(machine.task, AT + PAGE, PAGE, Ms.SYNC) == 0
    assert inode.writes == [1]
    with fails("ENOMEM"):
        sys_msync(machine.task, AT - PAGE, 3 * PAGE, Ms.SYNC)
    assert inode.writes == [1, 0]
    for flags in (8, Ms.SYNC | Ms.ASYNC):
        with fails("EINVAL"):
            sys_msync(machine.task, AT, PAGE, flags)
