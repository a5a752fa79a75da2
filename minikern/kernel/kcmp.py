"""kcmp(2): whether two processes share something.

Mirrors ``kernel/kcmp.c``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.syscalls import Int, Pid, ULong, syscall

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result


class KcmpType(IntEnum):
    """What is compared (``KCMP_*``)."""

    FILE = 0
    VM = 1
    FILES = 2
    FS = 3
    SIGHAND = 4
    IO = 5
    SYSVSEM = 6


@syscall("kcmp", partial="no KCMP_EPOLL_TFD")
def sys_kcmp(task: Task, pid1: Pid, pid2: Pid, kind: Int, idx1: ULong, idx2: ULong) -> Result:
    """0: the same; 1, 2: not, with some order. Source: ``kernel/kcmp.c:kcmp``."""
    one, other = find_task(task.kernel, pid1), find_task(task.kernel, pid2)
    if one is None or other is None:
        raise KernelError(Errno.ESRCH)
    if not ptrace_may_access(task, one) or not ptrace_may_access(task, other):
        raise KernelError(Errno.EPERM)
    match kind:
        case KcmpType.FILE:
            return _kcmp_ptr(_file_of(one, idx1), _file_of(other, idx2))
        case KcmpType.VM:
            return _kcmp_ptr(one.mm, other.mm)
        case KcmpType.FILES:
            return _kcmp_ptr(one.files, other.files)
        case KcmpType.FS:
            return _kcmp_ptr(one.fs, other.fs)
        case KcmpType.SIGHAND:
            return _kcmp_ptr(one.sighand, other.sighand)
        case KcmpType.IO:
            return 0  # nobody has an I/O context
        case KcmpType.SYSVSEM:
            return _kcmp_ptr(one.sysvsem, other.sysvsem)
        case _:
            raise KernelError(Errno.EINVAL)


def _kcmp_ptr(one: object, other: object) -> int:
    """Some total order. Source: ``kernel/kcmp.c:kcmp_ptr``."""
    if one is other:
        return 0
    return 1 if id(one) < id(other) else 2


def _file_of(target: Task, fd: int) -> File:
    if target.files is None:
        raise KernelError(Errno.EBADF)
    return target.files.fget_raw(fd & 0xFFFFFFFF)
