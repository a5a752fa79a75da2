"""Sockets: constants, what an open socket is to the rest of the kernel, and addresses in guest memory.

Mirrors ``net/socket.c`` and ``include/linux/socket.h``. The system calls are in `minikern.net.calls`. Families other than
AF_UNIX do not exist on this machine.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import PseudoFile, new_pseudo_inode
from minikern.fs.file import FMode, OpenFlag
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.waitqueue import Result, Wait
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.task import Task

AF_UNSPEC = 0
AF_UNIX = 1
AF_MAX = 46
SOCK_TYPE_MASK = 0xF
SOMAXCONN = 4096
SOCKADDR_STORAGE_BYTES = 128


class Sock(IntEnum):
    """Types of sockets (``SOCK_*``)."""

    STREAM = 1
    DGRAM = 2
    RAW = 3
    RDM = 4
    SEQPACKET = 5
    DCCP = 6
    PACKET = 10


SOCK_CLOEXEC = OpenFlag.CLOEXEC
SOCK_NONBLOCK = OpenFlag.NONBLOCK


@fast_flags
class Msg(IntFlag):
    """Flags of send and receive calls, and of what was received (``MSG_*``)."""

    OOB = 0x1
    PEEK = 0x2
    DONTROUTE = 0x4
    CTRUNC = 0x8
    TRUNC = 0x20
    DONTWAIT = 0x40
    EOR = 0x80
    WAITALL = 0x100
    NOSIGNAL = 0x4000
    MORE = 0x8000
    WAITFORONE = 0x10000
    CMSG_CLOEXEC = 0x40000000


@fast_flags
class Shut(IntFlag):
    """Which directions are closed (``RCV_SHUTDOWN``, ``SEND_SHUTDOWN``)."""

    RCV = 1
    SEND = 2
    MASK = 3


@dataclass(frozen=True, slots=True)
class Ucred:
    """Who sent something (``struct ucred``)."""

    pid: int
    uid: int
    gid: int


@dataclass(slots=True, eq=False, repr=False)
class SendMsg:
    """What a send call brings."""

    data: bytes
    flags: int = 0  # Msg
    name: bytes | None = None  # address of the receiver, without the family; None: whoever it is connected to
    files: list[File] = field(default_factory=list)  # references that belong to the message
    creds: Ucred | None = None  # who it says it comes from; None: the sender, if anybody asks
    deadline_ns: int | None = None  # when a sender that has to wait gives up


@dataclass(slots=True, eq=False, repr=False)
class Received:
    """What a receive call gets."""

    data: bytearray = field(default_factory=bytearray)
    flags: Msg = Msg(0)
    name: bytes | None = None  # address of the sender as the guest sees it, family included; None: none is given
    files: list[File] = field(default_factory=list)
    creds: Ucred | None = None
    deadline_ns: int | None = None  # when a receiver that has to wait gives up
    length: int = 0  # what the call returns: bytes, those that did not fit included if MSG_TRUNC asks for it


class SocketFile(PseudoFile):
    """An open socket (``struct socket``); protocols implement ``struct proto_ops``."""

    __slots__ = ("kind",)
    family = AF_UNSPEC

    def __init__(self, task: Task, kind: Sock, flags: int) -> None:
        inode = new_pseudo_inode(task, task.kernel.pseudo.sockfs, stat.S_IFSOCK | 0o777)
        super().__init__(inode, None, OpenFlag.RDWR | flags & OpenFlag.NONBLOCK, FMode.READ | FMode.WRITE)
        self.kind = kind

    # struct proto_ops

    def bind(self, task: Task, address: bytes) -> int:
        """Give it the address, family included."""
        raise KernelError(Errno.EOPNOTSUPP)

    def connect(self, task: Task, address: bytes) -> int | Wait:
        """Connect to an address, family included."""
        raise KernelError(Errno.EOPNOTSUPP)

    def socketpair(self, other: SocketFile, task: Task) -> None:
        """Connect two new sockets with each other."""
        raise KernelError(Errno.EOPNOTSUPP)

    def listen(self, task: Task, backlog: int) -> int:
        """Take connections from now on."""
        raise KernelError(Errno.EOPNOTSUPP)

    def accept(self, task: Task, flags: int) -> SocketFile | Wait:
        """The next connection."""
        raise KernelError(Errno.EOPNOTSUPP)

    def getname(self, peer: bool) -> bytes:
        """Its own address or the other side's, family included."""
        raise KernelError(Errno.EOPNOTSUPP)

    def sendmsg(self, task: Task, msg: SendMsg) -> int | Wait:
        """Send; the files of the message are taken over, whatever happens."""
        raise KernelError(Errno.EOPNOTSUPP)

    def recvmsg(self, task: Task, count: int, flags: int, got: Received) -> Wait | None:
        """Add up to ``count`` bytes in all to ``got``; a `Wait` when more must come first, which is then called again."""
        raise KernelError(Errno.EOPNOTSUPP)

    def shutdown(self, task: Task, how: Shut) -> None:
        """Close directions."""
        raise KernelError(Errno.EOPNOTSUPP)

    def setsockopt(self, task: Task, option: int, value: bytes) -> None:
        """Set an option of SOL_SOCKET."""
        raise KernelError(Errno.ENOPROTOOPT)

    def getsockopt(self, task: Task, option: int) -> bytes:
        """The value of an option of SOL_SOCKET."""
        raise KernelError(Errno.ENOPROTOOPT)

    def has_input(self) -> bool:
        """Whether somebody who waits to receive should try again."""
        return True

    def receive_timeout_ns(self) -> int:
        """How long a receive call waits; 0: for ever."""
        return 0

    # struct file_operations

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Source: ``net/socket.c:sock_read_iter``."""
        got = Received(deadline_ns=deadline(task, self.receive_timeout_ns()))
        wait = self.recvmsg(task, count, 0, got)
        if wait is not None:
            return rerun_when(task, wait, self.has_input)
        for file in got.files:  # read(2) has no room for them
            file.fput()
        return bytes(got.data)

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Source: ``net/socket.c:sock_write_iter``."""
        return self.sendmsg(task, SendMsg(bytes(data)))


