"""The system calls about signals.

Mirrors the second half of ``kernel/signal.c``.
"""

from __future__ import annotations

import struct
from functools import partial

from minikern.kernel.errno import ERESTARTNOHAND, Errno, KernelError
from minikern.kernel.pid import Pid, find_task, task_pgrp
from minikern.kernel.siginfo import SA, SIG_DFL, SIG_IGN, SIGINFO_SIZE, SiCode, SigInfo
from minikern.kernel.signal import (
    SIG_KERNEL_IGNORE_MASK,
    SIG_KERNEL_ONLY_MASK,
    check_kill_permission,
    dequeue_signal,
    do_send_sig_info,
    flush_sigqueue_mask,
    force_sigsegv,
    group_send_sig_info,
    kill_pgrp,
    kill_pid,
    recalc_sigpending,
    set_current_blocked,
    set_task_blocked,
    sigmask,
    signal_pending,
    user_siginfo,
)
from minikern.kernel.syscalls import Int, Ptr, Sig, Size, syscall
from minikern.kernel.syscalls import Pid as PidArg
from minikern.kernel.task import NSIG, PidType, Task
from minikern.kernel.time import get_timespec_ns
from minikern.kernel.waitqueue import Result, Wait
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
_SIGSET_SIZE = 8
_SIGACTION = struct.Struct("<QQQQ")  # struct sigaction with sa_restorer: handler, flags, restorer, mask
_INT_MIN = -(1 << 31)
_ALL = (1 << 64) - 1


def _check_sigset_size(size: int) -> None:
    if size != _SIGSET_SIZE:
        raise KernelError(Errno.EINVAL)


# The mask


@syscall("rt_sigprocmask", inline=True)
def sys_rt_sigprocmask(task: Task, how: Int, nset: Ptr, oset: Ptr, sigsetsize: Size) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE4(rt_sigprocmask)``."""
    _check_sigset_size(sigsetsize)
    old = task.blocked
    if nset:
        new = get_user(task, nset, 8) & ~SIG_KERNEL_ONLY_MASK
        if how == SIG_BLOCK:
            new |= old
        elif how == SIG_UNBLOCK:
            new = old & ~new
        elif how != SIG_SETMASK:
            raise KernelError(Errno.EINVAL)
        set_current_blocked(task, new)
    if oset:
        put_user(task, oset, old, 8)
    return 0


@syscall("rt_sigpending")
def sys_rt_sigpending(task: Task, uset: Ptr, sigsetsize: Size) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE2(rt_sigpending)``."""
    if sigsetsize > _SIGSET_SIZE:
        raise KernelError(Errno.EINVAL)
    pending = (task.pending.signal | task.signal.shared_pending.signal) & task.blocked
    copy_to_user(task, uset, pending.to_bytes(8, "little")[:sigsetsize])
    return 0


def set_user_sigmask(task: Task, umask: int, sigsetsize: int) -> None:
    """The mask for the duration of a call (ppoll, pselect, epoll_pwait). Source: ``kernel/signal.c:set_user_sigmask``."""
    if not umask:
        return
    _check_sigset_size(sigsetsize)
    mask = get_user(task, umask, 8)
    task.saved_sigmask = task.blocked
    set_current_blocked(task, mask)


@syscall("rt_sigsuspend")
def sys_rt_sigsuspend(task: Task, unewset: Ptr, sigsetsize: Size) -> Result:
    """Source: ``kernel/signal.c:sigsuspend``."""
    _check_sigset_size(sigsetsize)
    mask = get_user(task, unewset, 8)
    task.saved_sigmask = task.blocked
    set_current_blocked(task, mask)
    return do_pause(task)


def do_pause(task: Task) -> Result:
    """Sleep until a signal has been handled. Source: ``kernel/signal.c:pause``."""
    return Wait((), partial(do_pause, task), interrupted=-ERESTARTNOHAND, wchan="do_sys_pause")


# Actions


