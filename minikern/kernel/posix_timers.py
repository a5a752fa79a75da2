"""POSIX timers: any number per process, on any clock, telling by signal or not at all.

Mirrors ``kernel/time/posix-timers.c``. A periodic timer is armed again when its signal is taken, not when it is
sent, so a process that does not take it is not flooded; what it missed is counted as overruns. Left out: creation
with a chosen id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import Pid
from minikern.kernel.posix_cpu_timers import CLOCK_RES_TICK_NS, CpuClockOf
from minikern.kernel.siginfo import Layout, SiCode, SigInfo, Signal
from minikern.kernel.signal import complete_signal, prepare_signal, sigmask
from minikern.kernel.syscalls import Int, Ptr, syscall
from minikern.kernel.task import NSIG, PidType
from minikern.kernel.time import (
    HRTIMER_CLOCKS,
    TIMER_ABSTIME,
    Clock,
    add_safe_ns,
    clock_now_ns,
    cpu_clock,
    get_timespec_ns,
    put_timespec64,
    to_monotonic_ns,
)
from minikern.kernel.timers import Timer, TimerQueue
from minikern.mm.uaccess import copy_from_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

SIGEVENT = struct.Struct("<Qiii44x")  # struct sigevent: value, signo, notify, tid
assert SIGEVENT.size == 64
_TIMESPEC_SIZE = 16
_INT_MAX = (1 << 31) - 1


class SigEv(IntEnum):
    """How a timer tells that it expired (``SIGEV_*``)."""

    SIGNAL = 0
    NONE = 1
    THREAD = 2  # the C library's business: a signal to the kernel
    THREAD_ID = 4  # a signal to one thread


def forward(expires_ns: int, now_ns: int, interval_ns: int) -> tuple[int, int]:
    """The first expiry after ``now_ns`` in steps of the interval, and how many steps that were (``hrtimer_forward``)."""
    if expires_ns > now_ns:
        return expires_ns, 0
    steps = (now_ns - expires_ns) // interval_ns + 1
    return expires_ns + steps * interval_ns, steps


@dataclass(slots=True, eq=False, repr=False)
class PosixTimer:
    """One timer (``struct k_itimer``). Times are ns on its own clock."""

    kernel: Kernel
    number: int  # timer id
    clock: int | CpuClockOf  # `Clock`, or somebody's processor time
    notify: SigEv
    pid: Pid  # who is told: a thread for SIGEV_THREAD_ID, else the process
    signo: int
    value: int  # sigval
    expires_ns: int = 0
    interval_ns: int = 0  # 0: once
    active: bool = False  # will expire
    requeue_pending: bool = False  # a signal is out; taking it arms the timer again
    overrun: int = -1  # expiries since the signal was sent, that one not counted
    overrun_last: int = 0  # what the signal taken last reported
    queued: SigInfo | None = field(default=None, repr=False)  # the signal sent last
    timer: Timer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.timer = Timer(0, self.expire)

    def now_ns(self) -> int:
        """What its clock shows."""
        if isinstance(self.clock, CpuClockOf):
            return self.clock.now_ns()
        return clock_now_ns(self.kernel, self.clock)

    def _queue(self) -> TimerQueue | None:
        return self.clock.queue() if isinstance(self.clock, CpuClockOf) else self.kernel.timers

    def _arm(self) -> None:
        if isinstance(self.clock, CpuClockOf):
            self.timer.expires_ns = self.expires_ns
        else:
            self.timer.expires_ns = to_monotonic_ns(self.kernel, self.clock, self.expires_ns)
        self.active = True
        if (queue := self._queue()) is not None:
            queue.add(self.timer)
            self.kernel.need_resched = True  # whoever runs now gets ticks that are short enough for the timer

    def disarm(self) -> None:
        """It will not expire any more."""
        self.active = False
        self.requeue_pending = False
        if (queue := self._queue()) is not None:
            queue.cancel(self.timer)

    def expire(self) -> None:
        """The moment has come. Source: ``kernel/time/posix-timers.c:posix_timer_fn``."""
        self.active = False
        self.requeue_pending = self.interval_ns > 0
        if self._send() or not self.interval_ns:
            return
        # Ignored, so nobody will take a signal. Go on, but no faster than a tick: it leads to nothing.
        now_ns = self.now_ns()
        if self.interval_ns < CLOCK_RES_TICK_NS:
            now_ns += CLOCK_RES_TICK_NS
        self._forward(now_ns)
        self.requeue_pending = False
        self._arm()

    def signal_dequeued(self, info: SigInfo) -> bool:
        """Its signal was taken: report what was missed, and go on. Source: ``posixtimer_rearm``."""
        if self.requeue_pending and self.interval_ns:
            self._forward(self.now_ns())
            self.overrun_last, self.overrun = self.overrun, -1
            self.requeue_pending = False
            self._arm()
            info.overrun = min(self.overrun_last + info.overrun, _INT_MAX)
        return True

    def _forward(self, now_ns: int) -> None:
        self.expires_ns, steps = forward(self.expires_ns, now_ns, self.interval_ns)
        self.overrun += steps

    def _send(self) -> bool:
        """Queue the signal; False: it is ignored. Source: ``kernel/signal.c:send_sigqueue``."""
        kind = PidType.PID if self.notify is SigEv.THREAD_ID else PidType.TGID
        target = self.pid.task(kind)
        if target is None or target.sighand is None:
            return True
        if not prepare_signal(self.signo, target, False):
            return False
        pending = target.pending if kind is PidType.PID else target.signal.shared_pending
        if self.queued is not None and self.queued in pending.queue:
            self.queued.overrun += 1
            return True
        self.queued = SigInfo(
            self.signo, SiCode.SI_TIMER, layout=Layout.TIMER, timer_id=self.number, value=self.value, timer=self
        )
        target.sighand.signalfd_wqh.wake_up_all()
        pending.queue.append(self.queued)
        pending.signal |= sigmask(self.signo)
        complete_signal(self.signo, target, kind)
        return True

    def get(self) -> tuple[int, int]:
        """Interval and time left in ns; 0: it will not expire. Source: ``common_timer_get``."""
        silent = self.notify is SigEv.NONE
        if not self.expires_ns or (not self.interval_ns and not self.active and not silent):
            return self.interval_ns, 0
        now_ns = self.now_ns()
        if self.interval_ns and (self.requeue_pending or silent):
            self._forward(now_ns)
        left_ns = self.expires_ns - now_ns
        if left_ns <= 0:
            left_ns = 0 if silent else 1  # expired, but its signal is still to be sent
        return self.interval_ns, left_ns

    def set(self, interval_ns: int, value_ns: int, *, absolute: bool) -> None:
        """Start it anew; value 0 stops it. Source: ``common_timer_set``."""
        self.disarm()
        self.interval_ns = 0
        self.expires_ns = 0
        self.overrun, self.overrun_last = -1, 0
        if not value_ns:
            return
        self.interval_ns = interval_ns
        self.expires_ns = value_ns if absolute else add_safe_ns(self.now_ns(), value_ns)
        if self.notify is not SigEv.NONE:
            self._arm()


@syscall("timer_create")
def sys_timer_create(task: Task, which_clock: Int, timer_event_spec: Ptr, created_timer_id: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:timer_create``."""
    event = None
    if timer_event_spec:
        event = SIGEVENT.unpack(copy_from_user(task, timer_event_spec, SIGEVENT.size))
    clock = _timer_clock(task, which_clock)

    signal = task.signal
    number = signal.next_posix_timer_id
    signal.next_posix_timer_id = (number + 1) & _INT_MAX
    value, signo, notify, tid = event or (number, Signal.SIGALRM, SigEv.SIGNAL, 0)
    pid = _good_sigevent(task, signo, notify, tid)
    timer = PosixTimer(task.kernel, number, clock, SigEv(notify), pid, signo, value)
    put_user(task, created_timer_id, number, 4)
    signal.posix_timers[number] = timer
    return 0


