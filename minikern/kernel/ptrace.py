"""Tracing: how a task stops for its tracer, and how the two find and lose each other.

Mirrors ``kernel/ptrace.c`` and the ptrace parts of ``kernel/signal.c``. The system call is in
`minikern.kernel.ptrace_calls`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.kernel.jobctl import do_notify_parent_cldstop, task_participate_group_stop
from minikern.kernel.siginfo import SA, SIG_IGN, Cld, SiCode, SigInfo, Signal
from minikern.kernel.signal import (
    fatal_signal_pending,
    recalc_sigpending,
    send_sig_info,
    send_signal_locked,
    sigmask,
    signal_wake_up,
    task_set_jobctl_pending,
    user_siginfo,
)
from minikern.kernel.task import PF, ExitState, JobCtl, PidType, SignalFlags, Task
from minikern.kernel.waitqueue import Result, TaskState, Wait

if TYPE_CHECKING:
    from minikern.kernel.fork import KernelCloneArgs


class PtraceEvent(IntEnum):
    """``PTRACE_EVENT_*``; its option bit is ``1 << event``."""

    FORK = 1
    VFORK = 2
    CLONE = 3
    EXEC = 4
    VFORK_DONE = 5
    EXIT = 6
    SECCOMP = 7
    STOP = 128


class PtraceOption(IntFlag):
    """``PTRACE_O_*``."""

    TRACESYSGOOD = 1
    TRACEFORK = 1 << 1
    TRACEVFORK = 1 << 2
    TRACECLONE = 1 << 3
    TRACEEXEC = 1 << 4
    TRACEVFORKDONE = 1 << 5
    TRACEEXIT = 1 << 6
    TRACESECCOMP = 1 << 7
    EXITKILL = 1 << 20
    SUSPEND_SECCOMP = 1 << 21


class SyscallStop(IntEnum):
    """Which kind of system-call stop, for PTRACE_GET_SYSCALL_INFO."""

    NONE = 0
    ENTRY = 1
    EXIT = 2
    SECCOMP = 3


@dataclass(slots=True, eq=False)
class PtraceState:
    """What is known of a tracee (``ptrace``, ``ptrace_message`` … of ``task_struct``)."""

    seized: bool = False  # PT_SEIZED
    options: PtraceOption = PtraceOption(0)
    message: int = 0  # PTRACE_GETEVENTMSG
    trace_syscalls: bool = False  # stop at entry and exit of calls
    single_step: bool = False
    syscall_stop: SyscallStop = SyscallStop.NONE
    stopped_for: SigInfo | None = None  # the signal of a signal-delivery stop, until it is decided


def ptrace_reparented(task: Task) -> bool:
    """Whether the tracer is another process than the real parent's (``ptrace_reparented``)."""
    return (
        task.ptrace is not None
        and task.real_parent is not None
        and (task.parent is not None and task.parent.signal is not task.real_parent.signal)
    )


def ptrace_event_enabled(task: Task, event: PtraceEvent) -> bool:
    """Whether the tracer wants to see the event (``ptrace_event_enabled``)."""
    return task.ptrace is not None and task.ptrace.options & (1 << event) != 0


# Stopping


def ptrace_stop(task: Task, exit_code: int, why: Cld, info: SigInfo | None, message: int = 0) -> bool:
    """Stop for the tracer; False when that is not to be (SIGKILL, no tracer). The caller must let another task run.

    Source: ``kernel/signal.c:ptrace_stop``.
    """
    ptrace = task.ptrace
    if ptrace is None or fatal_signal_pending(task):
        return False
    ptrace.message = message
    task.last_siginfo = info
    task.exit_code = exit_code
    gstop_done = False
    if why is Cld.STOPPED and task.jobctl & JobCtl.STOP_PENDING:
        gstop_done = task_participate_group_stop(task)
    task.jobctl &= ~JobCtl.TRAP_STOP
    if info is not None and info.code >> 8 == PtraceEvent.STOP:
        task.jobctl &= ~JobCtl.TRAP_NOTIFY
    task.jobctl |= JobCtl.TRACED
    task.jobctl &= ~JobCtl.TRAPPING
    do_notify_parent_cldstop(task, True, why)
    if gstop_done and ptrace_reparented(task):
        do_notify_parent_cldstop(task, False, why)
    return True


def ptrace_stop_and_then(
    task: Task, exit_code: int, why: Cld, info: SigInfo | None, message: int, then: partial[Result]
) -> Result:
    """Stop inside a system call and go on with ``then`` when the tracer lets the task run."""
    if not ptrace_stop(task, exit_code, why, info, message):
        return then()
    return Wait((), partial(_ptrace_continued, task, then), TaskState.TRACED, wchan="ptrace_stop")


