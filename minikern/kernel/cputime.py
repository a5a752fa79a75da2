"""How much processor time tasks have had.

Mirrors ``kernel/sched/cputime.c``. User and system time are measured, not sampled, so nothing is scaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.kernel.resource import Rusage

if TYPE_CHECKING:
    from minikern.kernel.task import Task

NSEC_PER_SEC = 10**9
NSEC_PER_USEC = 1000
USER_HZ = 100  # clock ticks per second, as times(2), /proc and accounting count them
NSEC_PER_CLOCK_T = NSEC_PER_SEC // USER_HZ


def nsec_to_clock_t(duration_ns: int) -> int:
    """Nanoseconds in clock ticks. Source: ``kernel/time/time.c:nsec_to_clock_t``."""
    return duration_ns // NSEC_PER_CLOCK_T


def thread_group_cputime(task: Task) -> tuple[int, int]:
    """User and system time in ns of all threads of the process, dead ones included.

    Source: ``kernel/sched/cputime.c:thread_group_cputime``.
    """
    total = thread_group_usage(task)
    return total.utime_ns, total.stime_ns


def thread_group_usage(task: Task) -> Rusage:
    """Everything that the threads of the process have cost, dead ones included."""
    total = Rusage()
    total.add(task.signal.exited)
    for thread in task.signal.threads:
        total.add(thread.usage)
    return total
