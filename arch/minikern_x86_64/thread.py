"""What belongs to the registers of a task. Mirrors ``arch/x86/include/asm/processor.h:thread_struct``.

The kernel's ``orig_ax`` is not here: it is the number in ``Task.syscall``, which says the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from minikern.engine.context import Context

MASK64: Final = (1 << 64) - 1


class Flag(IntFlag):
    """Bits of RFLAGS (``X86_EFLAGS_*``)."""

    CF = 1 << 0
    FIXED = 1 << 1  # always set
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8  # trap after each instruction
    IF = 1 << 9  # always set in user mode
    DF = 1 << 10
    OF = 1 << 11
    NT = 1 << 14
    RF = 1 << 16
    AC = 1 << 18


@dataclass(slots=True, eq=False, repr=False)
class ThreadState:
    """One task's registers and what belongs to them."""

    context: Context  # every register; valid while the task is not loaded
    cr2: int = 0  # address of the last page fault
    error_code: int = 0  # of the last exception
    trap_nr: int = 0  # number of the last exception
    forced_tf: bool = False  # a tracer has set the trap flag, not the program (TIF_FORCED_TF)
    debugreg: list[int] = field(default_factory=lambda: [0] * 8)  # what a tracer wrote; it does not break anything
