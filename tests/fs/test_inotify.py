"""inotify: the same events in the same order as the host tells them."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minikern.fs.fsnotify import In
from minikern.kernel.errno import Errno
from minikern.kernel.waitqueue import Wait
from tests.fs.machine import FsMachine

Event = tuple[int, int, bytes]


def unpack(data: bytes) -> list[Event]:
    """(wd, mask, name) of every event."""
    events = []
    while data:
        wd, mask, _, length = struct.unpack_from("<iIII", data)
        events.append((wd, mask, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    return events


class Native:
    """The host's system calls on a directory of the host."""

    def __init__(self, top: Path) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.top = top
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)

    def call(self, name: str, *args: Any) -> int:
        function = {"openat": self.libc.openat, "inotify_add_watch": self.libc.inotify_add_watch}.get(name)
        raw = [os.fsencode(arg) if isinstance(arg, str) else arg for arg in args]
        result: int = (function or getattr(self.libc, name))(*raw)
        return result

    def watch(self, name: str, mask: int = In.ALL_EVENTS) -> int:
        return self.call("inotify_add_watch", self.fd, name, ctypes.c_uint(mask))

    def write(self, fd: int, data: bytes) -> None:
        os.write(fd, data)

    def events(self) -> list[Event]:
        try:
            return unpack(os.read(self.fd, 1 << 16))
        except BlockingIOError:
            return []


class Guest:
    """The same of the guest."""

    def __init__(self, machine: FsMachine) -> None:
        self.machine = machine
        self.fd = machine.call("inotify_init1", os.O_NONBLOCK)

    def call(self, name: str, *args: Any) -> int:
        if name == "fchmodat":  # whose flags only the C library knows
            args = args[:3]
        result: int = self.machine.call(name, *args)
        return result

    def watch(self, name: str, mask: int = In.ALL_EVENTS) -> int:
        return self.call("inotify_add_watch", self.fd, name, mask)

    def write(self, fd: int, data: bytes) -> None:
        assert self.machine.write(fd, data) == len(data)

    def events(self) -> list[Event]:
        data = self.machine.read(self.fd)
        return unpack(data) if isinstance(data, bytes) else []


def files(on: Native | Guest) -> None:
    on.watch(".")
    fd = on.call("openat", -100, "new", os.O_RDWR | os.O_CREAT, 0o644)
    on.write(fd, b"data")
    on.write(fd, b"more")
    on.call("close", fd)
    on.watch("new")
    fd = on.call("openat", -100, "new", os.O_RDONLY, 0)
    on.call("ftruncate", fd, 0)
    on.call("close", fd)
    on.call("truncate", "new", 3)
    on.call("fchmodat", -100, "new", 0o600, 0)
    on.call("linkat", -100, "new", -100, "second", 0)
    on.call("unlinkat", -100, "second", 0)
    on.call("unlinkat", -100, "new", 0)


def renames(on: Native | Guest) -> None:
    for name in (".", "dir", "file", "other"):
        on.watch(name)
    on.call("renameat", -100, "file", -100, "dir/moved")
    on.call("renameat", -100, "dir/moved", -100, "other")
    on.call("renameat2", -100, "other", -100, "dir", 2)
    on.call("symlinkat", "target", -100, "link")


def directories(on: Native | Guest) -> None:
    on.watch(".")
    on.call("mkdirat", -100, "made", 0o755)
    on.watch("made")
    fd = on.call("openat", -100, "made", os.O_RDONLY | os.O_DIRECTORY, 0)
    on.call("close", fd)
    on.call("mkdirat", -100, "made/inner", 0o755)
    on.call("unlinkat", -100, "made/inner", 0x200)
    on.call("unlinkat", -100, "made", 0x200)


def deleted_while_open(on: Native | Guest) -> None:
    fd = on.call("openat", -100, "file", os.O_RDWR, 0)
    on.watch("file")
    on.watch(".", In.ALL_EVENTS | In.EXCL_UNLINK)
    on.call("unlinkat", -100, "file", 0)
    on.write(fd, b"still")
    on.call("close", fd)


def once(on: Native | Guest) -> None:
    on.watch("file", In.ATTRIB | In.ONESHOT)
    on.call("fchmodat", -100, "file", 0o600, 0)
    on.call("fchmodat", -100, "file", 0o644, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="compares with the host's own inotify")
@pytest.mark.parametrize("story", [files, renames, directories, deleted_while_open, once])
def test_the_same_events_as_the_host(tmp_path: Path, story: Callable[[Native | Guest], None]) -> None:
    tops = (tmp_path / "native", tmp_path / "guest")
    for top in tops:
        (top / "dir").mkdir(parents=True)
        (top / "file").write_text("file")
        (top / "other").write_text("other")
    machine = FsMachine(str(tops[1]))
    guest = Guest(machine)
    story(guest)
    before = os.getcwd()
    os.chdir(tops[0])
    try:
        native = Native(tops[0])
        story(native)
        expected = native.events()
        os.close(native.fd)
    finally:
        os.chdir(before)
    assert [(wd, In(mask), name) for wd, mask, name in guest.events()] == [
        (wd, In(mask), name) for wd, mask, name in expected
    ]


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    (tmp_path / "file").write_text("x")
    return FsMachine(str(tmp_path))


def test_reading(machine: FsMachine) -> None:
    fd = machine.call("inotify_init1", 0)
    assert isinstance(machine.read(fd), Wait)
    assert machine.call("inotify_add_watch", fd, "/", In.CREATE) == 1
    machine.write_file("/a-name-that-needs-some-room", b"")
    assert machine.call("read", fd, machine.buffer, 16) == -Errno.EINVAL
    assert machine.call("ioctl", fd, 0x541B, machine.buffer) == 0
    assert machine.peek(4) == (16 + 32).to_bytes(4, "little")
    data = machine.read(fd)
    assert isinstance(data, bytes) and len(data) == 48


def test_watches_end(machine: FsMachine) -> None:
    fd = machine.call("inotify_init1", os.O_NONBLOCK)
    assert machine.call("inotify_add_watch", fd, "/file", In.ATTRIB) == 1
    assert machine.call("inotify_add_watch", fd, "/file", In.MODIFY | In.MASK_ADD) == 1
    assert machine.call("inotify_add_watch", fd, "/file", In.MODIFY | In.MASK_CREATE) == -Errno.EEXIST
    assert machine.call("inotify_add_watch", fd, "/file", In.MODIFY | In.ONLYDIR) == -Errno.ENOTDIR
    assert machine.call("inotify_add_watch", fd, "/file", 0) == -Errno.EINVAL
    assert machine.call("inotify_rm_watch", fd, 1) == 0
    assert machine.call("inotify_rm_watch", fd, 1) == -Errno.EINVAL
    data = machine.read(fd)
    assert isinstance(data, bytes) and unpack(data) == [(1, In.IGNORED, b"")]
    machine.call("inotify_add_watch", fd, "/file", In.ATTRIB)
    assert machine.kernel.mounts.marks
    machine.close(fd)
    assert not machine.kernel.mounts.marks
