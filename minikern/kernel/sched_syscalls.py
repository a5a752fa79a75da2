"""System calls about scheduling: policies, priorities, processors.

Mirrors ``kernel/sched/syscalls.c``. The scheduler itself is in `minikern.kernel.sched`. Left out: SCHED_DEADLINE,
utilization clamps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.pid import find_task
from minikern.kernel.resource import Rlimit
from minikern.kernel.sys import MAX_NICE, MIN_NICE, nice_to_rlimit
from minikern.kernel.syscalls import Int, Pid, Ptr, UInt, syscall
from minikern.kernel.time import put_timespec64
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_MAX_RT_PRIO = 100  # priorities are below it
_RESET_ON_FORK = 0x40000000  # OR'ed to the policy of sched_setscheduler
_ATTR = struct.Struct("<IIQiIQQQII")  # struct sched_attr
_ATTR_SIZE_VER0 = 48
assert _ATTR.size == 56
_PAGE_SIZE = 4096
_UCLAMP_MAX = 1024
_RR_TIMESLICE_NS = 100_000_000
_FAIR_SLICE_NS = 3_000_000
_LONG_BYTES = 8


class Policy(IntEnum):
    """Scheduling policies (``SCHED_*``)."""

    NORMAL = 0
    FIFO = 1
    RR = 2
    BATCH = 3
    IDLE = 5
    DEADLINE = 6
    EXT = 7


_RT_POLICIES = frozenset({Policy.FIFO, Policy.RR})


@fast_flags
class AttrFlag(IntFlag):
    """Flags in ``struct sched_attr`` (``SCHED_FLAG_*``)."""

    RESET_ON_FORK = 0x01
    RECLAIM = 0x02
    DL_OVERRUN = 0x04
    KEEP_POLICY = 0x08
    KEEP_PARAMS = 0x10
    UTIL_CLAMP_MIN = 0x20
    UTIL_CLAMP_MAX = 0x40
    ALL = 0x7F


@dataclass(slots=True)
class SchedAttr:
    """What a task asks of the scheduler."""

    policy: Policy | None  # None: as it is
    priority: int  # of real-time policies, 1…99
    nice: int  # of the others
    reset_on_fork: bool


def _find_process(task: Task, pid: int) -> Task:
    """The task itself for 0; ESRCH. Source: ``kernel/sched/syscalls.c:find_process_by_pid``."""
    target = find_task(task.kernel, pid) if pid else task
    if target is None:
        raise KernelError(Errno.ESRCH)
    return target


def _check_same_owner(task: Task, target: Task) -> bool:
    return task.cred.euid in (target.cred.euid, target.cred.uid)


def _sched_setscheduler(task: Task, target: Task, attr: SchedAttr) -> None:
    """Check and change. Source: ``kernel/sched/syscalls.c:__sched_setscheduler``."""
    if attr.policy is None:
        policy, reset_on_fork = Policy(target.policy), target.reset_on_fork
    else:
        policy, reset_on_fork = attr.policy, attr.reset_on_fork
    if policy in (Policy.DEADLINE, Policy.EXT):
        raise KernelError(Errno.EINVAL)
    if not 0 <= attr.priority < _MAX_RT_PRIO or (policy in _RT_POLICIES) != (attr.priority != 0):
        raise KernelError(Errno.EINVAL)
    if _needs_privilege(task, target, policy, attr, reset_on_fork) and not capable(task, Cap.SYS_NICE):
        raise KernelError(Errno.EPERM)
    target.reset_on_fork = reset_on_fork
    target.policy = policy
    target.rt_priority = attr.priority
    if policy not in _RT_POLICIES:
        target.nice = attr.nice


def _needs_privilege(task: Task, target: Task, policy: Policy, attr: SchedAttr, reset_on_fork: bool) -> bool:
    """Source: ``kernel/sched/syscalls.c:user_check_sched_setscheduler``."""
    rlim = target.signal.rlim
    if policy in _RT_POLICIES:
        limit = rlim.cur(Rlimit.RTPRIO)
        if policy != target.policy and not limit:
            return True
        if attr.priority > target.rt_priority and attr.priority > limit:
            return True
    elif attr.nice < target.nice and nice_to_rlimit(attr.nice) > rlim.cur(Rlimit.NICE):
        return True
    leaves_idle = target.policy == Policy.IDLE and policy is not Policy.IDLE
    if leaves_idle and nice_to_rlimit(target.nice) > rlim.cur(Rlimit.NICE):
        return True
    return not _check_same_owner(task, target) or (target.reset_on_fork and not reset_on_fork)


def _policy(number: int) -> Policy:
    try:
        return Policy(number)
    except ValueError:
        raise KernelError(Errno.EINVAL) from None


@syscall("sched_setscheduler", partial="no SCHED_DEADLINE")
def sys_sched_setscheduler(task: Task, pid: Pid, policy: Int, param: Ptr) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_setscheduler``."""
    if policy < 0 or not param or pid < 0:
        raise KernelError(Errno.EINVAL)
    priority = _get_priority(task, param)
    target = _find_process(task, pid)
    wanted = _policy(policy & ~_RESET_ON_FORK)
    attr = SchedAttr(wanted, priority, target.nice, policy & _RESET_ON_FORK != 0)
    _sched_setscheduler(task, target, attr)
    return 0


