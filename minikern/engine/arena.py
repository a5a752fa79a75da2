"""Physical memory: one private anonymous mapping of the host that every address space takes its frames from.

The host commits a page when it is first touched, so a large arena costs nothing but address space.  There is no
counterpart in Linux; the nearest thing is the memory that the firmware hands to the kernel at boot.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

# mmap.MAP_NORESERVE has a name only since Python 3.13, and only where the system has the flag.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


class Arena:
    """The physical memory of one machine; several Cpus may map it at once."""

    def __init__(self, size_bytes: int) -> None:
        if size_bytes <= 0 or size_bytes % PAGE_SIZE:
            raise ValueError(f"the arena must be a positive number of {PAGE_SIZE}-byte pages, not {size_bytes} bytes")
        self.size = size_bytes
        # MAP_PRIVATE: a host fork must not share the guest's memory with its parent.
        self._mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self.view = memoryview(self._mapping)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))  # on the host

    def __deepcopy__(self, memo: dict[int, object]) -> Arena:
        """A handle of the host: who copies the state of a machine has to copy the frames in use by itself."""
        return self

    def discard(self, start: int, length: int) -> bool:
        """Give the memory of whole pages back to the host; they read as zeros afterwards.  False: the host cannot."""
        if sys.platform != "linux":  # elsewhere MADV_DONTNEED promises no zeros
            return False
        self._mapping.madvise(mmap.MADV_DONTNEED, start, length)
        return True
