"""Futexes: sleeping on a word of memory, and what becomes of locks whose owner dies.

Mirrors ``kernel/futex/``: core.c, waitwake.c, requeue.c, syscalls.c. Priority inheritance is in
`minikern.kernel.futex_pi`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.kernel.errno import ERESTART_RESTARTBLOCK, ERESTARTSYS, Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.pid import find_task
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.syscalls import Int, Pid, Ptr, Size, UInt, ULong, syscall
from minikern.kernel.task import Task
from minikern.kernel.time import Clock, add_safe_ns, get_timespec_ns, to_monotonic_ns
from minikern.kernel.waitqueue import Result, Wait
from minikern.mm.uaccess import cmpxchg_user_u32, copy_from_user, get_user, put_user
from minikern.mm.vma import VM_MAYSHARE, vma_lookup

if TYPE_CHECKING:
    from minikern.kernel.futex_pi import PiState

_U32 = 0xFFFF_FFFF
_S32 = 1 << 31
FUTEX_WAITERS = 0x8000_0000
FUTEX_OWNER_DIED = 0x4000_0000
FUTEX_TID_MASK = 0x3FFF_FFFF
FUTEX_BITSET_MATCH_ANY = _U32
_ROBUST_LIST_LIMIT = 2048
_PAGE_SHIFT = 12


class FutexOp(IntEnum):
    """Commands of futex(2)."""

    WAIT = 0
    WAKE = 1
    FD = 2
    REQUEUE = 3
    CMP_REQUEUE = 4
    WAKE_OP = 5
    LOCK_PI = 6
    UNLOCK_PI = 7
    TRYLOCK_PI = 8
    WAIT_BITSET = 9
    WAKE_BITSET = 10
    WAIT_REQUEUE_PI = 11
    CMP_REQUEUE_PI = 12
    LOCK_PI2 = 13


@fast_flags
class FutexFlag(IntFlag):
    """Flags in the command word."""

    PRIVATE = 128
    CLOCK_REALTIME = 256


@fast_flags
class Flags2(IntFlag):
    """Flags of futex_waitv, futex_wake, futex_wait and futex_requeue."""

    SIZE_U32 = 2
    SIZE_MASK = 3
    PRIVATE = 128


FutexKey = tuple[object, int]  # what the word belongs to (an Mm or an AddressSpace), and where in it


@dataclass(slots=True, eq=False, repr=False)
class FutexQ:
    """One waiter (``struct futex_q``)."""

    task: Task
    key: FutexKey | None  # None once woken
    bitset: int
    pi_state: PiState | None = None  # the lock it waits for, with priority inheritance
    requeue_pi_key: FutexKey | None = None  # where FUTEX_WAIT_REQUEUE_PI expects to be moved to


class FutexTable:
    """All waiters of a kernel, by key, first come first."""

    def __init__(self) -> None:
        self.queues: dict[FutexKey, list[FutexQ]] = {}

    def queue(self, q: FutexQ) -> None:
        """Source: ``kernel/futex/core.c:__futex_queue``."""
        assert q.key is not None
        self.queues.setdefault(q.key, []).append(q)

    def unqueue(self, q: FutexQ) -> bool:
        """Take a waiter out that gives up; False: it has been woken meanwhile. Source: ``futex_unqueue``."""
        if q.key is None:
            return False
        waiters = self.queues[q.key]
        waiters.remove(q)
        if not waiters:
            del self.queues[q.key]
        q.key = None
        return True

    def wake(self, q: FutexQ) -> None:
        """Take a waiter out and let it run. Source: ``kernel/futex/waitwake.c:futex_wake_mark``."""
        self.unqueue(q)
        q.task.kernel.sched.try_to_wake_up(q.task)

    def waiters(self, key: FutexKey) -> tuple[FutexQ, ...]:
        """Who waits there, in order."""
        return tuple(self.queues.get(key, ()))


def get_futex_key(task: Task, address: int, shared: bool) -> FutexKey:
    """What identifies the word, for everyone who can reach it. Source: ``kernel/futex/core.c:get_futex_key``."""
    if address & 3:
        raise KernelError(Errno.EINVAL)
    mm = task.mm
    assert mm is not None
    if address >= task.arch.task_size:
        raise KernelError(Errno.EFAULT)
    if shared:
        get_user(task, address, 4)
        vma = vma_lookup(mm, address)
        if vma is not None and vma.flags & VM_MAYSHARE and vma.mapping is not None:
            offset = (vma.pgoff << _PAGE_SHIFT) + address - vma.start
            return vma.mapping, offset
    return mm, address


@syscall("futex")
def sys_futex(task: Task, uaddr: Ptr, op: Int, val: UInt, utime: Ptr, uaddr2: Ptr, val3: UInt) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE6(futex)``."""
    command = op & ~int(FutexFlag.PRIVATE | FutexFlag.CLOCK_REALTIME)
    shared = not op & FutexFlag.PRIVATE
    deadline_ns = None
    if utime and command in (
        FutexOp.WAIT,
        FutexOp.LOCK_PI,
        FutexOp.LOCK_PI2,
        FutexOp.WAIT_BITSET,
        FutexOp.WAIT_REQUEUE_PI,
    ):
        deadline_ns = _futex_deadline(task, command, op, utime)
    return do_futex(task, uaddr, op, command, shared, val, deadline_ns, uaddr2, utime & _U32, val3)


