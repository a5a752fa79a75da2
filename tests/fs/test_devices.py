"""Devices: the memory devices, the kernel's log, the watch for deaths, and drivers of one's own."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest

from minikern.fs.char_dev import register_device
from minikern.fs.deathwatch import register_deathwatch
from minikern.fs.devices import Device, register_standard_devices
from minikern.fs.file import Poll, exit_files
from minikern.kernel.errno import Errno
from minikern.kernel.task import PF, SignalFlags, Task
from minikern.kernel.waitqueue import Wait
from tests.fs.sleepers import NONBLOCK, StreamMachine


class Greeter(Device):
    """A device of a user's own."""

    __slots__ = ()
    released: list[str] = []  # noqa: RUF012

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        return b"hello %d\n" % task.pid

    def release(self) -> None:
        Greeter.released.append("gone")


class DeviceMachine(StreamMachine):
    """A machine with /null and its like at the top of its tree."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        register_standard_devices(self.kernel)
        register_deathwatch(self.kernel)
        register_device(self.kernel, "greeter", 0o666, Greeter)
        for name, _, rdev in self.kernel.chrdevs.nodes():
            assert self.call("mknodat", -100, "/" + name, 0o020666, rdev) == 0


@pytest.fixture
def machine(tmp_path: Path) -> DeviceMachine:
    return DeviceMachine(tmp_path)


def test_memory_devices(machine: DeviceMachine) -> None:
    fds = {name: machine.open("/" + name, os.O_RDWR) for name in ("null", "zero", "full", "random", "urandom")}
    assert {name: machine.read(fd, 3) for name, fd in fds.items()} == {
        "null": b"",
        "zero": bytes(3),
        "full": bytes(3),
        "random": bytes(3),  # as far as the sources of this machine go
        "urandom": bytes(3),
    }
    assert {name: machine.write(fd, b"abc") for name, fd in fds.items()} == {
        "null": 3,
        "zero": 3,
        "full": -Errno.ENOSPC,
        "random": 3,
        "urandom": 3,
    }


def test_the_log(machine: DeviceMachine) -> None:
    fd = machine.open("/kmsg", os.O_RDWR)
    reader = machine.start("read", fd, machine.buffer + 100, 100)
    assert reader.asleep
    assert machine.write(fd, b"<3>hello\n") == 9
    machine.run_woken()
    assert reader.result is not None and machine.peek(reader.result, 100) == b"3,0,1000000,-;hello\n"
    other = machine.open("/kmsg", os.O_RDWR | NONBLOCK)
    assert machine.poll(other) == Poll.IN | Poll.RDNORM
    assert machine.read(other, 5) == -Errno.EINVAL
    assert machine.read(other, 100) == b"3,0,1000000,-;hello\n"
    assert machine.read(other, 100) == -Errno.EAGAIN
    for number in range(1100):
        machine.write(fd, b"line %d" % number)
    assert machine.read(other, 100) == -Errno.EPIPE  # some are gone
    assert b"line 76\n" in machine.read(other, 100)  # type: ignore[operator]


def test_no_driver(machine: DeviceMachine) -> None:
    machine.call("mknodat", -100, "/nothing", 0o020666, 99 << 8)
    assert machine.open("/nothing") == -Errno.ENXIO


def test_a_device_of_ones_own(machine: DeviceMachine) -> None:
    fd = machine.open("/greeter")
    assert machine.read(fd, 100) == b"hello %d\n" % machine.task.pid
    assert machine.write(machine.open("/greeter", os.O_WRONLY), b"x") == -Errno.EINVAL
    machine.close(fd)
    assert Greeter.released == ["gone"]


class TestDeathwatch:
    @staticmethod
    def die(task: Task, status: int, *, group: bool = False) -> None:
        """What exit does to the files of a process."""
        task.flags |= PF.EXITING
        task.exit_code = status
        if group:
            task.signal.flags |= SignalFlags.GROUP_EXIT
            task.signal.group_exit_code = status
        exit_files(task)

    def test_every_death_is_a_line(self, machine: DeviceMachine) -> None:
        fd = machine.open("/deathwatch", os.O_RDONLY | NONBLOCK)
        deaths = []
        for comm, status, group in ((b"one", 3 << 8, False), (b"two", 9, True), (b"three", 6 | 0x80, True)):
            task = machine.clone()
            task.comm = comm
            self.die(task, status, group=group)
            deaths.append(task.pid)
        one, two, three = deaths
        assert machine.read(fd, 1000) == b"%d one exited 3\n%d two killed 9\n%d three dumped 6\n" % (one, two, three)
        assert machine.read(fd, 1000) == -Errno.EAGAIN

    def test_a_reader_waits(self, machine: DeviceMachine) -> None:
        fd = machine.open("/deathwatch")
        reader = machine.start("read", fd, machine.buffer, 100)
        assert reader.asleep and machine.poll(fd) == 0
        self.die(machine.clone(), 0)
        machine.run_woken()
        assert reader.result is not None and reader.result > 0

    def test_closing_is_no_death_and_several_descriptors_are_one(self, machine: DeviceMachine) -> None:
        fd = machine.open("/deathwatch", NONBLOCK)
        task = machine.clone()
        copied = machine.call("dup", fd, task=task)
        machine.call("close", copied, task=task)
        assert machine.read(fd, 100) == -Errno.EAGAIN
        machine.call("dup", fd, task=task)
        self.die(task, 0)
        data = machine.read(fd, 100)
        assert isinstance(data, bytes) and data.count(b"\n") == 1

    def test_the_driver_can_be_copied_with_the_kernel(self, machine: DeviceMachine) -> None:
        devices = copy.deepcopy(machine.kernel.chrdevs)
        assert set(devices.table) == set(machine.kernel.chrdevs.table)
