"""fork shares whole page tables; a store gives whoever stores a page of its own, and nobody else notices."""

from __future__ import annotations

import pytest

from minikern.kernel.task import Task
from minikern.mm.madvise import do_madvise
from minikern.mm.mm import dup_mm, mmput, set_mm_exe_file
from minikern.mm.mman import Madv, Map, Prot
from minikern.mm.mmap import do_mmap, do_munmap
from minikern.mm.pgtable import PTE_W, pte_of
from minikern.mm.uaccess import copy_from_user, copy_to_user

from .fakes import FakeFile, FakeInode, Machine, check

PAGE = 4096
RW = Prot.READ | Prot.WRITE
ANON = Map.PRIVATE | Map.ANONYMOUS


@pytest.fixture
def machine() -> Machine:
    return Machine()


def fork(machine: Machine) -> Task:
    assert machine.task.mm is not None
    return machine.new_task(dup_mm(machine.task.mm))


def test_parent_stores_right_after_fork(machine: Machine) -> None:
    """The parent's own TLB still allows the store: fork has to flush it."""
    at = do_mmap(machine.task, None, 0, PAGE, RW, ANON, 0)
    machine.cpu.store(at, 1)
    child = fork(machine)
    machine.cpu.store(at, 2)
    assert copy_from_user(child, at, 1) == b"\1"
    check(machine, machine.task, child)


@pytest.mark.parametrize("by_kernel", [False, True])
@pytest.mark.parametrize("parent_first", [False, True])
def test_each_side_has_its_own_page(machine: Machine, parent_first: bool, by_kernel: bool) -> None:
    at = do_mmap(machine.task, None, 0, 2 * PAGE, RW, ANON, 0)
    machine.cpu.store(at, 1)
    child = fork(machine)
    order = [machine.task, child] if parent_first else [child, machine.task]
    for value, task in enumerate(order, 2):
        machine.run(task)
        assert machine.cpu.load(at) == 1
        if by_kernel:
            copy_to_user(task, at, bytes([value]))
        else:
            machine.cpu.store(at, value)
        assert machine.cpu.load(at) == value  # not the frame of before, from a stale TLB
    assert [copy_from_user(task, at, 1)[0] for task in order] == [2, 3]
    check(machine, machine.task, child)


def test_last_user_writes_in_place(machine: Machine) -> None:
    at = do_mmap(machine.task, None, 0, PAGE, RW, ANON, 0)
    machine.cpu.store(at, 1)
    mm = machine.task.mm
    assert mm is not None
    frame = pte_of(mm, at >> 12) >> 12
    child = fork(machine)
    assert child.mm is not None
    mmput(child.mm)
    assert pte_of(mm, at >> 12) & PTE_W  # exec or exit of the child costs the parent no fault
    child = fork(machine)
    machine.run(child)
    machine.cpu.store(at, 2)
    machine.run(machine.task)
    assert child.mm is not None
    mmput(child.mm)
    machine.cpu.store(at, 3)
    assert pte_of(mm, at >> 12) >> 12 == frame
    check(machine, machine.task)


def test_tables_are_shared(machine: Machine) -> None:
    at = do_mmap(machine.task, None, 0, 4 << 20, RW, ANON, 0)
    for address in range(at, at + (4 << 20), 64 * PAGE):
        machine.cpu.store(address, 1)
    free = machine.kernel.frames.nr_free
    child = fork(machine)
    mm = machine.task.mm
    assert mm is not None and child.mm is not None
    assert all(child.mm.tables[key] is table and table.refs == 2 for key, table in mm.tables.items())
    assert (child.mm.rss, machine.kernel.frames.nr_free) == (mm.rss, free)
    do_munmap(child.mm, at, 4 << 20)
    assert child.mm.rss == 0
    assert machine.cpu.load(at) == 1
    check(machine, machine.task, child)
    mmput(child.mm)
    assert machine.kernel.frames.nr_free == free


