"""epoll: levels and edges, one shot, several waiters, files that go away, instances in instances."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest

from minikern.fs.eventpoll import EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, Ctl
from minikern.fs.file import Poll
from minikern.kernel.errno import Errno
from minikern.mm.uaccess import copy_from_user
from tests.fs.sleepers import NONBLOCK, Sleeper, StreamMachine

MS = 1_000_000
IN, OUT, HUP = Poll.IN, Poll.OUT, Poll.HUP


class EpollMachine(StreamMachine):
    """The event structure is the packed one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.arch.epoll_event_packed = True

    def epoll(self) -> int:
        fd = self.call("epoll_create1", 0)
        assert isinstance(fd, int)
        return fd

    def ctl(self, ep: int, op: Ctl, fd: int, events: int = 0) -> int:
        result = self.call("epoll_ctl", ep, op, fd, self.string(struct.pack("<IQ", events, fd)))
        assert isinstance(result, int)
        return result

    def wait(self, ep: int, maximum: int = 10, timeout_ms: int = 0) -> Sleeper:
        return self.start("epoll_pwait", ep, self.buffer, maximum, timeout_ms, 0, 8, task=self.clone(share_files=True))

    def events(self, ep: int, maximum: int = 10) -> list[tuple[int, int]]:
        """(events, descriptor) of what is ready now."""
        return self.stored(self.wait(ep, maximum))

    def stored(self, sleeper: Sleeper) -> list[tuple[int, int]]:
        assert sleeper.result is not None and sleeper.result >= 0, sleeper.result
        data = copy_from_user(self.task, self.buffer, sleeper.result * 12) if sleeper.result else b""
        return [(events, fd) for events, fd in struct.iter_unpack("<IQ", data)]


@pytest.fixture
def machine(tmp_path: Path) -> EpollMachine:
    (tmp_path / "file").write_bytes(b"regular")
    return EpollMachine(tmp_path)


def test_level_triggered_is_told_as_long_as_it_is_so(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN)
    assert machine.events(ep) == []
    machine.write(writer, b"ab")
    assert machine.events(ep) == machine.events(ep) == [(IN, reader)]
    machine.read(reader)
    assert machine.events(ep) == []


def test_edge_triggered_is_told_once_for_each_change(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN | EPOLLET)
    machine.write(writer, b"ab")
    assert machine.events(ep) == [(IN, reader)]
    assert machine.events(ep) == []
    machine.write(writer, b"c")  # more, although it was readable before
    assert machine.events(ep) == [(IN, reader)]
    machine.read(reader, 1)  # less, which is no news
    assert machine.events(ep) == []
    machine.ctl(ep, Ctl.MOD, reader, IN | EPOLLET)  # looks again
    assert machine.events(ep) == [(IN, reader)]


def test_one_shot(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN | EPOLLONESHOT)
    machine.write(writer, b"a")
    assert machine.events(ep) == [(IN, reader)]
    machine.write(writer, b"b")
    assert machine.events(ep) == []
    machine.ctl(ep, Ctl.MOD, reader, IN | EPOLLONESHOT)
    assert machine.events(ep) == [(IN, reader)]


def test_waiting(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN)
    first, second = machine.wait(ep, timeout_ms=-1), machine.wait(ep, timeout_ms=-1)
    assert first.wchan == "ep_poll"
    machine.write(writer, b"x")
    machine.run_woken()
    # Level-triggered: the first puts it back, which wakes the second.
    assert (first.result, second.result) == (1, 1)


def test_an_edge_is_for_one_waiter(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN | EPOLLET)
    sleepers = [machine.wait(ep, timeout_ms=-1) for _ in range(3)]
    machine.write(writer, b"x")
    machine.run_woken()
    assert [each.result for each in sleepers] == [1, None, None]


def test_time_runs_out_and_signals_come(machine: EpollMachine) -> None:
    ep = machine.epoll()
    late, interrupted = machine.wait(ep, timeout_ms=50), machine.wait(ep, timeout_ms=50)
    machine.interrupt(interrupted)
    assert interrupted.result == -Errno.EINTR
    machine.pass_time(50 * MS)
    assert late.result == 0


