"""Sending signals: pending sets, who is woken, what is dropped, what a fatal signal does to a group.

Mirrors the sending half of ``kernel/signal.c``. Taking signals and running handlers is in
`minikern.kernel.signal_delivery`, job control in `minikern.kernel.jobctl`, the system calls in
`minikern.kernel.signal_calls`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import Pid, task_session
from minikern.kernel.resource import Rlimit
from minikern.kernel.siginfo import SA, SIG_DFL, SIG_IGN, SIGRTMIN, Layout, SiCode, SigInfo, Signal
from minikern.kernel.task import (
    NSIG,
    PF,
    ExitState,
    JobCtl,
    PidType,
    SigAction,
    SignalFlags,
    SignalStruct,
    SigPending,
    Task,
)
from minikern.kernel.waitqueue import TaskState

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel

_MASK64 = (1 << 64) - 1


def sigmask(*signals: int) -> int:
    """The set that holds just these signals."""
    mask = 0
    for sig in signals:
        mask |= 1 << (sig - 1)
    return mask


SIG_KERNEL_ONLY_MASK = sigmask(Signal.SIGKILL, Signal.SIGSTOP)
SIG_KERNEL_STOP_MASK = sigmask(Signal.SIGSTOP, Signal.SIGTSTP, Signal.SIGTTIN, Signal.SIGTTOU)
SIG_KERNEL_COREDUMP_MASK = sigmask(
    Signal.SIGQUIT,
    Signal.SIGILL,
    Signal.SIGTRAP,
    Signal.SIGABRT,
    Signal.SIGFPE,
    Signal.SIGSEGV,
    Signal.SIGBUS,
    Signal.SIGSYS,
    Signal.SIGXCPU,
    Signal.SIGXFSZ,
)
SIG_KERNEL_IGNORE_MASK = sigmask(Signal.SIGCONT, Signal.SIGCHLD, Signal.SIGWINCH, Signal.SIGURG)
SYNCHRONOUS_MASK = sigmask(Signal.SIGSEGV, Signal.SIGBUS, Signal.SIGILL, Signal.SIGTRAP, Signal.SIGFPE, Signal.SIGSYS)


def sig_fatal(task: Task, sig: int) -> bool:
    """Whether the signal would kill the process if nothing blocked it (``sig_fatal``)."""
    assert task.sighand is not None
    return (
        not sigmask(sig) & (SIG_KERNEL_IGNORE_MASK | SIG_KERNEL_STOP_MASK)
        and task.sighand.action[sig - 1].handler == SIG_DFL
    )


# Is anything pending?


def signal_pending(task: Task) -> bool:
    """Whether a sleep that signals may interrupt has to end (``signal_pending``)."""
    return task.sigpending


def fatal_signal_pending(task: Task) -> bool:
    """Whether SIGKILL is pending (``fatal_signal_pending``)."""
    return task.sigpending and task.pending.signal & sigmask(Signal.SIGKILL) != 0


def signal_pending_state(state: TaskState, task: Task) -> bool:
    """Whether a pending signal ends a sleep of that kind. Source: ``include/linux/sched/signal.h:signal_pending_state``."""
    if not task.sigpending or state is TaskState.UNINTERRUPTIBLE:
        return False
    return state is TaskState.INTERRUPTIBLE or fatal_signal_pending(task)


def recalc_sigpending(task: Task) -> bool:
    """Compute anew whether the task must look for signals. Source: ``kernel/signal.c:recalc_sigpending_tsk``."""
    pending = (task.pending.signal | task.signal.shared_pending.signal) & ~task.blocked
    if pending or task.jobctl & JobCtl.PENDING_MASK:
        task.sigpending = True
        return True
    task.sigpending = False
    return False


def recalc_sigpending_and_wake(task: Task) -> None:
    """The same for a task other than the current one. Source: ``kernel/signal.c:recalc_sigpending_and_wake``."""
    if recalc_sigpending(task):
        signal_wake_up(task, fatal=False)


def signal_wake_up(task: Task, *, fatal: bool) -> None:
    """Have the task look at its signals soon. Source: ``kernel/signal.c:signal_wake_up_state``."""
    states: tuple[TaskState, ...] = (TaskState.INTERRUPTIBLE,)
    if fatal:
        task.jobctl &= ~(JobCtl.STOPPED | JobCtl.TRACED)
        states = (TaskState.INTERRUPTIBLE, TaskState.KILLABLE, TaskState.STOPPED, TaskState.TRACED)
    task.sigpending = True
    if task.kernel.sched.try_to_wake_up(task, states):
        task.kernel.need_resched = True  # a second processor would let it run at once


def ptrace_signal_wake_up(task: Task, *, resume: bool) -> None:
    """The same for a tracee in a trap. Source: ``include/linux/sched/signal.h:ptrace_signal_wake_up``."""
    states: tuple[TaskState, ...] = (TaskState.INTERRUPTIBLE,)
    if resume:
        task.jobctl &= ~JobCtl.TRACED
        states = (TaskState.INTERRUPTIBLE, TaskState.TRACED)
    task.sigpending = True
    task.kernel.sched.try_to_wake_up(task, states)


# What is ignored


def sig_handler(task: Task, sig: int) -> int:
    """The handler in force (``sig_handler``)."""
    assert task.sighand is not None
    return task.sighand.action[sig - 1].handler


def _sig_handler_ignored(handler: int, sig: int) -> bool:
    return handler == SIG_IGN or (handler == SIG_DFL and sigmask(sig) & SIG_KERNEL_IGNORE_MASK != 0)


def _sig_task_ignored(task: Task, sig: int, force: bool) -> bool:
    """Source: ``kernel/signal.c:sig_task_ignored``."""
    handler = sig_handler(task, sig)
    if (
        task.signal.flags & SignalFlags.UNKILLABLE
        and handler == SIG_DFL
        and not (force and sigmask(sig) & SIG_KERNEL_ONLY_MASK)
    ):
        return True
    return _sig_handler_ignored(handler, sig)


def sig_ignored(task: Task, sig: int, force: bool) -> bool:
    """Whether the signal need not even be queued. Source: ``kernel/signal.c:sig_ignored``."""
    if (task.blocked | task.real_blocked) & sigmask(sig):
        return False  # what it will do is decided when it is unblocked
    if task.ptrace is not None and sig != Signal.SIGKILL:
        return False  # the tracer wants to see it
    return _sig_task_ignored(task, sig, force)


# Queues


def _sigqueue_alloc(task: Task, info: SigInfo, override_rlimit: bool) -> bool:
    """Charge a queue entry to the sender's limit; False: there is no room. Source: ``__sigqueue_alloc``."""
    kernel = task.kernel
    uid = task.cred.uid
    count = kernel.sigpending_count.get(uid, 0)
    if not override_rlimit and count >= task.signal.rlim.cur(Rlimit.SIGPENDING):
        return False
    kernel.sigpending_count[uid] = count + 1
    info.charged_uid = uid
    return True


