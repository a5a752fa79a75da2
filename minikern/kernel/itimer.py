"""The three interval timers that every process has, and alarm.

Mirrors ``kernel/time/itimer.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.cputime import NSEC_PER_SEC, NSEC_PER_USEC
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import Pid
from minikern.kernel.posix_cpu_timers import CLOCK_RES_TICK_NS, CpuClock, CpuClockOf, make_process_cpuclock
from minikern.kernel.posix_timers import forward
from minikern.kernel.siginfo import SigInfo, Signal
from minikern.kernel.signal import kernel_siginfo, send_signal_locked
from minikern.kernel.syscalls import Int, Ptr, syscall
from minikern.kernel.task import PidType
from minikern.kernel.time import add_safe_ns, timespec_to_ns
from minikern.kernel.timers import Timer
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_ITIMERVAL = struct.Struct("<4q")  # struct itimerval: interval, value


class ItimerWhich(IntEnum):
    """Which of the three (``ITIMER_*``)."""

    REAL = 0  # SIGALRM after real time
    VIRTUAL = 1  # SIGVTALRM after user time
    PROF = 2  # SIGPROF after user and system time


_CPU_CLOCK = {ItimerWhich.VIRTUAL: CpuClock.VIRT, ItimerWhich.PROF: CpuClock.PROF}
_CPU_SIGNAL = {ItimerWhich.VIRTUAL: Signal.SIGVTALRM, ItimerWhich.PROF: Signal.SIGPROF}


@dataclass(slots=True, eq=False, repr=False)
class RealTimer:
    """ITIMER_REAL. It is armed again when its signal is taken, as POSIX timers are."""

    kernel: Kernel
    pid: Pid  # the process
    interval_ns: int = 0
    timer: Timer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.timer = Timer(0, self.expire)

    def expire(self) -> None:
        """Source: ``kernel/time/itimer.c:it_real_fn``."""
        task = self.pid.task(PidType.TGID)
        if task is None or task.sighand is None:
            return
        send_signal_locked(Signal.SIGALRM, kernel_siginfo(Signal.SIGALRM), task, PidType.TGID)
        for info in task.signal.shared_pending.queue:
            if info.signo == Signal.SIGALRM:  # ours, or one that was there before
                info.timer = self

    def signal_dequeued(self, info: SigInfo) -> bool:
        """A SIGALRM was taken. Source: ``kernel/signal.c:dequeue_signal``."""
        if self.interval_ns and not self.timer.queued:
            now_ns = self.kernel.sources.monotonic_ns()
            self.timer.expires_ns, _ = forward(self.timer.expires_ns, now_ns, self.interval_ns)
            self.kernel.timers.add(self.timer)
        return True

    def get(self) -> tuple[int, int]:
        """Interval and time left in ns. Source: ``itimer_get_remtime``."""
        if not self.timer.queued:
            return self.interval_ns, 0
        left_ns = self.timer.expires_ns - self.kernel.sources.monotonic_ns()
        return self.interval_ns, max(left_ns, NSEC_PER_USEC)  # not 0, which says that it is off

    def set(self, interval_ns: int, value_ns: int) -> None:
        """Start it anew; value 0 stops it."""
        self.kernel.timers.cancel(self.timer)
        self.interval_ns = interval_ns if value_ns else 0
        if value_ns:
            self.timer.expires_ns = add_safe_ns(self.kernel.sources.monotonic_ns(), value_ns)
            self.kernel.timers.add(self.timer)
            self.kernel.need_resched = True  # whoever runs now gets ticks that are short enough for the timer


@dataclass(slots=True, eq=False, repr=False)
class CpuItimer:
    """ITIMER_VIRTUAL or ITIMER_PROF (``struct cpu_itimer``)."""

    kernel: Kernel
    clock: CpuClockOf
    signo: Signal
    interval_ns: int = 0
    timer: Timer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.timer = Timer(0, self.expire)

    def expire(self) -> None:
        """Source: ``kernel/time/posix-cpu-timers.c:check_cpu_itimer``."""
        task, queue = self.clock.task(), self.clock.queue()
        if task is None or queue is None or task.sighand is None:
            return
        if self.interval_ns:
            self.timer.expires_ns += self.interval_ns
            queue.add(self.timer)
        send_signal_locked(self.signo, kernel_siginfo(self.signo), task, PidType.TGID)

    def get(self) -> tuple[int, int]:
        """Interval and processor time left in ns. Source: ``kernel/time/itimer.c:get_cpu_itimer``."""
        if not self.timer.queued:
            return self.interval_ns, 0
        left_ns = self.timer.expires_ns - self.clock.now_ns()
        return self.interval_ns, left_ns if left_ns > 0 else CLOCK_RES_TICK_NS

    def set(self, interval_ns: int, value_ns: int) -> None:
        """Start it anew; value 0 stops it. Source: ``kernel/time/itimer.c:set_cpu_itimer``."""
        queue = self.clock.queue()
        assert queue is not None
        queue.cancel(self.timer)
        self.interval_ns = interval_ns
        if value_ns:
            self.timer.expires_ns = add_safe_ns(self.clock.now_ns(), value_ns)
            queue.add(self.timer)
            self.kernel.need_resched = True


def _itimer(task: Task, which: int) -> RealTimer | CpuItimer:
    """The process's timer, made when it is first asked for; EINVAL when there is none such."""
    if which not in tuple(ItimerWhich):
        raise KernelError(Errno.EINVAL)
    timer = task.signal.itimers[which]
    if timer is None:
        pid = task.signal.pids[PidType.TGID]
        assert pid is not None
        kind = ItimerWhich(which)
        if kind is ItimerWhich.REAL:
            timer = RealTimer(task.kernel, pid)
        else:
            timer = CpuItimer(task.kernel, make_process_cpuclock(task, _CPU_CLOCK[kind]), _CPU_SIGNAL[kind])
        task.signal.itimers[which] = timer
    return timer


