"""poll and select: what is ready, how long to wait, and what a signal leaves behind."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from minikern.fs.file import Poll
from minikern.kernel.errno import ERESTARTNOHAND, Errno
from minikern.mm.uaccess import copy_from_user
from tests.fs.sleepers import Sleeper, StreamMachine

MS = 1_000_000
IN, OUT = Poll.IN, Poll.OUT


@pytest.fixture
def machine(tmp_path: Path) -> StreamMachine:
    return StreamMachine(tmp_path)


class PollCall:
    """A ppoll of some descriptors, and what it stored."""

    def __init__(self, machine: StreamMachine, *fds: tuple[int, int], timeout_ns: int | None = None) -> None:
        self.machine = machine
        self.count = len(fds)
        self.fds = machine.string(b"".join(struct.pack("<iHH", fd, events, 0xFFFF) for fd, events in fds))
        self.timeout = machine.string(struct.pack("<qq", *divmod(timeout_ns, 10**9))) if timeout_ns is not None else 0
        self.sleeper: Sleeper = machine.start("ppoll", self.fds, self.count, self.timeout, 0, 8)

    @property
    def result(self) -> int | None:
        return self.sleeper.result

    def revents(self) -> list[int]:
        data = copy_from_user(self.machine.task, self.fds, self.count * 8)
        return [revents for _, _, revents in struct.iter_unpack("<iHH", data)]

    def time_left(self) -> int:
        seconds, nanoseconds = struct.unpack("<qq", copy_from_user(self.machine.task, self.timeout, 16))
        return int(seconds * 10**9 + nanoseconds)


class SelectCall:
    """A pselect6, and its sets afterwards."""

    def __init__(
        self,
        machine: StreamMachine,
        n: int,
        readers: set[int] = frozenset(),  # type: ignore[assignment]
        writers: set[int] = frozenset(),  # type: ignore[assignment]
        timeout_ns: int | None = None,
    ) -> None:
        self.machine = machine
        self.sets = [machine.string(sum(1 << fd for fd in each).to_bytes(128, "little")) for each in (readers, writers)]
        timeout = machine.string(struct.pack("<qq", *divmod(timeout_ns, 10**9))) if timeout_ns is not None else 0
        self.sleeper = machine.start("pselect6", n, *self.sets, 0, timeout, 0)

    def ready(self) -> tuple[set[int], ...]:
        sets = [int.from_bytes(copy_from_user(self.machine.task, each, 128), "little") for each in self.sets]
        return tuple({fd for fd in range(1024) if bits >> fd & 1} for bits in sets)


def test_what_is_ready_is_told_at_once(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    call = PollCall(machine, (reader, IN), (writer, OUT), (-1, IN), (99, IN))
    assert call.result == 2
    assert call.revents() == [0, OUT, 0, Poll.NVAL]


def test_errors_need_not_be_asked_for(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    machine.close(writer)
    call = PollCall(machine, (reader, 0))
    assert (call.result, call.revents()) == (1, [Poll.HUP])


def test_polling_sleeps_until_something_happens(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    other, _ = machine.pipe()
    call = PollCall(machine, (other, IN), (reader, IN))
    assert call.sleeper.wchan == "do_poll"
    machine.write(writer, b"x")
    machine.run_woken()
    assert (call.result, call.revents()) == (1, [0, IN])


def test_time_runs_out(machine: StreamMachine) -> None:
    reader, _ = machine.pipe()
    call = PollCall(machine, (reader, IN), timeout_ns=50 * MS)
    machine.pass_time(49 * MS)
    assert call.sleeper.asleep
    machine.pass_time(1 * MS)
    assert (call.result, call.revents(), call.time_left()) == (0, [0], 0)
    assert PollCall(machine, (reader, IN), timeout_ns=0).result == 0


def test_a_useless_wake_up_does_not_prolong_the_wait(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    call = PollCall(machine, (reader, IN), timeout_ns=50 * MS)
    machine.pass_time(30 * MS)
    machine.write(writer, b"x")
    machine.read(reader)  # before the sleeper had its turn
    machine.run_woken()
    assert call.sleeper.asleep
    machine.pass_time(20 * MS)
    assert call.result == 0


def test_a_signal_ends_ppoll_and_the_time_left_is_stored(machine: StreamMachine) -> None:
    reader, _ = machine.pipe()
    call = PollCall(machine, (reader, IN), timeout_ns=50 * MS)
    machine.pass_time(20 * MS)
    machine.interrupt(call.sleeper)
    assert call.result == -ERESTARTNOHAND
    assert call.time_left() == 30 * MS


def test_poll_rejects(machine: StreamMachine) -> None:
    assert machine.call("ppoll", machine.buffer, 1 << 20, 0, 0, 8) == -Errno.EINVAL
    assert machine.call("ppoll", 8, 1, 0, 0, 8) == -Errno.EFAULT
    bad_time = machine.string(struct.pack("<qq", 0, 10**9))
    assert machine.call("ppoll", machine.buffer, 0, bad_time, 0, 8) == -Errno.EINVAL


def test_select(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    call = SelectCall(machine, 10, {reader}, {writer})
    assert (call.sleeper.result, call.ready()) == (1, (set(), {writer}))
    call = SelectCall(machine, 10, {reader})
    assert call.sleeper.wchan == "do_select"
    machine.write(writer, b"x")
    machine.run_woken()
    assert (call.sleeper.result, call.ready()) == (1, ({reader}, set()))


def test_select_clears_the_sets_when_time_runs_out_and_keeps_them_for_a_signal(machine: StreamMachine) -> None:
    reader, _ = machine.pipe()
    late = SelectCall(machine, 10, {reader}, timeout_ns=50 * MS)
    interrupted = SelectCall(machine, 10, {reader}, timeout_ns=50 * MS)
    machine.interrupt(interrupted.sleeper)
    assert (interrupted.sleeper.result, interrupted.ready()) == (-ERESTARTNOHAND, ({reader}, set()))
    machine.pass_time(50 * MS)
    assert (late.sleeper.result, late.ready()) == (0, (set(), set()))


def test_select_rejects(machine: StreamMachine) -> None:
    reader, _ = machine.pipe()
    assert SelectCall(machine, 60, {reader, 50}).sleeper.result == -Errno.EBADF
    assert SelectCall(machine, -1).sleeper.result == -Errno.EINVAL
    # What lies beyond the table is not looked at.
    assert SelectCall(machine, 1000, {900}, timeout_ns=0).sleeper.result == 0
