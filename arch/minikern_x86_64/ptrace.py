"""Register sets, as debuggers and core files have them.

Mirrors ``arch/x86/kernel/ptrace.c``. Left out: hardware breakpoints (the debug registers only remember what was
written), I/O permissions, 32-bit sets.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikern_x86_64.cpu import (
    EFLAGS,
    FS_BASE,
    GS_BASE,
    REG_R8,
    REG_R9,
    REG_R10,
    REG_R11,
    REG_R12,
    REG_R13,
    REG_R14,
    REG_R15,
    REG_RAX,
    REG_RBP,
    REG_RBX,
    REG_RCX,
    REG_RDI,
    REG_RDX,
    REG_RIP,
    REG_RSI,
    REG_RSP,
    USER_CS,
    USER_DS,
)
from minikern_x86_64.fpu import FXSAVE_SIZE, XSAVE_SIZE
from minikern_x86_64.process import do_arch_prctl
from minikern_x86_64.thread import MASK64, Flag

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern_x86_64.arch import X86_64

# struct user_regs_struct: the registers by position, then the words that are not general registers.
_POSITIONS: Final = {
    0: REG_R15,
    1: REG_R14,
    2: REG_R13,
    3: REG_R12,
    4: REG_RBP,
    5: REG_RBX,
    6: REG_R11,
    7: REG_R10,
    8: REG_R9,
    9: REG_R8,
    10: REG_RAX,
    11: REG_RCX,
    12: REG_RDX,
    13: REG_RSI,
    14: REG_RDI,
    16: REG_RIP,
    19: REG_RSP,
}
_ORIG_AX, _CS, _EFLAGS, _SS, _FS_BASE, _GS_BASE = 15, 17, 18, 20, 21, 22  # ds, es, fs and gs follow and are 0
_WORD: Final = 8
_GREGS = struct.Struct("<27Q")
assert _GREGS.size == 216

# struct user, which PTRACE_PEEKUSR reads: the registers, much that is always 0, the debug registers, two words more.
_DEBUGREG: Final = 848
_DEBUGREG_END: Final = _DEBUGREG + 8 * _WORD
_USER_SIZE: Final = 928

# What a tracer may change (``FLAG_MASK``).
_CHANGEABLE: Final = (
    Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.TF | Flag.DF | Flag.OF | Flag.NT | Flag.RF | Flag.AC
)

_NT_PRSTATUS: Final = 1
_NT_PRFPREG: Final = 2
_NT_X86_XSTATE: Final = 0x202

_PTRACE_PEEKUSR: Final = 3
_PTRACE_POKEUSR: Final = 6
_PTRACE_GETREGS: Final = 12
_PTRACE_SETREGS: Final = 13
_PTRACE_GETFPREGS: Final = 14
_PTRACE_SETFPREGS: Final = 15
_PTRACE_ARCH_PRCTL: Final = 30


def get_gregs(arch: X86_64, task: Task) -> bytes:
    """``struct user_regs_struct``."""
    thread = arch.thread(task)
    words = [0] * 27
    for position, index in _POSITIONS.items():
        words[position] = arch.regs[index]
    words[_ORIG_AX] = task.syscall.nr & MASK64
    words[_CS], words[_SS] = USER_CS, USER_DS
    words[_EFLAGS] = arch.user_flags(thread)
    words[_FS_BASE], words[_GS_BASE] = arch.cpu.read_reg(FS_BASE), arch.cpu.read_reg(GS_BASE)
    return _GREGS.pack(*words)


def set_gregs(arch: X86_64, task: Task, data: bytes) -> None:
    """The same back, also its beginning only. Source: ``arch/x86/kernel/ptrace.c:genregs_set``."""
    for position, value in enumerate(struct.unpack(f"<{len(data) // _WORD}Q", data)):
        _putreg(arch, task, position, value)


def _putreg(arch: X86_64, task: Task, position: int, value: int) -> None:
    """Set one word of ``struct user_regs_struct``. Source: ``arch/x86/kernel/ptrace.c:putreg``."""
    thread, cpu = arch.thread(task), arch.cpu
    index = _POSITIONS.get(position)
    if index is not None:
        arch.regs[index] = value
    elif position == _ORIG_AX:
        # Negative: whatever call it is in is not to be restarted.
        task.syscall.nr = ((value & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31)
    elif position == _EFLAGS:
        if value & Flag.TF:
            thread.forced_tf = False  # from now on the tracer sees it
        elif thread.forced_tf:
            value |= Flag.TF
        cpu.write_reg(EFLAGS, cpu.read_reg(EFLAGS) & ~_CHANGEABLE | value & _CHANGEABLE)
    elif position in (_FS_BASE, _GS_BASE):
        if value >= arch.task_size:
            raise KernelError(Errno.EIO)
        cpu.write_reg(FS_BASE if position == _FS_BASE else GS_BASE, value)
    elif position in (_CS, _SS) and value not in (USER_CS, USER_DS):
        raise KernelError(Errno.EIO)


def get_fpregs(arch: X86_64, task: Task) -> bytes:
    """``struct user_fpregs_struct``, which is what FXSAVE stores."""
    arch.load(task)
    return arch.fpu.fxsave()


def set_fpregs(arch: X86_64, task: Task, data: bytes) -> None:
    """The same back. Source: ``arch/x86/kernel/fpu/regset.c:xfpregs_set``."""
    arch.load(task)
    arch.fpu.fxrstor(data + arch.fpu.fxsave()[len(data) :])


def get_regset(arch: X86_64, task: Task, kind: int) -> bytes:
    """A register set by the type of its ELF note (PTRACE_GETREGSET); EINVAL: there is none such."""
    if kind == _NT_PRSTATUS:
        return get_gregs(arch, task)
    if kind == _NT_PRFPREG:
        return get_fpregs(arch, task)
    if kind == _NT_X86_XSTATE:
        arch.load(task)
        return arch.fpu.xstate()
    raise KernelError(Errno.EINVAL)


def set_regset(arch: X86_64, task: Task, kind: int, data: bytes) -> None:
    """The same back (PTRACE_SETREGSET); ``data`` may be the beginning of the set."""
    if kind == _NT_PRSTATUS:
        set_gregs(arch, task, data[: _GREGS.size])
    elif kind == _NT_PRFPREG:
        set_fpregs(arch, task, data[:FXSAVE_SIZE])
    elif kind == _NT_X86_XSTATE:
        if len(data) != XSAVE_SIZE:
            raise KernelError(Errno.EFAULT)  # partial writes are refused
        set_fpregs(arch, task, data[:FXSAVE_SIZE])
    else:
        raise KernelError(Errno.EINVAL)


def arch_ptrace(arch: X86_64, tracer: Task, child: Task, request: int, addr: int, data: int) -> int:
    """Requests that only this architecture has; EIO: not one of them. Source: ``arch/x86/kernel/ptrace.c:arch_ptrace``."""
    if request == _PTRACE_PEEKUSR:
        put_user(tracer, data, _peek_user(arch, child, addr), _WORD)
    elif request == _PTRACE_POKEUSR:
        _poke_user(arch, child, addr, data)
    elif request == _PTRACE_GETREGS:
        copy_to_user(tracer, data, get_gregs(arch, child))
    elif request == _PTRACE_SETREGS:
        set_gregs(arch, child, copy_from_user(tracer, data, _GREGS.size))
    elif request == _PTRACE_GETFPREGS:
        copy_to_user(tracer, data, get_fpregs(arch, child))
    elif request == _PTRACE_SETFPREGS:
        set_fpregs(arch, child, copy_from_user(tracer, data, FXSAVE_SIZE))
    elif request == _PTRACE_ARCH_PRCTL:
        do_arch_prctl(arch, tracer, child, data, addr)
    else:
        raise KernelError(Errno.EIO)
    return 0


def _peek_user(arch: X86_64, task: Task, offset: int) -> int:
    """A word of ``struct user``; EIO outside."""
    if offset % _WORD or offset >= _USER_SIZE:
        raise KernelError(Errno.EIO)
    if offset < _GREGS.size:
        word: int = _GREGS.unpack(get_gregs(arch, task))[offset // _WORD]
        return word
    if _DEBUGREG <= offset < _DEBUGREG_END:
        return arch.thread(task).debugreg[(offset - _DEBUGREG) // _WORD]
    return 0


def _poke_user(arch: X86_64, task: Task, offset: int, value: int) -> None:
    """Set one; EIO where nothing can be set."""
    if offset % _WORD or offset >= _USER_SIZE:
        raise KernelError(Errno.EIO)
    if offset < _GREGS.size:
        _putreg(arch, task, offset // _WORD, value)
    elif _DEBUGREG <= offset < _DEBUGREG_END:
        arch.thread(task).debugreg[(offset - _DEBUGREG) // _WORD] = value
    else:
        raise KernelError(Errno.EIO)