@syscall("sched_setparam")
def sys_sched_setparam(task: Task, pid: Pid, param: Ptr) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_setparam``."""
    if not param or pid < 0:
        raise KernelError(Errno.EINVAL)
    priority = _get_priority(task, param)
    target = _find_process(task, pid)
    _sched_setscheduler(task, target, SchedAttr(None, priority, target.nice, False))
    return 0


def _get_priority(task: Task, param: int) -> int:
    (priority,) = struct.unpack("<i", copy_from_user(task, param, 4))
    return int(priority)


@syscall("sched_getscheduler")
def sys_sched_getscheduler(task: Task, pid: Pid) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_getscheduler``."""
    if pid < 0:
        raise KernelError(Errno.EINVAL)
    target = _find_process(task, pid)
    return target.policy | (_RESET_ON_FORK if target.reset_on_fork else 0)


@syscall("sched_getparam")
def sys_sched_getparam(task: Task, pid: Pid, param: Ptr) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_getparam``."""
    if not param or pid < 0:
        raise KernelError(Errno.EINVAL)
    put_user(task, param, _find_process(task, pid).rt_priority, 4)
    return 0


@syscall("sched_setattr", partial="no SCHED_DEADLINE, no utilization clamps")
def sys_sched_setattr(task: Task, pid: Pid, uattr: Ptr, flags: UInt) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_setattr``."""
    if not uattr or pid < 0 or flags:
        raise KernelError(Errno.EINVAL)
    _, policy, attr_flags, nice, priority, *_ = _sched_copy_attr(task, uattr)
    if policy >> 31 or attr_flags & ~int(AttrFlag.ALL):
        raise KernelError(Errno.EINVAL)
    target = _find_process(task, pid)
    nice = min(max(nice, MIN_NICE), MAX_NICE)
    if attr_flags & AttrFlag.KEEP_PARAMS:
        priority, nice = target.rt_priority, target.nice
    wanted = None if attr_flags & AttrFlag.KEEP_POLICY else _policy(policy)
    _sched_setscheduler(task, target, SchedAttr(wanted, priority, nice, attr_flags & AttrFlag.RESET_ON_FORK != 0))
    return 0


def _sched_copy_attr(task: Task, uattr: int) -> tuple[int, ...]:
    """The fields of ``struct sched_attr`` in any of its sizes. Source: ``kernel/sched/syscalls.c:sched_copy_attr``."""
    size = get_user(task, uattr, 4) or _ATTR_SIZE_VER0
    data = b""
    if _ATTR_SIZE_VER0 <= size <= _PAGE_SIZE:
        data = copy_from_user(task, uattr, size)
    if not data or any(data[_ATTR.size :]):  # a structure from the future that uses its future
        put_user(task, uattr, _ATTR.size, 4)
        raise KernelError(Errno.E2BIG)
    fields: tuple[int, ...] = _ATTR.unpack(data[: _ATTR.size].ljust(_ATTR.size, b"\0"))
    if size < _ATTR.size and fields[2] & (AttrFlag.UTIL_CLAMP_MIN | AttrFlag.UTIL_CLAMP_MAX):
        raise KernelError(Errno.EINVAL)
    return fields


