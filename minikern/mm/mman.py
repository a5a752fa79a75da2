"""Flags of mmap(2) and its relatives that a program passes.

Mirrors ``include/uapi/asm-generic/mman*.h``. The numbers are those of every architecture that uses the generic headers.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from minikern.kernel.flags import fast_flags


@fast_flags
class Prot(IntFlag):
    """Protection of memory (``PROT_*``)."""

    NONE = 0x0
    READ = 0x1
    WRITE = 0x2
    EXEC = 0x4
    SEM = 0x8
    GROWSDOWN = 0x01000000  # from the start of the area that grows down …
    GROWSUP = 0x02000000


@fast_flags
class Map(IntFlag):
    """How to map (``MAP_*``)."""

    SHARED = 0x01
    PRIVATE = 0x02
    SHARED_VALIDATE = 0x03
    FIXED = 0x10
    ANONYMOUS = 0x20
    LOW_32BIT = 0x40  # MAP_32BIT: in the first 2 GiB; where an architecture does not define it, nobody sets it
    GROWSDOWN = 0x0100
    DENYWRITE = 0x0800  # ignored, as is the next one
    EXECUTABLE = 0x1000
    LOCKED = 0x2000
    NORESERVE = 0x4000
    POPULATE = 0x8000
    NONBLOCK = 0x10000
    STACK = 0x20000
    HUGETLB = 0x40000
    SYNC = 0x80000
    FIXED_NOREPLACE = 0x100000
    UNINITIALIZED = 0x4000000


MAP_TYPE: Final = 0x0F
LEGACY_MAP_MASK: Final = (
    Map.SHARED
    | Map.PRIVATE
    | Map.FIXED
    | Map.ANONYMOUS
    | Map.DENYWRITE
    | Map.EXECUTABLE
    | Map.UNINITIALIZED
    | Map.GROWSDOWN
    | Map.LOCKED
    | Map.NORESERVE
    | Map.POPULATE
    | Map.NONBLOCK
    | Map.STACK
    | Map.HUGETLB
    | Map.LOW_32BIT
)  # what MAP_SHARED_VALIDATE knows


@fast_flags
class Mremap(IntFlag):
    """``MREMAP_*``."""

    MAYMOVE = 1
    FIXED = 2
    DONTUNMAP = 4


@fast_flags
class Ms(IntFlag):
    """Flags of msync(2) (``MS_*``)."""

    ASYNC = 1
    INVALIDATE = 2
    SYNC = 4


@fast_flags
class Mcl(IntFlag):
    """Flags of mlockall(2) (``MCL_*``)."""

    CURRENT = 1
    FUTURE = 2
    ONFAULT = 4


MLOCK_ONFAULT: Final = 1


class Madv(IntEnum):
    """Advice for madvise(2) (``MADV_*``)."""

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    MERGEABLE = 12
    UNMERGEABLE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    COLLAPSE = 25
    HWPOISON = 100
    SOFT_OFFLINE = 101
