"""The vDSO: code that the kernel gives to every program, and the page from which it reads the clock without a call.

Mirrors ``kernel/time/vsyscall.c`` and ``include/vdso/datapage.h``; the code is in the backends, and ``arch/vdso.h``
declares the same page. It lies directly before the code. A program reads the processor's cycle counter and turns it into
nanoseconds with a line through the last update. Where time does not come from the host, or the host cannot tell what the
counter shows, programs are told to make the system call.

What a program reads must fit what system calls tell it. So the line never runs ahead of the clock: where the frequency
of the counter has to be measured, it is kept flatter than anything that the host may do to its clock. What it loses is
made good by the next update, at most `_INTERVAL_NS` later when the program makes system calls. And it never goes back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.host.sources import HostSources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minikern.arch import Arch
    from minikern.kernel.kernel import Kernel

# struct vdso_data: seq, mode, cycle_last, mult, shift, monotonic_ns, realtime_offset_ns
_LAYOUT = struct.Struct("<IIQIIQq")
assert _LAYOUT.size == 40
_MODE_TRAP: Final = 0
_MODE_COUNTER: Final = 1

_SHIFT: Final = 24  # resolves frequencies between 4 MHz and 10 GHz to a part in a million
_SEQ_MASK: Final = 0xFFFF_FFFF
_NSEC_PER_SEC: Final = 1_000_000_000
_INTERVAL_NS: Final = 1_000_000  # between updates
_CALIBRATION_NS: Final = 5_000_000  # a shorter time says too little about the frequency of the counter
_RECALIBRATION_NS: Final = 10 * _NSEC_PER_SEC  # what was longer ago says little about what the host does now
_MILLION: Final = 1_000_000
_MARGIN_PPM: Final = 600  # Linux slews its clock by no more than 500 parts per million
_LARGEST_LEAD_NS: Final = 1_000_000  # a line that runs ahead farther is wrong (the host slept), and may go back
_QUICK_NS: Final = 2_000  # readings that are farther apart were interrupted by something …
_ATTEMPTS: Final = 3  # … and are made again
_NEVER: Final = 1 << 63


@dataclass(slots=True)
class VdsoData:
    """What is in a time page (``struct vdso_data``), and what the next update needs."""

    seq: int = 0  # changes with every update
    cycle_last: int = 0  # the counter at the last update
    mult: int = 0  # nanoseconds = cycles * mult >> _SHIFT; 0: not known, programs have to make the system call
    monotonic_ns: int = 0  # CLOCK_MONOTONIC at the last update, as the line has it
    realtime_offset_ns: int = 0  # CLOCK_REALTIME - CLOCK_MONOTONIC
    measured_from: tuple[int, int] | None = None  # counter and clock when the measurement began …
    measured_next: tuple[int, int] = (0, 0)  # … and when the one that replaces it did

    def pack(self) -> bytes:
        """The bytes at the beginning of the page."""
        mode = _MODE_COUNTER if self.mult else _MODE_TRAP
        return _LAYOUT.pack(
            self.seq & _SEQ_MASK,
            mode,
            self.cycle_last,
            self.mult,
            _SHIFT,
            self.monotonic_ns,
            self.realtime_offset_ns,
        )

    def follow(self, frequency: int, realtime_offset_ns: int) -> None:
        """The counter is the clock, in units of its own: the line goes through 0 and never changes."""
        self.seq += 1
        self.mult = (_NSEC_PER_SEC << _SHIFT) // frequency
        self.realtime_offset_ns = realtime_offset_ns

    def update(self, before_ns: int, cycles: int, after_ns: int, realtime_offset_ns: int) -> None:
        """A line through now, with a frequency that is measured. The clock was read before and after the counter."""
        self.seq += 1
        now_ns = before_ns
        ahead_ns = self.monotonic_ns + ((cycles - self.cycle_last) * self.mult >> _SHIFT) - now_ns if self.mult else 0
        self._measure(before_ns, cycles, after_ns)
        self.cycle_last = cycles
        self.monotonic_ns = now_ns + ahead_ns if 0 < ahead_ns < _LARGEST_LEAD_NS else now_ns
        self.realtime_offset_ns = realtime_offset_ns

    def _measure(self, before_ns: int, cycles: int, after_ns: int) -> None:
        # Whatever comes between two readings of the host makes the counter look too fast, and so the line too flat.
        if self.measured_from is None:
            self.measured_from = self.measured_next = cycles, after_ns
        elapsed, elapsed_ns = cycles - self.measured_from[0], before_ns - self.measured_from[1]
        if elapsed > 0 and elapsed_ns >= _CALIBRATION_NS:
            self.mult = (elapsed_ns << _SHIFT) * (_MILLION - _MARGIN_PPM) // (elapsed * _MILLION)
        if before_ns - self.measured_next[1] >= _RECALIBRATION_NS:
            self.measured_from, self.measured_next = self.measured_next, (cycles, after_ns)


@dataclass(slots=True, eq=False, repr=False)
class VdsoImage:
    """The vDSO of one architecture in one machine; every process maps the same frames."""

    arch: Arch
    data: VdsoData
    data_pfns: Sequence[int]  # the time page
    code_pfns: Sequence[int]


@dataclass(slots=True, eq=False, repr=False)
class Vdso:
    """All of them, and when they are to be brought up to date."""

    kernel: Kernel
    images: dict[str, VdsoImage] = field(default_factory=dict)  # by architecture
    due_ns: int = _NEVER  # on the monotonic clock

    def image(self, arch: Arch) -> VdsoImage:
        """The vDSO of an architecture, made when it is needed first."""
        image = self.images.get(arch.name)
        if image is None:
            code = [self._frame(arch.vdso[at : at + PAGE_SIZE]) for at in range(0, len(arch.vdso), PAGE_SIZE)]
            image = self.images[arch.name] = VdsoImage(arch, VdsoData(), [self._frame(b"")], code)
            self.update_vsyscall()
        return image

    def _frame(self, content: bytes) -> int:
        kernel = self.kernel
        pfn = kernel.frames.alloc_page()
        start = pfn << PAGE_SHIFT
        kernel.arena.view[start : start + len(content)] = content
        return pfn

    def clock_was_read(self) -> None:
        """A system call has told the time: what programs read next must not be earlier."""
        self.due_ns = 0

    def update_vsyscall(self) -> None:
        """Bring the time pages up to date. Source: ``kernel/time/vsyscall.c:update_vsyscall``."""
        self.due_ns = _NEVER
        sources = self.kernel.sources
        if not isinstance(sources, HostSources):
            return
        for image in self.images.values():
            for _ in range(_ATTEMPTS):
                before_ns = sources.monotonic_ns()
                cycles = image.arch.read_counter()
                realtime_ns = sources.realtime_ns()
                after_ns = sources.monotonic_ns()  # last: an offset that is a little too small does no harm
                if after_ns - before_ns < _QUICK_NS:
                    break
            if cycles is None:
                continue
            offset_ns = realtime_ns - after_ns
            if image.arch.counter_frequency:
                image.data.follow(image.arch.counter_frequency, offset_ns)
            else:
                image.data.update(before_ns, cycles, after_ns, offset_ns)
            start = image.data_pfns[0] << PAGE_SHIFT
            self.kernel.arena.view[start : start + _LAYOUT.size] = image.data.pack()
            self.due_ns = after_ns + _INTERVAL_NS
