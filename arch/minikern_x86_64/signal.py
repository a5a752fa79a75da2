"""Signal frames: what a handler finds on its stack, and how sigreturn undoes it.

Mirrors ``arch/x86/kernel/signal_64.c`` and the part of ``signal.c`` that finds room for a frame.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.sigaltstack import on_sig_stack, restore_altstack, save_altstack, sigsp
from minikern.kernel.siginfo import SA, SIGINFO_SIZE, SigInfo
from minikern.kernel.signal import set_current_blocked
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern_x86_64.cpu import (
    EFLAGS,
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
from minikern_x86_64.fpu import FRAME_SIZE as FPSTATE_SIZE
from minikern_x86_64.fpu import FXSAVE_SIZE
from minikern_x86_64.thread import MASK64, Flag

if TYPE_CHECKING:
    from minikern.kernel.task import SigAction, Task
    from minikern_x86_64.arch import X86_64

_REDZONE: Final = 128  # bytes below the stack pointer that belong to the function that runs
_FPSTATE_ALIGNMENT: Final = 64
_FRAME_ALIGNMENT: Final = 16
_WORD: Final = 8

_UC_FP_XSTATE: Final = 1  # the FPU state has a header and is followed by a magic word
_UC_SIGCONTEXT_SS: Final = 2  # sigcontext holds SS …
_UC_STRICT_RESTORE_SS: Final = 4  # … and sigreturn takes it as it is
_UC_FLAGS: Final = _UC_FP_XSTATE | _UC_SIGCONTEXT_SS | _UC_STRICT_RESTORE_SS

# struct rt_sigframe: pretcode, struct ucontext, struct siginfo
_UCONTEXT_HEAD = struct.Struct("<QQQI4xQ")  # uc_flags, uc_link, uc_stack (sp, flags, size)
_SIGCONTEXT_REGS: Final = (
    *(REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RDI, REG_RSI),
    *(REG_RBP, REG_RBX, REG_RDX, REG_RAX, REG_RCX, REG_RSP, REG_RIP),
)
# the registers, then flags, cs, gs, fs, ss, err, trapno, oldmask, cr2, fpstate, reserved1
_SIGCONTEXT = struct.Struct("<17Q Q 4H 5Q 64x")
_UCONTEXT: Final = _WORD
_MCONTEXT: Final = _UCONTEXT + _UCONTEXT_HEAD.size
_SIGMASK: Final = _MCONTEXT + _SIGCONTEXT.size
_SIGINFO: Final = _SIGMASK + _WORD
_FRAME_SIZE: Final = _SIGINFO + SIGINFO_SIZE
assert (_SIGCONTEXT.size, _FRAME_SIZE) == (256, 440)

# What sigreturn takes from the frame (``FIX_EFLAGS``).
_RESTORED: Final = Flag.AC | Flag.OF | Flag.DF | Flag.TF | Flag.SF | Flag.ZF | Flag.AF | Flag.PF | Flag.CF | Flag.RF


def setup_rt_frame(arch: X86_64, task: Task, info: SigInfo, action: SigAction, mask: int) -> None:
    """Push a frame and enter the handler. Source: ``arch/x86/kernel/signal_64.c:x64_setup_rt_frame``."""
    thread = arch.thread(task)
    if not action.flags & SA.RESTORER:
        raise KernelError(Errno.EFAULT)  # there is no other way back
    regs, cpu = arch.regs, arch.cpu

    frame, fpstate = _get_sigframe(task, regs[REG_RSP], action)
    copy_to_user(task, fpstate, arch.fpu.save_frame())
    sigcontext = _SIGCONTEXT.pack(
        *(regs[index] for index in _SIGCONTEXT_REGS),
        arch.user_flags(thread),
        *(USER_CS, 0, 0, USER_DS),
        *(thread.error_code, thread.trap_nr, mask, thread.cr2, fpstate),
    )
    data = (
        action.restorer.to_bytes(_WORD, "little")
        + _UCONTEXT_HEAD.pack(_UC_FLAGS, 0, *save_altstack(task))
        + sigcontext
        + mask.to_bytes(_WORD, "little")
    )
    copy_to_user(task, frame, data + info.pack() if action.flags & SA.SIGINFO else data)

    regs[REG_RDI] = info.signo
    regs[REG_RAX] = 0  # the number of vector arguments, for a handler that was declared without a prototype
    regs[REG_RSI] = frame + _SIGINFO
    regs[REG_RDX] = frame + _UCONTEXT
    regs[REG_RIP] = action.handler
    regs[REG_RSP] = frame
    cpu.write_reg(EFLAGS, cpu.read_reg(EFLAGS) & ~(Flag.DF | Flag.RF | Flag.TF))
    thread.forced_tf = False
    arch.fpu.clear()


def _get_sigframe(task: Task, sp: int, action: SigAction) -> tuple[int, int]:
    """Where the frame and the FPU state go; EFAULT when the alternate stack has no room for them.

    Source: ``arch/x86/kernel/signal.c:get_sigframe``.
    """
    nested = on_sig_stack(task, sp)
    below = sp - _REDZONE & MASK64
    top = sigsp(task, below, action)
    fpstate = (top - FPSTATE_SIZE) & -_FPSTATE_ALIGNMENT & MASK64
    frame = ((fpstate - _FRAME_SIZE) & -_FRAME_ALIGNMENT) - _WORD & MASK64
    if (nested or top != below) and not task.sas_ss_sp < frame <= task.sas_ss_sp + task.sas_ss_size:
        raise KernelError(Errno.EFAULT)
    return frame, fpstate


def restore_rt_frame(arch: X86_64, task: Task) -> int:
    """Take everything back from the frame. Source: ``arch/x86/kernel/signal_64.c:sys_rt_sigreturn``."""
    thread = arch.thread(task)
    regs, cpu = arch.regs, arch.cpu
    frame = regs[REG_RSP] - _WORD & MASK64  # the handler's return has popped pretcode
    data = copy_from_user(task, frame, _SIGINFO)

    set_current_blocked(task, int.from_bytes(data[_SIGMASK:], "little"))
    *values, flags, cs, _gs, _fs, ss, _err, _trapno, _oldmask, _cr2, fpstate = _SIGCONTEXT.unpack_from(data, _MCONTEXT)
    if cs | 3 != USER_CS or ss | 3 != USER_DS:
        raise KernelError(Errno.EFAULT)  # a segment that does not exist here: IRET would fault
    for index, value in zip(_SIGCONTEXT_REGS, values, strict=True):
        regs[index] = value
    cpu.write_reg(EFLAGS, cpu.read_reg(EFLAGS) & ~_RESTORED | flags & _RESTORED)
    thread.forced_tf = False
    task.syscall.nr = -1  # what was interrupted has been restarted or not; this call never is
    if fpstate:
        arch.fpu.fxrstor(copy_from_user(task, fpstate, FXSAVE_SIZE))
    else:
        arch.fpu.clear()
    _uc_flags, _uc_link, *altstack = _UCONTEXT_HEAD.unpack_from(data, _UCONTEXT)
    restore_altstack(task, *altstack)
    return arch.syscall_get_return(task)
