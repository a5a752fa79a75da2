"""Directories of the host bound into the guest: what reaches the host and what cannot be reached."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from minikern.fs.namei import At
from minikern.kernel.config import Bind
from minikern.kernel.errno import Errno
from minikern.mm.mmap import do_mmap, do_munmap
from minikern.mm.uaccess import copy_from_user, copy_to_user
from tests.fs.machine import FsMachine

PAGE = 4096
READ_WRITE, SHARED = 3, 1


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory to bind, beside things that are none of the guest's business."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "shared" / "dir").mkdir(parents=True)
    (tmp_path / "shared" / "file").write_bytes(b"from the host")
    (tmp_path / "secret").write_text("outside")
    return tmp_path / "shared"


def bound(shared: Path, *, rw: bool = True) -> FsMachine:
    return FsMachine(str(shared.parent / "root"), binds=[Bind(str(shared), "/mnt/data", rw)])


def test_changes_reach_the_host_at_once(shared: Path) -> None:
    machine = bound(shared)
    machine.write_file("/mnt/data/new", b"by the guest", 0o640)
    assert (shared / "new").read_bytes() == b"by the guest"
    assert stat.S_IMODE((shared / "new").stat().st_mode) == 0o640
    assert machine.call("mkdirat", -100, "/mnt/data/made", 0o750) == 0
    assert machine.call("renameat2", -100, "/mnt/data/new", -100, "/mnt/data/made/moved", 0) == 0
    assert machine.call("symlinkat", "made/moved", -100, "/mnt/data/link") == 0
    assert machine.call("linkat", -100, "/mnt/data/file", -100, "/mnt/data/hard", 0) == 0
    assert machine.call("fchmodat", -100, "/mnt/data/file", 0o600) == 0
    assert machine.call("truncate", "/mnt/data/file", 4) == 0
    assert (shared / "link").read_bytes() == b"by the guest"
    assert (shared / "hard").read_bytes() == b"from"
    assert stat.S_IMODE((shared / "hard").stat().st_mode) == 0o600
    assert machine.contents("/mnt/data/link") == b"by the guest"
    assert machine.stat("/mnt/data/file").nlink == 2
    assert machine.call("unlinkat", -100, "/mnt/data/file", 0) == 0
    assert machine.stat("/mnt/data/hard").nlink == 1
    assert machine.call("unlinkat", -100, "/mnt/data/made", At.REMOVEDIR) == -Errno.ENOTEMPTY
    assert machine.call("unlinkat", -100, "/mnt/data/dir", At.REMOVEDIR) == 0
    assert sorted(os.listdir(shared)) == ["hard", "link", "made"]


def test_directories_can_be_moved_and_used(shared: Path) -> None:
    machine = bound(shared)
    machine.write_file("/mnt/data/dir/x", b"1")
    assert machine.call("chdir", "/mnt/data/dir") == 0
    assert machine.call("renameat2", -100, "/mnt/data/dir", -100, "/mnt/data/other", 0) == 0
    machine.kernel.mounts.mounts[-1].sb.tree.close()
    machine.write_file("y", b"2")
    assert (shared / "other" / "y").read_bytes() == b"2"
    size = machine.call("getcwd", machine.buffer, 100)
    assert machine.peek(size) == b"/mnt/data/other\0"


def test_read_only_is_read_only(shared: Path) -> None:
    machine = bound(shared, rw=False)
    assert machine.contents("/mnt/data/file") == b"from the host"
    for result in (
        machine.open("/mnt/data/file", os.O_WRONLY),
        machine.open("/mnt/data/new", os.O_WRONLY | os.O_CREAT),
        machine.open("/mnt/data/file", os.O_RDONLY | os.O_TRUNC),
        machine.call("mkdirat", -100, "/mnt/data/new", 0o755),
        machine.call("unlinkat", -100, "/mnt/data/file", 0),
        machine.call("fchmodat", -100, "/mnt/data/file", 0o777),
        machine.call("truncate", "/mnt/data/file", 0),
        machine.call("utimensat", -100, "/mnt/data/file", 0, 0),
        machine.call("renameat2", -100, "/mnt/data/file", -100, "/mnt/data/other", 0),
        machine.call("faccessat", -100, "/mnt/data/file", 2),
        machine.call("setxattr", "/mnt/data/file", "user.a", machine.buffer, 1, 0),
    ):
        assert result == -Errno.EROFS
    assert (shared / "file").read_bytes() == b"from the host"


def test_a_single_file_can_be_bound(shared: Path) -> None:
    machine = FsMachine(str(shared.parent / "root"), binds=[Bind(str(shared / "file"), "/etc/config", True)])
    assert machine.contents("/etc/config") == b"from the host"
    machine.write_file("/etc/config", b"changed")
    assert (shared / "file").read_bytes() == b"changed"
    assert machine.call("unlinkat", -100, "/etc/config", 0) == -Errno.EBUSY
    assert not os.listdir(shared.parent / "root" / "etc")


@pytest.mark.parametrize("target", ["../secret", "../../../../../secret", "{outside}/secret", "dir/../../secret"])
@pytest.mark.parametrize("maker", ["host", "guest"])
def test_links_do_not_lead_out(shared: Path, target: str, maker: str) -> None:
    target = target.format(outside=shared.parent)
    machine = bound(shared)
    if maker == "host":
        os.symlink(target, shared / "escape")
    else:
        assert machine.call("symlinkat", target, -100, "/mnt/data/escape") == 0
    for name in ("/mnt/data/escape", "/mnt/data/../../../secret", "/mnt/data/dir/../../secret"):
        assert machine.contents(name) == -Errno.ENOENT
    fd = machine.open("/mnt/data/escape", os.O_WRONLY | os.O_CREAT)
    if fd >= 0:
        machine.write(fd, b"overwritten")
    assert (shared.parent / "secret").read_text() == "outside"
    assert sorted(os.listdir(shared.parent)) == ["root", "secret", "shared"]


def test_a_directory_that_becomes_a_link_does_not_lead_out(shared: Path) -> None:
    machine = bound(shared)
    (shared.parent / "outside").mkdir()
    fd = machine.open("/mnt/data/dir", os.O_DIRECTORY)
    sb = machine.kernel.mounts.mounts[-1].sb
    sb.tree.close()
    os.rename(shared / "dir", shared / "was")
    os.symlink(shared.parent / "outside", shared / "dir")
    assert machine.open("made", os.O_WRONLY | os.O_CREAT, dirfd=fd) < 0
    assert machine.open("/mnt/data/dir/made", os.O_WRONLY | os.O_CREAT) < 0
    assert not os.listdir(shared.parent / "outside")


def test_devices_of_the_host_stay_out_of_reach(shared: Path) -> None:
    if os.getuid():
        pytest.skip("making devices takes root")
    os.mknod(shared / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    machine = bound(shared)
    assert machine.open("/mnt/data/null") == -Errno.ENXIO
    assert machine.call("mknodat", -100, "/mnt/data/dev", stat.S_IFCHR | 0o666, 0x103) == -Errno.EPERM


def test_stores_through_mappings_reach_the_host(shared: Path) -> None:
    (shared / "file").write_bytes(bytes(2 * PAGE))
    machine = bound(shared)
    task = machine.task
    fd = machine.open("/mnt/data/file", os.O_RDWR)
    assert task.files is not None and task.mm is not None
    address = do_mmap(task, task.files.fds[fd], 0, 2 * PAGE, READ_WRITE, SHARED, 0)
    copy_to_user(task, address + 10, b"stored")
    assert machine.call("pread64", fd, machine.buffer, 6, 10) == 6
    assert machine.peek(6) == b"stored"
    assert machine.write(fd, b"written", PAGE) == 7
    assert copy_from_user(task, address + PAGE, 7) == b"written"
    assert (shared / "file").read_bytes()[10:16] == bytes(6)
    assert machine.call("fsync", fd) == 0
    assert (shared / "file").read_bytes()[10:16] == b"stored"
    copy_to_user(task, address + 20, b"later")
    machine.close(fd)
    do_munmap(task.mm, address, 2 * PAGE)
    assert (shared / "file").read_bytes()[20:25] == b"later"


def test_the_host_may_change_files_too(shared: Path) -> None:
    machine = bound(shared)
    fd = machine.open("/mnt/data/file", os.O_RDWR | os.O_APPEND)
    with open(shared / "file", "ab") as file:
        file.write(b", more")
    assert machine.write(fd, b"!") == 1
    assert (shared / "file").read_bytes() == b"from the host, more!"
    assert machine.call("lseek", fd, 0, os.SEEK_END) == 20


def test_unlinked_files_stay_until_they_are_closed(shared: Path) -> None:
    machine = bound(shared)
    fd = machine.open("/mnt/data/file", os.O_RDWR)
    assert machine.call("unlinkat", -100, "/mnt/data/file", 0) == 0
    assert machine.read(fd) == b"from the host"
    assert machine.call("fstat", fd, machine.buffer) == 0
    assert machine.arch.kstat.nlink == 0
    machine.write_file("/mnt/data/file", b"another")
    assert machine.call("pread64", fd, machine.buffer, 100, 0) == 13


def test_renames_do_not_cross_mounts(shared: Path) -> None:
    machine = bound(shared)
    assert machine.call("renameat2", -100, "/mnt/data/file", -100, "/etc/file", 0) == -Errno.EXDEV
    assert machine.call("linkat", -100, "/mnt/data/file", -100, "/etc/file", 0) == -Errno.EXDEV
    assert machine.call("renameat2", -100, "/mnt/data", -100, "/mnt/other", 0) == -Errno.EBUSY
