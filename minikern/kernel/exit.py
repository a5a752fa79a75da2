"""How tasks end: exit, exit_group, what becomes of the family, and the release of what is left.

Mirrors ``kernel/exit.c`` and ``kernel/signal.c:do_notify_parent``. The order of `do_exit` is the kernel's.
"""

from __future__ import annotations

from functools import partial

from minikern.fs.file import exit_files
from minikern.fs.fs_struct import exit_fs
from minikern.fs.tty import disassociate_ctty
from minikern.ipc.sem import exit_sem
from minikern.kernel.acct import acct_collect, acct_process
from minikern.kernel.cputime import nsec_to_clock_t
from minikern.kernel.errno import KernelBug
from minikern.kernel.fork import mm_release
from minikern.kernel.futex import futex_exit_release
from minikern.kernel.itimer import cancel_real_timer
from minikern.kernel.jobctl import do_notify_parent_cldstop, kill_orphaned_pgrp, task_participate_group_stop
from minikern.kernel.pid import detach_pid
from minikern.kernel.posix_timers import exit_itimers
from minikern.kernel.ptrace import (
    PtraceEvent,
    exit_ptrace,
    ptrace_event,
    ptrace_event_enabled,
    ptrace_release_task,
    ptrace_reparented,
)
from minikern.kernel.siginfo import SA, SIG_IGN, Cld, Layout, SigInfo, Signal
from minikern.kernel.signal import (
    flush_sigqueue,
    group_send_sig_info,
    retarget_shared_pending,
    send_signal_locked,
    sig_handler,
    start_group_exit,
    user_siginfo,
    zap_other_threads,
)
from minikern.kernel.syscalls import Int, syscall
from minikern.kernel.task import PF, CoreState, ExitState, JobCtl, PidType, SignalFlags, Task
from minikern.kernel.waitqueue import EXITED, Result, TaskState, Wait
from minikern.mm.mm import mmput

_MASK64 = (1 << 64) - 1


@syscall("exit")
def sys_exit(task: Task, error_code: Int) -> Result:
    """End the calling thread only. Source: ``kernel/exit.c:SYSCALL_DEFINE1(exit)``."""
    return do_exit(task, (error_code & 0xFF) << 8)


@syscall("exit_group")
def sys_exit_group(task: Task, error_code: Int) -> Result:
    """End the process. Source: ``kernel/exit.c:SYSCALL_DEFINE1(exit_group)``."""
    return do_group_exit(task, (error_code & 0xFF) << 8)


def do_group_exit(task: Task, exit_code: int) -> Result:
    """End every thread of the process; the status that was set first wins. Source: ``kernel/exit.c:do_group_exit``."""
    signal = task.signal
    if signal.flags & SignalFlags.GROUP_EXIT:
        exit_code = signal.group_exit_code
    elif signal.group_exec_task is not None:
        exit_code = 0
    else:
        start_group_exit(task, exit_code)
        zap_other_threads(task)
    return do_exit(task, exit_code)


def do_exit(task: Task, code: int) -> Result:
    """The task ends. Source: ``kernel/exit.c:do_exit``."""
    if task.flags & PF.EXITING or task.exit_state is not ExitState.ALIVE:
        raise KernelBug(f"{task!r} enters do_exit a second time")
    then = partial(_ptrace_exit_event, task, code)
    core_state = _synchronize_group_exit(task, code)
    return then() if core_state is None else _coredump_task_exit(task, core_state, then)


def _ptrace_exit_event(task: Task, code: int) -> Result:
    if ptrace_event_enabled(task, PtraceEvent.EXIT):
        return ptrace_event(task, PtraceEvent.EXIT, code, partial(_do_exit, task, code))
    return _do_exit(task, code)


def _do_exit(task: Task, code: int) -> Result:
    """What follows the stop that a tracer may have asked for."""
    kernel = task.kernel
    signal = task.signal
    task.syscall.nr = -1
    if (hook := kernel.events.exit) is not None:
        hook(task, code)
    _exit_signals(task)
    signal.live -= 1
    group_dead = signal.live == 0
    if group_dead:
        if task.group_leader is kernel.init_task:
            kernel.panic_init_died(signal.group_exit_code or code)
        cancel_real_timer(task)
        exit_itimers(task)
        if task.mm is not None:
            signal.maxrss_pages = max(signal.maxrss_pages, task.mm.max_rss)
    acct_collect(task, code, group_dead)
    task.exit_code = code
    exit_mm(task)
    if group_dead:
        acct_process(task)
    exit_sem(task)
    exit_files(task)
    exit_fs(task)
    if group_dead:
        disassociate_ctty(task, on_exit=True)
    exit_notify(task, group_dead)
    _do_task_dead(task)
    return EXITED


