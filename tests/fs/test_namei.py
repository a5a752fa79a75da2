"""Path walks: the same answers as the host gives, and no way out of the root."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from minikern.fs.file import FMode, OpenFlag
from minikern.fs.namei import At
from minikern.fs.open_namei import open_exec
from minikern.kernel.errno import Errno, KernelError
from tests.fs.machine import FsMachine

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
NAMES = (
    "file", "file/", "file/.", "file/..", "file/x", "dir", "dir/", "dir/.", "dir/..", "dir/../file", "dir/sub/../..",
    "nothing", "nothing/", "nothing/x", "dir/nothing", "dir/nothing/", "link", "link/", "dirlink", "dirlink/", "dirlink/sub",
    "dangling", "dangling/", "loop", "loop/x", "chain", "deep", "slashlink", "slashlink/sub", "filelink", "filelink/", ".", "..", "",
    "dir//sub///x", "x" * 255, "x" * 256, "dir/" + "y" * 256, "long", "dir/sub/x/..",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory inside a root, with links of every kind."""
    top = tmp_path / "root" / "top"
    (top / "dir" / "sub").mkdir(parents=True)
    (top / "file").write_text("file")
    (top / "dir" / "sub" / "x").write_text("x")
    for name, target in (
        ("link", "file"),
        ("dirlink", "dir"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("chain", "link"),
        ("slashlink", "dir/"),
        ("filelink", "file/"),
        ("deep", "deep40"),
        ("long", "/".join(["dir/.."] * 500) + "/file"),
    ):
        os.symlink(target, top / name)
    for number in range(40, 0, -1):
        os.symlink(f"deep{number - 1}" if number > 1 else "file", top / f"deep{number}")
    os.symlink("dir", top / "dir" / "l")
    (tmp_path / "secret").write_text("outside")
    return tmp_path / "root"


@pytest.fixture
def machine(tree: Path) -> FsMachine:
    machine = FsMachine(str(tree))
    assert machine.call("chdir", "/top") == 0
    return machine


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("follow", [True, False])
def test_stat_as_the_host(machine: FsMachine, tree: Path, name: str, follow: bool) -> None:
    top = os.open(tree / "top", os.O_RDONLY)
    try:
        native = os.stat(name, dir_fd=top, follow_symlinks=follow).st_ino
    except OSError as error:
        native = -(error.errno or 0)
    finally:
        os.close(top)
    status = machine.stat(name, 0 if follow else At.SYMLINK_NOFOLLOW)
    assert (status if isinstance(status, int) else status.ino) == native


@pytest.mark.parametrize("name", [*NAMES, "new", "new/", "dir/new", "nothing/new"])
@pytest.mark.parametrize(
    "flags",
    [
        os.O_RDONLY,
        os.O_RDWR,
        os.O_RDONLY | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_DIRECTORY,
        os.O_PATH,
        os.O_PATH | os.O_NOFOLLOW,
        os.O_PATH | os.O_DIRECTORY,
        os.O_WRONLY | os.O_CREAT,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY,
        os.O_RDWR | os.O_TMPFILE,
        os.O_RDONLY | os.O_TMPFILE,
        os.O_RDONLY | os.O_TRUNC,
    ],
)
def test_open_as_the_host(machine: FsMachine, tree: Path, name: str, flags: int) -> None:
    guest = machine.open(name, flags, 0o600)  # first: it leaves no trace on the host
    top = os.open(tree / "top", os.O_RDONLY)
    try:
        os.close(os.open(name, flags, 0o600, dir_fd=top))
        native = 0
    except OSError as error:
        native = -(error.errno or 0)
    finally:
        os.close(top)
    if native == -Errno.EOPNOTSUPP and flags & os.O_TMPFILE == os.O_TMPFILE:
        pytest.skip("the file system of the host has no nameless files")
    assert min(guest, 0) == native


@pytest.mark.parametrize(
    "call",
    [
        ("mkdirat", -100, "@", 0o755),
        ("unlinkat", -100, "@", 0),
        ("unlinkat", -100, "@", int(At.REMOVEDIR)),
        ("symlinkat", "target", -100, "@"),
        ("linkat", -100, "file", -100, "@", 0),
        ("linkat", -100, "@", -100, "new", 0),
        ("linkat", -100, "@", -100, "new", int(At.SYMLINK_FOLLOW)),
        ("renameat2", -100, "file", -100, "@", 0),
        ("renameat2", -100, "dir", -100, "@", 0),
        ("renameat2", -100, "@", -100, "new", 0),
        ("renameat2", -100, "@", -100, "new/", 0),
        ("renameat2", -100, "@", -100, "dir/new", 0),
        ("renameat2", -100, "@", -100, "file", 1),
        ("renameat2", -100, "@", -100, "file", 2),
        ("mknodat", -100, "@", stat.S_IFIFO | 0o600, 0),
    ],
    ids=lambda call: "-".join(str(each) for each in call if each != -100),
)
def test_changes_as_the_host(machine: FsMachine, tree: Path, call: tuple[object, ...]) -> None:
    libc = pytest.importorskip("ctypes").CDLL(None, use_errno=True)
    from ctypes import get_errno

    function = {"renameat2": libc.renameat2, "mkdirat": libc.mkdirat, "mknodat": libc.mknodat}.get(str(call[0]))
    function = function or getattr(libc, str(call[0]))
    for name in (*NAMES, "new", "new/", "dir/l", "dir/sub/x"):
        guest_machine = FsMachine(str(tree))
        guest_machine.call("chdir", "/top")
        arguments = [name if each == "@" else each for each in call[1:]]
        guest = guest_machine.call(str(call[0]), *arguments)
        pid = os.fork()
        if not pid:  # the host's answer, in a directory that is thrown away
            copied = tree / "copy"
            os.system(f"rm -rf {copied}; cp -a {tree}/top {copied}")
            os.chdir(copied)
            raw = [os.fsencode(each) if isinstance(each, str) else each for each in arguments]
            os._exit(get_errno() if function(*raw) else 0)
        native = -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert guest == native, (name, guest, native)


# -- no way out


def test_dotdot_stops_at_the_root(machine: FsMachine) -> None:
    for name in ("/..", "/../..", "../../..", "/top/../../secret", "../../secret", "/../secret"):
        status = machine.stat(name)
        assert isinstance(status, int) or status.ino == machine.stat("/").ino
    assert machine.contents("/../../../secret") == -Errno.ENOENT
    assert machine.call("chdir", "../../../..") == 0
    assert machine.call("getcwd", machine.buffer, 100) == 2
    assert machine.peek(2) == b"/\0"


@pytest.mark.parametrize(
    "target", ["/secret", "../../secret", "../../../../../../secret", "{tmp}/secret", "/..//../secret"]
)
@pytest.mark.parametrize("maker", ["host", "guest"])
def test_links_stay_inside(machine: FsMachine, tree: Path, tmp_path: Path, target: str, maker: str) -> None:
    target = target.format(tmp=tmp_path)
    if maker == "host":
        os.symlink(target, tree / "top" / "escape")
    else:
        assert machine.call("symlinkat", target, -100, "/top/escape") == 0
    assert machine.contents("/top/escape") == -Errno.ENOENT
    fd = machine.open("/top/escape", os.O_WRONLY | os.O_CREAT)
    if fd >= 0:  # made inside the root, in memory
        machine.write(fd, b"overwritten")
        machine.close(fd)
    assert (tmp_path / "secret").read_text() == "outside"
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]


