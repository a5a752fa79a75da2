"""timerfd: expirations of a timer, read from a descriptor.

Mirrors ``fs/timerfd.c``. Left out: alarm clocks; TFD_TIMER_CANCEL_ON_SET is accepted, but nothing sets the clock.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Fd, Int, Ptr, syscall
from minikern.kernel.time import (
    HRTIMER_CLOCKS,
    KTIME_MAX,
    get_timespec_ns,
    put_timespec64,
    to_monotonic_ns,
)
from minikern.kernel.timers import Timer
from minikern.kernel.waitqueue import Result, Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

_TICKS_BYTES = 8
_VALUE_OFFSET = 16  # of it_value in struct itimerspec, behind it_interval
_NSEC_PER_SEC = 10**9


@fast_flags
class Tfd(IntFlag):
    """Flags of timerfd_create and timerfd_settime (``TFD_*``)."""

    TIMER_ABSTIME = 0x1
    TIMER_CANCEL_ON_SET = 0x2
    NONBLOCK = OpenFlag.NONBLOCK
    CLOEXEC = OpenFlag.CLOEXEC


class TimerFd(AnonFile):
    """The file (``struct timerfd_ctx``)."""

    __slots__ = ("clock", "expired", "interval_ns", "kernel", "settime_flags", "ticks", "timer", "wqh")
    name = "[timerfd]"

    def __init__(self, task: Task, clock: int, flags: int) -> None:
        super().__init__(task, OpenFlag.RDWR | flags & OpenFlag.NONBLOCK)
        self.kernel: Kernel = task.kernel
        self.clock = clock
        self.timer = Timer(0, self.expire)
        self.interval_ns = 0
        self.ticks = 0  # expirations that were not read
        self.expired = False
        self.settime_flags = 0
        self.wqh = WaitQueue()

    def expire(self) -> None:
        """The timer's function; it is armed again by whoever looks. Source: ``fs/timerfd.c:timerfd_triggered``."""
        self.expired = True
        self.ticks += 1
        self.wqh.wake_up(key=Poll.IN)

    def _forward(self) -> None:
        """Count the intervals that have passed since the timer fired, and arm it again (``hrtimer_forward_now``)."""
        if self.expired and self.interval_ns:
            late_ns = self.kernel.sources.monotonic_ns() - self.timer.expires_ns
            intervals = max(0, late_ns) // self.interval_ns + 1
            self.ticks += intervals - 1
            self.timer.expires_ns += intervals * self.interval_ns
            self.kernel.timers.add(self.timer)
        self.expired = False

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """How often it expired since the last read. Source: ``fs/timerfd.c:timerfd_read_iter``."""
        if count < _TICKS_BYTES:
            raise KernelError(Errno.EINVAL)
        if not self.ticks:
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            return Wait((self.wqh,), wchan="timerfd_read_iter")
        self._forward()
        ticks, self.ticks = self.ticks, 0
        return ticks.to_bytes(_TICKS_BYTES, "little")

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``fs/timerfd.c:timerfd_poll``."""
        if queues is not None:
            queues.append(self.wqh)
        return Poll.IN if self.ticks else 0

    def release(self) -> None:
        """Source: ``fs/timerfd.c:timerfd_release``."""
        self.kernel.timers.cancel(self.timer)

    def setup(self, flags: int, value_ns: int, interval_ns: int) -> None:
        """Arm it, or disarm it with 0. Source: ``fs/timerfd.c:timerfd_setup``."""
        self.kernel.timers.cancel(self.timer)
        self.settime_flags = flags & (Tfd.TIMER_ABSTIME | Tfd.TIMER_CANCEL_ON_SET)
        self.expired = False
        self.ticks = 0
        self.interval_ns = interval_ns
        if value_ns:
            if flags & Tfd.TIMER_ABSTIME:
                moment = to_monotonic_ns(self.kernel, self.clock, value_ns)
            else:
                moment = min(self.kernel.sources.monotonic_ns() + value_ns, KTIME_MAX)
            self.timer.expires_ns = moment
            self.kernel.timers.add(self.timer)

    def remaining_ns(self) -> int:
        """Time until the next expiration; 0: not armed. Source: ``fs/timerfd.c:timerfd_get_remaining``."""
        if not self.timer.queued:
            return 0
        return max(1, self.timer.expires_ns - self.kernel.sources.monotonic_ns())

    def gettime(self) -> tuple[int, int]:
        """Remaining time and interval."""
        if self.expired and self.interval_ns:
            self._forward()
        return self.remaining_ns(), self.interval_ns

    def show_fdinfo(self) -> str:
        """Source: ``fs/timerfd.c:timerfd_show``."""
        value, interval = self.remaining_ns(), self.interval_ns
        return (
            f"clockid: {self.clock}\nticks: {self.ticks}\nsettime flags: 0{self.settime_flags:o}\n"
            f"it_value: ({value // _NSEC_PER_SEC}, {value % _NSEC_PER_SEC})\n"
            f"it_interval: ({interval // _NSEC_PER_SEC}, {interval % _NSEC_PER_SEC})\n"
        )


def _timerfd_fget(task: Task, fd: int) -> TimerFd:
    assert task.files is not None
    file = task.files.fget(fd)
    if not isinstance(file, TimerFd):
        raise KernelError(Errno.EINVAL)
    return file


def _put_itimerspec(task: Task, address: int, value_ns: int, interval_ns: int) -> None:
    put_timespec64(task, address, interval_ns)
    put_timespec64(task, address + _VALUE_OFFSET, value_ns)


@syscall("timerfd_create")
def sys_timerfd_create(task: Task, clockid: Int, flags: Int) -> Result:
    """Source: ``fs/timerfd.c:timerfd_create``."""
    if flags & ~int(Tfd.NONBLOCK | Tfd.CLOEXEC) or clockid not in HRTIMER_CLOCKS:
        raise KernelError(Errno.EINVAL)
    return anon_inode_getfd(task, TimerFd(task, clockid, flags), cloexec=bool(flags & Tfd.CLOEXEC))


@syscall("timerfd_settime")
def sys_timerfd_settime(task: Task, ufd: Fd, flags: Int, utmr: Ptr, otmr: Ptr) -> Result:
    """Source: ``fs/timerfd.c:do_timerfd_settime``."""
    interval_ns = get_timespec_ns(task, utmr)
    value_ns = get_timespec_ns(task, utmr + _VALUE_OFFSET)
    if flags & ~int(Tfd.TIMER_ABSTIME | Tfd.TIMER_CANCEL_ON_SET):
        raise KernelError(Errno.EINVAL)
    file = _timerfd_fget(task, ufd)
    old = file.gettime()
    file.setup(flags, value_ns, interval_ns)
    if otmr:
        _put_itimerspec(task, otmr, *old)
    return 0


@syscall("timerfd_gettime")
def sys_timerfd_gettime(task: Task, ufd: Fd, otmr: Ptr) -> Result:
    """Source: ``fs/timerfd.c:do_timerfd_gettime``."""
    _put_itimerspec(task, otmr, *_timerfd_fget(task, ufd).gettime())
    return 0
