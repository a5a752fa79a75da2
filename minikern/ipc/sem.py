"""System V semaphores.

Mirrors ``ipc/sem.c``. Operations that cannot be done wait in the array's list; whoever changes a value does the
waiting operations that have become possible, in the order in which they came, and wakes their tasks, so no late
comer overtakes them. Left out: the per-semaphore lists that make this fast for large arrays.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from minikern.ipc.util import IPC_PERM_SIZE, IpcCmd, IpcFlag, IpcPerm, Want, ipcperms, now_s
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Int, Ptr, UInt, ULong, syscall
from minikern.kernel.time import add_safe_ns, get_timespec_ns
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

SEMMSL = 32000  # semaphores of an array
SEMMNS = SEMMSL * 32000  # … of all arrays
SEMOPM = 500  # operations of a call
SEMVMX = 32767  # highest value
SEMAEM = SEMVMX  # highest adjustment at exit
SEM_UNDO = 0x1000
_SEMBUF = struct.Struct("<Hhh")  # struct sembuf
_SEMINFO = struct.Struct("<10i")  # struct seminfo
_WORD = struct.Struct("<q")


class SemCmd(IntEnum):
    """Commands of semctl beside `IpcCmd`."""

    GETPID = 11
    GETVAL = 12
    GETALL = 13
    GETNCNT = 14
    GETZCNT = 15
    SETVAL = 16
    SETALL = 17
    STAT = 18
    INFO = 19
    STAT_ANY = 20


@dataclass(slots=True, frozen=True)
class Sembuf:
    """One operation of a semop call."""

    num: int  # which semaphore
    op: int  # > 0: add; < 0: wait until it can be subtracted; 0: wait until it is 0
    flags: int  # IpcFlag.NOWAIT, SEM_UNDO


@dataclass(slots=True, eq=False, repr=False)
class Sem:
    """One semaphore."""

    value: int = 0
    pid: int = 0  # process that changed it last


@dataclass(slots=True, eq=False, repr=False)
class SemUndo:
    """What the death of a process does to an array (``struct sem_undo``)."""

    array: SemArray
    adjust: list[int]  # is added to each semaphore


@dataclass(slots=True, eq=False, repr=False)
class UndoList:
    """All adjustments of a process, or of tasks that share them by CLONE_SYSVSEM (``struct sem_undo_list``)."""

    undos: list[SemUndo] = field(default_factory=list)
    count: int = 1  # tasks that share it

    def find(self, array: SemArray) -> SemUndo | None:
        """The adjustments for an array, if there are any."""
        return next((each for each in self.undos if each.array is array), None)


@dataclass(slots=True, eq=False, repr=False)
class SemQueue:
    """One call that waits (``struct sem_queue``)."""

    pid: int
    sops: list[Sembuf]
    undo: SemUndo | None
    alter: bool  # some operation is not a wait for zero
    blocking: Sembuf | None = None  # the operation that cannot be done
    status: int | None = None  # result; None: still waits
    woken: WaitQueue = field(default_factory=WaitQueue)

    def finish(self, status: int) -> None:
        """The wait is over."""
        self.status = status
        self.woken.wake_up_all()


@dataclass(slots=True, eq=False, repr=False)
class SemArray:
    """A set of semaphores (``struct sem_array``)."""

    perm: IpcPerm
    sems: list[Sem]
    ctime_s: int  # last change by semctl
    otime_s: int = 0  # last semop
    pending: list[SemQueue] = field(default_factory=list)  # oldest first
    undos: list[SemUndo] = field(default_factory=list)  # of all processes


# Making and finding arrays


@syscall("semget")
def sys_semget(task: Task, key: Int, nsems: Int, semflg: Int) -> Result:
    """Source: ``ipc/sem.c:ksys_semget``."""
    if not 0 <= nsems <= SEMMSL:
        raise KernelError(Errno.EINVAL)
    create, check = partial(_newary, task, key, nsems, semflg), partial(_sem_more_checks, nsems)
    return task.kernel.ipc.sem.get(task, key, semflg, create, check)


def _newary(task: Task, key: int, nsems: int, semflg: int) -> SemArray:
    """Source: ``ipc/sem.c:newary``."""
    if not nsems:
        raise KernelError(Errno.EINVAL)
    if _used_sems(task) + nsems > SEMMNS:
        raise KernelError(Errno.ENOSPC)
    return SemArray(IpcPerm.new(task, key, semflg & 0o777), [Sem() for _ in range(nsems)], now_s(task))


def _used_sems(task: Task) -> int:
    return sum(len(each.sems) for each in task.kernel.ipc.sem.slots.values())


def _sem_more_checks(nsems: int, array: SemArray) -> None:
    if nsems > len(array.sems):
        raise KernelError(Errno.EINVAL)


# Operations


@syscall("semop")
def sys_semop(task: Task, semid: Int, tsops: Ptr, nsops: UInt) -> Result:
    """Source: ``ipc/sem.c:semop``."""
    return _do_semtimedop(task, semid, tsops, nsops, None)


@syscall("semtimedop")
def sys_semtimedop(task: Task, semid: Int, tsops: Ptr, nsops: UInt, timeout: Ptr) -> Result:
    """Source: ``ipc/sem.c:semtimedop``."""
    deadline_ns = None
    if timeout:
        deadline_ns = add_safe_ns(task.kernel.sources.monotonic_ns(), get_timespec_ns(task, timeout))
    return _do_semtimedop(task, semid, tsops, nsops, deadline_ns)


def _do_semtimedop(task: Task, semid: int, tsops: int, nsops: int, deadline_ns: int | None) -> Result:
    """Source: ``ipc/sem.c:__do_semtimedop``."""
    if nsops > SEMOPM:
        raise KernelError(Errno.E2BIG)
    data = copy_from_user(task, tsops, nsops * _SEMBUF.size) if nsops else b""
    if nsops < 1 or semid < 0:
        raise KernelError(Errno.EINVAL)
    sops = [Sembuf(*fields) for fields in _SEMBUF.iter_unpack(data)]
    alter = any(sop.op != 0 for sop in sops)
    array = task.kernel.ipc.sem.obtain(semid)
    if max(sop.num for sop in sops) >= len(array.sems):
        raise KernelError(Errno.EFBIG)
    ipcperms(task, array.perm, Want.WRITE if alter else Want.READ)
    undo = _find_alloc_undo(task, array) if any(sop.flags & SEM_UNDO for sop in sops) else None

    queue = SemQueue(task.tgid, sops, undo, alter)
    status = _perform_atomic_semop(array, queue)
    if status is None:
        array.pending.append(queue)
        return _semop_wait(array, queue, deadline_ns)
    if status == 0:
        _operated(task, array, queue)
    return status


def _semop_wait(array: SemArray, queue: SemQueue, deadline_ns: int | None) -> Result:
    """Sleep until somebody else has done the operations, or said why not."""
    if queue.status is not None:
        return queue.status
    return Wait(
        (queue.woken,),
        partial(_semop_wait, array, queue, deadline_ns),
        deadline_ns=deadline_ns,
        interrupted=partial(_semop_give_up, array, queue, -Errno.EINTR),
        timed_out=partial(_semop_give_up, array, queue, -Errno.EAGAIN),
        wchan="do_semtimedop",
    )


def _semop_give_up(array: SemArray, queue: SemQueue, result: int) -> Result:
    array.pending.remove(queue)
    return result


def _perform_atomic_semop(array: SemArray, queue: SemQueue) -> int | None:
    """Do all operations, or none: 0, an error, or None when they have to wait. Source: ``perform_atomic_semop``."""
    values: dict[int, int] = {}
    adjust: dict[int, int] = {}
    for sop in queue.sops:
        value = values.get(sop.num, array.sems[sop.num].value)
        result = value + sop.op
        if (not sop.op and value) or result < 0:
            queue.blocking = sop
            return -Errno.EAGAIN if sop.flags & IpcFlag.NOWAIT else None
        if result > SEMVMX:
            return -Errno.ERANGE
        if sop.flags & SEM_UNDO and queue.undo is not None:
            undone = adjust.get(sop.num, queue.undo.adjust[sop.num]) - sop.op
            if not -SEMAEM - 1 <= undone <= SEMAEM:
                return -Errno.ERANGE
            adjust[sop.num] = undone
        values[sop.num] = result
    for num, value in values.items():
        array.sems[num].value = value
        array.sems[num].pid = queue.pid
    for num, undone in adjust.items():
        assert queue.undo is not None
        queue.undo.adjust[num] = undone
    return 0


def _operated(task: Task, array: SemArray, queue: SemQueue) -> None:
    """Operations were done: note it, and do what they made possible."""
    array.otime_s = now_s(task)
    if queue.alter:
        _update_queue(array)


def _update_queue(array: SemArray) -> None:
    """Values have changed: do whatever waiting operations can be done now. Source: ``ipc/sem.c:do_smart_update``.

    Those that wait for zero come first: they change nothing.
    """
    progress = True
    while progress:
        progress = False
        for queue in sorted(array.pending, key=_alters):
            status = _perform_atomic_semop(array, queue)
            if status is not None:
                array.pending.remove(queue)
                queue.finish(status)
                if status == 0 and queue.alter:
                    progress = True
                    break


def _alters(queue: SemQueue) -> bool:
    return queue.alter


# Undo


def _find_alloc_undo(task: Task, array: SemArray) -> SemUndo:
    """The task's adjustments for an array, made if need be. Source: ``ipc/sem.c:find_alloc_undo``."""
    undo_list = task.sysvsem = task.sysvsem or UndoList()
    undo = undo_list.find(array)
    if undo is None:
        undo = SemUndo(array, [0] * len(array.sems))
        undo_list.undos.append(undo)
        array.undos.append(undo)
    return undo