def test_a_link_that_the_host_puts_in_the_way_is_not_followed(machine: FsMachine, tree: Path, tmp_path: Path) -> None:
    assert machine.contents("/top/dir/sub/x") == b"x"
    machine.kernel.mounts.mounts[0].sb.tree.close()  # so that directories are opened anew
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("outside")
    dir_inode = machine.kernel.mounts.root.dentry.children[b"top"].children[b"dir"].children[b"sub"].inode
    os.rename(tree / "top" / "dir" / "sub", tree / "top" / "dir" / "old")
    os.symlink(tmp_path / "outside", tree / "top" / "dir" / "sub")
    with pytest.raises(KernelError):  # what still believes in the directory cannot be led astray
        dir_inode.lookup(machine.task, b"x")
    assert machine.contents("/top/dir/sub/x") == -Errno.ENOENT


def test_chroot_is_a_root_too(machine: FsMachine) -> None:
    assert machine.call("chroot", "/top/dir") == 0
    assert machine.call("chdir", "/") == 0
    assert machine.contents("/sub/../../../file") == -Errno.ENOENT
    assert machine.contents("/../sub/x") == b"x"
    assert machine.call("getcwd", machine.buffer, 100) == 2


def test_cwd_outside_the_root_says_so(machine: FsMachine) -> None:
    assert machine.call("chroot", "/top/dir") == 0
    size = machine.call("getcwd", machine.buffer, 100)
    assert machine.peek(size) == b"(unreachable)/top\0"