def _timer_clock(task: Task, which_clock: int) -> int | CpuClockOf:
    cpu = cpu_clock(task, which_clock)
    if cpu is not None:
        return cpu
    if which_clock in HRTIMER_CLOCKS:
        return which_clock
    raise KernelError(Errno.EOPNOTSUPP if which_clock in tuple(Clock) else Errno.EINVAL)


def _good_sigevent(task: Task, signo: int, notify: int, tid: int) -> Pid:
    """Who is told; EINVAL when the event makes no sense. Source: ``kernel/time/posix-timers.c:good_sigevent``."""
    pid = task.signal.pids[PidType.TGID]
    if notify not in tuple(SigEv):
        raise KernelError(Errno.EINVAL)
    if notify == SigEv.THREAD_ID:
        pid = task.kernel.pids.find(tid)
        thread = pid.task(PidType.PID) if pid is not None else None
        if thread is None or thread.signal is not task.signal:
            raise KernelError(Errno.EINVAL)
    if notify != SigEv.NONE and not 0 < signo <= NSIG:
        raise KernelError(Errno.EINVAL)
    assert pid is not None
    return pid


def _lock_timer(task: Task, number: int) -> PosixTimer:
    timer = task.signal.posix_timers.get(number)
    if timer is None:
        raise KernelError(Errno.EINVAL)
    return timer


