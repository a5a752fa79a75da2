"""When memory runs out somebody has to go, and the rest goes on."""

from __future__ import annotations

from typing import Any

import pytest

from minikern.kernel import signal
from minikern.kernel.siginfo import Signal
from minikern.kernel.task import Task
from minikern.mm.memory import Fault, fault_siginfo
from minikern.mm.mm import dup_mm
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap
from minikern.mm.uaccess import copy_to_user_partial

from .fakes import Machine, check

PAGE = 4096
RW = Prot.READ | Prot.WRITE
ANON = Map.PRIVATE | Map.ANONYMOUS


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Whom the OOM killer sent SIGKILL."""
    victims: list[Task] = []

    def send(sig: int, info: Any, task: Task, kind: Any) -> None:
        assert sig == Signal.SIGKILL
        victims.append(task)

    monkeypatch.setattr(signal, "do_send_sig_info", send)
    monkeypatch.setattr(signal, "fatal_signal_pending", lambda task: task in victims)
    return victims


def fill(machine: Machine, task: Task, pages: int) -> int:
    """How many of so many pages the task can store to."""
    machine.run(task)
    at = do_mmap(task, None, 0, pages * PAGE, RW, ANON, 0)
    done = 0
    while done < pages and machine.cpu.store(at + done * PAGE, 1):
        done += 1
    return done


def test_the_largest_goes(killed: list[Task]) -> None:
    machine = Machine(1 << 20)
    small, large = machine.new_task(machine.new_mm()), machine.new_task(machine.new_mm())
    events: list[tuple[Task, int]] = []
    machine.kernel.events.subscribe("oom_kill", lambda victim, rss: events.append((victim, rss)))
    assert fill(machine, small, 20) == 20
    assert fill(machine, large, 150) == 150
    assert fill(machine, machine.task, 140) == 140
    assert killed == [large]
    assert events == [(large, 150)]
    assert large.mm is not None and large.mm.rss == 0
    machine.run(large)
    address = large.mm.vmas[0].start
    assert not machine.cpu.store(address, 1)
    assert fault_siginfo(large, address, 2) is None  # SIGKILL is on its way
    check(machine, *machine.kernel.pids.tasks)


def test_whoever_asks_may_be_the_one(killed: list[Task]) -> None:
    machine = Machine(1 << 20)
    hog = machine.new_task(machine.new_mm())
    assert fill(machine, hog, 255) == 254
    assert killed == [hog]
    assert hog.mm is not None and hog.mm.fault_reason is Fault.OOM
    assert copy_to_user_partial(machine.task, do_mmap(machine.task, None, 0, PAGE, RW, ANON, 0), b"x") == 1
    check(machine, *machine.kernel.pids.tasks)


def test_a_store_after_fork_finds_no_memory(killed: list[Task]) -> None:
    machine = Machine(1 << 20)
    parent = machine.task
    assert fill(machine, parent, 150) == 150
    assert parent.mm is not None
    at = parent.mm.vmas[0].start
    child = machine.new_task(dup_mm(parent.mm))
    machine.run(child)
    done = 0
    while done < 150 and machine.cpu.store(at + done * PAGE, 2):
        done += 1
    assert killed
    check(machine, *machine.kernel.pids.tasks)


def test_those_who_share_the_memory_go_too(killed: list[Task]) -> None:
    machine = Machine(1 << 20)
    vfork_child = machine.new_task(machine.task.mm)  # type: ignore[arg-type]
    fill(machine, machine.task, 255)
    assert killed == [machine.task, vfork_child]


def test_some_are_spared(killed: list[Task]) -> None:
    machine = Machine(1 << 20)
    spared, other = machine.task, machine.new_task(machine.new_mm())
    spared.signal.oom_score_adj = -1000
    assert fill(machine, other, 10) == 10
    assert fill(machine, spared, 255) < 255
    assert killed == [other]
    assert spared.mm is not None and spared.mm.fault_reason is Fault.OOM
    address = spared.mm.vmas[0].start + 254 * PAGE
    info = fault_siginfo(spared, address, 2)
    assert info is not None and info.signo == Signal.SIGKILL  # there is no other way on
