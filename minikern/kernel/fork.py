"""How tasks come to be: fork, vfork, clone, clone3, and what a new task shares with its maker.

Mirrors ``kernel/fork.c``. Left out: namespaces and cgroups (their flags are refused), CLONE_IO has no effect.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag
from functools import partial

from minikern.fs.file import exit_files, filp_close, unshare_files
from minikern.fs.fs_struct import FsStruct, exit_fs
from minikern.fs.pidfd import pidfd_file
from minikern.ipc.sem import copy_semundo, exit_sem
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import ERESTARTNOINTR, Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.futex import futex_wake
from minikern.kernel.jobctl import task_join_group_stop
from minikern.kernel.pid import Pid, attach_pid, init_task_pid
from minikern.kernel.ptrace import (
    PtraceEvent,
    ptrace_clone_event,
    ptrace_event,
    ptrace_event_enabled,
    ptrace_init_task,
)
from minikern.kernel.resource import Rlimit
from minikern.kernel.sigaltstack import sas_ss_reset
from minikern.kernel.siginfo import SIG_IGN
from minikern.kernel.signal import recalc_sigpending, signal_pending
from minikern.kernel.syscalls import Ptr, Size, ULong, syscall
from minikern.kernel.task import NSIG, PF, PidType, SigAction, SignalFlags, SignalStruct, SyscallState, Task
from minikern.kernel.waitqueue import Result, TaskState, Wait, WaitQueue
from minikern.mm.mm import dup_mm, mmput
from minikern.mm.uaccess import copy_from_user, put_user


@fast_flags
class Clone(IntFlag):
    """Flags of clone (``CLONE_*``); the low 8 bits are the exit signal."""

    CSIGNAL = 0xFF
    VM = 0x100
    FS = 0x200
    FILES = 0x400
    SIGHAND = 0x800
    PIDFD = 0x1000
    PTRACE = 0x2000
    VFORK = 0x4000
    PARENT = 0x8000
    THREAD = 0x10000
    NEWNS = 0x20000
    SYSVSEM = 0x40000
    SETTLS = 0x80000
    PARENT_SETTID = 0x100000
    CHILD_CLEARTID = 0x200000
    DETACHED = 0x400000
    UNTRACED = 0x800000
    CHILD_SETTID = 0x1000000
    NEWCGROUP = 0x2000000
    NEWUTS = 0x4000000
    NEWIPC = 0x8000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    IO = 0x80000000
    NEWTIME = 0x80
    CLEAR_SIGHAND = 0x100000000
    INTO_CGROUP = 0x200000000


_NAMESPACES = Clone.NEWNS | Clone.NEWCGROUP | Clone.NEWUTS | Clone.NEWIPC | Clone.NEWUSER | Clone.NEWPID | Clone.NEWNET
_CLONE_ARGS = struct.Struct("<11Q")  # struct clone_args, as of CLONE_ARGS_SIZE_VER2
_CLONE_ARGS_SIZE_VER0 = 64
_PAGE_SIZE = 4096
_MAX_PID_NS_LEVEL = 32


@dataclass(slots=True)
class KernelCloneArgs:
    """What is asked of a clone (``struct kernel_clone_args``)."""

    flags: int = 0  # Clone, without the exit signal
    exit_signal: int = 0
    stack: int = 0  # lowest address (clone3) or initial stack pointer (clone)
    stack_size: int = 0
    tls: int = 0
    pidfd: int = 0  # guest address that receives the descriptor
    parent_tid: int = 0  # guest address
    child_tid: int = 0  # guest address
    set_tid: list[int] = field(default_factory=list)


def kernel_clone(task: Task, args: KernelCloneArgs) -> Result:
    """Make a task and start it; the tid of the child. Source: ``kernel/fork.c:kernel_clone``."""
    if args.flags & Clone.PIDFD and args.flags & Clone.PARENT_SETTID and args.pidfd == args.parent_tid:
        raise KernelError(Errno.EINVAL)
    child = copy_process(task, args)
    nr = child.pid
    if args.flags & Clone.PARENT_SETTID:
        try:
            put_user(task, args.parent_tid, nr, 4)
        except KernelError:
            pass  # as the kernel: the child exists, a bad address is the caller's own loss
    if args.flags & Clone.VFORK:
        child.vfork_done = WaitQueue()
    if (hook := task.kernel.events.fork) is not None:
        hook(task, child)
    event = ptrace_clone_event(task, args)
    ptrace_init_task(child, task, traced=bool(args.flags & Clone.PTRACE or event))
    wake_up_new_task(child)
    if event:
        return ptrace_event(task, event, nr, partial(_wait_for_vfork_done, task, child, nr, args))
    return _wait_for_vfork_done(task, child, nr, args)


def wake_up_new_task(child: Task) -> None:
    """The child may run. Source: ``kernel/sched/core.c:wake_up_new_task``."""
    schedule_tail(child)
    child.kernel.sched.enqueue(child)


def _wait_for_vfork_done(task: Task, child: Task, nr: int, args: KernelCloneArgs) -> Result:
    """With CLONE_VFORK the parent sleeps until the child execs or dies. Source: ``kernel/fork.c:wait_for_vfork_done``."""
    done = child.vfork_done
    if not args.flags & Clone.VFORK:
        return nr
    if done is not None:
        return Wait(
            (done,),
            partial(_wait_for_vfork_done, task, child, nr, args),
            TaskState.KILLABLE,
            interrupted=partial(_vfork_interrupted, child, nr),
            wchan="wait_for_vfork_done",
        )
    if ptrace_event_enabled(task, PtraceEvent.VFORK_DONE):
        return ptrace_event(task, PtraceEvent.VFORK_DONE, nr, partial(int, nr))
    return nr


def _vfork_interrupted(child: Task, nr: int) -> Result:
    child.vfork_done = None
    return nr


def copy_process(task: Task, args: KernelCloneArgs) -> Task:
    """The new task, complete but not yet running. Source: ``kernel/fork.c:copy_process``."""
    flags = args.flags
    signal = task.signal
    if flags & (Clone.NEWNS | Clone.FS) == Clone.NEWNS | Clone.FS:
        raise KernelError(Errno.EINVAL)
    if flags & Clone.THREAD and not flags & Clone.SIGHAND:
        raise KernelError(Errno.EINVAL)
    if flags & Clone.SIGHAND and not flags & Clone.VM:
        raise KernelError(Errno.EINVAL)
    if flags & Clone.PARENT and signal.flags & SignalFlags.UNKILLABLE:
        raise KernelError(Errno.EINVAL)
    if flags & Clone.PIDFD and flags & Clone.DETACHED:
        raise KernelError(Errno.EINVAL)
    if flags & (_NAMESPACES | Clone.NEWTIME | Clone.INTO_CGROUP):
        raise KernelError(Errno.EINVAL)

    # Signals that came before this point are delivered before the fork, not copied into nowhere.
    recalc_sigpending(task)
    if signal_pending(task):
        raise KernelError(ERESTARTNOINTR)
    _check_nproc(task)

    child = _dup_task_struct(task)
    _sched_fork(child, task)
    copy_semundo(flags & Clone.SYSVSEM != 0, child, task)
    _copy_files(flags, child, task)
    try:
        _copy_fs(flags, child, task)
        _copy_sighand(flags, child, task)
        _copy_signal(flags, child, task)
        _copy_mm(flags, child, task)
        try:
            stack = args.stack + args.stack_size
            task.arch.copy_thread(child, task, stack, args.tls if flags & Clone.SETTLS else None)
            pid = task.kernel.pids.alloc_pid(args.set_tid[0] if args.set_tid else 0)
            try:
                _install_pidfd(task, pid, args)
            except KernelError:
                task.kernel.pids.free_pid(pid)
                raise
        except KernelError:
            if child.thread is not task.thread:
                task.arch.forget(child)
            exit_mm_of_unborn(child)
            raise
    except KernelError:
        _undo_copy(child, flags)
        raise

    child.set_child_tid = args.child_tid if flags & Clone.CHILD_SETTID else 0
    child.clear_child_tid = args.child_tid if flags & Clone.CHILD_CLEARTID else 0
    if not flags & Clone.VM:
        child.rseq, child.rseq_len, child.rseq_sig = task.rseq, task.rseq_len, task.rseq_sig
    if flags & (Clone.VM | Clone.VFORK) == Clone.VM:
        sas_ss_reset(child)
    _join_family(child, task, args, pid)
    return child


def exit_mm_of_unborn(child: Task) -> None:
    """Drop the address space of a task that never ran."""
    if child.mm is not None:
        mm, child.mm = child.mm, None
        mmput(mm)


def _undo_copy(child: Task, flags: int) -> None:
    """A fork that fails half way leaves every count as it was."""
    exit_sem(child)
    exit_files(child)
    exit_fs(child)
    if flags & Clone.SIGHAND and child.sighand is not None:
        child.sighand.count -= 1


def _check_nproc(task: Task) -> None:
    limit = task.signal.rlim.cur(Rlimit.NPROC)
    if task.cred.uid and not (capable(task, Cap.SYS_RESOURCE) or capable(task, Cap.SYS_ADMIN)):
        if sum(1 for each in task.kernel.pids.all_tasks() if each.cred.uid == task.cred.uid) >= limit:
            raise KernelError(Errno.EAGAIN)


def _dup_task_struct(task: Task) -> Task:
    """A task with everything that a child simply inherits. Source: ``kernel/fork.c:dup_task_struct``."""
    now_ns = task.kernel.sources.monotonic_ns()
    return Task(
        kernel=task.kernel,
        arch=task.arch,
        thread=task.thread,
        comm=task.comm,
        flags=(task.flags & ~(PF.SUPERPRIV | PF.SIGNALED | PF.DUMPCORE)) | PF.FORKNOEXEC,
        rt_priority=task.rt_priority,
        cpus_mask=task.cpus_mask,
        no_new_privs=task.no_new_privs,
        dumpable=task.dumpable,
        blocked=task.blocked,
        sas_ss_sp=task.sas_ss_sp,
        sas_ss_size=task.sas_ss_size,
        sas_ss_flags=task.sas_ss_flags,
        signal=task.signal,
        sighand=task.sighand,
        cred=task.cred,
        start_time_ns=now_ns,
        start_boottime_ns=now_ns,
        timer_slack_ns=task.timer_slack_ns,
        default_timer_slack_ns=task.timer_slack_ns,
        seccomp=task.seccomp,
        personality=task.personality,
        ioprio=task.ioprio,
        syscall=SyscallState(task.syscall.nr, task.syscall.args),  # a tracer sees it return from the same call
    )


def _sched_fork(child: Task, task: Task) -> None:
    """Scheduling policy of the child. Source: ``kernel/sched/core.c:sched_fork``."""
    child.policy, child.nice = task.policy, task.nice
    if task.reset_on_fork:
        if child.policy in (1, 2, 6):  # SCHED_FIFO, SCHED_RR, SCHED_DEADLINE
            child.policy, child.rt_priority, child.nice = 0, 0, 0
        elif child.nice < 0:
            child.nice = 0


def _copy_files(flags: int, child: Task, task: Task) -> None:
    files = task.files
    if files is None:
        return
    if flags & Clone.FILES:
        files.count += 1
        child.files = files
    else:
        child.files = files.copy()


def _copy_fs(flags: int, child: Task, task: Task) -> None:
    fs: FsStruct | None = task.fs
    if fs is None:
        return
    if flags & Clone.FS:
        fs.count += 1
        child.fs = fs
    else:
        child.fs = fs.copy()


def _copy_sighand(flags: int, child: Task, task: Task) -> None:
    sighand = task.sighand
    assert sighand is not None
    if flags & Clone.SIGHAND:
        sighand.count += 1
        return
    child.sighand = sighand.copy()
    if flags & Clone.CLEAR_SIGHAND:
        for number, action in enumerate(child.sighand.action):
            if action.handler != SIG_IGN:
                child.sighand.action[number] = SigAction()


def _copy_signal(flags: int, child: Task, task: Task) -> None:
    if flags & Clone.THREAD:
        return
    parent = task.signal
    child.signal = SignalStruct(
        pids=list(parent.pids),
        threads=[child],
        rlim=parent.rlim.copy(),
        oom_score_adj=parent.oom_score_adj,
        start_time_ns=child.start_time_ns,
    )


def _copy_mm(flags: int, child: Task, task: Task) -> None:
    mm = task.mm
    if mm is None:
        return
    if flags & Clone.VM:
        mm.users += 1
        child.mm = mm
    else:
        child.mm = dup_mm(mm)


def _install_pidfd(task: Task, pid: Pid, args: KernelCloneArgs) -> None:
    if not args.flags & Clone.PIDFD:
        return
    assert task.files is not None
    fd = task.files.alloc_fd(task, pidfd_file(task, pid, thread=bool(args.flags & Clone.THREAD)), cloexec=True)
    try:
        put_user(task, args.pidfd, fd, 4)
    except KernelError:
        filp_close(task, task.files.remove(fd), task.files)
        raise


def _join_family(child: Task, task: Task, args: KernelCloneArgs, pid: Pid) -> None:
    """Number, group, parent: from here on others can find the child. The last part of ``copy_process``."""
    flags = args.flags
    if flags & Clone.THREAD:
        child.group_leader = task.group_leader
        child.exit_signal = -1
    else:
        child.group_leader = child
        child.exit_signal = task.group_leader.exit_signal if flags & Clone.PARENT else args.exit_signal
    if flags & (Clone.PARENT | Clone.THREAD):
        child.real_parent = task.real_parent
        child.parent_exec_id = task.parent_exec_id
    else:
        child.real_parent = task
        child.parent_exec_id = task.self_exec_id
    child.parent = child.real_parent

    signal = child.signal
    init_task_pid(child, PidType.PID, pid)
    if flags & Clone.THREAD:
        signal.threads.append(child)
        signal.live += 1
        signal.quick_threads += 1
        task_join_group_stop(child, task)
    else:
        init_task_pid(child, PidType.TGID, pid)
        parent = child.real_parent
        assert parent is not None
        signal.tty = task.signal.tty
        signal.has_child_subreaper = parent.signal.has_child_subreaper or parent.signal.is_child_subreaper
        parent.children.append(child)
        for kind in (PidType.TGID, PidType.PGID, PidType.SID):
            attach_pid(child, kind)
    attach_pid(child, PidType.PID)
    task.kernel.total_forks += 1


def schedule_tail(child: Task) -> None:
    """The first thing a new task does. Source: ``kernel/sched/core.c:schedule_tail``."""
    recalc_sigpending(child)  # it may have joined a group stop
    if child.set_child_tid:
        try:
            put_user(child, child.set_child_tid, child.pid, 4)
        except KernelError:
            pass  # the kernel does not look either
        child.set_child_tid = 0


def mm_release(task: Task) -> None:
    """The task leaves its address space, by exit or exec: tell whoever waits for that.

    Source: ``kernel/fork.c:mm_release``; the futex part is in `minikern.kernel.futex`.
    """
    mm = task.mm
    if task.clear_child_tid:
        if mm is not None and mm.users > 1:
            try:
                put_user(task, task.clear_child_tid, 0, 4)
                futex_wake(task, task.clear_child_tid, 1)
            except KernelError:
                pass  # a bad address is the guest's own loss
        task.clear_child_tid = 0
    complete_vfork_done(task)


def complete_vfork_done(task: Task) -> None:
    """Let the parent of a vfork go on. Source: ``kernel/fork.c:complete_vfork_done``."""
    done = task.vfork_done
    if done is not None:
        task.vfork_done = None
        done.wake_up_all()


# System calls. fork, vfork and clone differ between architectures and are declared there.


@syscall("clone3", partial="no namespaces, no cgroups")
def sys_clone3(task: Task, uargs: Ptr, size: Size) -> Result:
    """Source: ``kernel/fork.c:clone3``."""
    return kernel_clone(task, _copy_clone_args_from_user(task, uargs, size))


def _copy_clone_args_from_user(task: Task, uargs: int, size: int) -> KernelCloneArgs:
    """Read and check ``struct clone_args``. Source: ``kernel/fork.c:copy_clone_args_from_user`` and ``clone3_args_valid``."""
    if size > _PAGE_SIZE:
        raise KernelError(Errno.E2BIG)
    if size < _CLONE_ARGS_SIZE_VER0:
        raise KernelError(Errno.EINVAL)
    data = copy_from_user(task, uargs, size)
    if any(data[_CLONE_ARGS.size :]):
        raise KernelError(Errno.E2BIG)
    fields = _CLONE_ARGS.unpack(data[: _CLONE_ARGS.size].ljust(_CLONE_ARGS.size, b"\0"))
    flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _cgroup = fields
    if set_tid_size > _MAX_PID_NS_LEVEL or bool(set_tid) != bool(set_tid_size):
        raise KernelError(Errno.EINVAL)
    if exit_signal & ~Clone.CSIGNAL or exit_signal > NSIG:
        raise KernelError(Errno.EINVAL)
    known = sum(Clone) & ~Clone.CSIGNAL
    if flags & ~known or flags & Clone.DETACHED or flags & (Clone.CSIGNAL & ~Clone.NEWTIME):
        raise KernelError(Errno.EINVAL)
    if flags & (Clone.SIGHAND | Clone.CLEAR_SIGHAND) == Clone.SIGHAND | Clone.CLEAR_SIGHAND:
        raise KernelError(Errno.EINVAL)
    if flags & (Clone.THREAD | Clone.PARENT) and exit_signal:
        raise KernelError(Errno.EINVAL)
    if bool(stack) != bool(stack_size):
        raise KernelError(Errno.EINVAL)
    tids: list[int] = []
    if set_tid:
        if set_tid_size > 1:  # one namespace, so one number
            raise KernelError(Errno.EINVAL)
        (tid,) = struct.unpack("<i", copy_from_user(task, set_tid, 4))
        if tid < 1:
            raise KernelError(Errno.EINVAL)
        if not capable(task, Cap.CHECKPOINT_RESTORE) and not capable(task, Cap.SYS_ADMIN):
            raise KernelError(Errno.EPERM)
        tids.append(tid)
    return KernelCloneArgs(flags, exit_signal, stack, stack_size, tls, pidfd, parent_tid, child_tid, tids)


@syscall("set_tid_address", inline=True)
def sys_set_tid_address(task: Task, tidptr: Ptr) -> Result:
    """Source: ``kernel/fork.c:set_tid_address``."""
    task.clear_child_tid = tidptr
    return task.pid


@syscall("unshare", partial="no namespaces")
def sys_unshare(task: Task, unshare_flags: ULong) -> Result:
    """Source: ``kernel/fork.c:ksys_unshare``."""
    flags = unshare_flags
    allowed = Clone.THREAD | Clone.FS | Clone.SIGHAND | Clone.VM | Clone.FILES | Clone.SYSVSEM
    if flags & ~(allowed | _NAMESPACES | Clone.NEWTIME):
        raise KernelError(Errno.EINVAL)
    if flags & (Clone.THREAD | Clone.SIGHAND | Clone.VM) and len(task.signal.threads) > 1:
        raise KernelError(Errno.EINVAL)
    if flags & (_NAMESPACES | Clone.NEWTIME):
        raise KernelError(Errno.EPERM)
    if flags & Clone.SYSVSEM:
        exit_sem(task)
    if flags & Clone.FS and task.fs is not None and task.fs.count > 1:
        fs = task.fs.copy()
        exit_fs(task)
        task.fs = fs
    if flags & Clone.FILES:
        unshare_files(task)
    return 0
