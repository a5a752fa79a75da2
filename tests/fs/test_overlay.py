"""The overlay against a real directory: whatever is done to both, both look the same, and the host stays as it was."""

from __future__ import annotations

import copy
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minikern.fs.namei import At
from tests.fs.machine import FsMachine

NAMES = st.sampled_from(["a", "b", "c", "sub", "sub/a", "sub/b", "sub/deep", "sub/deep/x", "link", "new", "sub/new"])
DATA = st.binary(min_size=0, max_size=9000)
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o4755, 0o1777])


def populate(root: Path) -> None:
    """What the host has: files of some pages, hard links, symbolic links, directories."""
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"first " * 3000)
    (root / "b").write_bytes(b"")
    (root / "sub" / "a").write_bytes(bytes(range(256)) * 50)
    (root / "sub" / "deep" / "x").write_bytes(b"x" * 4096)
    os.link(root / "a", root / "sub" / "b")
    os.symlink("sub/a", root / "link")
    os.mkfifo(root / "sub" / "fifo")


def picture(root: Path, at: str = "") -> dict[str, Any]:
    """Everything that can be seen of a tree of the host."""
    seen: dict[str, Any] = {}
    for name in sorted(os.listdir(root / at)):
        where = os.path.join(at, name)
        status = os.lstat(root / where)
        kind = stat.S_IFMT(status.st_mode)
        contents: object = None
        if stat.S_ISREG(kind):
            contents = (root / where).read_bytes()
        elif stat.S_ISLNK(kind):
            contents = os.readlink(root / where)
        else:
            seen.update(picture(root, where) if stat.S_ISDIR(kind) else {})
        size = 0 if stat.S_ISDIR(kind) else status.st_size
        seen[where] = (status.st_mode, status.st_nlink, size, contents)
    return seen


def guest_picture(machine: FsMachine, at: str = "") -> dict[str, Any]:
    """The same of the guest's tree."""
    seen: dict[str, Any] = {}
    for raw in sorted(machine.listdir("/" + at)):
        where = os.path.join(at, os.fsdecode(raw))
        status = machine.stat("/" + where, At.SYMLINK_NOFOLLOW)
        kind = stat.S_IFMT(status.mode)
        contents: object = None
        if stat.S_ISREG(kind):
            contents = machine.contents("/" + where)
        elif stat.S_ISLNK(kind):
            target = machine.readlink("/" + where)
            assert isinstance(target, bytes)
            contents = os.fsdecode(target)
        elif stat.S_ISDIR(kind):
            seen.update(guest_picture(machine, where))
        size = 0 if stat.S_ISDIR(kind) else status.size
        seen[where] = (status.mode, status.nlink, size, contents)
    return seen


def outcome(function: Any, *args: Any, **kwargs: Any) -> int:
    """0, or minus the error that the host gives."""
    try:
        function(*args, **kwargs)
    except OSError as error:
        return -(error.errno or 0)
    return 0


