"""What happens when a page is touched: the right page, or the right reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from minikern.kernel.resource import Rlimit
from minikern.kernel.siginfo import FaultCode, Signal
from minikern.mm.memory import Fault, fault_siginfo
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap
from minikern.mm.page_alloc import ZERO_PFN
from minikern.mm.pgtable import PTE_W, PTE_X, pte_of
from minikern.mm.special import install_special_mapping
from minikern.mm.stack import bprm_mm_init, setup_arg_pages
from minikern.mm.uaccess import mm_write
from minikern.mm.vma import VM_EXEC, VM_MAYEXEC, VM_MAYREAD, VM_MAYWRITE, VM_READ, vma_name

from .fakes import TASK_SIZE, FakeFile, FakeInode, Machine, check

PAGE = 4096
RW = Prot.READ | Prot.WRITE
ANON = Map.PRIVATE | Map.ANONYMOUS


@pytest.fixture
def machine() -> Machine:
    return Machine()


def mmap(machine: Machine, pages: int, prot: int = RW, flags: int = ANON, file: Any = None, pgoff: int = 0) -> int:
    return do_mmap(machine.task, file, 0, pages * PAGE, prot, flags, pgoff)


def signal_of(machine: Machine, address: int, access: int) -> tuple[int, int, int]:
    assert machine.task.mm is not None
    assert machine.task.mm.fault(address, access) == 0
    info = fault_siginfo(machine.task, address, access)
    assert info is not None
    return info.signo, info.code, info.addr


def test_reading_costs_no_frame_and_writing_one(machine: Machine) -> None:
    at = mmap(machine, 4)
    free = machine.kernel.frames.nr_free
    mm = machine.task.mm
    assert mm is not None
    assert machine.cpu.load(at) == 0
    assert pte_of(mm, at >> 12) >> 12 == ZERO_PFN
    assert (mm.rss, machine.kernel.frames.nr_free) == (0, free)
    assert machine.cpu.store(at, 7)
    assert machine.cpu.load(at) == 7
    assert (mm.rss_anon, machine.kernel.frames.nr_free) == (1, free - 1)
    assert machine.task.usage.min_flt == 2


@pytest.mark.parametrize(
    ("prot", "allowed"),
    [
        (Prot.NONE, ()),
        (Prot.READ, (1,)),
        (Prot.WRITE, (1, 2)),  # no CPU of interest can deny the load
        (RW, (1, 2)),
        (Prot.EXEC, (1, 4)),
        (Prot.READ | Prot.EXEC, (1, 4)),
        (RW | Prot.EXEC, (1, 2, 4)),
    ],
)
def test_permissions(machine: Machine, prot: int, allowed: tuple[int, ...]) -> None:
    at = mmap(machine, 1, prot)
    for access in (1, 2, 4):
        if access in allowed:
            assert machine.cpu.translate(at + 9, access) is not None
        else:
            assert signal_of(machine, at + 9, access) == (Signal.SIGSEGV, FaultCode.SEGV_ACCERR, at + 9)


def test_nothing_mapped(machine: Machine) -> None:
    assert signal_of(machine, 0, 1) == (Signal.SIGSEGV, FaultCode.SEGV_MAPERR, 0)
    at = mmap(machine, 1)
    assert signal_of(machine, at - 1, 2) == (Signal.SIGSEGV, FaultCode.SEGV_MAPERR, at - 1)
    assert signal_of(machine, 1 << 63, 4) == (Signal.SIGSEGV, FaultCode.SEGV_MAPERR, 1 << 63)


@pytest.mark.parametrize("flags", [Map.PRIVATE, Map.SHARED])
def test_behind_the_end_of_a_file(machine: Machine, flags: int) -> None:
    file = FakeFile(FakeInode(machine.kernel, b"x" * (PAGE + 1)))
    at = mmap(machine, 3, RW, flags, file)
    assert machine.cpu.load(at + PAGE) == ord("x")
    assert machine.cpu.load(at + PAGE + 1) == 0
    for access in (1, 2):
        assert signal_of(machine, at + 2 * PAGE + 5, access) == (Signal.SIGBUS, FaultCode.BUS_ADRERR, at + 2 * PAGE + 5)


def test_a_file_that_cannot_be_read(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * PAGE)
    inode.broken = True
    at = mmap(machine, 1, Prot.READ, Map.PRIVATE, FakeFile(inode))
    assert signal_of(machine, at, 1) == (Signal.SIGBUS, FaultCode.BUS_ADRERR, at)


def test_file_pages_are_shared_until_they_are_written(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"a" * PAGE * 3)
    at = mmap(machine, 3, RW, Map.PRIVATE, FakeFile(inode))
    mm = machine.task.mm
    assert mm is not None
    assert machine.cpu.load(at) == ord("a")
    frame = inode.mapping.pages[0]
    assert pte_of(mm, at >> 12) >> 12 == frame
    assert (machine.task.usage.maj_flt, mm.rss_file) == (1, 1)
    assert machine.cpu.store(at, 1)
    assert machine.cpu.load(at + 1) == ord("a")
    assert pte_of(mm, at >> 12) >> 12 != frame
    assert (mm.rss_file, mm.rss_anon) == (0, 1)
    assert inode.mapping.read(0, 1) == b"a"
    assert machine.cpu.store(at + PAGE, 1)  # the first touch is a store
    assert machine.cpu.load(at + PAGE + 1) == ord("a")
    check(machine, machine.task)


def test_cached_neighbours_come_along(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"a" * PAGE * 40)
    for index in range(40):
        inode.mapping.get_page(index)
    at = mmap(machine, 40, Prot.READ | Prot.EXEC, Map.PRIVATE, FakeFile(inode))
    mm = machine.task.mm
    assert mm is not None
    assert machine.cpu.translate(at + 20 * PAGE, 4) is not None
    assert 8 <= mm.rss_file <= 16
    assert all(pte & PTE_X for table in mm.tables.values() for pte in table.entries.values())
    check(machine, machine.task)


def test_shared_stores_reach_the_file(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"a" * PAGE)
    at = mmap(machine, 1, RW, Map.SHARED, FakeFile(inode))
    assert machine.cpu.load(at) == ord("a")
    assert not inode.mapping.dirty
    assert machine.cpu.store(at, ord("b"))
    assert inode.mapping.read(0, 2) == b"ba"
    assert inode.mapping.dirty == {0}
    inode.mapping.writeback()
    assert inode.disk[:2] == b"ba"
    assert not inode.mapping.dirty
    assert machine.cpu.store(at, ord("c"))  # noticed again
    assert inode.mapping.dirty == {0}


def test_shared_memory_is_writable_at_once(machine: Machine) -> None:
    at = mmap(machine, 1, RW, Map.SHARED | Map.ANONYMOUS)
    mm = machine.task.mm
    assert mm is not None
    assert machine.cpu.load(at) == 0
    assert pte_of(mm, at >> 12) & PTE_W
    assert (mm.rss_shmem, machine.kernel.frames.nr_shmem) == (1, 1)
    assert vma_name(mm.vmas[0]) == "/dev/zero (deleted)"


def test_stack_grows_to_its_limit(machine: Machine) -> None:
    machine.task.signal.rlim.pairs[Rlimit.STACK] = (1 << 20, 1 << 20)
    mm = machine.task.mm = machine.new_mm()
    machine.run(machine.task)
    vma = bprm_mm_init(mm, TASK_SIZE)
    assert mm_write(mm, TASK_SIZE - 3 * PAGE, b"argument") == 8  # grows as it is written
    assert vma.nr_pages == 3
    vma = setup_arg_pages(mm, vma, executable=False)
    mm.start_stack = TASK_SIZE - 3 * PAGE
    assert vma.nr_pages == 3 + 32
    assert vma_name(vma) == "[stack]"
    assert mm.stack_vm == mm.total_vm == 35
    assert machine.cpu.store(TASK_SIZE - (1 << 20), 1)
    assert vma.end - vma.start == 1 << 20
    address = TASK_SIZE - (1 << 20) - 1
    assert signal_of(machine, address, 2) == (Signal.SIGSEGV, FaultCode.SEGV_MAPERR, address)


def test_executable_stack(machine: Machine) -> None:
    mm = machine.task.mm = machine.new_mm()
    machine.run(machine.task)
    vma = setup_arg_pages(mm, bprm_mm_init(mm, TASK_SIZE), executable=True)
    assert vma.flags & VM_EXEC
    assert machine.cpu.translate(vma.end - 1, 4) is not None


def test_guard_gap_below_a_stack(machine: Machine) -> None:
    at = 0x1000_0000
    do_mmap(machine.task, None, at, PAGE, RW, ANON | Map.FIXED | Map.GROWSDOWN, 0)
    low = do_mmap(machine.task, None, at - 300 * PAGE, PAGE, RW, ANON | Map.FIXED, 0)
    assert machine.cpu.store(low + 257 * PAGE, 1)
    assert signal_of(machine, low + 256 * PAGE, 2)[1] == FaultCode.SEGV_MAPERR
    do_mmap(machine.task, None, low, PAGE, Prot.NONE, ANON | Map.FIXED, 0)  # an inaccessible neighbour is no danger
    assert machine.cpu.store(low + 256 * PAGE, 1)


def test_special_pages(machine: Machine) -> None:
    frames = machine.kernel.frames
    pfns = [frames.alloc_page() for _ in range(2)]
    mm = machine.task.mm
    assert mm is not None
    at = 0x2000_0000
    install_special_mapping(mm, at, pfns[:1], VM_READ | VM_MAYREAD, "[vvar]")
    flags = VM_READ | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    install_special_mapping(mm, at + PAGE, pfns[1:], flags, "[vdso]")
    assert [vma_name(vma) for vma in mm.vmas] == ["[vvar]", "[vdso]"]
    assert machine.cpu.translate(at + PAGE + 5, 4) == (pfns[1] << 12) + 5
    assert machine.cpu.load(at) == 0
    assert mm.fault(at, 2) == 0
    assert mm.fault_reason is Fault.SEGV_ACCERR
    check(machine, machine.task, pinned=pfns)
