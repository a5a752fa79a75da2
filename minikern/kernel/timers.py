"""Timers: functions that run when the monotonic clock has reached a moment.

Mirrors ``kernel/time/hrtimer.c``, with one queue in place of one per clock and processor. The scheduler runs what
has expired between two tasks and sleeps no longer than until `TimerQueue.next_expiry`. Left out: slack, softirq
context; timers on other clocks are converted to the monotonic one by whoever arms them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

_REBUILD_AT = 64  # stale heap entries below this number are not worth a rebuild


@dataclass(slots=True, eq=False, repr=False)
class Timer:
    """One moment and what to do then (``struct hrtimer``)."""

    expires_ns: int  # on the monotonic clock
    function: Callable[[], object]  # bound method or functools.partial: timers are copied with the kernel's state
    serial: int = field(default=0, repr=False)  # which heap entry is the valid one; 0: not queued

    @property
    def queued(self) -> bool:
        """Whether it will still fire (``hrtimer_is_queued``)."""
        return self.serial != 0


@dataclass(slots=True, eq=False, repr=False)
class TimerQueue:
    """Armed timers, soonest first; those for the same moment run in the order in which they were added."""

    heap: list[tuple[int, int, Timer]] = field(default_factory=list)  # (expires_ns, serial, timer), stale ones too
    last_serial: int = 0  # every entry gets a number of its own
    stale: int = 0  # entries whose timer was cancelled or added again meanwhile

    def add(self, timer: Timer) -> None:
        """Arm ``timer``; one that is armed already moves to its new moment (``hrtimer_start``)."""
        self.cancel(timer)
        self.last_serial += 1
        timer.serial = self.last_serial
        heappush(self.heap, (timer.expires_ns, timer.serial, timer))

    def cancel(self, timer: Timer) -> bool:
        """Disarm ``timer``; says whether it was armed (``hrtimer_try_to_cancel``)."""
        if not timer.serial:
            return False
        timer.serial = 0
        self.stale += 1
        if self.stale > _REBUILD_AT and self.stale * 2 > len(self.heap):
            self.heap = [entry for entry in self.heap if entry[2].serial == entry[1]]
            heapify(self.heap)
            self.stale = 0
        return True

    def next_expiry(self) -> int | None:
        """When the next timer fires, in ns on the monotonic clock; None when there is none."""
        heap = self.heap
        while heap:
            expires_ns, serial, timer = heap[0]
            if timer.serial == serial:
                return expires_ns
            heappop(heap)
            self.stale -= 1
        return None

    def run_expired(self, now_ns: int) -> int:
        """Run every timer whose moment has come; returns how many. Source: ``__hrtimer_run_queues``.

        A timer may add itself or others again; what they add runs in the same pass if it is due.
        """
        count = 0
        while (expires_ns := self.next_expiry()) is not None and expires_ns <= now_ns:
            timer = heappop(self.heap)[2]
            timer.serial = 0
            timer.function()
            count += 1
        return count
