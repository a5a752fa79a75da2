"""What /proc/PID says of a task: who it is, what it does, what it may do.

Mirrors ``fs/proc/array.c`` and the smaller files of ``fs/proc/base.c``. A zombie has no memory and no descriptors; what is
about those reads as zero or empty. Left out: NUMA, cgroups, scheduler statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.kdev_t import major, minor
from minikern.fs.path import Path, prepend_path
from minikern.fs.procfs import mangle
from minikern.kernel.cputime import nsec_to_clock_t, thread_group_usage
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import task_pgrp, task_session
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.siginfo import SIG_DFL, SIG_IGN
from minikern.kernel.task import PF, TASK_COMM_LEN, ExitState, Task
from minikern.kernel.waitqueue import TaskState

if TYPE_CHECKING:
    from minikern.fs.namespace import Mount
    from minikern.mm.mm import Mm

_KIB_PER_PAGE = 4
_RT_PRIO_OFFSET = -1  # the priority of a real-time task is below zero
_NO_ID = 0xFFFFFFFF
_OOM_SCORE_ADJ_MAX = 1000
_MASK_64 = (1 << 64) - 1

# Source: ``task_state_array``
_STATES = {
    TaskState.RUNNING: ("R", "running"),
    TaskState.INTERRUPTIBLE: ("S", "sleeping"),
    TaskState.KILLABLE: ("D", "disk sleep"),
    TaskState.UNINTERRUPTIBLE: ("D", "disk sleep"),
    TaskState.STOPPED: ("T", "stopped"),
    TaskState.TRACED: ("t", "tracing stop"),
    TaskState.DEAD: ("X", "dead"),
}

# Source: ``lnames`` of fs/proc/base.c
_LIMIT_NAMES = (
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
)


def task_state(task: Task) -> tuple[str, str]:
    """The letter and the word for what a task does. Source: ``fs/proc/array.c:get_task_state``."""
    if task.exit_state in (ExitState.ZOMBIE, ExitState.TRACE):
        return "Z", "zombie"
    if task.exit_state is ExitState.DEAD:
        return "X", "dead"
    return _STATES[task.state]


def task_prio(task: Task) -> int:
    """The priority as ps shows it. Source: ``kernel/sched/syscalls.c:task_prio``."""
    return _RT_PRIO_OFFSET - task.rt_priority if task.rt_priority else 20 + task.nice


def _signal_masks(task: Task) -> tuple[int, int]:
    """Signals that are ignored, and that have a handler. Source: ``fs/proc/array.c:collect_sigign_sigcatch``."""
    ignored = caught = 0
    if task.sighand is not None:
        for nr, action in enumerate(task.sighand.action):
            if action.handler == SIG_IGN:
                ignored |= 1 << nr
            elif action.handler != SIG_DFL:
                caught |= 1 << nr
    return ignored, caught


def _ppid(task: Task) -> int:
    parent = task.real_parent
    return parent.tgid if parent is not None and task.exit_state is not ExitState.DEAD else 0


# -- stat


def show_tgid_stat(reader: Task, task: Task) -> bytes:
    """The whole process. Source: ``fs/proc/array.c:proc_tgid_stat``."""
    return do_task_stat(reader, task, whole=True)


def show_tid_stat(reader: Task, task: Task) -> bytes:
    """One thread. Source: ``fs/proc/array.c:proc_tid_stat``."""
    return do_task_stat(reader, task, whole=False)


def do_task_stat(reader: Task, task: Task, *, whole: bool) -> bytes:
    """The line that ps and top live by. Source: ``fs/proc/array.c:do_task_stat``."""
    signal = task.signal
    tty = signal.tty
    pgrp, session = task_pgrp(task), task_session(task)
    usage = thread_group_usage(task) if whole else task.usage
    children = signal.children
    mm = task.mm
    permitted = ptrace_may_access(reader, task, fscreds=True)
    shown = mm if permitted else None
    ignored, caught = _signal_masks(task)
    asleep = int(task.state is not TaskState.RUNNING)
    in_call = shown is not None and task.syscall.nr >= 0
    fields = (
        _ppid(task),
        pgrp.nr if pgrp is not None else -1,
        session.nr if session is not None else -1,
        tty.dev if tty is not None else 0,
        tty.pgrp.nr if tty is not None and tty.pgrp is not None else -1,
        int(task.flags),
        usage.min_flt,
        children.min_flt if whole else 0,
        usage.maj_flt,
        children.maj_flt if whole else 0,
        nsec_to_clock_t(usage.utime_ns),
        nsec_to_clock_t(usage.stime_ns),
        nsec_to_clock_t(children.utime_ns),
        nsec_to_clock_t(children.stime_ns),
        task_prio(task),
        task.nice,
        len(signal.threads) if task.sighand is not None else 0,
        0,  # itrealvalue, always 0
        nsec_to_clock_t(max(task.start_boottime_ns - task.kernel.boot_ns, 0)),
        mm.total_vm * _KIB_PER_PAGE << 10 if mm is not None else 0,
        mm.rss if mm is not None else 0,
        signal.rlim.cur(Rlimit.RSS),
        shown.start_code if shown is not None else 0,
        shown.end_code if shown is not None else 0,
        shown.start_stack if shown is not None else 0,
        task.arch.stack_pointer(task) if in_call and task.flags & PF.EXITING else 0,
        task.arch.instruction_pointer(task) if in_call and task.flags & PF.EXITING else 0,
        task.pending.signal & 0x7FFFFFFF,
        task.blocked & 0x7FFFFFFF,
        ignored & 0x7FFFFFFF,
        caught & 0x7FFFFFFF,
        asleep if permitted else 0,  # wchan, as a yes or no
        0,
        0,
        task.exit_signal,
        0,  # processor
        task.rt_priority,
        task.policy,
        0,  # delays by block devices
        0,  # guest time
        0,
        *_layout(shown),
        task.exit_code if permitted else 0,
    )
    head = b"%d (%s) %s" % (task.pid, task.comm, task_state(task)[0].encode())
    return head + b" " + b" ".join(b"%d" % each for each in fields) + b"\n"


def _layout(mm: Mm | None) -> tuple[int, ...]:
    """Where data, arguments and environment are."""
    if mm is None:
        return (0,) * 7
    return mm.start_data, mm.end_data, mm.start_brk, mm.arg_start, mm.arg_end, mm.env_start, mm.env_end


# -- status


def show_status(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/array.c:proc_pid_status``."""
    letter, word = task_state(task)
    cred = task.cred
    tracer = task.parent.pid if task.ptrace is not None and task.parent is not None else 0
    pgrp, session = task_pgrp(task), task_session(task)
    fdsize = 0
    if task.files is not None:
        fdsize = max(64, 1 << (max(task.files.top, 1) - 1).bit_length())
    umask = f"Umask:\t{task.fs.umask:#06o}\n".replace("0o", "") if task.fs is not None else ""
    lines = [
        f"{umask}State:\t{letter} ({word})",
        f"Tgid:\t{task.tgid}",
        "Ngid:\t0",
        f"Pid:\t{task.pid}",
        f"PPid:\t{_ppid(task)}",
        f"TracerPid:\t{tracer}",
        f"Uid:\t{cred.uid}\t{cred.euid}\t{cred.suid}\t{cred.fsuid}",
        f"Gid:\t{cred.gid}\t{cred.egid}\t{cred.sgid}\t{cred.fsgid}",
        f"FDSize:\t{fdsize}",
        "Groups:\t" + " ".join(str(gid) for gid in cred.groups) + " ",
        f"NStgid:\t{task.tgid}",
        f"NSpid:\t{task.pid}",
        f"NSpgid:\t{pgrp.nr if pgrp is not None else 0}",
        f"NSsid:\t{session.nr if session is not None else 0}",
        f"Kthread:\t{int(bool(task.flags & PF.KTHREAD))}",
    ]
    if task.mm is not None:
        lines += _status_mm(task.mm)
        lines += [f"CoreDumping:\t{int(bool(task.flags & PF.DUMPCORE))}", "THP_enabled:\t0"]
    lines += _status_signals(task)
    for name, caps in (
        ("Inh", cred.cap_inheritable),
        ("Prm", cred.cap_permitted),
        ("Eff", cred.cap_effective),
        ("Bnd", cred.cap_bset),
        ("Amb", cred.cap_ambient),
    ):
        lines.append(f"Cap{name}:\t{caps:016x}")
    seccomp = task.seccomp
    cpus = task.kernel.config.cpus
    lines += [
        f"NoNewPrivs:\t{int(task.no_new_privs)}",
        f"Seccomp:\t{int(seccomp.mode) if seccomp is not None else 0}",
        f"Seccomp_filters:\t{len(seccomp.filters) if seccomp is not None else 0}",
        "Speculation_Store_Bypass:\tnot vulnerable",
        "SpeculationIndirectBranch:\tunsupported",
        f"Cpus_allowed:\t{task.cpus_mask:x}",
        f"Cpus_allowed_list:\t{_cpu_list(task.cpus_mask, cpus)}",
        "Mems_allowed:\t1",
        "Mems_allowed_list:\t0",
        f"voluntary_ctxt_switches:\t{task.usage.nvcsw}",
        f"nonvoluntary_ctxt_switches:\t{task.usage.nivcsw}",
    ]
    return b"Name:\t" + _escape_comm(task.comm) + b"\n" + "\n".join(lines).encode() + b"\n"


