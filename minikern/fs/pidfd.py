"""pidfd: a process held by a descriptor instead of by its number.

Mirrors ``fs/pidfs.c``, ``kernel/pid.c`` and ``kernel/signal.c:pidfd_send_signal``. Left out: the ioctls that open namespaces.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.pid import Pid
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.siginfo import SIGINFO_SIZE, SiCode, SigInfo
from minikern.kernel.signal import kill_pgrp, kill_pid, user_siginfo
from minikern.kernel.syscalls import Fd, Int, Ptr, Sig, UInt, syscall
from minikern.kernel.syscalls import Pid as PidArg
from minikern.kernel.task import ExitState, PidType
from minikern.kernel.waitqueue import Result, WaitQueue
from minikern.mm.uaccess import copy_from_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task


@fast_flags
class PidfdFlag(IntFlag):
    """Flags of pidfd_open (``PIDFD_*``)."""

    NONBLOCK = OpenFlag.NONBLOCK  # waitid on it does not sleep
    THREAD = OpenFlag.EXCL  # it stands for one thread and not for a process


@fast_flags
class PidfdSignal(IntFlag):
    """Flags of pidfd_send_signal: whom the signal goes to, other than the descriptor says."""

    THREAD = 1
    THREAD_GROUP = 2
    PROCESS_GROUP = 4


class PidFile(AnonFile):
    """The file."""

    __slots__ = ("pid", "thread")
    name = "[pidfd]"

    def __init__(self, task: Task, pid: Pid, flags: int, *, thread: bool) -> None:
        super().__init__(task, OpenFlag.RDWR | flags)
        self.pid = pid
        self.thread = thread  # PIDFD_THREAD

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Readable when the process, or the thread, is dead; hung up once it is reaped. Source: ``fs/pidfs.c:pidfd_poll``."""
        if queues is not None:
            queues.append(self.pid.wait_pidfd)
        target = self.pid.task(PidType.PID)
        if target is None:
            return Poll.IN | Poll.RDNORM | Poll.HUP
        dead = target.exit_state is not ExitState.ALIVE
        return Poll.IN | Poll.RDNORM if dead and (self.thread or len(target.signal.threads) == 1) else 0

    def show_fdinfo(self) -> str:
        """Source: ``fs/pidfs.c:pidfd_show_fdinfo``."""
        nr = self.pid.nr if self.pid.task(PidType.PID) is not None else -1
        return f"Pid:\t{nr}\nNSpid:\t{nr}\n"


def pidfd_file(task: Task, pid: Pid, *, thread: bool, flags: int = 0) -> PidFile:
    """A new file for ``pid``, which need not have a task yet. Source: ``fs/pidfs.c:pidfs_alloc_file``."""
    return PidFile(task, pid, flags, thread=thread)


def _pidfd_fget(task: Task, fd: int) -> PidFile:
    """EBADF when the descriptor is no pidfd."""
    assert task.files is not None
    file = task.files.fget(fd)
    if not isinstance(file, PidFile):
        raise KernelError(Errno.EBADF)
    return file


def pidfd_get_pid(task: Task, fd: int) -> tuple[Pid, int]:
    """What a pidfd stands for, and the flags of the open file. Source: ``kernel/pid.c:pidfd_get_pid``."""
    file = _pidfd_fget(task, fd)
    return file.pid, file.f_flags


@syscall("pidfd_open")
def sys_pidfd_open(task: Task, pid: PidArg, flags: UInt) -> Result:
    """Source: ``kernel/pid.c:pidfd_open``."""
    if flags & ~int(PidfdFlag.NONBLOCK | PidfdFlag.THREAD) or pid <= 0:
        raise KernelError(Errno.EINVAL)
    found = task.kernel.pids.find(pid)
    if found is None:
        raise KernelError(Errno.ESRCH)
    thread = bool(flags & PidfdFlag.THREAD)
    if found.task(PidType.PID if thread else PidType.TGID) is None:
        raise KernelError(Errno.EINVAL)
    file = pidfd_file(task, found, thread=thread, flags=flags & PidfdFlag.NONBLOCK)
    return anon_inode_getfd(task, file, cloexec=True)


@syscall("pidfd_send_signal")
def sys_pidfd_send_signal(task: Task, pidfd: Fd, sig: Sig, info: Ptr, flags: UInt) -> Result:
    """Source: ``kernel/signal.c:do_pidfd_send_signal``."""
    if flags not in (0, *PidfdSignal):
        raise KernelError(Errno.EINVAL)
    file = _pidfd_fget(task, pidfd)
    if flags == PidfdSignal.PROCESS_GROUP:
        kind = PidType.PGID
    elif flags == PidfdSignal.THREAD or (not flags and file.thread):
        kind = PidType.PID
    else:
        kind = PidType.TGID

    if info:
        siginfo = SigInfo.unpack(copy_from_user(task, info, SIGINFO_SIZE))
        if siginfo.signo != sig:
            raise KernelError(Errno.EINVAL)
        # Whoever signals others must not pretend to be the kernel.
        other = task.thread_pid is not file.pid or kind is PidType.PGID
        if other and (siginfo.code >= 0 or siginfo.code == SiCode.SI_TKILL):
            raise KernelError(Errno.EPERM)
    else:
        siginfo = user_siginfo(task, sig, SiCode.SI_TKILL if kind is PidType.PID else SiCode.SI_USER)
    if kind is PidType.PGID:
        kill_pgrp(file.pid, sig, siginfo)
    else:
        kill_pid(file.pid, sig, siginfo, kind)
    return 0


@syscall("pidfd_getfd")
def sys_pidfd_getfd(task: Task, pidfd: Fd, fd: Int, flags: UInt) -> Result:
    """A descriptor of another process, in this one. Source: ``kernel/pid.c:pidfd_getfd``."""
    if flags:
        raise KernelError(Errno.EINVAL)
    target = _pidfd_fget(task, pidfd).pid.task(PidType.PID)
    if target is None:
        raise KernelError(Errno.ESRCH)
    if not ptrace_may_access(task, target):
        raise KernelError(Errno.EPERM)
    if target.files is None:
        raise KernelError(Errno.ESRCH)
    file = target.files.fget_raw(fd).get()
    assert task.files is not None
    try:
        return task.files.alloc_fd(task, file, cloexec=True)
    except KernelError:
        file.fput()
        raise
