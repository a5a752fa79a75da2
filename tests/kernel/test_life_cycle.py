"""Whole sequences of life-cycle events: what the kernel does, in its order, and nothing twice."""

from __future__ import annotations

import inspect
import re
from functools import partial
from pathlib import Path

import pytest

from minikern import Config, Machine, Stream
from minikern.fs.char_dev import register_device
from minikern.fs.devices import Device
from minikern.fs.inode import Inode
from minikern.fs.path import Path as GuestPath
from minikern.kernel.events import HOOKS
from minikern.kernel.siginfo import SigInfo, Signal
from minikern.kernel.task import ExitState, SigAction, Task
from tests.support import ARCHES, PLAIN_ENV, TIMEOUT_S, missing
from userland.build import build, catalogue, flavours


class Recorder:
    """Writes every life-cycle event as a line. Tasks are called by the order in which they came, init by its name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[int, str] = {1: "init"}  # by tid

    def name(self, task: Task | None) -> str:
        """``init``, then ``a``, ``b``, …; a thread that takes over its leader's tid takes over its name."""
        assert task is not None
        return self.names.setdefault(task.pid, "abcdefgh"[len(self.names) - 1])

    def add(self, what: str, *tasks: Task | None, note: str = "") -> None:
        """One event."""
        self.lines.append(" ".join([what, *map(self.name, tasks), *note.split()]))

    def on_fork(self, parent: Task, child: Task) -> None:
        self.add("thread" if parent.signal is child.signal else "fork", parent, child)

    def on_exec(self, task: Task, old_tid: int) -> None:
        self.add("exec", task, note=f"was {self.names[old_tid]}")

    def on_exit(self, task: Task, code: int) -> None:
        assert task.mm is not None and task.files is not None and task.fs is not None
        self.add("exit", task, note=f"{code:#x}")

    def on_group_exit(self, task: Task, code: int) -> None:
        self.add("group_exit", task, note=f"{code:#x}")

    def on_zap(self, task: Task, victim: Task) -> None:
        self.add("zap", task, victim)

    def on_zombie(self, task: Task) -> None:
        assert task.mm is None and task.files is None and task.fs is None
        self.add("zombie", task)

    def on_reparent(self, child: Task, old: Task, new: Task) -> None:
        self.add("reparent", child, old, new)

    def on_notify(self, task: Task, parent: Task, sig: int) -> None:
        self.add("notify", task, parent, note=f"{task.exit_code:#x} {Signal(sig).name if sig else 'nothing'}")

    def on_reap(self, task: Task, reaper: Task | None) -> None:
        self.add("reap", task, reaper)

    def on_release(self, task: Task) -> None:
        self.add("release", task)

    def on_signal_generate(self, task: Task, sig: int, info: SigInfo | None, group: bool, result: str) -> None:
        self.add("generate", task, note=f"{Signal(sig).name} {result}")

    def on_signal_deliver(self, task: Task, sig: int, info: SigInfo, action: SigAction) -> None:
        self.add("deliver", task, note=Signal(sig).name)

    def on_stop(self, task: Task, sig: int) -> None:
        self.add("stop", task, note=Signal(sig).name)

    def on_cont(self, task: Task) -> None:
        self.add("cont", task)

    def on_core(self, task: Task, sig: int, path: bytes | None) -> None:
        self.add("core", task, note=f"{Signal(sig).name} {path.decode() if path else 'no file'}")


class Witness(Device):
    """A device that is told of every descriptor that is closed."""

    __slots__ = ("recorder",)

    def __init__(self, recorder: Recorder, task: Task, inode: Inode, path: GuestPath | None, flags: int) -> None:
        super().__init__(task, inode, path, flags)
        self.recorder = recorder

    def flush(self, task: Task) -> None:
        """In do_exit: past the memory, before the directories and the news."""
        assert task.mm is None and task.fs is not None and task.exit_state is ExitState.ALIVE
        self.recorder.add("flush", task)


def watch(arch: str, what: str) -> list[str]:
    """The events of ``life_cycle WHAT`` from the first fork on."""
    flavour = f"{arch}-musl"
    if flavour not in flavours():
        missing(f"no compiler for {flavour}")
    program = catalogue()["life_cycle"]
    (how,) = (run for run in program.runs if run.args == (what,))
    machine, recorder = Machine(Config()), Recorder()
    register_device(machine.kernel, "witness", 0o666, partial(Witness, recorder))
    process = machine.spawn([str(build(program.name, flavour)), what], env=PLAIN_ENV, stdout=Stream.CAPTURE)
    machine.kernel.events.attach(recorder)
    machine.run(timeout_s=TIMEOUT_S)
    assert (process.returncode, process.stdout, machine.check()) == (how.status, b"", [])
    return recorder.lines


# How the programs end that return 0 from main.
RETURNS = """
        group_exit a 0x0
        exit a 0x0
        zombie a
        notify a init 0x0 SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
"""