def _ptrace_continued(task: Task, then: partial[Result]) -> Result:
    ptrace_stop_ends(task)
    return then()


def ptrace_stop_ends(task: Task) -> int:
    """The task runs again after a stop: the signal that the tracer left for it. The last part of ``ptrace_stop``."""
    code, task.exit_code = task.exit_code, 0
    task.last_siginfo = None
    task.jobctl &= ~(JobCtl.LISTENING | JobCtl.PTRACE_FROZEN | JobCtl.TRACED)
    if task.ptrace is not None:
        task.ptrace.message = 0
    recalc_sigpending(task)
    return code


def ptrace_notify_info(task: Task, exit_code: int) -> SigInfo:
    """The siginfo of an event stop. Source: ``kernel/signal.c:ptrace_do_notify``."""
    return SigInfo(Signal.SIGTRAP, exit_code, pid=task.pid, uid=task.cred.uid)


def ptrace_event(task: Task, event: PtraceEvent, message: int, then: partial[Result]) -> Result:
    """Stop for an event, then go on. Source: ``include/linux/ptrace.h:ptrace_event``."""
    code = event << 8 | Signal.SIGTRAP
    return ptrace_stop_and_then(task, code, Cld.TRAPPED, ptrace_notify_info(task, code), message, then)


def ptrace_exec_event(task: Task, old_tid: int, then: partial[Result]) -> Result:
    """An exec has succeeded: an event stop, or the SIGTRAP that old tracers expect.

    Source: ``include/linux/ptrace.h:ptrace_event`` for PTRACE_EVENT_EXEC.
    """
    if ptrace_event_enabled(task, PtraceEvent.EXEC):
        return ptrace_event(task, PtraceEvent.EXEC, old_tid, then)
    if task.ptrace is not None and not task.ptrace.seized:
        send_sig_info(Signal.SIGTRAP, user_siginfo(task, Signal.SIGTRAP), task)
    return then()


def ptrace_clone_event(task: Task, args: KernelCloneArgs) -> PtraceEvent | None:
    """Which event a clone is for the tracer; None: none it asked for. Source: the middle of ``kernel_clone``."""
    from minikern.kernel.fork import Clone

    if task.ptrace is None or args.flags & Clone.UNTRACED:
        return None
    if args.flags & Clone.VFORK:
        event = PtraceEvent.VFORK
    elif args.exit_signal != Signal.SIGCHLD:
        event = PtraceEvent.CLONE
    else:
        event = PtraceEvent.FORK
    return event if ptrace_event_enabled(task, event) else None


def ptrace_signal(task: Task, info: SigInfo) -> SigInfo | Wait | None:
    """Show a signal to the tracer; the signal to deliver, None when the tracer dropped it.

    It is called twice: the first time it stops, and `get_signal` returns with the task in TRACED; the second time,
    when the task runs again, it takes the tracer's decision. Source: ``kernel/signal.c:ptrace_signal``.
    """
    ptrace = task.ptrace
    assert ptrace is not None
    if ptrace.stopped_for is None:
        task.jobctl |= JobCtl.STOP_DEQUEUED
        if ptrace_stop(task, info.signo, Cld.TRAPPED, info):
            ptrace.stopped_for = info
            return Wait((), None, TaskState.TRACED, wchan="ptrace_stop")
        return info
    ptrace.stopped_for = None
    shown = task.last_siginfo or info
    sig = ptrace_stop_ends(task)
    if not sig:
        return None
    if sig != shown.signo:
        parent = task.parent
        assert parent is not None
        shown = user_siginfo(parent, sig)
    if task.blocked & sigmask(sig) or fatal_signal_pending(task):
        send_signal_locked(sig, shown, task, PidType.PID)
        return None
    return shown


def do_jobctl_trap(task: Task) -> Wait:
    """Stop for job control under a tracer. Source: ``kernel/signal.c:do_jobctl_trap``."""
    signal = task.signal
    sig = task.jobctl & JobCtl.STOP_SIGMASK
    assert task.ptrace is not None
    if task.ptrace.seized:
        if not signal.group_stop_count and not signal.flags & SignalFlags.STOP_STOPPED:
            sig = JobCtl(Signal.SIGTRAP)
        code = int(sig) | PtraceEvent.STOP << 8
        info = SigInfo(Signal.SIGTRAP, code, pid=task.pid, uid=task.cred.uid)
        stopped = ptrace_stop(task, code, Cld.STOPPED, info)
    else:
        stopped = ptrace_stop(task, int(sig), Cld.STOPPED, None)
    if not stopped:
        task.jobctl &= ~JobCtl.TRAP_MASK
        return Wait((), None, TaskState.RUNNING)
    return Wait((), None, TaskState.TRACED, wchan="ptrace_stop")


