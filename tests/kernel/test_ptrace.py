"""Tracing, beyond what the guest programs of ``userland/ptrace`` show: who may, and what kernel state it leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

import minikern
from minikern.kernel.cred import Cap, Cred
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.kernel import Kernel
from minikern.kernel.ptrace_access import ptrace_may_access, ptrace_traceme_allowed
from minikern.kernel.task import ExitState, Task
from minikern.kernel.waitqueue import TaskState
from tests.support import PLAIN_ENV, TIMEOUT_S, missing
from userland.build import build, flavours

ALL_CAPS = (1 << 41) - 1
USER, OTHER = 1000, 1001


def cred(uid: int = USER, *, euid: int | None = None, fsuid: int | None = None, caps: int = 0) -> Cred:
    euid = uid if euid is None else euid
    fsuid = euid if fsuid is None else fsuid
    made = Cred.from_host().copy()
    made.uid = made.suid = uid
    made.euid, made.fsuid = euid, fsuid
    made.gid = made.egid = made.sgid = made.fsgid = USER
    made.cap_permitted = made.cap_effective = caps
    return made


def task(cred: Cred, *, dumpable: int = 1) -> Task:
    return cast(Task, SimpleNamespace(cred=cred, dumpable=dumpable, mm=object(), signal=object(), flags=0, kernel=None))


@pytest.mark.parametrize(
    ("mine", "theirs", "dumpable", "allowed"),
    [
        (cred(), cred(), 1, True),
        (cred(), cred(), 0, False),  # it has dropped privileges, or asked not to be looked at
        (cred(), cred(OTHER), 1, False),
        (cred(), cred(euid=0), 1, False),  # a set-user-id program
        (cred(), cred(caps=1 << Cap.NET_RAW), 1, False),  # it may do more than we
        (cred(caps=1 << Cap.NET_RAW), cred(caps=1 << Cap.NET_RAW), 1, True),
        (cred(0, caps=ALL_CAPS), cred(OTHER), 0, True),
        (cred(0, caps=ALL_CAPS & ~(1 << Cap.SYS_PTRACE)), cred(OTHER), 1, False),
    ],
)
def test_may_access(mine: Cred, theirs: Cred, dumpable: int, allowed: bool) -> None:
    assert ptrace_may_access(task(mine), task(theirs, dumpable=dumpable)) is allowed


def test_own_process_is_always_accessible() -> None:
    one = task(cred(), dumpable=0)
    assert ptrace_may_access(one, one)


def test_file_access_goes_by_fsuid() -> None:
    one, other = task(cred(fsuid=OTHER)), task(cred(OTHER))
    assert ptrace_may_access(one, other, fscreds=True) and not ptrace_may_access(one, other)


def test_traceme_needs_a_parent_with_as_many_capabilities() -> None:
    ptrace_traceme_allowed(task(cred()), cred())
    ptrace_traceme_allowed(task(cred(0, caps=ALL_CAPS)), cred(caps=1 << Cap.NET_RAW))
    with pytest.raises(KernelError) as error:
        ptrace_traceme_allowed(task(cred()), cred(caps=1 << Cap.NET_RAW))
    assert error.value.errno == Errno.EPERM


class Watch:
    """Looks at every tracee whenever somebody is scheduled."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.stops = 0

    def on_sched_switch(self, previous: Task | None, following: Task | None) -> None:
        for each in self.kernel.pids.all_tasks():
            assert (each.state is TaskState.TRACED) <= (each.ptrace is not None)
            if each.ptrace is None:
                assert each.parent is each.real_parent
                continue
            assert each.parent is not None and each.parent.ptraced.count(each) == 1
            if each.state is TaskState.TRACED:
                assert each.exit_state is ExitState.ALIVE
                self.stops += 1


@pytest.mark.parametrize("name", ["trace_events", "trace_signals", "trace_death"])
def test_links_agree_at_all_times(name: str) -> None:
    if "x86_64-musl" not in flavours():
        missing("no compiler")
    machine = minikern.Machine(minikern.Config())
    watch = Watch(machine.kernel)
    machine.kernel.events.attach(watch)
    process = machine.spawn([str(build(name, "x86_64-musl"))], env=PLAIN_ENV, stdout=True, stderr=True)
    machine.run(timeout_s=TIMEOUT_S)
    assert (process.returncode, process.stderr) == (0, b"")
    assert watch.stops > 10
    assert machine.check() == []
