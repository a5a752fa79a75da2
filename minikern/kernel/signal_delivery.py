"""Taking signals: what happens on the way back to user mode.

Mirrors ``kernel/signal.c:get_signal`` and the generic part of ``arch_do_signal_or_restart``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from minikern.kernel.errno import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
    Errno,
    KernelError,
)
from minikern.kernel.exit import do_group_exit
from minikern.kernel.jobctl import do_notify_parent_cldstop, do_signal_stop, is_current_pgrp_orphaned
from minikern.kernel.ptrace import do_jobctl_trap, ptrace_notify, ptrace_reparented, ptrace_signal
from minikern.kernel.rseq import rseq_handle_notify_resume
from minikern.kernel.sigaltstack import SS_AUTODISARM, sas_ss_reset
from minikern.kernel.siginfo import SA, SIG_DFL, SIG_IGN, Cld, SigInfo, Signal
from minikern.kernel.signal import (
    SIG_KERNEL_COREDUMP_MASK,
    SIG_KERNEL_IGNORE_MASK,
    SIG_KERNEL_ONLY_MASK,
    SIG_KERNEL_STOP_MASK,
    SYNCHRONOUS_MASK,
    collect_signal,
    dequeue_signal,
    force_sigsegv,
    recalc_sigpending,
    set_current_blocked,
    sigmask,
)
from minikern.kernel.task import PF, JobCtl, SigAction, SignalFlags, Task
from minikern.kernel.waitqueue import EXITED, Exited, Wait


class Gone(Enum):
    """The task cannot go back to user mode now."""

    STOPPED = auto()


STOPPED = Gone.STOPPED


@dataclass(slots=True)
class KSignal:
    """A signal that a handler is to be run for (``struct ksignal``)."""

    info: SigInfo
    action: SigAction


def do_signal(task: Task) -> Wait | Exited | Gone | None:
    """Take one signal, set up its handler or restart the call that it interrupted; None: go on to user mode.

    Source: ``arch/*/kernel/signal.c:arch_do_signal_or_restart``.
    """
    ksig = get_signal(task)
    if isinstance(ksig, KSignal):
        return _handle_signal(task, ksig)
    if ksig is not None:
        return ksig
    _restart_syscall_without_handler(task)
    restore_saved_sigmask(task)
    return None


def get_signal(task: Task) -> KSignal | Wait | Exited | Gone | None:
    """The next signal that has a handler; stops, ignores and kills on the way. Source: ``kernel/signal.c:get_signal``."""
    signal = task.signal
    while True:
        if task.delivering is not None:
            # Its tracer has let it go on: this is where it stopped, in `ptrace_signal`.
            info, task.delivering = task.delivering, None
            if (outcome := _take(task, info)) is not None:
                return outcome
            continue
        if signal.flags & SignalFlags.CLD_MASK:
            why = Cld.CONTINUED if signal.flags & SignalFlags.CLD_CONTINUED else Cld.STOPPED
            signal.flags &= ~SignalFlags.CLD_MASK
            do_notify_parent_cldstop(task, False, why)
            if ptrace_reparented(task.group_leader):
                do_notify_parent_cldstop(task.group_leader, True, why)
            continue
        if signal.flags & SignalFlags.GROUP_EXIT or signal.group_exec_task is not None:
            task.pending.signal &= ~sigmask(Signal.SIGKILL)
            recalc_sigpending(task)
            killed = SigInfo(Signal.SIGKILL)
            if (hook := task.kernel.events.signal_deliver) is not None:
                assert task.sighand is not None
                hook(task, Signal.SIGKILL, killed, task.sighand.action[Signal.SIGKILL - 1])
            return _die(task, killed)
        if task.jobctl & JobCtl.STOP_PENDING and do_signal_stop(task, 0):
            return STOPPED
        if task.jobctl & JobCtl.TRAP_MASK:
            if (trap := do_jobctl_trap(task)) is not None:
                return trap
            continue

        taken = dequeue_synchronous_signal(task) or dequeue_signal(task, task.blocked)
        if taken is None:
            return None
        assert task.sighand is not None
        immutable = task.sighand.action[taken.signo - 1].flags & SA.IMMUTABLE
        if task.ptrace is not None and taken.signo != Signal.SIGKILL and not immutable:
            if (stop := ptrace_signal(task, taken)) is not None:
                return stop
        elif (outcome := _take(task, taken)) is not None:
            return outcome


def _take(task: Task, info: SigInfo) -> KSignal | Wait | Exited | Gone | None:
    """Do what the process wants done with a signal; None: nothing more. The second half of ``get_signal``."""
    signal = task.signal
    sig = info.signo
    assert task.sighand is not None
    action = task.sighand.action[sig - 1]
    if (hook := task.kernel.events.signal_deliver) is not None:
        hook(task, sig, info, action)
    if action.handler == SIG_IGN:
        return None
    if action.handler != SIG_DFL:
        chosen = SigAction(action.handler, action.flags, action.restorer, action.mask)
        if action.flags & SA.RESETHAND:
            action.handler = SIG_DFL
        return KSignal(info, chosen)
    if sigmask(sig) & SIG_KERNEL_IGNORE_MASK:
        return None
    if signal.flags & SignalFlags.UNKILLABLE and not sigmask(sig) & SIG_KERNEL_ONLY_MASK:
        return None
    if sigmask(sig) & SIG_KERNEL_STOP_MASK:
        if sig != Signal.SIGSTOP and is_current_pgrp_orphaned(task):
            return None
        return STOPPED if do_signal_stop(task, sig) else None
    return _die(task, info)


def _die(task: Task, info: SigInfo) -> Wait | Exited | Gone:
    task.flags |= PF.SIGNALED
    if sigmask(info.signo) & SIG_KERNEL_COREDUMP_MASK:
        from minikern.kernel.coredump import do_coredump  # 3 ms of a start, and few programs get here

        return _gone(do_coredump(task, info))
    return _gone(do_group_exit(task, int(info.signo)))


def _gone(result: object) -> Wait | Exited:
    assert isinstance(result, Wait) or result is EXITED
    return result if isinstance(result, Wait) else EXITED


def dequeue_synchronous_signal(task: Task) -> SigInfo | None:
    """A fault of the instruction that just ran goes before all other signals.

    Source: ``kernel/signal.c:dequeue_synchronous_signal``.
    """
    pending = task.pending
    if not pending.signal & ~task.blocked & SYNCHRONOUS_MASK:
        return None
    for info in pending.queue:
        if sigmask(info.signo) & SYNCHRONOUS_MASK & ~task.blocked and info.code > 0:
            same = [each for each in pending.queue if each.signo == info.signo]
            if same[0] is info:
                taken = collect_signal(task.kernel, info.signo, pending)
                recalc_sigpending(task)
                return taken
    return None


def _handle_signal(task: Task, ksig: KSignal) -> Wait | None:
    """Enter the handler; a Wait: a tracer that steps wants to see its first instruction.

    Source: ``arch/*/kernel/signal.c:handle_signal`` and ``kernel/signal.c:signal_setup_done``.
    """
    arch = task.arch
    call = task.syscall
    if call.nr >= 0:
        result = arch.syscall_get_return(task)
        if result in (-ERESTART_RESTARTBLOCK, -ERESTARTNOHAND):
            arch.syscall_set_return(task, -Errno.EINTR)
        elif result == -ERESTARTNOINTR or (result == -ERESTARTSYS and ksig.action.flags & SA.RESTART):
            arch.syscall_restart(task, call.nr)
        elif result == -ERESTARTSYS:
            arch.syscall_set_return(task, -Errno.EINTR)
        call.nr = -1
    elif task.rseq:
        rseq_handle_notify_resume(task)
    mask = task.blocked if task.saved_sigmask is None else task.saved_sigmask
    stepping = task.ptrace is not None and task.ptrace.single_step
    if stepping:
        arch.set_single_step(task, False)  # the frame is to hold the program's own flags
    try:
        arch.setup_rt_frame(task, ksig.info, ksig.action, mask)
    except KernelError:
        force_sigsegv(ksig.info.signo, task)
        return None
    return _signal_delivered(task, ksig, stepping)


def _signal_delivered(task: Task, ksig: KSignal, stepping: bool) -> Wait | None:
    """Source: ``kernel/signal.c:signal_delivered``."""
    task.saved_sigmask = None  # the frame has it
    blocked = task.blocked | ksig.action.mask
    if not ksig.action.flags & SA.NODEFER:
        blocked |= sigmask(ksig.info.signo)
    set_current_blocked(task, blocked)
    if task.sas_ss_flags & SS_AUTODISARM:
        sas_ss_reset(task)
    if stepping:
        result = ptrace_notify(task, Signal.SIGTRAP, 0, partial(int, 0))
        return result if isinstance(result, Wait) else None
    return None


def _restart_syscall_without_handler(task: Task) -> None:
    call = task.syscall
    if call.nr < 0:
        return
    result = task.arch.syscall_get_return(task)
    if result in (-ERESTARTNOHAND, -ERESTARTSYS, -ERESTARTNOINTR):
        task.arch.syscall_restart(task, call.nr)
    elif result == -ERESTART_RESTARTBLOCK:
        task.arch.syscall_restart(task, task.arch.restart_syscall_nr)
    call.nr = -1


# Masks that a call sets for its own duration


def restore_saved_sigmask(task: Task) -> None:
    """Source: ``include/linux/sched/signal.h:restore_saved_sigmask``."""
    if task.saved_sigmask is not None:
        mask, task.saved_sigmask = task.saved_sigmask, None
        set_current_blocked(task, mask)
