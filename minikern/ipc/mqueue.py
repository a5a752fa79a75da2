"""POSIX message queues.

Mirrors ``ipc/mqueue.c``. Queues are inodes of a file system of their own, which is not mounted anywhere: only mq_open
reaches it. Who waits for a message gets the next one handed over, so no late comer overtakes them. Left out:
notification by SIGEV_THREAD, which needs a netlink socket.
"""

from __future__ import annotations

import stat
import struct
from bisect import insort
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from minikern.fs.anon_inodes import PseudoFile
from minikern.fs.file import FMode, OpenFlag, Poll
from minikern.fs.inode import Inode, current_time
from minikern.fs.namei import getname
from minikern.fs.permission import May, inode_permission
from minikern.fs.super import NAME_MAX, SuperBlock
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.posix_timers import SIGEVENT, SigEv
from minikern.kernel.resource import Rlimit
from minikern.kernel.siginfo import Layout, SiCode, SigInfo
from minikern.kernel.signal import do_send_sig_info
from minikern.kernel.syscalls import Fd, Mode, OpenFlags, Path, Ptr, Size, UInt, syscall
from minikern.kernel.task import NSIG, PidType
from minikern.kernel.time import Clock, get_timespec_ns, to_monotonic_ns
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.pid import Pid
    from minikern.kernel.task import Task

MQUEUE_MAGIC = 0x19800202
MQ_PRIO_MAX = 32768
_QUEUES_MAX = 256  # /proc/sys/fs/mqueue
_MSG_MAX, _MSGSIZE_MAX = 10, 8192  # of a queue, for users; also what a queue gets that asks for nothing
_HARD_MSGMAX, _HARD_MSGSIZEMAX = 65536, 16 << 20  # … for root
_MSG_COST, _NODE_COST = 48, 48  # bytes that Linux charges for a message and for a priority in use
_FILENT_SIZE = 80  # what stat(2) shows as size
_ROOT_MODE = stat.S_IFDIR | stat.S_ISVTX | 0o777
_MQ_ATTR = struct.Struct("<4q32x")  # struct mq_attr
assert _MQ_ATTR.size == 64
_ACC_MODE: Final = {
    OpenFlag.RDONLY: (May.READ, FMode.READ),
    OpenFlag.WRONLY: (May.WRITE, FMode.WRITE),
    OpenFlag.RDWR: (May.READ | May.WRITE, FMode.READ | FMode.WRITE),
}


@dataclass(slots=True, eq=False, repr=False)
class MqMsg:
    """One message."""

    priority: int
    text: bytes

    @property
    def rank(self) -> int:
        """Ascending in the order of delivery."""
        return -self.priority


_RANK = attrgetter("rank")


@dataclass(slots=True, eq=False, repr=False)
class MqWaiter:
    """A call that waits (``struct ext_wait_queue``)."""

    msg: MqMsg | None  # a sender's message; a receiver's once it has it
    done: bool = False
    woken: WaitQueue = field(default_factory=WaitQueue)

    def finish(self) -> None:
        """The message has changed hands."""
        self.done = True
        self.woken.wake_up_all()


@dataclass(slots=True, eq=False, repr=False)
class MqNotify:
    """Who is told of the first message of an empty queue."""

    owner: Pid  # process
    uid: int
    notify: SigEv
    signo: int
    value: int  # sigval


class MqInode(Inode):
    """A queue (``struct mqueue_inode_info``)."""

    __slots__ = ("maxmsg", "messages", "msgsize", "notify", "receivers", "senders", "wait_q")

    def __init__(self, sb: MqueueSuper, mode: int, uid: int, gid: int, maxmsg: int, msgsize: int) -> None:
        super().__init__(sb, sb.next_ino(), stat.S_IFREG | mode, uid, gid)
        self.size = _FILENT_SIZE
        self.maxmsg = maxmsg  # most messages
        self.msgsize = msgsize  # most bytes of a message
        self.messages: list[MqMsg] = []  # in the order of delivery
        self.receivers: list[MqWaiter] = []  # they wait for a message, oldest first
        self.senders: list[MqWaiter] = []  # they wait for room
        self.notify: MqNotify | None = None
        self.wait_q = WaitQueue()  # pollers

    def evict(self) -> None:
        """Neither open nor named any more. Source: ``ipc/mqueue.c:mqueue_evict_inode``."""
        super().evict()
        assert isinstance(self.sb, MqueueSuper)
        self.sb.charged.pop(self, None)

    def attr(self, flags: int) -> bytes:
        """``struct mq_attr``."""
        return _MQ_ATTR.pack(flags & OpenFlag.NONBLOCK, self.maxmsg, self.msgsize, len(self.messages))


