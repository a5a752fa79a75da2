"""AF_UNIX: sockets between processes of one machine.

Mirrors ``net/unix/af_unix.c``; sending and receiving are in `minikern.net.unix_io`. A message lies in the queue of
the receiver but is charged to the sender until it is read. Left out: out-of-band data, SO_PEEK_OFF, the diag interface.
"""

from __future__ import annotations

import stat
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from minikern.fs.dirops import vfs_mknod_at
from minikern.fs.file import OpenFlag, Poll
from minikern.fs.ioctls import SIOCINQ, SIOCOUTQ
from minikern.fs.namei import At, Lookup, filename_lookup
from minikern.fs.permission import May, path_permission
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.waitqueue import Wait, WaitQueue
from minikern.mm.uaccess import put_user
from minikern.net.socket import (
    AF_UNIX,
    AF_UNSPEC,
    SOMAXCONN,
    Msg,
    Received,
    SendMsg,
    Shut,
    Sock,
    SocketFile,
    Ucred,
    deadline,
    rerun_when,
)
from minikern.net.sockopt import SockOptions
from minikern.net.unix_io import (
    unix_dgram_recvmsg,
    unix_dgram_send,
    unix_stream_recvmsg,
    unix_stream_send,
    unix_writable,
)

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.kernel.task import Task

SUN_PATH_BYTES = 108
MAX_DGRAM_QLEN = 10  # messages that wait at one socket (net.unix.max_dgram_qlen)
_FAMILY = AF_UNIX.to_bytes(2, "little")
_READABLE = Poll.IN | Poll.RDNORM
_WRITABLE = Poll.OUT | Poll.WRNORM | Poll.WRBAND


class State(Enum):
    """How far a connection is (``TCP_*``)."""

    CLOSE = auto()
    LISTEN = auto()
    ESTABLISHED = auto()


@dataclass(slots=True, eq=False, repr=False)
class SkBuff:
    """One message in a queue (``struct sk_buff``)."""

    data: bytes  # not yet read
    truesize: int  # bytes that the sender is charged for
    sender: UnixSocket
    creds: Ucred | None  # None: nobody asked for them when it was sent
    files: list[File]
    embryo: UnixSocket | None = None  # in the queue of a listener: the connection to accept


@dataclass(slots=True, eq=False, repr=False)
class UnixNames:
    """The addresses of one machine (``net->unx.table`` and ``bsd_socket_buckets``)."""

    abstract: dict[bytes, UnixSocket] = field(default_factory=dict)
    inodes: dict[Inode, UnixSocket] = field(default_factory=dict)  # sockets bound to a name in the file system
    last_autobind: int = 0


