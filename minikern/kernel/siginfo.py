"""Signal numbers, codes, and what is known of one signal sent.

Mirrors ``include/uapi/asm-generic/siginfo.h`` and ``signal.h``. The 128 bytes that the guest sees have the same
layout on every 64-bit architecture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol

from minikern.kernel.flags import fast_flags


class Signal(IntEnum):
    """Standard signals; 32…64 are real-time."""

    SIGHUP = 1
    SIGINT = 2
    SIGQUIT = 3
    SIGILL = 4
    SIGTRAP = 5
    SIGABRT = 6
    SIGBUS = 7
    SIGFPE = 8
    SIGKILL = 9
    SIGUSR1 = 10
    SIGSEGV = 11
    SIGUSR2 = 12
    SIGPIPE = 13
    SIGALRM = 14
    SIGTERM = 15
    SIGSTKFLT = 16
    SIGCHLD = 17
    SIGCONT = 18
    SIGSTOP = 19
    SIGTSTP = 20
    SIGTTIN = 21
    SIGTTOU = 22
    SIGURG = 23
    SIGXCPU = 24
    SIGXFSZ = 25
    SIGVTALRM = 26
    SIGPROF = 27
    SIGWINCH = 28
    SIGIO = 29
    SIGPWR = 30
    SIGSYS = 31


SIGRTMIN = 32
SIG_DFL = 0
SIG_IGN = 1


@fast_flags
class SA(IntFlag):
    """Flags of a signal action."""

    NOCLDSTOP = 0x1
    NOCLDWAIT = 0x2
    SIGINFO = 0x4
    UNSUPPORTED = 0x400
    IMMUTABLE = 0x00800000  # the kernel's own: the action cannot be changed any more
    EXPOSE_TAGBITS = 0x800
    RESTORER = 0x04000000
    ONSTACK = 0x08000000
    RESTART = 0x10000000
    NODEFER = 0x40000000
    RESETHAND = 0x80000000


class SiCode(IntEnum):
    """``si_code`` of signals that any sender may raise."""

    SI_USER = 0
    SI_KERNEL = 0x80
    SI_QUEUE = -1
    SI_TIMER = -2
    SI_MESGQ = -3
    SI_ASYNCIO = -4
    SI_SIGIO = -5
    SI_TKILL = -6


class Cld(IntEnum):
    """``si_code`` of SIGCHLD."""

    EXITED = 1
    KILLED = 2
    DUMPED = 3
    TRAPPED = 4
    STOPPED = 5
    CONTINUED = 6


class FaultCode(IntEnum):
    """``si_code`` of the synchronous signals; meaningful together with the signal number."""

    ILL_ILLOPC = 1
    ILL_ILLOPN = 2
    ILL_PRVOPC = 5
    FPE_INTDIV = 1
    FPE_FLTUNK = 14
    SEGV_MAPERR = 1
    SEGV_ACCERR = 2
    BUS_ADRALN = 1
    BUS_ADRERR = 2
    TRAP_BRKPT = 1
    TRAP_TRACE = 2
    TRAP_HWBKPT = 4
    POLL_IN = 1
    SYS_SECCOMP = 1


SIGINFO_SIZE = 128


class SignalTimer(Protocol):
    """A timer whose signal is on its way (a POSIX timer)."""

    def signal_dequeued(self, info: SigInfo) -> bool:
        """The signal is about to be delivered: rearm, fill in the overrun. False: the timer is gone, drop the signal.

        Source: ``kernel/time/posix-timers.c:posixtimer_rearm``.
        """


class Layout(IntEnum):
    """Which part of the siginfo union is in use (``enum siginfo_layout``)."""

    KILL = 0
    TIMER = 1
    POLL = 2
    FAULT = 3
    CHLD = 4
    RT = 5
    SYS = 6


@dataclass(slots=True, eq=False)
class SigInfo:
    """One signal on its way (``kernel_siginfo``)."""

    signo: int
    code: int = 0  # SI_*, CLD_*, SEGV_* …
    errno: int = 0
    layout: Layout = Layout.KILL
    pid: int = 0  # sender, or the child
    uid: int = 0
    status: int = 0  # CHLD: exit code or signal
    utime: int = 0  # CHLD: clock ticks
    stime: int = 0
    addr: int = 0  # FAULT: address; SYS: address of the call
    value: int = 0  # RT, TIMER: sigval
    timer_id: int = 0  # TIMER
    overrun: int = 0  # TIMER
    band: int = 0  # POLL
    fd: int = 0  # POLL
    syscall: int = 0  # SYS
    audit_arch: int = 0  # SYS
    raw: bytes = b""  # the guest's own bytes (rt_sigqueueinfo): delivered unchanged
    timer: SignalTimer | None = None  # the POSIX timer that sent it
    charged_uid: int | None = None  # whose RLIMIT_SIGPENDING it counts against while queued

    def pack(self) -> bytes:
        """The 128 bytes of ``siginfo_t``."""
        if self.raw:
            return self.raw
        head = struct.pack("<iiii", self.signo, self.errno, self.code, 0)
        match self.layout:
            case Layout.KILL:
                body = struct.pack("<iI", self.pid, self.uid)
            case Layout.TIMER:
                body = struct.pack("<iiQ", self.timer_id, self.overrun, self.value)
            case Layout.POLL:
                body = struct.pack("<qi", self.band, self.fd)
            case Layout.FAULT:
                body = struct.pack("<Q", self.addr)
            case Layout.CHLD:
                body = struct.pack("<iIiiqq", self.pid, self.uid, self.status, 0, self.utime, self.stime)
            case Layout.RT:
                body = struct.pack("<iIQ", self.pid, self.uid, self.value)
            case Layout.SYS:
                body = struct.pack("<QiI", self.addr, self.syscall, self.audit_arch)
        return (head + body).ljust(SIGINFO_SIZE, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> SigInfo:
        """A signal as a guest described it for rt_sigqueueinfo; its bytes are kept."""
        signo, errno, code = struct.unpack_from("<iii", data)
        pid, uid, value = struct.unpack_from("<iIQ", data, 16)
        return cls(signo, code, errno, Layout.RT, pid, uid, value=value, raw=bytes(data[:SIGINFO_SIZE]))
