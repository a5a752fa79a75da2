"""Clocks: what time it is, and sleeping until then.

Mirrors ``kernel/time/posix-timers.c`` (clock_*), ``kernel/time/hrtimer.c`` (nanosleep) and ``kernel/time/time.c``. The
machine's clocks are those of `minikern.host.sources` and cannot be set. Left out: clocks behind descriptors, and the
alarm clocks, which need a device that this machine does not have.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from minikern.kernel.cputime import NSEC_PER_SEC, NSEC_PER_USEC
from minikern.kernel.errno import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Errno, KernelError
from minikern.kernel.posix_cpu_timers import (
    CLOCK_RES_TICK_NS,
    CpuClock,
    CpuClockOf,
    make_process_cpuclock,
    pid_for_clock,
)
from minikern.kernel.syscalls import Int, Ptr, syscall
from minikern.kernel.timers import Timer
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

KTIME_MAX = (1 << 63) - 1  # ns; no moment is later
TIMER_ABSTIME = 1
_PAIR = struct.Struct("<2q")  # struct timespec, struct timeval
_TIMEZONE = struct.Struct("<2i")
_TIMEX = struct.Struct("<I4x4qi4x3q2qq2qi4x5qi44x")  # struct timex
assert _TIMEX.size == 208
_STA_UNSYNC = 0x40  # nobody disciplines the clock
_TIME_ERROR = 5  # so adjtimex says
_NTP_PHASE_LIMIT_US = 16_000_000
_NTP_TOLERANCE = 500 << 16  # scaled parts per million
_TICK_US = 10_000


class Clock(IntEnum):
    """Clock ids (``CLOCK_*``); negative ones name the CPU clock of a thread or process."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME_ID = 2
    THREAD_CPUTIME_ID = 3
    MONOTONIC_RAW = 4
    REALTIME_COARSE = 5
    MONOTONIC_COARSE = 6
    BOOTTIME = 7
    REALTIME_ALARM = 8
    BOOTTIME_ALARM = 9
    TAI = 11


_WALL: Final = frozenset({Clock.REALTIME, Clock.REALTIME_COARSE, Clock.TAI})
_SINCE_BOOT: Final = frozenset({Clock.MONOTONIC, Clock.MONOTONIC_RAW, Clock.MONOTONIC_COARSE, Clock.BOOTTIME})
_COARSE: Final = frozenset({Clock.REALTIME_COARSE, Clock.MONOTONIC_COARSE})
# The clocks that can be slept on and have timers.
HRTIMER_CLOCKS: Final = frozenset({Clock.REALTIME, Clock.MONOTONIC, Clock.BOOTTIME, Clock.TAI})


def cpu_clock(task: Task, clock: int, *, gettime: bool = False) -> CpuClockOf | None:
    """The CPU clock that a clock id means for ``task``; None: it is another clock. EINVAL: there is none such."""
    if clock == Clock.PROCESS_CPUTIME_ID:
        return make_process_cpuclock(task, CpuClock.SCHED)
    if clock == Clock.THREAD_CPUTIME_ID:
        assert task.thread_pid is not None
        return CpuClockOf(CpuClock.SCHED, task.thread_pid, thread=True)
    if clock >= 0:
        return None
    found = pid_for_clock(task, clock, gettime=gettime)
    if found is None:
        raise KernelError(Errno.EINVAL)
    return found


def clock_now_ns(kernel: Kernel, clock: int) -> int:
    """What a clock of the machine shows; EINVAL for others."""
    kernel.vdso.clock_was_read()
    if clock in _SINCE_BOOT:
        return kernel.sources.monotonic_ns()
    if clock in _WALL:
        return kernel.sources.realtime_ns()
    raise KernelError(Errno.EINVAL)


