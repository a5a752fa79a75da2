"""When no memory is left: who has to go.

Mirrors ``mm/oom_kill.c``. The reaper of Linux, a kernel thread that empties the victim's memory before the victim runs
again, is a plain function call here, so that whoever asked for memory gets it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern.kernel.siginfo import Signal
from minikern.kernel.task import PidType
from minikern.mm.memory import zap_page_range
from minikern.mm.vma import VM_LOCKED, VM_PFNMAP, VM_SHARED

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.mm.mm import Mm

OOM_SCORE_ADJ_MIN: Final = -1000  # never chosen


def out_of_memory(kernel: Kernel) -> Task | None:
    """Kill the process that holds the most memory and take that memory; returns the victim, None: there is none.

    Source: ``mm/oom_kill.c:out_of_memory``.
    """
    victim = _select_bad_process(kernel)
    if victim is None:
        return None
    _oom_kill_process(kernel, victim)
    return victim


def oom_badness(task: Task, total_pages: int) -> int | None:
    """How much killing a process would gain, in pages; None: it must not be killed. Source: ``mm/oom_kill.c:oom_badness``."""
    mm = _process_mm(task)
    adjustment = task.signal.oom_score_adj
    if mm is None or mm.oom_reaped or adjustment == OOM_SCORE_ADJ_MIN or _is_global_init(task):
        return None
    return mm.rss + len(mm.tables) + adjustment * total_pages // 1000


def _select_bad_process(kernel: Kernel) -> Task | None:
    """The process with the highest badness. Source: ``mm/oom_kill.c:select_bad_process``."""
    chosen, most = None, None
    for task in kernel.pids.all_processes():
        points = oom_badness(task, kernel.frames.total)
        if points is not None and (most is None or points > most):
            chosen, most = task, points
    return chosen


def _oom_kill_process(kernel: Kernel, victim: Task) -> None:
    """SIGKILL to the victim and to whoever shares its memory, then the memory. Source: ``mm/oom_kill.c:__oom_kill_process``."""
    from minikern.kernel.signal import do_send_sig_info, kernel_siginfo

    mm = _process_mm(victim)
    assert mm is not None
    if (hook := kernel.events.oom_kill) is not None:
        hook(victim, mm.rss)
    for task in kernel.pids.all_processes():
        if _process_mm(task) is mm and not _is_global_init(task):
            do_send_sig_info(Signal.SIGKILL, kernel_siginfo(Signal.SIGKILL), task, PidType.TGID)
    _oom_reap_task_mm(mm)


def _oom_reap_task_mm(mm: Mm) -> None:
    """Take the private memory of an address space whose processes are dying. Source: ``mm/oom_kill.c:__oom_reap_task_mm``."""
    mm.oom_reaped = True
    for vma in mm.vmas:
        if not vma.flags & (VM_PFNMAP | VM_LOCKED | VM_SHARED):
            zap_page_range(vma, vma.start, vma.end)
    mm.flush_tlb()


def _process_mm(task: Task) -> Mm | None:
    """The memory of a process, whichever of its threads still has it. Source: ``mm/oom_kill.c:find_lock_task_mm``."""
    return next((thread.mm for thread in task.signal.threads if thread.mm is not None), None)


def _is_global_init(task: Task) -> bool:
    return task.tgid == 1