SEQUENCES = {
    # a child ends, its parent waits
    "fork": """
        fork a b
        group_exit b 0x700
        exit b 0x700
        zombie b
        notify b a 0x700 SIGCHLD
        generate a SIGCHLD ignored
        reap b a
        release b
    """
    + RETURNS,
    # exit_group from the third of three threads
    "group": """
        thread a b
        thread a c
        group_exit c 0x2100
        zap c a
        zap c b
        exit c 0x2100
        zombie c
        release c
        deliver a SIGKILL
        exit a 0x2100
        zombie a
        deliver b SIGKILL
        exit b 0x2100
        zombie b
        release b
        notify a init 0x2100 SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # every thread leaves alone: the last one's status
    "last": """
        thread a b
        exit b 0x900
        zombie b
        release b
        group_exit a 0x500
        exit a 0x500
        zombie a
        notify a init 0x500 SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # the leader is only told of when the last thread is gone
    "leader_first": """
        thread a b
        exit a 0x100
        zombie a
        group_exit b 0x600
        exit b 0x600
        zombie b
        release b
        notify a init 0x600 SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # a fatal signal, which the kernel gives to the leader, sent by the third thread
    "kill": """
        thread a b
        thread a c
        group_exit a 0xf
        zap a b
        zap a c
        generate a SIGTERM delivered
        deliver c SIGKILL
        exit c 0xf
        zombie c
        release c
        deliver a SIGKILL
        exit a 0xf
        zombie a
        deliver b SIGKILL
        exit b 0xf
        zombie b
        release b
        notify a init 0xf SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # the whole group is down, but not dead, when the core is written
    "core": """
        thread a b
        thread a c
        generate c SIGSEGV delivered
        deliver c SIGSEGV
        group_exit c 0xb
        zap c a
        zap c b
        deliver a SIGKILL
        deliver b SIGKILL
        core c SIGSEGV no file
        exit c 0xb
        zombie c
        release c
        exit a 0xb
        zombie a
        exit b 0xb
        zombie b
        release b
        notify a init 0xb SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # execve by the third thread: `release c` is the old leader, under the number that it got in exchange
    "exec": """
        thread a b
        thread a c
        zap c a
        zap c b
        deliver a SIGKILL
        exit a 0x0
        zombie a
        deliver b SIGKILL
        exit b 0x0
        zombie b
        release b
        release c
        exec a was c
        group_exit a 0x1100
        exit a 0x1100
        zombie a
        notify a init 0x1100 SIGCHLD
        generate init SIGCHLD ignored
        reap a init
        release a
    """,
    # the parent's mark comes after the exec
    "vfork": """
        fork a b
        exec b was b
        generate a SIGURG ignored
        group_exit b 0x1100
        exit b 0x1100
        zombie b
        notify b a 0x1100 SIGCHLD
        generate a SIGCHLD ignored
        reap b a
        release b
    """
    + RETURNS,
    # to init
    "orphan": """
        fork a b
        fork b c
        group_exit b 0x100
        exit b 0x100
        reparent c b init
        zombie b
        notify b a 0x100 SIGCHLD
        generate a SIGCHLD ignored
        reap b a
        release b
        group_exit c 0x200
        exit c 0x200
        zombie c
        notify c init 0x200 SIGCHLD
        generate init SIGCHLD ignored
        reap c init
        release c
    """
    + RETURNS,
    # to the nearest subreaper
    "subreaper": """
        fork a b
        fork b c
        group_exit b 0x100
        exit b 0x100
        reparent c b a
        zombie b
        notify b a 0x100 SIGCHLD
        generate a SIGCHLD ignored
        reap b a
        release b
        group_exit c 0x200
        exit c 0x200
        zombie c
        notify c a 0x200 SIGCHLD
        generate a SIGCHLD ignored
        reap c a
        release c
    """
    + RETURNS,
    # b leaves two zombies to a, which ignores SIGCHLD: the kernel's list of the dead is last in, first out
    "zombies": """
        fork a b
        fork b c
        group_exit c 0x0
        exit c 0x0
        zombie c
        notify c b 0x0 SIGCHLD
        generate b SIGCHLD ignored
        fork b d
        group_exit d 0x100
        exit d 0x100
        zombie d
        notify d b 0x100 SIGCHLD
        generate b SIGCHLD ignored
        group_exit b 0x300
        exit b 0x300
        reparent c b a
        notify c a 0x0 nothing
        reparent d b a
        notify d a 0x100 nothing
        zombie b
        notify b a 0x300 nothing
        release b
        release d
        release c
    """
    + RETURNS,
    # the parent ignores SIGCHLD: nobody reaps
    "ignored": """
        fork a b
        group_exit b 0x400
        exit b 0x400
        zombie b
        notify b a 0x400 nothing
        release b
    """
    + RETURNS,
    # stopped, continued, killed: SIGCHLD each time
    "stop": """
        fork a b
        generate b SIGSTOP delivered
        deliver b SIGSTOP
        stop b SIGSTOP
        generate a SIGCHLD delivered
        cont b
        generate b SIGCONT ignored
        generate a SIGCHLD delivered
        group_exit b 0x9
        generate b SIGKILL delivered
        deliver b SIGKILL
        exit b 0x9
        zombie b
        notify b a 0x9 SIGCHLD
        generate a SIGCHLD delivered
        reap b a
        release b
    """
    + RETURNS,
    # descriptors are closed after the memory is gone and before the parent is told
    "files": """
        fork a b
        group_exit b 0x800
        exit b 0x800
        flush b
        zombie b
        notify b a 0x800 SIGCHLD
        generate a SIGCHLD delivered
        reap b a
        release b
    """
    + RETURNS,
}


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("what", SEQUENCES)
def test_sequence(what: str, arch: str) -> None:
    assert watch(arch, what) == re.findall(r"\S.*\S", SEQUENCES[what])


def test_every_way_is_watched() -> None:
    assert {run.args for run in catalogue()["life_cycle"].runs} == {(what,) for what in SEQUENCES}


def test_events_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| .+ \|$", text, re.MULTILINE)
    assert tuple(name for name, _ in rows) == HOOKS
    arguments = dict(rows)
    for name in HOOKS:
        if method := getattr(Recorder, f"on_{name}", None):
            assert len(inspect.signature(method).parameters) - 1 == len(arguments[name].split(", ")), name
