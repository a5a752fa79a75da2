"""Controlling terminals: which session a terminal belongs to, and which of its process groups may use it.

Mirrors ``drivers/tty/tty_jobctrl.c``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.jobctl import is_current_pgrp_orphaned
from minikern.kernel.pid import Pid, task_pgrp, task_session
from minikern.kernel.siginfo import SIG_IGN, Signal
from minikern.kernel.signal import kernel_siginfo, kill_pgrp, send_signal_locked, sig_handler, sigmask
from minikern.kernel.task import PidType
from minikern.mm.uaccess import get_user, put_user

if TYPE_CHECKING:
    from minikern.fs.tty import Tty, TtyFile
    from minikern.kernel.task import Task

_PID_SIGN = 1 << 31


def _is_ignored(task: Task, sig: int) -> bool:
    return task.blocked & sigmask(sig) != 0 or sig_handler(task, sig) == SIG_IGN


def tty_signal_pgrp(tty: Tty, sig: int, *, priv: bool = True) -> None:
    """Send to the foreground group, if there is anybody in it; from the kernel, or from the current task."""
    if tty.pgrp is not None:
        with suppress(KernelError):
            kill_pgrp(tty.pgrp, sig, kernel_siginfo(sig) if priv else None)


def tty_check_change(task: Task, tty: Tty, sig: Signal = Signal.SIGTTOU) -> None:
    """A background group that changes its terminal, or reads from it, gets SIGTTOU or SIGTTIN and tries again later.

    EIO where the signal would stop nobody. Source: ``drivers/tty/tty_jobctrl.c:__tty_check_change``.
    """
    if task.signal.tty is not tty:
        return
    pgrp = task_pgrp(task)
    if tty.pgrp is None or pgrp is tty.pgrp or pgrp is None:
        return
    if _is_ignored(task, sig):
        if sig is Signal.SIGTTIN:
            raise KernelError(Errno.EIO)
        return
    if is_current_pgrp_orphaned(task):
        raise KernelError(Errno.EIO)
    kill_pgrp(pgrp, sig, kernel_siginfo(sig))
    task.sigpending = True
    raise KernelError(ERESTARTSYS)


def proc_set_tty(task: Task, tty: Tty) -> None:
    """``tty`` becomes the controlling terminal of the task's session. Source: ``__proc_set_tty``."""
    tty.session = task_session(task)
    tty.pgrp = task_pgrp(task)
    task.signal.tty = tty
    task.signal.tty_old_pgrp = None


def tty_open_proc_set_tty(task: Task, tty: Tty, readable: bool) -> None:
    """A session leader without a terminal gets the first one that it opens. Source: ``tty_open_proc_set_tty``."""
    signal = task.signal
    if signal.leader and signal.tty is None and tty.session is None and readable:
        proc_set_tty(task, tty)


def session_clear_tty(session: Pid | None) -> None:
    """Nobody in the session has a terminal any more. Source: ``session_clear_tty``."""
    if session is not None:
        for task in session.tasks[PidType.SID]:
            task.signal.tty = None


def tty_signal_session_leader(tty: Tty, exit_session: bool) -> None:
    """The terminal is hung up: tell the leader, and if it is exiting the foreground group too.

    Source: ``drivers/tty/tty_jobctrl.c:tty_signal_session_leader``.
    """
    if tty.session is None:
        return
    for task in tuple(tty.session.tasks[PidType.SID]):
        if task.signal.tty is tty:
            task.signal.tty = None
        if not task.signal.leader:
            continue
        if task.sighand is not None:
            for sig in (Signal.SIGHUP, Signal.SIGCONT):
                send_signal_locked(sig, kernel_siginfo(sig), task, PidType.TGID)
        task.signal.tty_old_pgrp = tty.pgrp
    if exit_session:
        tty_signal_pgrp(tty, Signal.SIGHUP)


def disassociate_ctty(task: Task, on_exit: bool) -> None:
    """A session leader gives its terminal up, by TIOCNOTTY or by dying; does nothing for others.

    Source: ``drivers/tty/tty_jobctrl.c:disassociate_ctty``.
    """
    signal = task.signal
    if not signal.leader:
        return
    tty = signal.tty
    if tty is None:
        old_pgrp, signal.tty_old_pgrp = signal.tty_old_pgrp, None
        if on_exit and old_pgrp is not None:
            for sig in (Signal.SIGHUP, Signal.SIGCONT):
                with suppress(KernelError):
                    kill_pgrp(old_pgrp, sig, kernel_siginfo(sig))
        return
    if on_exit and not tty.is_pty:
        tty.vhangup(exit_session=True)
    else:
        tty_signal_pgrp(tty, Signal.SIGHUP, priv=on_exit)
        if not on_exit:
            tty_signal_pgrp(tty, Signal.SIGCONT, priv=on_exit)
    signal.tty_old_pgrp = None
    tty.session = None
    tty.pgrp = None
    session_clear_tty(task_session(task))


def no_tty(task: Task) -> None:
    """The process gives its terminal up. Source: ``no_tty``."""
    disassociate_ctty(task, on_exit=False)
    task.signal.tty = None


def tiocsctty(task: Task, tty: Tty, file: TtyFile, arg: int) -> int:
    """TIOCSCTTY; ``arg`` 1 lets root steal the terminal of another session. Source: ``tiocsctty``."""
    if task.signal.leader and task_session(task) is tty.session:
        return 0
    if not task.signal.leader or task.signal.tty is not None:
        raise KernelError(Errno.EPERM)
    if tty.session is not None:
        if arg != 1 or not capable(task, Cap.SYS_ADMIN):
            raise KernelError(Errno.EPERM)
        session_clear_tty(tty.session)
    if not file.readable and not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EPERM)
    proc_set_tty(task, tty)
    return 0


def tiocgpgrp(task: Task, tty: Tty, real_tty: Tty, arg: int) -> int:
    """TIOCGPGRP. Source: ``tiocgpgrp``."""
    if tty is real_tty and task.signal.tty is not real_tty:
        raise KernelError(Errno.ENOTTY)
    put_user(task, arg, real_tty.pgrp.nr if real_tty.pgrp is not None else 0, 4)
    return 0


def tiocspgrp(task: Task, tty: Tty, real_tty: Tty, arg: int) -> int:
    """TIOCSPGRP. Source: ``tiocspgrp``."""
    try:
        tty_check_change(task, real_tty)
    except KernelError as error:
        raise KernelError(Errno.ENOTTY if error.errno == Errno.EIO else error.errno) from None
    nr = get_user(task, arg, 4)
    if nr & _PID_SIGN:
        raise KernelError(Errno.EINVAL)
    if task.signal.tty is not real_tty or real_tty.session is not task_session(task):
        raise KernelError(Errno.ENOTTY)
    pgrp = task.kernel.pids.find(nr)
    if pgrp is None:
        raise KernelError(Errno.ESRCH)
    if _session_of_pgrp(pgrp) is not task_session(task):
        raise KernelError(Errno.EPERM)
    real_tty.pgrp = pgrp
    return 0


def tiocgsid(task: Task, tty: Tty, real_tty: Tty, arg: int) -> int:
    """TIOCGSID. Source: ``tiocgsid``."""
    if (tty is real_tty and task.signal.tty is not real_tty) or real_tty.session is None:
        raise KernelError(Errno.ENOTTY)
    put_user(task, arg, real_tty.session.nr, 4)
    return 0


def _session_of_pgrp(pgrp: Pid) -> Pid | None:
    """Source: ``session_of_pgrp``."""
    task = pgrp.task(PidType.PGID) or pgrp.task(PidType.PID)
    return task_session(task) if task is not None else None
