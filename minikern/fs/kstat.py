"""What stat(2) knows of a file, before an architecture gives it its layout. Mirrors ``include/linux/stat.h``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Kstat:
    """Attributes of an inode (``struct kstat``)."""

    dev: int  # of the file system
    ino: int
    mode: int  # type and permissions
    nlink: int
    uid: int
    gid: int
    rdev: int  # of a special file
    size: int  # bytes
    blksize: int  # bytes, preferred for I/O
    blocks: int  # of 512 bytes
    atime_ns: int  # nanoseconds since 1970
    mtime_ns: int
    ctime_ns: int
    btime_ns: int | None = None  # birth; None: not known, or not asked for
    attributes: int = 0  # STATX_ATTR_*
    mnt_id: int = 0
