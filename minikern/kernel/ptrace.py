"""Tracing: how a task stops for its tracer, and how the two find and lose each other.

Mirrors ``kernel/ptrace.c`` and the ptrace parts of ``kernel/signal.c``. The system call is in
`minikern.kernel.ptrace_calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.kernel.flags import fast_flags
from minikern.kernel.jobctl import do_notify_parent_cldstop, task_participate_group_stop
from minikern.kernel.siginfo import SA, SIG_IGN, Cld, SiCode, SigInfo, Signal
from minikern.kernel.signal import (
    fatal_signal_pending,
    force_sig_info,
    ptrace_signal_wake_up,
    recalc_sigpending,
    send_sig,
    send_sig_info,
    send_signal_locked,
    sigmask,
    task_clear_jobctl_pending,
    task_set_jobctl_pending,
    user_siginfo,
)
from minikern.kernel.task import PF, ExitState, JobCtl, PidType, SighandStruct, SignalFlags, Task
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


@fast_flags
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


# What PTRACE_O_* and PTRACE_SEIZE know; the kernel is built without checkpoint/restore, so not SUSPEND_SECCOMP.
PTRACE_O_MASK = int(sum(PtraceOption)) & ~int(PtraceOption.SUSPEND_SECCOMP)
SYSGOOD = 0x80  # added to SIGTRAP in the stops of system calls, with TRACESYSGOOD


class EventMessage(IntEnum):
    """``PTRACE_EVENTMSG_*``: which kind of system-call stop it is."""

    SYSCALL_ENTRY = 1
    SYSCALL_EXIT = 2


@dataclass(slots=True, eq=False, repr=False)
class PtraceState:
    """What is known of a tracee (``ptrace``, ``ptrace_message`` and work flags of ``task_struct``)."""

    seized: bool = False  # PT_SEIZED
    options: PtraceOption = PtraceOption(0)
    message: int = 0  # PTRACE_GETEVENTMSG
    trace_syscalls: bool = False  # stop at entry and exit of calls (SYSCALL_TRACE)
    emulate_syscalls: bool = False  # stop at entry, and do not make the call (SYSCALL_EMU)
    single_step: bool = False  # TIF_SINGLESTEP


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
    """Enter a stop for the tracer; False when that is not to be (SIGKILL, no tracer). The caller makes the task sleep.

    Source: ``kernel/signal.c:ptrace_stop``; its end is `ptrace_stop_ends`.
    """
    ptrace = task.ptrace
    if ptrace is None or fatal_signal_pending(task):
        return False
    task.jobctl |= JobCtl.TRACED
    ptrace.message = message
    task.last_siginfo = info
    task.exit_code = exit_code

    gstop_done = False
    if why is Cld.STOPPED and task.jobctl & JobCtl.STOP_PENDING:
        gstop_done = task_participate_group_stop(task)
    # Any trap clears a pending STOP trap, and that one a pending NOTIFY.
    task_clear_jobctl_pending(task, JobCtl.TRAP_STOP)
    if info is not None and info.code >> 8 == PtraceEvent.STOP:
        task_clear_jobctl_pending(task, JobCtl.TRAP_NOTIFY)

    do_notify_parent_cldstop(task, True, why)
    if gstop_done and ptrace_reparented(task):
        do_notify_parent_cldstop(task, False, why)
    return True


def ptrace_stop_ends(task: Task) -> int:
    """The task runs again after a stop: the signal that the tracer left for it. The last part of ``ptrace_stop``."""
    code, task.exit_code = task.exit_code, 0
    task.last_siginfo = None
    task.jobctl &= ~(JobCtl.LISTENING | JobCtl.TRACED)
    if task.ptrace is not None:
        task.ptrace.message = 0
    # Signals did not wake us while we were stopped. Something else may be pending too, so nothing is taken back.
    was_pending = task.sigpending
    task.sigpending = recalc_sigpending(task) or was_pending
    return code


def _sleep_traced(resume: Callable[[], Result]) -> Wait:
    """The sleep of a stopped task; ``resume`` begins with `ptrace_stop_ends`."""
    return Wait((), resume, TaskState.TRACED, wchan="ptrace_stop")


def ptrace_notify(task: Task, exit_code: int, message: int, then: partial[Result]) -> Result:
    """Stop with a SIGTRAP that never was sent, then go on. Source: ``kernel/signal.c:ptrace_notify``."""
    if not ptrace_stop(task, exit_code, Cld.TRAPPED, _trap_info(task, Signal.SIGTRAP, exit_code), message):
        return then()
    return _sleep_traced(partial(_ptrace_notified, task, then))


def _ptrace_notified(task: Task, then: partial[Result]) -> Result:
    ptrace_stop_ends(task)
    return then()


def _trap_info(task: Task, sig: int, exit_code: int) -> SigInfo:
    """The siginfo of a stop that is no signal's. Source: ``kernel/signal.c:ptrace_do_notify``."""
    return SigInfo(sig, exit_code, pid=task.pid, uid=task.cred.uid)