class OverlayModel(RuleBasedStateMachine):
    """Does the same to a directory of the host and to the overlay over a copy of it."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.real = self.folder / "real"
        self.lower = self.folder / "lower"
        populate(self.lower)
        populate(self.real)
        self.before = picture(self.lower)
        self.umask = os.umask(0o022)
        self.machine = FsMachine(str(self.lower))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            os.umask(self.umask)
            assert picture(self.lower) == self.before, "the host was changed"
            shutil.rmtree(self.folder)

    def both(self, native: int, guest: Any) -> None:
        assert guest == native, (os.strerror(-guest) if guest < 0 else guest, os.strerror(-native))

    @rule(name=NAMES, data=DATA, flags=st.sampled_from([0, os.O_TRUNC, os.O_APPEND, os.O_EXCL]), mode=MODES)
    def write(self, name: str, data: bytes, flags: int, mode: int) -> None:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK  # a FIFO must not wait
        try:
            fd = os.open(self.real / name, flags, mode)
            os.write(fd, data)
            os.close(fd)
            native = 0
        except OSError as error:
            native = -(error.errno or 0)
        fd = self.machine.open("/" + name, flags, mode)
        if fd >= 0:
            assert self.machine.write(fd, data) == len(data)
            assert self.machine.close(fd) == 0
        self.both(native, min(fd, 0))

    @rule(name=NAMES, data=st.binary(min_size=1, max_size=5000), pos=st.integers(0, 20000))
    def write_at(self, name: str, data: bytes, pos: int) -> None:
        try:
            fd = os.open(self.real / name, os.O_RDWR)
            try:
                native = os.pwrite(fd, data, pos)
            finally:
                os.close(fd)
        except OSError as error:
            native = -(error.errno or 0)
        guest = self.machine.open("/" + name, os.O_RDWR)
        if guest >= 0:
            fd, guest = guest, self.machine.write(guest, data, pos)
            self.machine.close(fd)
        self.both(native, guest)

    @rule(name=NAMES, size=st.integers(0, 20000))
    def truncate(self, name: str, size: int) -> None:
        self.both(outcome(os.truncate, self.real / name, size), self.machine.call("truncate", "/" + name, size))

    @rule(name=NAMES, mode=MODES)
    def mkdir(self, name: str, mode: int) -> None:
        self.both(outcome(os.mkdir, self.real / name, mode), self.machine.call("mkdirat", -100, "/" + name, mode))

    @rule(name=NAMES)
    def unlink(self, name: str) -> None:
        self.both(outcome(os.unlink, self.real / name), self.machine.call("unlinkat", -100, "/" + name, 0))

    @rule(name=NAMES)
    def rmdir(self, name: str) -> None:
        self.both(outcome(os.rmdir, self.real / name), self.machine.call("unlinkat", -100, "/" + name, At.REMOVEDIR))

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        self.both(
            outcome(os.rename, self.real / old, self.real / new),
            self.machine.call("renameat2", -100, "/" + old, -100, "/" + new, 0),
        )

    @rule(old=NAMES, new=NAMES)
    def link(self, old: str, new: str) -> None:
        self.both(
            outcome(os.link, self.real / old, self.real / new, follow_symlinks=False),
            self.machine.call("linkat", -100, "/" + old, -100, "/" + new, 0),
        )

    @rule(text=st.sampled_from(["a", "sub", "nowhere", "./sub/../sub/a"]), name=NAMES)
    def symlink(self, text: str, name: str) -> None:
        self.both(outcome(os.symlink, text, self.real / name), self.machine.call("symlinkat", text, -100, "/" + name))

    @rule(name=NAMES, mode=MODES)
    def chmod(self, name: str, mode: int) -> None:
        self.both(outcome(os.chmod, self.real / name, mode), self.machine.call("fchmodat", -100, "/" + name, mode))

    @rule(name=NAMES)
    def mkfifo(self, name: str) -> None:
        self.both(
            outcome(os.mkfifo, self.real / name, 0o644),
            self.machine.call("mknodat", -100, "/" + name, stat.S_IFIFO | 0o644, 0),
        )

    @invariant()
    def same_tree(self) -> None:
        if hasattr(self, "machine"):
            assert guest_picture(self.machine) == picture(self.real)


OverlayModel.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOverlayModel = pytest.mark.skipif(os.getuid() != 0, reason="set-id bits and modes of others need root")(
    OverlayModel.TestCase
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    populate(tmp_path)
    yield tmp_path


def test_stat_says_what_the_host_says(root: Path) -> None:
    machine = FsMachine(str(root))
    for name in ("", "a", "b", "sub", "sub/deep/x", "link", "sub/fifo"):
        host = os.lstat(root / name)
        guest = machine.stat("/" + name, At.SYMLINK_NOFOLLOW)
        assert (guest.dev, guest.ino, guest.mode, guest.nlink) == (
            host.st_dev,
            host.st_ino,
            host.st_mode,
            host.st_nlink,
        )
        assert (guest.uid, guest.gid, guest.size) == (host.st_uid, host.st_gid, host.st_size)
        assert (guest.blocks, guest.blksize) == (host.st_blocks, host.st_blksize)
        assert (guest.mtime_ns, guest.ctime_ns) == (host.st_mtime_ns, host.st_ctime_ns)


def test_directories_list_in_the_order_of_the_host(root: Path) -> None:
    for number in range(200):
        (root / f"file{number}").touch()
    machine = FsMachine(str(root))
    native = [(os.fsencode(entry.name), entry.inode()) for entry in os.scandir(root)]
    assert [(name, ino) for name, ino, _ in machine.entries("/")] == native

    machine.write_file("/made", b"")
    machine.call("unlinkat", -100, "/file7", 0)
    machine.write_file("/file8", b"changed")
    names = [name for name, _ in native if name != b"file7"]
    assert machine.listdir("/") == [*names, b"made"]


def test_getdents_is_stable_while_names_go(root: Path) -> None:
    for number in range(300):
        (root / f"file{number}").touch()
    machine = FsMachine(str(root))
    fd = machine.open("/", os.O_DIRECTORY)
    seen = []
    while size := machine.call("getdents64", fd, machine.buffer, 512):
        data = machine.peek(size)
        while data:
            name = data[19 : int.from_bytes(data[16:18], "little")].split(b"\0")[0]
            data = data[int.from_bytes(data[16:18], "little") :]
            seen.append(name)
            if name.startswith(b"file"):
                assert machine.call("unlinkat", -100, b"/" + name, 0) == 0
    assert sorted(each for each in seen if each.startswith(b"file")) == sorted(b"file%d" % n for n in range(300))
    assert not [name for name in machine.listdir("/") if name.startswith(b"file")]


def test_hard_links_of_the_host_are_one_file(root: Path) -> None:
    machine = FsMachine(str(root))
    machine.write_file("/a", b"changed")
    assert machine.contents("/sub/b") == b"changed"
    assert machine.call("unlinkat", -100, "/a", 0) == 0
    assert machine.stat("/sub/b").nlink == 1
    assert (root / "a").read_bytes().startswith(b"first")


def test_the_guest_sees_what_changes_below(root: Path) -> None:
    machine = FsMachine(str(root))
    assert machine.contents("/b") == b""
    (root / "b").write_bytes(b"written by the host")
    assert machine.contents("/b") == b"written by the host"
    (root / "later").write_bytes(b"made by the host")
    assert machine.contents("/later") == b"made by the host"
    (root / "later").unlink()
    assert machine.contents("/later") == -2
    machine.write_file("/b", b"the guest's own")
    (root / "b").write_bytes(b"too late")
    assert machine.contents("/b") == b"the guest's own"


def test_an_open_file_stays_the_same_when_its_name_is_replaced(root: Path) -> None:
    machine = FsMachine(str(root))
    fd = machine.open("/a")
    (root / "other").write_bytes(b"new")
    os.replace(root / "other", root / "a")
    assert machine.read(fd, 5) == b"first"
    assert machine.contents("/a") == b"new"


def test_unlinked_files_keep_their_contents_until_they_are_closed(root: Path) -> None:
    machine = FsMachine(str(root))
    frames = machine.kernel.frames
    fd = machine.open("/gone", os.O_RDWR | os.O_CREAT)
    assert machine.write(fd, bytes(100_000)) == 100_000
    before = frames.nr_free
    assert machine.call("unlinkat", -100, "/gone", 0) == 0
    assert frames.nr_free == before
    assert machine.call("fstat", fd, machine.buffer) == 0 and machine.arch.kstat.nlink == 0
    machine.close(fd)
    assert frames.nr_free == before + 25


def test_a_copied_machine_goes_its_own_way(root: Path) -> None:
    machine = FsMachine(str(root))
    machine.write_file("/a", b"before")
    fd = machine.open("/sub/a")
    frames = dict(machine.kernel.mounts.mounts[0].sb.inodes)
    assert frames
    sb = machine.kernel.mounts.mounts[0].sb
    memo = {id(machine.kernel): machine.kernel}
    twin = copy.deepcopy(sb, memo)
    machine.call("unlinkat", -100, "/a", 0)
    assert b"a" not in machine.listdir("/")
    assert twin.root.inode.entries[b"a"].size == len(b"before")
    machine.close(fd)


def test_whiteouts_do_not_pile_up(root: Path) -> None:
    machine = FsMachine(str(root))
    for number in range(50):
        machine.write_file(f"/tmp{number}", b"x")
        machine.call("unlinkat", -100, f"/tmp{number}", 0)
    assert not machine.kernel.mounts.root.dentry.inode.entries


def test_xattrs_are_the_hosts_until_changed(root: Path) -> None:
    try:
        os.setxattr(root / "a", "user.host", b"1")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    machine = FsMachine(str(root))
    assert machine.call("getxattr", "/a", "user.host", machine.buffer, 100) == 1
    assert machine.call("setxattr", "/a", "user.mine", machine.string("22"), 2, 0) == 0
    assert machine.call("listxattr", "/a", machine.buffer, 100) == 20
    assert machine.peek(20) == b"user.host\0user.mine\0"
    assert machine.call("setxattr", "/a", "user.mine", machine.string("3"), 1, 1) == -17
    assert machine.call("removexattr", "/a", "user.host") == 0
    assert machine.call("getxattr", "/a", "user.host", machine.buffer, 100) == -61
    assert os.listxattr(root / "a") == ["user.host"]


def test_unused_inodes_are_forgotten(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        (root / f"file{number}").write_bytes(b"%d" % number)
    machine = FsMachine(str(root))
    sb = machine.kernel.mounts.mounts[0].sb
    sb.shrink_at = 100
    monkeypatch.setattr("minikern.fs.overlay.MIN_CACHED_INODES", 100)
    machine.write_file("/file1", b"changed")
    held = machine.open("/file2")
    for number in range(300):
        machine.stat(f"/file{number}")
    assert len(sb.inodes) >= 300
    machine.listdir("/")
    assert len(sb.inodes) < 10
    assert machine.contents("/file1") == b"changed" and machine.contents("/file3") == b"3"
    assert machine.read(held) == b"2"
