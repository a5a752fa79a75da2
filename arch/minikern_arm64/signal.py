"""Signal frames: what a handler finds on its stack, and how sigreturn undoes it.

Mirrors ``arch/arm64/kernel/signal.c``. Left out: records of SVE, SME and memory tagging, which the processor does not
offer to programs.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.sigaltstack import restore_altstack, save_altstack, sigsp
from minikern.kernel.siginfo import SA, SIGINFO_SIZE, SigInfo
from minikern.kernel.signal import set_current_blocked
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern_arm64.cpu import REG_LR, REG_PC, REG_SP
from minikern_arm64.fpsimd import VREGS_SIZE
from minikern_arm64.thread import MASK64, Psr

if TYPE_CHECKING:
    from minikern.kernel.task import SigAction, Task
    from minikern_arm64.arch import Arm64

_ALIGNMENT: Final = 16
_REG_FP: Final = 29

# struct rt_sigframe: struct siginfo, struct ucontext; above it, struct frame_record for unwinders
_UCONTEXT_HEAD = struct.Struct("<QQQI4xQQ")  # uc_flags, uc_link, uc_stack (sp, flags, size), uc_sigmask
_SIGCONTEXT = struct.Struct("<Q31QQQQ")  # fault_address, x0…x30, sp, pc, pstate
_FRAME_RECORD = struct.Struct("<QQ")  # fp, lr
_UCONTEXT: Final = SIGINFO_SIZE
_MCONTEXT: Final = _UCONTEXT + 176  # the signal mask has room for 1024 bits
_RESERVED: Final = _MCONTEXT + 288  # sigcontext.__reserved: records, each with a magic number and its size
_RESERVED_SIZE: Final = 4096
_FRAME_SIZE: Final = _RESERVED + _RESERVED_SIZE
assert (_SIGCONTEXT.size, _FRAME_SIZE) == (280, 4688)

_RECORD = struct.Struct("<II")  # struct _aarch64_ctx: magic, size
_FPSIMD_MAGIC: Final = 0x46508001
_ESR_MAGIC: Final = 0x45535201
_FPSIMD_SIZE: Final = _RECORD.size + 8 + VREGS_SIZE  # struct fpsimd_context: head, fpsr, fpcr, vregs
_ESR_SIZE: Final = _RECORD.size + 8  # struct esr_context


def setup_rt_frame(arch: Arm64, task: Task, info: SigInfo, action: SigAction, mask: int) -> None:
    """Push a frame and enter the handler. Source: ``arch/arm64/kernel/signal.c:setup_rt_frame``."""
    thread = arch.thread(task)
    regs = arch.regs
    sp = sigsp(task, regs[REG_SP], action)
    frame_record = (sp - _FRAME_RECORD.size) & -_ALIGNMENT & MASK64
    frame = frame_record - _FRAME_SIZE & MASK64

    siginfo = info.pack() if action.flags & SA.SIGINFO else bytes(SIGINFO_SIZE)
    ucontext = _UCONTEXT_HEAD.pack(0, 0, *save_altstack(task), mask).ljust(_MCONTEXT - _UCONTEXT, b"\0")
    sigcontext = _SIGCONTEXT.pack(thread.fault_address, *(regs[i] for i in range(33)), arch.pstate())
    records = _fpsimd_record(arch.fpsimd.save())
    if thread.fault_code:
        records += _RECORD.pack(_ESR_MAGIC, _ESR_SIZE) + thread.fault_code.to_bytes(8, "little")
    data = (siginfo + ucontext + sigcontext).ljust(_RESERVED, b"\0") + records
    copy_to_user(task, frame, data.ljust(_FRAME_SIZE, b"\0") + _FRAME_RECORD.pack(regs[_REG_FP], regs[REG_LR]))

    regs[0] = info.signo
    if action.flags & SA.SIGINFO:
        regs[1] = frame
        regs[2] = frame + _UCONTEXT
    regs[REG_SP] = frame
    regs[_REG_FP] = frame_record
    regs[REG_PC] = action.handler
    regs[REG_LR] = action.restorer if action.flags & SA.RESTORER else arch.sigreturn_address(task)


def _fpsimd_record(state: bytes) -> bytes:
    """``struct fpsimd_context`` from ``struct user_fpsimd_state``."""
    status = state[VREGS_SIZE : VREGS_SIZE + 8]  # fpsr, fpcr
    return _RECORD.pack(_FPSIMD_MAGIC, _FPSIMD_SIZE) + status + state[:VREGS_SIZE]


def restore_rt_frame(arch: Arm64, task: Task) -> int:
    """Take everything back from the frame. Source: ``arch/arm64/kernel/signal.c:sys_rt_sigreturn``."""
    thread = arch.thread(task)
    regs = arch.regs
    frame = regs[REG_SP]
    if frame % _ALIGNMENT:
        raise KernelError(Errno.EFAULT)
    data = copy_from_user(task, frame, _FRAME_SIZE)

    _flags, _link, *altstack, mask = _UCONTEXT_HEAD.unpack_from(data, _UCONTEXT)
    set_current_blocked(task, mask)
    _fault_address, *values, pstate = _SIGCONTEXT.unpack_from(data, _MCONTEXT)
    for index, value in enumerate(values):
        regs[index] = value
    arch.set_pstate(thread, pstate)
    task.syscall.nr = -1  # what was interrupted has been restarted or not; this call never is
    if pstate & (Psr.MODE | Psr.D | Psr.A | Psr.I | Psr.F):
        raise KernelError(Errno.EFAULT)
    arch.fpsimd.load(_find_fpsimd(data[_RESERVED:]))
    restore_altstack(task, *altstack)
    return arch.syscall_get_return(task)


def _find_fpsimd(records: bytes) -> bytes:
    """``struct user_fpsimd_state`` from the records of a frame; EFAULT when they are not as they have to be.

    Source: ``arch/arm64/kernel/signal.c:parse_user_sigframe``.
    """
    state: bytes | None = None
    offset = 0
    while len(records) - offset >= _RECORD.size:
        magic, size = _RECORD.unpack_from(records, offset)
        if magic == 0:
            if size or state is None:
                break
            return state
        if offset % _ALIGNMENT or not _RECORD.size <= size <= len(records) - offset:
            break
        if magic == _FPSIMD_MAGIC:
            if state is not None or size != _FPSIMD_SIZE:
                break
            body = records[offset + _RECORD.size : offset + size]
            state = body[8:] + body[:8] + bytes(8)
        elif magic != _ESR_MAGIC:
            break
        offset += size
    raise KernelError(Errno.EFAULT)