def _do_task_dead(task: Task) -> None:
    """Never runs again. Source: ``kernel/sched/core.c:do_task_dead``."""
    task.state = TaskState.DEAD
    task.arch.forget(task)


def _synchronize_group_exit(task: Task, code: int) -> CoreState | None:
    """The last thread to leave by exit(2) decides the status of the process. Not None: a core dump waits for the task.

    Source: ``kernel/exit.c:synchronize_group_exit``.
    """
    signal = task.signal
    signal.quick_threads -= 1
    if signal.quick_threads == 0 and not signal.flags & SignalFlags.GROUP_EXIT:
        start_group_exit(task, code)
    task.flags |= PF.POSTCOREDUMP
    return signal.core_state


def _coredump_task_exit(task: Task, core_state: CoreState, then: partial[Result]) -> Result:
    """Stay as one is until the core is written. Source: ``kernel/exit.c:coredump_task_exit``."""
    if task.flags & PF.SIGNALED:
        core_state.threads.insert(1, task)
    core_state.nr_threads -= 1
    if not core_state.nr_threads:
        core_state.startup.wake_up_all()
    return Wait((core_state.finished,), then, TaskState.UNINTERRUPTIBLE, wchan="coredump_task_exit")


def _exit_signals(task: Task) -> None:
    """From here on the task takes no signals; others take the shared ones. Source: ``kernel/signal.c:exit_signals``."""
    signal = task.signal
    task.flags |= PF.EXITING
    if len(signal.threads) == 1 or signal.flags & SignalFlags.GROUP_EXIT or not task.sigpending:
        return
    retarget_shared_pending(task, _MASK64 & ~task.blocked)
    if task.jobctl & JobCtl.STOP_PENDING and task_participate_group_stop(task):
        do_notify_parent_cldstop(task, False, Cld.STOPPED)


def exit_mm(task: Task) -> None:
    """Leave the address space. Source: ``kernel/exit.c:exit_mm`` and ``kernel/fork.c:exit_mm_release``."""
    futex_exit_release(task)
    mm_release(task)
    mm = task.mm
    if mm is not None:
        task.mm = None
        mmput(mm)


def exit_notify(task: Task, group_dead: bool) -> None:
    """Give the children away and tell the parent. Source: ``kernel/exit.c:exit_notify``."""
    dead: list[Task] = []
    forget_original_parent(task, dead)
    if group_dead:
        kill_orphaned_pgrp(task.group_leader, None)
    task.set_exit_state(ExitState.ZOMBIE)
    if (hook := task.kernel.events.zombie) is not None:
        hook(task)
    if task.ptrace is not None:
        alone = task.is_leader() and len(task.signal.threads) == 1 and not ptrace_reparented(task)
        autoreap = do_notify_parent(task, task.exit_signal if alone else Signal.SIGCHLD)
    elif task.is_leader():
        autoreap = len(task.signal.threads) == 1 and do_notify_parent(task, task.exit_signal)
    else:
        autoreap = True
        _do_notify_pidfd(task)
    if autoreap:
        task.set_exit_state(ExitState.DEAD)
        dead.append(task)
    if task.signal.notify_count < 0:  # a thread that execs waits for its leader to die
        task.signal.exec_wait.wake_up_all()
    for each in reversed(dead):  # the kernel puts each at the front of its list
        release_task(each)


def forget_original_parent(father: Task, dead: list[Task]) -> None:
    """The children of a dying thread get a new parent; those that nobody will reap go to ``dead``.

    Source: ``kernel/exit.c:forget_original_parent``.
    """
    if father.ptraced:
        exit_ptrace(father, dead)
    if not father.children:
        return
    reaper = _find_new_reaper(father)
    children, father.children = father.children, []
    reaper.children.extend(children)
    for leader in children:
        for thread in leader.signal.threads:
            thread.real_parent = reaper
            if thread.ptrace is None:
                thread.parent = reaper
            if thread.pdeath_signal:
                info = user_siginfo(father, thread.pdeath_signal)
                group_send_sig_info(thread.pdeath_signal, info, thread, PidType.TGID)
        if (hook := father.kernel.events.reparent) is not None:
            hook(leader, father, reaper)
        if reaper.signal is not father.signal:
            _reparent_leader(father, leader, dead)


def _reparent_leader(father: Task, leader: Task, dead: list[Task]) -> None:
    """Source: ``kernel/exit.c:reparent_leader``."""
    if leader.exit_state is ExitState.DEAD:
        return
    leader.exit_signal = Signal.SIGCHLD  # nobody kills init by a signal of their choice
    if leader.ptrace is None and leader.exit_state is ExitState.ZOMBIE and len(leader.signal.threads) == 1:
        if do_notify_parent(leader, leader.exit_signal):
            leader.set_exit_state(ExitState.DEAD)
            dead.append(leader)
    kill_orphaned_pgrp(leader, father)


