"""Waiting for the host: descriptors, time, signals."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Iterator

import pytest

from minikern.host.poller import Poller, WakeFunction

MS = 1_000_000


class Counter:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_queue_is_woken_when_the_descriptor_is_ready(pipe: tuple[int, int]) -> None:
    poller, woken = Poller(), Counter()
    poller.wait_queue(pipe[0], False).add_callback(WakeFunction(woken))
    assert poller.waiting and not poller.check() and woken.count == 0
    os.write(pipe[1], b"x")
    assert poller.check() and woken.count == 1


def test_once_for_each_time_that_it_was_asked_for(pipe: tuple[int, int]) -> None:
    poller, woken = Poller(), Counter()
    poller.wait_queue(pipe[0], False).add_callback(WakeFunction(woken))
    os.write(pipe[1], b"x")
    poller.check()
    assert not poller.waiting and not poller.check() and woken.count == 1
    poller.wait_queue(pipe[0], False)
    assert poller.check() and woken.count == 2


def test_reading_and_writing_are_apart(pipe: tuple[int, int]) -> None:
    poller, readable, writable = Poller(), Counter(), Counter()
    poller.wait_queue(pipe[0], False).add_callback(WakeFunction(readable))
    poller.wait_queue(pipe[1], True).add_callback(WakeFunction(writable))
    poller.check()
    assert (readable.count, writable.count) == (0, 1)


def test_a_hang_up_wakes(pipe: tuple[int, int]) -> None:
    poller, woken = Poller(), Counter()
    reader, writer = os.pipe()
    poller.wait_queue(reader, False).add_callback(WakeFunction(woken))
    os.close(writer)
    assert poller.check() and woken.count == 1
    poller.forget(reader)
    os.close(reader)
    assert not poller.waiting


def test_blocking_ends_with_the_time(pipe: tuple[int, int]) -> None:
    poller = Poller()
    poller.wait_queue(pipe[0], False)
    for timeout_ns in (300_000, 20 * MS):
        begin = time.monotonic_ns()
        assert not poller.block(timeout_ns)
        assert time.monotonic_ns() - begin >= timeout_ns


def test_blocking_ends_with_a_descriptor(pipe: tuple[int, int]) -> None:
    poller = Poller()
    poller.wait_queue(pipe[0], False)
    os.write(pipe[1], b"x")
    begin = time.monotonic_ns()
    assert poller.block(10_000 * MS) and time.monotonic_ns() - begin < 5_000 * MS


def test_signals_are_handled_where_the_kernel_is_in_order() -> None:
    poller, seen = Poller(), Counter()
    before = signal.getsignal(signal.SIGUSR1)
    poller.signals.handle(signal.SIGUSR1, seen)
    assert signal.getsignal(signal.SIGUSR1) == before  # not before it is started
    poller.signals.start()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen.count == 0
        assert poller.check() and seen.count == 1
        os.kill(os.getpid(), signal.SIGUSR1)
        assert poller.block(None) and seen.count == 2
    finally:
        poller.signals.close()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_signal_ends_blocking() -> None:
    poller, seen = Poller(), Counter()
    poller.signals.handle(signal.SIGALRM, seen)
    poller.signals.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin = time.monotonic_ns()
        assert poller.block(10_000 * MS)
        assert seen.count == 1 and time.monotonic_ns() - begin < 5_000 * MS
    finally:
        poller.signals.close()


def test_copies_share_the_signals_only(pipe: tuple[int, int]) -> None:
    poller = Poller()
    poller.wait_queue(pipe[0], False)
    twin = copy.deepcopy(poller)
    assert twin.signals is poller.signals
    assert twin.armed == poller.armed and twin.armed is not poller.armed