def copy_semundo(share: bool, child: Task, parent: Task) -> None:
    """A clone shares its maker's adjustments, or begins without any. Source: ``ipc/sem.c:copy_semundo``."""
    child.sysvsem = None
    if share:
        undo_list = parent.sysvsem = parent.sysvsem or UndoList()
        undo_list.count += 1
        child.sysvsem = undo_list


def exit_sem(task: Task) -> None:
    """The task dies or stops sharing; the last one undoes what was to be undone. Source: ``ipc/sem.c:exit_sem``."""
    undo_list, task.sysvsem = task.sysvsem, None
    if undo_list is None:
        return
    undo_list.count -= 1
    if undo_list.count:
        return
    for undo in undo_list.undos:
        array = undo.array
        if array.perm.deleted:
            continue
        array.undos.remove(undo)
        for sem, adjust in zip(array.sems, undo.adjust, strict=True):
            if adjust:
                sem.value = min(max(sem.value + adjust, 0), SEMVMX)
                sem.pid = task.tgid
        array.otime_s = now_s(task)
        _update_queue(array)


# Control


@syscall("semctl")
def sys_semctl(task: Task, semid: Int, semnum: Int, cmd: Int, arg: ULong) -> Result:
    """Source: ``ipc/sem.c:ksys_semctl``."""
    if semid < 0:
        raise KernelError(Errno.EINVAL)
    ids = task.kernel.ipc.sem
    match cmd:
        case IpcCmd.INFO | SemCmd.INFO:
            semusz, semaem = 20, SEMAEM
            if cmd == SemCmd.INFO:
                semusz, semaem = len(ids.slots), _used_sems(task)
            info = (SEMMNS, ids.limit, SEMMNS, SEMMNS, SEMMSL, SEMOPM, SEMOPM, semusz, SEMVMX, semaem)
            copy_to_user(task, arg, _SEMINFO.pack(*info))
            return ids.max_index
        case IpcCmd.STAT | SemCmd.STAT | SemCmd.STAT_ANY:
            array = ids.obtain(semid) if cmd == IpcCmd.STAT else ids.obtain_index(semid)
            if cmd != SemCmd.STAT_ANY:
                ipcperms(task, array.perm, Want.READ)
            copy_to_user(task, arg, _pack_semid64(task, array))
            return 0 if cmd == IpcCmd.STAT else array.perm.id
        case SemCmd.GETALL | SemCmd.SETALL:
            return _semctl_all(task, ids.obtain(semid), cmd, arg)
        case SemCmd.GETVAL | SemCmd.GETPID | SemCmd.GETNCNT | SemCmd.GETZCNT:
            return _semctl_get(task, ids.obtain(semid), semnum, cmd)
        case SemCmd.SETVAL:
            return _semctl_setval(task, ids.obtain(semid), semnum, arg)
        case IpcCmd.SET:
            data = copy_from_user(task, arg, IPC_PERM_SIZE)
            array = ids.obtain_owned(task, semid)
            array.perm.update(data)
            array.ctime_s = now_s(task)
        case IpcCmd.RMID:
            _freeary(task, ids.obtain_owned(task, semid))
        case _:
            raise KernelError(Errno.EINVAL)
    return 0


