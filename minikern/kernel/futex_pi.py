"""Futexes with priority inheritance: the kernel knows the owner and hands the lock over.

Mirrors ``kernel/futex/pi.c`` and the PI parts of ``requeue.c``. The word holds the owner's tid; waiters queue by
real-time priority, then in the order they came. Left out: lending the owner the priority of its waiters, since one
processor serves all tasks in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from minikern.kernel.errno import ERESTARTNOINTR, Errno, KernelError
from minikern.kernel.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_OWNER_DIED,
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    FutexKey,
    FutexQ,
    get_futex_key,
)
from minikern.kernel.pid import find_task
from minikern.kernel.task import PF, Task
from minikern.kernel.waitqueue import Result, Wait
from minikern.mm.uaccess import get_user, put_user


@dataclass(slots=True, eq=False, repr=False)
class PiState:
    """A lock that somebody waits for (``struct futex_pi_state``)."""

    key: FutexKey
    uaddr: int  # address of the word, as its waiters see it
    owner: Task | None  # None: it died
    waiters: list[FutexQ] = field(default_factory=list)  # next owner first

    def add(self, q: FutexQ) -> None:
        """Queue a waiter behind those of at least its priority."""
        place = len(self.waiters)
        while place and self.waiters[place - 1].task.rt_priority < q.task.rt_priority:
            place -= 1
        self.waiters.insert(place, q)
        q.pi_state = self


def futex_lock_pi(task: Task, uaddr: int, shared: bool, deadline_ns: int | None, *, trylock: bool) -> Result:
    """Take the lock, or wait for it. Source: ``kernel/futex/pi.c:futex_lock_pi``."""
    key = get_futex_key(task, uaddr, shared)
    pi_state = _lock_pi_atomic(task, uaddr, key, task, set_waiters=True)
    if pi_state is None:
        return 0
    if trylock:
        _put_pi_state(pi_state)
        raise KernelError(Errno.EAGAIN)
    q = FutexQ(task, key, FUTEX_BITSET_MATCH_ANY)
    pi_state.add(q)
    task.kernel.futexes.queue(q)
    return _wait_for_lock(task, q, deadline_ns, -ERESTARTNOINTR)


def _wait_for_lock(task: Task, q: FutexQ, deadline_ns: int | None, interrupted: int) -> Result:
    """Whoever unlocks makes us the owner before waking us."""
    if q.key is None:
        return 0
    return Wait(
        (),
        partial(_wait_for_lock, task, q, deadline_ns, interrupted),
        deadline_ns=deadline_ns,
        interrupted=partial(_give_up, task, q, interrupted),
        timed_out=partial(_give_up, task, q, -Errno.ETIMEDOUT),
        wchan="futex_lock_pi",
        why=partial(_why_waiting, q),
    )


def _why_waiting(q: FutexQ) -> str:
    owner = q.pi_state.owner if q.pi_state is not None else None
    return f"thread {owner.pid} owns the lock" if owner is not None else "the owner of the lock has died"


def _give_up(task: Task, q: FutexQ, result: int) -> Result:
    if not task.kernel.futexes.unqueue(q):
        return 0
    pi_state, q.pi_state = q.pi_state, None
    assert pi_state is not None
    pi_state.waiters.remove(q)
    _put_pi_state(pi_state)
    return result


def _lock_pi_atomic(task: Task, uaddr: int, key: FutexKey, locker: Task, *, set_waiters: bool) -> PiState | None:
    """Take a free lock for ``locker`` (None), or find who owns it. Source: ``kernel/futex/pi.c:futex_lock_pi_atomic``."""
    value = get_user(task, uaddr, 4)
    tid = value & FUTEX_TID_MASK
    if tid == locker.pid:
        raise KernelError(Errno.EDEADLK)
    waiting = next((q for q in task.kernel.futexes.waiters(key)), None)
    if waiting is not None:
        if waiting.pi_state is None:
            raise KernelError(Errno.EINVAL)  # somebody uses the word without priority inheritance
        return waiting.pi_state
    if not tid:
        put_user(task, uaddr, locker.pid | value & FUTEX_OWNER_DIED, 4)
        return None
    owner = find_task(task.kernel, tid)
    if owner is None or owner.flags & PF.EXITING:
        raise KernelError(Errno.ESRCH)
    if owner.flags & PF.KTHREAD:
        raise KernelError(Errno.EPERM)
    if set_waiters:
        put_user(task, uaddr, value | FUTEX_WAITERS, 4)
    pi_state = PiState(key, uaddr, owner)
    owner.pi_state_list.append(pi_state)
    return pi_state


def _put_pi_state(pi_state: PiState) -> None:
    """Nobody waits any more: the owner's word is all there is. Source: ``kernel/futex/pi.c:put_pi_state``."""
    if not pi_state.waiters and pi_state.owner is not None:
        pi_state.owner.pi_state_list.remove(pi_state)
        pi_state.owner = None