def _futex_deadline(task: Task, command: int, op: int, utime: int) -> int:
    """The timeout on the monotonic clock. Source: ``kernel/futex/syscalls.c:futex_init_timeout``."""
    when_ns = get_timespec_ns(task, utime)
    if command == FutexOp.WAIT:
        return add_safe_ns(task.kernel.sources.monotonic_ns(), when_ns)
    realtime = command == FutexOp.LOCK_PI or op & FutexFlag.CLOCK_REALTIME
    return to_monotonic_ns(task.kernel, Clock.REALTIME if realtime else Clock.MONOTONIC, when_ns)


def do_futex(
    task: Task,
    uaddr: int,
    op: int,
    command: int,
    shared: bool,
    val: int,
    deadline_ns: int | None,
    uaddr2: int,
    val2: int,
    val3: int,
) -> Result:
    """Source: ``kernel/futex/syscalls.c:do_futex``."""
    from minikern.kernel import futex_pi

    if op & FutexFlag.CLOCK_REALTIME and command not in (
        FutexOp.WAIT_BITSET,
        FutexOp.WAIT_REQUEUE_PI,
        FutexOp.LOCK_PI2,
    ):
        raise KernelError(Errno.ENOSYS)
    match command:
        case FutexOp.WAIT:
            return _futex_wait(task, uaddr, shared, val, deadline_ns, FUTEX_BITSET_MATCH_ANY)
        case FutexOp.WAIT_BITSET:
            return _futex_wait(task, uaddr, shared, val, deadline_ns, val3)
        case FutexOp.WAKE:
            return _wake(task, get_futex_key(task, uaddr, shared), _signed(val), FUTEX_BITSET_MATCH_ANY)
        case FutexOp.WAKE_BITSET:
            if not val3:
                raise KernelError(Errno.EINVAL)
            return _wake(task, get_futex_key(task, uaddr, shared), _signed(val), val3)
        case FutexOp.REQUEUE:
            return _requeue(task, uaddr, uaddr2, shared, shared, _signed(val), _signed(val2), None)
        case FutexOp.CMP_REQUEUE:
            return _requeue(task, uaddr, uaddr2, shared, shared, _signed(val), _signed(val2), val3)
        case FutexOp.WAKE_OP:
            return _wake_op(task, uaddr, uaddr2, shared, _signed(val), _signed(val2), val3)
        case FutexOp.LOCK_PI | FutexOp.LOCK_PI2:
            return futex_pi.futex_lock_pi(task, uaddr, shared, deadline_ns, trylock=False)
        case FutexOp.TRYLOCK_PI:
            return futex_pi.futex_lock_pi(task, uaddr, shared, None, trylock=True)
        case FutexOp.UNLOCK_PI:
            return futex_pi.futex_unlock_pi(task, uaddr, shared)
        case FutexOp.WAIT_REQUEUE_PI:
            return futex_pi.futex_wait_requeue_pi(task, uaddr, shared, val, deadline_ns, uaddr2)
        case FutexOp.CMP_REQUEUE_PI:
            return futex_pi.futex_requeue_pi(task, uaddr, uaddr2, shared, _signed(val), _signed(val2), val3)
        case _:
            raise KernelError(Errno.ENOSYS)


def _signed(value: int) -> int:
    return (value & _U32 ^ _S32) - _S32


# Waiting


def _futex_wait(task: Task, uaddr: int, shared: bool, val: int, deadline_ns: int | None, bitset: int) -> Result:
    """Sleep if the word still holds ``val``. Source: ``kernel/futex/waitwake.c:futex_wait``."""
    if not bitset:
        raise KernelError(Errno.EINVAL)
    key = get_futex_key(task, uaddr, shared)
    if get_user(task, uaddr, 4) != val:
        raise KernelError(Errno.EAGAIN)
    q = FutexQ(task, key, bitset)
    task.kernel.futexes.queue(q)
    interrupted = partial(_wait_interrupted, task, q, uaddr, shared, val, deadline_ns, bitset)
    return _wait_for_wake(task, q, deadline_ns, interrupted)