@syscall("rt_sigaction")
def sys_rt_sigaction(task: Task, sig: Sig, act: Ptr, oact: Ptr, sigsetsize: Size) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE4(rt_sigaction)`` and ``do_sigaction``."""
    _check_sigset_size(sigsetsize)
    new = _SIGACTION.unpack(copy_from_user(task, act, _SIGACTION.size)) if act else None
    if not 1 <= sig <= NSIG or (new is not None and sigmask(sig) & SIG_KERNEL_ONLY_MASK):
        raise KernelError(Errno.EINVAL)
    assert task.sighand is not None
    action = task.sighand.action[sig - 1]
    if action.flags & SA.IMMUTABLE:
        raise KernelError(Errno.EINVAL)
    old = _SIGACTION.pack(action.handler, action.flags, action.restorer, action.mask)
    if new is not None:
        handler, flags, restorer, mask = new
        action.handler = handler
        action.flags = flags & ~(SA.UNSUPPORTED | SA.IMMUTABLE) & _KNOWN_FLAGS
        action.restorer = restorer
        action.mask = mask & ~SIG_KERNEL_ONLY_MASK
        if handler == SIG_IGN or (handler == SIG_DFL and sigmask(sig) & SIG_KERNEL_IGNORE_MASK):
            _forget_ignored(task, sigmask(sig))
    if oact:
        copy_to_user(task, oact, old)
    return 0


_KNOWN_FLAGS = sum(SA) & ~SA.IMMUTABLE


def _forget_ignored(task: Task, mask: int) -> None:
    """What is ignored from now on and pending is forgotten, as POSIX wants it."""
    flush_sigqueue_mask(task.kernel, mask, task.signal.shared_pending)
    for thread in task.signal.threads:
        flush_sigqueue_mask(task.kernel, mask, thread.pending)
        recalc_sigpending(thread)


@syscall("rt_sigreturn")
def sys_rt_sigreturn(task: Task) -> Result:
    """Source: ``arch/*/kernel/signal.c:rt_sigreturn``."""
    task.restart_block = None
    try:
        result = task.arch.restore_rt_frame(task)
    except KernelError:
        task.syscall.nr = -1
        force_sigsegv(0, task)
        return 0
    task.syscall.nr = -1  # whatever the frame interrupted, it is not this call that would be restarted
    return result


@syscall("restart_syscall")
def sys_restart_syscall(task: Task) -> Result:
    """Go on with a call that a stop interrupted. Source: ``kernel/signal.c:SYSCALL_DEFINE0(restart_syscall)``."""
    restart, task.restart_block = task.restart_block, None
    if restart is None:
        raise KernelError(Errno.EINTR)
    return restart()


# Waiting for a signal without a handler


@syscall("rt_sigtimedwait")
def sys_rt_sigtimedwait(task: Task, uthese: Ptr, uinfo: Ptr, uts: Ptr, sigsetsize: Size) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE4(rt_sigtimedwait)`` and ``do_sigtimedwait``."""
    _check_sigset_size(sigsetsize)
    these = get_user(task, uthese, 8) & ~SIG_KERNEL_ONLY_MASK
    timeout_ns = get_timespec_ns(task, uts) if uts else None
    mask = _ALL & ~these
    info = dequeue_signal(task, mask)
    if info is not None:
        return _took(task, uinfo, info)
    if timeout_ns == 0:
        raise KernelError(Errno.EAGAIN)
    # While it sleeps the signals are not blocked, so that they wake it; senders see the real mask in real_blocked.
    deadline_ns = None if timeout_ns is None else task.kernel.sources.monotonic_ns() + timeout_ns
    task.real_blocked = task.blocked
    task.blocked &= ~these
    recalc_sigpending(task)
    return Wait(
        (),
        partial(_sigtimedwait_woken, task, mask, uinfo),
        deadline_ns=deadline_ns,
        interrupted=partial(_sigtimedwait_ends, task, mask, uinfo, -Errno.EINTR),
        timed_out=partial(_sigtimedwait_ends, task, mask, uinfo, -Errno.EAGAIN),
        wchan="do_sigtimedwait",
    )


def _sigtimedwait_woken(task: Task, mask: int, uinfo: int) -> Result:
    return _sigtimedwait_ends(task, mask, uinfo, -Errno.EINTR if signal_pending(task) else -Errno.EAGAIN)


def _sigtimedwait_ends(task: Task, mask: int, uinfo: int, nothing: int) -> Result:
    set_task_blocked(task, task.real_blocked)
    task.real_blocked = 0
    info = dequeue_signal(task, mask)
    return nothing if info is None else _took(task, uinfo, info)


def _took(task: Task, uinfo: int, info: SigInfo) -> int:
    if uinfo:
        copy_to_user(task, uinfo, info.pack())
    return info.signo


# Sending


@syscall("kill")
def sys_kill(task: Task, pid: PidArg, sig: Sig) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE2(kill)`` and ``kill_something_info``."""
    info = user_siginfo(task, sig)
    if pid > 0:
        kill_pid(task.kernel.pids.find(pid), sig, info)
        return 0
    if pid == _INT_MIN:
        raise KernelError(Errno.ESRCH)
    if pid != -1:
        group: Pid | None = task.kernel.pids.find(-pid) if pid else task_pgrp(task)
        if group is None:
            raise KernelError(Errno.ESRCH)
        kill_pgrp(group, sig, info)
        return 0
    result, count = 0, 0
    for process in tuple(task.kernel.pids.all_processes()):
        if process.pid <= 1 or process.signal is task.signal:
            continue
        count += 1
        try:
            group_send_sig_info(sig, info, process, PidType.TGID)
        except KernelError as error:
            if error.errno != Errno.EPERM:
                result = -error.errno
    return result if count else -Errno.ESRCH


def _do_tkill(task: Task, tgid: int, pid: int, sig: int, info: SigInfo) -> int:
    """Source: ``kernel/signal.c:do_send_specific``."""
    target = find_task(task.kernel, pid)
    if target is None or (tgid > 0 and target.tgid != tgid):
        raise KernelError(Errno.ESRCH)
    check_kill_permission(task, sig, info, target)
    if sig:
        try:
            do_send_sig_info(sig, info, target, PidType.PID)
        except KernelError as error:
            if error.errno != Errno.ESRCH:  # it is dying: not worth an error
                raise
    return 0


@syscall("tgkill")
def sys_tgkill(task: Task, tgid: PidArg, pid: PidArg, sig: Sig) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE3(tgkill)``."""
    if pid <= 0 or tgid <= 0:
        raise KernelError(Errno.EINVAL)
    return _do_tkill(task, tgid, pid, sig, user_siginfo(task, sig, SiCode.SI_TKILL))


@syscall("tkill")
def sys_tkill(task: Task, pid: PidArg, sig: Sig) -> Result:
    """Source: ``kernel/signal.c:SYSCALL_DEFINE2(tkill)``."""
    if pid <= 0:
        raise KernelError(Errno.EINVAL)
    return _do_tkill(task, 0, pid, sig, user_siginfo(task, sig, SiCode.SI_TKILL))


def copy_siginfo_from_user(task: Task, sig: int, uinfo: int) -> SigInfo:
    """A signal that the guest describes itself. Source: ``kernel/signal.c:copy_siginfo_from_user``."""
    data = bytearray(copy_from_user(task, uinfo, SIGINFO_SIZE))
    data[:4] = sig.to_bytes(4, "little", signed=True)
    return SigInfo.unpack(bytes(data))


@syscall("rt_sigqueueinfo")
def sys_rt_sigqueueinfo(task: Task, pid: PidArg, sig: Sig, uinfo: Ptr) -> Result:
    """Source: ``kernel/signal.c:do_rt_sigqueueinfo``."""
    info = copy_siginfo_from_user(task, sig, uinfo)
    if (info.code >= 0 or info.code == SiCode.SI_TKILL) and task.tgid != pid:
        raise KernelError(Errno.EPERM)
    kill_pid(task.kernel.pids.find(pid), sig, info)
    return 0


@syscall("rt_tgsigqueueinfo")
def sys_rt_tgsigqueueinfo(task: Task, tgid: PidArg, pid: PidArg, sig: Sig, uinfo: Ptr) -> Result:
    """Source: ``kernel/signal.c:do_rt_tgsigqueueinfo``."""
    info = copy_siginfo_from_user(task, sig, uinfo)
    if pid <= 0 or tgid <= 0:
        raise KernelError(Errno.EINVAL)
    if (info.code >= 0 or info.code == SiCode.SI_TKILL) and task.pid != pid:
        raise KernelError(Errno.EPERM)
    return _do_tkill(task, tgid, pid, sig, info)