def test_shared_pages_stay_shared(machine: Machine) -> None:
    at = do_mmap(machine.task, None, 0, PAGE, RW, Map.SHARED | Map.ANONYMOUS, 0)
    inode = FakeInode(machine.kernel, b"f" * PAGE)
    at_file = do_mmap(machine.task, FakeFile(inode), 0, PAGE, RW, Map.SHARED, 0)  # type: ignore[arg-type]
    child = fork(machine)
    machine.cpu.store(at, 5)
    machine.cpu.store(at_file, 6)
    machine.run(child)
    assert (machine.cpu.load(at), machine.cpu.load(at_file)) == (5, 6)
    machine.cpu.store(at, 7)
    assert copy_from_user(machine.task, at, 1) == b"\7"
    check(machine, machine.task, child)


def test_shared_memory_goes_with_its_last_area(machine: Machine) -> None:
    free = machine.kernel.frames.nr_free
    at = do_mmap(machine.task, None, 0, 4 * PAGE, RW, Map.SHARED | Map.ANONYMOUS, 0)
    for i in range(4):
        machine.cpu.store(at + i * PAGE, i)
    child = fork(machine)
    assert machine.task.mm is not None and child.mm is not None
    do_munmap(machine.task.mm, at + PAGE, PAGE)
    do_munmap(machine.task.mm, at, 4 * PAGE)
    assert copy_from_user(child, at + PAGE, 1) == b"\1"
    mmput(child.mm)
    assert machine.kernel.frames.nr_free == free
    assert (machine.kernel.frames.nr_shmem, machine.kernel.frames.nr_file_pages) == (0, 0)


def test_advice_for_fork(machine: Machine) -> None:
    at = do_mmap(machine.task, None, 0, 3 * PAGE, RW, ANON, 0)
    mm = machine.task.mm
    assert mm is not None
    for i in range(3):
        machine.cpu.store(at + i * PAGE, i + 1)
    do_madvise(mm, at, PAGE, Madv.DONTFORK)
    do_madvise(mm, at + PAGE, PAGE, Madv.WIPEONFORK)
    child = fork(machine)
    machine.run(child)
    assert [machine.cpu.load(at + i * PAGE) for i in range(3)] == [None, 0, 3]
    machine.run(machine.task)
    assert [machine.cpu.load(at + i * PAGE) for i in range(3)] == [1, 2, 3]
    file = FakeFile(FakeInode(machine.kernel, b"f" * PAGE))
    at = do_mmap(machine.task, file, 0, PAGE, RW, Map.SHARED, 0)  # type: ignore[arg-type]
    do_madvise(mm, at, PAGE, Madv.DONTFORK)
    other = fork(machine)
    assert other.mm is not None
    mmput(other.mm)
    assert (file.count, len(file.inode.mapping.i_mmap)) == (2, 1)
    check(machine, machine.task, child)


def test_files_are_held_by_areas(machine: Machine) -> None:
    file = FakeFile(FakeInode(machine.kernel, b"f" * 3 * PAGE))
    at = do_mmap(machine.task, file, 0, 3 * PAGE, Prot.READ, Map.PRIVATE, 0)  # type: ignore[arg-type]
    assert file.count == 2
    child = fork(machine)
    assert file.count == 3
    assert machine.task.mm is not None and child.mm is not None
    do_munmap(child.mm, at + PAGE, PAGE)
    assert file.count == 4
    mmput(child.mm)
    assert file.count == 2
    assert len(file.inode.mapping.i_mmap) == 1
    mmput(machine.task.mm)
    assert file.count == 1
    assert not file.inode.mapping.i_mmap


def test_executed_file_cannot_be_written(machine: Machine) -> None:
    file = FakeFile(FakeInode(machine.kernel, b""))
    assert machine.task.mm is not None
    set_mm_exe_file(machine.task.mm, file)  # type: ignore[arg-type]
    child = fork(machine)
    assert (file.inode.i_writecount, file.count) == (-2, 3)
    assert child.mm is not None
    mmput(child.mm)
    mmput(machine.task.mm)
    assert (file.inode.i_writecount, file.count) == (0, 1)
