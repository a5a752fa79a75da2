"""What running has cost, as programs see it.

Mirrors ``kernel/sys.c:getrusage``; the data is in `minikern.kernel.resource`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.cputime import NSEC_PER_SEC, NSEC_PER_USEC, thread_group_usage
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.resource import Rusage
from minikern.kernel.syscalls import Int, Ptr, syscall
from minikern.mm.uaccess import copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

RUSAGE_SELF: Final = 0
RUSAGE_CHILDREN: Final = -1  # the reaped ones
RUSAGE_BOTH: Final = -2  # what wait4 reports; no system call asks for it
RUSAGE_THREAD: Final = 1
_RUSAGE = struct.Struct("<18q")  # struct rusage
assert _RUSAGE.size == 144
_PAGE_KIB = 4


@syscall("getrusage")
def sys_getrusage(task: Task, who: Int, ru: Ptr) -> Result:
    """Source: ``kernel/sys.c:getrusage``."""
    if who not in (RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD):
        raise KernelError(Errno.EINVAL)
    copy_to_user(task, ru, getrusage(task, who))
    return 0


def getrusage(task: Task, who: int) -> bytes:
    """The 144 bytes of ``struct rusage``. Source: ``kernel/sys.c:getrusage``."""
    signal = task.signal
    usage = Rusage()
    maxrss_pages = 0
    if who == RUSAGE_THREAD:
        usage.add(task.usage)
        maxrss_pages = signal.maxrss_pages
    if who in (RUSAGE_CHILDREN, RUSAGE_BOTH):
        usage.add(signal.children)
        maxrss_pages = signal.cmaxrss_pages
    if who in (RUSAGE_SELF, RUSAGE_BOTH):
        usage.add(thread_group_usage(task))
        maxrss_pages = max(maxrss_pages, signal.maxrss_pages)
    if who != RUSAGE_CHILDREN and task.mm is not None:
        maxrss_pages = max(maxrss_pages, task.mm.max_rss)
    return pack_rusage(usage, maxrss_pages)


def pack_rusage(usage: Rusage, maxrss_pages: int) -> bytes:
    """``struct rusage``; Linux leaves ixrss, idrss, isrss, nswap, msgsnd, msgrcv and nsignals 0."""
    return _RUSAGE.pack(
        *_timeval(usage.utime_ns),
        *_timeval(usage.stime_ns),
        maxrss_pages * _PAGE_KIB,
        *(0, 0, 0),
        usage.min_flt,
        usage.maj_flt,
        0,
        usage.inblock,
        usage.oublock,
        *(0, 0, 0),
        usage.nvcsw,
        usage.nivcsw,
    )


def _timeval(duration_ns: int) -> tuple[int, int]:
    seconds, rest_ns = divmod(duration_ns, NSEC_PER_SEC)
    return seconds, rest_ns // NSEC_PER_USEC
