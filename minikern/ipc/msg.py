"""System V message queues.

Mirrors ``ipc/msg.c`` and ``ipc/msgutil.c``. A message that somebody waits for goes straight to them and never enters
the queue.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, auto
from functools import partial
from typing import TYPE_CHECKING

from minikern.ipc.namespace import MSGMAX, MSGMNB
from minikern.ipc.util import IPC_PERM_SIZE, IpcCmd, IpcFlag, IpcPerm, Want, ipcperms, now_s
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import ERESTARTNOHAND, Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Int, Long, Ptr, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_MSGPOOL_KIB, _MSGSSZ, _MSGSEG = MSGMNB * 32000 // 1024, 16, 0xFFFF  # reported, but without meaning
_LONG_MAX = (1 << 63) - 1
_MTYPE = struct.Struct("<q")
_MSQID_DS = struct.Struct("<qqqQQQii16x")  # struct msqid64_ds behind its ipc64_perm
_MSGINFO = struct.Struct("<7iH2x")  # struct msginfo
assert IPC_PERM_SIZE + _MSQID_DS.size == 120 and _MSGINFO.size == 32
_QBYTES_OFFSET = IPC_PERM_SIZE + 40


@fast_flags
class MsgFlag(IntFlag):
    """Flags of msgrcv beside `IpcFlag.NOWAIT`."""

    NOERROR = 0o10000  # cut a message off that is too long
    EXCEPT = 0o20000  # any type but the given one
    COPY = 0o40000  # leave the message where it is


class MsgCmd(IntEnum):
    """Commands of msgctl beside `IpcCmd`."""

    STAT = 11
    INFO = 12
    STAT_ANY = 13


class Search(Enum):
    """Which message a receiver wants (``SEARCH_*``)."""

    ANY = auto()  # the oldest
    EQUAL = auto()  # the oldest of a type
    NOTEQUAL = auto()  # the oldest of another type
    LESSEQUAL = auto()  # the lowest type up to a number
    NUMBER = auto()  # by position


@dataclass(slots=True, eq=False, repr=False)
class Msg:
    """One message."""

    type: int  # > 0
    text: bytes


@dataclass(slots=True, eq=False, repr=False)
class MsgReceiver:
    """A call that waits for a message (``struct msg_receiver``)."""

    pid: int
    search: Search
    type: int
    max_size: int  # a longer message is refused
    got: Msg | Errno | None = None  # None: still waits
    woken: WaitQueue = field(default_factory=WaitQueue)

    def finish(self, got: Msg | Errno) -> None:
        """The wait is over."""
        self.got = got
        self.woken.wake_up_all()


@dataclass(slots=True, eq=False, repr=False)
class MsgQueue:
    """A queue (``struct msg_queue``)."""

    perm: IpcPerm
    ctime_s: int  # last change
    stime_s: int = 0  # last msgsnd
    rtime_s: int = 0  # last msgrcv
    qbytes: int = MSGMNB  # how many bytes it holds
    lspid: int = 0  # last sender and receiver
    lrpid: int = 0
    messages: list[Msg] = field(default_factory=list)  # oldest first
    receivers: list[MsgReceiver] = field(default_factory=list)  # they wait for a message
    senders: WaitQueue = field(default_factory=WaitQueue)  # they wait for room

    @property
    def cbytes(self) -> int:
        """Bytes in the queue."""
        return sum(len(msg.text) for msg in self.messages)


@syscall("msgget")
def sys_msgget(task: Task, key: Int, msgflg: Int) -> Result:
    """Source: ``ipc/msg.c:ksys_msgget``."""
    return task.kernel.ipc.msg.get(task, key, msgflg, partial(_newque, task, key, msgflg), _no_more_checks)


def _newque(task: Task, key: int, msgflg: int) -> MsgQueue:
    return MsgQueue(IpcPerm.new(task, key, msgflg & 0o777), now_s(task))


def _no_more_checks(queue: MsgQueue) -> None:
    """Any queue fits."""


# Sending


@syscall("msgsnd")
def sys_msgsnd(task: Task, msqid: Int, msgp: Ptr, msgsz: Long, msgflg: Int) -> Result:
    """Source: ``ipc/msg.c:do_msgsnd``."""
    (mtype,) = _MTYPE.unpack(copy_from_user(task, msgp, _MTYPE.size))
    if not 0 <= msgsz <= MSGMAX or msqid < 0 or mtype < 1:
        raise KernelError(Errno.EINVAL)
    msg = Msg(mtype, copy_from_user(task, msgp + _MTYPE.size, msgsz) if msgsz else b"")
    return _msgsnd(task, task.kernel.ipc.msg.obtain(msqid), msg, msgflg)


def _msgsnd(task: Task, queue: MsgQueue, msg: Msg, msgflg: int) -> Result:
    """Send, or wait for room."""
    if queue.perm.deleted:
        raise KernelError(Errno.EIDRM)
    ipcperms(task, queue.perm, Want.WRITE)
    if queue.cbytes + len(msg.text) > queue.qbytes or len(queue.messages) + 1 > queue.qbytes:
        if msgflg & IpcFlag.NOWAIT:
            raise KernelError(Errno.EAGAIN)
        again = partial(_msgsnd, task, queue, msg, msgflg)
        return Wait((queue.senders,), again, interrupted=-ERESTARTNOHAND, wchan="do_msgsnd")
    queue.lspid = task.tgid
    queue.stime_s = now_s(task)
    if not _pipelined_send(task, queue, msg):
        queue.messages.append(msg)
    return 0


def _pipelined_send(task: Task, queue: MsgQueue, msg: Msg) -> bool:
    """Hand the message to the first receiver that wants it; False: nobody does. Source: ``ipc/msg.c:pipelined_send``."""
    for receiver in tuple(queue.receivers):
        if not _testmsg(msg, receiver.type, receiver.search):
            continue
        queue.receivers.remove(receiver)
        if receiver.max_size < len(msg.text):
            receiver.finish(Errno.E2BIG)
            continue
        queue.lrpid = receiver.pid
        queue.rtime_s = now_s(task)
        receiver.finish(msg)
        return True
    return False


# Receiving


@syscall("msgrcv")
def sys_msgrcv(task: Task, msqid: Int, msgp: Ptr, msgsz: Long, msgtyp: Long, msgflg: Int) -> Result:
    """Source: ``ipc/msg.c:do_msgrcv``."""
    if msqid < 0 or msgsz < 0:
        raise KernelError(Errno.EINVAL)
    if msgflg & MsgFlag.COPY and (msgflg & MsgFlag.EXCEPT or not msgflg & IpcFlag.NOWAIT):
        raise KernelError(Errno.EINVAL)
    search, mtype = _convert_mode(msgtyp, msgflg)
    return _msgrcv(task, task.kernel.ipc.msg.obtain(msqid), search, mtype, msgp, msgsz, msgflg)


def _msgrcv(task: Task, queue: MsgQueue, search: Search, mtype: int, msgp: int, msgsz: int, msgflg: int) -> Result:
    """Take a message that is there, or wait for one."""
    ipcperms(task, queue.perm, Want.READ)
    msg = _find_msg(queue, mtype, search)
    if msg is None:
        if msgflg & IpcFlag.NOWAIT:
            raise KernelError(Errno.ENOMSG)
        max_size = _LONG_MAX if msgflg & MsgFlag.NOERROR else msgsz
        receiver = MsgReceiver(task.tgid, search, mtype, max_size)
        queue.receivers.append(receiver)
        return _msgrcv_wait(task, queue, receiver, msgp, msgsz, msgflg)
    if len(msg.text) > msgsz and not msgflg & MsgFlag.NOERROR:
        raise KernelError(Errno.E2BIG)
    if not msgflg & MsgFlag.COPY:
        queue.messages.remove(msg)
        queue.rtime_s = now_s(task)
        queue.lrpid = task.tgid
        queue.senders.wake_up_all()
    return _store_msg(task, msg, msgp, msgsz)


def _msgrcv_wait(task: Task, queue: MsgQueue, receiver: MsgReceiver, msgp: int, msgsz: int, msgflg: int) -> Result:
    """Sleep until a sender hands a message over."""
    match receiver.got:
        case None:
            return Wait(
                (receiver.woken,),
                partial(_msgrcv_wait, task, queue, receiver, msgp, msgsz, msgflg),
                interrupted=partial(_msgrcv_interrupted, queue, receiver),
                wchan="do_msgrcv",
            )
        case Msg() as msg:
            return _store_msg(task, msg, msgp, msgsz)
        case Errno.EAGAIN:  # the queue was changed: look again
            return _msgrcv(task, queue, receiver.search, receiver.type, msgp, msgsz, msgflg)
        case error:
            raise KernelError(error)


def _msgrcv_interrupted(queue: MsgQueue, receiver: MsgReceiver) -> Result:
    queue.receivers.remove(receiver)
    return -ERESTARTNOHAND


def _store_msg(task: Task, msg: Msg, msgp: int, msgsz: int) -> int:
    """Source: ``ipc/msg.c:do_msg_fill``."""
    copy_to_user(task, msgp, _MTYPE.pack(msg.type))
    text = msg.text[:msgsz]
    copy_to_user(task, msgp + _MTYPE.size, text)
    return len(text)


def _convert_mode(msgtyp: int, msgflg: int) -> tuple[Search, int]:
    """What the type argument of msgrcv means. Source: ``ipc/msg.c:convert_mode``."""
    if msgflg & MsgFlag.COPY:
        return Search.NUMBER, msgtyp
    if not msgtyp:
        return Search.ANY, 0
    if msgtyp < 0:
        return Search.LESSEQUAL, min(-msgtyp, _LONG_MAX)
    return (Search.NOTEQUAL if msgflg & MsgFlag.EXCEPT else Search.EQUAL), msgtyp


def _testmsg(msg: Msg, mtype: int, search: Search) -> bool:
    """Whether a receiver wants a message. Source: ``ipc/msg.c:testmsg``."""
    match search:
        case Search.LESSEQUAL:
            return msg.type <= mtype
        case Search.EQUAL:
            return msg.type == mtype
        case Search.NOTEQUAL:
            return msg.type != mtype
        case _:
            return True


def _find_msg(queue: MsgQueue, mtype: int, search: Search) -> Msg | None:
    """The message for a receiver. Source: ``ipc/msg.c:find_msg``."""
    if search is Search.NUMBER:
        return queue.messages[mtype] if 0 <= mtype < len(queue.messages) else None
    fitting = (msg for msg in queue.messages if _testmsg(msg, mtype, search))
    if search is Search.LESSEQUAL:
        return min(fitting, key=_type_of, default=None)
    return next(fitting, None)


def _type_of(msg: Msg) -> int:
    return msg.type


# Control


@syscall("msgctl")
def sys_msgctl(task: Task, msqid: Int, cmd: Int, buf: Ptr) -> Result:
    """Source: ``ipc/msg.c:ksys_msgctl``."""
    if msqid < 0 or cmd < 0:
        raise KernelError(Errno.EINVAL)
    ids = task.kernel.ipc.msg
    match cmd:
        case IpcCmd.INFO | MsgCmd.INFO:
            pool, entries, headers = _MSGPOOL_KIB, MSGMNB, MSGMNB
            if cmd == MsgCmd.INFO:
                queues = ids.slots.values()
                pool = len(ids.slots)
                entries = sum(len(queue.messages) for queue in queues)
                headers = sum(queue.cbytes for queue in queues)
            info = (pool, entries, MSGMAX, MSGMNB, ids.limit, _MSGSSZ, headers, _MSGSEG)
            copy_to_user(task, buf, _MSGINFO.pack(*info))
            return ids.max_index
        case IpcCmd.STAT | MsgCmd.STAT | MsgCmd.STAT_ANY:
            queue = ids.obtain(msqid) if cmd == IpcCmd.STAT else ids.obtain_index(msqid)
            if cmd != MsgCmd.STAT_ANY:
                ipcperms(task, queue.perm, Want.READ)
            copy_to_user(task, buf, _pack_msqid64(queue))
            return 0 if cmd == IpcCmd.STAT else queue.perm.id
        case IpcCmd.SET:
            data = copy_from_user(task, buf, IPC_PERM_SIZE + _MSQID_DS.size)
            _msgctl_set(task, ids.obtain_owned(task, msqid), data)
        case IpcCmd.RMID:
            _freeque(task, ids.obtain_owned(task, msqid))
        case _:
            raise KernelError(Errno.EINVAL)
    return 0


def _msgctl_set(task: Task, queue: MsgQueue, data: bytes) -> None:
    """New owner, permissions and size; waiting calls look at them again. Source: ``ipc/msg.c:msgctl_down``."""
    (qbytes,) = struct.unpack_from("<Q", data, _QBYTES_OFFSET)
    if qbytes > MSGMNB and not capable(task, Cap.SYS_RESOURCE):
        raise KernelError(Errno.EPERM)
    queue.perm.update(data)
    queue.qbytes = qbytes
    queue.ctime_s = now_s(task)
    receivers, queue.receivers = queue.receivers, []
    for receiver in receivers:
        receiver.finish(Errno.EAGAIN)
    queue.senders.wake_up_all()


def _freeque(task: Task, queue: MsgQueue) -> None:
    """Remove a queue; whoever waits hears of it. Source: ``ipc/msg.c:freeque``."""
    task.kernel.ipc.msg.remove(queue)
    receivers, queue.receivers = queue.receivers, []
    for receiver in receivers:
        receiver.finish(Errno.EIDRM)
    queue.senders.wake_up_all()


def _pack_msqid64(queue: MsgQueue) -> bytes:
    """``struct msqid64_ds``."""
    fields = (queue.stime_s, queue.rtime_s, queue.ctime_s, queue.cbytes, len(queue.messages), queue.qbytes)
    return queue.perm.pack() + _MSQID_DS.pack(*fields, queue.lspid, queue.lrpid)