def _put_itimerspec64(task: Task, address: int, setting: tuple[int, int]) -> None:
    interval_ns, value_ns = setting
    put_timespec64(task, address, interval_ns)
    put_timespec64(task, address + _TIMESPEC_SIZE, value_ns)


@syscall("timer_gettime")
def sys_timer_gettime(task: Task, timer_id: Int, setting: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:timer_gettime``."""
    _put_itimerspec64(task, setting, _lock_timer(task, timer_id).get())
    return 0


@syscall("timer_getoverrun")
def sys_timer_getoverrun(task: Task, timer_id: Int) -> Result:
    """Expiries that the signal taken last did not tell one by one. Source: ``timer_getoverrun``."""
    return min(_lock_timer(task, timer_id).overrun_last, _INT_MAX)


@syscall("timer_settime")
def sys_timer_settime(task: Task, timer_id: Int, flags: Int, new_setting: Ptr, old_setting: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:timer_settime``."""
    if not new_setting:
        raise KernelError(Errno.EINVAL)
    interval_ns = get_timespec_ns(task, new_setting)
    value_ns = get_timespec_ns(task, new_setting + _TIMESPEC_SIZE)
    timer = _lock_timer(task, timer_id)
    old = timer.get()
    timer.set(interval_ns, value_ns, absolute=flags & TIMER_ABSTIME != 0)
    if old_setting:
        _put_itimerspec64(task, old_setting, old)
    return 0


@syscall("timer_delete")
def sys_timer_delete(task: Task, timer_id: Int) -> Result:
    """A signal that is out stays out. Source: ``kernel/time/posix-timers.c:timer_delete``."""
    _lock_timer(task, timer_id).disarm()
    del task.signal.posix_timers[timer_id]
    return 0


def exit_itimers(task: Task) -> None:
    """Delete every timer of the process, at exec and when it dies. Source: ``kernel/time/posix-timers.c:exit_itimers``."""
    for timer in task.signal.posix_timers.values():
        timer.disarm()
    task.signal.posix_timers.clear()


def flush_itimer_signals(task: Task) -> None:
    """Exec forgets signals of the timers that it deletes. Source: ``kernel/signal.c:flush_itimer_signals``."""
    for pending in (task.pending, task.signal.shared_pending):
        flushed = kept = 0
        for info in pending.queue:
            if info.code == SiCode.SI_TIMER:
                flushed |= sigmask(info.signo)
            else:
                kept |= sigmask(info.signo)
        pending.queue = [info for info in pending.queue if info.code != SiCode.SI_TIMER]
        pending.signal &= kept | ~flushed
