"""Reading and writing at the edges: bad memory, limits, several buffers, holes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from minikern.fs.namei import At
from minikern.kernel.errno import Errno
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.siginfo import Signal
from minikern.mm.mmap import do_mmap, do_munmap
from minikern.mm.uaccess import copy_from_user, copy_to_user
from tests.fs.machine import FsMachine

PAGE = 4096


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    (tmp_path / "host").write_bytes(b"0123456789" * 1000)
    (tmp_path / "dir").mkdir()
    tmp_path.chmod(0o755)
    return FsMachine(str(tmp_path))


@pytest.fixture
def edge(machine: FsMachine) -> int:
    """An address at whose page's end no memory follows."""
    start = do_mmap(machine.task, None, 0, 3 * PAGE, 3, 0x22, 0)
    assert machine.task.mm is not None
    do_munmap(machine.task.mm, start + 2 * PAGE, PAGE)
    return start + 2 * PAGE


def test_reads_stop_at_bad_memory(machine: FsMachine, edge: int) -> None:
    fd = machine.open("/host")
    assert machine.call("read", fd, edge - 100, 5000) == 100
    assert copy_from_user(machine.task, edge - 100, 100) == b"0123456789" * 10
    assert machine.call("lseek", fd, 0, 1) == 100
    assert machine.call("read", fd, edge, 10) == -Errno.EFAULT
    assert machine.call("lseek", fd, 0, 1) == 100
    assert machine.call("read", fd, 0, 0) == 0


def test_writes_stop_at_bad_memory(machine: FsMachine, edge: int) -> None:
    fd = machine.open("/new", os.O_RDWR | os.O_CREAT)
    assert machine.call("write", fd, edge - 7, 100) == 7
    assert machine.stat("/new").size == 7
    assert machine.call("write", fd, edge, 100) == -Errno.EFAULT
    assert machine.call("write", fd, edge, 0) == 0


def test_vectors(machine: FsMachine, edge: int) -> None:
    fd = machine.open("/host", os.O_RDWR)
    vec = machine.string(struct.pack("<6Q", machine.buffer, 4, edge, 5, machine.buffer + 100, 6))
    assert machine.call("readv", fd, vec, 1) == 4
    assert machine.call("readv", fd, vec, 3) == 4  # the second buffer is bad
    assert machine.call("lseek", fd, 0, 1) == 8
    vec = machine.string(struct.pack("<4Q", machine.buffer, 4, machine.buffer + 100, 6))
    assert machine.call("preadv", fd, vec, 2, 9990, 0) == 10
    assert machine.peek(4) + machine.peek(6, 100) == b"0123456789"
    assert machine.call("pwritev", fd, vec, 2, 10000, 0) == 10
    assert machine.stat("/host").size == 10010
    assert machine.call("readv", fd, vec, 1025) == -Errno.EINVAL
    assert machine.call("preadv2", fd, vec, 2, (1 << 64) - 1, 0, 1 << 20) == -Errno.EOPNOTSUPP
    assert machine.call("preadv2", fd, vec, 2, -1, 0, 0) == 10
    assert machine.call("lseek", fd, 0, 1) == 18
    negative = machine.string(struct.pack("<2Q", machine.buffer, 1 << 63))
    assert machine.call("readv", fd, negative, 1) == -Errno.EINVAL


def test_access_modes(machine: FsMachine) -> None:
    reader, writer = machine.open("/host"), machine.open("/host", os.O_WRONLY)
    path = machine.open("/host", os.O_PATH)
    directory = machine.open("/dir")
    assert machine.call("write", reader, machine.buffer, 1) == -Errno.EBADF
    assert machine.call("read", writer, machine.buffer, 1) == -Errno.EBADF
    assert machine.call("read", path, machine.buffer, 1) == -Errno.EBADF
    assert machine.call("read", directory, machine.buffer, 1) == -Errno.EISDIR
    assert machine.call("read", 99, machine.buffer, 1) == -Errno.EBADF
    assert machine.call("pread64", reader, machine.buffer, 1, -1) == -Errno.EINVAL
    assert machine.call("read", reader, machine.buffer, 1 << 63) == -Errno.EINVAL


def test_positions(machine: FsMachine) -> None:
    fd = machine.open("/host")
    assert machine.call("lseek", fd, -10, os.SEEK_END) == 9990
    assert machine.read(fd) == b"0123456789"
    assert machine.call("lseek", fd, -1, os.SEEK_SET) == -Errno.EINVAL
    assert machine.call("lseek", fd, 5, 7) == -Errno.EINVAL
    assert machine.call("lseek", fd, 100, os.SEEK_DATA) == 100
    assert machine.call("lseek", fd, 100, os.SEEK_HOLE) == 10000
    assert machine.call("lseek", fd, 10000, os.SEEK_DATA) == -Errno.ENXIO


