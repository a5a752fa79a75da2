"""Job control: stopping and continuing whole processes, and what the parent hears of it.

Mirrors the parts of ``kernel/signal.c`` and ``kernel/exit.c`` that deal with group stops and orphaned groups.
"""

from __future__ import annotations

from minikern.kernel.cputime import nsec_to_clock_t
from minikern.kernel.pid import Pid, task_pgrp, task_session
from minikern.kernel.siginfo import SA, SIG_IGN, Cld, Layout, SigInfo, Signal
from minikern.kernel.signal import (
    kernel_siginfo,
    ptrace_trap_notify,
    send_signal_locked,
    set_stop_flags,
    signal_wake_up,
    task_clear_jobctl_pending,
    task_set_jobctl_pending,
)
from minikern.kernel.task import ExitState, JobCtl, PidType, SignalFlags, Task
from minikern.kernel.waitqueue import TaskState


def task_join_group_stop(child: Task, task: Task) -> None:
    """A new thread takes part in a stop that is under way. Source: ``kernel/signal.c:task_join_group_stop``."""
    signal = task.signal
    mask = task.jobctl & JobCtl.STOP_SIGMASK
    if signal.group_stop_count:
        signal.group_stop_count += 1
        mask |= JobCtl.STOP_CONSUME
    elif not signal.flags & SignalFlags.STOP_STOPPED:
        return
    task_set_jobctl_pending(child, mask | JobCtl.STOP_PENDING)


def task_participate_group_stop(task: Task) -> bool:
    """Count the task as stopped; whether it was the last one. Source: ``kernel/signal.c:task_participate_group_stop``."""
    signal = task.signal
    consume = task.jobctl & JobCtl.STOP_CONSUME
    task_clear_jobctl_pending(task, JobCtl.STOP_PENDING)
    if not consume:
        return False
    if signal.group_stop_count > 0:
        signal.group_stop_count -= 1
    if not signal.group_stop_count and not signal.flags & SignalFlags.STOP_STOPPED:
        set_stop_flags(signal, SignalFlags.STOP_STOPPED)
        return True
    return False


def do_signal_stop(task: Task, sig: int) -> bool:
    """Stop the group for ``sig``, or take part in a stop under way (``sig`` 0); whether the task is stopped now.

    Source: ``kernel/signal.c:do_signal_stop``.
    """
    signal = task.signal
    if not task.jobctl & JobCtl.STOP_PENDING:
        if not task.jobctl & JobCtl.STOP_DEQUEUED or signal.flags & SignalFlags.GROUP_EXIT or signal.group_exec_task:
            return False
        if not signal.flags & SignalFlags.STOP_STOPPED:
            signal.group_exit_code = sig
        signal.group_stop_count = 0
        gstop = JobCtl(sig) | JobCtl.STOP_PENDING | JobCtl.STOP_CONSUME
        if task_set_jobctl_pending(task, gstop):
            signal.group_stop_count += 1
        for thread in signal.threads:
            if thread is task or thread.jobctl & JobCtl.STOPPED or not task_set_jobctl_pending(thread, gstop):
                continue
            signal.group_stop_count += 1
            if thread.ptrace is not None and thread.ptrace.seized:
                ptrace_trap_notify(thread)
            else:
                signal_wake_up(thread, fatal=False)
    if task.ptrace is not None:
        task_set_jobctl_pending(task, JobCtl.TRAP_STOP)
        return False
    last = task_participate_group_stop(task)
    task.jobctl |= JobCtl.STOPPED
    task.state = TaskState.STOPPED
    if (hook := task.kernel.events.stop) is not None:
        hook(task, signal.group_exit_code)
    if last:
        do_notify_parent_cldstop(task, False, Cld.STOPPED)
    return True


def do_notify_parent_cldstop(task: Task, for_ptracer: bool, why: Cld) -> None:
    """Tell the parent, or the tracer, of a stop or a continuation. Source: ``kernel/signal.c:do_notify_parent_cldstop``."""
    if for_ptracer:
        parent = task.parent
    else:
        task = task.group_leader
        parent = task.real_parent
    if parent is None or parent.sighand is None:
        return
    utime, stime = nsec_to_clock_t(task.usage.utime_ns), nsec_to_clock_t(task.usage.stime_ns)
    if why is Cld.CONTINUED:
        status = int(Signal.SIGCONT)
    elif why is Cld.STOPPED:
        status = task.signal.group_exit_code & 0x7F
    else:
        status = task.exit_code & 0x7F
    info = SigInfo(
        Signal.SIGCHLD,
        why,
        layout=Layout.CHLD,
        pid=task.pid,
        uid=task.cred.uid,
        status=status,
        utime=utime,
        stime=stime,
    )
    action = parent.sighand.action[Signal.SIGCHLD - 1]
    if action.handler != SIG_IGN and not action.flags & SA.NOCLDSTOP:
        send_signal_locked(Signal.SIGCHLD, info, parent, PidType.TGID)
    parent.signal.wait_chldexit.wake_up_all()


# Orphaned process groups


def _will_become_orphaned_pgrp(pgrp: Pid, ignored: Task | None) -> bool:
    """Source: ``kernel/exit.c:will_become_orphaned_pgrp``."""
    for task in pgrp.tasks[PidType.PGID]:
        if task is ignored or (task.exit_state is not ExitState.ALIVE and not task.signal.live):
            continue
        parent = task.real_parent
        if parent is None or parent is task.kernel.init_task.group_leader:
            continue
        if task_pgrp(parent) is not pgrp and task_session(parent) is task_session(task):
            return False
    return True


def is_current_pgrp_orphaned(task: Task) -> bool:
    """Source: ``kernel/exit.c:is_current_pgrp_orphaned``."""
    pgrp = task_pgrp(task)
    return pgrp is None or _will_become_orphaned_pgrp(pgrp, None)


def has_stopped_jobs(pgrp: Pid) -> bool:
    """Source: ``kernel/exit.c:has_stopped_jobs``."""
    return any(task.signal.flags & SignalFlags.STOP_STOPPED for task in pgrp.tasks[PidType.PGID])


def kill_orphaned_pgrp(task: Task, parent: Task | None) -> None:
    """A group that is orphaned by this death and has a stopped member gets SIGHUP and SIGCONT.

    ``parent`` None: the group of the dying task itself. Source: ``kernel/exit.c:kill_orphaned_pgrp``.
    """
    pgrp = task_pgrp(task)
    ignored: Task | None = task
    if parent is None:
        parent = task.real_parent  # our parent is in a group of the same session
    else:
        ignored = None  # our child's group
    if pgrp is None or parent is None:
        return
    if (
        task_pgrp(parent) is not pgrp
        and task_session(parent) is task_session(task)
        and _will_become_orphaned_pgrp(pgrp, ignored)
        and has_stopped_jobs(pgrp)
    ):
        for member in tuple(pgrp.tasks[PidType.PGID]):
            for sig in (Signal.SIGHUP, Signal.SIGCONT):
                if member.sighand is not None:
                    send_signal_locked(sig, kernel_siginfo(sig), member, PidType.PGID)
