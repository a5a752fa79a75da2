"""Filters for system calls.

Mirrors ``kernel/seccomp.c``. `secure_computing` is asked before every call of a task that has filters. Left out:
notification of a supervisor (SECCOMP_FILTER_FLAG_NEW_LISTENER), and the log.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.kernel.bpf_filter import BPF_MAXINSNS, Insn, check_filter, run_filter
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.exit import do_exit
from minikern.kernel.flags import fast_flags
from minikern.kernel.ptrace import PtraceEvent, ptrace_event, ptrace_event_enabled
from minikern.kernel.siginfo import FaultCode, Layout, SigInfo, Signal
from minikern.kernel.signal import force_sig_info
from minikern.kernel.syscalls import Ptr, UInt, syscall
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_DATA = struct.Struct("<iIQ6Q")  # struct seccomp_data
_WORDS = struct.Struct("<16I")  # the same as the filter reads it
assert _DATA.size == _WORDS.size == 64
_FPROG = struct.Struct("<H6xQ")  # struct sock_fprog
_INSN = struct.Struct("<HBBI")  # struct sock_filter
_NOTIF_SIZES = struct.Struct("<3H")  # struct seccomp_notif_sizes
_U64 = (1 << 64) - 1
_MODE1_SYSCALLS = frozenset({"read", "write", "exit", "rt_sigreturn"})


class SeccompMode(IntEnum):
    """``SECCOMP_MODE_*``."""

    DISABLED = 0
    STRICT = 1
    FILTER = 2
    DEAD = 3  # killed by a filter: nothing is allowed any more


class Op(IntEnum):
    """Operations of seccomp(2)."""

    SET_MODE_STRICT = 0
    SET_MODE_FILTER = 1
    GET_ACTION_AVAIL = 2
    GET_NOTIF_SIZES = 3


@fast_flags
class FilterFlag(IntFlag):
    """``SECCOMP_FILTER_FLAG_*``."""

    TSYNC = 0x01
    LOG = 0x02
    SPEC_ALLOW = 0x04
    NEW_LISTENER = 0x08
    TSYNC_ESRCH = 0x10
    WAIT_KILLABLE_RECV = 0x20


class Ret(IntEnum):
    """What a filter decides, in the upper half of what it returns (``SECCOMP_RET_*``)."""

    KILL_PROCESS = 0x80000000
    KILL_THREAD = 0x00000000
    TRAP = 0x00030000
    ERRNO = 0x00050000
    USER_NOTIF = 0x7FC00000
    TRACE = 0x7FF00000
    LOG = 0x7FFC0000
    ALLOW = 0x7FFF0000


_RET_ACTION_FULL = 0xFFFF0000
_RET_DATA = 0x0000FFFF
_MAX_ERRNO = 4095
_SUPPORTED_FLAGS = FilterFlag.TSYNC | FilterFlag.LOG | FilterFlag.SPEC_ALLOW | FilterFlag.TSYNC_ESRCH


@dataclass(slots=True, eq=False, frozen=True)
class Seccomp:
    """What a task may call. Never changed in place, so children simply share it."""

    mode: SeccompMode
    filters: tuple[tuple[Insn, ...], ...] = ()  # the one added last comes first


def secure_computing(task: Task, proceed: partial[Result]) -> Result | None:
    """Ask the filters about the call that ``task`` has entered: None to go on, else the call's result.

    ``proceed`` makes the call when a tracer has to be asked first.

    Source: ``kernel/seccomp.c:__secure_computing``.
    """
    seccomp = task.seccomp
    assert seccomp is not None
    match seccomp.mode:
        case SeccompMode.STRICT:
            if task.arch.syscalls.get(task.syscall.nr) in _MODE1_SYSCALLS:
                return None
            return _kill_thread(task, seccomp, Signal.SIGKILL)
        case SeccompMode.FILTER:
            return _seccomp_filter(task, seccomp, proceed)
        case _:
            return _kill_thread(task, seccomp, Signal.SIGKILL)


def _kill_thread(task: Task, seccomp: Seccomp, sig: Signal) -> Result:
    task.seccomp = Seccomp(SeccompMode.DEAD, seccomp.filters)
    return do_exit(task, sig)


def _seccomp_filter(task: Task, seccomp: Seccomp, proceed: partial[Result] | None) -> Result | None:
    """Source: ``kernel/seccomp.c:__seccomp_filter``."""
    verdict = _seccomp_run_filters(task, seccomp)
    action, data = verdict & _RET_ACTION_FULL, verdict & _RET_DATA
    match action:
        case Ret.ALLOW | Ret.LOG:
            return None
        case Ret.ERRNO:
            return -min(data, _MAX_ERRNO)
        case Ret.TRACE if proceed is None:
            return None  # the tracer has been asked
        case Ret.TRACE if proceed is not None and ptrace_event_enabled(task, PtraceEvent.SECCOMP):
            return ptrace_event(task, PtraceEvent.SECCOMP, data, partial(_traced, task, seccomp, proceed))
        case Ret.TRACE | Ret.USER_NOTIF:
            return -Errno.ENOSYS  # nobody is there to decide
        case Ret.TRAP:
            return _skip_with_sigsys(task, data)
        case Ret.KILL_THREAD if task.signal.live > 1:
            return _kill_thread(task, seccomp, Signal.SIGSYS)
        case _:
            task.seccomp = Seccomp(SeccompMode.DEAD, seccomp.filters)
            return _skip_with_sigsys(task, data, exit_now=True)


def _traced(task: Task, seccomp: Seccomp, proceed: partial[Result]) -> Result:
    """The tracer has seen the call and perhaps changed it: ask the filters about what it is now."""
    call = task.syscall
    call.nr, call.args = task.arch.syscall_get_args(task)
    if call.nr < 0:
        return 0  # it is not to be made; the tracer has set the result
    verdict = _seccomp_filter(task, seccomp, None)
    return verdict if verdict is not None else proceed()


def _seccomp_run_filters(task: Task, seccomp: Seccomp) -> int:
    """The strictest of what all filters say. Source: ``kernel/seccomp.c:seccomp_run_filters``."""
    call = task.syscall
    ip = task.arch.instruction_pointer(task)
    data = _DATA.pack(call.nr, task.arch.audit_arch, ip, *(arg & _U64 for arg in call.args))
    words = _WORDS.unpack(data)
    verdict: int = Ret.ALLOW
    for program in seccomp.filters:
        answer = run_filter(program, words)
        if _strictness(answer) < _strictness(verdict):
            verdict = answer
    return verdict


def _strictness(verdict: int) -> int:
    """Actions in order, the strictest first: the upper half as a signed number."""
    action = verdict & _RET_ACTION_FULL
    return action - (1 << 32) if action & Ret.KILL_PROCESS else action


def _skip_with_sigsys(task: Task, data: int, *, exit_now: bool = False) -> Result:
    """Do not make the call, but raise SIGSYS, with the registers as they were. Source: ``kernel/signal.c:force_sig_seccomp``."""
    arch, call = task.arch, task.syscall
    info = SigInfo(
        Signal.SIGSYS,
        FaultCode.SYS_SECCOMP,
        errno=data,
        layout=Layout.SYS,
        addr=arch.instruction_pointer(task),
        syscall=call.nr,
        audit_arch=arch.audit_arch,
    )
    arch.syscall_rollback(task)
    call.nr = -1  # so nothing is written to the result register, and nothing restarted
    force_sig_info(info, task, exit_now=exit_now)
    return 0


# System calls


@syscall("seccomp", partial="no SECCOMP_FILTER_FLAG_NEW_LISTENER")
def sys_seccomp(task: Task, op: UInt, flags: UInt, uargs: Ptr) -> Result:
    """Source: ``kernel/seccomp.c:do_seccomp``."""
    match op:
        case Op.SET_MODE_STRICT:
            if flags or uargs:
                raise KernelError(Errno.EINVAL)
            return _set_mode_strict(task)
        case Op.SET_MODE_FILTER:
            return _set_mode_filter(task, flags, uargs)
        case Op.GET_ACTION_AVAIL:
            if flags:
                raise KernelError(Errno.EINVAL)
            if get_user(task, uargs, 4) not in set(Ret) - {Ret.USER_NOTIF}:
                raise KernelError(Errno.EOPNOTSUPP)
            return 0
        case Op.GET_NOTIF_SIZES:
            if flags:
                raise KernelError(Errno.EINVAL)
            copy_to_user(task, uargs, _NOTIF_SIZES.pack(80, 24, _DATA.size))
            return 0
        case _:
            raise KernelError(Errno.EINVAL)


def prctl_set_seccomp(task: Task, mode: int, filter_: int) -> Result:
    """PR_SET_SECCOMP. Source: ``kernel/seccomp.c:prctl_set_seccomp``."""
    match mode:
        case SeccompMode.STRICT:
            return _set_mode_strict(task)
        case SeccompMode.FILTER:
            return _set_mode_filter(task, 0, filter_)
        case _:
            raise KernelError(Errno.EINVAL)


def _may_assign_mode(task: Task, mode: SeccompMode) -> None:
    if task.seccomp is not None and task.seccomp.mode is not mode:
        raise KernelError(Errno.EINVAL)


def _set_mode_strict(task: Task) -> Result:
    _may_assign_mode(task, SeccompMode.STRICT)
    task.seccomp = Seccomp(SeccompMode.STRICT)
    return 0


def _set_mode_filter(task: Task, flags: int, fprog: int) -> Result:
    """Add a filter. Source: ``kernel/seccomp.c:seccomp_set_mode_filter``."""
    if flags & ~int(_SUPPORTED_FLAGS):
        raise KernelError(Errno.EINVAL)
    program = _seccomp_prepare_filter(task, fprog)
    _may_assign_mode(task, SeccompMode.FILTER)
    mine = task.seccomp.filters if task.seccomp is not None else ()
    threads = [task]
    if flags & FilterFlag.TSYNC:
        stranger = next((each for each in task.signal.threads if not _can_sync(each, mine)), None)
        if stranger is not None:
            if flags & FilterFlag.TSYNC_ESRCH:
                raise KernelError(Errno.ESRCH)
            return stranger.pid
        threads = task.signal.threads
    seccomp = Seccomp(SeccompMode.FILTER, (program, *mine))
    for thread in threads:
        thread.seccomp = seccomp
        thread.no_new_privs |= task.no_new_privs
    return 0


def _can_sync(thread: Task, filters: tuple[tuple[Insn, ...], ...]) -> bool:
    """Whether a thread has no filters that the caller does not have. Source: ``kernel/seccomp.c:seccomp_can_sync_threads``."""
    if thread.seccomp is None:
        return True
    theirs = thread.seccomp.filters
    if thread.seccomp.mode is not SeccompMode.FILTER or len(theirs) > len(filters):
        return False
    common = filters[len(filters) - len(theirs) :]
    return all(one is other for one, other in zip(theirs, common, strict=True))


def _seccomp_prepare_filter(task: Task, fprog: int) -> tuple[Insn, ...]:
    """Read a program and check it. Source: ``kernel/seccomp.c:seccomp_prepare_filter``."""
    length, address = _FPROG.unpack(copy_from_user(task, fprog, _FPROG.size))
    if not 0 < length <= BPF_MAXINSNS:
        raise KernelError(Errno.EINVAL)
    if not task.no_new_privs and not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EACCES)
    data = copy_from_user(task, address, length * _INSN.size)
    program = tuple(Insn(*fields) for fields in _INSN.iter_unpack(data))
    check_filter(program, _DATA.size)
    return program
