"""Exceptions: which signal each becomes, and what of it a signal frame shows.

Mirrors ``arch/arm64/kernel/traps.c``, ``debug-monitors.c`` and ``arch/arm64/mm/fault.c``. Left out: the emulation of
reads of ID registers; programs are not told that they might (HWCAP_CPUID).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT
from minikern.engine.cpu import SINGLE_STEP, TABLE_SHIFT, Access
from minikern.kernel.siginfo import FaultCode, Layout, SiCode, SigInfo, Signal
from minikern.mm.uaccess import access_remote_vm
from minikern_arm64.cpu import EXCP_BKPT, EXCP_DATA_ABORT, REG_PC

if TYPE_CHECKING:
    from minikern.engine.cpu import AddressSpace
    from minikern.kernel.task import Task
    from minikern_arm64.arch import Arm64


class ExceptionClass(IntEnum):
    """Why an exception was taken, from EL0 (``ESR_ELx_EC_*``)."""

    IABT = 0x20  # instruction abort
    PC_ALIGN = 0x22
    DABT = 0x24  # data abort


_EC_SHIFT: Final = 26
_ESR_IL: Final = 1 << 25  # a 32-bit instruction
_ESR_WNR: Final = 1 << 6  # a data abort: it was a write
_FSC_TRANSLATION: Final = 0x07  # nothing is mapped, found at the last level
_FSC_PERMISSION: Final = 0x0F  # it is mapped, but not for this access
_FSC_ALIGNMENT: Final = 0x21
_PC_ALIGNMENT: Final = 3


def exception_info(arch: Arm64, task: Task) -> SigInfo:
    """The signal for the exception that the engine stopped with. Source: ``arch/arm64/kernel/entry-common.c:el0t_64_sync``."""
    thread = arch.thread(task)
    pc = arch.regs[REG_PC]
    exception = arch.cpu.exception
    if exception == SINGLE_STEP:
        return SigInfo(Signal.SIGTRAP, FaultCode.TRAP_TRACE, layout=Layout.FAULT, addr=pc)
    thread.fault_address = thread.fault_code = 0
    if pc & _PC_ALIGNMENT:
        thread.fault_code = ExceptionClass.PC_ALIGN << _EC_SHIFT | _ESR_IL
        return SigInfo(Signal.SIGBUS, FaultCode.BUS_ADRALN, layout=Layout.FAULT, addr=pc)
    if exception == EXCP_DATA_ABORT:
        # Translation faults do not come this way: an exclusive or atomic access was not aligned. These have the
        # address in one register without an offset.
        assert task.mm is not None
        register = int.from_bytes(access_remote_vm(task.mm, pc, 4, force=True), "little") >> 5 & 31
        address = thread.fault_address = arch.regs[register]
        thread.fault_code = ExceptionClass.DABT << _EC_SHIFT | _ESR_IL | _FSC_ALIGNMENT
        return SigInfo(Signal.SIGBUS, FaultCode.BUS_ADRALN, layout=Layout.FAULT, addr=address)
    if exception == EXCP_BKPT:
        return SigInfo(Signal.SIGTRAP, FaultCode.TRAP_BRKPT, layout=Layout.FAULT, addr=pc)
    return SigInfo(Signal.SIGILL, FaultCode.ILL_ILLOPC, layout=Layout.FAULT, addr=pc)


def single_step_info(arch: Arm64, task: Task) -> SigInfo:
    """A step over a system call. Source: ``include/linux/ptrace.h:user_single_step_report``."""
    return SigInfo(Signal.SIGTRAP, SiCode.SI_USER)


def fault_context(arch: Arm64, task: Task, address: int, access: int) -> SigInfo | None:
    """Note a page fault where a signal frame shows it. Source: ``arch/arm64/mm/fault.c:set_thread_esr``."""
    thread = arch.thread(task)
    thread.fault_address = address
    present = task.mm is not None and _is_present(task.mm, address)
    syndrome = _ESR_IL | (_FSC_PERMISSION if present else _FSC_TRANSLATION)
    if access & Access.EXEC:
        syndrome |= ExceptionClass.IABT << _EC_SHIFT
    else:
        syndrome |= ExceptionClass.DABT << _EC_SHIFT
        if access & Access.WRITE:
            syndrome |= _ESR_WNR
    thread.fault_code = syndrome
    return None


def _is_present(space: AddressSpace, address: int) -> bool:
    """Whether the page tables have an entry for the page."""
    table = space.tables.get(address >> TABLE_SHIFT)
    return table is not None and table.entries.get(address >> PAGE_SHIFT, 0) != 0
