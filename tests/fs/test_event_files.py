"""eventfd, timerfd, signalfd and pidfd: what they count, when they are readable, what they look like in /proc."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from minikern.fs.file import Poll
from minikern.kernel.errno import Errno
from minikern.kernel.siginfo import SiCode, SigInfo, Signal
from minikern.kernel.signal import do_send_sig_info, sigmask
from minikern.kernel.task import ExitState, PidType
from minikern.mm.uaccess import copy_from_user
from tests.fs.sleepers import NONBLOCK, StreamMachine

MS = 1_000_000
MONOTONIC = 1
ABSTIME = 1


@pytest.fixture
def machine(tmp_path: Path) -> StreamMachine:
    return StreamMachine(tmp_path)


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


class TestEventFd:
    def test_a_read_takes_all(self, machine: StreamMachine) -> None:
        fd = machine.call("eventfd2", 3, NONBLOCK)
        machine.write(fd, number(4))
        assert machine.read(fd, 8) == number(7)
        assert machine.read(fd, 8) == -Errno.EAGAIN
        assert machine.read(fd, 7) == -Errno.EINVAL

    def test_semaphore(self, machine: StreamMachine) -> None:
        fd = machine.call("eventfd2", 2, 1 | NONBLOCK)
        assert [machine.read(fd, 8) for _ in range(3)] == [number(1), number(1), -Errno.EAGAIN]

    def test_waiting(self, machine: StreamMachine) -> None:
        fd = machine.call("eventfd2", 0, 0)
        reader = machine.start("read", fd, machine.buffer + 100, 8)
        machine.write(fd, number(5))
        machine.run_woken()
        assert reader.result == 8 and machine.peek(8, 100) == number(5)

    def test_it_never_overflows(self, machine: StreamMachine) -> None:
        fd = machine.call("eventfd2", 0, 0)
        assert machine.write(fd, number(2**64 - 1)) == -Errno.EINVAL
        machine.write(fd, number(2**64 - 2))
        assert machine.poll(fd) == Poll.IN
        writer = machine.start("write", fd, machine.put(number(1)), 8)
        assert writer.asleep
        assert machine.read(fd, 8) == number(2**64 - 2)
        machine.run_woken()
        assert writer.result == 8
        assert machine.poll(fd) == Poll.IN | Poll.OUT


class TestTimerFd:
    @staticmethod
    def arm(machine: StreamMachine, fd: int, value_ns: int, interval_ns: int = 0, flags: int = 0) -> int:
        spec = machine.string(struct.pack("<4q", *divmod(interval_ns, 10**9), *divmod(value_ns, 10**9)))
        result = machine.call("timerfd_settime", fd, flags, spec, 0)
        assert isinstance(result, int)
        return result

    def test_expirations_are_counted(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, NONBLOCK)
        self.arm(machine, fd, 50 * MS, 20 * MS)
        assert machine.read(fd, 8) == -Errno.EAGAIN
        machine.pass_time(50 * MS)
        assert machine.poll(fd) == Poll.IN
        machine.pass_time(65 * MS)
        assert machine.read(fd, 8) == number(4)
        assert machine.read(fd, 8) == -Errno.EAGAIN
        machine.pass_time(15 * MS)
        assert machine.read(fd, 8) == number(1)

    def test_waiting(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, 0)
        self.arm(machine, fd, 10 * MS)
        reader = machine.start("read", fd, machine.buffer, 8)
        machine.pass_time(9 * MS)
        assert reader.asleep
        machine.pass_time(1 * MS)
        assert reader.result == 8

    def test_remaining_time(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, 0)
        self.arm(machine, fd, 50 * MS, 20 * MS)
        machine.pass_time(20 * MS)
        assert machine.call("timerfd_gettime", fd, machine.buffer) == 0
        assert struct.unpack("<4q", machine.peek(32)) == (0, 20 * MS, 0, 30 * MS)
        self.arm(machine, fd, 0)
        assert machine.call("timerfd_gettime", fd, machine.buffer) == 0
        assert struct.unpack("<4q", machine.peek(32)) == (0, 0, 0, 0)

    def test_a_moment_that_is_over(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, NONBLOCK)
        self.arm(machine, fd, 1, flags=ABSTIME)
        machine.pass_time(0)
        assert machine.read(fd, 8) == number(1)

    def test_closing_disarms(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, 0)
        self.arm(machine, fd, 50 * MS)
        machine.close(fd)
        assert machine.kernel.timers.next_expiry() is None

    def test_rejected(self, machine: StreamMachine) -> None:
        fd = machine.call("timerfd_create", MONOTONIC, 0)
        other = machine.call("eventfd2", 0, 0)
        assert machine.call("timerfd_create", 99, 0) == machine.call("timerfd_create", MONOTONIC, 1) == -Errno.EINVAL
        assert self.arm(machine, other, 1) == self.arm(machine, fd, 1, flags=8) == -Errno.EINVAL


class TestSignalFd:
    @staticmethod
    def open(machine: StreamMachine, *signals: int, fd: int = -1) -> int:
        mask = machine.string(number(sigmask(*signals)))
        result = machine.call("signalfd4", fd, mask, 8, NONBLOCK if fd == -1 else 0)
        machine.task.blocked |= sigmask(*signals) if signals else 0
        assert isinstance(result, int)
        return result

    def test_signals_are_read_in_order(self, machine: StreamMachine) -> None:
        fd = self.open(machine, Signal.SIGUSR1, 40)
        assert machine.poll(fd) == 0
        for value in (1, 2):
            info = SigInfo(40, SiCode.SI_QUEUE, pid=7, uid=8, value=value)
            info.layout = info.layout.RT
            do_send_sig_info(40, info, machine.task, PidType.TGID)
        do_send_sig_info(Signal.SIGUSR1, SigInfo(Signal.SIGUSR1, pid=9, uid=1), machine.task, PidType.PID)
        assert machine.poll(fd) == Poll.IN
        data = machine.read(fd, 128 * 5)
        assert isinstance(data, bytes) and len(data) == 128 * 3
        heads = [struct.unpack_from("<IiiII", data, offset) for offset in (0, 128, 256)]
        assert heads == [(10, 0, 0, 9, 1), (40, 0, -1, 7, 8), (40, 0, -1, 7, 8)]
        assert [struct.unpack_from("<i", data, offset + 44)[0] for offset in (128, 256)] == [1, 2]
        assert machine.read(fd, 128) == -Errno.EAGAIN
        assert machine.read(fd, 127) == -Errno.EINVAL

    def test_the_mask_can_change(self, machine: StreamMachine) -> None:
        fd = self.open(machine, Signal.SIGUSR1)
        do_send_sig_info(Signal.SIGUSR1, SigInfo(Signal.SIGUSR1), machine.task, PidType.PID)
        assert self.open(machine, fd=fd) == fd
        assert machine.poll(fd) == 0
        self.open(machine, Signal.SIGUSR1, fd=fd)
        assert machine.poll(fd) == Poll.IN

    def test_kill_and_stop_cannot_be_caught(self, machine: StreamMachine) -> None:
        fd = self.open(machine, Signal.SIGKILL, Signal.SIGSTOP, Signal.SIGUSR1)
        assert machine.file(fd).show_fdinfo() == "sigmask:\t0000000000000200\n"


class TestPidFd:
    def test_readable_at_death_and_hung_up_when_reaped(self, machine: StreamMachine) -> None:
        child = machine.clone()
        assert child.thread_pid is not None
        fd = machine.call("pidfd_open", child.pid, 0)
        assert machine.poll(fd) == 0
        assert machine.file(fd).show_fdinfo() == f"Pid:\t{child.pid}\nNSpid:\t{child.pid}\n"
        child.set_exit_state(ExitState.ZOMBIE)
        assert machine.poll(fd) == Poll.IN | Poll.RDNORM
        child.thread_pid.tasks[PidType.PID].clear()
        assert machine.poll(fd) == Poll.IN | Poll.RDNORM | Poll.HUP
        assert machine.file(fd).show_fdinfo() == "Pid:\t-1\nNSpid:\t-1\n"

    def test_a_process_is_dead_with_its_last_thread(self, machine: StreamMachine) -> None:
        child = machine.clone()
        child.signal.threads.append(machine.clone())
        process, thread = (machine.call("pidfd_open", child.pid, flags) for flags in (0, 0o200))
        child.set_exit_state(ExitState.ZOMBIE)
        assert (machine.poll(process), machine.poll(thread)) == (0, Poll.IN | Poll.RDNORM)

    def test_signals(self, machine: StreamMachine) -> None:
        child = machine.clone()
        fd = machine.call("pidfd_open", child.pid, 0)
        assert machine.call("pidfd_send_signal", fd, 0, 0, 0) == 0
        assert machine.call("pidfd_send_signal", fd, Signal.SIGUSR1, 0, 0) == 0
        assert child.signal.shared_pending.signal == sigmask(Signal.SIGUSR1)
        pretender = SigInfo(Signal.SIGUSR1, SiCode.SI_USER).pack()
        assert machine.call("pidfd_send_signal", fd, Signal.SIGUSR1, machine.put(pretender), 0) == -Errno.EPERM
        assert machine.call("pidfd_send_signal", fd, Signal.SIGUSR2, machine.put(pretender), 0) == -Errno.EINVAL
        assert machine.call("pidfd_send_signal", fd, Signal.SIGUSR1, 0, 3) == -Errno.EINVAL

    def test_a_descriptor_of_another_process(self, machine: StreamMachine) -> None:
        reader, writer = machine.pipe()
        child = machine.clone()
        machine.close(writer)
        fd = machine.call("pidfd_open", child.pid, 0)
        copy = machine.call("pidfd_getfd", fd, writer, 0)
        machine.write(copy, b"through")
        assert machine.read(reader) == b"through"
        assert machine.call("pidfd_getfd", fd, 99, 0) == -Errno.EBADF

    def test_rejected(self, machine: StreamMachine) -> None:
        assert machine.call("pidfd_open", 9999, 0) == -Errno.ESRCH
        assert machine.call("pidfd_open", 0, 0) == machine.call("pidfd_open", machine.task.pid, 1) == -Errno.EINVAL
        assert machine.call("pidfd_send_signal", machine.call("eventfd2", 0, 0), 0, 0, 0) == -Errno.EBADF


def test_names(machine: StreamMachine) -> None:
    reader, _ = machine.pipe()
    names = {reader: b"pipe:[%d]" % machine.file(reader).inode.ino}
    names[machine.call("eventfd2", 0, 0)] = b"anon_inode:[eventfd]"
    names[machine.call("epoll_create1", 0)] = b"anon_inode:[eventpoll]"
    names[machine.call("pidfd_open", machine.task.pid, 0)] = b"anon_inode:[pidfd]"
    assert {fd: machine.file(fd).d_dname() for fd in names} == names
    assert copy_from_user(machine.task, machine.buffer, 0) == b""
