"""Options of every socket, whatever its family: what SOL_SOCKET knows.

Mirrors ``net/core/sock.c:sk_setsockopt`` and ``sk_getsockopt``. Options that mean nothing without a network are kept
and given back. Left out: filters, marks, time stamps, busy polling.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.net.socket import Ucred

SOL_SOCKET = 1
SK_BUF_MAX = 212992  # net.core.wmem_max and rmem_max, and where a new socket starts
_SOCK_MIN_SNDBUF = 4608
_SOCK_MIN_RCVBUF = 2304
_INT = struct.Struct("<i")
_TIMEVAL = struct.Struct("<qq")
_UCRED = struct.Struct("<iII")
_NO_UCRED = _UCRED.pack(0, 0xFFFFFFFF, 0xFFFFFFFF)  # of a socket that was never connected
_LINGER = struct.Struct("<ii")
_NSEC_PER_USEC = 1000
_USEC_PER_SEC = 10**6


class So(IntEnum):
    """Options (``SO_*``)."""

    DEBUG = 1
    REUSEADDR = 2
    TYPE = 3
    ERROR = 4
    DONTROUTE = 5
    BROADCAST = 6
    SNDBUF = 7
    RCVBUF = 8
    KEEPALIVE = 9
    OOBINLINE = 10
    PRIORITY = 12
    LINGER = 13
    REUSEPORT = 15
    PASSCRED = 16
    PEERCRED = 17
    RCVLOWAT = 18
    SNDLOWAT = 19
    RCVTIMEO = 20
    SNDTIMEO = 21
    ACCEPTCONN = 30
    SNDBUFFORCE = 32
    RCVBUFFORCE = 33
    PROTOCOL = 38
    DOMAIN = 39
    PEERGROUPS = 59


# Options that are kept as numbers and have no further meaning here.
_PLAIN = frozenset(
    {So.DEBUG, So.REUSEADDR, So.DONTROUTE, So.BROADCAST, So.KEEPALIVE, So.OOBINLINE, So.PRIORITY, So.REUSEPORT}
)


@dataclass(slots=True, eq=False, repr=False)
class SockOptions:
    """Values of the options of one socket, and what else all of them have (``struct sock``)."""

    domain: int
    kind: int  # SOCK_*
    sndbuf: int = SK_BUF_MAX  # bytes, with what the kernel itself needs
    rcvbuf: int = SK_BUF_MAX
    passcred: bool = False  # received messages say who sent them
    rcvlowat: int = 1  # bytes that make it readable
    rcvtimeo_ns: int = 0  # 0: for ever
    sndtimeo_ns: int = 0
    linger: tuple[int, int] = (0, 0)  # on, seconds
    listening: bool = False
    error: int = 0  # to be reported once (``sk_err``)
    peer_cred: Ucred | None = None  # who connected, or whom it connected to
    peer_groups: tuple[int, ...] = ()
    plain: dict[int, int] = field(default_factory=dict)  # values of `_PLAIN` options that were set

    def take_error(self) -> int:
        """The error that is to be reported, which is over then (``sock_error``)."""
        error, self.error = self.error, 0
        return error

    def set(self, task: Task, option: int, value: bytes) -> None:
        """Source: ``net/core/sock.c:sk_setsockopt``."""
        if len(value) < _INT.size:
            raise KernelError(Errno.EINVAL)
        (number,) = _INT.unpack_from(value)
        match option:
            case So.SNDBUF | So.RCVBUF | So.SNDBUFFORCE | So.RCVBUFFORCE:
                self._set_buffer(task, So(option), number)
            case So.PASSCRED:
                self.passcred = bool(number)
            case So.RCVLOWAT:
                self.rcvlowat = max(number, 1)
            case So.RCVTIMEO:
                self.rcvtimeo_ns = _timeout(value)
            case So.SNDTIMEO:
                self.sndtimeo_ns = _timeout(value)
            case So.LINGER:
                if len(value) < _LINGER.size:
                    raise KernelError(Errno.EINVAL)
                on, seconds = _LINGER.unpack_from(value)
                self.linger = int(bool(on)), seconds
            case _ if option in _PLAIN:
                self.plain[option] = number if option == So.PRIORITY else bool(number)
            case _:
                raise KernelError(Errno.ENOPROTOOPT)

    def _set_buffer(self, task: Task, option: So, number: int) -> None:
        """The value is doubled, to have room for what the kernel itself needs."""
        if option in (So.SNDBUFFORCE, So.RCVBUFFORCE):
            if not capable(task, Cap.NET_ADMIN):
                raise KernelError(Errno.EPERM)
            number = max(number, 0)
        else:
            number = min(number & 0xFFFFFFFF, SK_BUF_MAX)
        if option in (So.SNDBUF, So.SNDBUFFORCE):
            self.sndbuf = max(2 * number, _SOCK_MIN_SNDBUF)
        else:
            self.rcvbuf = max(2 * number, _SOCK_MIN_RCVBUF)

    def get(self, option: int) -> bytes:
        """Source: ``net/core/sock.c:sk_getsockopt``."""
        match option:
            case So.TYPE:
                number = self.kind
            case So.ERROR:
                number = self.take_error()
            case So.SNDBUF:
                number = self.sndbuf
            case So.RCVBUF:
                number = self.rcvbuf
            case So.PASSCRED:
                number = self.passcred
            case So.RCVLOWAT:
                number = self.rcvlowat
            case So.SNDLOWAT:
                number = 1
            case So.ACCEPTCONN:
                number = self.listening
            case So.PROTOCOL:
                number = 0
            case So.DOMAIN:
                number = self.domain
            case So.RCVTIMEO | So.SNDTIMEO:
                timeout_us = (self.rcvtimeo_ns if option == So.RCVTIMEO else self.sndtimeo_ns) // _NSEC_PER_USEC
                return _TIMEVAL.pack(timeout_us // _USEC_PER_SEC, timeout_us % _USEC_PER_SEC)
            case So.LINGER:
                return _LINGER.pack(*self.linger)
            case So.PEERCRED:
                cred = self.peer_cred
                return _UCRED.pack(cred.pid, cred.uid, cred.gid) if cred is not None else _NO_UCRED
            case So.PEERGROUPS:
                if self.peer_cred is None:
                    raise KernelError(Errno.ENODATA)
                return struct.pack(f"<{len(self.peer_groups)}I", *self.peer_groups)
            case _ if option in _PLAIN:
                number = self.plain.get(option, 0)
            case _:
                raise KernelError(Errno.ENOPROTOOPT)
        return _INT.pack(number)


def _timeout(value: bytes) -> int:
    """A ``struct timeval`` in nanoseconds; a negative one is no time at all. Source: ``sock_set_timeout``."""
    if len(value) < _TIMEVAL.size:
        raise KernelError(Errno.EINVAL)
    seconds, microseconds = _TIMEVAL.unpack_from(value)
    if not 0 <= microseconds < _USEC_PER_SEC:
        raise KernelError(Errno.EDOM)
    return (seconds * _USEC_PER_SEC + microseconds) * _NSEC_PER_USEC if seconds >= 0 else 1