@syscall("getitimer")
def sys_getitimer(task: Task, which: Int, value: Ptr) -> Result:
    """Source: ``kernel/time/itimer.c:getitimer``."""
    _put_itimerval(task, value, _itimer(task, which).get())
    return 0


@syscall("setitimer")
def sys_setitimer(task: Task, which: Int, value: Ptr, ovalue: Ptr) -> Result:
    """Source: ``kernel/time/itimer.c:setitimer``."""
    interval_ns = value_ns = 0
    if value:
        seconds, microseconds, value_s, value_us = _ITIMERVAL.unpack(copy_from_user(task, value, _ITIMERVAL.size))
        value_ns = timespec_to_ns((value_s, value_us * NSEC_PER_USEC))
        interval_ns = timespec_to_ns((seconds, microseconds * NSEC_PER_USEC))
    timer = _itimer(task, which)
    old = timer.get()
    timer.set(interval_ns, value_ns)
    if ovalue:
        _put_itimerval(task, ovalue, old)
    return 0


def _put_itimerval(task: Task, address: int, setting: tuple[int, int]) -> None:
    fields: list[int] = []
    for time_ns in setting:
        seconds, rest_ns = divmod(time_ns, NSEC_PER_SEC)
        fields += (seconds, rest_ns // NSEC_PER_USEC)
    copy_to_user(task, address, _ITIMERVAL.pack(*fields))


def alarm_setitimer(task: Task, seconds: int) -> int:
    """The body of alarm(2): how many seconds were left, rounded, but not to 0. Source: ``alarm_setitimer``."""
    timer = _itimer(task, ItimerWhich.REAL)
    _, left_ns = timer.get()
    timer.set(0, seconds * NSEC_PER_SEC)
    left_s, rest_ns = divmod(left_ns, NSEC_PER_SEC)
    if (not left_s and rest_ns) or rest_ns >= NSEC_PER_SEC // 2:
        left_s += 1
    return left_s


def cancel_real_timer(task: Task) -> None:
    """The process is dead: no alarm any more. The CPU timers never expire again by themselves."""
    timer = task.signal.itimers[ItimerWhich.REAL]
    if timer is not None:
        timer.set(0, 0)
