"""signalfd: signals read from a descriptor. Mirrors ``fs/signalfd.c``."""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.siginfo import Layout, SigInfo
from minikern.kernel.signal import SIG_KERNEL_ONLY_MASK, dequeue_signal
from minikern.kernel.syscalls import Fd, Int, Ptr, Size, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import get_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_MASK64 = (1 << 64) - 1
_SIGSET_BYTES = 8
# struct signalfd_siginfo: signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status, int, ptr, utime, stime,
# addr, addr_lsb, (pad), syscall, call_addr, arch
_SIGINFO = struct.Struct("<IiiIIiIIIIiiQQQQHHiQI28x")
assert _SIGINFO.size == 128


@fast_flags
class Sfd(IntFlag):
    """Flags of signalfd4 (``SFD_*``)."""

    NONBLOCK = OpenFlag.NONBLOCK
    CLOEXEC = OpenFlag.CLOEXEC


class SignalFd(AnonFile):
    """The file (``struct signalfd_ctx``); whose signals it shows depends on who reads."""

    __slots__ = ("blocked",)
    name = "[signalfd]"

    def __init__(self, task: Task, blocked: int, flags: int) -> None:
        super().__init__(task, OpenFlag.RDWR | flags & OpenFlag.NONBLOCK)
        self.blocked = blocked  # the signals that it does NOT accept

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """As many signals as there are and fit. Source: ``fs/signalfd.c:signalfd_read_iter``."""
        room = count // _SIGINFO.size
        if not room:
            raise KernelError(Errno.EINVAL)
        parts: list[bytes] = []
        while len(parts) < room and (info := dequeue_signal(task, self.blocked)) is not None:
            parts.append(pack_signalfd_siginfo(info))
        if parts:
            return b"".join(parts)
        if self.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        assert task.sighand is not None
        return Wait((task.sighand.signalfd_wqh,), wchan="signalfd_dequeue")

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``fs/signalfd.c:signalfd_poll``."""
        if queues is not None and task.sighand is not None:
            queues.append(task.sighand.signalfd_wqh)
        pending = task.pending.signal | task.signal.shared_pending.signal
        return Poll.IN if pending & ~self.blocked else 0

    def show_fdinfo(self) -> str:
        """Source: ``fs/signalfd.c:signalfd_show_fdinfo``."""
        return f"sigmask:\t{~self.blocked & _MASK64:016x}\n"


def pack_signalfd_siginfo(info: SigInfo) -> bytes:
    """``struct signalfd_siginfo``. Source: ``fs/signalfd.c:signalfd_copyinfo``."""
    pid = uid = fd = tid = band = overrun = status = number = pointer = utime = stime = addr = syscall_nr = (
        call_addr
    ) = arch = 0
    match info.layout:
        case Layout.KILL:
            pid, uid = info.pid, info.uid
        case Layout.TIMER:
            tid, overrun, pointer = info.timer_id, info.overrun, info.value
        case Layout.POLL:
            band, fd = info.band, info.fd
        case Layout.FAULT:
            addr = info.addr
        case Layout.CHLD:
            pid, uid, status, utime, stime = info.pid, info.uid, info.status, info.utime, info.stime
        case Layout.RT:
            pid, uid, pointer = info.pid, info.uid, info.value
        case Layout.SYS:
            call_addr, syscall_nr, arch = info.addr, info.syscall, info.audit_arch
    number = (pointer & 0xFFFFFFFF ^ 0x80000000) - 0x80000000  # sival_int is the low half of sival_ptr
    head = (
        info.signo,
        info.errno,
        info.code,
        pid & 0xFFFFFFFF,
        uid,
        fd,
        tid,
        band & 0xFFFFFFFF,
        overrun,
        0,
        status,
        number,
    )
    return _SIGINFO.pack(*head, pointer, utime, stime, addr, 0, 0, syscall_nr, call_addr, arch)


def do_signalfd4(task: Task, ufd: int, mask: int, flags: int) -> int:
    """A new descriptor for the signals of ``mask``, or a new mask for an old one. Source: ``fs/signalfd.c:do_signalfd4``."""
    if flags & ~int(Sfd.NONBLOCK | Sfd.CLOEXEC):
        raise KernelError(Errno.EINVAL)
    blocked = ~(mask & ~SIG_KERNEL_ONLY_MASK) & _MASK64
    if ufd == -1:
        return anon_inode_getfd(task, SignalFd(task, blocked, flags), cloexec=bool(flags & Sfd.CLOEXEC))
    assert task.files is not None and task.sighand is not None
    file = task.files.fget(ufd)
    if not isinstance(file, SignalFd):
        raise KernelError(Errno.EINVAL)
    file.blocked = blocked
    task.sighand.signalfd_wqh.wake_up(key=Poll.IN)
    return ufd


@syscall("signalfd4")
def sys_signalfd4(task: Task, ufd: Fd, user_mask: Ptr, sizemask: Size, flags: Int) -> Result:
    """Source: ``fs/signalfd.c:signalfd4``."""
    if sizemask != _SIGSET_BYTES:
        raise KernelError(Errno.EINVAL)
    return do_signalfd4(task, ufd, get_user(task, user_mask, _SIGSET_BYTES), flags)
