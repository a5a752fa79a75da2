"""Frames: zeroed, counted, given back, and taken from whoever can spare them."""

from __future__ import annotations

import pytest

from minikern.kernel.errno import KernelBug
from minikern.mm import page_alloc
from minikern.mm.check import check_frames
from minikern.mm.page_alloc import OutOfMemory

from .fakes import FakeInode, Machine

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
    assert check_frames(machine.kernel, []) == []


def test_memory_goes_back_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_alloc, "_GIVE_BACK_PAGES", 100)
    machine = Machine(4 << 20)
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
    assert check_frames(machine.kernel, [], pinned=kept) == []
    again = [frames.alloc_page() for _ in range(frames.nr_free)]
    assert all(view[pfn << 12] == 0 for pfn in again)
    assert not kept & set(again)


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
    assert check_frames(machine.kernel, []) == []