def _status_mm(mm: Mm) -> list[str]:
    """Source: ``fs/proc/task_mmu.c:task_mem``."""
    text = ((mm.end_code + 4095) & ~4095) - (mm.start_code & ~4095) >> 10 if mm.end_code else 0
    text = min(text, mm.exec_vm * _KIB_PER_PAGE)
    sizes = (
        ("VmPeak", mm.max_vm),
        ("VmSize", mm.total_vm),
        ("VmLck", mm.locked_vm),
        ("VmPin", 0),
        ("VmHWM", mm.max_rss),
        ("VmRSS", mm.rss),
        ("RssAnon", mm.rss_anon),
        ("RssFile", mm.rss_file),
        ("RssShmem", mm.rss_shmem),
        ("VmData", mm.data_vm),
        ("VmStk", mm.stack_vm),
    )
    lines = [f"{name}:\t{pages * _KIB_PER_PAGE:8} kB" for name, pages in sizes]
    lines.append(f"VmExe:\t{text:8} kB")
    lines.append(f"VmLib:\t{mm.exec_vm * _KIB_PER_PAGE - text:8} kB")
    lines.append(f"VmPTE:\t{len(mm.tables) * _KIB_PER_PAGE:8} kB")
    lines.append(f"VmSwap:\t{0:8} kB")
    lines.append(f"HugetlbPages:\t{0:8} kB")
    return lines


