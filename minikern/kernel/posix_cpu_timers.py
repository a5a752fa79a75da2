"""Clocks that count the processor time of a thread or process, and what happens when they reach a moment.

Mirrors ``kernel/time/posix-cpu-timers.c``. As in Linux, expiry is noticed at the next tick: `run_posix_cpu_timers`.
Left out: RLIMIT_RTTIME.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.cputime import NSEC_PER_SEC, thread_group_usage
from minikern.kernel.pid import Pid
from minikern.kernel.resource import RLIM_INFINITY, Rlimit, Rusage
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import kernel_siginfo, send_signal_locked
from minikern.kernel.task import PidType
from minikern.kernel.timers import TimerQueue

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_PERTHREAD = 4  # bit of a clock id: the clock of a thread
_WHICH_MASK = 3
_PID_SHIFT = 3
CLOCK_RES_TICK_NS = 4_000_000  # resolution of the clocks that Linux samples at its ticks


class CpuClock(IntEnum):
    """What a clock counts (``CPUCLOCK_*``)."""

    PROF = 0  # user and system time
    VIRT = 1  # user time
    SCHED = 2  # time on the processor: here the same as PROF, but with the finest resolution
    FD = 3  # not a CPU clock: the clock behind a descriptor (``CLOCKFD``)


@dataclass(slots=True, eq=False, repr=False)
class CpuTimers:
    """Timers on the CPU clocks of one thread or process (``struct posix_cputimers``)."""

    queues: tuple[TimerQueue, TimerQueue, TimerQueue] = field(  # by CpuClock; their ns are processor time
        default_factory=lambda: (TimerQueue(), TimerQueue(), TimerQueue())
    )


@dataclass(slots=True, eq=False, frozen=True)
class CpuClockOf:
    """The CPU clock of somebody."""

    which: CpuClock
    pid: Pid  # the thread, or the process
    thread: bool

    def task(self) -> Task | None:
        """Whose time it counts; None once that is gone."""
        return self.pid.task(PidType.PID if self.thread else PidType.TGID)

    def now_ns(self) -> int:
        """The processor time used so far; 0 once the task is gone. Source: ``posix_cpu_clock_get``."""
        task = self.task()
        if task is None:
            return 0
        return _sample(task.usage if self.thread else thread_group_usage(task), self.which)

    def queue(self) -> TimerQueue | None:
        """Where timers on this clock are armed; None once the task is gone."""
        task = self.task()
        if task is None:
            return None
        owner = task if self.thread else task.signal
        if owner.cpu_timers is None:
            owner.cpu_timers = CpuTimers()
        return owner.cpu_timers.queues[self.which]


def make_process_cpuclock(task: Task, which: CpuClock) -> CpuClockOf:
    """The clock of the whole process."""
    pid = task.signal.pids[PidType.TGID]
    assert pid is not None
    return CpuClockOf(which, pid, thread=False)


def pid_for_clock(task: Task, clock: int, *, gettime: bool) -> CpuClockOf | None:
    """The CPU clock with a negative id, for ``task``; None: there is no such clock.

    A thread's clock is only for its own process. Source: ``kernel/time/posix-cpu-timers.c:pid_for_clock``.
    """
    thread = clock & _PERTHREAD != 0
    number = ~(clock >> _PID_SHIFT)
    which = CpuClock(clock & _WHICH_MASK)
    if which is CpuClock.FD:
        return None
    if number == 0:
        pid = task.thread_pid if thread else task.signal.pids[PidType.TGID]
        return CpuClockOf(which, pid, thread) if pid is not None else None
    pid = task.kernel.pids.find(number)
    if pid is None:
        return None
    if thread:
        other = pid.task(PidType.PID)
        return CpuClockOf(which, pid, True) if other is not None and other.signal is task.signal else None
    if gettime and pid is task.thread_pid:
        return make_process_cpuclock(task, which)
    return CpuClockOf(which, pid, False) if pid.task(PidType.TGID) is not None else None


def _sample(usage: Rusage, which: CpuClock) -> int:
    return usage.utime_ns if which is CpuClock.VIRT else usage.utime_ns + usage.stime_ns


def run_posix_cpu_timers(task: Task) -> None:
    """Processor time was charged to ``task``: run what has expired. Source: ``run_posix_cpu_timers``."""
    if task.cpu_timers is not None:
        _run_expired(task.cpu_timers, task.usage)
    signal = task.signal
    limit_s = signal.rlim.cur(Rlimit.CPU)
    if signal.cpu_timers is not None or limit_s != RLIM_INFINITY:
        usage = thread_group_usage(task)
        if signal.cpu_timers is not None:
            _run_expired(signal.cpu_timers, usage)
        if limit_s != RLIM_INFINITY:
            _check_cpu_limit(task, _sample(usage, CpuClock.PROF))


def _run_expired(timers: CpuTimers, usage: Rusage) -> None:
    for which, queue in enumerate(timers.queues):
        if queue.heap:
            queue.run_expired(_sample(usage, CpuClock(which)))


def _check_cpu_limit(task: Task, used_ns: int) -> None:
    """SIGXCPU each second from the soft limit on, SIGKILL at the hard one. Source: ``check_process_timers``."""
    soft_s, hard_s = task.signal.rlim.pairs[Rlimit.CPU]
    if hard_s != RLIM_INFINITY and used_ns >= hard_s * NSEC_PER_SEC:
        send_signal_locked(Signal.SIGKILL, kernel_siginfo(Signal.SIGKILL), task, PidType.TGID)
    elif used_ns >= soft_s * NSEC_PER_SEC:
        send_signal_locked(Signal.SIGXCPU, kernel_siginfo(Signal.SIGXCPU), task, PidType.TGID)
        task.signal.rlim.pairs[Rlimit.CPU] = (soft_s + 1, hard_s)


def has_cpu_timers(task: Task) -> bool:
    """Whether something waits for processor time of ``task``, so that its time should be looked at often."""
    return any(
        timers is not None and any(queue.heap for queue in timers.queues)
        for timers in (task.cpu_timers, task.signal.cpu_timers)
    )