class MqueueSuper(SuperBlock):
    """The file system that holds all queues."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "mqueue", MQUEUE_MAGIC)
        self.names: dict[bytes, MqInode] = {}
        self.charged: dict[MqInode, tuple[int, int]] = {}  # user and bytes that count for RLIMIT_MSGQUEUE
        self.root_inode = Inode(self, self.next_ino(), _ROOT_MODE)


class MqFile(PseudoFile):
    """A queue that is open."""

    __slots__ = ("queue",)

    def __init__(self, queue: MqInode, flags: int, mode: FMode) -> None:
        super().__init__(queue, None, flags, mode)
        self.queue = queue

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """A line about the queue. Source: ``ipc/mqueue.c:mqueue_read_file``."""
        queue, notify = self.queue, self.queue.notify
        size = sum(len(msg.text) for msg in queue.messages)
        event, signo, pid = (notify.notify, notify.signo, notify.owner.nr) if notify is not None else (0, 0, 0)
        line = f"QSIZE:{size:<10} NOTIFY:{event:<5} SIGNO:{signo:<5} NOTIFY_PID:{pid:<6}\n"
        return line.encode()[pos : pos + count]

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``ipc/mqueue.c:mqueue_poll_file``."""
        queue = self.queue
        if queues is not None:
            queues.append(queue.wait_q)
        events = Poll(0)
        if queue.messages:
            events |= Poll.IN | Poll.RDNORM
        if len(queue.messages) < queue.maxmsg:
            events |= Poll.OUT | Poll.WRNORM
        return events

    def flush(self, task: Task) -> None:
        """Closing ends the closer's notification. Source: ``ipc/mqueue.c:mqueue_flush_file``."""
        notify = self.queue.notify
        if notify is not None and notify.owner is task.signal.pids[PidType.TGID]:
            self.queue.notify = None


def _mqueue_mnt(kernel: Kernel) -> MqueueSuper:
    if kernel.ipc.mqueue_mnt is None:
        kernel.ipc.mqueue_mnt = MqueueSuper(kernel)
    return kernel.ipc.mqueue_mnt


# Names


@syscall("mq_open")
def sys_mq_open(task: Task, u_name: Path, oflag: OpenFlags, mode: Mode, u_attr: Ptr) -> Result:
    """Source: ``ipc/mqueue.c:do_mq_open``."""
    attr = None
    if u_attr:
        attr = _MQ_ATTR.unpack(copy_from_user(task, u_attr, _MQ_ATTR.size))
    name = getname(task, u_name)
    files = task.files
    assert files is not None
    flags = task.arch.open_flags(oflag)
    files.get_unused_fd(task)

    mnt = _mqueue_mnt(task.kernel)
    queue = mnt.names.get(_lookup_name(name))
    access = flags & OpenFlag.ACCMODE
    if queue is None:
        if not flags & OpenFlag.CREAT:
            raise KernelError(Errno.ENOENT)
        if access not in _ACC_MODE:
            raise KernelError(Errno.EINVAL)
        assert task.fs is not None
        queue = mnt.names[name] = _mqueue_get_inode(task, mnt, mode & 0o7777 & ~task.fs.umask, attr)
    else:
        if flags & OpenFlag.CREAT and flags & OpenFlag.EXCL:
            raise KernelError(Errno.EEXIST)
        if access not in _ACC_MODE:
            raise KernelError(Errno.EINVAL)
        inode_permission(task, queue, _ACC_MODE[OpenFlag(access)][0])
    file = MqFile(queue, flags & (OpenFlag.ACCMODE | OpenFlag.NONBLOCK), _ACC_MODE[OpenFlag(access)][1])
    return files.alloc_fd(task, file, cloexec=True)


def _lookup_name(name: bytes) -> bytes:
    """Source: ``fs/namei.c:lookup_one_common``."""
    if b"/" in name or name in (b".", b".."):
        raise KernelError(Errno.EACCES)
    if len(name) > NAME_MAX:
        raise KernelError(Errno.ENAMETOOLONG)
    return name