def to_monotonic_ns(kernel: Kernel, clock: int, moment_ns: int) -> int:
    """The moment at which ``clock`` will show ``moment_ns``, on the monotonic clock."""
    if clock in _SINCE_BOOT:
        return moment_ns
    return moment_ns - kernel.sources.realtime_ns() + kernel.sources.monotonic_ns()


# Guest structures


def get_timespec64(task: Task, address: int) -> tuple[int, int]:
    """Seconds and nanoseconds of a ``struct timespec``, unchecked. Source: ``kernel/time/time.c:get_timespec64``."""
    seconds, nanoseconds = _PAIR.unpack(copy_from_user(task, address, _PAIR.size))
    return seconds, nanoseconds


def timespec_to_ns(spec: tuple[int, int]) -> int:
    """Nanoseconds, at most KTIME_MAX; EINVAL when it is no valid time.

    Source: ``include/linux/time64.h:timespec64_valid`` and ``timespec64_to_ktime``.
    """
    seconds, nanoseconds = spec
    if seconds < 0 or not 0 <= nanoseconds < NSEC_PER_SEC:
        raise KernelError(Errno.EINVAL)
    return min(seconds * NSEC_PER_SEC + nanoseconds, KTIME_MAX)


def get_timespec_ns(task: Task, address: int) -> int:
    """A valid ``struct timespec`` in nanoseconds."""
    return timespec_to_ns(get_timespec64(task, address))


def put_timespec64(task: Task, address: int, time_ns: int) -> None:
    """Source: ``kernel/time/time.c:put_timespec64``."""
    copy_to_user(task, address, _PAIR.pack(*divmod(time_ns, NSEC_PER_SEC)))


def add_safe_ns(moment_ns: int, duration_ns: int) -> int:
    """A moment some time later, no later than KTIME_MAX (``ktime_add_safe``)."""
    return min(moment_ns + duration_ns, KTIME_MAX)


# Reading clocks