# Ties between tracer and tracee


def ptrace_link(child: Task, tracer: Task) -> None:
    """Source: ``kernel/ptrace.c:__ptrace_link``."""
    tracer.ptraced.append(child)
    child.parent = tracer


def ptrace_init_task(child: Task, task: Task, event: PtraceEvent | None) -> None:
    """A new task is traced too if its tracer asked for that. Source: ``include/linux/ptrace.h:ptrace_init_task``."""
    if event is None or task.ptrace is None or task.parent is None:
        return
    child.ptrace = PtraceState(task.ptrace.seized, task.ptrace.options)
    ptrace_link(child, task.parent)
    if child.ptrace.seized:
        task_set_jobctl_pending(child, JobCtl.TRAP_STOP)
    else:
        child.pending.signal |= sigmask(Signal.SIGSTOP)
    child.sigpending = True


def ptrace_unlink(child: Task) -> None:
    """Untrace; a stop that job control wants takes the place of the ptrace stop. Source: ``kernel/ptrace.c:__ptrace_unlink``."""
    tracer = child.parent
    assert tracer is not None and child.ptrace is not None
    tracer.ptraced.remove(child)
    child.parent = child.real_parent
    if child.exit_state is ExitState.ALIVE and child.ptrace.single_step:
        child.arch.set_single_step(child, False)
    child.ptrace = None
    child.jobctl &= ~JobCtl.TRAP_MASK
    signal = child.signal
    if not child.flags & PF.EXITING and (signal.flags & SignalFlags.STOP_STOPPED or signal.group_stop_count):
        child.jobctl |= JobCtl.STOP_PENDING
        if not child.jobctl & JobCtl.STOP_SIGMASK:
            child.jobctl |= JobCtl(Signal.SIGSTOP)
    if child.state is TaskState.TRACED:
        signal_wake_up(child, fatal=False)
        child.jobctl &= ~JobCtl.TRACED
        child.kernel.sched.try_to_wake_up(child, (TaskState.TRACED,))
    elif child.jobctl & JobCtl.STOP_PENDING:
        signal_wake_up(child, fatal=False)


def _ignoring_children(sighand: object) -> bool:
    """Source: ``kernel/ptrace.c:ignoring_children``."""
    from minikern.kernel.task import SighandStruct

    assert isinstance(sighand, SighandStruct)
    action = sighand.action[Signal.SIGCHLD - 1]
    return action.handler == SIG_IGN or action.flags & SA.NOCLDWAIT != 0


def ptrace_detach_dead(tracer: Task, child: Task) -> bool:
    """Untrace a task whose tracer goes; whether it is to be released now. Source: ``kernel/ptrace.c:__ptrace_detach``."""
    from minikern.kernel.exit import do_notify_parent

    ptrace_unlink(child)
    if child.exit_state is not ExitState.ZOMBIE:
        return False
    dead = not child.is_leader()
    if not dead and len(child.signal.threads) == 1:
        real_parent = child.real_parent
        assert real_parent is not None
        if real_parent.signal is not tracer.signal:
            dead = do_notify_parent(child, child.exit_signal)
        elif _ignoring_children(tracer.sighand):
            dead = True
            tracer.signal.wait_chldexit.wake_up_all()
    if dead:
        child.set_exit_state(ExitState.DEAD)
    return dead


def exit_ptrace(tracer: Task, dead: list[Task]) -> None:
    """A dying tracer lets go of everything it traces. Source: ``kernel/ptrace.c:exit_ptrace``."""
    for child in tuple(tracer.ptraced):
        if child.ptrace is not None and child.ptrace.options & PtraceOption.EXITKILL:
            send_sig_info(Signal.SIGKILL, SigInfo(Signal.SIGKILL, SiCode.SI_KERNEL), child)
        if ptrace_detach_dead(tracer, child):
            dead.append(child)


def ptrace_release_task(task: Task) -> None:
    """The task is being released: nobody traces it any more. Source: ``include/linux/ptrace.h:ptrace_release_task``."""
    if task.ptrace is not None:
        ptrace_unlink(task)