def _mqueue_get_inode(task: Task, mnt: MqueueSuper, mode: int, attr: tuple[int, ...] | None) -> MqInode:
    """A new queue, if the limits allow one. Source: ``ipc/mqueue.c:mqueue_create_attr``, ``mqueue_get_inode``."""
    privileged = capable(task, Cap.SYS_RESOURCE)
    if len(mnt.names) >= _QUEUES_MAX and not privileged:
        raise KernelError(Errno.ENOSPC)
    maxmsg, msgsize = (attr[1], attr[2]) if attr is not None else (_MSG_MAX, _MSGSIZE_MAX)
    limits = (_HARD_MSGMAX, _HARD_MSGSIZEMAX) if privileged else (_MSG_MAX, _MSGSIZE_MAX)
    if not 0 < maxmsg <= limits[0] or not 0 < msgsize <= limits[1]:
        raise KernelError(Errno.EINVAL)

    cred = task.cred
    cost = maxmsg * (_MSG_COST + msgsize) + min(maxmsg, MQ_PRIO_MAX) * _NODE_COST
    used = sum(charged for uid, charged in mnt.charged.values() if uid == cred.uid)
    if used + cost > task.signal.rlim.cur(Rlimit.MSGQUEUE):
        raise KernelError(Errno.EMFILE)
    queue = MqInode(mnt, mode, cred.fsuid, cred.fsgid, maxmsg, msgsize)
    queue.atime_ns = queue.mtime_ns = queue.ctime_ns = current_time(task.kernel)
    mnt.charged[queue] = cred.uid, cost
    return queue


@syscall("mq_unlink")
def sys_mq_unlink(task: Task, u_name: Path) -> Result:
    """The name goes; the queue stays while it is open. Source: ``ipc/mqueue.c:mq_unlink``."""
    name = _lookup_name(getname(task, u_name))
    mnt = _mqueue_mnt(task.kernel)
    queue = mnt.names.get(name)
    if queue is None:
        raise KernelError(Errno.ENOENT)
    if task.cred.fsuid not in (queue.uid, mnt.root_inode.uid) and not capable(task, Cap.FOWNER):
        raise KernelError(Errno.EPERM)
    del mnt.names[name]
    queue.drop_nlink()
    return 0


# Messages


def _fget_mqueue(task: Task, mqdes: int, mode: FMode) -> MqFile:
    assert task.files is not None
    file = task.files.fget(mqdes)
    if not isinstance(file, MqFile) or not (file.f_mode & mode or not mode):
        raise KernelError(Errno.EBADF)
    return file


def _deadline(task: Task, u_abs_timeout: int) -> int | None:
    """The time limit of a call, which is on the wall clock, on the monotonic one."""
    if not u_abs_timeout:
        return None
    return to_monotonic_ns(task.kernel, Clock.REALTIME, get_timespec_ns(task, u_abs_timeout))


@syscall("mq_timedsend")
def sys_mq_timedsend(
    task: Task, mqdes: Fd, u_msg_ptr: Ptr, msg_len: Size, msg_prio: UInt, u_abs_timeout: Ptr
) -> Result:
    """Source: ``ipc/mqueue.c:do_mq_timedsend``."""
    deadline_ns = _deadline(task, u_abs_timeout)
    if msg_prio >= MQ_PRIO_MAX:
        raise KernelError(Errno.EINVAL)
    file = _fget_mqueue(task, mqdes, FMode.WRITE)
    queue = file.queue
    if msg_len > queue.msgsize:
        raise KernelError(Errno.EMSGSIZE)
    msg = MqMsg(msg_prio, copy_from_user(task, u_msg_ptr, msg_len) if msg_len else b"")
    if len(queue.messages) == queue.maxmsg:
        if file.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        waiter = MqWaiter(msg)
        queue.senders.append(waiter)
        return _wq_sleep(queue.senders, waiter, deadline_ns, 0)
    if queue.receivers:
        receiver = queue.receivers.pop(0)
        receiver.msg = msg
        receiver.finish()
    else:
        _msg_insert(queue, msg)
        _do_notify(task, queue)
    queue.atime_ns = queue.mtime_ns = queue.ctime_ns = current_time(task.kernel)
    return 0


@syscall("mq_timedreceive")
def sys_mq_timedreceive(
    task: Task, mqdes: Fd, u_msg_ptr: Ptr, msg_len: Size, u_msg_prio: Ptr, u_abs_timeout: Ptr
) -> Result:
    """Source: ``ipc/mqueue.c:do_mq_timedreceive``."""
    deadline_ns = _deadline(task, u_abs_timeout)
    file = _fget_mqueue(task, mqdes, FMode.READ)
    queue = file.queue
    if msg_len < queue.msgsize:
        raise KernelError(Errno.EMSGSIZE)
    if queue.messages:
        msg = queue.messages.pop(0)
        queue.atime_ns = queue.mtime_ns = queue.ctime_ns = current_time(task.kernel)
        _pipelined_receive(queue)
        return _store_msg(task, msg, u_msg_ptr, u_msg_prio)
    if file.f_flags & OpenFlag.NONBLOCK:
        raise KernelError(Errno.EAGAIN)
    waiter = MqWaiter(None)
    queue.receivers.append(waiter)
    return _wq_sleep(queue.receivers, waiter, deadline_ns, partial(_received, task, waiter, u_msg_ptr, u_msg_prio))