# -- openat2


def openat2(machine: FsMachine, name: str, resolve: int, flags: int = os.O_PATH, dirfd: int = -100) -> int:
    how = struct.pack("<QQQ", flags, 0, resolve)
    result: int = machine.call("openat2", dirfd, name, machine.string(how), 24)
    return result


def test_resolve_flags(machine: FsMachine) -> None:
    cases = (
        ("dir/../file", RESOLVE_BENEATH, 0),
        ("..", RESOLVE_BENEATH, -Errno.EXDEV),
        ("dir/../../top/file", RESOLVE_BENEATH, -Errno.EXDEV),
        ("/top/file", RESOLVE_BENEATH, -Errno.EXDEV),
        ("link", RESOLVE_BENEATH, 0),
        ("link", RESOLVE_NO_SYMLINKS, -Errno.ELOOP),
        ("dirlink/sub", RESOLVE_NO_SYMLINKS, -Errno.ELOOP),
        ("dir/sub", RESOLVE_NO_SYMLINKS, 0),
        ("/file", RESOLVE_IN_ROOT, 0),
        ("/../../file", RESOLVE_IN_ROOT, 0),
        ("/top", RESOLVE_IN_ROOT, -Errno.ENOENT),
        ("file", RESOLVE_BENEATH | RESOLVE_IN_ROOT, -Errno.EINVAL),
        ("file", 1 << 10, -Errno.EINVAL),
    )
    for name, resolve, expected in cases:
        assert min(openat2(machine, name, resolve), 0) == expected, name


def test_an_absolute_link_beneath_is_refused(machine: FsMachine) -> None:
    machine.call("symlinkat", "/top/file", -100, "absolute")
    assert openat2(machine, "absolute", RESOLVE_BENEATH) == -Errno.EXDEV
    assert openat2(machine, "absolute", RESOLVE_IN_ROOT) == -Errno.ENOENT
    machine.call("symlinkat", "/file", -100, "rooted")
    assert openat2(machine, "rooted", RESOLVE_IN_ROOT) >= 0


def test_open_how_is_extensible(machine: FsMachine) -> None:
    how = struct.pack("<QQQ", os.O_RDONLY, 0, 0)
    assert machine.call("openat2", -100, "file", machine.string(how), 23) == -Errno.EINVAL
    assert machine.call("openat2", -100, "file", machine.string(how + bytes(8)), 32) >= 0
    assert machine.call("openat2", -100, "file", machine.string(how + b"\1" + bytes(7)), 32) == -Errno.E2BIG
    assert machine.call("openat2", -100, "file", machine.string(struct.pack("<QQQ", 0, 0o600, 0)), 24) == -Errno.EINVAL


# -- permissions


def test_mode_bits_decide_for_users(tree: Path) -> None:
    os.chmod(tree / "top" / "file", 0o640)
    os.chown(tree / "top" / "file", 1000, 2000)
    os.chmod(tree / "top" / "dir", 0o700)
    os.chown(tree / "top" / "dir", 1000, 1000)
    machine = FsMachine(str(tree), uid=1000)
    assert machine.open("/top/file", os.O_RDWR) >= 0
    assert machine.contents("/top/dir/sub/x") == b"x"
    machine.become(machine.task, machine.user(1001, 2000))
    assert machine.open("/top/file", os.O_RDONLY) >= 0
    assert machine.open("/top/file", os.O_RDWR) == -Errno.EACCES
    assert machine.contents("/top/dir/sub/x") == -Errno.EACCES
    assert machine.call("faccessat", -100, "/top/file", 4) == 0
    assert machine.call("faccessat", -100, "/top/file", 2) == -Errno.EACCES
    machine.become(machine.task, machine.user(1002))
    assert machine.open("/top/file") == -Errno.EACCES
    assert machine.call("fchmodat", -100, "/top/file", 0o777) == -Errno.EPERM
    assert machine.call("fchownat", -100, "/top/file", 1002, 1002, 0) == -Errno.EPERM
    assert machine.call("mkdirat", -100, "/top/new", 0o755) == -Errno.EACCES