def _find_alive_thread(task: Task) -> Task | None:
    """Source: ``kernel/exit.c:find_alive_thread``."""
    return next((thread for thread in task.signal.threads if not thread.flags & PF.EXITING), None)


def _find_new_reaper(father: Task) -> Task:
    """A living thread of the same process, else the nearest subreaper, else init.

    Source: ``kernel/exit.c:find_child_reaper`` and ``find_new_reaper``.
    """
    thread = _find_alive_thread(father)
    if thread is not None:
        return thread
    init = father.kernel.init_task
    if father.signal.has_child_subreaper:
        ancestor = father.real_parent
        while ancestor is not None and ancestor.group_leader is not init:
            if ancestor.signal.is_child_subreaper:
                thread = _find_alive_thread(ancestor)
                if thread is not None:
                    return thread
            ancestor = ancestor.real_parent
    return _find_alive_thread(init) or init


def _do_notify_pidfd(task: Task) -> None:
    """Source: ``kernel/signal.c:do_notify_pidfd``."""
    assert task.thread_pid is not None
    task.thread_pid.wait_pidfd.wake_up_all()


def do_notify_parent(task: Task, sig: int) -> bool:
    """Tell the parent, or the tracer, of a death; whether the task is to be reaped at once, as nobody will wait.

    Source: ``kernel/signal.c:do_notify_parent``.
    """
    parent = task.parent
    assert parent is not None and parent.sighand is not None
    if len(task.signal.threads) == 1:
        _do_notify_pidfd(task)
    if sig != Signal.SIGCHLD and task.parent_exec_id != parent.self_exec_id:
        sig = Signal.SIGCHLD
    code = task.exit_code
    if code & 0x80:
        why, status = Cld.DUMPED, code & 0x7F
    elif code & 0x7F:
        why, status = Cld.KILLED, code & 0x7F
    else:
        why, status = Cld.EXITED, code >> 8
    info = SigInfo(
        sig,
        why,
        layout=Layout.CHLD,
        pid=task.pid,
        uid=task.cred.uid,
        status=status,
        utime=nsec_to_clock_t(task.usage.utime_ns + task.signal.exited.utime_ns),
        stime=nsec_to_clock_t(task.usage.stime_ns + task.signal.exited.stime_ns),
    )
    autoreap = False
    if task.ptrace is None and sig == Signal.SIGCHLD:
        ignores = sig_handler(parent, sig) == SIG_IGN
        if ignores or parent.sighand.action[sig - 1].flags & SA.NOCLDWAIT:
            autoreap = True
            if ignores:
                sig = 0
    if (hook := task.kernel.events.notify) is not None:
        hook(task, parent, sig)
    if sig:
        send_signal_locked(sig, info, parent, PidType.TGID)
    parent.signal.wait_chldexit.wake_up_all()
    return autoreap


def release_task(task: Task) -> None:
    """Forget a dead task; the last thread of a process releases its dead leader too if nobody waits for that.

    Source: ``kernel/exit.c:release_task``.
    """
    while True:
        ptrace_release_task(task)
        leader = task.group_leader
        if (hook := task.kernel.events.release) is not None:
            hook(task)
        _exit_signal(task)
        zap_leader = False
        if leader is not task and len(leader.signal.threads) == 1 and leader.exit_state is ExitState.ZOMBIE:
            if leader.signal.flags & SignalFlags.GROUP_EXIT:
                leader.exit_code = leader.signal.group_exit_code
            zap_leader = do_notify_parent(leader, leader.exit_signal)
            if zap_leader:
                leader.set_exit_state(ExitState.DEAD)
        if not zap_leader:
            return
        task = leader


def _exit_signal(task: Task) -> None:
    """Leave the thread group. Source: ``kernel/exit.c:__exit_signal``."""
    signal = task.signal
    kernel = task.kernel
    group_dead = task.is_leader()
    if not group_dead:
        if signal.notify_count > 0:
            signal.notify_count -= 1
            if signal.notify_count == 0:
                signal.exec_wait.wake_up_all()
        if signal.curr_target is task:
            signal.curr_target = None
    signal.exited.add(task.usage)
    _unhash_process(task, group_dead)
    sighand, task.sighand = task.sighand, None
    assert sighand is not None
    sighand.count -= 1
    flush_sigqueue(kernel, task.pending)
    if group_dead:
        flush_sigqueue(kernel, signal.shared_pending)
        signal.tty = None


def _unhash_process(task: Task, group_dead: bool) -> None:
    """Nobody finds it any more. Source: ``kernel/exit.c:__unhash_process``."""
    detach_pid(task, PidType.PID)
    if group_dead:
        for kind in (PidType.TGID, PidType.PGID, PidType.SID):
            detach_pid(task, kind)
        assert task.real_parent is not None
        task.real_parent.children.remove(task)
    task.signal.threads.remove(task)
