"""The thread that stops the processor."""

from __future__ import annotations

import threading
import time

from minikern.engine.cpu import Trap
from minikern.engine.ticker import Ticker
from tests.engine.guest import A1, CODE, Guest


class Counter:
    """A processor that only counts its stops."""

    def __init__(self) -> None:
        self.stops = 0
        self.stop_pending = False

    def stop(self) -> None:
        self.stops += 1


def test_ticks_while_something_runs() -> None:
    cpu, ticker = Counter(), Ticker(0.005)
    ticker.watch(cpu)
    time.sleep(0.2)
    ticker.park()
    time.sleep(0.02)
    stops = cpu.stops
    assert 5 <= stops <= 45
    time.sleep(0.05)
    assert cpu.stops == stops  # parked
    ticker.watch(cpu)
    time.sleep(0.1)
    assert cpu.stops > stops
    ticker.close()
    assert ticker.ticks == cpu.stops


def test_interval_can_be_changed_at_any_time() -> None:
    cpu, ticker = Counter(), Ticker(60.0)
    ticker.watch(cpu)
    time.sleep(0.05)
    assert cpu.stops == 0
    ticker.interval_s = 0.004
    time.sleep(0.1)
    assert cpu.stops >= 3
    ticker.close()


def test_stop_that_was_missed_is_repeated() -> None:
    cpu, ticker = Counter(), Ticker(60.0)
    cpu.stop_pending = True
    ticker.watch(cpu)
    time.sleep(0.1)
    ticker.close()
    assert cpu.stops >= 3


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    tickers = [Ticker(1.0) for _ in range(3)]
    tickers[1].watch(Counter())
    for ticker in tickers:
        ticker.close()
    assert threading.active_count() == before


def test_watch_and_park_in_quick_succession() -> None:
    cpu, ticker = Counter(), Ticker(0.001)
    for _ in range(2000):
        ticker.watch(cpu)
        ticker.park()
    ticker.watch(cpu)
    time.sleep(0.1)
    assert cpu.stops > 0
    ticker.close()


def test_preempts_a_loop(guest: Guest) -> None:
    ticker = Ticker(0.002)
    guest.put("spin")
    ticker.watch(guest.cpu)
    pc = CODE
    for _ in range(10):
        before = guest.regs[A1]
        assert guest.cpu.run(pc) is Trap.PREEMPT
        pc = guest.cpu.pc
        assert guest.regs[A1] >= before
    ticker.close()
    assert guest.regs[A1] > 1000