def _sigqueue_free(kernel: Kernel, info: SigInfo) -> None:
    if info.charged_uid is not None:
        left = kernel.sigpending_count[info.charged_uid] - 1
        if left:
            kernel.sigpending_count[info.charged_uid] = left
        else:
            del kernel.sigpending_count[info.charged_uid]
        info.charged_uid = None


def flush_sigqueue(kernel: Kernel, pending: SigPending) -> None:
    """Forget everything that is pending in a set. Source: ``kernel/signal.c:flush_sigqueue``."""
    pending.signal = 0
    for info in pending.queue:
        _sigqueue_free(kernel, info)
    pending.queue.clear()


def flush_sigqueue_mask(kernel: Kernel, mask: int, pending: SigPending) -> None:
    """Forget the signals of ``mask``. Source: ``kernel/signal.c:flush_sigqueue_mask``."""
    if not pending.signal & mask:
        return
    pending.signal &= ~mask
    for info in [each for each in pending.queue if sigmask(each.signo) & mask]:
        pending.queue.remove(info)
        _sigqueue_free(kernel, info)


def flush_signal_handlers(task: Task, *, force_default: bool) -> None:
    """Handlers go back to the default, as exec wants it. Source: ``kernel/signal.c:flush_signal_handlers``."""
    assert task.sighand is not None
    for number, action in enumerate(task.sighand.action):
        keep = action.handler == SIG_IGN and not force_default
        task.sighand.action[number] = SigAction(handler=SIG_IGN if keep else SIG_DFL)


