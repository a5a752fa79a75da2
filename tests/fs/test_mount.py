"""Mounting in the guest: new file systems, binds, moves, and what keeps one busy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikern.kernel.errno import Errno
from tests.fs.machine import FsMachine

RDONLY, REMOUNT, NOEXEC, BIND, MOVE, REC = 1, 0x20, 8, 0x1000, 0x2000, 0x4000
DETACH = 2


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    for name in ("mnt", "other", "dev", "proc", "dir/sub"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dir" / "file").write_text("file")
    (tmp_path / "mnt" / "hidden").write_text("below")
    return FsMachine(str(tmp_path))


def mount(machine: FsMachine, source: str, target: str, kind: str | int, flags: int = 0, data: str | int = 0) -> int:
    result: int = machine.call("mount", source, target, kind, flags, data)
    return result


def test_tmpfs(machine: FsMachine) -> None:
    free = machine.kernel.frames.nr_free
    assert mount(machine, "none", "/mnt", "tmpfs", 0, "mode=0750,size=1m") == 0
    assert machine.stat("/mnt").mode & 0o7777 == 0o750
    assert machine.listdir("/mnt") == []
    machine.write_file("/mnt/file", bytes(50_000))
    assert machine.call("mkdirat", -100, "/mnt/dir", 0o755) == 0
    assert machine.stat("/mnt").dev != machine.stat("/").dev
    assert machine.stat("/mnt/..").ino == machine.stat("/").ino
    assert machine.call("umount2", "/mnt", 0) == 0
    assert machine.listdir("/mnt") == [b"hidden"]
    assert free - machine.kernel.frames.nr_free < 30  # the test's own buffers
    assert machine.call("umount2", "/mnt", 0) == -Errno.EINVAL


def test_what_keeps_a_mount_busy(machine: FsMachine) -> None:
    assert mount(machine, "none", "/mnt", "tmpfs") == 0
    fd = machine.open("/mnt/file", os.O_RDWR | os.O_CREAT)
    assert machine.call("umount2", "/mnt", 0) == -Errno.EBUSY
    machine.close(fd)
    machine.call("chdir", "/mnt")
    assert machine.call("umount2", "/mnt", 0) == -Errno.EBUSY
    machine.call("chdir", "/")
    machine.call("mkdirat", -100, "/mnt/inner", 0o755)
    assert mount(machine, "none", "/mnt/inner", "tmpfs") == 0
    assert machine.call("umount2", "/mnt", 0) == -Errno.EBUSY
    assert machine.call("unlinkat", -100, "/mnt/inner", 0x200) == -Errno.EBUSY
    fd = machine.open("/mnt/file", os.O_RDWR)
    assert machine.call("umount2", "/mnt", DETACH) == 0
    assert machine.write(fd, b"still there") == 11
    assert machine.listdir("/mnt") == [b"hidden"]


def test_binds(machine: FsMachine) -> None:
    assert mount(machine, "/dir", "/mnt", 0, BIND) == 0
    assert machine.contents("/mnt/file") == b"file"
    machine.write_file("/mnt/new", b"x")
    assert machine.contents("/dir/new") == b"x"
    assert machine.call("renameat2", -100, "/mnt/new", -100, "/dir/other", 0) == -Errno.EXDEV
    assert mount(machine, "none", "/mnt", 0, REMOUNT | BIND | RDONLY) == 0
    assert machine.open("/mnt/new", os.O_WRONLY) == -Errno.EROFS
    assert machine.open("/dir/new", os.O_WRONLY) >= 0
    assert mount(machine, "/dir/file", "/mnt", 0, BIND) == -Errno.ENOTDIR
    assert mount(machine, "/mnt", "/other", 0, MOVE) == 0
    assert machine.listdir("/mnt") == [b"hidden"]
    assert machine.contents("/other/file") == b"file"
    assert mount(machine, "/other", "/other/sub", 0, MOVE) == -Errno.ELOOP


def test_recursive_binds(machine: FsMachine) -> None:
    assert mount(machine, "none", "/dir/sub", "tmpfs") == 0
    machine.write_file("/dir/sub/inner", b"1")
    assert mount(machine, "/dir", "/mnt", 0, BIND) == 0
    assert machine.listdir("/mnt/sub") == []
    assert mount(machine, "/dir", "/other", 0, BIND | REC) == 0
    assert machine.contents("/other/sub/inner") == b"1"


def test_who_and_what(machine: FsMachine) -> None:
    assert mount(machine, "none", "/mnt", "ext4") == -Errno.ENODEV
    assert mount(machine, "none", "/dir/file", "tmpfs") == -Errno.ENOTDIR
    assert mount(machine, "none", "/nothing", "tmpfs") == -Errno.ENOENT
    assert mount(machine, "proc", "/mnt", "proc") == 0
    assert machine.contents("/mnt/self/comm") == machine.contents("/proc/self/comm")
    (name,) = [line.split()[1] for line in machine.contents("/proc/mounts").splitlines()[-1:]]  # type: ignore[union-attr]
    assert name == b"/mnt"
    machine.become(machine.task, machine.user(1000))
    assert mount(machine, "none", "/other", "tmpfs") < 0
    assert machine.call("umount2", "/proc", 0) < 0


def test_noexec(machine: FsMachine) -> None:
    assert mount(machine, "none", "/mnt", "tmpfs", NOEXEC) == 0
    machine.write_file("/mnt/prog", b"", 0o755)
    assert machine.call("faccessat", -100, "/mnt/prog", 1) == -Errno.EACCES


def test_statfs(machine: FsMachine) -> None:
    assert machine.call("statfs", "/dev", machine.buffer) == 0
    data = machine.peek(120)
    assert int.from_bytes(data[:8], "little") == 0x01021994
    assert machine.call("statfs", "/", machine.buffer) == 0
    host = os.statvfs(machine.kernel.config.root)
    assert int.from_bytes(machine.peek(24)[16:24], "little") == host.f_blocks
