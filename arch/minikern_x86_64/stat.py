"""``struct stat`` (``arch/x86/include/uapi/asm/stat.h``)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minikern.fs.kstat import Kstat

# dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, three times in seconds and nanoseconds
_STAT = struct.Struct("<QQQ III 4x Q qqq 6q 24x")
_NSEC_PER_SEC = 1_000_000_000
assert _STAT.size == 144


def pack_stat(stat: Kstat) -> bytes:
    """The 144 bytes."""
    return _STAT.pack(
        stat.dev,
        stat.ino,
        stat.nlink,
        stat.mode,
        stat.uid,
        stat.gid,
        stat.rdev,
        stat.size,
        stat.blksize,
        stat.blocks,
        *divmod(stat.atime_ns, _NSEC_PER_SEC),
        *divmod(stat.mtime_ns, _NSEC_PER_SEC),
        *divmod(stat.ctime_ns, _NSEC_PER_SEC),
    )