def futex_unlock_pi(task: Task, uaddr: int, shared: bool) -> Result:
    """Hand the lock to the next waiter, or free it. Source: ``kernel/futex/pi.c:futex_unlock_pi``."""
    value = get_user(task, uaddr, 4)
    if value & FUTEX_TID_MASK != task.pid:
        raise KernelError(Errno.EPERM)
    key = get_futex_key(task, uaddr, shared)
    waiting = next((q for q in task.kernel.futexes.waiters(key)), None)
    if waiting is None:
        put_user(task, uaddr, 0, 4)
        return 0
    if waiting.pi_state is None or waiting.pi_state.owner is not task:
        raise KernelError(Errno.EINVAL)
    _wake_futex_pi(task, waiting.pi_state, 0)
    return 0


def _wake_futex_pi(task: Task, pi_state: PiState, died: int) -> None:
    """The first waiter owns the lock from now on. Source: ``kernel/futex/pi.c:wake_futex_pi``."""
    q = pi_state.waiters.pop(0)
    heir = q.task
    put_user(heir, pi_state.uaddr, heir.pid | FUTEX_WAITERS | died, 4)
    if pi_state.owner is not None:
        pi_state.owner.pi_state_list.remove(pi_state)
    pi_state.owner = heir
    heir.pi_state_list.append(pi_state)
    q.pi_state = None
    task.kernel.futexes.wake(q)
    _put_pi_state(pi_state)


def exit_pi_state_list(task: Task) -> None:
    """A dying task hands its locks over. Source: ``kernel/futex/core.c:exit_pi_state_list``."""
    for pi_state in tuple(task.pi_state_list):
        assert isinstance(pi_state, PiState)
        try:
            _wake_futex_pi(task, pi_state, FUTEX_OWNER_DIED)
        except KernelError:
            pi_state.owner = None  # the word is gone; the waiters wait for ever, as in the kernel
    task.pi_state_list.clear()


# Condition variables: waiting on one word, then being moved to a lock


def futex_wait_requeue_pi(
    task: Task, uaddr: int, shared: bool, val: int, deadline_ns: int | None, uaddr2: int
) -> Result:
    """Sleep on ``uaddr`` until moved to the lock at ``uaddr2``. Source: ``kernel/futex/requeue.c:futex_wait_requeue_pi``."""
    if uaddr == uaddr2:
        raise KernelError(Errno.EINVAL)
    key2 = get_futex_key(task, uaddr2, shared)
    key = get_futex_key(task, uaddr, shared)
    if get_user(task, uaddr, 4) != val:
        raise KernelError(Errno.EAGAIN)
    q = FutexQ(task, key, FUTEX_BITSET_MATCH_ANY, requeue_pi_key=key2)
    task.kernel.futexes.queue(q)
    return _wait_for_requeue(task, q, deadline_ns)


def _wait_for_requeue(task: Task, q: FutexQ, deadline_ns: int | None) -> Result:
    if q.key is None:
        return 0
    if q.pi_state is not None:
        return _wait_for_lock(task, q, deadline_ns, -Errno.EAGAIN)
    return Wait(
        (),
        partial(_wait_for_requeue, task, q, deadline_ns),
        deadline_ns=deadline_ns,
        interrupted=partial(_requeue_ends, task, q, -ERESTARTNOINTR),
        timed_out=partial(_requeue_ends, task, q, -Errno.ETIMEDOUT),
        wchan="futex_wait_requeue_pi",
    )


def _requeue_ends(task: Task, q: FutexQ, result: int) -> Result:
    task.kernel.futexes.unqueue(q)
    return result


def futex_requeue_pi(
    task: Task, uaddr: int, uaddr2: int, shared: bool, nr_wake: int, nr_requeue: int, expected: int
) -> Result:
    """Give the lock to the first waiter, or queue all of them for it. Source: ``kernel/futex/requeue.c:futex_requeue``."""
    if nr_wake != 1 or nr_requeue < 0 or uaddr == uaddr2:
        raise KernelError(Errno.EINVAL)
    futexes = task.kernel.futexes
    key, key2 = get_futex_key(task, uaddr, shared), get_futex_key(task, uaddr2, shared)
    if get_user(task, uaddr, 4) != expected:
        raise KernelError(Errno.EAGAIN)
    done = 0
    for q in futexes.waiters(key):
        if done >= nr_wake + nr_requeue:
            break
        if q.requeue_pi_key != key2:
            raise KernelError(Errno.EINVAL)
        done += 1
        pi_state = _lock_pi_atomic(task, uaddr2, key2, q.task, set_waiters=True)
        futexes.unqueue(q)
        if pi_state is None:
            q.requeue_pi_key = None
            task.kernel.sched.try_to_wake_up(q.task)
            continue
        q.key, q.requeue_pi_key = key2, None
        pi_state.add(q)
        futexes.queue(q)
    return done