class UnixSocket(SocketFile):
    """A socket (``struct unix_sock``)."""

    __slots__ = (
        "accept_flags",
        "address",
        "backlog",
        "bound_inode",
        "closed",
        "names",
        "opts",
        "peer",
        "peer_wait",
        "queue",
        "rd_wait",
        "shut",
        "state",
        "wmem",
        "wr_wait",
    )
    family = AF_UNIX

    def __init__(self, task: Task, kind: Sock, flags: int) -> None:
        super().__init__(task, kind, flags)
        self.names: UnixNames = task.kernel.unix_names
        self.opts = SockOptions(AF_UNIX, kind)
        self.state = State.CLOSE
        self.shut = Shut(0)
        self.peer: UnixSocket | None = None
        self.address: bytes | None = None  # sun_path: a path, or an abstract name that begins with NUL
        self.bound_inode: Inode | None = None
        self.backlog = MAX_DGRAM_QLEN  # messages, or connections, that may wait
        self.queue: deque[SkBuff] = deque()  # received
        self.wmem = 0  # bytes sent and not yet read by the other side
        self.closed = False  # ``SOCK_DEAD``
        self.rd_wait = WaitQueue()
        self.wr_wait = WaitQueue()
        self.peer_wait = WaitQueue()  # others that wait for room in the queue

    @property
    def connected_kind(self) -> bool:
        """Whether sockets of this type are always connected (stream and seqpacket)."""
        return self.kind != Sock.DGRAM

    def recvq_full(self) -> bool:
        """Whether others have to wait (``unix_recvq_full``)."""
        return len(self.queue) > self.backlog

    def takes_more(self) -> bool:
        """Whether somebody who waits to connect should try again."""
        return not self.recvq_full() or self.state is not State.LISTEN or bool(self.shut & Shut.RCV)

    def has_input(self) -> bool:
        """Whether somebody who waits to read or accept should try again."""
        return bool(self.queue) or bool(self.opts.error) or bool(self.shut & Shut.RCV)

    # addresses

    def getname(self, peer: bool) -> bytes:
        """Source: ``unix_getname``."""
        if not peer:
            return self.sockaddr()
        if self.peer is None:
            raise KernelError(Errno.ENOTCONN)
        return self.peer.sockaddr()

    def sockaddr(self) -> bytes:
        """``struct sockaddr_un``, as long as it needs to be."""
        if self.address is None:
            return _FAMILY
        return _FAMILY + self.address + (b"" if self.address.startswith(b"\0") else b"\0")

    def bind(self, task: Task, address: bytes) -> int:
        """Source: ``unix_bind``."""
        if address == _FAMILY:
            self.autobind()
            return 0
        name = unix_mkname(address)
        if name.startswith(b"\0"):
            if self.address is not None:
                raise KernelError(Errno.EINVAL)
            if name in self.names.abstract:
                raise KernelError(Errno.EADDRINUSE)
            self.names.abstract[name] = self
        else:
            self._bind_bsd(task, name)
        self.address = name
        return 0

    def _bind_bsd(self, task: Task, name: bytes) -> None:
        """Make a socket in the file system. Source: ``unix_bind_bsd``."""
        if self.address is not None:
            raise KernelError(Errno.EINVAL)
        assert task.fs is not None
        mode = stat.S_IFSOCK | self.inode.mode & 0o777 & ~task.fs.umask
        try:
            path = vfs_mknod_at(task, At.FDCWD, name, mode)
        except KernelError as error:
            raise KernelError(Errno.EADDRINUSE if error.errno == Errno.EEXIST else error.errno) from None
        self.bound_inode = path.dentry.inode
        self.names.inodes[self.bound_inode] = self

    def autobind(self) -> None:
        """An abstract name that nobody has. Source: ``unix_autobind``."""
        if self.address is not None:
            return
        names = self.names
        while True:
            names.last_autobind = (names.last_autobind + 1) & 0xFFFFF
            name = b"\0%05x" % names.last_autobind
            if name not in names.abstract:
                break
        names.abstract[name] = self
        self.address = name

    def find_other(self, task: Task, name: bytes) -> UnixSocket:
        """Who has that address; ECONNREFUSED, EPROTOTYPE. Source: ``unix_find_other``."""
        if name.startswith(b"\0"):
            other = self.names.abstract.get(name)
        else:
            path = filename_lookup(task, At.FDCWD, name, Lookup.FOLLOW)
            path_permission(task, path, May.WRITE)
            other = self.names.inodes.get(path.dentry.inode)
        if other is None:
            raise KernelError(Errno.ECONNREFUSED)
        if other.kind != self.kind:
            raise KernelError(Errno.EPROTOTYPE)
        return other

    # connections

    def socketpair(self, other: SocketFile, task: Task) -> None:
        """Source: ``unix_socketpair``."""
        assert isinstance(other, UnixSocket)
        for one, two in ((self, other), (other, self)):
            one.peer = two
            one._init_peercred(task)
            if one.connected_kind:
                one.state = State.ESTABLISHED

    def _init_peercred(self, task: Task) -> None:
        """Source: ``init_peercred``."""
        self.opts.peer_cred = Ucred(task.tgid, task.cred.euid, task.cred.egid)
        self.opts.peer_groups = tuple(task.cred.groups)

    def listen(self, task: Task, backlog: int) -> int:
        """Source: ``unix_listen``."""
        if not self.connected_kind:
            raise KernelError(Errno.EOPNOTSUPP)
        if self.address is None or self.state not in (State.CLOSE, State.LISTEN):
            raise KernelError(Errno.EINVAL)
        backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)
        if backlog > self.backlog:
            self.peer_wait.wake_up_all()
        self.backlog = backlog
        self.state = State.LISTEN
        self.opts.listening = True
        self._init_peercred(task)
        return 0

    def connect(self, task: Task, address: bytes) -> int | Wait:
        """Source: ``unix_stream_connect``, ``unix_dgram_connect``."""
        if self.connected_kind:
            return self._stream_connect(task, unix_mkname(address))
        if len(address) < 2:
            raise KernelError(Errno.EINVAL)
        if int.from_bytes(address[:2], "little") == AF_UNSPEC:
            self._dgram_disconnect(None)
            return 0
        other = self.find_other(task, unix_mkname(address))
        if self.opts.passcred:
            self.autobind()
        if other.peer not in (None, self):
            raise KernelError(Errno.EPERM)
        self._dgram_disconnect(other)
        return 0

    def _dgram_disconnect(self, new: UnixSocket | None) -> None:
        """What the old peer sent is dropped. Source: ``unix_dgram_disconnected``."""
        old, self.peer = self.peer, new
        self.state = State.ESTABLISHED if new is not None else State.CLOSE
        if old is not None and old is not new:
            self.purge_queue()
            self.wr_wait.wake_up_all(_WRITABLE)
            if old.peer is self and not old.closed:
                old.opts.error = Errno.ECONNRESET
                old.rd_wait.wake_up_all(Poll.ERR)

    def _stream_connect(self, task: Task, name: bytes) -> int | Wait:
        if self.opts.passcred:
            self.autobind()
        other = self.find_other(task, name)
        if other.state is not State.LISTEN or other.shut & Shut.RCV:
            raise KernelError(Errno.ECONNREFUSED)
        if other.recvq_full():
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            wait = self.wait(other.peer_wait, deadline(task, self.opts.sndtimeo_ns), "unix_wait_for_peer")
            return rerun_when(task, wait, other.takes_more)
        if self.state is State.ESTABLISHED:
            raise KernelError(Errno.EISCONN)
        if self.state is not State.CLOSE:
            raise KernelError(Errno.EINVAL)

        embryo = UnixSocket(task, self.kind, 0)
        embryo.peer, self.peer = self, embryo
        embryo.state = self.state = State.ESTABLISHED
        embryo._init_peercred(task)
        embryo.address = other.address
        self.opts.peer_cred = other.opts.peer_cred
        self.opts.peer_groups = other.opts.peer_groups
        other.queue.append(SkBuff(b"", 0, self, None, [], embryo))
        other.rd_wait.wake_up(key=_READABLE)
        return 0

    def accept(self, task: Task, flags: int) -> SocketFile | Wait:
        """Source: ``unix_accept``."""
        if not self.connected_kind:
            raise KernelError(Errno.EOPNOTSUPP)
        if self.state is not State.LISTEN:
            raise KernelError(Errno.EINVAL)
        if not self.queue:
            if self.shut & Shut.RCV:
                raise KernelError(Errno.EINVAL)
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            wait = self.wait(self.rd_wait, deadline(task, self.opts.rcvtimeo_ns), "unix_accept", exclusive=True)
            return rerun_when(task, wait, self.has_input)
        embryo = self.queue.popleft().embryo
        assert embryo is not None
        self.peer_wait.wake_up_all()
        if flags & OpenFlag.NONBLOCK:
            embryo.f_flags |= OpenFlag.NONBLOCK
        return embryo

    def shutdown(self, task: Task, how: Shut) -> None:
        """Source: ``unix_shutdown``."""
        self.shut |= how
        peer = self.peer
        if peer is not None and self.connected_kind:
            if how & Shut.RCV:
                peer.shut |= Shut.SEND
            if how & Shut.SEND:
                peer.shut |= Shut.RCV
            peer.state_changed()
        self.state_changed()

    def state_changed(self) -> None:
        """Whoever waits has to look again (``sk_state_change``)."""
        mask = _READABLE | _WRITABLE | Poll.HUP | Poll.RDHUP
        self.rd_wait.wake_up_all(mask)
        self.wr_wait.wake_up_all(mask)
        self.peer_wait.wake_up_all(mask)

    def release(self) -> None:
        """Source: ``unix_release_sock``."""
        self.closed = True
        listening = self.state is State.LISTEN
        self.state = State.CLOSE
        self.shut = Shut.MASK
        if self.bound_inode is not None:
            del self.names.inodes[self.bound_inode]
        elif self.address is not None and self.names.abstract.get(self.address) is self:
            del self.names.abstract[self.address]
        peer, self.peer = self.peer, None
        if peer is not None and self.connected_kind:
            peer.shut = Shut.MASK
            if self.queue:
                peer.opts.error = Errno.ECONNRESET
            peer.state_changed()
        if listening:
            for skb in self.queue:
                assert skb.embryo is not None and skb.embryo.peer is not None
                skb.embryo.peer.opts.error = Errno.ECONNRESET
                skb.embryo.fput()
            self.queue.clear()
        self.purge_queue()
        self.peer_wait.wake_up_all(_WRITABLE | Poll.ERR)

    def purge_queue(self) -> None:
        """Forget what was received."""
        while self.queue:
            skb = self.queue.popleft()
            self.uncharge(skb)
            for file in skb.files:
                file.fput()

    def uncharge(self, skb: SkBuff) -> None:
        """A message is gone: its sender may send more. Source: ``unix_write_space``."""
        sender = skb.sender
        sender.wmem -= skb.truesize
        if skb.truesize and not sender.closed and unix_writable(sender):
            sender.wr_wait.wake_up(key=_WRITABLE)

    def wait(
        self, queue: WaitQueue, deadline_ns: int | None, wchan: str, *, exclusive: bool = False, done: int = 0
    ) -> Wait:
        """A sleep after ``done`` bytes; a call with a time limit is not restarted after a signal (``sock_intr_errno``)."""
        return Wait(
            (queue,),
            deadline_ns=deadline_ns,
            interrupted=done or (-ERESTARTSYS if deadline_ns is None else -Errno.EINTR),
            timed_out=done or -Errno.EAGAIN,
            exclusive=exclusive,
            wchan=wchan,
        )

    # messages

    def sendmsg(self, task: Task, msg: SendMsg) -> int | Wait:
        """Source: ``unix_stream_sendmsg``, ``unix_seqpacket_sendmsg``, ``unix_dgram_sendmsg``."""
        if msg.deadline_ns is None:
            msg.deadline_ns = deadline(task, self.opts.sndtimeo_ns)
        send = unix_stream_send if self.kind == Sock.STREAM else unix_dgram_send
        try:
            return send(self, task, msg)
        except KernelError:
            for file in msg.files:
                file.fput()
            msg.files.clear()
            raise

    def recvmsg(self, task: Task, count: int, flags: int, got: Received) -> Wait | None:
        """Source: ``unix_stream_recvmsg``, ``unix_dgram_recvmsg``."""
        if flags & Msg.OOB:
            raise KernelError(Errno.EOPNOTSUPP)
        if self.connected_kind and self.state is not State.ESTABLISHED:
            raise KernelError(Errno.EINVAL if self.kind == Sock.STREAM else Errno.ENOTCONN)
        receive = unix_stream_recvmsg if self.kind == Sock.STREAM else unix_dgram_recvmsg
        return receive(self, task, count, flags, got)

    # everything else

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``unix_poll``, ``unix_dgram_poll``."""
        if queues is not None:
            queues += (self.rd_wait, self.wr_wait)
            if self.peer is not None and not self.connected_kind:
                queues.append(self.peer.peer_wait)
        mask = Poll(0)
        if self.opts.error:
            mask |= Poll.ERR
        if self.shut == Shut.MASK:
            mask |= Poll.HUP
        if self.shut & Shut.RCV:
            mask |= Poll.RDHUP | _READABLE
        if self.queue:
            mask |= _READABLE
        if self.connected_kind and self.state is State.CLOSE:
            mask |= Poll.HUP
        if unix_writable(self) and not self._peer_is_full():
            mask |= _WRITABLE
        return mask

    def _peer_is_full(self) -> bool:
        peer = self.peer
        return not self.connected_kind and peer is not None and peer.peer is not self and peer.recvq_full()

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Source: ``unix_ioctl``."""
        if cmd == SIOCOUTQ:
            amount = self.wmem
        elif cmd == SIOCINQ:
            if self.state is State.LISTEN:
                raise KernelError(Errno.EINVAL)
            first = len(self.queue[0].data) if self.queue else 0
            amount = sum(len(skb.data) for skb in self.queue) if self.connected_kind else first
        else:
            raise KernelError(Errno.ENOTTY)
        put_user(task, arg, amount, 4)
        return 0

    def setsockopt(self, task: Task, option: int, value: bytes) -> None:
        """Source: ``net/core/sock.c:sock_setsockopt``."""
        self.opts.set(task, option, value)

    def getsockopt(self, task: Task, option: int) -> bytes:
        """Source: ``net/core/sock.c:sk_getsockopt``."""
        return self.opts.get(option)

    def receive_timeout_ns(self) -> int:
        """SO_RCVTIMEO."""
        return self.opts.rcvtimeo_ns

    def show_fdinfo(self) -> str:
        """Source: ``unix_show_fdinfo``."""
        return f"scm_fds: {sum(len(skb.files) for skb in self.queue)}\n"


def unix_mkname(address: bytes) -> bytes:
    """The name in a ``struct sockaddr_un``: a path without its NUL, or an abstract name with the leading one.

    Source: ``unix_validate_addr``, ``unix_mkname_bsd``.
    """
    if not 2 < len(address) <= 2 + SUN_PATH_BYTES or address[:2] != _FAMILY:
        raise KernelError(Errno.EINVAL)
    name = address[2:]
    return name if name.startswith(b"\0") else name.split(b"\0", 1)[0]
