"""The public Python interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import minikern
from minikern import Bind, Config, ExecError, Machine, MachineError, Stream, TimeLimitExceeded
from minikern.demos import DEMOS
from tests.support import ARCHES, debian

HELLO, FORK, *_ = DEMOS


@pytest.fixture
def busybox() -> str:
    """Path of a busybox."""
    return str(debian("x86_64", "bin/busybox"))


@pytest.mark.parametrize("arch", ARCHES)
def test_run(arch: str) -> None:
    result = minikern.run([str(FORK.binary(arch))])
    assert result.returncode == 0
    assert result.stdout == b"child\nparent: child exited 42\n"
    assert result.stderr == b""
    assert result.unimplemented == {}
    ended = [(each.comm, each.wait_status) for each in result.processes]
    assert ended == [(FORK.name, 42 << 8), (FORK.name, 0), ("init", None)]
    assert result.processes[0].ppid == result.processes[1].pid
    assert result.usage.max_rss_bytes > 4096
    assert 0 < result.usage.user_s + result.usage.system_s < 60


def test_input_environment_and_directory(busybox: str) -> None:
    script = 'read line; echo "$line $NAME $(pwd)"; echo problem >&2; exit 3'
    result = minikern.run([busybox, "sh", "-c", script], input=b"hello\n", env={"NAME": "guest"}, cwd="/usr")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"hello guest /usr\n", b"problem\n")


def test_several_programs_on_one_machine(busybox: str) -> None:
    machine = Machine()
    first = machine.spawn([busybox, "sh", "-c", "echo $PPID; sleep 0.1; kill -9 $$"], stdout=Stream.CAPTURE)
    second = machine.spawn([busybox, "cat"], stdin=b"input", stdout=Stream.CAPTURE)
    assert first.wait_status is None
    with pytest.raises(MachineError, match="not ended"):
        first.exit_status  # noqa: B018 the property raises
    machine.run(timeout_s=30)
    assert (first.returncode, first.exit_status, first.stdout) == (-9, 137, b"1\n")
    assert (second.returncode, second.exit_status, second.stdout) == (0, 0, b"input")
    assert not first.core_dumped
    assert machine.programs == [first, second]
    assert machine.check() == []


def test_what_is_left_running_is_ended(busybox: str) -> None:
    machine = Machine()
    process = machine.spawn([busybox, "sh", "-c", "sleep 1000 & exit 0"], stdout=Stream.NULL)
    machine.run(timeout_s=30)
    assert process.returncode == 0
    assert [each.wait_status for each in machine.processes()] == [0, signal.SIGKILL, None]
    assert machine.check() == []


def test_streams(busybox: str, tmp_path: Path) -> None:
    machine = Machine()
    both = machine.spawn([busybox, "sh", "-c", "echo 1; echo 2 >&2"], stdout=Stream.CAPTURE, stderr=Stream.STDOUT)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "in").open("w+b") as source:
        source.write(b"from a file\n")
        source.seek(0)
        copy = machine.spawn([busybox, "cat"], stdin=source.fileno(), stdout=out.fileno())
        nothing = machine.spawn([busybox, "cat"], stdin=Stream.NULL, stdout=Stream.CAPTURE)
        machine.run(timeout_s=30)
    assert both.stdout == b"1\n2\n"
    assert both.stderr == b""
    assert (tmp_path / "out").read_bytes() == b"from a file\n"
    assert (copy.stdout, nothing.stdout, nothing.returncode) == (b"", b"", 0)


def test_configuration(busybox: str, tmp_path: Path) -> None:
    config = Config(binds=[Bind(str(tmp_path), "/mnt", rw=True)], hostname="box", pid1=True, memory_bytes=64 << 20)
    result = minikern.run([busybox, "sh", "-c", "echo $$ $(hostname); echo x >/mnt/file"], config=config)
    assert (result.returncode, result.stdout) == (0, b"1 box\n")
    assert (tmp_path / "file").read_text() == "x\n"


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    machine = Machine()
    with pytest.raises(ExecError, match="not found") as missing:
        machine.spawn([str(tmp_path / "nothing")])
    assert missing.value.exit_status == 127
    with pytest.raises(ExecError, match="is a directory") as directory:
        machine.spawn([str(tmp_path)])
    assert directory.value.exit_status == 126
    # The machine is none the worse for it.
    process = machine.spawn([str(HELLO.binary("x86_64"))], stdout=Stream.CAPTURE)
    machine.run()
    assert process.stdout == b"hello, world\n"
    assert machine.check() == []


@pytest.mark.parametrize("script", ["while :; do :; done", "sleep 1000"])
def test_time_limit(busybox: str, script: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded):
        minikern.run([busybox, "sh", "-c", script], timeout_s=0.3)
    assert time.monotonic() - began < 10


def test_a_machine_runs_once() -> None:
    machine = Machine()
    machine.spawn([str(HELLO.binary("x86_64"))], stdout=Stream.CAPTURE)
    machine.run()
    with pytest.raises(MachineError, match="make another"):
        machine.run()


@pytest.mark.parametrize("script", ["while :; do :; done", "sleep 1000"])
def test_ctrl_c_stops_the_machine(busybox: str, script: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    machine = Machine()
    machine.spawn([busybox, "sh", "-c", script], stdin=b"")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        machine.run(timeout_s=30)
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_functions(busybox: str) -> None:
    machine = Machine()
    process = machine.spawn([busybox, "sleep", "1000"], stdin=b"")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(RuntimeError, match="enough"):
        machine.run(timeout_s=30, on_signal={signal.SIGUSR1: lambda: machine.stop(RuntimeError("enough"))})
    assert process.returncode is None


def test_machines_in_threads() -> None:
    outputs = {}

    def work(arch: str) -> None:
        outputs[arch] = minikern.run([str(HELLO.binary(arch))]).stdout

    threads = [threading.Thread(target=work, args=(arch,)) for arch in ARCHES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == dict.fromkeys(ARCHES, b"hello, world\n")


def test_observers(busybox: str) -> None:
    class Watch:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_fork(self, parent: object, child: object) -> None:
            self.seen.append("fork")

        def on_exit(self, task: object, code: int) -> None:
            self.seen.append(f"exit {code:#x}")

    machine, watch = Machine(), Watch()
    machine.kernel.events.attach(watch)
    machine.spawn([busybox, "sh", "-c", "(exit 3); exit 4"], stdin=b"")
    machine.run(timeout_s=30)
    assert watch.seen == ["fork", "exit 0x300", "exit 0x400"]


def test_unimplemented_calls_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    machine = Machine(Config(warn_unimplemented=True))
    assert machine.unimplemented == {}
    machine.spawn([str(HELLO.binary("x86_64"))])
    machine.run()
    assert capfd.readouterr() == ("hello, world\n", "")


def test_importing_is_cheap() -> None:
    code = "import sys, minikern; print(sorted(name for name in sys.modules if name.startswith('minikern')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['minikern']\n"
    assert set(minikern.__all__) <= {*dir(minikern), *minikern.__all__}
    assert all(getattr(minikern, name) for name in minikern.__all__)
    with pytest.raises(AttributeError):
        minikern.nonesuch  # noqa: B018 looking is the test