def test_few_at_a_time_take_turns(machine: EpollMachine) -> None:
    ep = machine.epoll()
    fds = []
    for _ in range(3):
        fds.append(machine.call("eventfd2", 1, 0))
        machine.ctl(ep, Ctl.ADD, fds[-1], IN)
    seen = [fd for _ in range(3) for _, fd in machine.events(ep, 2)]
    assert seen == [fds[0], fds[1], fds[2], fds[0], fds[1], fds[2]]


def test_a_file_leaves_with_its_last_descriptor(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN)
    copy = machine.call("dup", reader)
    machine.close(reader)
    machine.write(writer, b"x")
    assert machine.events(ep) == [(IN, reader)]
    machine.close(copy)
    assert machine.events(ep) == []
    assert not machine.file(ep).items


def test_a_closed_instance_leaves_no_trace(machine: EpollMachine) -> None:
    reader, _ = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, IN)
    machine.close(ep)
    file = machine.file(reader)
    assert not file.epitems and not file.pipe.rd_wait.callbacks


def test_hang_up_is_always_told(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    ep = machine.epoll()
    machine.ctl(ep, Ctl.ADD, reader, 0)
    machine.close(writer)
    assert machine.events(ep) == [(HUP, reader)]


def test_exclusive_wakes_few(machine: EpollMachine) -> None:
    fd = machine.call("eventfd2", 0, 0)
    sleepers = []
    for _ in range(3):
        ep = machine.epoll()
        assert machine.ctl(ep, Ctl.ADD, fd, IN | EPOLLEXCLUSIVE | EPOLLET) == 0
        sleepers.append(machine.wait(ep, timeout_ms=-1))
    machine.write(fd, (1).to_bytes(8, "little"))
    machine.run_woken()
    assert [each.result for each in sleepers] == [1, None, None]
    assert machine.ctl(ep, Ctl.MOD, fd, IN) == -Errno.EINVAL


def test_instances_in_instances(machine: EpollMachine) -> None:
    reader, writer = machine.pipe()
    inner, outer = machine.epoll(), machine.epoll()
    machine.ctl(outer, Ctl.ADD, inner, IN)
    machine.ctl(inner, Ctl.ADD, reader, IN)
    sleeper = machine.wait(outer, timeout_ms=-1)
    machine.write(writer, b"x")
    machine.run_woken()
    assert machine.stored(sleeper) == [(IN, inner)]
    assert machine.poll(outer) == IN | Poll.RDNORM
    machine.read(reader)
    assert machine.events(outer) == []
    assert machine.ctl(inner, Ctl.ADD, outer, IN) == -Errno.ELOOP


def test_too_deep(machine: EpollMachine) -> None:
    chain = [machine.epoll() for _ in range(6)]
    results = [machine.ctl(outer, Ctl.ADD, inner, IN) for inner, outer in itertools.pairwise(chain)]
    assert results[:4] == [0] * 4 and results[4] == -Errno.ELOOP


def test_rejected(machine: EpollMachine) -> None:
    reader, _ = machine.pipe(NONBLOCK)
    ep = machine.epoll()
    assert machine.ctl(ep, Ctl.ADD, machine.open("/file"), IN) == -Errno.EPERM
    assert machine.ctl(ep, Ctl.ADD, ep, IN) == -Errno.EINVAL
    assert machine.ctl(reader, Ctl.ADD, ep, IN) == -Errno.EINVAL
    assert machine.ctl(ep, Ctl.MOD, reader, IN) == machine.ctl(ep, Ctl.DEL, reader) == -Errno.ENOENT
    assert machine.ctl(ep, Ctl.ADD, reader, IN) == 0
    assert machine.ctl(ep, Ctl.ADD, reader, IN) == -Errno.EEXIST
    assert machine.wait(ep, maximum=0).result == -Errno.EINVAL
    assert machine.wait(reader).result == -Errno.EINVAL
