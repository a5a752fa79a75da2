"""The timer interrupt: a host thread that stops the running processor again and again.

The counterpart of Linux's scheduler tick, `kernel/sched/core.c:sched_tick`, but for what it does: here a tick only makes
`Cpu.run` return PREEMPT, and the kernel decides what that means.  While nothing runs the thread is parked and costs
nothing.  Left out: exact times; a tick may be late by `_LONGEST_STEP_S`, and by as long as Python keeps the GIL.
"""

import contextlib
import threading
import time
from queue import Empty, SimpleQueue
from typing import Final, Protocol

# The thread looks this often whether the interval has become shorter: so a change is a plain store, without a wake-up.
_LONGEST_STEP_S: Final = 0.01


class Stoppable(Protocol):
    """What a Ticker needs of a processor."""

    @property
    def stop_pending(self) -> bool: ...
    def stop(self) -> None: ...


class Ticker:
    """One daemon thread that calls `stop()` of the processor it watches every `interval_s` seconds."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s  # may be changed at any time, by a plain store
        self.ticks = 0  # so far
        self._watched: Stoppable | None = None
        self._parked = False
        self._closed = False
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tick, name="minikern-ticker", daemon=True)
        self._thread.start()

    def watch(self, cpu: Stoppable) -> None:
        """`cpu` runs from now on."""
        self._watched = cpu
        if self._parked:  # the thread sets this before it looks at `_watched` for the last time
            self._wake_ups.put(None)

    def park(self) -> None:
        """Nothing runs until the next `watch`.  A tick that is under way may still come."""
        self._watched = None

    def close(self) -> None:
        """End the thread; no tick comes afterwards."""
        self._closed = True
        self.park()
        self._wake_ups.put(None)
        self._thread.join()

    def _tick(self) -> None:
        last = time.monotonic()
        while not self._closed:
            cpu = self._watched
            if cpu is None:
                self._parked = True
                if self._watched is None:
                    self._wake_ups.get()  # one that was not needed only makes this loop go round once more
                self._parked = False
                last = time.monotonic()
                continue
            with contextlib.suppress(Empty):  # nearly always; a wake-up makes `close` quick
                self._wake_ups.get(timeout=min(self.interval_s, _LONGEST_STEP_S))
            now = time.monotonic()
            # A stop that met the processor in the moment of entering was missed: it is still pending.
            if self._watched is cpu and (now - last >= self.interval_s or cpu.stop_pending):
                self.ticks += 1
                cpu.stop()
                last = now
