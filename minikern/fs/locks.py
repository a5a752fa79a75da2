"""Advisory locks: record locks of processes, of open files, and flock(2).

Mirrors ``fs/locks.c``. Record locks of a process belong to its descriptor table, those of open files (OFD) and flock
locks to the open file; so they go at any close or with the last reference. Left out: leases, locks of network file systems.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import File, FilesStruct, FMode
from minikern.fs.kdev_t import major, minor
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Fd, UInt, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikern.fs.inode import Inode
    from minikern.kernel.task import Task

OFFSET_MAX = (1 << 63) - 1
_FLOCK = struct.Struct("<hhxxxxqqi4x")  # struct flock: type, whence, start, length, pid
assert _FLOCK.size == 32


class LockType(IntEnum):
    """What a record lock is for (``F_RDLCK`` …)."""

    READ = 0
    WRITE = 1
    UNLOCK = 2


@fast_flags
class Flock(IntFlag):
    """Operations of flock(2) (``LOCK_*``)."""

    SH = 1
    EX = 2
    NB = 4
    UN = 8
    MAND = 32


@dataclass(slots=True, eq=False, repr=False)
class FileLock:
    """One lock, held or asked for (``struct file_lock``)."""

    owner: FilesStruct | File  # whose it is: a process's descriptor table, or an open file
    type: LockType
    start: int = 0  # first byte
    end: int = OFFSET_MAX  # last byte
    pid: int = -1  # process that F_GETLK names; -1 for locks of open files
    blocker: FileLock | None = None  # the lock that this request sleeps for

    def overlaps(self, other: FileLock) -> bool:
        """Whether both cover some byte (``locks_overlap``)."""
        return self.start <= other.end and other.start <= self.end

    def conflicts(self, other: FileLock) -> bool:
        """Whether both cannot be held at once. Source: ``fs/locks.c:posix_locks_conflict``."""
        if self.owner is other.owner:
            return False
        return LockType.WRITE in (self.type, other.type) and self.overlaps(other)


@dataclass(slots=True, eq=False, repr=False)
class FileLockContext:
    """The locks on one inode (``struct file_lock_context``)."""

    posix: list[FileLock] = field(default_factory=list)  # record locks; those of one owner together, by offset
    flock: list[FileLock] = field(default_factory=list)
    wait: WaitQueue = field(default_factory=WaitQueue)  # everybody who waits for any of them

    def remove_file(self, file: File) -> None:
        """The last reference to an open file is gone. Source: ``fs/locks.c:locks_remove_file``."""
        self._remove_owner(file)

    def remove_posix(self, files: FilesStruct) -> None:
        """A process closes the file. Source: ``fs/locks.c:locks_remove_posix``."""
        self._remove_owner(files)

    def _remove_owner(self, owner: File | FilesStruct) -> None:
        before = len(self.posix) + len(self.flock)
        self.posix = [lock for lock in self.posix if lock.owner is not owner]
        self.flock = [lock for lock in self.flock if lock.owner is not owner]
        if len(self.posix) + len(self.flock) != before:
            self.wait.wake_up_all()

    def show_locks(self, file: File, files: FilesStruct) -> list[str]:
        """The locks that are held through a descriptor, as /proc shows them. Source: ``fs/locks.c:show_fd_locks``."""
        inode = file.inode
        where = f"{major(inode.device()):02x}:{minor(inode.device()):02x}:{inode.ino}"
        lines: list[str] = []
        for kind, locks in (("FLOCK", self.flock), ("POSIX", self.posix)):
            for lock in locks:
                if lock.owner is not file and lock.owner is not files:
                    continue
                name = "OFDLCK" if kind == "POSIX" and lock.owner is file else kind
                rights = "WRITE" if lock.type is LockType.WRITE else "READ"
                end = "EOF" if lock.end == OFFSET_MAX else str(lock.end)
                lines.append(f"{len(lines) + 1}: {name:<6} ADVISORY  {rights:<5} {lock.pid} {where} {lock.start} {end}")
        return lines

    def conflict(self, request: FileLock) -> FileLock | None:
        """The first record lock that stands in the way. Source: ``fs/locks.c:posix_test_lock``."""
        return next((lock for lock in self.posix if request.conflicts(lock)), None)

    def set_posix(self, request: FileLock) -> None:
        """Set or remove a record lock that nothing stands in the way of. Source: ``fs/locks.c:posix_lock_inode``."""
        mine: list[FileLock] = []
        for lock in self.posix:
            if lock.owner is request.owner:
                mine += _without(lock, request)
        if request.type is not LockType.UNLOCK:
            mine.append(request)
            mine.sort(key=lambda lock: lock.start)
            mine = list(_coalesced(mine))
        self.posix = [lock for lock in self.posix if lock.owner is not request.owner] + mine
        self.wait.wake_up_all()


def _without(lock: FileLock, hole: FileLock) -> list[FileLock]:
    """What is left of ``lock`` outside of ``hole``."""
    if not lock.overlaps(hole):
        return [lock]
    left = []
    if lock.start < hole.start:
        left.append(replace(lock, end=hole.start - 1))
    if lock.end > hole.end:
        left.append(replace(lock, start=hole.end + 1))
    return left


def _coalesced(locks: list[FileLock]) -> Iterator[FileLock]:
    """Neighbours of the same type become one."""
    last = locks[0]
    for lock in locks[1:]:
        if lock.type is last.type and last.end + 1 == lock.start:
            last = replace(last, end=lock.end)
        else:
            yield last
            last = lock
    yield last


def lock_context(inode: Inode) -> FileLockContext:
    """The locks on an inode, made when it gets its first one (``locks_get_lock_context``)."""
    if inode.flock_ctx is None:
        inode.flock_ctx = FileLockContext()
    return inode.flock_ctx


# -- record locks


def fcntl_getlk(task: Task, file: File, ptr: int, *, ofd: bool) -> int:
    """F_GETLK: which lock is in the way. Source: ``fs/locks.c:fcntl_getlk``."""
    request = _from_user(task, file, ptr, ofd=ofd)
    if request.type is LockType.UNLOCK and not ofd:
        raise KernelError(Errno.EINVAL)
    ctx = file.inode.flock_ctx
    found = ctx.conflict(request) if ctx is not None else None
    if found is None:
        copy_to_user(task, ptr, LockType.UNLOCK.to_bytes(2, "little"))
        return 0
    length = 0 if found.end == OFFSET_MAX else found.end - found.start + 1
    copy_to_user(task, ptr, _FLOCK.pack(found.type, 0, found.start, length, found.pid))
    return 0


def fcntl_setlk(task: Task, file: File, ptr: int, *, ofd: bool, wait: bool) -> Result:
    """F_SETLK and F_SETLKW: set, change or remove a lock. Source: ``fs/locks.c:fcntl_setlk``."""
    request = _from_user(task, file, ptr, ofd=ofd)
    if request.type is LockType.READ and not file.f_mode & FMode.READ:
        raise KernelError(Errno.EBADF)
    if request.type is LockType.WRITE and not file.f_mode & FMode.WRITE:
        raise KernelError(Errno.EBADF)
    return do_lock_file_wait(lock_context(file.inode), request, wait)


def do_lock_file_wait(ctx: FileLockContext, request: FileLock, wait: bool) -> Result:
    """Set a record lock, sleeping while others are in the way; EAGAIN, EDEADLK. Source: ``fs/locks.c:do_lock_file_wait``."""
    files = request.owner if isinstance(request.owner, FilesStruct) else None
    if files is not None and request in files.lock_requests:
        files.lock_requests.remove(request)
    blocker = ctx.conflict(request) if request.type is not LockType.UNLOCK else None
    if blocker is None:
        ctx.set_posix(request)
        return 0
    if not wait:
        raise KernelError(Errno.EAGAIN)
    request.blocker = blocker
    if files is not None:
        if posix_locks_deadlock(request):
            raise KernelError(Errno.EDEADLK)
        files.lock_requests.append(request)
    return Wait(
        (ctx.wait,),
        partial(do_lock_file_wait, ctx, request, True),
        interrupted=partial(_give_up_lock, request),
        wchan="locks_lock_inode_wait",
    )


def _give_up_lock(request: FileLock) -> Result:
    if isinstance(request.owner, FilesStruct):
        request.owner.lock_requests.remove(request)
    return -ERESTARTSYS


def posix_locks_deadlock(request: FileLock) -> bool:
    """Whether whoever holds the lock that is in the way waits, maybe through others, for the one who asks.

    Source: ``fs/locks.c:posix_locks_deadlock``.
    """
    blocker = request.blocker
    seen: list[object] = []
    while blocker is not None and isinstance(blocker.owner, FilesStruct):
        owner = blocker.owner
        if owner is request.owner:
            return True
        if owner in seen or not owner.lock_requests:
            return False
        seen.append(owner)
        blocker = owner.lock_requests[0].blocker
    return False


def _from_user(task: Task, file: File, ptr: int, *, ofd: bool) -> FileLock:
    """A request as the guest describes it. Source: ``fs/locks.c:flock64_to_posix_lock``."""
    kind, whence, start, length, pid = _FLOCK.unpack(copy_from_user(task, ptr, _FLOCK.size))
    if ofd and pid:
        raise KernelError(Errno.EINVAL)
    match whence:
        case 0:
            pass
        case 1:
            start += file.f_pos
        case 2:
            start += file.inode.size
        case _:
            raise KernelError(Errno.EINVAL)
    if start > OFFSET_MAX:
        raise KernelError(Errno.EOVERFLOW)
    if start < 0:
        raise KernelError(Errno.EINVAL)
    end = OFFSET_MAX
    if length > 0:
        end = start + length - 1
        if end > OFFSET_MAX:
            raise KernelError(Errno.EOVERFLOW)
    elif length < 0:
        end = start - 1
        start += length
        if start < 0:
            raise KernelError(Errno.EINVAL)
    try:
        lock_type = LockType(kind)
    except ValueError:
        raise KernelError(Errno.EINVAL) from None
    if ofd:
        return FileLock(file, lock_type, start, end)
    assert task.files is not None
    return FileLock(task.files, lock_type, start, end, task.tgid)


# -- flock


@syscall("flock")
def sys_flock(task: Task, fd: Fd, cmd: UInt) -> Result:
    """Source: ``fs/locks.c:flock``."""
    assert task.files is not None
    if cmd & Flock.MAND:  # accepted and without effect since 5.15
        return 0
    operation = cmd & ~Flock.NB
    if operation not in (Flock.SH, Flock.EX, Flock.UN):
        raise KernelError(Errno.EINVAL)
    file = task.files.fget(fd)
    ctx = lock_context(file.inode)
    if operation == Flock.UN:
        _drop_flock(ctx, file)
        return 0
    if not file.f_mode & (FMode.READ | FMode.WRITE):
        raise KernelError(Errno.EBADF)
    request = FileLock(file, LockType.WRITE if operation == Flock.EX else LockType.READ)
    return flock_lock_inode(ctx, request, bool(cmd & Flock.NB))


def flock_lock_inode(ctx: FileLockContext, request: FileLock, nonblock: bool) -> Result:
    """Get a flock lock; changing its type is giving it up and asking again. Source: ``fs/locks.c:flock_lock_inode``."""
    file = request.owner
    assert isinstance(file, File)
    if any(lock.owner is file and lock.type is request.type for lock in ctx.flock):
        return 0
    _drop_flock(ctx, file)
    if not any(request.conflicts(lock) for lock in ctx.flock):
        ctx.flock.append(request)
        return 0
    if nonblock:
        raise KernelError(Errno.EAGAIN)
    return Wait((ctx.wait,), partial(flock_lock_inode, ctx, request, False), wchan="locks_lock_inode_wait")


def _drop_flock(ctx: FileLockContext, file: File) -> None:
    kept = [lock for lock in ctx.flock if lock.owner is not file]
    if len(kept) != len(ctx.flock):
        ctx.flock = kept
        ctx.wait.wake_up_all()
