"""``struct stat`` (``include/uapi/asm-generic/stat.h``)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minikern.fs.kstat import Kstat

# dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, three times in seconds and nanoseconds
_STAT = struct.Struct("<QQ IIII Q 8x q i 4x q 6q 8x")
_NSEC_PER_SEC = 1_000_000_000
assert _STAT.size == 128


def pack_stat(stat: Kstat) -> bytes:
    """The 128 bytes."""
    return _STAT.pack(
        stat.dev,
        stat.ino,
        stat.mode,
        stat.nlink,
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
