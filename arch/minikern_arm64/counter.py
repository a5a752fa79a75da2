"""The virtual counter that programs read: to the engine it is the host's monotonic clock in units of 16 ns."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

COUNTER_FREQUENCY: Final = 62_500_000  # Hz
_PERIOD_NS: Final = 1_000_000_000 // COUNTER_FREQUENCY
_READ_COUNTER: Final = struct.pack(
    "<3I",
    0xD53BE040,  # mrs x0, cntvct_el0
    0xD53BE001,  # mrs x1, cntfrq_el0
    0xD4000001,  # svc #0
)


def host_counter() -> int:
    """What the counter shows now."""
    return time.monotonic_ns() // _PERIOD_NS


def counts_host_clock(cpu: Cpu) -> bool:
    """Whether the engine's counter is that clock on this host. Only before user code runs."""
    before = host_counter()
    cpu.execute(_READ_COUNTER)
    return cpu.regs[1] == COUNTER_FREQUENCY and before <= cpu.regs[0] <= host_counter()
