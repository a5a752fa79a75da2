"""System calls about the machine and about the place of a process in it.

Mirrors ``kernel/sys.c``: the name of the system, its load, process ids, groups and sessions, priorities, the
execution domain. User ids are in `minikern.kernel.uid`, limits in `minikern.kernel.rlimit`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

from minikern.kernel.cputime import NSEC_PER_SEC, nsec_to_clock_t, thread_group_cputime
from minikern.kernel.cred import Cap, Personality, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import change_pid, find_task, task_pgrp, task_session
from minikern.kernel.resource import Rlimit
from minikern.kernel.syscalls import Int, Pid, Ptr, UInt, syscall
from minikern.kernel.task import PF, PidType
from minikern.mm.uaccess import copy_from_user, copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

RELEASE = "6.12.0-minikern"
VERSION = "#1 SMP PREEMPT_DYNAMIC minikern"
NEW_UTS_LEN = 64  # longest host and domain name
_UNAME26_RELEASE = "2.6.72-minikern"  # 2.6.(60 + patch level), for programs that cannot read two numbers

MIN_NICE = -20
MAX_NICE = 19
PAGE_SIZE = 4096
_PERSONALITY_QUERY = 0xFFFFFFFF
_TMS = struct.Struct("<4q")  # struct tms
_SYSINFO = struct.Struct("<q3Q6QHHxxxx2QIxxxx")  # struct sysinfo
assert _SYSINFO.size == 112


class Prio(IntEnum):
    """What ``who`` of getpriority is (``PRIO_*``)."""

    PROCESS = 0
    PGRP = 1
    USER = 2


# The machine


@syscall("uname")
def sys_uname(task: Task, name: Ptr) -> Result:
    """Source: ``kernel/sys.c:newuname``."""
    kernel = task.kernel
    release = _UNAME26_RELEASE if task.personality & Personality.UNAME26 else RELEASE
    fields = (b"Linux", kernel.hostname, release.encode(), VERSION.encode(), task.arch.name.encode(), kernel.domainname)
    copy_to_user(task, name, b"".join(each.ljust(NEW_UTS_LEN + 1, b"\0") for each in fields))
    return 0


@syscall("sethostname")
def sys_sethostname(task: Task, name: Ptr, length: Int) -> Result:
    """Source: ``kernel/sys.c:sethostname``."""
    task.kernel.hostname = _uts_name_from_user(task, name, length)
    return 0


@syscall("setdomainname")
def sys_setdomainname(task: Task, name: Ptr, length: Int) -> Result:
    """Source: ``kernel/sys.c:setdomainname``."""
    task.kernel.domainname = _uts_name_from_user(task, name, length)
    return 0


def _uts_name_from_user(task: Task, name: int, length: int) -> bytes:
    if not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EPERM)
    if not 0 <= length <= NEW_UTS_LEN:
        raise KernelError(Errno.EINVAL)
    return copy_from_user(task, name, length).partition(b"\0")[0]


@syscall("sysinfo")
def sys_sysinfo(task: Task, info: Ptr) -> Result:
    """Uptime, memory and number of tasks; the load averages are 0. Source: ``kernel/sys.c:do_sysinfo``."""
    kernel = task.kernel
    uptime_s = -(-kernel.sources.monotonic_ns() // NSEC_PER_SEC)
    total, free = kernel.frames.total * PAGE_SIZE, kernel.frames.nr_free * PAGE_SIZE
    procs = sum(1 for _ in kernel.pids.all_tasks())
    mem_unit = 1
    shared = kernel.frames.nr_shmem * PAGE_SIZE
    copy_to_user(task, info, _SYSINFO.pack(uptime_s, 0, 0, 0, total, free, shared, 0, 0, 0, procs, 0, 0, 0, mem_unit))
    return 0


@syscall("getcpu")
def sys_getcpu(task: Task, cpup: Ptr, nodep: Ptr, cache: Ptr) -> Result:
    """There is one processor at work. Source: ``kernel/sys.c:getcpu``."""
    for pointer in (cpup, nodep):
        if pointer:
            put_user(task, pointer, 0, 4)
    return 0


@syscall("personality", partial="domains other than Linux behave as Linux")
def sys_personality(task: Task, personality: UInt) -> Result:
    """Source: ``kernel/exec_domain.c:personality``."""
    old = task.personality
    if personality != _PERSONALITY_QUERY:
        task.personality = personality
    return old


@syscall("times")
def sys_times(task: Task, tbuf: Ptr) -> Result:
    """Processor time of the process and its reaped children, in clock ticks. Source: ``kernel/sys.c:times``."""
    if tbuf:
        utime_ns, stime_ns = thread_group_cputime(task)
        children = task.signal.children
        times_ns = (utime_ns, stime_ns, children.utime_ns, children.stime_ns)
        copy_to_user(task, tbuf, _TMS.pack(*map(nsec_to_clock_t, times_ns)))
    return nsec_to_clock_t(task.kernel.sources.monotonic_ns())


# Ids of the process


@syscall("getpid", inline=True)
def sys_getpid(task: Task) -> Result:
    """Source: ``kernel/sys.c:getpid``."""
    return task.tgid


@syscall("gettid", inline=True)
def sys_gettid(task: Task) -> Result:
    """Source: ``kernel/sys.c:gettid``."""
    return task.pid


@syscall("getppid", inline=True)
def sys_getppid(task: Task) -> Result:
    """The process of the real parent, whoever traces. Source: ``kernel/sys.c:getppid``."""
    return task.real_parent.tgid if task.real_parent is not None else 0


@syscall("setpgid")
def sys_setpgid(task: Task, pid: Pid, pgid: Pid) -> Result:
    """Put a process, the caller or a child that has not called exec, into a process group of its session.

    Source: ``kernel/sys.c:setpgid``.
    """
    leader = task.group_leader
    pid = pid or leader.pid
    pgid = pgid or pid
    if pgid < 0:
        raise KernelError(Errno.EINVAL)
    target = find_task(task.kernel, pid)
    if target is None:
        raise KernelError(Errno.ESRCH)
    if not target.is_leader():
        raise KernelError(Errno.EINVAL)
    if target.real_parent is not None and target.real_parent.signal is leader.signal:
        if task_session(target) is not task_session(leader):
            raise KernelError(Errno.EPERM)
        if not target.flags & PF.FORKNOEXEC:
            raise KernelError(Errno.EACCES)
    elif target is not leader:
        raise KernelError(Errno.ESRCH)
    if target.signal.leader:
        raise KernelError(Errno.EPERM)

    pgrp = target.thread_pid
    if pgid != pid:
        pgrp = task.kernel.pids.find(pgid)
        member = pgrp.task(PidType.PGID) if pgrp is not None else None
        if member is None or task_session(member) is not task_session(leader):
            raise KernelError(Errno.EPERM)
    assert pgrp is not None
    if task_pgrp(target) is not pgrp:
        change_pid(target, PidType.PGID, pgrp)
    return 0


@syscall("getpgid")
def sys_getpgid(task: Task, pid: Pid) -> Result:
    """Source: ``kernel/sys.c:do_getpgid``."""
    pgrp = task_pgrp(_find_or_self(task, pid))
    return pgrp.nr if pgrp is not None else 0


@syscall("getsid")
def sys_getsid(task: Task, pid: Pid) -> Result:
    """Source: ``kernel/sys.c:getsid``."""
    session = task_session(_find_or_self(task, pid))
    return session.nr if session is not None else 0


def _find_or_self(task: Task, pid: int) -> Task:
    if not pid:
        return task
    target = find_task(task.kernel, pid)
    if target is None:
        raise KernelError(Errno.ESRCH)
    return target


@syscall("setsid")
def sys_setsid(task: Task) -> Result:
    """Lead a new session with a new process group, without a terminal. Source: ``kernel/sys.c:ksys_setsid``."""
    leader = task.group_leader
    sid = leader.thread_pid
    assert sid is not None
    # A group of that number in another session would be torn apart.
    if leader.signal.leader or sid.task(PidType.PGID) is not None:
        raise KernelError(Errno.EPERM)
    leader.signal.leader = True
    for kind in (PidType.SID, PidType.PGID):
        if leader.signal.pids[kind] is not sid:
            change_pid(leader, kind, sid)
    leader.signal.tty = None
    return sid.nr


# Priorities


@syscall("setpriority")
def sys_setpriority(task: Task, which: Int, who: Int, niceval: Int) -> Result:
    """Make tasks more or less nice. Source: ``kernel/sys.c:setpriority``."""
    if which not in tuple(Prio):
        raise KernelError(Errno.EINVAL)
    niceval = min(max(niceval, MIN_NICE), MAX_NICE)
    error: Errno | None = Errno.ESRCH
    for target in priority_targets(task, Prio(which), who):
        error = _set_one_prio(task, target, niceval, error)
    if error is not None:
        raise KernelError(error)
    return 0


def _set_one_prio(task: Task, target: Task, niceval: int, error: Errno | None) -> Errno | None:
    """One task's part: an error, the error of an earlier one, or None. Source: ``kernel/sys.c:set_one_prio``."""
    if task.cred.euid not in (target.cred.uid, target.cred.euid) and not capable(task, Cap.SYS_NICE):
        return Errno.EPERM
    if niceval < target.nice and not can_nice(task, target, niceval):
        return Errno.EACCES
    target.nice = niceval
    return None if error is Errno.ESRCH else error