def next_signal(pending: SigPending, blocked: int) -> int:
    """The signal to take first: synchronous ones, then by number; 0: none. Source: ``kernel/signal.c:next_signal``."""
    ready = pending.signal & ~blocked
    if not ready:
        return 0
    ready = ready & SYNCHRONOUS_MASK or ready
    return (ready & -ready).bit_length()


def collect_signal(kernel: Kernel, sig: int, pending: SigPending) -> SigInfo:
    """Take the oldest entry of a signal off the queue. Source: ``kernel/signal.c:collect_signal``."""
    entries = [info for info in pending.queue if info.signo == sig]
    if len(entries) < 2:
        pending.signal &= ~sigmask(sig)
    if not entries:
        return SigInfo(sig, SiCode.SI_USER)  # nothing is known of it: there was no room
    pending.queue.remove(entries[0])
    _sigqueue_free(kernel, entries[0])
    return entries[0]


def dequeue_signal(task: Task, mask: int) -> SigInfo | None:
    """Take the next signal that ``mask`` does not hold back. Source: ``kernel/signal.c:dequeue_signal``."""
    while True:
        pending = task.pending
        sig = next_signal(pending, mask)
        if not sig:
            pending = task.signal.shared_pending
            sig = next_signal(pending, mask)
        recalc = sig or task.sigpending
        info = collect_signal(task.kernel, sig, pending) if sig else None
        if recalc:
            recalc_sigpending(task)
        if info is None:
            return None
        if sigmask(sig) & SIG_KERNEL_STOP_MASK:
            task.jobctl |= JobCtl.STOP_DEQUEUED
        if info.timer is None or info.timer.signal_dequeued(info):
            return info


# Permission and siginfo of the sender


def kernel_siginfo(sig: int) -> SigInfo:
    """A signal that the kernel itself sends (``SEND_SIG_PRIV``)."""
    return SigInfo(sig, SiCode.SI_KERNEL)


def user_siginfo(task: Task, sig: int, code: int = SiCode.SI_USER) -> SigInfo:
    """A signal that ``task`` sends (``prepare_kill_siginfo``)."""
    return SigInfo(sig, code, pid=task.tgid, uid=task.cred.uid)


def check_kill_permission(sender: Task, sig: int, info: SigInfo | None, target: Task) -> None:
    """EPERM when the sender may not. Source: ``kernel/signal.c:check_kill_permission``."""
    if not 0 <= sig <= NSIG:
        raise KernelError(Errno.EINVAL)
    if info is not None and info.code > 0:
        return  # from the kernel
    if sender.group_leader is target.group_leader or kill_ok_by_cred(sender, target):
        return
    if sig == Signal.SIGCONT and task_session(sender) is task_session(target):
        return
    raise KernelError(Errno.EPERM)


def kill_ok_by_cred(sender: Task, target: Task) -> bool:
    """Source: ``kernel/signal.c:kill_ok_by_cred``."""
    mine, theirs = sender.cred, target.cred
    return mine.euid in (theirs.suid, theirs.uid) or mine.uid in (theirs.suid, theirs.uid) or capable(sender, Cap.KILL)


# Sending


def prepare_signal(sig: int, task: Task, force: bool) -> bool:
    """Effects that a signal has by being sent; whether it is to be queued. Source: ``kernel/signal.c:prepare_signal``."""
    signal = task.signal
    kernel = task.kernel
    if signal.flags & SignalFlags.GROUP_EXIT:
        if signal.core_state is not None:
            return sig == Signal.SIGKILL
        return False  # the process is dying
    if sigmask(sig) & SIG_KERNEL_STOP_MASK:
        _flush_everywhere(task, sigmask(Signal.SIGCONT))
    elif sig == Signal.SIGCONT:
        _flush_everywhere(task, SIG_KERNEL_STOP_MASK)
        for thread in signal.threads:
            task_clear_jobctl_pending(thread, JobCtl.STOP_PENDING)
            if thread.ptrace is None or not thread.ptrace.seized:
                thread.jobctl &= ~JobCtl.STOPPED
                kernel.sched.try_to_wake_up(thread, (TaskState.STOPPED,))
            else:
                ptrace_trap_notify(thread)
        why = SignalFlags(0)
        if signal.flags & SignalFlags.STOP_STOPPED:
            why |= SignalFlags.CLD_CONTINUED
        elif signal.group_stop_count:
            why |= SignalFlags.CLD_STOPPED
        if why:
            # Told to the parent by the first thread that comes through get_signal.
            set_stop_flags(signal, why | SignalFlags.STOP_CONTINUED)
            signal.group_stop_count = 0
            signal.group_exit_code = 0
            if (hook := kernel.events.cont) is not None:
                hook(task)
    return not sig_ignored(task, sig, force)


