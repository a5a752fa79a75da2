"""What /proc says of the machine.

Mirrors ``fs/proc/{uptime,loadavg,meminfo,stat,version,cpuinfo,filesystems,cmdline,devices}.c``. Left out: everything about
hardware that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.proc_base import ProcRoot
from minikern.fs.proc_sys import add_sysctls
from minikern.fs.procfs import ProcSuper
from minikern.kernel.cputime import nsec_to_clock_t
from minikern.kernel.sys import RELEASE, VERSION
from minikern.kernel.waitqueue import TaskState

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

_NS = 10**9
_KIB_PER_PAGE = 4
_COMPILER = "(minikern) (python)"


def proc_mount(kernel: Kernel) -> ProcSuper:
    """A new /proc with everything in it. Source: ``fs/proc/root.c:proc_root_init``."""
    sb = ProcSuper(kernel)
    root = ProcRoot(sb)
    sb.set_root(root)
    root.add_link("self", _self)
    root.add_link("thread-self", _thread_self)
    root.add_link("mounts", _mounts)
    for name, show in (
        ("cmdline", _cmdline),
        ("cpuinfo", _cpuinfo),
        ("devices", _devices),
        ("filesystems", _filesystems),
        ("loadavg", _loadavg),
        ("meminfo", _meminfo),
        ("stat", _stat),
        ("swaps", _swaps),
        ("uptime", _uptime),
        ("version", _version),
        ("vmstat", _vmstat),
    ):
        root.add_file(name, show)
    root.mkdir_p("net")
    add_sysctls(root.mkdir_p("sys"))
    return sb


def _self(task: Task) -> str:
    return str(task.tgid)


def _thread_self(task: Task) -> str:
    return f"{task.tgid}/task/{task.pid}"


def _mounts(task: Task) -> str:
    return "self/mounts"


def _cmdline(task: Task) -> str:
    return "\n"


def _version(task: Task) -> str:
    return f"Linux version {RELEASE} {_COMPILER} {VERSION}\n"


def _cpuinfo(task: Task) -> str:
    """One part per processor, in the words of the reader's architecture."""
    paragraph = task.arch.cpuinfo().strip("\n")
    return "".join(f"processor\t: {cpu}\n{paragraph}\n\n" for cpu in range(task.kernel.config.cpus))


def _devices(task: Task) -> str:
    majors = sorted({number[0]: device.name for number, device in task.kernel.chrdevs.table.items()}.items())
    return (
        "Character devices:\n" + "".join(f"{major:3} {name}\n" for major, name in majors if name) + "\nBlock devices:\n"
    )


def _filesystems(task: Task) -> str:
    return "".join(f"nodev\t{name}\n" for name in ("proc", "tmpfs", "devtmpfs", "devpts", "overlay", "hostfs", "sysfs"))


def _loadavg(task: Task) -> str:
    """Nobody keeps an average. Source: ``fs/proc/loadavg.c:loadavg_proc_show``."""
    tasks = list(task.kernel.pids.all_tasks())
    running = sum(each.state is TaskState.RUNNING for each in tasks)
    return f"0.00 0.00 0.00 {running}/{len(tasks)} {task.kernel.pids.last}\n"


def _uptime(task: Task) -> str:
    """Since boot, and how much of it the processor had nothing to do. Source: ``fs/proc/uptime.c:uptime_proc_show``."""
    up_ns, idle_ns = _up_and_idle_ns(task.kernel)
    return f"{up_ns / _NS:.2f} {idle_ns / _NS:.2f}\n"


def _up_and_idle_ns(kernel: Kernel) -> tuple[int, int]:
    up_ns = kernel.sources.monotonic_ns() - kernel.boot_ns
    user_ns, system_ns = _cpu_time_ns(kernel)
    return up_ns, max(up_ns - user_ns - system_ns, 0)


def _cpu_time_ns(kernel: Kernel) -> tuple[int, int]:
    """What all processes that are still there have used, and those that init has reaped."""
    user_ns = system_ns = 0
    for process in kernel.pids.all_processes():
        signal = process.signal
        for usage in (signal.exited, signal.children, *(thread.usage for thread in signal.threads)):
            user_ns += usage.utime_ns
            system_ns += usage.stime_ns
    return user_ns, system_ns


def _meminfo(task: Task) -> str:
    """Source: ``fs/proc/meminfo.c:meminfo_proc_show``."""
    frames = task.kernel.frames
    cached, shmem = frames.nr_file_pages, frames.nr_shmem
    anonymous = max(frames.total - frames.nr_free - cached, 0)
    lines = (
        ("MemTotal", frames.total),
        ("MemFree", frames.nr_free),
        ("MemAvailable", frames.nr_free + cached - shmem),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", anonymous),
        ("Inactive", cached),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", shmem),
        ("Active(file)", 0),
        ("Inactive(file)", cached - shmem),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", shmem),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", frames.total // 2),
        ("Committed_AS", anonymous),
    )
    return "".join(f"{name + ':':<16}{pages * _KIB_PER_PAGE:8} kB\n" for name, pages in lines)


def _vmstat(task: Task) -> str:
    frames = task.kernel.frames
    return f"nr_free_pages {frames.nr_free}\nnr_file_pages {frames.nr_file_pages}\nnr_shmem {frames.nr_shmem}\n"


def _swaps(task: Task) -> str:
    return "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def _stat(task: Task) -> str:
    """Source: ``fs/proc/stat.c:show_stat``."""
    kernel = task.kernel
    user_ns, system_ns = _cpu_time_ns(kernel)
    _, idle_ns = _up_and_idle_ns(kernel)
    times = f"{nsec_to_clock_t(user_ns)} 0 {nsec_to_clock_t(system_ns)} {nsec_to_clock_t(idle_ns)} 0 0 0 0 0 0"
    idle = f"0 0 0 {nsec_to_clock_t(kernel.sources.monotonic_ns() - kernel.boot_ns)} 0 0 0 0 0 0"
    cpus = "".join(f"cpu{cpu} {idle if cpu else times}\n" for cpu in range(kernel.config.cpus))
    tasks = list(kernel.pids.all_tasks())
    running = sum(each.state is TaskState.RUNNING for each in tasks)
    switches = sum(each.usage.nvcsw + each.usage.nivcsw for each in tasks)
    return (
        f"cpu  {times}\n{cpus}intr 0\nctxt {switches}\nbtime {kernel.boot_realtime_ns // _NS}\n"
        f"processes {kernel.total_forks}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"
    )
