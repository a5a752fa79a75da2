"""Core files: what is in them, what they are called, and that gdb finds its way in them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

import minikern
from minikern.kernel.coredump import format_corename
from minikern.kernel.task import Task
from tests.support import ARCHES, PLAIN_ENV, TIMEOUT_S, missing
from userland.build import build, flavours

PRSTATUS_SIZE = {"x86_64": 336, "aarch64": 392}
CORE_BIT = 0x80


def crash(arch: str, libc: str, folder: Path, *, attach: object | None = None) -> tuple[Path, Path]:
    """Have a process of three threads die in ``folder``: the program and its core file."""
    flavour = f"{arch}-{libc}"
    if flavour not in flavours():
        missing(f"no compiler for {flavour}")
    binary = build("core_dump", flavour)
    bind = minikern.Bind(str(folder), str(folder), rw=True)
    machine = minikern.Machine(minikern.Config(binds=[bind]))
    if attach is not None:
        machine.kernel.events.attach(attach)
    process = machine.spawn([str(binary), "fault"], env=PLAIN_ENV, cwd=str(folder), stdout=True, stderr=True)
    machine.run(timeout_s=TIMEOUT_S)
    assert (process.returncode, process.stdout) == (-11, b"")
    assert machine.check() == []
    return binary, folder / "core"


def notes(core: Path) -> list[tuple[str, Any]]:
    with core.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        (segment,) = (each for each in elf.iter_segments() if isinstance(each, NoteSegment))
        return [(note["n_type"], note["n_descdata"]) for note in segment.iter_notes()]


@pytest.mark.parametrize("arch", ARCHES)
def test_contents(arch: str, tmp_path: Path) -> None:
    binary, core = crash(arch, "musl", tmp_path)
    assert core.stat().st_mode & 0o777 == 0o600
    found = notes(core)
    kinds = [kind for kind, _ in found]
    assert kinds[:6] == ["NT_PRSTATUS", "NT_PRPSINFO", "NT_SIGINFO", "NT_AUXV", "NT_FILE", "NT_FPREGSET"]
    threads = [data for kind, data in found if kind == "NT_PRSTATUS"]
    assert [len(data) for data in threads] == [PRSTATUS_SIZE[arch]] * 3
    pids = [struct.unpack_from("<i", data, 32)[0] for data in threads]
    assert pids[0] == min(pids) and len(set(pids)) == 3  # the one that crashed is the leader, and comes first
    assert {struct.unpack_from("<i8xh", data)[0] for data in threads} == {11}

    with core.open("rb") as file:
        elf = ELFFile(file)
        loads = [each for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
        assert all(each["p_offset"] % 4096 == 0 for each in loads)
        last = loads[-1]
        assert last["p_offset"] + last["p_filesz"] == core.stat().st_size
        stack = next(each for each in loads if each["p_filesz"] and bytes(binary) + b"\0" in each.data())
        assert stack["p_flags"] == 6
        first = loads[0]  # the headers of the program, and nothing more of it
        assert first["p_filesz"] == 4096 and first.data() == binary.read_bytes()[:4096]


def test_event(tmp_path: Path) -> None:
    class Observer:
        def __init__(self) -> None:
            self.seen: list[tuple[int, bytes | None]] = []

        def on_core(self, task: Task, sig: int, path: bytes | None) -> None:
            assert all(thread.wait is not None for thread in task.signal.threads if thread is not task)
            self.seen.append((sig, path))

    crash("x86_64", "musl", tmp_path, attach=(observer := Observer()))
    assert observer.seen == [(11, os.fsencode(tmp_path / "core"))]


@pytest.mark.parametrize("arch", ARCHES)
def test_gdb_shows_every_thread(arch: str, tmp_path: Path) -> None:
    gdb = shutil.which("gdb-multiarch") or (arch == "x86_64" and shutil.which("gdb"))
    if not gdb:
        missing("no gdb-multiarch")
    binary, core = crash(arch, "glibc", tmp_path)
    command = [gdb, "-nx", "-q", "-batch", "-ex", "thread apply all bt", str(binary), str(core)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    assert "Program terminated with signal SIGSEGV" in shown
    backtraces = dict(re.findall(r"^Thread (\d+) .*?\n((?:#.*\n?)+)", shown, re.MULTILINE))
    frames = {
        number: re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+)", text, re.MULTILINE) for number, text in backtraces.items()
    }
    assert frames["1"] == ["crash_here", "threads_and_crash", "main"]
    # The others are in their sleep or on the way to it.
    bodies = {frames[number][frames[number].index("wait_in_thread") + 1] for number in "23"}
    assert bodies == {"first_thread", "second_thread"}


@pytest.fixture
def task() -> Callable[..., Task]:
    """As much of a task as a name needs."""

    def make(comm: bytes = b"prog", *, uses_pid: bool = False) -> Task:
        sources = SimpleNamespace(realtime_ns=lambda: 1234567890_000_000_000)
        kernel = SimpleNamespace(core_uses_pid=uses_pid, sources=sources, hostname=b"a/b")
        cred = SimpleNamespace(uid=7, gid=8)
        signal = SimpleNamespace(rlim=SimpleNamespace(cur=lambda which: 4096))
        return SimpleNamespace(  # type: ignore[return-value]
            kernel=kernel, cred=cred, signal=signal, comm=comm, tgid=41, pid=42, dumpable=1, mm=None, fs=None
        )

    return make


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"core", b"core"),
        (b"/var/%e.%p.%s", b"/var/prog.41.6"),
        (b"%i %u %g %d %t %c %C", b"42 7 8 1 1234567890 4096 0"),
        (b"%h-%%-%z-%", b"a!b-%--"),
        (b"%f", b"prog (path unknown)"),
    ],
)
def test_corename(task: Callable[..., Task], pattern: bytes, name: bytes) -> None:
    assert format_corename(task(), pattern, 6) == name


def test_corename_cannot_lead_elsewhere(task: Callable[..., Task]) -> None:
    assert format_corename(task(b"../x"), b"/d/%e", 6) == b"/d/..!x"
    assert format_corename(task(b".."), b"/d/%e/f", 6) == b"/d/!./f"
    assert format_corename(task(b""), b"/d/%e", 6) == b"/d/!"


def test_core_uses_pid(task: Callable[..., Task]) -> None:
    assert format_corename(task(uses_pid=True), b"core", 6) == b"core.41"
    assert format_corename(task(uses_pid=True), b"core-%p", 6) == b"core-41"