def ptrace_event(task: Task, event: PtraceEvent, message: int, then: partial[Result]) -> Result:
    """Stop for an event that the tracer has asked for, then go on. Source: ``include/linux/ptrace.h:ptrace_event``."""
    return ptrace_notify(task, event << 8 | Signal.SIGTRAP, message, then)


def ptrace_report_syscall(task: Task, message: EventMessage, then: partial[Result]) -> Result:
    """Stop at entry or exit of a system call, then go on. Source: ``include/linux/ptrace.h:ptrace_report_syscall``."""
    assert task.ptrace is not None
    code = Signal.SIGTRAP | (SYSGOOD if task.ptrace.options & PtraceOption.TRACESYSGOOD else 0)
    if not ptrace_stop(task, code, Cld.TRAPPED, _trap_info(task, Signal.SIGTRAP, code), message):
        return then()
    return _sleep_traced(partial(_ptrace_reported, task, then))


def _ptrace_reported(task: Task, then: partial[Result]) -> Result:
    """A signal that the tracer gives at such a stop is sent like any other."""
    if sig := ptrace_stop_ends(task):
        send_sig(sig, task, priv=True)
    return then()


def syscall_exit_work(task: Task) -> Wait | None:
    """The stop at the exit of a system call, if the tracer wants one. Source: ``kernel/entry/common.c:syscall_exit_work``."""
    ptrace = task.ptrace
    assert ptrace is not None
    if ptrace.single_step and not ptrace.emulate_syscalls:
        force_sig_info(task.arch.single_step_info(task), task)
        return None
    if not ptrace.trace_syscalls:
        return None
    result = ptrace_report_syscall(task, EventMessage.SYSCALL_EXIT, partial(int, 0))
    return result if isinstance(result, Wait) else None


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
    """Which event a clone is for the tracer; None: none it asked for. Source: ``kernel/fork.c:kernel_clone``."""
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


def ptrace_signal(task: Task, info: SigInfo) -> Wait | None:
    """Show a signal to the tracer. What it decides is in ``task.delivering`` when the task runs again, or at once: None.

    Source: ``kernel/signal.c:ptrace_signal``.
    """
    task.jobctl |= JobCtl.STOP_DEQUEUED  # the tracer may make a stop signal of it
    if ptrace_stop(task, info.signo, Cld.TRAPPED, info):
        return _sleep_traced(partial(_ptrace_signal_decided, task))
    _deliver(task, info, info.signo)
    return None


def _ptrace_signal_decided(task: Task) -> int:
    info = task.last_siginfo
    assert info is not None
    _deliver(task, info, ptrace_stop_ends(task))
    return 0


def _deliver(task: Task, info: SigInfo, sig: int) -> None:
    """Deliver ``sig`` in the place of the signal that was shown; 0: none. The second half of ``ptrace_signal``."""
    if not sig:
        return
    if sig != info.signo:
        assert task.parent is not None
        info = user_siginfo(task.parent, sig)
    if task.blocked & sigmask(sig) or fatal_signal_pending(task):
        send_signal_locked(sig, info, task, PidType.PID)
    else:
        task.delivering = info