def _flush_everywhere(task: Task, mask: int) -> None:
    flush_sigqueue_mask(task.kernel, mask, task.signal.shared_pending)
    for thread in task.signal.threads:
        flush_sigqueue_mask(task.kernel, mask, thread.pending)


def wants_signal(sig: int, task: Task) -> bool:
    """Whether the thread is a good one to take the signal. Source: ``kernel/signal.c:wants_signal``."""
    if task.blocked & sigmask(sig) or task.flags & PF.EXITING:
        return False
    if sig == Signal.SIGKILL:
        return True
    if task.jobctl & (JobCtl.STOPPED | JobCtl.TRACED):
        return False
    return task is task.kernel.sched.current or not task.sigpending


def complete_signal(sig: int, task: Task, kind: PidType) -> None:
    """Find a thread to take a signal that was queued, and wake it; a fatal one begins the group exit at once.

    Source: ``kernel/signal.c:complete_signal``.
    """
    signal = task.signal
    if wants_signal(sig, task):
        thread = task
    elif kind is PidType.PID or len(signal.threads) <= 1:
        return  # whoever it is for takes it when it unblocks it
    else:
        start = signal.curr_target if signal.curr_target in signal.threads else signal.threads[0]
        index = signal.threads.index(start)
        order = signal.threads[index:] + signal.threads[:index]
        for thread in order:
            if wants_signal(sig, thread):
                break
        else:
            return  # no thread wants it now: it stays in the shared queue
        signal.curr_target = thread

    if (
        sig_fatal(task, sig)
        and (signal.core_state is not None or not signal.flags & SignalFlags.GROUP_EXIT)
        and not thread.real_blocked & sigmask(sig)
        and (sig == Signal.SIGKILL or task.ptrace is None)
        and not sigmask(sig) & SIG_KERNEL_COREDUMP_MASK
    ):
        # Nothing of the process is to run any more: kill all threads now. A core dump decides by itself later.
        start_group_exit(thread, sig)
        for each in signal.threads:
            task_clear_jobctl_pending(each, JobCtl.PENDING_MASK)
            if each is not thread and (hook := task.kernel.events.zap) is not None:
                hook(thread, each)
            each.pending.signal |= sigmask(Signal.SIGKILL)
            signal_wake_up(each, fatal=True)
        return
    signal_wake_up(thread, fatal=sig == Signal.SIGKILL)


def send_signal_locked(sig: int, info: SigInfo | None, task: Task, kind: PidType) -> None:
    """Queue a signal for a thread (PID) or a process. ``info`` None: from the current task, by kill.

    EAGAIN when a queued signal finds no room. Source: ``kernel/signal.c:send_signal_locked``.
    """
    force = info is not None and info.code == SiCode.SI_KERNEL
    result = _queue_signal(sig, info, task, kind, force)
    if (hook := task.kernel.events.signal_generate) is not None:
        hook(task, sig, info, kind is not PidType.PID, result)


def _queue_signal(sig: int, info: SigInfo | None, task: Task, kind: PidType, force: bool) -> str:
    """Source: ``kernel/signal.c:__send_signal_locked``; says what became of the signal, as its trace point does."""
    if not prepare_signal(sig, task, force):
        return "ignored"
    pending = task.pending if kind is PidType.PID else task.signal.shared_pending
    if sig < SIGRTMIN and pending.signal & sigmask(sig):
        return "already_pending"
    if sig == Signal.SIGKILL or task.flags & PF.KTHREAD:
        pass  # nobody will look at what it carries
    else:
        current = task.kernel.sched.current
        if info is None:
            assert current is not None
            info = user_siginfo(current, sig)
        elif info.charged_uid is not None or info in pending.queue:
            info = SigInfo(*(getattr(info, name) for name in SigInfo.__slots__))
        override = sig < SIGRTMIN and info.code >= 0
        if _sigqueue_alloc(task, info, override):
            pending.queue.append(info)
        elif sig >= SIGRTMIN and info.code != SiCode.SI_USER:
            raise KernelError(Errno.EAGAIN)
    if task.sighand is not None:
        task.sighand.signalfd_wqh.wake_up_all()
    pending.signal |= sigmask(sig)
    complete_signal(sig, task, kind)
    return "delivered"


