"""Waiting for the host: for descriptors that tasks sleep on, and for signals.

A task that would block on a host descriptor sleeps on a wait queue of the poller instead. `Poller.check` looks, without
waiting, whether the host has made any of these ready; `Poller.block` is what the machine does when nothing can run.
There is no counterpart in Linux; the nearest thing are interrupts.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from minikern.kernel.waitqueue import WaitQueue

_NSEC_PER_MSEC = 10**6
_NSEC_PER_SEC = 10**9


@dataclass(slots=True, eq=False, repr=False)
class Poller:
    """The host descriptors that tasks of one kernel wait for, and the host signals that it wants to hear of."""

    queues: dict[tuple[int, int], WaitQueue] = field(default_factory=dict)  # (host fd, POLLIN or POLLOUT)
    armed: set[tuple[int, int]] = field(default_factory=set)  # those that somebody asked for since they were ready last
    signals: HostSignals = field(default_factory=lambda: HostSignals())

    @property
    def waiting(self) -> bool:
        """Whether a host descriptor can wake a task."""
        return bool(self.armed)

    def wait_queue(self, fd: int, for_write: bool, *, arm: bool = True) -> WaitQueue:
        """Where to sleep until ``fd`` is ready; ask again for every sleep, since a queue is woken only once.

        With ``arm`` False the queue is only looked up: the descriptor was just found to be ready.
        """
        key = (fd, select.POLLOUT if for_write else select.POLLIN)
        if arm:
            self.armed.add(key)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = WaitQueue()
        return queue

    def forget(self, fd: int) -> None:
        """The host descriptor is about to be closed."""
        for key in [key for key in self.queues if key[0] == fd]:
            del self.queues[key]
            self.armed.discard(key)

    def check(self) -> bool:
        """Run handlers of host signals that have come and wake who waits for a descriptor that is ready; never waits."""
        handled = self.signals.run_pending()
        return (bool(self.armed) and self._poll(0)) or handled

    def block(self, timeout_ns: int | None) -> bool:
        """The same, but wait for it: at most ``timeout_ns``, for ever when None."""
        if self.signals.run_pending():
            return True
        if timeout_ns is None:
            woken = self._poll(None)
        else:
            # The host counts whole milliseconds; the rest of the time is slept, and nothing else matters meanwhile.
            end_ns = time.monotonic_ns() + timeout_ns
            woken = self._poll(timeout_ns // _NSEC_PER_MSEC)
            rest_ns = end_ns - time.monotonic_ns()
            if not woken and 0 < rest_ns < _NSEC_PER_MSEC:
                time.sleep(rest_ns / _NSEC_PER_SEC)
        return self.signals.run_pending() or woken

    def _poll(self, timeout_ms: int | None) -> bool:
        """Ask the host; wake the queues of what is ready."""
        poll = select.poll()
        wanted: dict[int, int] = {}
        for fd, event in self.armed:
            wanted[fd] = wanted.get(fd, 0) | event
        if timeout_ms != 0 and self.signals.wakeup_fd is not None:
            wanted[self.signals.wakeup_fd] = select.POLLIN
        for fd, events in wanted.items():
            poll.register(fd, events)
        woken = False
        for fd, events in poll.poll(timeout_ms):
            if fd == self.signals.wakeup_fd:
                self.signals.drain()
                woken = True
                continue
            for event in (select.POLLIN, select.POLLOUT):
                # An error or a hang-up concerns readers and writers alike.
                if events & ~(select.POLLIN | select.POLLOUT) or events & event:
                    self._wake((fd, event))
            woken = True
        return woken

    def _wake(self, key: tuple[int, int]) -> None:
        if key in self.armed:
            self.armed.discard(key)
            self.queues[key].wake_up_all()


class WakeFunction:
    """A callback for a wait queue that just calls a function (a bound method, so that it can be copied)."""

    __slots__ = ("exclusive", "function")

    def __init__(self, function: Callable[[], None]) -> None:
        self.exclusive = False
        self.function = function

    def wake(self, key: int) -> bool:
        """Call it."""
        self.function()
        return True


class HostSignals:
    """Signals that the host sends to this process. A handle: copies of the kernel share it.

    Python may run a signal handler between any two instructions, so ours only takes a note; what is to be done is
    done by `run_pending`, where the kernel is in order.
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}  # by signal number
        self.pending: list[int] = []
        self.wakeup_fd: int | None = None  # readable after a signal; None: not listening
        self._write_fd = -1
        self._old_handlers: dict[int, Any] = {}
        self._old_wakeup_fd = -1

    def __deepcopy__(self, memo: dict[int, object]) -> HostSignals:
        return self

    def handle(self, signum: int, function: Callable[[], None]) -> None:
        """Have ``function`` called, by `Poller.check` or `Poller.block`, after host signal ``signum``."""
        self.handlers[signum] = function
        if self.wakeup_fd is not None:
            self._install(signum)

    def start(self) -> None:
        """Begin to listen; without effect outside the main thread, where Python allows no handlers."""
        if self.wakeup_fd is not None or threading.current_thread() is not threading.main_thread():
            return
        self.wakeup_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wakeup_fd, False)
        os.set_blocking(self._write_fd, False)
        self._old_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for signum in self.handlers:
            self._install(signum)

    def close(self) -> None:
        """Give every signal its old handler back."""
        if self.wakeup_fd is None:
            return
        while self._old_handlers:
            signal.signal(*self._old_handlers.popitem())
        signal.set_wakeup_fd(self._old_wakeup_fd)
        os.close(self.wakeup_fd)
        os.close(self._write_fd)
        self.wakeup_fd = None

    def _install(self, signum: int) -> None:
        old = signal.signal(signum, self._note)
        self._old_handlers.setdefault(signum, old)

    def run_pending(self) -> bool:
        """Call the handlers of what has come; says whether anything had."""
        if not self.pending:
            return False
        while self.pending:
            self.handlers[self.pending.pop(0)]()
        return True

    def call(self, signum: int) -> None:
        """Do at once what is to be done after ``signum``, if anything is."""
        handler = self.handlers.get(signum)
        if handler is not None:
            handler()

    def drain(self) -> None:
        """Empty the wake-up descriptor."""
        assert self.wakeup_fd is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_fd, 4096)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.pending.append(signum)
