"""The kernel's own accesses: as the program's would be, or EFAULT."""

from __future__ import annotations

from typing import Any

import pytest

from minikern.kernel.errno import KernelError
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap
from minikern.mm.uaccess import (
    access_remote_vm,
    clear_user,
    cmpxchg_user_u32,
    copy_from_user,
    copy_from_user_partial,
    copy_to_user,
    copy_to_user_partial,
    get_user,
    mm_read,
    mm_write,
    put_user,
    strncpy_from_user,
)

from .fakes import FakeFile, FakeInode, Machine

PAGE = 4096
RW = Prot.READ | Prot.WRITE
ANON = Map.PRIVATE | Map.ANONYMOUS
AT = 0x4000_0000


@pytest.fixture
def machine() -> Machine:
    """Three pages at AT: two writable, one read-only; nothing around them."""
    machine = Machine()
    do_mmap(machine.task, None, AT, 2 * PAGE, RW, ANON | Map.FIXED, 0)
    do_mmap(machine.task, None, AT + 2 * PAGE, PAGE, Prot.READ, ANON | Map.FIXED, 0)
    return machine


def fails() -> Any:
    return pytest.raises(KernelError, match="EFAULT")


def test_across_pages(machine: Machine) -> None:
    data = bytes(range(256)) * 20
    copy_to_user(machine.task, AT + 100, data)
    assert copy_from_user(machine.task, AT + 100, len(data)) == data
    assert copy_from_user(machine.task, AT + 100, 0) == b""
    assert machine.cpu.load(AT + PAGE + 3) == data[PAGE + 3 - 100]
    clear_user(machine.task, AT + 100, len(data))
    assert copy_from_user(machine.task, AT, 2 * PAGE) == bytes(2 * PAGE)


@pytest.mark.parametrize("address", [0, AT - 1, AT + 3 * PAGE, 1 << 63, (1 << 64) - 1])
def test_bad_addresses(machine: Machine, address: int) -> None:
    with fails():
        copy_from_user(machine.task, address, 1)
    with fails():
        copy_to_user(machine.task, address, b"x")
    with fails():
        get_user(machine.task, address, 4)
    with fails():
        put_user(machine.task, address, 1, 8)
    with fails():
        strncpy_from_user(machine.task, address, 10)
    with fails():
        cmpxchg_user_u32(machine.task, address & ~3, 0, 1)


def test_partial(machine: Machine) -> None:
    assert copy_to_user_partial(machine.task, AT + 2 * PAGE - 3, b"abcdef") == 3
    assert copy_from_user_partial(machine.task, AT + 3 * PAGE - 3, 10) == bytes(3)
    with fails():
        copy_to_user(machine.task, AT + 2 * PAGE - 3, b"abcdef")
    with fails():
        copy_to_user_partial(machine.task, AT + 2 * PAGE, b"x")
    assert copy_to_user_partial(machine.task, 0, b"") == 0
    assert machine.task.mm is not None
    assert mm_write(machine.task.mm, AT - 1, b"xx") == 0
    assert mm_read(machine.task.mm, AT + PAGE * 3 - 1, 2) == b"\0"


def test_numbers(machine: Machine) -> None:
    for size in (1, 2, 4, 8):
        put_user(machine.task, AT + PAGE - 3, -2, size)
        assert get_user(machine.task, AT + PAGE - 3, size) == (1 << 8 * size) - 2
        put_user(machine.task, AT + 8, 0x1122334455667788, size)
        assert get_user(machine.task, AT + 8, size) == 0x1122334455667788 & ((1 << 8 * size) - 1)


def test_strings(machine: Machine) -> None:
    copy_to_user(machine.task, AT + PAGE - 3, b"hello\0rest")
    assert strncpy_from_user(machine.task, AT + PAGE - 3, 100) == b"hello"
    assert strncpy_from_user(machine.task, AT + PAGE - 3, 5) == b"hello"
    assert strncpy_from_user(machine.task, AT + PAGE - 3, 2) == b"he"
    copy_to_user(machine.task, AT, b"x" * 2 * PAGE)
    assert strncpy_from_user(machine.task, AT, 3 * PAGE) == b"x" * 2 * PAGE
    do_mmap(machine.task, None, AT + 2 * PAGE, PAGE, Prot.NONE, ANON | Map.FIXED, 0)
    with fails():
        strncpy_from_user(machine.task, AT, 3 * PAGE)


def test_compare_and_exchange(machine: Machine) -> None:
    put_user(machine.task, AT, 5, 4)
    assert cmpxchg_user_u32(machine.task, AT, 4, 9) == 5
    assert cmpxchg_user_u32(machine.task, AT, 5, 9) == 5
    assert get_user(machine.task, AT, 4) == 9
    with fails():
        cmpxchg_user_u32(machine.task, AT + 2 * PAGE, 0, 1)  # read-only
    with fails():
        cmpxchg_user_u32(machine.task, AT + 2, 0, 1)


def test_kernel_store_is_seen_through_the_tlb(machine: Machine) -> None:
    """The program has read a page of zeros; the kernel stores there, so another frame takes its place."""
    assert machine.cpu.load(AT) == 0
    put_user(machine.task, AT, 42, 1)
    assert machine.cpu.load(AT) == 42


def test_debuggers_may_more(machine: Machine) -> None:
    inode = FakeInode(machine.kernel, b"code" * 1024)
    text = do_mmap(machine.task, FakeFile(inode), 0, PAGE, Prot.READ | Prot.EXEC, Map.PRIVATE, 0)  # type: ignore[arg-type]
    shared = do_mmap(machine.task, FakeFile(inode), 0, PAGE, Prot.READ, Map.SHARED, 0)  # type: ignore[arg-type]
    hidden = do_mmap(machine.task, None, 0, PAGE, Prot.NONE, ANON, 0)
    mm = machine.task.mm
    assert mm is not None
    assert machine.cpu.load(text) == ord("c")
    assert access_remote_vm(mm, text, b"\xcc", force=False) == b""
    assert access_remote_vm(mm, text, b"\xcc", force=True) == b"\xcc"
    assert machine.cpu.load(text) == 0xCC
    assert not machine.cpu.store(text, 1)  # the program still must not
    assert inode.mapping.read(0, 4) == b"code"
    assert access_remote_vm(mm, shared, b"\xcc", force=True) == b""
    assert access_remote_vm(mm, hidden, 4, force=False) == b""
    assert access_remote_vm(mm, hidden, 4, force=True) == bytes(4)
    assert access_remote_vm(mm, hidden, b"abc", force=True) == b"abc"
    assert access_remote_vm(mm, hidden, 3, force=True) == b"abc"
    assert access_remote_vm(mm, AT + 3 * PAGE - 2, 10, force=True) == bytes(2)
    assert machine.cpu.load(hidden) is None


def test_translated_code_is_dropped_before_it_is_overwritten(machine: Machine) -> None:
    put_user(machine.task, AT, 1, 1)
    frame = machine.cpu.translate(AT, 2)
    assert frame is not None
    machine.cpu.code_frames.add(frame >> 12)
    copy_to_user(machine.task, AT, b"x")
    assert machine.cpu.dropped == [frame >> 12]
    machine.cpu.code_frames.add(frame >> 12)
    do_mmap(machine.task, None, AT, PAGE, RW, ANON | Map.FIXED, 0)
    assert machine.cpu.dropped == [frame >> 12] * 2
