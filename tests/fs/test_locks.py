"""Record locks, open-file locks and flock: conflicts, splitting, sleeping, deadlock, and what closing releases."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikern.fs.file import FilesStruct, filp_close
from minikern.fs.locks import OFFSET_MAX, FileLock, FileLockContext, LockType
from minikern.kernel.errno import ERESTARTSYS, Errno
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Wait
from tests.fs.machine import FsMachine

GETLK, SETLK, SETLKW, OFD_GETLK, OFD_SETLK, OFD_SETLKW = 5, 6, 7, 36, 37, 38
RD, WR, UN = 0, 1, 2


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    (tmp_path / "file").write_bytes(bytes(100))
    machine = FsMachine(str(tmp_path))
    assert machine.open("/file", 2) == 0
    return machine


def lock(
    machine: FsMachine, cmd: int, kind: int, start: int, length: int, *, task: Task | None = None, fd: int = 0
) -> Any:
    address = machine.string(struct.pack("<hhxxxxqqi4x", kind, 0, start, length, 0))
    machine.lock_address = address  # type: ignore[attr-defined]
    return machine.call("fcntl", fd, cmd, address, task=task)


def test_conflicts(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 10, 10) == 0
    assert lock(machine, SETLK, RD, 0, 10, task=other) == 0
    assert lock(machine, SETLK, RD, 0, 11, task=other) == -Errno.EAGAIN
    assert lock(machine, SETLK, WR, 19, 1, task=other) == -Errno.EAGAIN
    assert lock(machine, SETLK, RD, 12, 2) == 0  # its own lock is changed, and split
    assert lock(machine, SETLK, RD, 12, 2, task=other) == 0
    assert lock(machine, SETLK, RD, 11, 2, task=other) == -Errno.EAGAIN
    assert lock(machine, SETLK, UN, 0, 0) == 0
    assert lock(machine, SETLK, RD, 0, 0, task=other) == 0


def test_getlk_names_the_holder(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 10, 10) == 0
    assert lock(machine, GETLK, WR, 0, 0, task=other) == 0
    found = struct.unpack("<hhxxxxqqi4x", machine.kernel.arena and _peek(machine, 32))
    assert found == (WR, 0, 10, 10, machine.task.tgid)
    assert lock(machine, GETLK, WR, 0, 0) == 0
    assert struct.unpack_from("<h", _peek(machine, 32)) == (UN,)


def _peek(machine: FsMachine, count: int) -> bytes:
    from minikern.mm.uaccess import copy_from_user

    return copy_from_user(machine.task, machine.lock_address, count)  # type: ignore[attr-defined]


def test_any_close_releases_a_processs_locks(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 0, 0) == 0
    again = machine.open("/file")
    assert lock(machine, SETLK, RD, 0, 0, task=other) == -Errno.EAGAIN
    machine.close(again)
    assert lock(machine, SETLK, RD, 0, 0, task=other) == 0


def test_open_file_locks_go_with_the_last_reference(machine: FsMachine) -> None:
    second = machine.open("/file", 2)
    assert lock(machine, OFD_SETLK, WR, 0, 0, fd=second) == 0
    assert lock(machine, OFD_SETLK, WR, 0, 0) == -Errno.EAGAIN
    assert lock(machine, SETLK, WR, 0, 0) == -Errno.EAGAIN
    duplicate = machine.call("dup", second)
    machine.close(second)
    assert lock(machine, OFD_SETLK, RD, 0, 0) == -Errno.EAGAIN
    machine.close(duplicate)
    assert lock(machine, OFD_SETLK, WR, 0, 0) == 0


def test_a_lock_that_is_in_the_way_is_waited_for(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 0, 0) == 0
    wait = lock(machine, SETLKW, WR, 5, 5, task=other)
    assert isinstance(wait, Wait) and wait.resume is not None
    assert isinstance(wait.resume(), Wait)
    assert lock(machine, SETLK, UN, 0, 0) == 0
    assert wait.resume() == 0
    assert lock(machine, SETLK, RD, 5, 1) == -Errno.EAGAIN
    assert other.files is not None and not other.files.lock_requests


def test_giving_up(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 0, 0) == 0
    wait = lock(machine, SETLKW, WR, 5, 5, task=other)
    assert callable(wait.interrupted) and wait.interrupted() == -ERESTARTSYS
    assert other.files is not None and not other.files.lock_requests


def test_deadlock(machine: FsMachine) -> None:
    second, third = machine.clone(), machine.clone()
    assert lock(machine, SETLK, WR, 0, 1) == 0
    assert lock(machine, SETLK, WR, 1, 1, task=second) == 0
    assert lock(machine, SETLK, WR, 2, 1, task=third) == 0
    assert isinstance(lock(machine, SETLKW, WR, 1, 1), Wait)
    assert isinstance(lock(machine, SETLKW, WR, 2, 1, task=second), Wait)
    assert lock(machine, SETLKW, WR, 0, 1, task=third) == -Errno.EDEADLK


def test_flock(machine: FsMachine) -> None:
    second = machine.open("/file")
    assert machine.call("flock", 0, 1) == 0
    assert machine.call("flock", second, 1) == 0
    assert machine.call("flock", second, 2 | 4) == -Errno.EAGAIN  # loses its shared lock, as in Linux
    assert machine.call("flock", 0, 2 | 4) == 0
    wait = machine.call("flock", second, 1)
    assert isinstance(wait, Wait) and wait.resume is not None
    machine.close(0)
    assert wait.resume() == 0
    assert machine.call("flock", second, 16) == -Errno.EINVAL
    assert machine.call("flock", 99, 1) == -Errno.EBADF


def test_bad_requests(machine: FsMachine) -> None:
    reader = machine.open("/file", 0)
    assert lock(machine, SETLK, WR, 0, 0, fd=reader) == -Errno.EBADF
    assert lock(machine, SETLK, 7, 0, 0) == -Errno.EINVAL
    assert lock(machine, SETLK, RD, -1, 0) == -Errno.EINVAL
    assert lock(machine, SETLK, RD, OFFSET_MAX, 2) == -Errno.EOVERFLOW
    assert lock(machine, SETLK, RD, 10, -10) == 0
    assert lock(machine, SETLK, RD, 10, -11) == -Errno.EINVAL


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(LockType)), st.integers(0, 15), st.integers(0, 15)), max_size=12))
def test_ranges_against_a_table_of_bytes(requests: list[tuple[LockType, int, int]]) -> None:
    """One owner's locks are what an array with a lock type for each byte would say, in as few pieces as possible."""
    context, owner = FileLockContext(), FilesStruct()
    table: list[LockType] = [LockType.UNLOCK] * 16
    for kind, first, second in requests:
        start, end = min(first, second), max(first, second)
        context.set_posix(FileLock(owner, kind, start, end))
        table[start : end + 1] = [kind] * (end - start + 1)
    seen: list[LockType] = [LockType.UNLOCK] * 16
    for each in context.posix:
        assert each.type is not LockType.UNLOCK
        seen[each.start : each.end + 1] = [each.type] * (each.end - each.start + 1)
    assert seen == table
    for low, high in zip(context.posix, context.posix[1:], strict=False):
        assert low.end < high.start and not (low.end + 1 == high.start and low.type is high.type)


def test_death_releases_everything(machine: FsMachine) -> None:
    other = machine.clone()
    assert lock(machine, SETLK, WR, 0, 0, task=other) == 0
    assert lock(machine, SETLK, RD, 0, 0) == -Errno.EAGAIN
    assert other.files is not None
    filp_close(other, other.files.remove(0), other.files)
    assert lock(machine, SETLK, RD, 0, 0) == 0