def can_nice(task: Task, target: Task, niceval: int) -> bool:
    """Whether ``target`` may be that nice. Source: ``kernel/sched/syscalls.c:can_nice``."""
    return nice_to_rlimit(niceval) <= target.signal.rlim.cur(Rlimit.NICE) or capable(task, Cap.SYS_NICE)


def nice_to_rlimit(niceval: int) -> int:
    """19…-20 as 1…40, which a system call can return. Source: ``include/linux/sched/prio.h:nice_to_rlimit``."""
    return MAX_NICE - niceval + 1


@syscall("getpriority")
def sys_getpriority(task: Task, which: Int, who: Int) -> Result:
    """The least nice of the tasks, as 20 - nice. Source: ``kernel/sys.c:getpriority``."""
    if which not in tuple(Prio):
        raise KernelError(Errno.EINVAL)
    values = [nice_to_rlimit(target.nice) for target in priority_targets(task, Prio(which), who)]
    if not values:
        raise KernelError(Errno.ESRCH)
    return max(values)


def priority_targets(task: Task, which: Prio, who: int) -> Iterator[Task]:
    """The tasks that ``which`` and ``who`` mean; a ``who`` of 0 is the caller's own."""
    kernel = task.kernel
    if which is Prio.PROCESS:
        target = find_task(kernel, who) if who else task
        if target is not None:
            yield target
    elif which is Prio.PGRP:
        pgrp = kernel.pids.find(who) if who else task_pgrp(task)
        for leader in tuple(pgrp.tasks[PidType.PGID]) if pgrp is not None else ():
            yield from leader.signal.threads
    else:
        uid = who & 0xFFFFFFFF or task.cred.uid
        yield from (each for each in kernel.pids.all_tasks() if each.cred.uid == uid)
