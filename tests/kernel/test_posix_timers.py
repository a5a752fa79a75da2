"""Intervals and overruns of POSIX timers on a clock that moves only when told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from minikern.host.sources import SeededSources
from minikern.kernel.events import Events
from minikern.kernel.pid import Pid
from minikern.kernel.posix_timers import PosixTimer, SigEv, forward
from minikern.kernel.sched import Sched
from minikern.kernel.siginfo import SIG_IGN, SigInfo, Signal
from minikern.kernel.signal import dequeue_signal
from minikern.kernel.task import PidType, Task
from minikern.kernel.time import Clock
from minikern.kernel.timers import TimerQueue

MS = 1_000_000
BLOCKED = ~0


class Machine:
    """A kernel with one task that blocks every signal."""

    def __init__(self) -> None:
        self.sources = SeededSources(0)
        kernel: Any = SimpleNamespace(
            sources=self.sources,
            timers=TimerQueue(),
            events=Events(),
            sigpending_count={},
            need_resched=False,
            vdso=SimpleNamespace(clock_was_read=int),
        )
        kernel.sched = Sched(cast(Any, kernel))
        self.kernel = kernel
        self.pid = Pid(1)
        self.task = Task(self.kernel, None, None)  # type: ignore[arg-type]
        self.task.thread_pid = self.pid
        self.task.blocked = (1 << 64) - 1
        self.task.signal.threads.append(self.task)
        self.task.signal.pids[PidType.TGID] = self.pid
        self.pid.tasks[PidType.PID].append(self.task)
        self.pid.tasks[PidType.TGID].append(self.task)

    def timer(self, notify: SigEv = SigEv.SIGNAL) -> PosixTimer:
        return PosixTimer(self.kernel, 3, Clock.MONOTONIC, notify, self.pid, Signal.SIGUSR1, 42)

    def advance(self, ms: int) -> None:
        self.sources.advance_to(self.sources.monotonic_ns() + ms * MS)
        self.kernel.timers.run_expired(self.sources.monotonic_ns())

    def take(self) -> SigInfo | None:
        return dequeue_signal(self.task, 0)


def test_a_timer_that_fires_once() -> None:
    machine = Machine()
    timer = machine.timer()
    timer.set(0, 10 * MS, absolute=False)
    assert timer.get() == (0, 10 * MS)
    machine.advance(9)
    assert machine.take() is None and timer.get() == (0, MS)
    machine.advance(1)
    info = machine.take()
    assert info is not None and (info.timer_id, info.value, info.overrun) == (3, 42, 0)
    assert timer.get() == (0, 0) and machine.kernel.timers.next_expiry() is None


def test_what_was_missed_comes_as_overruns() -> None:
    machine = Machine()
    timer = machine.timer()
    timer.set(10 * MS, 10 * MS, absolute=False)
    machine.advance(10)
    assert machine.kernel.timers.next_expiry() is None, "armed again only when the signal is taken"
    machine.advance(35)
    assert timer.get() == (10 * MS, 5 * MS)
    info = machine.take()
    assert info is not None and info.overrun == timer.overrun_last == 3
    assert machine.kernel.timers.next_expiry() == 50 * MS
    machine.advance(5)
    info = machine.take()
    assert info is not None and info.overrun == 0


def test_an_ignored_signal_does_not_stop_the_timer() -> None:
    machine = Machine()
    machine.task.blocked = 0
    assert machine.task.sighand is not None
    machine.task.sighand.action[Signal.SIGUSR1 - 1].handler = SIG_IGN
    timer = machine.timer()
    timer.set(MS // 1000, MS, absolute=False)
    machine.advance(1)
    assert machine.take() is None
    expiry = machine.kernel.timers.next_expiry()
    assert expiry is not None and expiry >= 5 * MS, "no faster than a tick"


def test_setting_it_anew_forgets_the_pending_period() -> None:
    machine = Machine()
    timer = machine.timer()
    timer.set(10 * MS, 10 * MS, absolute=False)
    machine.advance(10)
    timer.set(0, 500 * MS, absolute=True)
    assert machine.take() is not None
    assert machine.kernel.timers.next_expiry() == 500 * MS


def test_a_second_expiry_of_a_pending_one_shot_is_an_overrun() -> None:
    machine = Machine()
    timer = machine.timer()
    for _ in range(3):
        timer.set(0, MS, absolute=False)
        machine.advance(1)
    info = machine.take()
    assert info is not None and info.overrun == 2
    assert machine.take() is None


def test_a_silent_timer_only_counts() -> None:
    machine = Machine()
    timer = machine.timer(SigEv.NONE)
    timer.set(10 * MS, 10 * MS, absolute=False)
    machine.advance(34)
    assert timer.get() == (10 * MS, 6 * MS) and machine.take() is None


@given(st.integers(0, 1000), st.integers(0, 2000), st.integers(1, 100))
def test_forward(expires_ns: int, now_ns: int, interval_ns: int) -> None:
    after, steps = forward(expires_ns, now_ns, interval_ns)
    assert after == expires_ns + steps * interval_ns > now_ns or expires_ns > now_ns
    assert steps == 0 or after - interval_ns <= now_ns
