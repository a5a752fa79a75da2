"""The ``minikern`` command as its user meets it: options, exit statuses, messages, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import minikern
from minikern.demos import DEMOS
from tests.support import ARCHES, debian, minikern_command

COMMAND = [sys.executable, "-m", "minikern"]


def demo(name: str, arch: str = "x86_64") -> str:
    """Path of a demo program."""
    (found,) = (each for each in DEMOS if each.name == name)
    return str(found.binary(arch))


def busybox(*args: str) -> list[str]:
    """A command line that runs Debian's busybox."""
    return ["run", "--clean-env", str(debian("x86_64", "bin/busybox")), *args]


# What it prints about itself


def test_version() -> None:
    done = minikern_command("--version")
    assert (done.status, done.stdout.decode()) == (0, f"minikern {minikern.__version__}\n")


@pytest.mark.parametrize("command", ["run", "demo", "arches", "syscalls"])
def test_help(command: str) -> None:
    done = minikern_command(command, "--help")
    assert done.status == 0
    assert b"Usage: minikern" in done.stdout


def test_no_command_is_a_cry_for_help() -> None:
    done = minikern_command()
    assert done.status == 0
    assert b"minikern demo" in done.stdout


def test_arches() -> None:
    done = minikern_command("arches")
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == sorted(ARCHES)


def test_syscalls() -> None:
    rows = json.loads(minikern_command("syscalls", "--json").stdout)
    assert {row["support"] for row in rows} <= {"complete", "partial", "missing"}
    assert {(row["arch"], row["number"]) for row in rows if row["name"] == "exit_group"} == {
        ("x86_64", 231),
        ("aarch64", 94),
    }
    assert all(row["lacks"] for row in rows if row["support"] == "partial")
    lines = minikern_command("syscalls", "--arch", "aarch64").stdout.decode().splitlines()
    assert len(lines) == sum(row["arch"] == "aarch64" for row in rows)
    assert minikern_command("syscalls", "--arch", "vax").status == 125


def test_demo() -> None:
    listing = minikern_command("demo", "--list").stdout.decode()
    assert [line.split()[0] for line in listing.splitlines()] == [each.name for each in DEMOS]
    done = minikern_command("demo", "hello")
    assert (done.status, done.stdout.count(b"hello, world\n"), done.stderr) == (0, len(ARCHES), b"")
    assert minikern_command("demo", "nonesuch").status == 125


# How it ends