def _wait_for_wake(task: Task, q: FutexQ, deadline_ns: int | None, interrupted: Callable[[], Result]) -> Result:
    """Woken, or sleep (on)."""
    if q.key is None:
        return 0
    return Wait(
        (),
        partial(_wait_for_wake, task, q, deadline_ns, interrupted),
        deadline_ns=deadline_ns,
        interrupted=interrupted,
        timed_out=partial(_wait_timed_out, task, q),
        wchan="futex_wait_queue",
        why=partial(_why_waiting, task, q),
    )


def _wait_timed_out(task: Task, q: FutexQ) -> Result:
    return -Errno.ETIMEDOUT if task.kernel.futexes.unqueue(q) else 0


def _wait_interrupted(
    task: Task, q: FutexQ, uaddr: int, shared: bool, val: int, deadline_ns: int | None, bitset: int
) -> Result:
    if not task.kernel.futexes.unqueue(q):
        return 0
    if deadline_ns is None:
        return -ERESTARTSYS
    task.restart_block = partial(_futex_wait, task, uaddr, shared, val, deadline_ns, bitset)
    return -ERESTART_RESTARTBLOCK


def _why_waiting(task: Task, q: FutexQ) -> str:
    if q.key is None:
        return "it has been woken"
    owner, address = q.key
    text = f"somebody has to wake the futex at {address:#x}"
    if owner is task.mm:
        try:
            value = get_user(task, address, 4)
        except KernelError:
            return text
        tid = value & FUTEX_TID_MASK
        holder = find_task(task.kernel, tid)
        text += f", which holds {value:#x}"
        if holder is not None and holder.mm is task.mm:
            text += f" (perhaps locked by thread {tid})"
    return text


# Waking


def futex_wake(task: Task, uaddr: int, count: int) -> int:
    """Wake waiters on a word that may be shared. Source: ``kernel/futex/waitwake.c:futex_wake``."""
    return _wake(task, get_futex_key(task, uaddr, True), count, FUTEX_BITSET_MATCH_ANY)


def _wake(task: Task, key: FutexKey, count: int, bitset: int) -> int:
    futexes = task.kernel.futexes
    woken = 0
    for q in futexes.waiters(key):
        if q.pi_state is not None or q.requeue_pi_key is not None:
            raise KernelError(Errno.EINVAL)
        if not q.bitset & bitset:
            continue
        futexes.wake(q)
        woken += 1
        if woken >= count:
            break
    return woken


def _requeue(
    task: Task,
    uaddr: int,
    uaddr2: int,
    shared: bool,
    shared2: bool,
    nr_wake: int,
    nr_requeue: int,
    expected: int | None,
) -> int:
    """Wake some and move others to another word. Source: ``kernel/futex/requeue.c:futex_requeue``."""
    if nr_wake < 0 or nr_requeue < 0:
        raise KernelError(Errno.EINVAL)
    futexes = task.kernel.futexes
    key, key2 = get_futex_key(task, uaddr, shared), get_futex_key(task, uaddr2, shared2)
    if expected is not None and get_user(task, uaddr, 4) != expected:
        raise KernelError(Errno.EAGAIN)
    done = 0
    for q in futexes.waiters(key):
        if done >= nr_wake + nr_requeue:
            break
        if q.pi_state is not None or q.requeue_pi_key is not None:
            raise KernelError(Errno.EINVAL)
        done += 1
        if done <= nr_wake:
            futexes.wake(q)
        elif key2 != key:
            futexes.unqueue(q)
            q.key = key2
            futexes.queue(q)
    return done


def _wake_op(task: Task, uaddr: int, uaddr2: int, shared: bool, nr_wake: int, nr_wake2: int, encoded: int) -> int:
    """Change a second word and wake its waiters depending on what it held. Source: ``futex_wake_op``."""
    key, key2 = get_futex_key(task, uaddr, shared), get_futex_key(task, uaddr2, shared)
    condition = futex_atomic_op_inuser(task, encoded, uaddr2)
    woken = _wake(task, key, nr_wake, FUTEX_BITSET_MATCH_ANY) if nr_wake > 0 else _wake(task, key, 1, _U32)
    if condition:
        woken += _wake(task, key2, nr_wake2, FUTEX_BITSET_MATCH_ANY)
    return woken


