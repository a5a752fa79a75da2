"""What System V shared memory, semaphores and message queues have in common: keys, ids, permissions.

Mirrors ``ipc/util.c``. There is one namespace.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from minikern.kernel.cputime import NSEC_PER_SEC
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags

if TYPE_CHECKING:
    from minikern.kernel.task import Task

IPC_PRIVATE = 0  # a key that never names anything
_INDEX_BITS = 15  # an id is a sequence number above the index of its object
_SEQ_MAX = (1 << 31 - _INDEX_BITS) - 1
_IPC_PERM = struct.Struct("<iIIIIIHxxxxxx16x")  # struct ipc64_perm
IPC_PERM_SIZE = 48
assert _IPC_PERM.size == IPC_PERM_SIZE
_NO_CHANGE = 0xFFFFFFFF


class IpcCmd(IntEnum):
    """Commands of the three ``*ctl`` calls that all have."""

    RMID = 0
    SET = 1
    STAT = 2
    INFO = 3


@fast_flags
class IpcFlag(IntFlag):
    """Flags of the ``*get`` calls and operations, above the permission bits."""

    CREAT = 0o1000
    EXCL = 0o2000
    NOWAIT = 0o4000


@fast_flags
class Want(IntFlag):
    """What a caller of `ipcperms` wants to do: the same bits for owner, group and others."""

    READ = 0o444
    WRITE = 0o222
    EXEC = 0o111


@dataclass(slots=True, eq=False, repr=False)
class IpcPerm:
    """Who made an object and who may use it (``struct kern_ipc_perm``)."""

    key: int
    mode: int  # permission bits, and flags of the kind of object above them
    uid: int  # owner
    gid: int
    cuid: int  # creator
    cgid: int
    id: int = -1
    seq: int = 0
    deleted: bool = False

    @classmethod
    def new(cls, task: Task, key: int, mode: int) -> IpcPerm:
        """For an object that ``task`` makes."""
        uid, gid = task.cred.euid, task.cred.egid
        return cls(key, mode, uid, gid, uid, gid)

    def pack(self) -> bytes:
        """The 48 bytes of ``struct ipc64_perm``."""
        return _IPC_PERM.pack(self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.seq & 0xFFFF)

    def update(self, data: bytes) -> None:
        """Take owner and permissions from a ``struct ipc64_perm``. Source: ``ipc/util.c:ipc_update_perm``."""
        _, uid, gid, _, _, mode, _ = _IPC_PERM.unpack_from(data)
        if _NO_CHANGE in (uid, gid):
            raise KernelError(Errno.EINVAL)
        self.uid, self.gid = uid, gid
        self.mode = (self.mode & ~0o777) | (mode & 0o777)


class IpcObject(Protocol):
    """A segment, an array of semaphores, a queue."""

    perm: IpcPerm


T = TypeVar("T", bound=IpcObject)


@dataclass(slots=True, eq=False, repr=False)
class IpcIds(Generic[T]):
    """The objects of one kind (``struct ipc_ids``)."""

    limit: int  # most objects at a time
    slots: dict[int, T] = field(default_factory=dict)  # by index
    seq: int = 0  # grows when an index comes round again
    last_index: int = -1  # given out last

    def get(self, task: Task, key: int, flags: int, create: Callable[[], T], check: Callable[[T], None]) -> int:
        """The id behind a key, made if the flags say so. ``check`` raises when a found one does not fit.

        Source: ``ipc/util.c:ipcget``.
        """
        found = self._find_key(key) if key != IPC_PRIVATE else None
        if found is None:
            if key != IPC_PRIVATE and not flags & IpcFlag.CREAT:
                raise KernelError(Errno.ENOENT)
            return self._add(create())
        if flags & IpcFlag.CREAT and flags & IpcFlag.EXCL:
            raise KernelError(Errno.EEXIST)
        check(found)
        ipcperms(task, found.perm, flags)
        return found.perm.id

    def _find_key(self, key: int) -> T | None:
        return next((each for each in self.slots.values() if each.perm.key == key), None)

    def _add(self, item: T) -> int:
        """Give a new object its id. Source: ``ipc/util.c:ipc_addid``."""
        if len(self.slots) >= self.limit:
            raise KernelError(Errno.ENOSPC)
        index = next(each for each in range(self.limit) if each not in self.slots)
        if index <= self.last_index:
            self.seq = (self.seq + 1) & _SEQ_MAX
        self.last_index = index
        perm = item.perm
        perm.seq = self.seq
        perm.id = self.seq << _INDEX_BITS | index
        self.slots[index] = item
        return perm.id

    def obtain(self, number: int) -> T:
        """The object with that id; EINVAL, or EIDRM when it was replaced. Source: ``ipc/util.c:ipc_obtain_object_check``."""
        item = self.slots.get(number & ((1 << _INDEX_BITS) - 1)) if number >= 0 else None
        if item is None:
            raise KernelError(Errno.EINVAL)
        if item.perm.id != number:
            raise KernelError(Errno.EIDRM)
        return item

    def obtain_index(self, index: int) -> T:
        """The object at an index, for ipcs(1)."""
        item = self.slots.get(index)
        if item is None:
            raise KernelError(Errno.EINVAL)
        return item

    def obtain_owned(self, task: Task, number: int) -> T:
        """The same for its owner, its creator or an administrator; EPERM. Source: ``ipc/util.c:ipcctl_obtain_check``."""
        item = self.obtain(number)
        if task.cred.euid not in (item.perm.cuid, item.perm.uid) and not capable(task, Cap.SYS_ADMIN):
            raise KernelError(Errno.EPERM)
        return item

    def remove(self, item: T) -> None:
        """The id is free. Source: ``ipc/util.c:ipc_rmid``."""
        item.perm.deleted = True
        del self.slots[item.perm.id & ((1 << _INDEX_BITS) - 1)]

    @property
    def max_index(self) -> int:
        """The highest index in use; 0 when there is none, as the ``IPC_INFO`` commands return it."""
        return max(self.slots, default=0)


def ipcperms(task: Task, perm: IpcPerm, wanted: int) -> None:
    """EACCES unless the task may do what the permission bits of ``wanted`` say. Source: ``ipc/util.c:ipcperms``."""
    requested = wanted >> 6 | wanted >> 3 | wanted
    granted = perm.mode
    if task.cred.euid in (perm.cuid, perm.uid):
        granted >>= 6
    elif task.cred.in_group(perm.cgid) or task.cred.in_group(perm.gid):
        granted >>= 3
    if requested & ~granted & 0o7 and not capable(task, Cap.IPC_OWNER):
        raise KernelError(Errno.EACCES)


def now_s(task: Task) -> int:
    """The time that status structures show, in seconds since 1970."""
    return task.kernel.sources.realtime_ns() // NSEC_PER_SEC
