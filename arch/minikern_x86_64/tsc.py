"""The time-stamp counter that programs read: it is the host's own, where the host is x86-64, too.

The engine reads the counter of the host for RDTSC and has no call that tells its value. So the kernel reads it by the
same instruction, in a page of machine code: 0.1 µs.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from typing import TYPE_CHECKING, Any, Final

from minikern_x86_64.cpu import REG_RAX

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

_READ_TSC: Final = bytes.fromhex("0f31 48c1e220 4809d0")  # rdtsc; shl rdx, 32; or rax, rdx
_RET: Final = bytes.fromhex("c3")
_SYSCALL: Final = bytes.fromhex("0f05")
_X86_64: Final = ("x86_64", "AMD64")


class HostCounter:
    """The host's counter, as a function; a host handle."""

    def __init__(self) -> None:
        """OSError where the host does not allow machine code of one's own."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_READ_TSC + _RET)
        self._anchor = ctypes.c_char.from_buffer(self._page)
        self.read: Any = ctypes.PYFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(self._anchor))


def host_counter(cpu: Cpu) -> HostCounter | None:
    """The counter that the programs on ``cpu`` read; None where the host has another one. Only before user code runs."""
    if platform.machine() not in _X86_64:
        return None
    try:
        counter = HostCounter()
    except (OSError, ValueError, AttributeError):  # not allowed, or no such protection on this host
        return None
    before = counter.read()
    cpu.execute(_READ_TSC + _SYSCALL)
    return counter if before <= cpu.regs[REG_RAX] <= counter.read() else None
