"""/proc: what ps, top, lsof and programs that look at themselves read, of the living and the dead."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from minikern.fs.file import exit_files
from minikern.fs.fs_struct import exit_fs
from minikern.fs.namei import At
from minikern.kernel.errno import Errno
from minikern.kernel.pid import detach_pid
from minikern.kernel.task import ExitState, PidType, Task
from minikern.kernel.waitqueue import TaskState, Wait
from tests.fs.machine import FsMachine

# The fields of /proc/PID/stat, from the fourth on
STAT_FIELDS = 49


@pytest.fixture
def machine(tmp_path: Path) -> FsMachine:
    for name in ("proc", "dev", "dir"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("contents")
    tmp_path.chmod(0o755)
    machine = FsMachine(str(tmp_path))
    machine.task.comm = b"test) (me"
    return machine


def text(machine: FsMachine, name: str) -> str:
    data = machine.contents(name)
    assert isinstance(data, bytes), (name, data)
    return data.decode()


def kill(task: Task) -> None:
    """What exit leaves of a task."""
    exit_files(task)
    exit_fs(task)
    task.mm = None
    task.set_exit_state(ExitState.ZOMBIE)
    task.state = TaskState.DEAD


def test_self(machine: FsMachine) -> None:
    pid = machine.task.tgid
    assert machine.readlink("/proc/self") == b"%d" % pid
    assert machine.readlink("/proc/thread-self") == b"%d/task/%d" % (pid, pid)
    assert machine.listdir("/proc")[-1:] == [b"%d" % pid]
    assert text(machine, "/proc/self/comm") == "test) (me\n"
    assert machine.stat("/proc/self/").ino == machine.stat(f"/proc/{pid}").ino
    assert machine.stat("/proc/0") == machine.stat("/proc/99999") == machine.stat("/proc/01") == -Errno.ENOENT


def test_every_file_of_a_process_can_be_read(machine: FsMachine) -> None:
    for directory in ("/proc/self", "/proc/self/task/1"):
        for name, _, kind in machine.entries(directory):
            path = directory.encode() + b"/" + name
            if name == b"mem" or kind == 10:
                continue
            if kind == 4:
                machine.listdir(path)
            else:
                assert isinstance(machine.contents(path), bytes), path


def test_stat_parses(machine: FsMachine) -> None:
    child = machine.clone()
    child.comm = b"child"
    child.real_parent = machine.task
    line = text(machine, f"/proc/{child.pid}/stat")
    match = re.fullmatch(r"(\d+) \((.*)\) (.) (.*)\n", line)
    assert match is not None
    assert match[1] == str(child.pid) and match[2] == "child" and match[3] == "R"
    fields = match[4].split()
    assert len(fields) == STAT_FIELDS and int(fields[0]) == machine.task.tgid
    own = text(machine, "/proc/self/stat")
    assert own.rpartition(")")[0] == f"{machine.task.pid} (test) (me"


def test_status_parses(machine: FsMachine) -> None:
    fields = dict(line.split(":\t", 1) for line in text(machine, "/proc/self/status").splitlines())
    assert fields["Name"] == "test) (me" and fields["State"] == "R (running)"
    assert fields["Uid"] == "0\t0\t0\t0" and fields["Umask"] == "0022"
    assert re.fullmatch(r" *\d+ kB", fields["VmRSS"])
    machine.task.blocked = 1 << 9
    assert "SigBlk:\t0000000000000200\n" in text(machine, "/proc/self/status")


def test_states(machine: FsMachine) -> None:
    child = machine.clone()
    for state, letter in (
        (TaskState.INTERRUPTIBLE, "S"),
        (TaskState.KILLABLE, "D"),
        (TaskState.STOPPED, "T"),
        (TaskState.TRACED, "t"),
    ):
        child.state = state
        assert text(machine, f"/proc/{child.pid}/stat").split()[2] == letter
    child.wait = Wait((), wchan="pipe_read")
    assert text(machine, f"/proc/{child.pid}/wchan") == "pipe_read"


def test_a_zombie_reads_properly(machine: FsMachine) -> None:
    child = machine.clone()
    child.comm = b"dead"
    kill(child)
    base = f"/proc/{child.pid}"
    assert text(machine, f"{base}/cmdline") == text(machine, f"{base}/environ") == text(machine, f"{base}/maps") == ""
    assert text(machine, f"{base}/stat").startswith(f"{child.pid} (dead) Z ")
    assert "State:\tZ (zombie)" in text(machine, f"{base}/status") and "VmSize" not in text(machine, f"{base}/status")
    assert text(machine, f"{base}/statm") == "0 0 0 0 0 0 0\n"
    assert machine.listdir(f"{base}/fd") == []
    for link in ("exe", "cwd", "root"):
        assert machine.readlink(f"{base}/{link}") == -Errno.ENOENT
    assert machine.contents(f"{base}/mounts") == -Errno.EINVAL


def test_a_released_task_is_gone(machine: FsMachine) -> None:
    child = machine.clone()
    nr = child.pid
    fd = machine.open(f"/proc/{nr}/stat")
    directory = machine.open(f"/proc/{nr}", os.O_DIRECTORY)
    kill(child)
    for kind in PidType:
        detach_pid(child, kind)
    assert machine.read(fd) == -Errno.ESRCH
    assert machine.open("stat", dirfd=directory) == -Errno.ESRCH
    assert machine.call("getdents64", directory, machine.buffer, 4096) == -Errno.ESRCH
    assert machine.stat(f"/proc/{nr}") == -Errno.ENOENT
    assert b"%d" % nr not in machine.listdir("/proc")


def test_descriptors(machine: FsMachine) -> None:
    fd = machine.open("/file", os.O_RDWR | os.O_CLOEXEC)
    link = f"/proc/self/fd/{fd}"
    assert machine.readlink(link) == b"/file"
    assert stat.S_IMODE(machine.stat(link, At.SYMLINK_NOFOLLOW).mode) == 0o700
    assert machine.stat(link).ino == machine.stat("/file").ino
    machine.call("renameat2", -100, "/file", -100, "/dir/moved", 0)
    assert machine.readlink(link) == b"/dir/moved"
    machine.call("unlinkat", -100, "/dir/moved", 0)
    assert machine.readlink(link) == b"/dir/moved (deleted)"
    assert machine.contents(link) == b"contents"  # a magic link leads to the file, not to its name
    assert machine.open(link, os.O_RDONLY | os.O_NOFOLLOW) == -Errno.ELOOP
    info = dict(line.split(":\t") for line in text(machine, f"/proc/self/fdinfo/{fd}").splitlines())
    assert info["pos"] == "0" and int(info["flags"], 8) == os.O_RDWR | os.O_CLOEXEC | 0o100000
    assert machine.readlink("/proc/self/fd/77") == -Errno.ENOENT


def test_pipes_by_name(machine: FsMachine) -> None:
    assert machine.call("pipe2", machine.buffer, 0) == 0
    reader, writer = machine.peek(4)[0], machine.peek(8)[4]
    target = machine.readlink(f"/proc/self/fd/{reader}")
    assert isinstance(target, bytes) and re.fullmatch(rb"pipe:\[\d+\]", target)
    assert target == machine.readlink(f"/proc/self/fd/{writer}")
    assert stat.S_ISFIFO(machine.stat(f"/proc/self/fd/{reader}").mode)
    again = machine.open(f"/proc/self/fd/{writer}", os.O_WRONLY)
    assert machine.write(again, b"through the name") == 16
    assert machine.read(reader) == b"through the name"


def test_links_to_places(machine: FsMachine) -> None:
    machine.call("chdir", "/dir")
    assert machine.readlink("/proc/self/cwd") == b"/dir"
    assert machine.readlink("/proc/self/root") == b"/"
    assert machine.contents("/proc/self/cwd/../file") == b"contents"
    machine.call("unlinkat", -100, "/dir", At.REMOVEDIR)
    assert machine.readlink("/proc/self/cwd") == b"/dir (deleted)"
    assert machine.call("getcwd", machine.buffer, 100) == -Errno.ENOENT
    assert machine.open("new", os.O_CREAT | os.O_WRONLY) == -Errno.ENOENT


def test_others_are_protected(machine: FsMachine) -> None:
    machine.open("/file")
    other = machine.clone()
    machine.become(other, machine.user(1000))
    machine.kernel.sched.current = other
    base = f"/proc/{machine.task.pid}"
    for name in ("environ", "maps", "fd", "exe", "cwd", "mem", "io", "syscall", "auxv"):
        result = machine.call("openat", -100, f"{base}/{name}", 0, 0, task=other)
        if result >= 0:  # maps can be opened, not read
            result = machine.call("read", result, machine.buffer, 10, task=other)
        assert result == -Errno.EACCES, name
    for name in ("stat", "status", "cmdline", "comm", "statm"):
        fd = machine.call("openat", -100, f"{base}/{name}", 0, 0, task=other)
        assert machine.call("read", fd, machine.buffer, 1000, task=other) >= 0
    assert machine.call("openat", -100, f"{base}/comm", 1, 0, task=other) == -Errno.EACCES


def test_comm_and_oom_score_adj_can_be_set(machine: FsMachine) -> None:
    fd = machine.open("/proc/self/comm", os.O_WRONLY | os.O_TRUNC)
    assert machine.write(fd, b"a much too long name") == 20
    assert machine.task.comm == b"a much too long"
    fd = machine.open("/proc/self/oom_score_adj", os.O_RDWR)
    assert machine.write(fd, b"500\n") == 4
    assert machine.task.signal.oom_score_adj == 500
    assert machine.write(fd, b"2000") == -Errno.EINVAL
    assert machine.open("/proc/self/stat", os.O_WRONLY) >= 0  # root may open what cannot be written
    assert machine.call("unlinkat", -100, "/proc/self/stat", 0) == -Errno.EPERM
    assert machine.open("/proc/new", os.O_WRONLY | os.O_CREAT) < 0


def test_memory_by_address(machine: FsMachine) -> None:
    address = machine.string(b"secret")
    fd = machine.open("/proc/self/mem", os.O_RDWR)
    assert machine.call("pread64", fd, machine.buffer, 6, address) == 6
    assert machine.peek(6) == b"secret"
    assert machine.write(fd, b"public", address) == 6
    assert machine.call("pread64", fd, machine.buffer, 6, 16) == -Errno.EIO


def test_the_machine(machine: FsMachine) -> None:
    assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d\n", text(machine, "/proc/uptime"))
    assert re.fullmatch(r"0\.00 0\.00 0\.00 \d+/\d+ \d+\n", text(machine, "/proc/loadavg"))
    assert text(machine, "/proc/version").startswith("Linux version 6.12")
    memory = dict(line.split(":") for line in text(machine, "/proc/meminfo").splitlines())
    assert int(memory["MemTotal"].split()[0]) == 65536
    assert re.search(r"^cpu  \d+ 0 \d+ \d+ ", text(machine, "/proc/stat"))
    assert re.search(r"^btime \d{10}$", text(machine, "/proc/stat"), re.MULTILINE)
    mounts = [line.split()[1:3] for line in text(machine, "/proc/self/mounts").splitlines()]
    assert mounts[0] == ["/", "overlay"] and ["/proc", "proc"] in mounts
    assert text(machine, "/proc/self/mountinfo").splitlines()[0].split()[:5] == [
        "1",
        "1",
        *_root_device(machine),
        "/",
        "/",
    ]


def _root_device(machine: FsMachine) -> list[str]:
    dev = machine.stat("/").dev
    return [f"{os.major(dev)}:{os.minor(dev)}"]


def test_settings(machine: FsMachine) -> None:
    assert text(machine, "/proc/sys/kernel/ostype") == "Linux\n"
    assert text(machine, "/proc/sys/kernel/pid_max") == "32768\n"
    first, second = (text(machine, "/proc/sys/kernel/random/uuid") for _ in range(2))
    assert first != second and re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n", first
    )
    boot = text(machine, "/proc/sys/kernel/random/boot_id")
    assert boot == text(machine, "/proc/sys/kernel/random/boot_id")
    fd = machine.open("/proc/sys/kernel/hostname", os.O_WRONLY)
    assert machine.write(fd, b"renamed\n") == 8
    assert machine.kernel.hostname == b"renamed"


def test_a_file_is_read_as_it_was_when_reading_began(machine: FsMachine) -> None:
    fd = machine.open("/proc/self/comm")
    assert machine.read(fd, 4) == b"test"
    machine.task.comm = b"changed"
    assert machine.read(fd, 100) == b") (me\n"
    machine.call("lseek", fd, 0, 0)
    assert machine.read(fd, 100) == b"changed\n"
