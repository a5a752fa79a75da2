"""The page cache: one set of pages for read, write and every mapping."""

from __future__ import annotations

import pytest

from minikern.kernel.errno import KernelError
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap, do_munmap

from .fakes import FakeFile, FakeInode, Machine, check

PAGE = 4096
RW = Prot.READ | Prot.WRITE


@pytest.fixture
def machine() -> Machine:
    return Machine()


def mapped(machine: Machine, inode: FakeInode, flags: int = Map.SHARED, pages: int = 4) -> int:
    return do_mmap(machine.task, FakeFile(inode), 0, pages * PAGE, RW, flags, 0)  # type: ignore[arg-type]


def test_a_file_in_memory(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, backed=False)
    mapping = inode.mapping
    assert mapping.read(0, 10) == b""
    assert mapping.write(PAGE - 2, b"abcd") == 4
    assert inode.size == PAGE + 2
    assert mapping.read(0, 10 * PAGE) == bytes(PAGE - 2) + b"abcd"
    mapping.write(5 * PAGE, b"far")
    assert mapping.nr_pages == 3
    assert mapping.read(3 * PAGE, PAGE) == bytes(PAGE)  # a hole costs nothing
    assert mapping.nr_pages == 3
    assert mapping.read(5 * PAGE + 1, 10) == b"ar"
    mapping.truncate(PAGE - 1)
    mapping.truncate(PAGE + 2)
    assert mapping.read(PAGE - 2, 10) == b"a\0\0\0"
    mapping.evict()
    check(machine)
    assert not machine.kernel.frames.caches


def test_reading_fills_the_cache_once(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, bytes(range(250)) * 40)
    assert inode.mapping.read(PAGE - 5, 10) == bytes(inode.disk[PAGE - 5 : PAGE + 5])
    assert inode.mapping.read(0, 20000) == bytes(inode.disk)
    assert sorted(inode.reads) == [0, 1, 2]


def test_write_and_map(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 2 * PAGE)
    at = mapped(machine, inode)
    private = mapped(machine, inode, Map.PRIVATE)
    assert machine.cpu.load(at) == machine.cpu.load(private) == ord("x")
    inode.mapping.write(0, b"y")
    assert machine.cpu.load(at) == machine.cpu.load(private) == ord("y")
    machine.cpu.store(private, ord("z"))
    machine.cpu.store(at + 1, ord("w"))
    assert inode.mapping.read(0, 3) == b"ywx"
    inode.mapping.writeback()
    assert inode.disk[:3] == b"ywx"
    assert inode.writes == [0]


def test_stores_get_home_when_the_area_goes(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 10)
    at = mapped(machine, inode)
    machine.cpu.store(at + 2, ord("!"))
    machine.cpu.store(at + 20, ord("?"))  # behind the end of the file: never stored
    assert machine.task.mm is not None
    do_munmap(machine.task.mm, at, PAGE)
    assert inode.disk == b"xx!xxxxxxx"


def test_truncation_takes_pages_away(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 4 * PAGE)
    at = mapped(machine, inode)
    private = mapped(machine, inode, Map.PRIVATE)
    for page in range(4):
        assert machine.cpu.load(at + page * PAGE) == ord("x")
        assert machine.cpu.store(private + page * PAGE, 1)
    inode.mapping.truncate(PAGE + 10)
    assert machine.cpu.load(at + PAGE + 9) == ord("x")
    assert machine.cpu.load(at + PAGE + 10) == 0
    assert machine.cpu.load(at + 2 * PAGE) is None
    assert machine.cpu.load(private + PAGE) == 1
    assert machine.cpu.load(private + 2 * PAGE) is None  # private copies go as well
    inode.mapping.truncate(3 * PAGE)
    inode.disk[:] = bytes(3 * PAGE)
    assert machine.cpu.load(at + 2 * PAGE) == 0
    check(machine, machine.task)


def test_holes_leave_private_copies(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, backed=False)
    inode.mapping.write(0, b"x" * 4 * PAGE)
    at = mapped(machine, inode)
    private = mapped(machine, inode, Map.PRIVATE)
    assert machine.cpu.load(at + PAGE) == ord("x")
    machine.cpu.store(private + PAGE, 7)
    inode.mapping.punch_hole(PAGE - 1, 2 * PAGE + 1)
    assert [machine.cpu.load(at + offset) for offset in (PAGE - 2, PAGE - 1, PAGE, 2 * PAGE, 2 * PAGE + 1)] == [
        ord("x"), 0, 0, 0, ord("x")
    ]  # fmt: skip
    assert machine.cpu.load(private + PAGE) == 7
    assert inode.mapping.nr_pages == 4 - 1 + 1  # read again through the shared mapping


def test_somebody_else_changed_the_file(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"old!" * 1024)
    at = mapped(machine, inode, Map.PRIVATE)
    assert machine.cpu.load(at) == ord("o")
    inode.disk[:4] = b"new!"
    inode.mapping.invalidate()
    assert machine.cpu.load(at) == ord("n")
    inode.disk[:4] = b"New!"
    inode.mapping.update(0, b"New")
    assert machine.cpu.load(at) == ord("N")
    inode.mapping.update(50 * PAGE, b"not cached")


def test_errors_of_the_file(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"x" * 2 * PAGE)
    inode.mapping.get_page(0)
    inode.broken = True
    assert inode.mapping.write(PAGE - 1, b"ab") == 1
    with pytest.raises(KernelError):
        inode.mapping.write(PAGE, b"b")
    with pytest.raises(KernelError):
        inode.mapping.read(0, 2 * PAGE)


def test_one_program_run_twice_uses_the_same_frames(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"text" * PAGE)
    first = mapped(machine, inode, Map.PRIVATE)
    frame = machine.cpu.translate(first, 1)
    other = machine.new_task(machine.new_mm())
    machine.run(other)
    second = do_mmap(other, FakeFile(inode), 0, PAGE, Prot.READ, Map.PRIVATE, 0)  # type: ignore[arg-type]
    assert machine.cpu.translate(second, 1) == frame
    assert inode.reads == [0]