def send_sig_info(sig: int, info: SigInfo | None, task: Task) -> None:
    """Send to one thread. Source: ``kernel/signal.c:send_sig_info``."""
    do_send_sig_info(sig, info, task, PidType.PID)


def send_sig(sig: int, task: Task, priv: bool) -> None:
    """Send to one thread from the kernel (``priv``) or from the current task. Source: ``kernel/signal.c:send_sig``."""
    do_send_sig_info(sig, kernel_siginfo(sig) if priv else None, task, PidType.PID)


def do_send_sig_info(sig: int, info: SigInfo | None, task: Task, kind: PidType) -> None:
    """ESRCH when the task has been released. Source: ``kernel/signal.c:do_send_sig_info``."""
    if task.sighand is None:
        raise KernelError(Errno.ESRCH)
    send_signal_locked(sig, info, task, kind)


def group_send_sig_info(sig: int, info: SigInfo | None, task: Task, kind: PidType) -> None:
    """Check permission, then send to a process. Source: ``kernel/signal.c:group_send_sig_info``."""
    sender = task.kernel.sched.current
    if sender is not None:
        check_kill_permission(sender, sig, info, task)
    if sig:
        do_send_sig_info(sig, info, task, kind)


def kill_pgrp(pid: Pid, sig: int, info: SigInfo | None) -> None:
    """Send to every process of a group; ESRCH when it is empty, else the first error if nobody could be reached.

    Source: ``kernel/signal.c:__kill_pgrp_info``.
    """
    error: KernelError | None = None
    success = False
    for task in tuple(pid.tasks[PidType.PGID]):
        try:
            group_send_sig_info(sig, info, task, PidType.PGID)
            success = True
        except KernelError as failure:
            error = error or failure
    if not success:
        raise error or KernelError(Errno.ESRCH)


def kill_pid(pid: Pid | None, sig: int, info: SigInfo | None, kind: PidType = PidType.TGID) -> None:
    """Send to the process with that number. Source: ``kernel/signal.c:kill_pid_info_type``."""
    task = pid.task(PidType.PID) if pid is not None else None
    if task is None:
        raise KernelError(Errno.ESRCH)
    group_send_sig_info(sig, info, task, kind)


def force_sig_info(info: SigInfo, task: Task, *, to_default: bool = False, exit_now: bool = False) -> None:
    """A signal that the task cannot escape: unblocked, and back to the default where it was blocked or ignored.

    Source: ``kernel/signal.c:force_sig_info_to_task``.
    """
    sig = info.signo
    assert task.sighand is not None
    action = task.sighand.action[sig - 1]
    ignored = action.handler == SIG_IGN
    blocked = task.blocked & sigmask(sig) != 0
    if blocked or ignored or to_default:
        action.handler = SIG_DFL
        if exit_now:
            action.flags |= SA.IMMUTABLE
        if blocked:
            task.blocked &= ~sigmask(sig)
    if action.handler == SIG_DFL and (task.ptrace is None or exit_now):
        task.signal.flags &= ~SignalFlags.UNKILLABLE
    send_signal_locked(sig, info, task, PidType.PID)
    if not task.sigpending:  # a signal that is already pending
        signal_wake_up(task, fatal=False)


def force_sig(sig: int, task: Task) -> None:
    """Source: ``kernel/signal.c:force_sig``."""
    force_sig_info(kernel_siginfo(sig), task)


def force_fatal_sig(sig: int, task: Task) -> None:
    """Whatever the process wanted: it dies of this. Source: ``kernel/signal.c:force_fatal_sig``."""
    force_sig_info(kernel_siginfo(sig), task, to_default=True)


def force_sigsegv(sig: int, task: Task) -> None:
    """The handler of ``sig`` could not be set up. Source: ``kernel/signal.c:force_sigsegv``."""
    if sig == Signal.SIGSEGV:
        force_fatal_sig(Signal.SIGSEGV, task)
    else:
        force_sig(Signal.SIGSEGV, task)


