"""The first processes: what boot makes by hand instead of by fork.

Process 0 runs nothing and is the parent of process 1. Process 1 is a small init of the kernel's own, which reaps
what it inherits and ends everything when the programs that the machine was started for have ended; or one of these
programs, on request. Mirrors ``init/init_task.c``, ``init/main.c:kernel_init`` and, for the end of everything,
``kernel/pid_namespace.c:zap_pid_ns_processes``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from minikern.kernel.cred import Cred
from minikern.kernel.fork import KernelCloneArgs, copy_process
from minikern.kernel.pid import attach_pid, change_pid, init_task_pid
from minikern.kernel.siginfo import SiCode, SigInfo, Signal
from minikern.kernel.signal import do_send_sig_info
from minikern.kernel.task import PF, PidType, SignalFlags, SignalStruct, Task
from minikern.kernel.wait import W, WaitOpts, do_wait
from minikern.kernel.waitqueue import EXITED, Result, TaskState, Wait

if TYPE_CHECKING:
    from minikern.arch import Arch, ThreadState
    from minikern.kernel.kernel import Kernel


class NoArch:
    """In the place of a backend, for tasks that never leave the kernel."""

    def copy_thread(self, child: Task, parent: Task, sp: int, tls: int | None) -> None:
        """There are no registers to copy."""

    def load(self, task: Task) -> None:
        """There are no registers."""

    def forget(self, task: Task) -> None:
        """There is nothing to forget."""


def make_idle_task(kernel: Kernel, cred: Cred) -> Task:
    """Process 0. Source: ``init/init_task.c:init_task``."""
    arch = cast("Arch", NoArch())
    task = Task(kernel, arch, thread=cast("ThreadState", None), comm=b"swapper/0", flags=PF.KTHREAD, cred=cred)
    task.group_leader = task
    task.exit_signal = 0
    task.signal.threads.append(task)
    return task


def make_init_task(kernel: Kernel) -> Task:
    """Process 1, not running yet: session and group of its own, nothing kills it."""
    idle = kernel.idle_task
    task = Task(kernel, idle.arch, thread=idle.thread, comm=b"init", flags=PF.KTHREAD, cred=idle.cred)
    task.signal = SignalStruct(threads=[task], flags=SignalFlags.UNKILLABLE)
    task.group_leader = task
    task.exit_signal = Signal.SIGCHLD
    task.real_parent = task.parent = idle
    idle.children.append(task)
    pid = kernel.pids.alloc_pid()
    for kind in PidType:
        init_task_pid(task, kind, pid)
        attach_pid(task, kind)
    task.start_time_ns = task.start_boottime_ns = kernel.sources.monotonic_ns()
    task.signal.start_time_ns = task.start_time_ns
    return task


def fork_from_init(kernel: Kernel) -> Task:
    """A child of init that is about to exec a program, in a session of its own."""
    child = copy_process(kernel.init_task, KernelCloneArgs(exit_signal=Signal.SIGCHLD))
    child.flags &= ~PF.KTHREAD
    become_session_leader(child)
    return child


def become_session_leader(task: Task) -> None:
    """What setsid(2) does, for a task that has just been made."""
    assert task.thread_pid is not None
    for kind in (PidType.SID, PidType.PGID):
        change_pid(task, kind, task.thread_pid)
    task.signal.leader = True


def init_main(init: Task) -> Result:
    """The life of the built-in init: reap, and end the rest when the programs of the machine have ended."""
    kernel = init.kernel
    while True:
        opts = WaitOpts(None, None, W.EXITED | W.NOHANG, wants_rusage=True)
        found = do_wait(init, opts, int)
        if isinstance(found, int) and found > 0:
            kernel.process_ended(found, opts.stat, opts.rusage)
            continue
        if not kernel.programs_running():
            if not init.children:
                kernel.halted = True
                return EXITED
            kill_everything(kernel)
        return Wait((init.signal.wait_chldexit,), partial(init_main, init), TaskState.KILLABLE, wchan="do_wait")


def kill_everything(kernel: Kernel) -> None:
    """SIGKILL for every process but init. Source: ``kernel/pid_namespace.c:zap_pid_ns_processes``."""
    for process in tuple(kernel.pids.all_processes()):
        if process is not kernel.init_task and process.sighand is not None:
            do_send_sig_info(Signal.SIGKILL, SigInfo(Signal.SIGKILL, SiCode.SI_KERNEL), process, PidType.TGID)
