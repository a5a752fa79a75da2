"""The machine underneath one kernel, in one place: clocks, descriptors, the ticker.

Host handles only; a copy of a kernel's state shares them.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minikern.engine.ticker import Ticker
from minikern.host.poller import Poller
from minikern.host.sources import HostSources, Sources

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu
    from minikern.host.terminal import Terminal

_SLICE_S = 0.004  # a time slice when several tasks can run, and the resolution of timers while one runs
_LONE_TICK_S = 0.1  # how late a host signal may be seen when only one task runs and no timer is armed


class Host:
    """Everything that a kernel needs of the host."""

    def __init__(self, sources: Sources | None = None) -> None:
        self.sources: Sources = sources if sources is not None else HostSources()
        self.poller = Poller()
        self.terminal: Terminal | None = None  # that of the console, raw while the kernel runs
        self._ticker: Ticker | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Host:
        return self

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While the kernel runs, the ticker exists, host signals are listened to, and the terminal is raw."""
        self._ticker = Ticker(_LONE_TICK_S)
        self.poller.signals.start()
        if self.terminal is not None:
            self.terminal.enter_raw()
            self.poller.signals.call(signal.SIGWINCH)  # its size may have changed before anybody listened
        try:
            yield
        finally:
            if self.terminal is not None:
                self.terminal.restore()
            self.poller.signals.close()
            self._ticker.close()
            self._ticker = None

    def enter(self, cpu: Cpu, *, soon: bool) -> None:
        """A task gets the processor; the tick comes soon when others wait for their turn or a timer is armed."""
        ticker = self._ticker
        assert ticker is not None
        ticker.interval_s = _SLICE_S if soon else _LONE_TICK_S
        ticker.watch(cpu)

    def block(self, timeout_ns: int | None) -> None:
        """Nothing can run: sleep until a descriptor is ready, a host signal comes, or the time is over."""
        assert self._ticker is not None
        self._ticker.park()
        self.poller.block(timeout_ns)