def _status_signals(task: Task) -> list[str]:
    """Source: ``fs/proc/array.c:task_sig``."""
    ignored, caught = _signal_masks(task)
    queued = task.kernel.sigpending_count.get(task.cred.uid, 0)
    return [
        f"Threads:\t{len(task.signal.threads) if task.sighand is not None else 0}",
        f"SigQ:\t{queued}/{task.signal.rlim.cur(Rlimit.SIGPENDING)}",
        f"SigPnd:\t{task.pending.signal:016x}",
        f"ShdPnd:\t{task.signal.shared_pending.signal:016x}",
        f"SigBlk:\t{task.blocked:016x}",
        f"SigIgn:\t{ignored:016x}",
        f"SigCgt:\t{caught:016x}",
    ]


def _cpu_list(mask: int, cpus: int) -> str:
    """The processors in a mask as ranges: ``0-3,5`` (``%*pbl``)."""
    ranges: list[list[int]] = []
    for cpu in range(cpus):
        if mask >> cpu & 1:
            if ranges and ranges[-1][1] == cpu - 1:
                ranges[-1][1] = cpu
            else:
                ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _escape_comm(comm: bytes) -> bytes:
    """Source: ``fs/proc/array.c:proc_task_name``."""
    return comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")


# -- smaller files


def show_comm(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/base.c:comm_show``."""
    return task.comm + b"\n"


def store_comm(writer: Task, task: Task, data: bytes) -> None:
    """A process may name its threads. Source: ``fs/proc/base.c:comm_write``."""
    if writer.signal is not task.signal:
        raise KernelError(Errno.EINVAL)
    task.comm = data.split(b"\0")[0][: TASK_COMM_LEN - 1]


def show_personality(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:proc_pid_personality``."""
    return f"{task.personality:08x}\n"


def show_limits(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:proc_pid_limits``."""
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for (name, unit), (soft, hard) in zip(_LIMIT_NAMES, task.signal.rlim.pairs, strict=True):
        values = " ".join(f"{'unlimited' if each == RLIM_INFINITY else each:<20}" for each in (soft, hard))
        lines.append(f"{name:<25} {values} " + (f"{unit:<10}\n" if unit else "\n"))
    return "".join(lines)


def show_syscall(reader: Task, task: Task) -> str:
    """Number, arguments, stack pointer and program counter of a call that sleeps. Source: ``proc_pid_syscall``."""
    if task.state is TaskState.RUNNING or task.mm is None:
        return "running\n"
    where = f"{task.arch.stack_pointer(task):#x} {task.arch.instruction_pointer(task):#x}\n"
    if task.syscall.nr < 0:
        return f"-1 {where}"
    return f"{task.syscall.nr} " + " ".join(f"{arg & _MASK_64:#x}" for arg in task.syscall.args) + f" {where}"


def show_wchan(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:proc_pid_wchan``."""
    if task.wait is None or not task.wait.wchan or not ptrace_may_access(reader, task, fscreds=True):
        return "0"
    return task.wait.wchan


def show_children(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/array.c:children_seq_show``."""
    return "".join(f"{child.pid} " for child in task.children)


def show_oom_score(reader: Task, task: Task) -> str:
    """How much of the memory it uses, in thousandths. Source: ``fs/proc/base.c:proc_oom_score``."""
    total = task.kernel.frames.total
    rss = task.mm.rss if task.mm is not None else 0
    badness = rss * _OOM_SCORE_ADJ_MAX // total + task.signal.oom_score_adj
    return f"{max((_OOM_SCORE_ADJ_MAX + badness) * 2 // 3, 0)}\n"


def show_oom_score_adj(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:oom_score_adj_read``."""
    return f"{task.signal.oom_score_adj}\n"


def store_oom_score_adj(writer: Task, task: Task, data: bytes) -> None:
    """Source: ``fs/proc/base.c:oom_score_adj_write``."""
    try:
        value = int(data.strip())
    except ValueError:
        raise KernelError(Errno.EINVAL) from None
    if not -_OOM_SCORE_ADJ_MAX <= value <= _OOM_SCORE_ADJ_MAX:
        raise KernelError(Errno.EINVAL)
    if value < task.signal.oom_score_adj and not capable(writer, Cap.SYS_RESOURCE):
        raise KernelError(Errno.EACCES)
    task.signal.oom_score_adj = value


def show_unset_id(reader: Task, task: Task) -> str:
    """loginuid and sessionid: never set. Source: ``fs/proc/base.c:proc_loginuid_read``."""
    return f"{_NO_ID}"


def show_io(reader: Task, task: Task) -> str:
    """Bytes moved are not counted, blocks are. Source: ``fs/proc/base.c:do_io_accounting``."""
    usage = thread_group_usage(task)
    return (
        "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\n"
        f"read_bytes: {usage.inblock * 512}\nwrite_bytes: {usage.oublock * 512}\ncancelled_write_bytes: 0\n"
    )


def show_timerslack(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:timerslack_ns_show``."""
    return f"{task.timer_slack_ns}\n"


# -- mounts


def _visible(task: Task) -> list[tuple[Mount, bytes]]:
    """What is mounted below the root of a task, and where."""
    if task.fs is None:
        raise KernelError(Errno.EINVAL)
    found = []
    for mount in task.kernel.mounts.mounts:
        name, reachable = prepend_path(Path(mount, mount.root), task.fs.root)
        if reachable:
            found.append((mount, name))
    return found


def show_mounts(reader: Task, task: Task) -> str:
    """Source: ``fs/proc_namespace.c:show_vfsmnt``."""
    return "".join(
        f"{mangle(mount.source.encode())} {mangle(name)} {mount.sb.fstype} {mount.options()}{mount.sb.show_options()} 0 0\n"
        for mount, name in _visible(task)
    )


def show_mountinfo(reader: Task, task: Task) -> str:
    """Source: ``fs/proc_namespace.c:show_mountinfo``."""
    lines = []
    for mount, name in _visible(task):
        parent = mount.parent.id if mount.parent is not None else mount.id
        device = f"{major(mount.sb.dev)}:{minor(mount.sb.dev)}"
        inside = mangle(mount.root_name())
        access = mount.options().split(",")[0]
        lines.append(
            f"{mount.id} {parent} {device} {inside} {mangle(name)} {mount.options()} - "
            f"{mount.sb.fstype} {mangle(mount.source.encode())} {access}{mount.sb.show_options()}\n"
        )
    return "".join(lines)
