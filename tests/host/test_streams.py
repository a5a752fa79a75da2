"""Standard streams: descriptors of the host in the guest, and what a Python program gives and captures."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikern.fs.file import File, FMode, Poll
from minikern.fs.ioctls import FIONREAD, TCGETS, TIOCGWINSZ
from minikern.host.poller import Poller
from minikern.host.streams import CapturedInput, CapturedOutput, open_host_fd
from minikern.kernel.errno import Errno
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import sigmask
from tests.fs.sleepers import NONBLOCK, StreamMachine


class HostMachine(StreamMachine):
    """A machine that waits for real descriptors."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.kernel.host = self
        self.poller = Poller()

    def install(self, file: File) -> int:
        assert self.task.files is not None
        return self.task.files.alloc_fd(self.task, file)

    def attach(self, fd: int) -> int:
        return self.install(open_host_fd(self.kernel, fd))


@pytest.fixture
def machine(tmp_path: Path) -> HostMachine:
    return HostMachine(tmp_path)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def test_a_pipe_of_the_host_is_waited_for(machine: HostMachine, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fd = machine.attach(reader)
    sleeper = machine.start("read", fd, machine.buffer, 100)
    assert sleeper.asleep and machine.poll(fd) == 0 and machine.poller.waiting
    os.write(writer, b"from outside")
    assert machine.poller.check()
    machine.run_woken()
    assert sleeper.result == 12 and machine.peek(12) == b"from outside"
    os.write(writer, b"more")
    assert machine.poll(fd) == Poll.IN | Poll.RDNORM
    assert machine.call("ioctl", fd, FIONREAD, machine.buffer) == 0 and machine.peek(4) == b"\4\0\0\0"
    os.close(writer)
    assert machine.read(fd) == b"more"
    assert machine.read(fd) == b""


def test_it_looks_like_what_it_is(machine: HostMachine, pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    fd = machine.attach(reader)
    file = machine.file(fd)
    assert stat.S_ISFIFO(file.inode.getattr(machine.task).mode)
    assert file.d_dname() == b"pipe:[%d]" % os.fstat(reader).st_ino
    assert machine.call("lseek", fd, 0, 0) == -Errno.ESPIPE
    assert machine.call("ioctl", fd, TCGETS, machine.buffer) == -Errno.ENOTTY
    assert (file.f_mode & (FMode.READ | FMode.WRITE)) == FMode.READ
    assert machine.write(machine.attach(writer), b"x") == 1

    (tmp_path / "data").write_bytes(b"0123456789")
    host_fd = os.open(tmp_path / "data", os.O_RDWR)
    fd = machine.attach(host_fd)
    assert stat.S_ISREG(machine.file(fd).inode.getattr(machine.task).mode)
    assert machine.read(fd, 4) == b"0123"
    assert os.lseek(host_fd, 0, os.SEEK_CUR) == 4  # the position is the host's
    assert machine.call("lseek", fd, -2, os.SEEK_END) == 8
    assert machine.read(fd) == b"89"
    assert machine.write(fd, b"!") == 1
    os.close(host_fd)
    assert (tmp_path / "data").read_bytes() == b"0123456789!"


def test_a_regular_file_can_be_opened_again(machine: HostMachine, tmp_path: Path) -> None:
    """As a shell does it for ``> /dev/stdout``."""
    target = tmp_path / "output"
    target.write_bytes(b"before")
    host_fd = os.open(target, os.O_WRONLY | os.O_APPEND)
    inode = machine.file(machine.attach(host_fd)).inode
    inode.truncate(0)
    again = machine.install(inode.open(machine.task, None, os.O_WRONLY))
    assert machine.write(again, b"after") == 5
    machine.close(again)
    assert target.read_bytes() == b"after"
    os.close(host_fd)


def test_a_full_pipe_of_the_host_is_waited_for(machine: HostMachine, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fd = machine.attach(writer)
    sleeper = machine.start("write", fd, machine.buffer, 200_000)
    assert sleeper.asleep and machine.poll(fd) == 0
    machine.file(fd).f_flags |= NONBLOCK
    assert machine.write(fd, b"x") == -Errno.EAGAIN
    machine.file(fd).f_flags &= ~NONBLOCK
    got = 0
    while got < 200_000:
        got += len(os.read(reader, 50_000))
        machine.poller.check()
        machine.run_woken()
    assert sleeper.result == 200_000


def test_nobody_reads(machine: HostMachine, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fd = machine.attach(writer)
    os.close(reader)
    assert machine.write(fd, b"x") == -Errno.EPIPE
    assert machine.task.pending.signal & sigmask(Signal.SIGPIPE)


def test_a_closed_descriptor_is_dev_null(machine: HostMachine) -> None:
    fd = machine.attach(987)
    assert (machine.read(fd), machine.write(fd, b"gone")) == (b"", 4)
    assert stat.S_ISCHR(machine.file(fd).inode.getattr(machine.task).mode)


def test_a_terminal_that_is_not_standard_input(machine: HostMachine) -> None:
    master, slave = os.openpty()
    fd = machine.attach(slave)
    assert machine.call("ioctl", fd, TCGETS, machine.buffer) == 0
    assert machine.call("ioctl", fd, TIOCGWINSZ, machine.buffer) == 0
    assert machine.write(fd, b"shown") == 5
    assert os.read(master, 100) == b"shown"
    for each in (master, slave):
        os.close(each)


def test_given_input(machine: HostMachine) -> None:
    fd = machine.install(CapturedInput(machine.kernel, b"some input"))
    assert stat.S_ISFIFO(machine.file(fd).inode.mode)
    assert machine.poll(fd) == Poll.IN | Poll.RDNORM | Poll.HUP
    assert machine.read(fd, 4) == b"some"
    assert machine.call("ioctl", fd, FIONREAD, machine.buffer) == 0 and machine.peek(1) == b"\6"
    assert (machine.read(fd), machine.read(fd)) == (b" input", b"")
    assert machine.poll(fd) == Poll.HUP
    assert machine.write(fd, b"x") == -Errno.EBADF


def test_captured_output(machine: HostMachine) -> None:
    pieces: list[bytes] = []
    capture = CapturedOutput(machine.kernel, pieces.append)
    fd = machine.install(capture)
    machine.write(fd, b"one ")
    machine.write(fd, b"two")
    assert bytes(capture.data) == b"one two" and pieces == [b"one ", b"two"]
    assert machine.poll(fd) == Poll.OUT | Poll.WRNORM
    assert machine.read(fd) == -Errno.EBADF