@pytest.mark.parametrize("arch", ARCHES)
def test_exit_status_is_the_guests(arch: str) -> None:
    done = minikern_command("run", demo("exit_group33", arch))
    assert (done.status, done.stdout, done.stderr) == (33, b"third thread: exit_group(33)\n", b"")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -SEGV $$", 139), ("true", 0)]
)
def test_exit_status_of_a_shell(script: str, status: int) -> None:
    done = minikern_command(*busybox("sh", "-c", script))
    assert (done.status, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize(
    "options",
    [
        ["--nonesuch"],
        ["--memory", "lots"],
        ["--memory", "1K"],
        ["--root", "/nonexistent"],
        ["--bind", "/tmp"],
        ["--bind", "/nonexistent:/mnt"],
        ["--bind", "/tmp:mnt"],
        ["--env", "=x"],
    ],
)
def test_options_that_make_no_sense(options: list[str]) -> None:
    done = minikern_command("run", *options, demo("hello"))
    assert (done.status, done.stdout) == (125, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("minikern: ")


def test_a_directory_to_start_in_that_is_not_there() -> None:
    done = minikern_command("run", "--cwd", "/nonexistent", demo("hello"))
    assert (done.status, len(done.stderr.splitlines())) == (127, 1)


def test_options_end_at_the_program() -> None:
    done = minikern_command(*busybox("echo", "--memory", "--", "-x", "--help"))
    assert (done.status, done.stdout) == (0, b"--memory -- -x --help\n")


# Options of run


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(debian("x86_64", "bin/busybox"))
    monkeypatch.setenv("FROM_HOST", "1")
    assert b"FROM_HOST=1\n" in minikern_command("run", program, "env").stdout
    done = minikern_command(
        "run", "--clean-env", "--env", "A=1=2", "--env", "FROM_HOST", "--env", "NOWHERE", program, "env"
    )
    assert done.stdout == b"A=1=2\nFROM_HOST=1\n"


def test_current_directory(tmp_path: Path) -> None:
    assert minikern_command(*busybox("pwd"), cwd=tmp_path).stdout.decode() == f"{tmp_path}\n"
    program = debian("x86_64", "bin/busybox")
    assert minikern_command("run", "--cwd", "/usr", str(program), "pwd").stdout == b"/usr\n"
    (tmp_path / "busybox").symlink_to(program)
    assert minikern_command("run", "./busybox", "pwd", cwd=tmp_path).stdout.decode() == f"{tmp_path}\n"
    assert minikern_command("run", "busybox", "pwd", cwd=tmp_path).stdout.decode() == f"{tmp_path}\n"


def test_search_in_path(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "sh").write_text("not a program")
    (first / "text").write_text("not a program")
    (second / "sh").symlink_to(debian("x86_64", "bin/busybox"))
    options = ["--env", f"PATH={first}:{second}"]
    done = minikern_command("run", *options, "sh", "-c", "echo $0", cwd=tmp_path)
    assert (done.status, done.stdout) == (0, b"sh\n")
    assert minikern_command("run", *options, "text", cwd=tmp_path).status == 126
    assert minikern_command("run", *options, "nonesuch", cwd=tmp_path).status == 127


def test_root_and_bind(tmp_path: Path) -> None:
    root, shared, kept = tmp_path / "root", tmp_path / "shared", tmp_path / "kept"
    for folder in (root / "bin", root / "dev", root / "mnt/ro", root / "mnt/rw", shared, kept):
        folder.mkdir(parents=True)
    (root / "bin/busybox").write_bytes(debian("x86_64", "bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    (shared / "file").write_text("from the host\n")
    script = (
        "b=/bin/busybox; pwd; $b ls /; $b cat /mnt/ro/file; $b ls /mnt/ro/../../..;"
        "echo new >/new; (echo x >/mnt/ro/file) 2>/dev/null || echo refused; echo kept >/mnt/rw/out; $b cat /new"
    )
    options = ["--root", str(root), "--bind", f"{shared}:/mnt/ro", "--bind", f"{kept}:/mnt/rw:rw"]
    done = minikern_command("run", "--clean-env", *options, "/bin/busybox", "sh", "-c", script)
    assert done.stderr == b""
    assert done.stdout == b"/\nbin\ndev\nmnt\nfrom the host\nbin\ndev\nmnt\nrefused\nnew\n"
    assert not (root / "new").exists()
    assert (kept / "out").read_text() == "kept\n"
    missing = minikern_command("run", "--root", str(root), "/bin/nonesuch")
    assert missing.status == 127
    assert str(root).encode() in missing.stderr


def test_hostname() -> None:
    program = str(debian("x86_64", "bin/busybox"))
    assert minikern_command("run", "--hostname", "box", program, "uname", "-n").stdout == b"box\n"


def test_pid1() -> None:
    program = str(debian("x86_64", "bin/busybox"))
    done = minikern_command("run", "--pid1", program, "sh", "-c", "echo $$; exit 5")
    assert (done.status, done.stdout) == (5, b"1\n")
    assert b"Attempted to kill init!" in done.stderr


def test_memory_limit() -> None:
    script = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    done = minikern_command("run", "--memory", "32M", str(debian("x86_64", "bin/busybox")), "sh", "-c", script)
    assert done.status in (2, 137, 139)  # the shell's own complaint, or the end of it
    assert b"minikern" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_check() -> None:
    done = minikern_command(
        "run", "--check", str(debian("x86_64", "bin/busybox")), "sh", "-c", "ls / | wc -l >/dev/null & wait"
    )
    assert (done.status, done.stderr) == (0, b"")


def test_standard_input_is_passed_on() -> None:
    done = minikern_command(*busybox("tr", "a-z", "A-Z"), stdin=b"hello\n")
    assert done.stdout == b"HELLO\n"


# The end of a pipe, closed descriptors, signals


def test_a_reader_that_goes_away() -> None:
    command = subprocess.Popen([*COMMAND, *busybox("yes")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == b"y\n"
    command.stdout.close()
    assert command.stderr is not None
    assert command.stderr.read() == b""
    assert command.wait(30) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("args", [["syscalls"], ["arches"]])
def test_a_reader_of_our_own_output_that_goes_away(args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert done.stderr == b""


def test_closed_standard_streams() -> None:
    close = "exec <&- >&- 2>&-; exec " + " ".join([*COMMAND, "run", demo("exit_group33")])
    assert subprocess.run(["sh", "-c", close], timeout=60).returncode in (1, 33)
    close = "exec >&-; exec " + " ".join([*COMMAND, "--version"])
    assert subprocess.run(["sh", "-c", close], timeout=60, stderr=subprocess.PIPE).stderr == b""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(signum: signal.Signals) -> None:
    script = "trap 'echo caught; exit 9' INT TERM HUP; echo ready; while true; do sleep 0.05; done"
    command = start(script)
    command.send_signal(signum)
    assert command.communicate(timeout=30)[0] == b"caught\n"
    assert command.returncode == 9


def test_a_signal_that_kills_the_guest() -> None:
    command = start("echo ready; while :; do :; done")
    command.send_signal(signal.SIGTERM)
    assert command.wait(30) == 128 + signal.SIGTERM


def test_an_ignored_signal_stays_ignored() -> None:
    command = start("echo ready; sleep 0.5; echo undisturbed", signal.SIG_IGN)
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=30)[0] == b"undisturbed\n"
    assert command.returncode == 0


def test_insisting_stops_the_machine() -> None:
    command = start("trap '' INT; echo ready; while :; do :; done")
    for _ in range(3):
        time.sleep(0.15)
        command.send_signal(signal.SIGINT)
    assert command.wait(30) == 128 + signal.SIGINT
    assert command.stderr is not None
    assert command.stderr.read() == b""


def start(script: str, disposition: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[bytes]:
    """Run a shell script and wait until it says that it is ready; ``disposition`` is that of SIGINT."""
    command = subprocess.Popen(
        [*COMMAND, *busybox("sh", "-c", script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, disposition),
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"ready\n"
    return command


# Starting quickly


def test_what_a_start_does_not_import() -> None:
    heavy = ["asyncio", "capstone", "elftools", "email", "hashlib", "importlib.metadata", "pydantic", "rich", "unicorn"]
    code = (
        "import sys\nfrom minikern.cli import main\n"
        f"sys.argv[1:] = ['run', {demo('hello')!r}]\n"
        "try: main()\nfinally: print([name for name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("hello, world\n")
    assert [name for name in heavy if f"'{name}'" in done.stdout] == []