def test_the_owner_without_rights_has_none(tree: Path) -> None:
    os.chmod(tree / "top" / "file", 0o077)
    os.chown(tree / "top" / "file", 1000, 1000)
    machine = FsMachine(str(tree), uid=1000)
    assert machine.open("/top/file") == -Errno.EACCES
    machine.become(machine.task, machine.user(1001))
    assert machine.open("/top/file") >= 0


def test_sticky_directories(tree: Path) -> None:
    (tree / "tmp").mkdir()
    os.chmod(tree / "tmp", 0o1777)
    machine = FsMachine(str(tree), uid=1000)
    machine.write_file("/tmp/mine", b"x")
    machine.become(machine.task, machine.user(1001))
    machine.write_file("/tmp/yours", b"x")
    assert machine.call("unlinkat", -100, "/tmp/mine", 0) == -Errno.EPERM
    assert machine.call("renameat2", -100, "/tmp/yours", -100, "/tmp/mine", 0) == -Errno.EPERM
    assert machine.call("unlinkat", -100, "/tmp/yours", 0) == 0


def test_new_files_in_a_set_group_id_directory(tree: Path) -> None:
    (tree / "shared").mkdir()
    os.chown(tree / "shared", 1000, 2000)
    os.chmod(tree / "shared", 0o2775)
    machine = FsMachine(str(tree), uid=1000)
    machine.write_file("/shared/file", b"")
    machine.call("mkdirat", -100, "/shared/dir", 0o755)
    assert machine.stat("/shared/file").gid == 2000
    status = machine.stat("/shared/dir")
    assert status.gid == 2000 and status.mode & stat.S_ISGID


def test_writing_takes_set_id_bits_away(tree: Path) -> None:
    os.chown(tree / "top" / "file", 1000, 1000)
    os.chmod(tree / "top" / "file", 0o6755)
    machine = FsMachine(str(tree), uid=1000)
    fd = machine.open("/top/file", os.O_WRONLY)
    assert machine.stat("/top/file").mode & 0o7777 == 0o6755
    machine.write(fd, b"x")
    assert machine.stat("/top/file").mode & 0o7777 == 0o755


# -- programs


def test_a_program_cannot_be_written_while_it_runs(machine: FsMachine) -> None:
    machine.write_file("/prog", b"#!", 0o755)
    file = open_exec(machine.task, At.FDCWD, b"/prog")
    assert file.f_mode & FMode.EXEC
    assert machine.open("/prog", os.O_WRONLY) == -Errno.ETXTBSY
    assert machine.call("truncate", "/prog", 0) == -Errno.ETXTBSY
    file.inode.allow_write_access()
    file.fput()
    fd = machine.open("/prog", os.O_WRONLY)
    assert fd >= 0
    with pytest.raises(KernelError) as caught:
        open_exec(machine.task, At.FDCWD, b"/prog")
    assert caught.value.errno == Errno.ETXTBSY
    machine.close(fd)
    open_exec(machine.task, At.FDCWD, b"/prog").fput()


def test_what_is_no_program(machine: FsMachine) -> None:
    machine.write_file("/data", b"", 0o644)
    for name, error in ((b"/data", Errno.EACCES), (b"/top", Errno.EACCES), (b"/nothing", Errno.ENOENT)):
        with pytest.raises(KernelError) as caught:
            open_exec(machine.task, At.FDCWD, name)
        assert caught.value.errno == error


def test_largefile_is_always_set(machine: FsMachine) -> None:
    fd = machine.open("file", os.O_RDONLY)
    assert machine.call("fcntl", fd, 3, 0) == OpenFlag.LARGEFILE
