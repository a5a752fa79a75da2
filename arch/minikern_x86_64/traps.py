"""Exceptions: which signal each becomes, and what of it a signal frame shows.

Mirrors ``arch/x86/kernel/traps.c`` and ``arch/x86/mm/fault.c``. Left out: hardware breakpoints, machine checks, and
what the engine does not check: alignment (AC flag, aligned SSE operands) and unmasked floating-point exceptions.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.engine.cpu import INVALID_INSTRUCTION, TABLE_SHIFT, Access
from minikern.kernel.siginfo import FaultCode, Layout, SiCode, SigInfo, Signal
from minikern_x86_64.cpu import REG_RIP

if TYPE_CHECKING:
    from minikern.engine.cpu import AddressSpace
    from minikern.kernel.task import Task
    from minikern_x86_64.arch import X86_64


class TrapNr(IntEnum):
    """Numbers of the CPU's exceptions (``X86_TRAP_*``)."""

    DE = 0  # divide error
    DB = 1  # debug: single step
    BP = 3  # INT3
    OF = 4  # overflow
    BR = 5  # bound range
    UD = 6  # invalid opcode
    NM = 7  # no FPU
    TS = 10  # invalid task-state segment
    NP = 11  # segment not present
    SS = 12  # stack segment
    GP = 13  # general protection
    PF = 14  # page fault
    MF = 16  # x87
    AC = 17  # alignment
    XF = 19  # SIMD


class PageFault(IntFlag):
    """Error code of a page fault (``X86_PF_*``)."""

    PROT = 1 << 0  # the page is there, but not for this access
    WRITE = 1 << 1
    USER = 1 << 2
    INSTR = 1 << 4


_CANONICAL_SHIFT: Final = 47  # from this bit on, all are equal
_KERNEL_HALF: Final = (1 << 64 - _CANONICAL_SHIFT) - 1

_INT_LENGTH: Final = 2  # bytes of the INT n instruction
_INT_ERROR: Final = 2  # the error code of its #GP: IDT vector in bits 3 and up, and this bit

# Exceptions that say where they happened; the other ones are the kernel's word only (force_sig).
_WITH_ADDRESS: Final = {
    TrapNr.DE: (Signal.SIGFPE, FaultCode.FPE_INTDIV),
    TrapNr.DB: (Signal.SIGTRAP, FaultCode.TRAP_TRACE),
    TrapNr.UD: (Signal.SIGILL, FaultCode.ILL_ILLOPN),
    TrapNr.MF: (Signal.SIGFPE, FaultCode.FPE_FLTUNK),
    TrapNr.AC: (Signal.SIGBUS, FaultCode.BUS_ADRALN),
    TrapNr.XF: (Signal.SIGFPE, FaultCode.FPE_FLTUNK),
}
_WITHOUT_ADDRESS: Final = {
    TrapNr.BP: Signal.SIGTRAP,
    TrapNr.OF: Signal.SIGSEGV,
    TrapNr.BR: Signal.SIGSEGV,
    TrapNr.NM: Signal.SIGSEGV,
    TrapNr.TS: Signal.SIGSEGV,
    TrapNr.NP: Signal.SIGBUS,
    TrapNr.SS: Signal.SIGBUS,
    TrapNr.GP: Signal.SIGSEGV,
}


def exception_info(arch: X86_64, task: Task) -> SigInfo:
    """The signal for the exception that the engine stopped with. Source: ``arch/x86/kernel/traps.c:do_trap``."""
    thread = arch.thread(task)
    number = arch.cpu.exception
    thread.error_code = 0
    if number == INVALID_INSTRUCTION:
        number = TrapNr.UD
    elif number not in _WITH_ADDRESS and number not in _WITHOUT_ADDRESS:
        # INT n with a vector that programs may not call: the engine has stepped over it, the CPU would not.
        arch.regs[REG_RIP] -= _INT_LENGTH
        thread.error_code = number << 3 | _INT_ERROR
        number = TrapNr.GP
    thread.trap_nr = number
    if number in _WITHOUT_ADDRESS:
        return SigInfo(_WITHOUT_ADDRESS[TrapNr(number)], SiCode.SI_KERNEL)
    signal, code = _WITH_ADDRESS[TrapNr(number)]
    return SigInfo(signal, code, layout=Layout.FAULT, addr=arch.regs[REG_RIP])


def single_step_info(arch: X86_64, task: Task) -> SigInfo:
    """A step over a system call. Source: ``arch/x86/kernel/ptrace.c:user_single_step_report``."""
    thread = arch.thread(task)
    thread.trap_nr, thread.error_code = TrapNr.DB, 0
    return SigInfo(Signal.SIGTRAP, FaultCode.TRAP_BRKPT, layout=Layout.FAULT, addr=arch.regs[REG_RIP])


def fault_context(arch: X86_64, task: Task, address: int, access: int) -> SigInfo | None:
    """Note a page fault where a signal frame shows it. Source: ``arch/x86/mm/fault.c:set_signal_archinfo``.

    An address whose upper bits are not all the same never gets as far as the page tables: that is #GP.
    """
    thread = arch.thread(task)
    if (address >> _CANONICAL_SHIFT) not in (0, _KERNEL_HALF):
        thread.trap_nr, thread.error_code = TrapNr.GP, 0
        return SigInfo(Signal.SIGSEGV, SiCode.SI_KERNEL)
    thread.trap_nr = TrapNr.PF
    thread.cr2 = address
    error = PageFault.USER
    if access & Access.WRITE:
        error |= PageFault.WRITE
    if access & Access.EXEC:
        error |= PageFault.INSTR
    if task.mm is not None and _is_present(task.mm, address):
        error |= PageFault.PROT
    thread.error_code = error
    return None


def _is_present(space: AddressSpace, address: int) -> bool:
    """Whether the page tables have an entry for the page."""
    table = space.tables.get(address >> TABLE_SHIFT)
    return table is not None and table.entries.get(address >> PAGE_SHIFT, 0) != 0
