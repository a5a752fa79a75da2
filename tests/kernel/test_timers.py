"""The timer queue: order, cancelling, moving, and copies."""

from __future__ import annotations

import copy
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from minikern.kernel.timers import Timer, TimerQueue


def test_timers_run_in_order_of_expiry_then_of_arming() -> None:
    queue = TimerQueue()
    log: list[object] = []
    for name, expires_ns in (("late", 30), ("first", 10), ("second", 10), ("never", 31)):
        queue.add(Timer(expires_ns, partial(log.append, name)))
    assert queue.next_expiry() == 10
    assert queue.run_expired(30) == 3
    assert log == ["first", "second", "late"]
    assert queue.next_expiry() == 31


def test_a_cancelled_timer_does_not_run() -> None:
    queue = TimerQueue()
    log: list[object] = []
    timer = Timer(1, partial(log.append, 1))
    queue.add(timer)
    assert timer.queued and queue.cancel(timer) and not timer.queued
    assert not queue.cancel(timer)
    assert queue.next_expiry() is None
    assert queue.run_expired(5) == 0 and log == []


def test_adding_a_timer_again_moves_it() -> None:
    queue = TimerQueue()
    log: list[object] = []
    timer = Timer(1, partial(log.append, 1))
    queue.add(timer)
    timer.expires_ns = 9
    queue.add(timer)
    assert queue.run_expired(8) == 0
    assert queue.run_expired(9) == 1 and log == [1]


def test_a_timer_may_arm_others_while_it_runs() -> None:
    queue = TimerQueue()
    log: list[object] = []
    second = Timer(2, partial(log.append, "second"))
    queue.add(Timer(1, partial(queue.add, second)))
    assert queue.run_expired(2) == 2 and log == ["second"]


def test_stale_entries_do_not_pile_up() -> None:
    queue = TimerQueue()
    timers = [Timer(each, list) for each in range(1000)]
    for timer in timers:
        queue.add(timer)
        queue.cancel(timer)
    assert len(queue.heap) < 200


def test_a_copy_is_independent() -> None:
    queue = TimerQueue()
    timer = Timer(5, list)
    queue.add(timer)
    other = copy.deepcopy(queue)
    queue.cancel(timer)
    assert queue.next_expiry() is None
    assert other.next_expiry() == 5 and other.run_expired(5) == 1


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(("add", "cancel", "run")))))
def test_it_agrees_with_a_sorted_list(steps: list[tuple[int, str]]) -> None:
    queue = TimerQueue()
    ran: list[int] = []
    timers = {number: Timer(number, partial(ran.append, number)) for number in range(21)}
    armed: set[int] = set()
    for number, what in steps:
        if what == "add":
            queue.add(timers[number])
            armed.add(number)
        elif what == "cancel":
            assert queue.cancel(timers[number]) == (number in armed)
            armed.discard(number)
        else:
            ran.clear()
            queue.run_expired(number)
            assert ran == sorted(each for each in armed if each <= number)
            armed = {each for each in armed if each > number}
        assert queue.next_expiry() == min(armed, default=None)
