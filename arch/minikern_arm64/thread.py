"""What belongs to the registers of a task. Mirrors ``arch/arm64/include/asm/processor.h:thread_struct``.

The kernel's ``orig_x0`` and ``syscallno`` are not here: `Task.syscall` says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from minikern.engine.context import Context

MASK64: Final = (1 << 64) - 1


class Psr(IntFlag):
    """Bits of PSTATE (``PSR_*_BIT``)."""

    MODE = 0x1F  # exception level and state; 0: EL0, 64-bit
    F = 1 << 6
    I = 1 << 7  # noqa: E741  # the architecture's name
    A = 1 << 8
    D = 1 << 9
    BTYPE = 3 << 10  # only with branch target identification, which programs are not offered
    SS = 1 << 21  # single step
    V = 1 << 28
    C = 1 << 29
    Z = 1 << 30
    N = 1 << 31
    FLAGS = N | Z | C | V  # what programs own


@dataclass(slots=True, eq=False, repr=False)
class ThreadState:
    """One task's registers and what belongs to them."""

    context: Context  # every register; valid while the task is not loaded
    fault_address: int = 0  # of the last fault
    fault_code: int = 0  # its syndrome (ESR); 0: none
    single_step: bool = False  # a tracer wants to stop after each instruction (TIF_SINGLESTEP)