@syscall("clock_gettime")
def sys_clock_gettime(task: Task, which_clock: Int, tp: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:clock_gettime``."""
    if which_clock in (Clock.MONOTONIC, Clock.REALTIME):
        now_ns = clock_now_ns(task.kernel, which_clock)
    else:
        cpu = cpu_clock(task, which_clock, gettime=True)
        now_ns = cpu.now_ns() if cpu is not None else clock_now_ns(task.kernel, which_clock)
    put_timespec64(task, tp, now_ns)
    return 0


@syscall("clock_getres")
def sys_clock_getres(task: Task, which_clock: Int, tp: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:clock_getres``."""
    cpu = cpu_clock(task, which_clock)
    if cpu is not None:
        resolution_ns = 1 if cpu.which is CpuClock.SCHED else CLOCK_RES_TICK_NS
    elif which_clock in _SINCE_BOOT or which_clock in _WALL:
        resolution_ns = CLOCK_RES_TICK_NS if which_clock in _COARSE else 1
    else:
        raise KernelError(Errno.EINVAL)
    if tp:
        put_timespec64(task, tp, resolution_ns)
    return 0


@syscall("gettimeofday")
def sys_gettimeofday(task: Task, tv: Ptr, tz: Ptr) -> Result:
    """Source: ``kernel/time/time.c:gettimeofday``."""
    if tv:
        seconds, rest_ns = divmod(clock_now_ns(task.kernel, Clock.REALTIME), NSEC_PER_SEC)
        copy_to_user(task, tv, _PAIR.pack(seconds, rest_ns // NSEC_PER_USEC))
    if tz:
        copy_to_user(task, tz, _TIMEZONE.pack(0, 0))
    return 0


def do_time(task: Task, tloc: int) -> Result:
    """The body of time(2), which newer architectures lack. Source: ``kernel/time/time.c:time``."""
    seconds = clock_now_ns(task.kernel, Clock.REALTIME) // NSEC_PER_SEC
    if tloc:
        copy_to_user(task, tloc, struct.pack("<q", seconds))
    return seconds


# Setting clocks


@syscall("clock_settime", partial="the clock cannot be set")
def sys_clock_settime(task: Task, which_clock: Int, tp: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:clock_settime``."""
    cpu = cpu_clock(task, which_clock)
    if cpu is None and which_clock != Clock.REALTIME:
        raise KernelError(Errno.EINVAL)
    spec = get_timespec64(task, tp)
    if cpu is None:
        timespec_to_ns(spec)
    raise KernelError(Errno.EPERM)


@syscall("settimeofday", partial="the clock cannot be set")
def sys_settimeofday(task: Task, tv: Ptr, tz: Ptr) -> Result:
    """Source: ``kernel/time/time.c:settimeofday``."""
    if tv:
        seconds, microseconds = _PAIR.unpack(copy_from_user(task, tv, _PAIR.size))
        timespec_to_ns((seconds, microseconds * NSEC_PER_USEC))
    if tz:
        copy_from_user(task, tz, _TIMEZONE.size)
    raise KernelError(Errno.EPERM)


@syscall("adjtimex", partial="the clock cannot be set")
def sys_adjtimex(task: Task, txc_p: Ptr) -> Result:
    """Source: ``kernel/time/time.c:adjtimex``."""
    return _do_adjtimex(task, txc_p)


@syscall("clock_adjtime", partial="the clock cannot be set")
def sys_clock_adjtime(task: Task, which_clock: Int, utx: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:clock_adjtime``."""
    if which_clock != Clock.REALTIME:
        if cpu_clock(task, which_clock) is None:
            clock_now_ns(task.kernel, which_clock)
        raise KernelError(Errno.EOPNOTSUPP)
    return _do_adjtimex(task, utx)


def _do_adjtimex(task: Task, txc_p: int) -> Result:
    """Report a clock that runs true and that nobody adjusts."""
    modes = int.from_bytes(copy_from_user(task, txc_p, _TIMEX.size)[:4], "little")
    if modes:
        raise KernelError(Errno.EPERM)
    seconds, rest_ns = divmod(clock_now_ns(task.kernel, Clock.REALTIME), NSEC_PER_SEC)
    offset = frequency = 0
    errors_us = (_NTP_PHASE_LIMIT_US, _NTP_PHASE_LIMIT_US)
    time_constant, precision_us = 2, 1
    pps = (0, 0, 0, 0, 0, 0, 0, 0)
    timex = _TIMEX.pack(
        modes,
        offset,
        frequency,
        *errors_us,
        _STA_UNSYNC,
        time_constant,
        precision_us,
        _NTP_TOLERANCE,
        seconds,
        rest_ns // NSEC_PER_USEC,
        _TICK_US,
        *pps,
        0,  # TAI offset
    )
    copy_to_user(task, txc_p, timex)
    return _TIME_ERROR


# Sleeping


@syscall("nanosleep")
def sys_nanosleep(task: Task, rqtp: Ptr, rmtp: Ptr) -> Result:
    """Source: ``kernel/time/hrtimer.c:nanosleep``."""
    expires_ns = add_safe_ns(task.kernel.sources.monotonic_ns(), get_timespec_ns(task, rqtp))
    return _nanosleep(task, Clock.MONOTONIC, expires_ns, False, rmtp)


@syscall("clock_nanosleep")
def sys_clock_nanosleep(task: Task, which_clock: Int, flags: Int, rqtp: Ptr, rmtp: Ptr) -> Result:
    """Source: ``kernel/time/posix-timers.c:clock_nanosleep``."""
    absolute = flags & TIMER_ABSTIME != 0
    cpu = cpu_clock(task, which_clock) if which_clock != Clock.THREAD_CPUTIME_ID else None
    if cpu is None and which_clock not in HRTIMER_CLOCKS:
        if which_clock not in tuple(Clock):
            raise KernelError(Errno.EINVAL)
        raise KernelError(Errno.EOPNOTSUPP)
    time_ns = get_timespec_ns(task, rqtp)
    if cpu is not None:
        if cpu.thread and cpu.pid is task.thread_pid:
            raise KernelError(Errno.EINVAL)  # it does not run while it sleeps
        return _cpu_nanosleep(task, cpu, time_ns if absolute else cpu.now_ns() + time_ns, absolute, rmtp)
    if absolute:
        return _nanosleep(task, which_clock, time_ns, True, rmtp)
    expires_ns = add_safe_ns(task.kernel.sources.monotonic_ns(), time_ns)
    return _nanosleep(task, Clock.MONOTONIC, expires_ns, False, rmtp)


def _nanosleep(task: Task, clock: int, expires_ns: int, absolute: bool, rmtp: int) -> Result:
    """Sleep until ``clock`` shows ``expires_ns``. Source: ``kernel/time/hrtimer.c:do_nanosleep``."""
    return Wait(
        (),
        partial(_nanosleep_woken, task, clock, expires_ns, absolute, rmtp),
        deadline_ns=to_monotonic_ns(task.kernel, clock, expires_ns),
        interrupted=partial(_nanosleep_interrupted, task, clock, expires_ns, absolute, rmtp),
        wchan="hrtimer_nanosleep",
    )


def _nanosleep_woken(task: Task, clock: int, expires_ns: int, absolute: bool, rmtp: int) -> Result:
    if clock_now_ns(task.kernel, clock) >= expires_ns:
        return 0
    return _nanosleep(task, clock, expires_ns, absolute, rmtp)


def _nanosleep_interrupted(task: Task, clock: int, expires_ns: int, absolute: bool, rmtp: int) -> Result:
    """A signal came: say how much was left, and be ready to go on. Source: ``kernel/time/hrtimer.c:hrtimer_nanosleep``."""
    if absolute:
        return -ERESTARTNOHAND
    left_ns = expires_ns - clock_now_ns(task.kernel, clock)
    if left_ns <= 0:
        return 0
    if rmtp:
        put_timespec64(task, rmtp, left_ns)
    task.restart_block = partial(_nanosleep, task, clock, expires_ns, False, rmtp)
    return -ERESTART_RESTARTBLOCK


def _cpu_nanosleep(task: Task, cpu: CpuClockOf, expires_ns: int, absolute: bool, rmtp: int) -> Result:
    """Sleep until somebody has used that much processor time. Source: ``kernel/time/posix-cpu-timers.c:do_cpu_nanosleep``."""
    queue = cpu.queue()
    if queue is None or cpu.now_ns() >= expires_ns:
        return 0
    woken = WaitQueue()
    timer = Timer(expires_ns, woken.wake_up_all)
    queue.add(timer)
    return Wait(
        (woken,),
        partial(_cpu_nanosleep_woken, task, cpu, timer, absolute, rmtp),
        interrupted=partial(_cpu_nanosleep_interrupted, task, cpu, timer, absolute, rmtp),
        wchan="do_cpu_nanosleep",
    )


def _cpu_nanosleep_woken(task: Task, cpu: CpuClockOf, timer: Timer, absolute: bool, rmtp: int) -> Result:
    if (queue := cpu.queue()) is not None:
        queue.cancel(timer)
    return _cpu_nanosleep(task, cpu, timer.expires_ns, absolute, rmtp)


def _cpu_nanosleep_interrupted(task: Task, cpu: CpuClockOf, timer: Timer, absolute: bool, rmtp: int) -> Result:
    if (queue := cpu.queue()) is not None:
        queue.cancel(timer)
    left_ns = timer.expires_ns - cpu.now_ns()
    if left_ns <= 0:
        return 0
    if absolute:
        return -ERESTARTNOHAND
    if rmtp:
        put_timespec64(task, rmtp, left_ns)
    task.restart_block = partial(_cpu_nanosleep, task, cpu, timer.expires_ns, False, rmtp)
    return -ERESTART_RESTARTBLOCK
