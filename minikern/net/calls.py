"""The system calls of sockets.

Mirrors the second half of ``net/socket.c``. A call that has to wait keeps what it has got so far in a `SendMsg` or
`Received`, and goes on with it after the wake-up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import OpenFlag
from minikern.fs.read_write import UIO_MAXIOV, Iovec, import_iovec
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Buf, Fd, Int, Ptr, Size, UInt, syscall
from minikern.kernel.time import get_timespec_ns
from minikern.kernel.waitqueue import Result, Wait, then
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user
from minikern.net.af_unix import UnixSocket
from minikern.net.scm import scm_recv, scm_send
from minikern.net.socket import (
    AF_MAX,
    AF_UNIX,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_TYPE_MASK,
    Msg,
    Received,
    SendMsg,
    Shut,
    Sock,
    SocketFile,
    deadline,
    move_addr_to_kernel,
    move_addr_to_user,
    sockfd_lookup,
)
from minikern.net.sockopt import SOL_SOCKET

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_MSGHDR = struct.Struct("<QI4xQQQQI4x")  # struct msghdr: name, namelen, iov, iovlen, control, controllen, flags
_MMSGHDR_BYTES = _MSGHDR.size + 8  # struct mmsghdr: a msghdr and how much was transferred
_NAMELEN_OFFSET = 8
_CONTROLLEN_OFFSET = 40
_FLAGS_OFFSET = 48
_SOCK_MAX = 11
_INT_MAX = 0x7FFFFFFF
_CONTROL_MAX = 131072  # net.core.optmem_max

Finish = Callable[[Received], int]  # stores what was received; the result of the call


# -- making and connecting


def _sock_create(task: Task, family: int, kind: int, protocol: int) -> SocketFile:
    """Source: ``net/socket.c:__sock_create``, ``net/unix/af_unix.c:unix_create``."""
    flags = kind & ~SOCK_TYPE_MASK
    kind &= SOCK_TYPE_MASK
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise KernelError(Errno.EINVAL)
    if not 0 <= family < AF_MAX:
        raise KernelError(Errno.EAFNOSUPPORT)
    if kind >= _SOCK_MAX:
        raise KernelError(Errno.EINVAL)
    if family != AF_UNIX:
        raise KernelError(Errno.EAFNOSUPPORT)
    if protocol not in (0, AF_UNIX):
        raise KernelError(Errno.EPROTONOSUPPORT)
    if kind == Sock.RAW:
        kind = Sock.DGRAM
    if kind not in (Sock.STREAM, Sock.DGRAM, Sock.SEQPACKET):
        raise KernelError(Errno.ESOCKTNOSUPPORT)
    return UnixSocket(task, Sock(kind), flags)


@syscall("socket", partial="AF_UNIX only")
def sys_socket(task: Task, family: Int, type: Int, protocol: Int) -> Result:
    """Source: ``net/socket.c:__sys_socket``."""
    sock = _sock_create(task, family, type, protocol)
    return _install(task, sock, bool(type & SOCK_CLOEXEC))


def _install(task: Task, sock: SocketFile, cloexec: bool) -> int:
    assert task.files is not None
    try:
        return task.files.alloc_fd(task, sock, cloexec=cloexec)
    except KernelError:
        sock.fput()
        raise


@syscall("socketpair", partial="AF_UNIX only")
def sys_socketpair(task: Task, family: Int, type: Int, protocol: Int, usockvec: Ptr) -> Result:
    """Source: ``net/socket.c:__sys_socketpair``."""
    files = task.files
    assert files is not None
    socks = [_sock_create(task, family, type, protocol) for _ in range(2)]
    socks[0].socketpair(socks[1], task)
    fds: list[int] = []
    try:
        for sock in socks:
            fds.append(files.alloc_fd(task, sock, cloexec=bool(type & SOCK_CLOEXEC)))
        copy_to_user(task, usockvec, struct.pack("<2i", *fds))
    except KernelError:
        for fd in fds:
            files.remove(fd)
        for sock in socks:
            sock.fput()
        raise
    return 0


@syscall("bind")
def sys_bind(task: Task, fd: Fd, umyaddr: Ptr, addrlen: Int) -> Result:
    """Source: ``net/socket.c:__sys_bind``."""
    return sockfd_lookup(task, fd).bind(task, move_addr_to_kernel(task, umyaddr, addrlen))


@syscall("listen")
def sys_listen(task: Task, fd: Fd, backlog: Int) -> Result:
    """Source: ``net/socket.c:__sys_listen``."""
    return sockfd_lookup(task, fd).listen(task, backlog)


@syscall("accept4")
def sys_accept4(task: Task, fd: Fd, upeer_sockaddr: Ptr, upeer_addrlen: Ptr, flags: Int) -> Result:
    """Source: ``net/socket.c:__sys_accept4``."""
    if flags & ~int(SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise KernelError(Errno.EINVAL)
    listener = sockfd_lookup(task, fd)
    assert task.files is not None
    task.files.get_unused_fd(task)
    sock = listener.accept(task, flags & OpenFlag.NONBLOCK)
    if isinstance(sock, Wait):
        return sock
    try:
        if upeer_sockaddr:
            move_addr_to_user(task, sock.getname(peer=True), upeer_sockaddr, upeer_addrlen)
    except KernelError as error:
        sock.fput()
        raise KernelError(Errno.ECONNABORTED if error.errno == Errno.ENOTCONN else error.errno) from None
    return _install(task, sock, bool(flags & SOCK_CLOEXEC))


@syscall("accept")
def sys_accept(task: Task, fd: Fd, upeer_sockaddr: Ptr, upeer_addrlen: Ptr) -> Result:
    """Source: ``net/socket.c:accept``."""
    return sys_accept4(task, fd, upeer_sockaddr, upeer_addrlen, 0)


@syscall("connect")
def sys_connect(task: Task, fd: Fd, uservaddr: Ptr, addrlen: Int) -> Result:
    """Source: ``net/socket.c:__sys_connect``."""
    return sockfd_lookup(task, fd).connect(task, move_addr_to_kernel(task, uservaddr, addrlen))


@syscall("getsockname")
def sys_getsockname(task: Task, fd: Fd, usockaddr: Ptr, usockaddr_len: Ptr) -> Result:
    """Source: ``net/socket.c:__sys_getsockname``."""
    move_addr_to_user(task, sockfd_lookup(task, fd).getname(peer=False), usockaddr, usockaddr_len)
    return 0


@syscall("getpeername")
def sys_getpeername(task: Task, fd: Fd, usockaddr: Ptr, usockaddr_len: Ptr) -> Result:
    """Source: ``net/socket.c:__sys_getpeername``."""
    move_addr_to_user(task, sockfd_lookup(task, fd).getname(peer=True), usockaddr, usockaddr_len)
    return 0


@syscall("shutdown")
def sys_shutdown(task: Task, fd: Fd, how: Int) -> Result:
    """Source: ``net/socket.c:__sys_shutdown``."""
    sock = sockfd_lookup(task, fd)
    if not 0 <= how <= 2:
        raise KernelError(Errno.EINVAL)
    sock.shutdown(task, Shut(how + 1))
    return 0


# -- options


@syscall("setsockopt")
def sys_setsockopt(task: Task, fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Int) -> Result:
    """Source: ``net/socket.c:__sys_setsockopt``."""
    if optlen < 0:
        raise KernelError(Errno.EINVAL)
    sock = sockfd_lookup(task, fd)
    if level != SOL_SOCKET:
        raise KernelError(Errno.EOPNOTSUPP)
    sock.setsockopt(task, optname, copy_from_user(task, optval, optlen))
    return 0


@syscall("getsockopt")
def sys_getsockopt(task: Task, fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Ptr) -> Result:
    """Source: ``net/socket.c:__sys_getsockopt``."""
    sock = sockfd_lookup(task, fd)
    if level != SOL_SOCKET:
        raise KernelError(Errno.EOPNOTSUPP)
    room = get_user(task, optlen, 4)
    if room > _INT_MAX:
        raise KernelError(Errno.EINVAL)
    value = sock.getsockopt(task, optname)
    copy_to_user(task, optval, value[:room])
    put_user(task, optlen, min(room, len(value)), 4)
    return 0


# -- sending


@syscall("sendto")
def sys_sendto(task: Task, fd: Fd, buff: Buf, len: Size, flags: UInt, addr: Ptr, addr_len: Int) -> Result:
    """Source: ``net/socket.c:__sys_sendto``."""
    sock = sockfd_lookup(task, fd)
    data = copy_from_user(task, buff, min(len, _INT_MAX)) if len else b""
    name = move_addr_to_kernel(task, addr, addr_len) if addr else None
    return sock.sendmsg(task, SendMsg(data, flags, name))


@syscall("sendmsg")
def sys_sendmsg(task: Task, fd: Fd, msg: Ptr, flags: UInt) -> Result:
    """Source: ``net/socket.c:__sys_sendmsg``."""
    return _sendmsg(task, sockfd_lookup(task, fd), msg, flags)


def _sendmsg(task: Task, sock: SocketFile, address: int, flags: int) -> int | Wait:
    """Source: ``net/socket.c:___sys_sendmsg``."""
    name, namelen, iov, iovlen, control, controllen, _ = _MSGHDR.unpack(copy_from_user(task, address, _MSGHDR.size))
    if iovlen > UIO_MAXIOV:
        raise KernelError(Errno.EMSGSIZE)
    msg = SendMsg(b"", flags, move_addr_to_kernel(task, name, _signed(namelen)) if name and namelen else None)
    iovec = import_iovec(task, iov, iovlen)
    if controllen > _CONTROL_MAX:
        raise KernelError(Errno.ENOBUFS)
    try:
        if control and controllen:
            scm_send(task, copy_from_user(task, control, controllen), msg)
        msg.data = b"".join(copy_from_user(task, base, length) for base, length in iovec if length)
    except KernelError:
        for file in msg.files:
            file.fput()
        raise
    return sock.sendmsg(task, msg)


@syscall("sendmmsg")
def sys_sendmmsg(task: Task, fd: Fd, mmsg: Ptr, vlen: UInt, flags: UInt) -> Result:
    """Source: ``net/socket.c:__sys_sendmmsg``."""
    return _sendmmsg(task, sockfd_lookup(task, fd), mmsg, min(vlen, UIO_MAXIOV), flags, 0)


def _sendmmsg(task: Task, sock: SocketFile, mmsg: int, count: int, flags: int, done: int) -> Result:
    """Send the messages from number ``done`` on; an error after the first ends the call without being told."""
    while done < count:
        entry = mmsg + done * _MMSGHDR_BYTES
        try:
            sent = _sendmsg(task, sock, entry, flags)
        except KernelError:
            if not done:
                raise
            return done
        if isinstance(sent, Wait):
            return then(sent, partial(_sendmmsg_sent, task, sock, mmsg, count, flags, done))
        put_user(task, entry + _MSGHDR.size, sent, 4)
        done += 1
    return done


def _sendmmsg_sent(task: Task, sock: SocketFile, mmsg: int, count: int, flags: int, done: int, sent: int) -> Result:
    """Message number ``done`` has been sent after all, or failed."""
    if sent < 0:
        return done or sent
    put_user(task, mmsg + done * _MMSGHDR_BYTES + _MSGHDR.size, sent, 4)
    return _sendmmsg(task, sock, mmsg, count, flags, done + 1)


# -- receiving


@syscall("recvfrom")
def sys_recvfrom(task: Task, fd: Fd, ubuf: Buf, size: Size, flags: UInt, addr: Ptr, addr_len: Ptr) -> Result:
    """Source: ``net/socket.c:__sys_recvfrom``."""
    sock = sockfd_lookup(task, fd)
    finish = partial(_finish_recvfrom, task, [(ubuf, size)], addr, addr_len)
    got = Received(deadline_ns=deadline(task, sock.receive_timeout_ns()))
    return _receive(task, sock, min(size, _INT_MAX), flags, got, finish)


def _finish_recvfrom(task: Task, iovec: Iovec, addr: int, addr_len: int, got: Received) -> int:
    for file in got.files:  # there is no room for them
        file.fput()
    _scatter(task, iovec, got)
    if addr:
        move_addr_to_user(task, got.name or b"", addr, addr_len)
    return got.length


@syscall("recvmsg")
def sys_recvmsg(task: Task, fd: Fd, msg: Ptr, flags: UInt) -> Result:
    """Source: ``net/socket.c:__sys_recvmsg``."""
    return _recvmsg(task, sockfd_lookup(task, fd), msg, flags)


def _recvmsg(task: Task, sock: SocketFile, address: int, flags: int) -> Result:
    """Source: ``net/socket.c:___sys_recvmsg``."""
    name, _, iov, iovlen, control, controllen, _ = _MSGHDR.unpack(copy_from_user(task, address, _MSGHDR.size))
    if iovlen > UIO_MAXIOV:
        raise KernelError(Errno.EMSGSIZE)
    iovec = import_iovec(task, iov, iovlen)
    cloexec = bool(flags & Msg.CMSG_CLOEXEC)
    finish = partial(_finish_recvmsg, task, sock, address, name, iovec, control, controllen, cloexec)
    count = min(sum(length for _, length in iovec), _INT_MAX)
    got = Received(deadline_ns=deadline(task, sock.receive_timeout_ns()))
    return _receive(task, sock, count, flags, got, finish)


def _finish_recvmsg(
    task: Task,
    sock: SocketFile,
    address: int,
    name: int,
    iovec: Iovec,
    control: int,
    controllen: int,
    cloexec: bool,
    got: Received,
) -> int:
    """Store everything, the lengths and flags of the msghdr last."""
    _scatter(task, iovec, got)
    passcred = isinstance(sock, UnixSocket) and sock.opts.passcred
    used = scm_recv(task, got, control, controllen, passcred=passcred, cloexec=cloexec)
    if name:
        move_addr_to_user(task, got.name or b"", name, address + _NAMELEN_OFFSET)
    flags = got.flags | (Msg.CMSG_CLOEXEC if cloexec else Msg(0))
    put_user(task, address + _FLAGS_OFFSET, flags, 4)
    put_user(task, address + _CONTROLLEN_OFFSET, used, 8)
    return got.length


@syscall("recvmmsg")
def sys_recvmmsg(task: Task, fd: Fd, mmsg: Ptr, vlen: UInt, flags: UInt, timeout: Ptr) -> Result:
    """The time limit is looked at between messages. Source: ``net/socket.c:do_recvmmsg``."""
    end_ns = task.kernel.sources.monotonic_ns() + get_timespec_ns(task, timeout) if timeout else None
    return _recvmmsg(task, sockfd_lookup(task, fd), mmsg, min(vlen, UIO_MAXIOV), flags, end_ns, 0)


def _recvmmsg(task: Task, sock: SocketFile, mmsg: int, count: int, flags: int, end_ns: int | None, done: int) -> Result:
    """Receive the messages from number ``done`` on."""
    while done < count:
        if done and end_ns is not None and task.kernel.sources.monotonic_ns() >= end_ns:
            break
        nonblock = Msg.DONTWAIT if done and flags & Msg.WAITFORONE else 0
        entry = mmsg + done * _MMSGHDR_BYTES
        try:
            size = _recvmsg(task, sock, entry, flags & ~Msg.WAITFORONE | nonblock)
        except KernelError:
            if not done:
                raise
            break
        if isinstance(size, Wait):
            return then(size, partial(_recvmmsg_got, task, sock, mmsg, count, flags, end_ns, done))
        assert isinstance(size, int)
        put_user(task, entry + _MSGHDR.size, size, 4)
        done += 1
    return done


def _recvmmsg_got(
    task: Task, sock: SocketFile, mmsg: int, count: int, flags: int, end_ns: int | None, done: int, size: int
) -> Result:
    """Message number ``done`` has come, or there was an error."""
    if size < 0:
        return done or size
    put_user(task, mmsg + done * _MMSGHDR_BYTES + _MSGHDR.size, size, 4)
    return _recvmmsg(task, sock, mmsg, count, flags, end_ns, done + 1)


def _receive(task: Task, sock: SocketFile, count: int, flags: int, got: Received, finish: Finish) -> Result:
    """Receive, sleeping as long as the socket says so; what has come by then is the result when the sleep is cut short."""
    wait = sock.recvmsg(task, count, flags, got)
    if wait is None:
        return finish(got)
    wait.resume = partial(_receive, task, sock, count, flags, got, finish)
    if got.data:
        got.length = len(got.data)
        wait.interrupted = wait.timed_out = partial(finish, got)
    return wait


def _scatter(task: Task, iovec: Iovec, got: Received) -> None:
    data = bytes(got.data)
    for base, length in iovec:
        if not data:
            break
        copy_to_user(task, base, data[:length])
        data = data[length:]


def _signed(number: int) -> int:
    return (number ^ 1 << 31) - (1 << 31)