def deadline(task: Task, timeout_ns: int) -> int | None:
    """When a call with that time limit gives up; 0 is no limit."""
    return task.kernel.sources.monotonic_ns() + timeout_ns if timeout_ns else None


def rerun_when(task: Task, wait: Wait, ready: Callable[[], bool]) -> Wait:
    """Have the call that is about to sleep run again from its start when ``ready``; until then its time limit runs on."""
    wait.resume = partial(_rerun_when_woken, task, wait, ready)
    return wait


def _rerun_when_woken(task: Task, wait: Wait, ready: Callable[[], bool]) -> Result:
    from minikern.kernel.entry import invoke

    return invoke(task) if ready() else wait


def move_addr_to_kernel(task: Task, address: int, length: int) -> bytes:
    """A ``struct sockaddr`` of the guest. Source: ``net/socket.c:move_addr_to_kernel``."""
    if not 0 <= length <= SOCKADDR_STORAGE_BYTES:
        raise KernelError(Errno.EINVAL)
    return copy_from_user(task, address, length) if length else b""


def move_addr_to_user(task: Task, name: bytes, address: int, length_address: int) -> None:
    """Store as much of an address as fits, and how long it is. Source: ``net/socket.c:move_addr_to_user``."""
    room = get_user(task, length_address, 4)
    if room & 1 << 31:
        raise KernelError(Errno.EINVAL)
    copy_to_user(task, address, name[:room])
    put_user(task, length_address, len(name), 4)


def sockfd_lookup(task: Task, fd: int) -> SocketFile:
    """ENOTSOCK when the descriptor is something else. Source: ``net/socket.c:sockfd_lookup_light``."""
    assert task.files is not None
    file = task.files.fget(fd)
    if not isinstance(file, SocketFile):
        raise KernelError(Errno.ENOTSOCK)
    return file
