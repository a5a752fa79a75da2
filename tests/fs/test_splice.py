"""splice, tee and vmsplice between pipes, files and memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from minikern.kernel.errno import Errno
from minikern.kernel.waitqueue import Wait
from minikern.mm.uaccess import copy_to_user
from tests.fs.machine import FsMachine

NONBLOCK = 2


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    (tmp_path / "file").write_bytes(b"0123456789" * 20_000)
    return FsMachine(str(tmp_path))


def pipe(machine: FsMachine) -> tuple[int, int]:
    assert machine.call("pipe2", machine.buffer, 0) == 0
    reader, writer = struct.unpack("<2i", machine.peek(8))
    return reader, writer


def test_a_file_through_a_pipe(machine: FsMachine) -> None:
    source, target = machine.open("/file"), machine.open("/copy", os.O_RDWR | os.O_CREAT)
    reader, writer = pipe(machine)
    total = 0
    while (moved := machine.call("splice", source, 0, writer, 0, 1 << 20, 0)) > 0:
        assert moved <= 65536
        assert machine.call("splice", reader, 0, target, 0, 1 << 20, 0) == moved
        total += moved
    assert total == 200_000
    assert machine.contents("/copy") == machine.contents("/file")


def test_offsets(machine: FsMachine) -> None:
    source = machine.open("/file")
    reader, writer = pipe(machine)
    copy_to_user(machine.task, machine.buffer, (5).to_bytes(8, "little"))
    assert machine.call("splice", source, machine.buffer, writer, 0, 10, 0) == 10
    assert machine.peek(8) == (15).to_bytes(8, "little")
    assert machine.call("lseek", source, 0, 1) == 0
    assert machine.read(reader) == b"5678901234"
    assert machine.call("splice", source, 0, writer, machine.buffer, 10, 0) == -Errno.ESPIPE


def test_waiting(machine: FsMachine) -> None:
    target = machine.open("/copy", os.O_RDWR | os.O_CREAT)
    reader, writer = pipe(machine)
    assert isinstance(machine.call("splice", reader, 0, target, 0, 10, 0), Wait)
    assert machine.call("splice", reader, 0, target, 0, 10, NONBLOCK) == -Errno.EAGAIN
    machine.close(writer)
    assert machine.call("splice", reader, 0, target, 0, 10, 0) == 0


def test_tee_leaves_the_data(machine: FsMachine) -> None:
    reader, writer = pipe(machine)
    other_reader, other_writer = pipe(machine)
    machine.write(writer, b"twice")
    assert machine.call("tee", reader, other_writer, 100, 0) == 5
    assert machine.read(reader) == machine.read(other_reader) == b"twice"
    assert machine.call("tee", reader, writer, 100, 0) == -Errno.EINVAL


def test_pipe_to_pipe(machine: FsMachine) -> None:
    reader, writer = pipe(machine)
    other_reader, other_writer = pipe(machine)
    machine.write(writer, b"moved on")
    assert machine.call("splice", reader, 0, other_writer, 0, 5, 0) == 5
    assert machine.read(other_reader) == b"moved"
    assert machine.read(reader) == b" on"


def test_memory(machine: FsMachine) -> None:
    reader, writer = pipe(machine)
    text = machine.string(b"from memory")
    vec = machine.string(struct.pack("<4Q", text, 5, text + 5, 6))
    assert machine.call("vmsplice", writer, vec, 2, 0) == 11
    vec = machine.string(struct.pack("<2Q", machine.buffer, 100))
    assert machine.call("vmsplice", reader, vec, 1, 0) == 11
    assert machine.peek(11) == b"from memory"


def test_neither_is_a_pipe(machine: FsMachine) -> None:
    source, target = machine.open("/file"), machine.open("/copy", os.O_RDWR | os.O_CREAT)
    assert machine.call("splice", source, 0, target, 0, 10, 0) == -Errno.EINVAL
    assert machine.call("splice", target, 0, 99, 0, 10, 0) == -Errno.EBADF
