"""ptrace(2): how a tracer takes hold of a task, looks at it, and lets it go on.

Mirrors the second half of ``kernel/ptrace.c``. Requests that only one architecture has are in its package. Left out:
SECCOMP_GET_FILTER and what else is for checkpoint/restore, SINGLEBLOCK. As every request is served at one go, nothing
has to freeze the tracee meanwhile, and a stopped task that is attached to changes to its new kind of stop at once.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.ptrace import (
    PTRACE_O_MASK,
    SYSGOOD,
    EventMessage,
    PtraceEvent,
    PtraceOption,
    PtraceState,
    do_jobctl_trap,
    ptrace_detach_from,
    ptrace_link,
)
from minikern.kernel.ptrace_access import ptrace_may_access, ptrace_traceme_allowed
from minikern.kernel.siginfo import SIGINFO_SIZE, SigInfo, Signal
from minikern.kernel.signal import (
    SIG_KERNEL_ONLY_MASK,
    fatal_signal_pending,
    kernel_siginfo,
    ptrace_signal_wake_up,
    send_sig_info,
    send_signal_locked,
    signal_pending,
    task_set_jobctl_pending,
)
from minikern.kernel.syscalls import Long, Pid, ULong, syscall
from minikern.kernel.task import NSIG, PF, ExitState, JobCtl, PidType, Task
from minikern.kernel.waitqueue import TaskState
from minikern.mm.uaccess import access_remote_vm, copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.waitqueue import Result

_MASK64 = (1 << 64) - 1
_WORD = 8
_SIGSET_SIZE = 8
_PEEKSIGINFO_SHARED = 1
_PEEKSIGINFO_ARGS = struct.Struct("<QIi")  # struct ptrace_peeksiginfo_args: off, flags, nr
_IOVEC = struct.Struct("<QQ")  # struct iovec
_NT_PRSTATUS = 1
_RSEQ_CONFIGURATION = struct.Struct("<QIII4x")  # struct ptrace_rseq_configuration: address, size, signature, flags
assert _RSEQ_CONFIGURATION.size == 24

# struct ptrace_syscall_info: op, arch, instruction and stack pointer, then a union
_INFO_HEAD = struct.Struct("<B3xIQQ")
_INFO_ENTRY = struct.Struct("<Q6Q")  # nr, args
_INFO_EXIT = struct.Struct("<qB")  # rval, is_error
_INFO_SECCOMP = struct.Struct("<Q6QI")  # nr, args, ret_data
_INFO_SIZE = 88
assert _INFO_HEAD.size == 24
_MAX_ERRNO = 4095


class Request(IntEnum):
    """``PTRACE_*``."""

    TRACEME = 0
    PEEKTEXT = 1
    PEEKDATA = 2
    POKETEXT = 4
    POKEDATA = 5
    CONT = 7
    KILL = 8
    SINGLESTEP = 9
    ATTACH = 16
    DETACH = 17
    OLDSETOPTIONS = 21
    SYSCALL = 24
    SYSEMU = 31
    SYSEMU_SINGLESTEP = 32
    SETOPTIONS = 0x4200
    GETEVENTMSG = 0x4201
    GETSIGINFO = 0x4202
    SETSIGINFO = 0x4203
    GETREGSET = 0x4204
    SETREGSET = 0x4205
    SEIZE = 0x4206
    INTERRUPT = 0x4207
    LISTEN = 0x4208
    PEEKSIGINFO = 0x4209
    GETSIGMASK = 0x420A
    SETSIGMASK = 0x420B
    GET_SYSCALL_INFO = 0x420E
    GET_RSEQ_CONFIGURATION = 0x420F


class SyscallInfo(IntEnum):
    """``PTRACE_SYSCALL_INFO_*``: which member of the union counts."""

    NONE = 0
    ENTRY = 1
    EXIT = 2
    SECCOMP = 3


@syscall("ptrace", partial="no PTRACE_SECCOMP_GET_FILTER, PTRACE_SINGLEBLOCK, hardware breakpoints")
def sys_ptrace(task: Task, request: Long, pid: Pid, addr: ULong, data: ULong) -> Result:
    """Source: ``kernel/ptrace.c:SYSCALL_DEFINE4(ptrace)``."""
    if request == Request.TRACEME:
        return _ptrace_traceme(task)
    child = find_task(task.kernel, pid)
    if child is None:
        raise KernelError(Errno.ESRCH)
    if request in (Request.ATTACH, Request.SEIZE):
        return _ptrace_attach(task, child, request == Request.SEIZE, addr, data)
    _ptrace_check_attach(task, child, ignore_state=request in (Request.KILL, Request.INTERRUPT))
    return _ptrace_request(task, child, request, addr, data)


# Beginning


def _ptrace_traceme(task: Task) -> int:
    """Be traced by the parent. Source: ``kernel/ptrace.c:ptrace_traceme``."""
    parent = task.real_parent
    assert parent is not None and task.parent is not None
    if task.ptrace is not None:
        raise KernelError(Errno.EPERM)
    ptrace_traceme_allowed(task.parent, task.cred)
    if not parent.flags & PF.EXITING:
        task.ptrace = PtraceState()
        ptrace_link(task, parent)
    return 0


def _ptrace_attach(tracer: Task, task: Task, seize: bool, addr: int, options: int) -> int:
    """Source: ``kernel/ptrace.c:ptrace_attach``."""
    if seize:
        if addr or options & ~(PTRACE_O_MASK | int(PtraceOption.SUSPEND_SECCOMP)):
            raise KernelError(Errno.EIO)
        _check_ptrace_options(options)
    if task.flags & PF.KTHREAD or task.signal is tracer.signal:
        raise KernelError(Errno.EPERM)
    if not ptrace_may_access(tracer, task):
        raise KernelError(Errno.EPERM)
    if task.exit_state is not ExitState.ALIVE or task.ptrace is not None:
        raise KernelError(Errno.EPERM)
    task.ptrace = PtraceState(seize, PtraceOption(options) if seize else PtraceOption(0))
    ptrace_link(task, tracer)
    _ptrace_set_stopped(task, seize)
    return 0


def _ptrace_set_stopped(task: Task, seize: bool) -> None:
    """Have it stop; one that job control has stopped goes over to a ptrace stop. Source: ``kernel/ptrace.c:ptrace_set_stopped``."""
    if not seize:
        send_signal_locked(Signal.SIGSTOP, kernel_siginfo(Signal.SIGSTOP), task, PidType.PID)
    if task.jobctl & JobCtl.STOPPED and task_set_jobctl_pending(task, JobCtl.TRAP_STOP):
        # Linux wakes it and waits until it has done this itself (JOBCTL_TRAPPING).
        task.jobctl &= ~JobCtl.STOPPED
        if (stop := do_jobctl_trap(task)) is not None:
            task.kernel.sched.sleep(task, stop)


def _check_ptrace_options(options: int) -> None:
    """Source: ``kernel/ptrace.c:check_ptrace_options``."""
    if options & ~PTRACE_O_MASK:
        raise KernelError(Errno.EINVAL)


def _ptrace_check_attach(tracer: Task, child: Task, *, ignore_state: bool) -> None:
    """ESRCH unless ``child`` is a tracee, and stopped. Source: ``kernel/ptrace.c:ptrace_check_attach``."""
    if child.ptrace is None or child.parent is not tracer:
        raise KernelError(Errno.ESRCH)
    if ignore_state:
        return
    traced = child.state is TaskState.TRACED and not child.jobctl & JobCtl.LISTENING
    if not traced or _looks_like_a_spurious_pid(child) or fatal_signal_pending(child):
        raise KernelError(Errno.ESRCH)


def _looks_like_a_spurious_pid(child: Task) -> bool:
    """Exec has changed its number, and the tracer has not yet heard of it. Source: ``looks_like_a_spurious_pid``."""
    assert child.ptrace is not None
    return child.exit_code == PtraceEvent.EXEC << 8 | Signal.SIGTRAP and child.pid != child.ptrace.message


# Requests for a tracee


def _ptrace_request(task: Task, child: Task, request: int, addr: int, data: int) -> int:
    """Source: ``kernel/ptrace.c:ptrace_request``."""
    ptrace = child.ptrace
    assert ptrace is not None
    match request:
        case Request.PEEKTEXT | Request.PEEKDATA:
            _peek_data(task, child, addr, data)
        case Request.POKETEXT | Request.POKEDATA:
            _poke_data(child, addr, data)
        case Request.SETOPTIONS | Request.OLDSETOPTIONS:
            _check_ptrace_options(data)
            ptrace.options = PtraceOption(data)
        case Request.GETEVENTMSG:
            put_user(task, data, ptrace.message, _WORD)
        case Request.PEEKSIGINFO:
            return _ptrace_peek_siginfo(task, child, addr, data)
        case Request.GETSIGINFO:
            copy_to_user(task, data, _last_siginfo(child).pack())
        case Request.SETSIGINFO:
            info = SigInfo.unpack(copy_from_user(task, data, SIGINFO_SIZE))
            _last_siginfo(child)
            child.last_siginfo = info
        case Request.GETSIGMASK:
            _check_sigset_size(addr)
            mask = child.blocked if child.saved_sigmask is None else child.saved_sigmask
            put_user(task, data, mask, _SIGSET_SIZE)
        case Request.SETSIGMASK:
            _check_sigset_size(addr)
            child.blocked = get_user(task, data, _SIGSET_SIZE) & ~SIG_KERNEL_ONLY_MASK
            child.saved_sigmask = None
        case Request.INTERRUPT:
            _ptrace_interrupt(child)
        case Request.LISTEN:
            _ptrace_listen(child)
        case Request.DETACH:
            _ptrace_detach(task, child, data)
        case Request.CONT | Request.SYSCALL | Request.SINGLESTEP | Request.SYSEMU | Request.SYSEMU_SINGLESTEP:
            _ptrace_resume(child, Request(request), data)
        case Request.KILL:
            send_sig_info(Signal.SIGKILL, None, child)
        case Request.GETREGSET | Request.SETREGSET:
            _ptrace_regset(task, child, addr, data, store=request == Request.SETREGSET)
        case Request.GET_SYSCALL_INFO:
            return _ptrace_get_syscall_info(task, child, addr, data)
        case Request.GET_RSEQ_CONFIGURATION:
            configuration = _RSEQ_CONFIGURATION.pack(child.rseq, child.rseq_len, child.rseq_sig, 0)
            copy_to_user(task, data, configuration[:addr])
            return _RSEQ_CONFIGURATION.size
        case _:
            return child.arch.arch_ptrace(task, child, request, addr, data)
    return 0


# Memory


def _peek_data(task: Task, child: Task, addr: int, data: int) -> None:
    """Source: ``kernel/ptrace.c:generic_ptrace_peekdata``."""
    word = access_remote_vm(child.mm, addr, _WORD, force=True) if child.mm is not None else b""
    if len(word) != _WORD:
        raise KernelError(Errno.EIO)
    copy_to_user(task, data, word)


def _poke_data(child: Task, addr: int, data: int) -> None:
    """Source: ``kernel/ptrace.c:generic_ptrace_pokedata``."""
    word = data.to_bytes(_WORD, "little")
    if child.mm is None or len(access_remote_vm(child.mm, addr, word, force=True)) != _WORD:
        raise KernelError(Errno.EIO)


# Signals


def _last_siginfo(child: Task) -> SigInfo:
    if child.last_siginfo is None:
        raise KernelError(Errno.EINVAL)
    return child.last_siginfo


def _check_sigset_size(size: int) -> None:
    if size != _SIGSET_SIZE:
        raise KernelError(Errno.EINVAL)


def _ptrace_peek_siginfo(task: Task, child: Task, addr: int, data: int) -> int:
    """What is queued, without taking it; how many. Source: ``kernel/ptrace.c:ptrace_peek_siginfo``."""
    offset, flags, count = _PEEKSIGINFO_ARGS.unpack(copy_from_user(task, addr, _PEEKSIGINFO_ARGS.size))
    if flags & ~_PEEKSIGINFO_SHARED or count < 0:
        raise KernelError(Errno.EINVAL)
    pending = child.signal.shared_pending if flags & _PEEKSIGINFO_SHARED else child.pending
    copied = 0
    for info in pending.queue[offset : offset + count]:
        try:
            copy_to_user(task, data, info.pack())
        except KernelError:
            if copied:
                break
            raise
        data += SIGINFO_SIZE
        copied += 1
        if signal_pending(task):
            break
    return copied


# Letting it go on, or not


def _ptrace_interrupt(child: Task) -> None:
    """Have a seized task stop. The PTRACE_INTERRUPT case of ``ptrace_request``."""
    assert child.ptrace is not None
    if not child.ptrace.seized or child.sighand is None:
        raise KernelError(Errno.EIO)
    if task_set_jobctl_pending(child, JobCtl.TRAP_STOP):
        ptrace_signal_wake_up(child, resume=child.jobctl & JobCtl.LISTENING != 0)


def _ptrace_listen(child: Task) -> None:
    """Leave a seized task in its group stop, but hear of changes. The PTRACE_LISTEN case of ``ptrace_request``."""
    info = child.last_siginfo
    assert child.ptrace is not None
    if not child.ptrace.seized or info is None or info.code >> 8 != PtraceEvent.STOP:
        raise KernelError(Errno.EIO)
    child.jobctl |= JobCtl.LISTENING
    if child.jobctl & JobCtl.TRAP_NOTIFY:  # something has changed since the trap began
        ptrace_signal_wake_up(child, resume=True)


def _ptrace_resume(child: Task, request: Request, sig: int) -> None:
    """Source: ``kernel/ptrace.c:ptrace_resume``."""
    ptrace = child.ptrace
    assert ptrace is not None
    if sig > NSIG:
        raise KernelError(Errno.EIO)
    ptrace.trace_syscalls = request is Request.SYSCALL
    ptrace.emulate_syscalls = request in (Request.SYSEMU, Request.SYSEMU_SINGLESTEP)
    step = request in (Request.SINGLESTEP, Request.SYSEMU_SINGLESTEP)
    if step or ptrace.single_step:
        child.arch.set_single_step(child, step)
        ptrace.single_step = step
    child.exit_code = sig
    child.jobctl &= ~JobCtl.TRACED
    child.kernel.sched.try_to_wake_up(child, (TaskState.TRACED,))


def _ptrace_detach(tracer: Task, child: Task, sig: int) -> None:
    """Source: ``kernel/ptrace.c:ptrace_detach``."""
    if sig > NSIG:
        raise KernelError(Errno.EIO)
    child.exit_code = sig
    ptrace_detach_from(tracer, child)


# Registers


def _ptrace_regset(task: Task, child: Task, kind: int, uiov: int, *, store: bool) -> None:
    """Source: ``kernel/ptrace.c:ptrace_regset``."""
    base, length = _IOVEC.unpack(copy_from_user(task, uiov, _IOVEC.size))
    whole = child.arch.get_regset(child, kind)
    if length % (_WORD if kind == _NT_PRSTATUS else _WORD // 2):
        raise KernelError(Errno.EINVAL)
    length = min(length, len(whole))
    if store:
        child.arch.set_regset(child, kind, copy_from_user(task, base, length))
    else:
        copy_to_user(task, base, whole[:length])
    put_user(task, uiov + _WORD, length, _WORD)


def _ptrace_get_syscall_info(task: Task, child: Task, size: int, data: int) -> int:
    """What kind of stop it is, for tracers that do not know the registers; bytes there are to tell.

    Source: ``kernel/ptrace.c:ptrace_get_syscall_info``.
    """
    arch, ptrace = child.arch, child.ptrace
    assert ptrace is not None
    op, body = SyscallInfo.NONE, b""
    match child.last_siginfo.code if child.last_siginfo is not None else 0:
        case code if code == Signal.SIGTRAP | SYSGOOD and ptrace.message == EventMessage.SYSCALL_ENTRY:
            nr, args = arch.syscall_get_args(child)
            op, body = SyscallInfo.ENTRY, _INFO_ENTRY.pack(nr & _MASK64, *args)
        case code if code == Signal.SIGTRAP | SYSGOOD and ptrace.message == EventMessage.SYSCALL_EXIT:
            value = arch.syscall_get_return(child)
            op, body = SyscallInfo.EXIT, _INFO_EXIT.pack(value, -_MAX_ERRNO <= value < 0)
        case code if code == Signal.SIGTRAP | PtraceEvent.SECCOMP << 8:
            nr, args = arch.syscall_get_args(child)
            op, body = SyscallInfo.SECCOMP, _INFO_SECCOMP.pack(nr & _MASK64, *args, ptrace.message)
    head = _INFO_HEAD.pack(op, arch.audit_arch, arch.instruction_pointer(child), arch.stack_pointer(child))
    info = head + body
    copy_to_user(task, data, info.ljust(_INFO_SIZE, b"\0")[: min(len(info), size)])
    return len(info)
