"""Register sets, as debuggers and core files have them.

Mirrors ``arch/arm64/kernel/ptrace.c``. Left out: hardware breakpoints and watchpoints, of which there are none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern_arm64.cpu import TPIDR_EL0
from minikern_arm64.thread import Psr

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern_arm64.arch import Arm64

_GREGS = struct.Struct("<34Q")  # struct user_pt_regs: x0…x30, sp, pc, pstate
_NT_PRSTATUS: Final = 1
_NT_PRFPREG: Final = 2
_NT_ARM_TLS: Final = 0x401
_NT_ARM_SYSTEM_CALL: Final = 0x404


def get_gregs(arch: Arm64, task: Task) -> bytes:
    """``struct user_pt_regs``."""
    arch.load(task)
    return _GREGS.pack(*(arch.regs[i] for i in range(33)), arch.pstate())


def set_gregs(arch: Arm64, task: Task, data: bytes) -> None:
    """The same back, also its beginning only; EINVAL for a state that is not user mode. Source: ``gpr_set``."""
    thread = arch.thread(task)
    values = _GREGS.unpack(data + get_gregs(arch, task)[len(data) :])
    if values[33] & (Psr.MODE | Psr.D | Psr.A | Psr.I | Psr.F):
        raise KernelError(Errno.EINVAL)
    for index in range(33):
        arch.regs[index] = values[index]
    arch.set_pstate(thread, values[33])


def get_fpregs(arch: Arm64, task: Task) -> bytes:
    """``struct user_fpsimd_state``."""
    arch.load(task)
    return arch.fpsimd.save()


def set_fpregs(arch: Arm64, task: Task, data: bytes) -> None:
    """The same back, also its beginning only."""
    arch.load(task)
    arch.fpsimd.load(data + arch.fpsimd.save()[len(data) :])


def get_regset(arch: Arm64, task: Task, kind: int) -> bytes:
    """A register set by the type of its ELF note (PTRACE_GETREGSET); EINVAL: there is none such."""
    if kind == _NT_PRSTATUS:
        return get_gregs(arch, task)
    if kind == _NT_PRFPREG:
        return get_fpregs(arch, task)
    if kind == _NT_ARM_TLS:
        arch.load(task)
        return struct.pack("<Q", arch.cpu.read_reg(TPIDR_EL0))
    if kind == _NT_ARM_SYSTEM_CALL:
        return struct.pack("<i", task.syscall.nr)
    raise KernelError(Errno.EINVAL)


def set_regset(arch: Arm64, task: Task, kind: int, data: bytes) -> None:
    """The same back (PTRACE_SETREGSET); ``data`` may be the beginning of the set."""
    if kind == _NT_PRSTATUS:
        set_gregs(arch, task, data[: _GREGS.size])
    elif kind == _NT_PRFPREG:
        set_fpregs(arch, task, data)
    elif kind == _NT_ARM_TLS:
        if len(data) >= 8:
            arch.load(task)
            arch.cpu.write_reg(TPIDR_EL0, int.from_bytes(data[:8], "little"))
    elif kind == _NT_ARM_SYSTEM_CALL:
        if len(data) >= 4:
            task.syscall.nr = int.from_bytes(data[:4], "little", signed=True)
    else:
        raise KernelError(Errno.EINVAL)


def arch_ptrace(arch: Arm64, tracer: Task, child: Task, request: int, addr: int, data: int) -> int:
    """This architecture has no requests of its own that programs use: register sets do it all."""
    raise KernelError(Errno.EIO)
