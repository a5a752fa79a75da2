"""I/O priorities: kept and reported, since nothing here competes for a disk.

Mirrors ``block/ioprio.c``. Left out: hints below the level.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.sys import Prio, priority_targets
from minikern.kernel.syscalls import Int, syscall

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_CLASS_SHIFT = 13
_LEVELS = 8


class IoprioClass(IntEnum):
    """``IOPRIO_CLASS_*``; a lower number goes first."""

    NONE = 0  # follows the nice value
    RT = 1
    BE = 2
    IDLE = 3


class IoprioWho(IntEnum):
    """``IOPRIO_WHO_*``."""

    PROCESS = 1
    PGRP = 2
    USER = 3


_PRIO: Final[dict[int, Prio]] = {
    IoprioWho.PROCESS: Prio.PROCESS,
    IoprioWho.PGRP: Prio.PGRP,
    IoprioWho.USER: Prio.USER,
}


@syscall("ioprio_set")
def sys_ioprio_set(task: Task, which: Int, who: Int, ioprio: Int) -> Result:
    """Source: ``block/ioprio.c:ioprio_set``."""
    _ioprio_check_cap(task, ioprio)
    for target in _targets(task, which, who):
        if target.cred.uid not in (task.cred.euid, task.cred.uid) and not capable(task, Cap.SYS_NICE):
            raise KernelError(Errno.EPERM)
        target.ioprio = ioprio
    return 0


def _ioprio_check_cap(task: Task, ioprio: int) -> None:
    """Source: ``block/ioprio.c:ioprio_check_cap``."""
    level = ioprio & (1 << _CLASS_SHIFT) - 1
    match ioprio >> _CLASS_SHIFT:
        case IoprioClass.RT if not capable(task, Cap.SYS_ADMIN) and not capable(task, Cap.SYS_NICE):
            raise KernelError(Errno.EPERM)
        case IoprioClass.RT | IoprioClass.BE if level < _LEVELS:
            return
        case IoprioClass.NONE if not level:
            return
        case IoprioClass.IDLE:
            return
        case _:
            raise KernelError(Errno.EINVAL)


@syscall("ioprio_get")
def sys_ioprio_get(task: Task, which: Int, who: Int) -> Result:
    """The priority of a task as it was set, or the best one of several. Source: ``block/ioprio.c:ioprio_get``."""
    targets = _targets(task, which, who)
    if which == IoprioWho.PROCESS:
        return targets[0].ioprio
    return min(map(_effective_ioprio, targets))


def _effective_ioprio(target: Task) -> int:
    """What a task without a class of its own gets. Source: ``include/linux/ioprio.h:__get_task_ioprio``."""
    if target.ioprio >> _CLASS_SHIFT != IoprioClass.NONE:
        return target.ioprio
    return IoprioClass.BE << _CLASS_SHIFT | (target.nice + 20) * _LEVELS // 40


def _targets(task: Task, which: int, who: int) -> list[Task]:
    """The tasks that are meant; ESRCH when there are none."""
    if which not in _PRIO:
        raise KernelError(Errno.EINVAL)
    targets = list(priority_targets(task, _PRIO[which], who))
    if not targets:
        raise KernelError(Errno.ESRCH)
    return targets