def futex_atomic_op_inuser(task: Task, encoded: int, uaddr: int) -> bool:
    """Apply the operation; whether the comparison with the old value holds.

    Source: ``kernel/futex/waitwake.c:futex_atomic_op_inuser``.
    """
    op, cmp = encoded >> 28 & 7, encoded >> 24 & 15
    oparg = (encoded >> 12 & 0xFFF ^ 0x800) - 0x800
    cmparg = (encoded & 0xFFF ^ 0x800) - 0x800
    if encoded >> 31:
        oparg = 1 << (oparg & 31)
    old = get_user(task, uaddr, 4)
    match op:
        case 0:
            new = oparg
        case 1:
            new = old + oparg
        case 2:
            new = old | oparg
        case 3:
            new = old & ~oparg
        case 4:
            new = old ^ oparg
        case _:
            raise KernelError(Errno.ENOSYS)
    put_user(task, uaddr, new & _U32, 4)
    signed = _signed(old)
    match cmp:
        case 0:
            return signed == cmparg
        case 1:
            return signed != cmparg
        case 2:
            return signed < cmparg
        case 3:
            return signed >= cmparg
        case 4:
            return signed <= cmparg
        case 5:
            return signed > cmparg
        case _:
            raise KernelError(Errno.ENOSYS)


# Locks of the dead

_ROBUST_HEAD = struct.Struct("<QqQ")  # struct robust_list_head: list.next, futex_offset, list_op_pending
assert _ROBUST_HEAD.size == 24


@syscall("set_robust_list", inline=True)
def sys_set_robust_list(task: Task, head: Ptr, length: Size) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE2(set_robust_list)``."""
    if length != _ROBUST_HEAD.size:
        raise KernelError(Errno.EINVAL)
    task.robust_list = head
    return 0


@syscall("get_robust_list")
def sys_get_robust_list(task: Task, pid: Pid, head_ptr: Ptr, len_ptr: Ptr) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE3(get_robust_list)``."""
    target: Task | None = task
    if pid:
        target = find_task(task.kernel, pid)
        if target is None:
            raise KernelError(Errno.ESRCH)
    assert target is not None
    if not ptrace_may_access(task, target):
        raise KernelError(Errno.EPERM)
    put_user(task, len_ptr, _ROBUST_HEAD.size, 8)
    put_user(task, head_ptr, target.robust_list, 8)
    return 0


def futex_exit_release(task: Task) -> None:
    """The task leaves its address space: hand over the locks it holds. Source: ``futex_exit_release``."""
    from minikern.kernel.futex_pi import exit_pi_state_list

    if task.mm is not None and task.robust_list:
        try:
            _exit_robust_list(task)
        except KernelError:
            pass  # a list that cannot be read is the guest's own loss
    task.robust_list = 0
    if task.pi_state_list:
        exit_pi_state_list(task)


def _exit_robust_list(task: Task) -> None:
    """Source: ``kernel/futex/core.c:exit_robust_list``."""
    head = task.robust_list
    entry, offset, pending = _ROBUST_HEAD.unpack(copy_from_user(task, head, _ROBUST_HEAD.size))
    pending, pending_pi = pending & ~1, pending & 1
    for _ in range(_ROBUST_LIST_LIMIT):
        address, pi = entry & ~1, entry & 1
        if address == head:
            break
        following = get_user(task, address, 8)  # before the lock is let go: it may be gone then
        if address != pending and not _handle_futex_death(task, address + offset, bool(pi), False):
            return
        entry = following
    if pending:
        _handle_futex_death(task, pending + offset, bool(pending_pi), True)


def _handle_futex_death(task: Task, uaddr: int, pi: bool, pending: bool) -> bool:
    """Mark one lock as abandoned and wake a waiter; False: stop walking. Source: ``handle_futex_death``."""
    if uaddr & 3:
        return False
    try:
        value = get_user(task, uaddr, 4)
        if pending and not pi and not value:
            futex_wake(task, uaddr, 1)  # unlocked, but the wake-up may not have happened
            return True
        if value & FUTEX_TID_MASK != task.pid:
            return True
        cmpxchg_user_u32(task, uaddr, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)
        if not pi and value & FUTEX_WAITERS:
            futex_wake(task, uaddr, 1)
    except KernelError:
        return False
    return True


# The newer calls, one operation each


def _check_flags2(flags: int) -> bool:
    """Whether the word is shared. Source: ``kernel/futex/futex.h:futex2_to_flags`` and ``futex_flags_valid``."""
    if flags & ~(Flags2.SIZE_MASK | Flags2.PRIVATE) or flags & Flags2.SIZE_MASK != Flags2.SIZE_U32:
        raise KernelError(Errno.EINVAL)
    return not flags & Flags2.PRIVATE


