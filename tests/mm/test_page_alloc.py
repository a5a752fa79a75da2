"""Frames: zeroed, counted, given back, and taken from whoever can spare them."""

from __future__ import annotations

import pytest

from minikern.kernel.errno import KernelBug
from minikern.mm.mm import dup_mm
from minikern.mm.mman import Map
from minikern.mm.mmap import do_mmap
from minikern.mm.page_alloc import OutOfMemory
from minikern.mm.uaccess import copy_from_user

from .fakes import FakeFile, FakeInode, Machine, check

PAGE = 4096


def test_frames_are_zeroed_when_they_come_again() -> None:
    machine = Machine(1 << 20)
    frames, view = machine.kernel.frames, machine.kernel.arena.view
    pfn = frames.alloc_page()
    view[pfn << 12] = 1
    frames.get_page(pfn)
    frames.put_page(pfn)
    assert view[pfn << 12] == 1
    frames.put_page(pfn)
    assert frames.alloc_page() == pfn
    assert view[pfn << 12] == 0
    frames.put_page(pfn)
    with pytest.raises(KernelBug):
        frames.put_page(pfn)


def test_every_frame_can_be_had_once() -> None:
    machine = Machine(64 * PAGE)
    frames = machine.kernel.frames
    machine.kernel.pids.tasks.clear()  # nobody to kill
    assert frames.total == 64
    taken = [frames.alloc_page() for _ in range(frames.nr_free)]
    assert len(set(taken)) == 62
    assert 0 not in taken
    with pytest.raises(OutOfMemory):
        frames.alloc_page()
    for pfn in taken:
        frames.put_page(pfn)
    assert frames.nr_free == 62
    check(machine)


def test_memory_goes_back_to_the_host() -> None:
    machine = Machine(4 << 20)
    machine.kernel.frames.give_back_at = 100
    frames, view = machine.kernel.frames, machine.kernel.arena.view
    taken = [frames.alloc_page() for _ in range(200)]
    for pfn in taken:
        view[pfn << 12] = 1
    kept = set(taken[50:60]) | set(taken[::19])
    for pfn in taken:
        if pfn not in kept:
            frames.put_page(pfn)
    assert frames.zeroed
    assert all(view[pfn << 12] == 0 for pfn in frames.zeroed)
    assert all(view[pfn << 12] == 1 for pfn in kept)
    check(machine, pinned=kept)
    again = [frames.alloc_page() for _ in range(frames.nr_free)]
    assert all(view[pfn << 12] == 0 for pfn in again)
    assert not kept & set(again)


def test_mapped_cache_pages_make_room_as_well() -> None:
    machine = Machine(64 * PAGE)
    inode = FakeInode(machine.kernel, b"x" * 50 * PAGE)
    at = do_mmap(machine.task, FakeFile(inode), 0, 50 * PAGE, 3, Map.PRIVATE, 0)  # type: ignore[arg-type]
    child = machine.new_task(dup_mm(machine.task.mm))  # type: ignore[arg-type]
    memory = do_mmap(child, None, 0, 50 * PAGE, 3, Map.PRIVATE | Map.ANONYMOUS, 0)
    for page in range(50):
        for task, address in ((machine.task, at), (child, at), (child, memory)):
            machine.run(task)
            if address == at:
                assert machine.cpu.load(address + page * PAGE) == ord("x")
            else:
                assert machine.cpu.store(address + page * PAGE, page)
    assert machine.cpu.store(at + 5 * PAGE, ord("y"))  # copies a page that may have to be read in for it
    assert [machine.cpu.load(memory + page * PAGE) for page in range(50)] == list(range(50))
    assert all(machine.cpu.load(at + page * PAGE) == ord("y" if page == 5 else "x") for page in range(50))
    check(machine, machine.task, child)


def test_the_page_that_is_copied_may_be_reclaimed_for_its_copy() -> None:
    machine = Machine(64 * PAGE)
    inode = FakeInode(machine.kernel, b"x" * 20 * PAGE)
    at = do_mmap(machine.task, FakeFile(inode), 0, 20 * PAGE, 3, Map.PRIVATE, 0)  # type: ignore[arg-type]
    assert all(machine.cpu.load(at + page * PAGE) == ord("x") for page in range(20))
    child = machine.new_task(dup_mm(machine.task.mm))  # type: ignore[arg-type]
    memory = do_mmap(machine.task, None, 0, 40 * PAGE, 3, Map.PRIVATE | Map.ANONYMOUS, 0)
    for page in range(40):
        assert machine.cpu.store(memory + page * PAGE, page)
    for page in range(20):  # the child maps all of them too, so that none can be dropped unmapped
        assert machine.cpu.store(at + page * PAGE, ord("y"))
        check(machine, machine.task, child)
    assert all(copy_from_user(machine.task, at + page * PAGE, 2) == b"yx" for page in range(20))
    assert all(copy_from_user(child, at + page * PAGE, 2) == b"xx" for page in range(20))


def test_clean_cache_pages_make_room() -> None:
    machine = Machine(64 * PAGE)
    machine.kernel.pids.tasks.clear()
    frames = machine.kernel.frames
    inode = FakeInode(machine.kernel, b"x" * 40 * PAGE)
    for index in range(40):
        inode.mapping.get_page(index)
    inode.mapping.write(0, b"dirty")
    memory = FakeInode(machine.kernel, backed=False)
    memory.mapping.write(0, b"memory" * 1000)
    assert (frames.nr_file_pages, frames.nr_shmem) == (42, 2)
    taken = []
    with pytest.raises(OutOfMemory):
        while True:
            taken.append(frames.alloc_page())
    assert inode.mapping.pages.keys() == {0}
    assert memory.mapping.read(0, 6) == b"memory"
    assert inode.mapping.read(0, 6) == b"dirtyx"
    assert len(taken) == 62 - 3
    for pfn in taken:
        frames.put_page(pfn)
    assert inode.mapping.read(PAGE, 3) == b"xxx"  # read in again
    check(machine)