def _wq_sleep(
    waiters: list[MqWaiter], waiter: MqWaiter, deadline_ns: int | None, then: int | partial[Result]
) -> Result:
    """Sleep until the message has changed hands. Source: ``ipc/mqueue.c:wq_sleep``."""
    if waiter.done:
        return then if isinstance(then, int) else then()
    return Wait(
        (waiter.woken,),
        partial(_wq_sleep, waiters, waiter, deadline_ns, then),
        deadline_ns=deadline_ns,
        interrupted=partial(_give_up, waiters, waiter, -ERESTARTSYS),
        timed_out=partial(_give_up, waiters, waiter, -Errno.ETIMEDOUT),
        wchan="wq_sleep",
    )


def _give_up(waiters: list[MqWaiter], waiter: MqWaiter, result: int) -> Result:
    waiters.remove(waiter)
    return result


def _received(task: Task, waiter: MqWaiter, u_msg_ptr: int, u_msg_prio: int) -> Result:
    assert waiter.msg is not None
    return _store_msg(task, waiter.msg, u_msg_ptr, u_msg_prio)


def _store_msg(task: Task, msg: MqMsg, u_msg_ptr: int, u_msg_prio: int) -> Result:
    if u_msg_prio:
        put_user(task, u_msg_prio, msg.priority, 4)
    copy_to_user(task, u_msg_ptr, msg.text)
    return len(msg.text)


def _msg_insert(queue: MqInode, msg: MqMsg) -> None:
    """Behind every message of the same or a higher priority. Source: ``ipc/mqueue.c:msg_insert``."""
    insort(queue.messages, msg, key=_RANK)


def _pipelined_receive(queue: MqInode) -> None:
    """There is room again: the first sender that waits may go on. Source: ``ipc/mqueue.c:pipelined_receive``."""
    if not queue.senders:
        queue.wait_q.wake_up_all(Poll.OUT)
        return
    sender = queue.senders.pop(0)
    assert sender.msg is not None
    _msg_insert(queue, sender.msg)
    sender.finish()


# Notification and attributes


def _do_notify(task: Task, queue: MqInode) -> None:
    """A message came: tell pollers, and whoever asked for it if the queue was empty. Source: ``ipc/mqueue.c:__do_notify``."""
    notify = queue.notify
    if notify is not None and len(queue.messages) == 1:
        queue.notify = None
        owner = notify.owner.task(PidType.TGID)
        if notify.notify is SigEv.SIGNAL and owner is not None and owner.sighand is not None:
            sender = SigInfo(
                notify.signo,
                SiCode.SI_MESGQ,
                layout=Layout.RT,
                pid=task.tgid,
                uid=task.cred.uid,
                value=notify.value,
            )
            do_send_sig_info(notify.signo, sender, owner, PidType.TGID)
    queue.wait_q.wake_up_all(Poll.IN)


@syscall("mq_notify", partial="no SIGEV_THREAD")
def sys_mq_notify(task: Task, mqdes: Fd, u_notification: Ptr) -> Result:
    """Source: ``ipc/mqueue.c:do_mq_notify``."""
    event = None
    if u_notification:
        event = SIGEVENT.unpack(copy_from_user(task, u_notification, SIGEVENT.size))
        if event[2] not in (SigEv.NONE, SigEv.SIGNAL):
            raise KernelError(Errno.EINVAL)
        if event[2] == SigEv.SIGNAL and not 0 <= event[1] <= NSIG:
            raise KernelError(Errno.EINVAL)
    queue = _fget_mqueue(task, mqdes, FMode(0)).queue
    owner = task.signal.pids[PidType.TGID]
    assert owner is not None
    if event is None:
        if queue.notify is not None and queue.notify.owner is owner:
            queue.notify = None
    elif queue.notify is not None:
        raise KernelError(Errno.EBUSY)
    else:
        value, signo, notify, _ = event
        queue.notify = MqNotify(owner, task.cred.uid, SigEv(notify), signo, value)
    return 0


@syscall("mq_getsetattr")
def sys_mq_getsetattr(task: Task, mqdes: Fd, u_mqstat: Ptr, u_omqstat: Ptr) -> Result:
    """Report the attributes; O_NONBLOCK can be set. Source: ``ipc/mqueue.c:do_mq_getsetattr``."""
    flags = None
    if u_mqstat:
        flags = _MQ_ATTR.unpack(copy_from_user(task, u_mqstat, _MQ_ATTR.size))[0]
        if flags & ~int(OpenFlag.NONBLOCK):
            raise KernelError(Errno.EINVAL)
    file = _fget_mqueue(task, mqdes, FMode(0))
    old = file.queue.attr(file.f_flags)
    if flags is not None:
        file.f_flags = file.f_flags & ~int(OpenFlag.NONBLOCK) | flags
    if u_omqstat:
        copy_to_user(task, u_omqstat, old)
    return 0
