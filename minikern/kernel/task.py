"""What a task is: one thread, the process that it belongs to, and what threads of a process share.

Mirrors ``include/linux/sched.h`` and ``include/linux/sched/signal.h``. Only data and what can be read off it;
the functions that change it live where Linux has them (`fork`, `exit`, `signal`, `sched` …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, auto
from typing import TYPE_CHECKING

from minikern.kernel.flags import fast_flags
from minikern.kernel.resource import Rlimits, Rusage
from minikern.kernel.siginfo import SigInfo
from minikern.kernel.waitqueue import Result, TaskState, Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.arch import Arch, ThreadState
    from minikern.fs.file import FilesStruct
    from minikern.fs.fs_struct import FsStruct
    from minikern.fs.tty import Tty
    from minikern.ipc.sem import UndoList
    from minikern.kernel.acct import Pacct
    from minikern.kernel.cred import Cred
    from minikern.kernel.itimer import CpuItimer, RealTimer
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.pid import Pid
    from minikern.kernel.posix_cpu_timers import CpuTimers
    from minikern.kernel.posix_timers import PosixTimer
    from minikern.kernel.ptrace import PtraceState
    from minikern.kernel.seccomp import Seccomp
    from minikern.mm.mm import Mm

NSIG = 64
TASK_COMM_LEN = 16


@fast_flags
class PF(IntFlag):
    """Per-task flags (``PF_*``)."""

    EXITING = 0x4
    POSTCOREDUMP = 0x8
    FORKNOEXEC = 0x40
    SUPERPRIV = 0x100
    DUMPCORE = 0x200
    SIGNALED = 0x400
    KTHREAD = 0x200000


class ExitState(Enum):
    """How far a task is on its way out. Only `Task.set_exit_state` moves it, and only forward."""

    ALIVE = auto()
    ZOMBIE = auto()  # EXIT_ZOMBIE: waits to be reaped
    TRACE = auto()  # EXIT_TRACE: reaped by its tracer, not yet by its parent
    DEAD = auto()  # EXIT_DEAD: being released


_EXIT_STATE_AFTER = {
    ExitState.ALIVE: (ExitState.ZOMBIE, ExitState.DEAD),
    ExitState.ZOMBIE: (ExitState.TRACE, ExitState.DEAD),
    ExitState.TRACE: (ExitState.ZOMBIE, ExitState.DEAD),
    ExitState.DEAD: (),
}


@fast_flags
class SignalFlags(IntFlag):
    """State of a thread group (``SIGNAL_*``)."""

    STOP_STOPPED = 0x1  # job control stop in effect
    STOP_CONTINUED = 0x2  # SIGCONT since WCONTINUED reap
    GROUP_EXIT = 0x4  # group exit in progress
    CLD_STOPPED = 0x10  # the parent is to be told of a stop
    CLD_CONTINUED = 0x20  # … of a continuation
    CLD_MASK = CLD_STOPPED | CLD_CONTINUED
    UNKILLABLE = 0x40  # init: fatal signals are dropped


@fast_flags
class JobCtl(IntFlag):
    """Per-task job control and ptrace flags (``JOBCTL_*``); the low 16 bits hold the signal that stops."""

    STOP_SIGMASK = 0xFFFF
    STOP_DEQUEUED = 1 << 16  # the stop signal was dequeued
    STOP_PENDING = 1 << 17  # the task should stop for a group stop
    STOP_CONSUME = 1 << 18  # … and takes part in counting it
    TRAP_STOP = 1 << 19  # ptrace trap for a stop
    TRAP_NOTIFY = 1 << 20  # ptrace trap for a notification
    LISTENING = 1 << 22  # the tracer listens for events
    STOPPED = 1 << 26  # is in a job control stop
    TRACED = 1 << 27  # is in a ptrace stop
    TRAP_MASK = TRAP_STOP | TRAP_NOTIFY
    PENDING_MASK = STOP_PENDING | TRAP_STOP | TRAP_NOTIFY


class PidType(IntEnum):
    """In which role a number names tasks."""

    PID = 0
    TGID = 1
    PGID = 2
    SID = 3


@dataclass(slots=True, eq=False, repr=False)
class SigPending:
    """Signals sent and not yet taken (``struct sigpending``)."""

    signal: int = 0  # bit N-1: signal N is pending
    queue: list[SigInfo] = field(default_factory=list)  # what is known of each, oldest first


@dataclass(slots=True, eq=False)
class SigAction:
    """What a process wants done with a signal (``struct k_sigaction``)."""

    handler: int = 0  # SIG_DFL, SIG_IGN or the guest address
    flags: int = 0  # SA_*
    restorer: int = 0  # guest address that calls rt_sigreturn, with SA_RESTORER
    mask: int = 0  # blocked while the handler runs


@dataclass(slots=True, eq=False, repr=False)
class SighandStruct:
    """The table of signal actions, shared by CLONE_SIGHAND (``struct sighand_struct``)."""

    action: list[SigAction] = field(default_factory=lambda: [SigAction() for _ in range(NSIG)])  # signal N at N-1
    count: int = 1  # tasks that share it
    signalfd_wqh: WaitQueue = field(default_factory=WaitQueue)  # readers of signalfds

    def copy(self) -> SighandStruct:
        """The same actions in a table of their own."""
        actions = [SigAction(each.handler, each.flags, each.restorer, each.mask) for each in self.action]
        return SighandStruct(actions)


@dataclass(slots=True, eq=False, repr=False)
class CoreState:
    """A core dump under way (``struct core_state``)."""

    threads: list[Task]  # whose registers are dumped: the one that crashed, then the others as they came last
    nr_threads: int = 0  # for how many the dump still waits
    startup: WaitQueue = field(default_factory=WaitQueue)  # where the crashed one waits for the others
    finished: WaitQueue = field(default_factory=WaitQueue)  # where the others wait for the end of the dump


@dataclass(slots=True, eq=False, repr=False)
class SignalStruct:
    """What the threads of a process share (``struct signal_struct``)."""

    pids: list[Pid | None] = field(default_factory=lambda: [None] * 4)  # by PidType; [PID] unused
    threads: list[Task] = field(default_factory=list)  # members not yet released, leader first at creation
    live: int = 1  # members that have not passed the death count of do_exit
    quick_threads: int = 1  # members that have not begun to exit; decides whether a group exit has anyone to zap
    shared_pending: SigPending = field(default_factory=SigPending)
    flags: SignalFlags = SignalFlags(0)
    group_exit_code: int = 0  # status word of the whole group, or the stop signal
    curr_target: Task | None = None  # who took the last shared signal
    core_state: CoreState | None = None  # a core dump is under way
    group_exec_task: Task | None = None  # the thread that is in de_thread
    notify_count: int = 0  # threads for which group_exec_task still waits
    exec_wait: WaitQueue = field(default_factory=WaitQueue)  # where it waits
    group_stop_count: int = 0  # threads that have yet to stop
    wait_chldexit: WaitQueue = field(default_factory=WaitQueue)  # wait4 of any thread
    is_child_subreaper: bool = False  # PR_SET_CHILD_SUBREAPER
    has_child_subreaper: bool = False  # some ancestor is one
    tty: Tty | None = None  # controlling terminal
    tty_old_pgrp: Pid | None = None  # foreground group at the time the leader gave the terminal up
    leader: bool = False  # session leader
    rlim: Rlimits = field(default_factory=Rlimits)
    oom_score_adj: int = 0  # -1000…1000
    exited: Rusage = field(default_factory=Rusage)  # sums of the threads already released
    children: Rusage = field(default_factory=Rusage)  # sums of the reaped children
    maxrss_pages: int = 0  # largest resident set, noted when the group dies
    cmaxrss_pages: int = 0  # largest among the reaped children
    itimers: list[RealTimer | CpuItimer | None] = field(default_factory=lambda: [None] * 3)  # by ItimerWhich
    cpu_timers: CpuTimers | None = None  # timers on the processor time of the process; made when needed
    posix_timers: dict[int, PosixTimer] = field(default_factory=dict)  # by timer id
    next_posix_timer_id: int = 0
    start_time_ns: int = 0  # monotonic
    pacct: Pacct | None = None  # for process accounting


@dataclass(slots=True, eq=False, repr=False)
class SyscallState:
    """The system call that a task is in."""

    nr: int  # -1: none, and nothing to restart
    args: tuple[int, ...]  # the six argument registers as they were on entry
    result: int = 0  # what it returned, once it has


@dataclass(slots=True, eq=False, repr=False)
class Task:
    """One thread (``struct task_struct``)."""

    kernel: Kernel
    arch: Arch  # the backend of the program it runs
    thread: ThreadState  # registers while it is not on the processor (``thread_struct``)
    comm: bytes = b""  # at most 15 bytes
    flags: PF = PF(0)

    # Scheduling
    state: TaskState = TaskState.RUNNING
    wait: Wait | None = None  # the sleep it is in, when it is in one
    on_rq: bool = False  # is on the run queue
    policy: int = 0  # SCHED_OTHER …
    rt_priority: int = 0
    nice: int = 0
    cpus_mask: int = 1  # sched_setaffinity
    reset_on_fork: bool = False
    ioprio: int = 0  # class and level of ioprio_set

    # Identity and family
    thread_pid: Pid | None = None  # its own number
    group_leader: Task = None  # type: ignore[assignment]  # set by copy_process
    real_parent: Task | None = None  # who made it, or adopted it
    parent: Task | None = None  # who gets SIGCHLD: the tracer, else real_parent
    children: list[Task] = field(default_factory=list)  # thread group leaders whose real_parent is this thread
    ptraced: list[Task] = field(default_factory=list)  # tasks it traces
    exit_signal: int = -1  # sent to the parent at death; -1 for threads other than the leader
    pdeath_signal: int = 0  # PR_SET_PDEATHSIG
    self_exec_id: int = 0  # counts execs, so that exit_signal of an old image is not trusted
    parent_exec_id: int = 0
    no_new_privs: bool = False
    dumpable: int = 1

    # Death
    exit_state: ExitState = ExitState.ALIVE
    exit_code: int = 0  # status word
    vfork_done: WaitQueue | None = None  # the parent waits here until mm_release
    did_exec: bool = False  # setpgid by the parent is refused afterwards

    # Signals
    signal: SignalStruct = field(default_factory=SignalStruct)
    sighand: SighandStruct | None = field(default_factory=SighandStruct)  # None once released
    blocked: int = 0  # signal mask
    saved_sigmask: int | None = None  # restored after the handler (sigsuspend, ppoll …)
    real_blocked: int = 0  # mask outside rt_sigtimedwait
    pending: SigPending = field(default_factory=SigPending)
    sigpending: bool = False  # TIF_SIGPENDING: look for signals before going back to user mode
    in_get_signal: bool = False  # stopped on the way to user mode: goes on looking for signals when it runs again
    jobctl: JobCtl = JobCtl(0)
    sas_ss_sp: int = 0  # alternate signal stack
    sas_ss_size: int = 0
    sas_ss_flags: int = 2  # SS_DISABLE
    restart_block: Callable[[], Result] | None = None  # what restart_syscall goes on with
    last_siginfo: SigInfo | None = None  # what PTRACE_GETSIGINFO shows
    delivering: SigInfo | None = None  # the tracer has seen it and wants it delivered
    ptrace: PtraceState | None = None  # None: not traced

    # Resources
    mm: Mm | None = None
    fs: FsStruct | None = None
    files: FilesStruct | None = None
    cred: Cred = None  # type: ignore[assignment]  # set by copy_process
    sysvsem: UndoList | None = None

    # Threads library
    set_child_tid: int = 0  # guest address, CLONE_CHILD_SETTID
    clear_child_tid: int = 0  # guest address, CLONE_CHILD_CLEARTID
    robust_list: int = 0  # guest address of the head
    pi_state_list: list[object] = field(default_factory=list)  # priority-inheritance futexes it owns
    rseq: int = 0  # guest address of the registered area
    rseq_len: int = 0  # its size in bytes
    rseq_sig: int = 0  # what must stand before an abort handler

    # The call it is in
    syscall: SyscallState = field(default_factory=lambda: SyscallState(-1, ()))

    # Accounting
    usage: Rusage = field(default_factory=Rusage)
    start_time_ns: int = 0  # monotonic
    start_boottime_ns: int = 0
    cpu_timers: CpuTimers | None = None  # timers on its processor time; made when needed
    timer_slack_ns: int = 50_000
    default_timer_slack_ns: int = 50_000  # what PR_SET_TIMERSLACK 0 goes back to
    seccomp: Seccomp | None = None  # filters in force, None: none
    personality: int = 0  # PER_* and its flags

    def __repr__(self) -> str:
        return f"<task {self.pid} {self.comm.decode(errors='replace')} {self.state.name}/{self.exit_state.name}>"

    @property
    def pid(self) -> int:
        """The thread id (``task_pid_nr``); 0 once released."""
        return self.thread_pid.nr if self.thread_pid is not None else 0

    @property
    def tgid(self) -> int:
        """The process id (``task_tgid_nr``)."""
        pid = self.signal.pids[PidType.TGID]
        return pid.nr if pid is not None else 0

    def is_leader(self) -> bool:
        """Whether it is the leader of its thread group (``thread_group_leader``)."""
        return self.exit_signal >= 0

    def set_exit_state(self, new: ExitState) -> None:
        """Move on towards the end; KernelBug when ``new`` cannot follow."""
        if new not in _EXIT_STATE_AFTER[self.exit_state]:
            from minikern.kernel.errno import KernelBug

            raise KernelBug(f"{self!r}: exit state {self.exit_state.name} cannot become {new.name}")
        self.exit_state = new