@syscall("sched_getattr")
def sys_sched_getattr(task: Task, pid: Pid, uattr: Ptr, usize: UInt, flags: UInt) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_getattr``."""
    if not uattr or pid < 0 or not _ATTR_SIZE_VER0 <= usize <= _PAGE_SIZE or flags:
        raise KernelError(Errno.EINVAL)
    target = _find_process(task, pid)
    size = min(usize, _ATTR.size)
    attr_flags = AttrFlag.RESET_ON_FORK if target.reset_on_fork else 0
    realtime = target.policy in _RT_POLICIES
    nice, runtime_ns = (0, 0) if realtime else (target.nice, _FAIR_SLICE_NS)
    deadline_ns = period_ns = util_min = 0
    data = _ATTR.pack(
        size,
        target.policy,
        attr_flags,
        nice,
        target.rt_priority,
        runtime_ns,
        deadline_ns,
        period_ns,
        util_min,
        _UCLAMP_MAX,
    )
    copy_to_user(task, uattr, data[:size])
    return 0


def _policy_range(number: int) -> tuple[int, int]:
    """Lowest and highest priority of a policy."""
    return (1, _MAX_RT_PRIO - 1) if _policy(number) in _RT_POLICIES else (0, 0)


@syscall("sched_get_priority_min", inline=True)
def sys_sched_get_priority_min(task: Task, policy: Int) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_get_priority_min``."""
    return _policy_range(policy)[0]


@syscall("sched_get_priority_max", inline=True)
def sys_sched_get_priority_max(task: Task, policy: Int) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_get_priority_max``."""
    return _policy_range(policy)[1]


@syscall("sched_yield")
def sys_sched_yield(task: Task) -> Result:
    """Everybody else has a turn first. Source: ``kernel/sched/syscalls.c:do_sched_yield``."""
    task.kernel.need_resched = True
    return 0


@syscall("sched_rr_get_interval")
def sys_sched_rr_get_interval(task: Task, pid: Pid, interval: Ptr) -> Result:
    """Source: ``kernel/sched/syscalls.c:sched_rr_get_interval``."""
    if pid < 0:
        raise KernelError(Errno.EINVAL)
    policy = _find_process(task, pid).policy
    slices_ns = {Policy.FIFO: 0, Policy.RR: _RR_TIMESLICE_NS}
    put_timespec64(task, interval, slices_ns.get(Policy(policy), _FAIR_SLICE_NS))
    return 0


# Processors


def _cpumask_bytes(task: Task) -> int:
    """Size of a processor mask (``cpumask_size``)."""
    return -(-task.kernel.config.cpus // 64) * _LONG_BYTES


@syscall("sched_setaffinity")
def sys_sched_setaffinity(task: Task, pid: Pid, length: UInt, user_mask_ptr: Ptr) -> Result:
    """The mask is kept and reported; there is one processor at work. Source: ``kernel/sched/syscalls.c:sched_setaffinity``."""
    length = min(length, _cpumask_bytes(task))
    wanted = int.from_bytes(copy_from_user(task, user_mask_ptr, length), "little")
    target = _find_process(task, pid)
    if not _check_same_owner(task, target) and not capable(task, Cap.SYS_NICE):
        raise KernelError(Errno.EPERM)
    mask = wanted & ((1 << task.kernel.config.cpus) - 1)
    if not mask:
        raise KernelError(Errno.EINVAL)
    target.cpus_mask = mask
    return 0


@syscall("sched_getaffinity")
def sys_sched_getaffinity(task: Task, pid: Pid, length: UInt, user_mask_ptr: Ptr) -> Result:
    """Returns how many bytes of the mask were copied. Source: ``kernel/sched/syscalls.c:sched_getaffinity``."""
    if length * 8 < task.kernel.config.cpus or length % _LONG_BYTES:
        raise KernelError(Errno.EINVAL)
    mask = _find_process(task, pid).cpus_mask
    length = min(length, _cpumask_bytes(task))
    copy_to_user(task, user_mask_ptr, mask.to_bytes(length, "little"))
    return length
