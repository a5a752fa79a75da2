"""Sending and receiving over AF_UNIX sockets.

Mirrors the second half of ``net/unix/af_unix.c`` and the accounting of ``net/core/sock.c``. Sizes of buffers are computed as
Linux computes them, so that a socket is full after as many messages.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import send_sig
from minikern.kernel.waitqueue import Wait
from minikern.net.socket import Msg, Received, SendMsg, Shut, Sock, Ucred

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.net.af_unix import SkBuff, UnixSocket

_READABLE = Poll.IN | Poll.RDNORM
_PAGE_SIZE = 4096
_SKB_BYTES = 256  # struct sk_buff
_SHARED_INFO_BYTES = 320  # struct skb_shared_info, behind the data
_SMALLEST_HEAD = 512
# How much data of a message lies in one piece; the rest is in pages of its own.
_SKB_MAX_HEAD = _PAGE_SIZE - _SHARED_INFO_BYTES  # of streams
_SKB_MAX_ALLOC = 4 * _PAGE_SIZE - _SHARED_INFO_BYTES  # of datagrams
_UNIX_SKB_FRAGS_BYTES = 8 * _PAGE_SIZE
_CACHE_LINE = 64
_OVERFLOW_ID = 65534  # who sent something when nobody asked in time


def unix_writable(sock: UnixSocket) -> bool:
    """Whether less than a quarter of the send buffer is in use (``unix_writable``)."""
    return not sock.opts.listening and sock.wmem * 4 <= sock.opts.sndbuf


def truesize(length: int, max_head: int) -> int:
    """What a message of ``length`` bytes is charged for. Source: ``net/core/skbuff.c:alloc_skb_with_frags``."""
    paged = -(-max(0, length - max_head) // _PAGE_SIZE) * _PAGE_SIZE
    linear = max(0, length - paged)
    head = -(-linear // _CACHE_LINE) * _CACHE_LINE + _SHARED_INFO_BYTES
    return max(_SMALLEST_HEAD, 1 << (head - 1).bit_length()) + _SKB_BYTES + paged


def _creds(task: Task, sock: UnixSocket, other: UnixSocket, msg: SendMsg) -> Ucred | None:
    """Who the message says it comes from. Source: ``maybe_add_creds``."""
    if msg.creds is not None:
        return msg.creds
    if sock.opts.passcred or other.opts.passcred:
        return Ucred(task.tgid, task.cred.uid, task.cred.gid)
    return None


def _pipe_error(task: Task, msg: SendMsg, done: int) -> int:
    """Nobody will read it. The signal is sent only if nothing was sent."""
    if done:
        return done
    if not msg.flags & Msg.NOSIGNAL:
        send_sig(Signal.SIGPIPE, task, False)
    raise KernelError(Errno.EPIPE)


def _check_send_flags(msg: SendMsg) -> None:
    if msg.flags & Msg.OOB:
        raise KernelError(Errno.EOPNOTSUPP)


def unix_stream_send(sock: UnixSocket, task: Task, msg: SendMsg, done: int = 0) -> int | Wait:
    """Send ``msg.data[done:]``. Source: ``unix_stream_sendmsg``."""
    from minikern.net.af_unix import SkBuff

    _check_send_flags(msg)
    other = sock.peer
    if msg.name is not None:
        raise KernelError(Errno.EISCONN if other is not None else Errno.EOPNOTSUPP)
    if other is None and not sock.shut:
        raise KernelError(Errno.ENOTCONN)
    if sock.shut & Shut.SEND or other is None:
        return _pipe_error(task, msg, done)

    size = len(msg.data)
    opts = sock.opts
    while done < size:
        if opts.error and not done:
            raise KernelError(opts.take_error())
        if sock.shut & Shut.SEND or other.closed or other.shut & Shut.RCV:
            return _pipe_error(task, msg, done)
        if sock.wmem >= opts.sndbuf:
            if sock.f_flags & OpenFlag.NONBLOCK or msg.flags & Msg.DONTWAIT:
                if not done:
                    raise KernelError(Errno.EAGAIN)
                return done
            wait = sock.wait(sock.wr_wait, msg.deadline_ns, "sock_alloc_send_pskb", done=done)
            wait.resume = partial(unix_stream_send, sock, task, msg, done)
            return wait
        length = min(size - done, opts.sndbuf // 2 - _CACHE_LINE, _SKB_MAX_HEAD + _UNIX_SKB_FRAGS_BYTES)
        charge = truesize(length, _SKB_MAX_HEAD)
        files, msg.files = msg.files, []  # travel with the first piece
        skb = SkBuff(msg.data[done : done + length], charge, sock, _creds(task, sock, other, msg), files)
        sock.wmem += charge
        other.queue.append(skb)
        done += length
        other.rd_wait.wake_up(key=_READABLE)
    for file in msg.files:  # nothing was sent that they could have gone with
        file.fput()
    return done


def unix_dgram_send(sock: UnixSocket, task: Task, msg: SendMsg) -> int | Wait:
    """Send one message. Source: ``unix_dgram_sendmsg``."""
    from minikern.net.af_unix import SkBuff, unix_mkname

    _check_send_flags(msg)
    size = len(msg.data)
    opts = sock.opts
    if sock.kind == Sock.SEQPACKET:
        if opts.error:
            raise KernelError(opts.take_error())
        if sock.peer is None and not sock.shut:
            raise KernelError(Errno.ENOTCONN)
        msg.name = None
    other = sock.peer
    if msg.name is not None:
        other = sock.find_other(task, unix_mkname(msg.name))
    elif other is None and sock.kind == Sock.DGRAM:
        raise KernelError(Errno.ENOTCONN)
    if opts.passcred:
        sock.autobind()
    if size > opts.sndbuf - 32:
        raise KernelError(Errno.EMSGSIZE)
    if opts.error:
        raise KernelError(opts.take_error())
    if sock.shut & Shut.SEND or other is None:
        return _pipe_error(task, msg, 0)

    nonblock = sock.f_flags & OpenFlag.NONBLOCK or msg.flags & Msg.DONTWAIT
    if other.closed:
        if sock.kind == Sock.SEQPACKET:
            return _pipe_error(task, msg, 0)
        if sock.peer is other:
            sock.peer = None
        raise KernelError(Errno.ECONNREFUSED)
    if other.peer not in (None, sock):
        raise KernelError(Errno.EPERM)
    if other.shut & Shut.RCV:
        return _pipe_error(task, msg, 0)
    crowded = other is not sock and other.peer is not sock and other.recvq_full()
    if crowded or sock.wmem >= opts.sndbuf:
        if nonblock:
            raise KernelError(Errno.EAGAIN)
        queue = other.peer_wait if crowded else sock.wr_wait
        wait = sock.wait(queue, msg.deadline_ns, "unix_wait_for_peer" if crowded else "sock_alloc_send_pskb")
        wait.resume = partial(sock.sendmsg, task, msg)
        return wait
    charge = truesize(size, _SKB_MAX_ALLOC)
    sock.wmem += charge
    other.queue.append(SkBuff(msg.data, charge, sock, _creds(task, sock, other, msg), msg.files))
    other.rd_wait.wake_up(key=_READABLE)
    return size


# -- receiving


def _note_sender(sock: UnixSocket, skb: SkBuff, got: Received) -> None:
    """Who sent it, and from which address."""
    got.creds = skb.creds or Ucred(0, _OVERFLOW_ID, _OVERFLOW_ID)
    if skb.sender.address is not None:
        got.name = skb.sender.sockaddr()


def unix_dgram_recvmsg(sock: UnixSocket, task: Task, count: int, flags: int, got: Received) -> Wait | None:
    """Receive one message; what does not fit is lost. Source: ``unix_dgram_recvmsg``."""
    if not sock.queue:
        if sock.opts.error:
            raise KernelError(sock.opts.take_error())
        if sock.shut & Shut.RCV:
            return None
        if sock.f_flags & OpenFlag.NONBLOCK or flags & Msg.DONTWAIT:
            raise KernelError(Errno.EAGAIN)
        return sock.wait(sock.rd_wait, got.deadline_ns, "unix_dgram_recvmsg", exclusive=True)
    skb = sock.queue[0]
    _note_sender(sock, skb, got)
    got.data += skb.data[:count]
    got.length = len(skb.data) if flags & Msg.TRUNC else len(got.data)
    if len(skb.data) > count:
        got.flags |= Msg.TRUNC
    if flags & Msg.PEEK:
        got.files = [file.get() for file in skb.files]
        return None
    sock.queue.popleft()
    got.files = skb.files
    sock.uncharge(skb)
    sock.peer_wait.wake_up(key=Poll.OUT | Poll.WRNORM | Poll.WRBAND)
    return None


def unix_stream_recvmsg(sock: UnixSocket, task: Task, count: int, flags: int, got: Received) -> Wait | None:
    """Receive what is there, of one sender and with one set of files at most. Source: ``unix_stream_read_generic``."""
    target = count if flags & Msg.WAITALL else min(sock.opts.rcvlowat, count) or 1
    peeked = 0  # messages that were looked at and left in the queue
    while len(got.data) < count:
        if peeked < len(sock.queue):
            skb = sock.queue[peeked]
            if sock.opts.passcred and got.data and (skb.creds or Ucred(0, _OVERFLOW_ID, _OVERFLOW_ID)) != got.creds:
                break
            if not got.data:
                _note_sender(sock, skb, got)
            part = skb.data[: count - len(got.data)]
            got.data += part
            if flags & Msg.PEEK:
                got.files = [file.get() for file in skb.files]
                if len(part) < len(skb.data) or skb.files:
                    break
                peeked += 1
                continue
            got.files, skb.files = skb.files, []
            skb.data = skb.data[len(part) :]
            if not skb.data:
                sock.queue.popleft()
                sock.uncharge(skb)
            if skb.data or got.files:
                break
            continue
        if len(got.data) >= target:
            break
        if sock.opts.error:
            if got.data:
                break
            raise KernelError(sock.opts.take_error())
        if sock.shut & Shut.RCV:
            break
        if sock.f_flags & OpenFlag.NONBLOCK or flags & Msg.DONTWAIT:
            if got.data:
                break
            raise KernelError(Errno.EAGAIN)
        if peeked:
            got.data.clear()  # looked at again after the wake-up
        return sock.wait(sock.rd_wait, got.deadline_ns, "unix_stream_data_wait")
    got.length = len(got.data)
    return None