def _freeary(task: Task, array: SemArray) -> None:
    """Remove an array; whoever waits hears of it. Source: ``ipc/sem.c:freeary``."""
    task.kernel.ipc.sem.remove(array)
    pending, array.pending = array.pending, []
    for queue in pending:
        queue.finish(-Errno.EIDRM)


def _semctl_all(task: Task, array: SemArray, cmd: int, arg: int) -> Result:
    """Read or set every value. Source: ``ipc/sem.c:semctl_main``."""
    ipcperms(task, array.perm, Want.WRITE if cmd == SemCmd.SETALL else Want.READ)
    layout = struct.Struct(f"<{len(array.sems)}H")
    if cmd == SemCmd.GETALL:
        copy_to_user(task, arg, layout.pack(*(sem.value for sem in array.sems)))
        return 0
    values = layout.unpack(copy_from_user(task, arg, layout.size))
    if max(values) > SEMVMX:
        raise KernelError(Errno.ERANGE)
    for sem, value in zip(array.sems, values, strict=True):
        sem.value, sem.pid = value, task.tgid
    for undo in array.undos:
        undo.adjust = [0] * len(array.sems)
    array.ctime_s = now_s(task)
    _update_queue(array)
    return 0


def _semctl_get(task: Task, array: SemArray, semnum: int, cmd: int) -> Result:
    ipcperms(task, array.perm, Want.READ)
    sem = _semaphore(array, semnum)
    match cmd:
        case SemCmd.GETVAL:
            return sem.value
        case SemCmd.GETPID:
            return sem.pid
        case _:
            return _count_semcnt(array, semnum, zero=cmd == SemCmd.GETZCNT)


