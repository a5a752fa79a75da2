"""Waiting for children: wait4 and waitid.

Mirrors the second half of ``kernel/exit.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import partial

from minikern.fs.file import OpenFlag
from minikern.fs.pidfd import pidfd_get_pid
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.exit import do_notify_parent, release_task
from minikern.kernel.flags import fast_flags
from minikern.kernel.pid import Pid, task_pgrp, task_pid_type
from minikern.kernel.ptrace import ptrace_reparented, ptrace_unlink
from minikern.kernel.rusage import RUSAGE_BOTH, getrusage
from minikern.kernel.siginfo import Cld, Signal
from minikern.kernel.syscalls import Int, Ptr, syscall
from minikern.kernel.syscalls import Pid as PidArg
from minikern.kernel.task import ExitState, JobCtl, PidType, SignalFlags, Task
from minikern.kernel.waitqueue import Result, TaskState, Wait
from minikern.mm.uaccess import copy_to_user, put_user

_INT_MIN = -(1 << 31)


@fast_flags
class W(IntFlag):
    """Options of wait4 and waitid."""

    NOHANG = 0x1
    UNTRACED = 0x2
    STOPPED = 0x2
    EXITED = 0x4
    CONTINUED = 0x8
    NOWAIT = 0x01000000
    NOTHREAD = 0x20000000
    ALL = 0x40000000
    CLONE = 0x80000000


class P(IntEnum):
    """What the id of waitid means."""

    ALL = 0
    PID = 1
    PGID = 2
    PIDFD = 3


@dataclass(slots=True, eq=False, repr=False)
class WaitOpts:
    """What is waited for, and what was found (``struct wait_opts``)."""

    kind: PidType | None  # None: any child
    pid: Pid | None
    flags: int  # W
    notask_error: int = 0  # -ECHILD as long as nothing is there that could match later
    found: Task | None = None
    found_pid: int = 0
    uid: int = 0
    stat: int = 0  # status word
    cause: int = 0  # CLD_*
    status: int = 0  # exit code or signal
    rusage: bytes = field(default=b"", repr=False)  # of the child
    wants_rusage: bool = False


@syscall("wait4")
def sys_wait4(task: Task, upid: PidArg, stat_addr: Ptr, options: Int, ru: Ptr) -> Result:
    """Source: ``kernel/exit.c:kernel_wait4``."""
    options &= 0xFFFF_FFFF
    if options & ~(W.NOHANG | W.UNTRACED | W.CONTINUED | W.NOTHREAD | W.CLONE | W.ALL):
        raise KernelError(Errno.EINVAL)
    if upid == _INT_MIN:
        raise KernelError(Errno.ESRCH)
    pid: Pid | None = None
    kind: PidType | None = None
    if upid < -1:
        kind, pid = PidType.PGID, task.kernel.pids.find(-upid)
    elif upid == 0:
        kind, pid = PidType.PGID, task_pgrp(task)
    elif upid > 0:
        kind, pid = PidType.PID, task.kernel.pids.find(upid)
    opts = WaitOpts(kind, pid, options | W.EXITED, wants_rusage=ru != 0)
    return do_wait(task, opts, partial(_wait4_done, task, opts, stat_addr, ru))


def _wait4_done(task: Task, opts: WaitOpts, stat_addr: int, ru: int, found: int) -> int:
    if found > 0:
        if stat_addr:
            put_user(task, stat_addr, opts.stat & 0xFFFF_FFFF, 4)
        if ru:
            copy_to_user(task, ru, opts.rusage)
    return found


@syscall("waitid")
def sys_waitid(task: Task, which: Int, upid: PidArg, infop: Ptr, options: Int, ru: Ptr) -> Result:
    """Source: ``kernel/exit.c:SYSCALL_DEFINE5(waitid)`` and ``kernel_waitid_prepare``."""
    options &= 0xFFFF_FFFF
    if options & ~(W.NOHANG | W.NOWAIT | W.EXITED | W.STOPPED | W.CONTINUED | W.NOTHREAD | W.CLONE | W.ALL):
        return _waitid_done(task, None, infop, ru, False, -Errno.EINVAL)
    if not options & (W.EXITED | W.STOPPED | W.CONTINUED):
        return _waitid_done(task, None, infop, ru, False, -Errno.EINVAL)
    try:
        kind, pid, nonblock = _waitid_target(task, which, upid)
    except KernelError as error:
        return _waitid_done(task, None, infop, ru, False, -error.errno)
    opts = WaitOpts(kind, pid, options | (W.NOHANG if nonblock else 0), wants_rusage=ru != 0)
    again = nonblock and not options & W.NOHANG
    return do_wait(task, opts, partial(_waitid_done, task, opts, infop, ru, again))


def _waitid_target(task: Task, which: int, upid: int) -> tuple[PidType | None, Pid | None, bool]:
    """What to wait for, and whether a non-blocking pidfd asks not to sleep."""
    if which == P.ALL:
        return None, None, False
    if which == P.PID:
        if upid <= 0:
            raise KernelError(Errno.EINVAL)
        return PidType.PID, task.kernel.pids.find(upid), False
    if which == P.PGID:
        if upid < 0:
            raise KernelError(Errno.EINVAL)
        return PidType.PGID, task.kernel.pids.find(upid) if upid else task_pgrp(task), False
    if which == P.PIDFD:
        if upid < 0:
            raise KernelError(Errno.EINVAL)
        pid, flags = pidfd_get_pid(task, upid)
        return PidType.PID, pid, flags & OpenFlag.NONBLOCK != 0
    raise KernelError(Errno.EINVAL)


def _waitid_done(task: Task, opts: WaitOpts | None, infop: int, ru: int, again: bool, found: int) -> int:
    """Tell the guest; siginfo is written also when there is nothing to tell, or an error."""
    signo, result = 0, found
    if found > 0:
        assert opts is not None
        signo, result = int(Signal.SIGCHLD), 0
        if ru:
            copy_to_user(task, ru, opts.rusage)
    elif found == 0 and again:
        result = -Errno.EAGAIN
    if infop:
        if found > 0 and opts is not None:
            data = struct.pack("<iiiiiIi", signo, 0, opts.cause, 0, opts.found_pid, opts.uid, opts.status)
        else:
            data = bytes(28)
        copy_to_user(task, infop, data[:12])
        copy_to_user(task, infop + 16, data[16:])
    return result


Done = Callable[[int], Result]


def do_wait(task: Task, opts: WaitOpts, done: Done) -> Result:
    """Sleep until there is something to tell. Source: ``kernel/exit.c:do_wait`` and ``__do_wait``."""
    opts.notask_error = -Errno.ECHILD
    found = _look(task, opts)
    if found:
        return done(found)
    if opts.notask_error:
        return done(opts.notask_error)
    if opts.flags & W.NOHANG:
        return done(0)
    return Wait(
        (task.signal.wait_chldexit,),
        partial(do_wait, task, opts, done),
        wchan="do_wait",
        why=partial(_why_waiting, task, opts),
    )


def _look(task: Task, opts: WaitOpts) -> int:
    if opts.kind is not None and (opts.pid is None or not opts.pid.tasks[opts.kind]):
        return 0
    for thread in (task,) if opts.flags & W.NOTHREAD else tuple(task.signal.threads):
        for child in tuple(thread.children):
            if found := _wait_consider_task(task, opts, False, child):
                return found
        for tracee in tuple(thread.ptraced):
            if found := _wait_consider_task(task, opts, True, tracee):
                return found
    return 0


def _eligible_child(opts: WaitOpts, ptrace: bool, child: Task) -> bool:
    """Source: ``kernel/exit.c:eligible_child``."""
    if opts.kind is not None and task_pid_type(child, opts.kind) is not opts.pid:
        return False
    if ptrace or opts.flags & W.ALL:
        return True
    return (child.exit_signal != Signal.SIGCHLD) == (opts.flags & W.CLONE != 0)


def delay_group_leader(task: Task) -> bool:
    """A dead leader that is not told of yet: other threads of it live (``delay_group_leader``)."""
    return task.is_leader() and len(task.signal.threads) > 1


def _wait_consider_task(task: Task, opts: WaitOpts, ptrace: bool, child: Task) -> int:
    """The pid when there is something to tell of the child. Source: ``kernel/exit.c:wait_consider_task``."""
    if child.exit_state is ExitState.DEAD or not _eligible_child(opts, ptrace, child):
        return 0
    if child.exit_state is ExitState.TRACE:
        if not ptrace:
            opts.notask_error = 0  # its tracer tells us
        return 0
    if not ptrace and child.ptrace is not None and not ptrace_reparented(child):
        ptrace = True
    if child.exit_state is ExitState.ZOMBIE:
        if not delay_group_leader(child) and (ptrace or child.ptrace is None):
            return _wait_task_zombie(task, opts, child)
        if not ptrace or opts.flags & (W.CONTINUED | W.EXITED):
            opts.notask_error = 0
    else:
        opts.notask_error = 0
    return _wait_task_stopped(opts, ptrace, child) or _wait_task_continued(opts, child)


def _status_word(child: Task) -> int:
    signal = child.signal
    return signal.group_exit_code if signal.flags & SignalFlags.GROUP_EXIT else child.exit_code


def _wait_task_zombie(task: Task, opts: WaitOpts, child: Task) -> int:
    """Reap a dead child. Source: ``kernel/exit.c:wait_task_zombie``."""
    if not opts.flags & W.EXITED:
        return 0
    pid = child.pid
    opts.uid = child.cred.uid
    opts.stat = status = _status_word(child)
    if opts.wants_rusage:
        opts.rusage = getrusage(child, RUSAGE_BOTH)
    if not opts.flags & W.NOWAIT:
        _reap(task, child)
    if status & 0x7F:
        return _tell(opts, child, pid, Cld.DUMPED if status & 0x80 else Cld.KILLED, status & 0x7F)
    return _tell(opts, child, pid, Cld.EXITED, status >> 8)


def _reap(task: Task, child: Task) -> None:
    """Take a zombie; one that somebody else traced goes on to its real parent."""
    if (hook := task.kernel.events.reap) is not None:
        hook(child, task)
    if ptrace_reparented(child) and child.is_leader():
        child.set_exit_state(ExitState.TRACE)
        ptrace_unlink(child)
        dead = do_notify_parent(child, child.exit_signal)
        child.set_exit_state(ExitState.DEAD if dead else ExitState.ZOMBIE)
        if not dead:
            return
    else:
        child.set_exit_state(ExitState.DEAD)
        if child.is_leader():
            _account_child(task, child)
    release_task(child)


def _account_child(task: Task, child: Task) -> None:
    """What a reaped child cost is added to its parent. The middle of ``wait_task_zombie``."""
    mine, theirs = task.signal, child.signal
    mine.children.add(child.usage)
    mine.children.add(theirs.exited)
    mine.children.add(theirs.children)
    mine.cmaxrss_pages = max(mine.cmaxrss_pages, theirs.maxrss_pages, theirs.cmaxrss_pages)


def _wait_task_stopped(opts: WaitOpts, ptrace: bool, child: Task) -> int:
    """Source: ``kernel/exit.c:wait_task_stopped``."""
    if not ptrace and not opts.flags & W.UNTRACED:
        return 0
    keep = opts.flags & W.NOWAIT
    if ptrace:
        traced = child.state is TaskState.TRACED and not child.jobctl & JobCtl.LISTENING
        code = child.exit_code if traced else 0
        if code and not keep:
            child.exit_code = 0
    else:
        stopped = child.signal.flags & SignalFlags.STOP_STOPPED
        code = child.signal.group_exit_code if stopped else 0
        if code and not keep:
            child.signal.group_exit_code = 0
    if not code:
        return 0
    opts.uid = child.cred.uid
    opts.stat = code << 8 | 0x7F
    if opts.wants_rusage:
        opts.rusage = getrusage(child, RUSAGE_BOTH)
    return _tell(opts, child, child.pid, Cld.TRAPPED if ptrace else Cld.STOPPED, code)


def _wait_task_continued(opts: WaitOpts, child: Task) -> int:
    """Source: ``kernel/exit.c:wait_task_continued``."""
    signal = child.signal
    if not opts.flags & W.CONTINUED or not signal.flags & SignalFlags.STOP_CONTINUED:
        return 0
    if not opts.flags & W.NOWAIT:
        signal.flags &= ~SignalFlags.STOP_CONTINUED
    opts.uid = child.cred.uid
    opts.stat = 0xFFFF
    if opts.wants_rusage:
        opts.rusage = getrusage(child, RUSAGE_BOTH)
    return _tell(opts, child, child.pid, Cld.CONTINUED, int(Signal.SIGCONT))


def _tell(opts: WaitOpts, child: Task, pid: int, cause: Cld, status: int) -> int:
    opts.found, opts.found_pid, opts.cause, opts.status = child, pid, cause, status
    return pid


def _why_waiting(task: Task, opts: WaitOpts) -> str:
    """What the children that match are doing instead of being waitable."""
    reasons = []
    for thread in task.signal.threads:
        for child in thread.children:
            if not _eligible_child(opts, False, child):
                continue
            if child.exit_state is ExitState.ZOMBIE and delay_group_leader(child):
                living = len(child.signal.threads) - 1
                reasons.append(f"child {child.pid} is a dead leader with {living} living thread(s)")
            elif child.exit_state is ExitState.ZOMBIE:
                reasons.append(f"child {child.pid} is dead, but its tracer has to reap it first")
            else:
                reasons.append(f"child {child.pid} is alive ({child.state.name.lower()})")
    return "; ".join(reasons) or "no child matches yet"