def force_sig_fault(sig: int, code: int, address: int, task: Task) -> None:
    """A synchronous fault. Source: ``kernel/signal.c:force_sig_fault``."""
    force_sig_info(SigInfo(sig, code, layout=Layout.FAULT, addr=address), task)


def start_group_exit(task: Task, code: int) -> None:
    """The process is to end, and this is its status; what was to stop it does not any more.

    The kernel writes these lines out in ``do_group_exit``, ``synchronize_group_exit``, ``complete_signal`` and ``zap_process``.
    """
    signal = task.signal
    signal.flags = SignalFlags.GROUP_EXIT
    signal.group_exit_code = code
    signal.group_stop_count = 0
    if (hook := task.kernel.events.group_exit) is not None:
        hook(task, code)


def zap_other_threads(task: Task) -> int:
    """SIGKILL for every other thread of the group; how many there are. Source: ``kernel/signal.c:zap_other_threads``."""
    count = 0
    task.signal.group_stop_count = 0
    for thread in task.signal.threads:
        if thread is task:
            continue
        task_clear_jobctl_pending(thread, JobCtl.PENDING_MASK)
        count += 1
        if thread.exit_state is not ExitState.ALIVE:
            continue  # a leader that died before
        if (hook := task.kernel.events.zap) is not None:
            hook(task, thread)
        thread.pending.signal |= sigmask(Signal.SIGKILL)
        signal_wake_up(thread, fatal=True)
    return count


# Masks


def set_task_blocked(task: Task, mask: int) -> None:
    """Change the mask; shared signals that become blocked go to a thread that takes them.

    Source: ``kernel/signal.c:__set_task_blocked``.
    """
    if task.sigpending and len(task.signal.threads) > 1:
        newly_blocked = mask & ~task.blocked
        retarget_shared_pending(task, newly_blocked)
    task.blocked = mask
    recalc_sigpending(task)


def set_current_blocked(task: Task, mask: int) -> None:
    """Set the mask, SIGKILL and SIGSTOP excepted. Source: ``kernel/signal.c:set_current_blocked``."""
    mask &= _MASK64 & ~SIG_KERNEL_ONLY_MASK
    if mask != task.blocked:
        set_task_blocked(task, mask)


def retarget_shared_pending(task: Task, which: int) -> None:
    """Wake other threads for shared signals that this one no longer takes. Source: ``kernel/signal.c:retarget_shared_pending``."""
    left = task.signal.shared_pending.signal & which
    for thread in task.signal.threads if left else ():
        if thread is task or thread.flags & PF.EXITING:
            continue
        if not left & ~thread.blocked:
            continue
        left &= thread.blocked
        if not thread.sigpending:
            signal_wake_up(thread, fatal=False)
        if not left:
            break


# Job control bits that sending needs; the rest is in `minikern.kernel.jobctl`


def set_stop_flags(signal: SignalStruct, flags: SignalFlags) -> None:
    """Replace the stop flags of a group. Source: ``include/linux/sched/signal.h:signal_set_stop_flags``."""
    mask = SignalFlags.CLD_MASK | SignalFlags.STOP_STOPPED | SignalFlags.STOP_CONTINUED
    signal.flags = (signal.flags & ~mask) | flags


def task_clear_jobctl_pending(task: Task, mask: JobCtl) -> None:
    """Source: ``kernel/signal.c:task_clear_jobctl_pending``."""
    if mask & JobCtl.STOP_PENDING:
        mask |= JobCtl.STOP_CONSUME | JobCtl.STOP_DEQUEUED
    task.jobctl &= ~mask


def task_set_jobctl_pending(task: Task, mask: JobCtl) -> bool:
    """Source: ``kernel/signal.c:task_set_jobctl_pending``; False when the task is dying."""
    if fatal_signal_pending(task) or task.flags & PF.EXITING:
        return False
    if mask & JobCtl.STOP_SIGMASK:
        task.jobctl &= ~JobCtl.STOP_SIGMASK
    task.jobctl |= mask
    return True


def ptrace_trap_notify(task: Task) -> None:
    """Have a seized tracee trap for a change of its job control state. Source: ``kernel/signal.c:ptrace_trap_notify``."""
    task_set_jobctl_pending(task, JobCtl.TRAP_NOTIFY)
    ptrace_signal_wake_up(task, resume=task.jobctl & JobCtl.LISTENING != 0)