def test_append_goes_to_the_end(machine: FsMachine) -> None:
    first = machine.open("/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    second = machine.open("/log", os.O_WRONLY | os.O_APPEND)
    machine.write(first, b"one ")
    machine.write(second, b"two ")
    machine.write(first, b"three")
    assert machine.contents("/log") == b"one two three"
    assert machine.call("lseek", first, 0, 1) == 13
    assert machine.write(first, b"!", 0) == 1  # pwrite as well, as Linux does
    assert machine.contents("/log") == b"one two three!"


def test_the_file_size_limit(machine: FsMachine) -> None:
    machine.task.signal.rlim.pairs[Rlimit.FSIZE] = (1000, RLIM_INFINITY)
    fd = machine.open("/big", os.O_RDWR | os.O_CREAT)
    assert machine.write(fd, bytes(1500)) == 1000
    assert machine.write(fd, b"x") == -Errno.EFBIG
    assert machine.task.pending.signal & 1 << (Signal.SIGXFSZ - 1)
    assert machine.call("ftruncate", fd, 2000) == -Errno.EFBIG
    assert machine.call("ftruncate", fd, 10) == 0


def test_holes_read_as_zeros_and_take_no_memory(machine: FsMachine) -> None:
    free = machine.kernel.frames.nr_free
    fd = machine.open("/sparse", os.O_RDWR | os.O_CREAT)
    assert machine.write(fd, b"end", 1 << 40) == 3
    assert free - machine.kernel.frames.nr_free < 10
    assert machine.call("pread64", fd, machine.buffer, 10, 1 << 30) == 10
    assert machine.peek(10) == bytes(10)
    assert machine.stat("/sparse").blocks == 8


def test_what_is_cut_off_does_not_come_back(machine: FsMachine) -> None:
    fd = machine.open("/host", os.O_RDWR)
    assert machine.call("ftruncate", fd, 5) == 0
    assert machine.call("ftruncate", fd, 10000) == 0
    assert machine.contents("/host") == b"01234" + bytes(9995)


def test_holes_can_be_punched(machine: FsMachine) -> None:
    fd = machine.open("/host", os.O_RDWR)
    assert machine.call("fallocate", fd, 2, 10, 10) == -Errno.EOPNOTSUPP
    assert machine.call("fallocate", fd, 3, 10, 8000) == 0
    expected = bytearray(b"0123456789" * 1000)
    expected[10:8010] = bytes(8000)
    assert machine.contents("/host") == bytes(expected)
    assert machine.call("fallocate", fd, 0, 0, 20000) == 0
    assert machine.stat("/host").size == 20000
    assert machine.call("fallocate", fd, 1, 0, 30000) == 0
    assert machine.stat("/host").size == 20000


def test_sendfile_and_copy_file_range(machine: FsMachine) -> None:
    source = machine.open("/host")
    target = machine.open("/copy", os.O_RDWR | os.O_CREAT)
    assert machine.call("sendfile", target, source, 0, 100) == 100
    assert machine.call("lseek", source, 0, 1) == 100
    copy_to_user(machine.task, machine.buffer, (9990).to_bytes(8, "little"))
    assert machine.call("sendfile", target, source, machine.buffer, 100) == 10
    assert machine.peek(8) == (10000).to_bytes(8, "little")
    assert machine.call("lseek", source, 0, 1) == 100
    assert machine.call("copy_file_range", source, 0, target, 0, 1 << 62, 0) == 9900
    assert machine.contents("/copy") == b"0123456789" * 11 + b"0123456789" * 990
    assert machine.call("copy_file_range", target, 0, target, 0, 10, 0) == 0  # at the end: nothing to copy
    assert machine.call("copy_file_range", machine.open("/dir"), 0, target, 0, 10, 0) == -Errno.EISDIR


def test_descriptors(machine: FsMachine) -> None:
    fds = [machine.open("/host") for _ in range(5)]
    assert fds == [0, 1, 2, 3, 4]
    machine.close(1)
    machine.close(3)
    assert machine.call("dup", 0) == 1
    assert machine.call("fcntl", 0, 0, 2) == 3
    assert machine.call("fcntl", 0, 1030, 10) == 10
    assert machine.call("fcntl", 10, 1, 0) == 1
    assert machine.call("dup3", 0, 2, os.O_CLOEXEC) == 2
    assert machine.call("dup3", 0, 0, 0) == -Errno.EINVAL
    assert machine.call("dup3", 0, 1024, 0) == -Errno.EBADF
    assert machine.call("fcntl", 0, 0, 1024) == -Errno.EINVAL
    machine.task.signal.rlim.pairs[Rlimit.NOFILE] = (6, 6)
    assert machine.open("/host") == 5
    assert machine.open("/made", os.O_CREAT | os.O_WRONLY) == -Errno.EMFILE
    assert machine.stat("/made") == -Errno.ENOENT
    assert machine.call("close_range", 0, 0xFFFFFFFF, 0) == 0
    assert machine.close(0) == -Errno.EBADF


def test_flags_that_can_change(machine: FsMachine) -> None:
    fd = machine.open("/host", os.O_RDWR)
    assert machine.call("fcntl", fd, 4, os.O_APPEND | os.O_NONBLOCK | os.O_WRONLY) == 0
    assert machine.call("fcntl", fd, 3, 0) == 0o100000 | os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    path = machine.open("/host", os.O_PATH)
    assert machine.call("fcntl", path, 4, 0) == -Errno.EBADF
    assert machine.call("fcntl", path, 3, 0) == os.O_PATH


def test_times(machine: FsMachine) -> None:
    stamps = machine.string(struct.pack("<4q", 1, 2, 3, 4))
    assert machine.call("utimensat", -100, "/host", stamps, 0) == 0
    assert (machine.stat("/host").atime_ns, machine.stat("/host").mtime_ns) == (1_000_000_002, 3_000_000_004)
    omit = machine.string(struct.pack("<4q", 0, (1 << 30) - 2, 9, 0))
    assert machine.call("utimensat", -100, "/host", omit, 0) == 0
    assert (machine.stat("/host").atime_ns, machine.stat("/host").mtime_ns) == (1_000_000_002, 9_000_000_000)
    machine.become(machine.task, machine.user(1000))
    assert machine.call("utimensat", -100, "/host", stamps, 0) == -Errno.EPERM
    assert machine.call("utimensat", -100, "/host", 0, 0) == -Errno.EACCES
    bad = machine.string(struct.pack("<4q", 1, 10**9, 3, 4))
    assert machine.call("utimensat", -100, "/host", bad, 0) == -Errno.EINVAL


def test_statx(machine: FsMachine) -> None:
    assert machine.call("statx", -100, "/host", 0, 0x7FF, machine.buffer) == 0
    data = machine.peek(256)
    assert int.from_bytes(data[40:48], "little") == 10000
    assert machine.call("statx", 0, "", At.EMPTY_PATH, 0x7FF, machine.buffer) == -Errno.EBADF
    fd = machine.open("/host")
    assert machine.call("statx", fd, "", At.EMPTY_PATH, 0x7FF, machine.buffer) == 0
    assert machine.call("statx", fd, "", 0, 0x7FF, machine.buffer) == -Errno.ENOENT


def test_memfd_and_seals(machine: FsMachine) -> None:
    fd = machine.call("memfd_create", "name", 3)
    assert machine.write(fd, b"sealed") == 6
    assert machine.call("fcntl", fd, 1034, 0) == 0
    assert machine.call("fcntl", fd, 1033, 2 | 4) == 0  # neither shrink nor grow
    assert machine.call("ftruncate", fd, 1) == -Errno.EPERM
    assert machine.call("ftruncate", fd, 100) == -Errno.EPERM
    assert machine.write(fd, b"more") == -Errno.EPERM
    assert machine.write(fd, b"SEALED", 0) == 6
    mapped = do_mmap(machine.task, machine.task.files.fds[fd], 0, PAGE, 3, 1, 0)  # type: ignore[union-attr]
    assert machine.call("fcntl", fd, 1033, 8) == -Errno.EBUSY
    do_munmap(machine.task.mm, mapped, PAGE)  # type: ignore[arg-type]
    assert machine.call("fcntl", fd, 1033, 8 | 1) == 0
    assert machine.write(fd, b"x", 0) == -Errno.EPERM
    assert machine.call("fcntl", fd, 1033, 2) == -Errno.EPERM
    assert machine.readlink(f"/proc/self/fd/{fd}") == -Errno.ENOENT  # no /proc in this root
    plain = machine.call("memfd_create", "name", 0)
    assert machine.call("fcntl", plain, 1034, 0) == 1
    assert machine.call("fcntl", machine.open("/host"), 1034, 0) == -Errno.EINVAL
    assert machine.call("memfd_create", "x" * 250, 0) == -Errno.EINVAL


def test_nameless_files_can_be_given_a_name(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    machine = FsMachine(str(tmp_path))
    fd = machine.open("/", os.O_TMPFILE | os.O_RDWR, 0o600)
    machine.write(fd, b"contents")
    assert machine.listdir("/") == [b"proc"]
    link = f"/proc/self/fd/{fd}"
    assert machine.call("linkat", -100, link, -100, "/named", At.SYMLINK_FOLLOW) == 0
    assert machine.contents("/named") == b"contents"
    assert machine.stat("/named").nlink == 1
    exclusive = machine.open("/", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    link = f"/proc/self/fd/{exclusive}"
    assert machine.call("linkat", -100, link, -100, "/other", At.SYMLINK_FOLLOW) == -Errno.ENOENT