def do_jobctl_trap(task: Task) -> Wait | None:
    """Stop for job control, or because the tracer wants to look; None: not now. Source: ``kernel/signal.c:do_jobctl_trap``."""
    ptrace, signal = task.ptrace, task.signal
    assert ptrace is not None
    sig = int(task.jobctl & JobCtl.STOP_SIGMASK)
    code, info = sig, None
    if ptrace.seized:
        if not signal.group_stop_count and not signal.flags & SignalFlags.STOP_STOPPED:
            sig = Signal.SIGTRAP
        code = sig | PtraceEvent.STOP << 8
        info = _trap_info(task, sig, code)
    if not ptrace_stop(task, code, Cld.STOPPED, info):
        return None
    return _sleep_traced(partial(ptrace_stop_ends, task))


# Ties between tracer and tracee


def ptrace_link(child: Task, tracer: Task) -> None:
    """The newest tracee comes first, so wait looks at it first. Source: ``kernel/ptrace.c:__ptrace_link``."""
    tracer.ptraced.insert(0, child)
    child.parent = tracer


def ptrace_init_task(child: Task, task: Task, traced: bool) -> None:
    """A new task is traced by its maker's tracer, if that wants so. Source: ``include/linux/ptrace.h:ptrace_init_task``."""
    if not traced or task.ptrace is None:
        return
    assert task.parent is not None
    child.ptrace = PtraceState(task.ptrace.seized, task.ptrace.options)
    ptrace_link(child, task.parent)
    if child.ptrace.seized:
        task_set_jobctl_pending(child, JobCtl.TRAP_STOP)
    else:
        child.pending.signal |= sigmask(Signal.SIGSTOP)


def ptrace_unlink(child: Task) -> None:
    """Untrace; a group stop that is in effect takes the place of the ptrace stop. Source: ``kernel/ptrace.c:__ptrace_unlink``."""
    tracer = child.parent
    assert tracer is not None and child.ptrace is not None
    tracer.ptraced.remove(child)
    child.parent = child.real_parent
    if child.ptrace.single_step and child.exit_state is ExitState.ALIVE:
        child.arch.set_single_step(child, False)
    child.ptrace = None
    task_clear_jobctl_pending(child, JobCtl.TRAP_MASK)
    signal = child.signal
    if not child.flags & PF.EXITING and (signal.flags & SignalFlags.STOP_STOPPED or signal.group_stop_count):
        child.jobctl |= JobCtl.STOP_PENDING
        if not child.jobctl & JobCtl.STOP_SIGMASK:
            child.jobctl |= JobCtl(Signal.SIGSTOP)
    if child.jobctl & (JobCtl.STOP_PENDING | JobCtl.TRACED):
        ptrace_signal_wake_up(child, resume=True)


def _ignoring_children(sighand: SighandStruct) -> bool:
    """Source: ``kernel/ptrace.c:ignoring_children``."""
    action = sighand.action[Signal.SIGCHLD - 1]
    return action.handler == SIG_IGN or action.flags & SA.NOCLDWAIT != 0


def ptrace_detach_from(tracer: Task, child: Task) -> bool:
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
        elif tracer.sighand is not None and _ignoring_children(tracer.sighand):
            tracer.signal.wait_chldexit.wake_up_all()
            dead = True
    if dead:
        child.set_exit_state(ExitState.DEAD)
    return dead


def exit_ptrace(tracer: Task, dead: list[Task]) -> None:
    """A dying tracer lets go of everything it traces. Source: ``kernel/ptrace.c:exit_ptrace``."""
    for child in tuple(tracer.ptraced):
        if child.ptrace is not None and child.ptrace.options & PtraceOption.EXITKILL:
            send_sig_info(Signal.SIGKILL, SigInfo(Signal.SIGKILL, SiCode.SI_KERNEL), child)
        if ptrace_detach_from(tracer, child):
            dead.append(child)


def ptrace_release_task(task: Task) -> None:
    """The task is being released: nobody traces it any more. Source: ``include/linux/ptrace.h:ptrace_release_task``."""
    if task.ptrace is not None:
        ptrace_unlink(task)