def _count_semcnt(array: SemArray, semnum: int, *, zero: bool) -> int:
    """How many calls wait for a semaphore to become zero, or to grow. Source: ``ipc/sem.c:count_semcnt``."""
    blocking = [queue.blocking for queue in array.pending if queue.blocking is not None]
    return sum(sop.num == semnum and (sop.op == 0) == zero for sop in blocking)


def _semctl_setval(task: Task, array: SemArray, semnum: int, arg: int) -> Result:
    """Source: ``ipc/sem.c:semctl_setval``."""
    value = arg & 0xFFFFFFFF
    if value > SEMVMX:
        raise KernelError(Errno.ERANGE)
    sem = _semaphore(array, semnum)
    ipcperms(task, array.perm, Want.WRITE)
    for undo in array.undos:
        undo.adjust[semnum] = 0
    sem.value, sem.pid = value, task.tgid
    array.ctime_s = now_s(task)
    _update_queue(array)
    return 0


def _semaphore(array: SemArray, semnum: int) -> Sem:
    if not 0 <= semnum < len(array.sems):
        raise KernelError(Errno.EINVAL)
    return array.sems[semnum]


def _pack_semid64(task: Task, array: SemArray) -> bytes:
    """``struct semid64_ds``; on some architectures an unused word follows each of the two times."""
    unused = bytes(_WORD.size)
    gap = unused if task.arch.semid_ds_padded else b""
    times = _WORD.pack(array.otime_s) + gap + _WORD.pack(array.ctime_s) + gap
    return array.perm.pack() + times + _WORD.pack(len(array.sems)) + 2 * unused
