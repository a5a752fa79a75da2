"""Pipes and FIFOs: what is kept together, who waits, who is woken, what an end that is gone does to the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikern.fs.file import Poll
from minikern.kernel.errno import ERESTARTSYS, Errno
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import sigmask
from tests.fs.sleepers import NONBLOCK, StreamMachine

PAGE = 4096
CAPACITY = 16 * PAGE
F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032


@pytest.fixture
def machine(tmp_path: Path) -> StreamMachine:
    return StreamMachine(tmp_path)


def pending(machine: StreamMachine, sig: Signal) -> bool:
    return bool(machine.task.pending.signal & sigmask(sig))


def test_bytes_come_out_in_order_across_writes(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    assert [machine.write(writer, data) for data in (b"abc", b"def")] == [3, 3]
    assert machine.read(reader, 4) == b"abcd"
    assert machine.read(reader, 100) == b"ef"


def test_small_writes_share_a_page(machine: StreamMachine) -> None:
    """Filled byte by byte a pipe holds all its pages; a write that does not fit the last page takes a new one."""
    reader, writer = machine.pipe(NONBLOCK)
    assert sum(machine.write(writer, b"x" * 64) == 64 for _ in range(CAPACITY // 64)) == CAPACITY // 64
    assert machine.write(writer, b"x") == -Errno.EAGAIN
    machine.read(reader)
    count = 0
    while machine.write(writer, bytes(1000)) == 1000:
        count += 1
    assert count == 16 * 4


def test_what_was_read_of_a_page_is_not_free(machine: StreamMachine) -> None:
    reader, writer = machine.pipe(NONBLOCK)
    assert machine.write(writer, bytes(CAPACITY)) == CAPACITY
    assert machine.read(reader, PAGE - 1) == bytes(PAGE - 1)
    assert machine.write(writer, b"x") == -Errno.EAGAIN
    assert machine.read(reader, 1) == b"\0"
    assert machine.write(writer, b"x" * PAGE) == PAGE


def test_up_to_pipe_buf_it_is_all_or_nothing(machine: StreamMachine) -> None:
    reader, writer = machine.pipe(NONBLOCK)
    assert machine.write(writer, bytes(CAPACITY - PAGE)) == CAPACITY - PAGE
    assert machine.write(writer, b"x" * (PAGE - 1)) == PAGE - 1
    assert machine.write(writer, b"yy") == -Errno.EAGAIN
    assert machine.write(writer, b"y") == 1
    assert machine.read(reader) == bytes(CAPACITY - PAGE) + b"x" * (PAGE - 1) + b"y"


def test_packets_stay_apart(machine: StreamMachine) -> None:
    reader, writer = machine.pipe(os.O_DIRECT | NONBLOCK)
    machine.write(writer, b"abcdef")
    machine.write(writer, b"gh")
    assert machine.read(reader, 3) == b"abc"  # the rest of the packet is lost
    assert machine.read(reader, 100) == b"gh"
    assert machine.read(reader, 100) == -Errno.EAGAIN


def test_a_reader_waits_for_a_writer(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    sleeper = machine.start("read", reader, machine.buffer, 100)
    assert sleeper.wchan == "pipe_read"
    machine.write(writer, b"hello")
    machine.run_woken()
    assert sleeper.result == 5


def test_one_write_wakes_one_reader(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    sleepers = [machine.start("read", reader, machine.buffer, 1) for _ in range(3)]
    machine.write(writer, b"x")
    machine.run_woken()
    assert [each.result for each in sleepers] == [1, None, None]


def test_what_a_reader_leaves_wakes_the_next(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    sleepers = [machine.start("read", reader, machine.buffer, 1) for _ in range(3)]
    machine.write(writer, b"xy")
    machine.run_woken()
    assert [each.result for each in sleepers] == [1, 1, None]


def test_a_long_write_goes_on_as_room_appears(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    data = bytes(range(256)) * (100_000 // 256)
    sleeper = machine.start("write", writer, machine.put(data), len(data))
    got = b""
    while sleeper.asleep or len(got) < len(data):
        part = machine.read(reader, 5000)
        assert isinstance(part, bytes)
        got += part
        machine.run_woken()
    assert got == data and sleeper.result == len(data)


def test_a_signal_ends_a_write_with_what_was_written(machine: StreamMachine) -> None:
    _, writer = machine.pipe()
    first = machine.start("write", writer, machine.buffer, 100_000)
    second = machine.start("write", writer, machine.buffer, 1)
    machine.interrupt(first)
    machine.interrupt(second)
    assert (first.result, second.result) == (CAPACITY, -ERESTARTSYS)


def test_the_last_writer_is_the_end_of_the_file(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    other = machine.call("dup", writer)
    machine.write(writer, b"last")
    machine.close(writer)
    assert machine.read(reader) == b"last"
    sleeper = machine.start("read", reader, machine.buffer, 1)
    machine.close(other)
    machine.run_woken()
    assert sleeper.asleep  # its task inherited the end to write to
    assert sleeper.task.files is not None
    sleeper.task.files.remove(other).fput()
    machine.run_woken()
    assert sleeper.result == 0


def test_without_readers_writing_is_a_broken_pipe(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    machine.close(reader)
    assert machine.write(writer, b"") == 0
    assert not pending(machine, Signal.SIGPIPE)
    assert machine.write(writer, b"x") == -Errno.EPIPE
    assert pending(machine, Signal.SIGPIPE)


def test_a_writer_that_waits_learns_that_the_reader_has_gone(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    machine.write(writer, bytes(CAPACITY))
    sleeper = machine.start("write", writer, machine.buffer, 1)
    assert sleeper.task.files is not None
    sleeper.task.files.remove(reader).fput()
    machine.close(reader)
    machine.run_woken()
    assert sleeper.result == -Errno.EPIPE


def test_poll(machine: StreamMachine) -> None:
    reader, writer = machine.pipe()
    out = Poll.OUT | Poll.WRNORM
    assert (machine.poll(reader), machine.poll(writer)) == (0, out)
    machine.write(writer, bytes(CAPACITY))
    assert (machine.poll(reader), machine.poll(writer)) == (Poll.IN | Poll.RDNORM, 0)
    machine.close(writer)
    assert machine.poll(reader) == Poll.IN | Poll.RDNORM | Poll.HUP
    machine.read(reader)
    assert machine.poll(reader) == Poll.HUP
    reader, writer = machine.pipe()
    machine.close(reader)
    assert machine.poll(writer) == out | Poll.ERR


def test_size(machine: StreamMachine) -> None:
    reader, writer = machine.pipe(NONBLOCK)
    assert machine.call("fcntl", reader, F_GETPIPE_SZ, 0) == CAPACITY
    assert machine.call("fcntl", reader, F_SETPIPE_SZ, 5000) == 2 * PAGE
    assert machine.write(writer, bytes(CAPACITY)) == 2 * PAGE
    assert machine.call("fcntl", writer, F_SETPIPE_SZ, 1) == -Errno.EBUSY
    assert machine.call("fcntl", writer, F_SETPIPE_SZ, CAPACITY) == CAPACITY
    assert machine.write(writer, bytes(CAPACITY)) == CAPACITY - 2 * PAGE


def test_a_bad_address_makes_no_pipe(machine: StreamMachine) -> None:
    assert machine.call("pipe2", 8, 0) == -Errno.EFAULT
    assert machine.task.files is not None and not machine.task.files.fds


class TestFifo:
    """A pipe with a name: open waits for the other side."""

    @pytest.fixture
    def machine(self, tmp_path: Path) -> StreamMachine:
        machine = StreamMachine(tmp_path)
        assert machine.call("mknodat", -100, "/fifo", 0o010600, 0) == 0
        return machine

    def test_open_meets(self, machine: StreamMachine) -> None:
        reader = machine.start("openat", -100, "/fifo", os.O_RDONLY, 0)
        assert reader.wchan == "wait_for_partner"
        writer = machine.open("/fifo", os.O_WRONLY)
        machine.run_woken()
        assert reader.result == 0
        machine.write(writer, b"through")
        assert machine.file(0, reader.task).read(reader.task, 100, 0) == b"through"

    def test_a_writer_that_came_and_went_has_been_there(self, machine: StreamMachine) -> None:
        reader = machine.start("openat", -100, "/fifo", os.O_RDONLY, 0)
        machine.close(machine.open("/fifo", os.O_WRONLY))
        machine.run_woken()
        assert reader.result == 0

    def test_nonblocking(self, machine: StreamMachine) -> None:
        assert machine.open("/fifo", os.O_WRONLY | NONBLOCK) == -Errno.ENXIO
        reader = machine.open("/fifo", os.O_RDONLY | NONBLOCK)
        assert machine.poll(reader) == 0  # nobody has hung up, since nobody was there
        assert machine.read(reader) == b""
        machine.close(machine.open("/fifo", os.O_WRONLY))
        assert machine.poll(reader) == Poll.HUP

    def test_a_signal_ends_the_waiting(self, machine: StreamMachine) -> None:
        reader = machine.start("openat", -100, "/fifo", os.O_RDONLY, 0)
        machine.interrupt(reader)
        assert reader.result == -ERESTARTSYS
        assert machine.open("/fifo", os.O_WRONLY | NONBLOCK) == -Errno.ENXIO

    def test_both_ends_at_once(self, machine: StreamMachine) -> None:
        fd = machine.open("/fifo", os.O_RDWR)
        machine.write(fd, b"self")
        assert machine.read(fd) == b"self"