@syscall("futex_wake")
def sys_futex_wake(task: Task, uaddr: Ptr, mask: ULong, nr: Int, flags: UInt) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE4(futex_wake)``."""
    shared = _check_flags2(flags)
    if mask > _U32 or not mask:
        raise KernelError(Errno.EINVAL)
    key = get_futex_key(task, uaddr, shared)
    return _wake(task, key, nr, mask) if nr > 0 else 0


@syscall("futex_wait")
def sys_futex_wait(task: Task, uaddr: Ptr, val: ULong, mask: ULong, flags: UInt, timeout: Ptr, clockid: Int) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE6(futex_wait)``."""
    shared = _check_flags2(flags)
    if val > _U32 or mask > _U32:
        raise KernelError(Errno.EINVAL)
    return _futex_wait(task, uaddr, shared, val, _clock_deadline(task, timeout, clockid), mask)


def _clock_deadline(task: Task, timeout: int, clockid: int) -> int | None:
    if not timeout:
        return None
    if clockid not in (Clock.MONOTONIC, Clock.REALTIME):
        raise KernelError(Errno.EINVAL)
    return to_monotonic_ns(task.kernel, clockid, get_timespec_ns(task, timeout))


_WAITV = struct.Struct("<QQII")  # struct futex_waitv: val, uaddr, flags, reserved
_FUTEX_WAITV_MAX = 128


@syscall("futex_requeue")
def sys_futex_requeue(task: Task, waiters: Ptr, flags: UInt, nr_wake: Int, nr_requeue: Int) -> Result:
    """Source: ``kernel/futex/syscalls.c:SYSCALL_DEFINE4(futex_requeue)``."""
    if flags or not waiters:
        raise KernelError(Errno.EINVAL)
    (val, uaddr, shared), (_, uaddr2, shared2) = _read_waitv(task, waiters, 2)
    return _requeue(task, uaddr, uaddr2, shared, shared2, nr_wake, nr_requeue, val)


@syscall("futex_waitv")
def sys_futex_waitv(task: Task, waiters: Ptr, nr_futexes: UInt, flags: UInt, timeout: Ptr, clockid: Int) -> Result:
    """Sleep until any of several words is woken; its index. Source: ``kernel/futex/syscalls.c:futex_waitv``."""
    if flags or not 1 <= nr_futexes <= _FUTEX_WAITV_MAX or not waiters:
        raise KernelError(Errno.EINVAL)
    deadline_ns = _clock_deadline(task, timeout, clockid)
    futexes = task.kernel.futexes
    queued: list[FutexQ] = []
    for val, uaddr, shared in _read_waitv(task, waiters, nr_futexes):
        try:
            key = get_futex_key(task, uaddr, shared)
            if get_user(task, uaddr, 4) != val:
                raise KernelError(Errno.EAGAIN)
        except KernelError as error:
            return _unqueue_multiple(task, queued, -error.errno)
        q = FutexQ(task, key, FUTEX_BITSET_MATCH_ANY)
        futexes.queue(q)
        queued.append(q)
    return _wait_multiple(task, queued, deadline_ns)


def _read_waitv(task: Task, waiters: int, count: int) -> list[tuple[int, int, bool]]:
    """Value, address, shared of each. Source: ``kernel/futex/syscalls.c:futex_parse_waitv``."""
    parsed = []
    for val, uaddr, flags, reserved in _WAITV.iter_unpack(copy_from_user(task, waiters, count * _WAITV.size)):
        if reserved or val > _U32:
            raise KernelError(Errno.EINVAL)
        parsed.append((val, uaddr, _check_flags2(flags)))
    return parsed


def _unqueue_multiple(task: Task, queued: list[FutexQ], nothing: int) -> int:
    """Give up; the index of one that was woken, else ``nothing``. Source: ``futex_unqueue_multiple``."""
    woken = nothing
    for index, q in enumerate(queued):
        if not task.kernel.futexes.unqueue(q):
            woken = index
    return woken


def _wait_multiple(task: Task, queued: list[FutexQ], deadline_ns: int | None) -> Result:
    if any(q.key is None for q in queued):
        return _unqueue_multiple(task, queued, -Errno.EAGAIN)
    return Wait(
        (),
        partial(_wait_multiple, task, queued, deadline_ns),
        deadline_ns=deadline_ns,
        interrupted=partial(_unqueue_multiple, task, queued, -ERESTARTSYS),
        timed_out=partial(_unqueue_multiple, task, queued, -Errno.ETIMEDOUT),
        wchan="futex_wait_multiple",
    )
