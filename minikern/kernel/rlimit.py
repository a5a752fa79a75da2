"""System calls about resource limits.

Mirrors ``kernel/sys.c:prlimit64`` and its kin; the data is in `minikern.kernel.resource`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.resource import RLIM_NLIMITS, Rlimit
from minikern.kernel.syscalls import Pid, Ptr, UInt, syscall
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

SYSCTL_NR_OPEN = 1024 * 1024  # RLIMIT_NOFILE goes no higher
_RLIMIT64 = struct.Struct("<2Q")  # struct rlimit64: rlim_cur, rlim_max


@syscall("getrlimit")
def sys_getrlimit(task: Task, resource: UInt, rlim: Ptr) -> Result:
    """Source: ``kernel/sys.c:getrlimit``."""
    old = do_prlimit(task, task, resource, None)
    copy_to_user(task, rlim, _RLIMIT64.pack(*old))
    return 0


@syscall("setrlimit")
def sys_setrlimit(task: Task, resource: UInt, rlim: Ptr) -> Result:
    """Source: ``kernel/sys.c:setrlimit``."""
    do_prlimit(task, task, resource, _RLIMIT64.unpack(copy_from_user(task, rlim, _RLIMIT64.size)))
    return 0


@syscall("prlimit64")
def sys_prlimit64(task: Task, pid: Pid, resource: UInt, new_rlim: Ptr, old_rlim: Ptr) -> Result:
    """Set, then report the old limit of any process. Source: ``kernel/sys.c:prlimit64``."""
    new: tuple[int, int] | None = None
    if new_rlim:
        new = _RLIMIT64.unpack(copy_from_user(task, new_rlim, _RLIMIT64.size))
    target = find_task(task.kernel, pid) if pid else task
    if target is None:
        raise KernelError(Errno.ESRCH)
    _check_prlimit_permission(task, target)
    old = do_prlimit(task, target, resource, new)
    if old_rlim:
        copy_to_user(task, old_rlim, _RLIMIT64.pack(*old))
    return 0


def do_prlimit(task: Task, target: Task, resource: int, new: tuple[int, int] | None) -> tuple[int, int]:
    """Replace a limit (soft, hard) of ``target``'s process unless ``new`` is None; the old one.

    Source: ``kernel/sys.c:do_prlimit``.
    """
    if resource >= RLIM_NLIMITS:
        raise KernelError(Errno.EINVAL)
    pairs = target.signal.rlim.pairs
    old = pairs[resource]
    if new is not None:
        cur, maximum = new
        if cur > maximum:
            raise KernelError(Errno.EINVAL)
        if resource == Rlimit.NOFILE and maximum > SYSCTL_NR_OPEN:
            raise KernelError(Errno.EPERM)
        if maximum > old[1] and not capable(task, Cap.SYS_RESOURCE):
            raise KernelError(Errno.EPERM)
        pairs[resource] = new
    return old


def _check_prlimit_permission(task: Task, target: Task) -> None:
    """Source: ``kernel/sys.c:check_prlimit_permission``."""
    if target is task:
        return
    cred, other = task.cred, target.cred
    same_user = cred.uid == other.euid == other.suid == other.uid
    same_group = cred.gid == other.egid == other.sgid == other.gid
    if not (same_user and same_group) and not capable(task, Cap.SYS_RESOURCE):
        raise KernelError(Errno.EPERM)
