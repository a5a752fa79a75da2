"""Numbers that name tasks, process groups and sessions.

Mirrors ``kernel/pid.c``. A `Pid` outlives the task that it was made for as long as a group or session uses it.
One namespace only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelBug, KernelError
from minikern.kernel.task import PidType, Task
from minikern.kernel.waitqueue import WaitQueue

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel

PID_MAX_DEFAULT = 32768
RESERVED_PIDS = 300  # not reused after the numbers have wrapped


@dataclass(slots=True, eq=False)
class Pid:
    """One number and who uses it in which role (``struct pid``)."""

    nr: int
    tasks: list[list[Task]] = field(default_factory=lambda: [[], [], [], []])  # by PidType
    wait_pidfd: WaitQueue = field(default_factory=WaitQueue)  # pollers of pidfds

    def __repr__(self) -> str:
        return f"<pid {self.nr}>"

    def task(self, kind: PidType) -> Task | None:
        """The first task that uses the number in that role (``pid_task``)."""
        tasks = self.tasks[kind]
        return tasks[0] if tasks else None


class PidMap:
    """All numbers in use."""

    def __init__(self, pid_max: int = PID_MAX_DEFAULT) -> None:
        self.pid_max = pid_max
        self.numbers: dict[int, Pid] = {}
        self.last = 0  # handed out last

    def alloc_pid(self, wanted: int = 0) -> Pid:
        """The next free number in cyclic order, or ``wanted``. EAGAIN: none left; EEXIST: ``wanted`` is in use.

        Source: ``kernel/pid.c:alloc_pid``.
        """
        if wanted:
            if wanted >= self.pid_max:
                raise KernelError(Errno.EINVAL)
            if wanted in self.numbers:
                raise KernelError(Errno.EEXIST)
            nr = wanted
        else:
            nr = self._next_free()
            self.last = nr
        pid = Pid(nr)
        self.numbers[nr] = pid
        return pid

    def _next_free(self) -> int:
        if len(self.numbers) >= self.pid_max - RESERVED_PIDS:
            raise KernelError(Errno.EAGAIN)
        nr = self.last + 1
        while True:
            if nr >= self.pid_max:
                nr = RESERVED_PIDS
            if nr not in self.numbers:
                return nr
            nr += 1

    def find(self, nr: int) -> Pid | None:
        """The number's user, if it has one (``find_vpid``)."""
        return self.numbers.get(nr)

    def free_pid(self, pid: Pid) -> None:
        """The number may be used again. Source: ``kernel/pid.c:free_pid``."""
        if any(pid.tasks):
            raise KernelBug(f"{pid!r} is freed while {pid.tasks} use it")
        del self.numbers[pid.nr]

    def all_tasks(self) -> Iterator[Task]:
        """Every thread that has not been released, by number."""
        for nr in sorted(self.numbers):
            task = self.numbers[nr].task(PidType.PID)
            if task is not None:
                yield task

    def all_processes(self) -> Iterator[Task]:
        """The leader of every thread group, by number (``for_each_process``)."""
        for nr in sorted(self.numbers):
            task = self.numbers[nr].task(PidType.TGID)
            if task is not None:
                yield task


def task_pid_type(task: Task, kind: PidType) -> Pid | None:
    """The task's number in a role. Source: ``kernel/pid.c:get_task_pid``."""
    return task.thread_pid if kind is PidType.PID else task.signal.pids[kind]


def task_pgrp(task: Task) -> Pid | None:
    """The process group (``task_pgrp``)."""
    return task.signal.pids[PidType.PGID]


def task_session(task: Task) -> Pid | None:
    """The session (``task_session``)."""
    return task.signal.pids[PidType.SID]


def init_task_pid(task: Task, kind: PidType, pid: Pid) -> None:
    """Set the number without listing the task under it. Source: ``kernel/fork.c:init_task_pid``."""
    if kind is PidType.PID:
        task.thread_pid = pid
    else:
        task.signal.pids[kind] = pid


def attach_pid(task: Task, kind: PidType) -> None:
    """List the task under the number it has in a role. Source: ``kernel/pid.c:attach_pid``."""
    pid = task_pid_type(task, kind)
    assert pid is not None
    pid.tasks[kind].append(task)


def detach_pid(task: Task, kind: PidType) -> None:
    """Take the number away; it is free when nobody uses it any more. Source: ``kernel/pid.c:detach_pid``."""
    _change_pid(task, kind, None)


def change_pid(task: Task, kind: PidType, new: Pid) -> None:
    """Give the task another number in a role. Source: ``kernel/pid.c:change_pid``."""
    _change_pid(task, kind, new)
    attach_pid(task, kind)


def _change_pid(task: Task, kind: PidType, new: Pid | None) -> None:
    pid = task_pid_type(task, kind)
    assert pid is not None
    pid.tasks[kind].remove(task)
    if kind is PidType.PID:
        task.thread_pid = new
        pid.wait_pidfd.wake_up_all()
    else:
        task.signal.pids[kind] = new
    if not any(pid.tasks):
        task.kernel.pids.free_pid(pid)


def exchange_tids(left: Task, right: Task) -> None:
    """Two threads swap their tids. Source: ``kernel/pid.c:exchange_tids``."""
    left_pid, right_pid = left.thread_pid, right.thread_pid
    assert left_pid is not None and right_pid is not None
    left_pid.tasks[PidType.PID], right_pid.tasks[PidType.PID] = (
        right_pid.tasks[PidType.PID],
        left_pid.tasks[PidType.PID],
    )
    left.thread_pid, right.thread_pid = right_pid, left_pid


def transfer_pid(old: Task, new: Task, kind: PidType) -> None:
    """``new`` takes the place of ``old`` under their common number. Source: ``kernel/pid.c:transfer_pid``."""
    pid = task_pid_type(old, kind)
    assert pid is not None
    tasks = pid.tasks[kind]
    tasks[tasks.index(old)] = new


def find_task(kernel: Kernel, nr: int) -> Task | None:
    """The thread with that tid. Source: ``kernel/pid.c:find_task_by_vpid``."""
    pid = kernel.pids.find(nr)
    return pid.task(PidType.PID) if pid is not None else None
