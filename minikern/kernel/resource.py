"""Resource limits and resource usage as data.

Mirrors ``include/uapi/linux/resource.h``; the system calls are in `minikern.kernel.sys`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

RLIM_INFINITY = (1 << 64) - 1
RLIM_NLIMITS = 16
_STK_LIM = 8 << 20
_MLOCK_LIMIT = 8 << 20
_MQ_BYTES_MAX = 819200


class Rlimit(IntEnum):
    """Index of a limit."""

    CPU = 0
    FSIZE = 1
    DATA = 2
    STACK = 3
    CORE = 4
    RSS = 5
    NPROC = 6
    NOFILE = 7
    MEMLOCK = 8
    AS = 9
    LOCKS = 10
    SIGPENDING = 11
    MSGQUEUE = 12
    NICE = 13
    RTPRIO = 14
    RTTIME = 15


def _init_rlimits() -> list[tuple[int, int]]:
    """The limits of the first process. Source: ``include/asm-generic/resource.h:INIT_RLIMITS``."""
    limits = [(RLIM_INFINITY, RLIM_INFINITY)] * RLIM_NLIMITS
    limits[Rlimit.STACK] = (_STK_LIM, RLIM_INFINITY)
    limits[Rlimit.CORE] = (0, RLIM_INFINITY)
    limits[Rlimit.NPROC] = (32768, 32768)
    limits[Rlimit.NOFILE] = (1024, 4096)
    limits[Rlimit.MEMLOCK] = (_MLOCK_LIMIT, _MLOCK_LIMIT)
    limits[Rlimit.SIGPENDING] = (32768, 32768)
    limits[Rlimit.MSGQUEUE] = (_MQ_BYTES_MAX, _MQ_BYTES_MAX)
    limits[Rlimit.NICE] = (0, 0)
    limits[Rlimit.RTPRIO] = (0, 0)
    return limits


@dataclass(slots=True, eq=False, repr=False)
class Rlimits:
    """The limits of a process, soft and hard, indexed by `Rlimit`."""

    pairs: list[tuple[int, int]] = field(default_factory=_init_rlimits)  # (rlim_cur, rlim_max)

    def cur(self, which: Rlimit) -> int:
        """The soft limit (``rlimit``)."""
        return self.pairs[which][0]

    def copy(self) -> Rlimits:
        """The same limits for a child."""
        return Rlimits(list(self.pairs))


@dataclass(slots=True, eq=False, repr=False)
class Rusage:
    """What running has cost."""

    utime_ns: int = 0  # in user mode
    stime_ns: int = 0  # in the kernel
    min_flt: int = 0  # page faults served from memory
    maj_flt: int = 0  # … that had to read a file
    nvcsw: int = 0  # gave the processor up
    nivcsw: int = 0  # lost the processor
    inblock: int = 0  # 512-byte blocks read
    oublock: int = 0  # … written

    def add(self, other: Rusage) -> None:
        """Add the costs of ``other``."""
        self.utime_ns += other.utime_ns
        self.stime_ns += other.stime_ns
        self.min_flt += other.min_flt
        self.maj_flt += other.maj_flt
        self.nvcsw += other.nvcsw
        self.nivcsw += other.nivcsw
        self.inblock += other.inblock
        self.oublock += other.oublock
