"""x87 and SSE state, as the instructions FXSAVE and XSAVE lay it out.

Mirrors ``arch/x86/kernel/fpu/``. The processor has XSAVE with nothing but these two components, so extended state is the
512 bytes of ``struct fxregs_state`` and a header that says so.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern_x86_64.cpu import FDP, FIP, FOP, FPCW, FPSW, FPTAG, MXCSR, ST0, XMM0

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

FXSAVE_SIZE: Final = 512  # struct fxregs_state
XSAVE_SIZE: Final = FXSAVE_SIZE + 64  # … and struct xstate_header
XFEATURES: Final = 3  # XFEATURE_MASK_FPSSE
_XSTATE_HEADER: Final = XFEATURES.to_bytes(64, "little")

# How a signal frame says that it has extended state: words that FXSAVE leaves to software, and one behind the state.
_MAGIC1: Final = 0x46505853
_MAGIC2: Final = (0x46505845).to_bytes(4, "little")
FRAME_SIZE: Final = XSAVE_SIZE + len(_MAGIC2)
_SW_RESERVED: Final = slice(464, 512)
_SW_BYTES: Final = struct.pack("<IIQI28x", _MAGIC1, FRAME_SIZE, XFEATURES, XSAVE_SIZE)  # struct _fpx_sw_bytes
_USER_XCR0: Final = XFEATURES.to_bytes(48, "little")  # what a register set has at the same place

_HEAD = struct.Struct("<HHBxHQQII")  # fcw, fsw, abridged ftw, fop, rip, rdp, mxcsr, mxcsr_mask
_FTW: Final = slice(4, 6)
_MXCSR: Final = slice(24, 28)
_MXCSR_EXISTING: Final = 0xFFFF
_MXCSR_MASK: Final = slice(28, 32)
_ST: Final = 32
_XMM: Final = 160
_RESERVED: Final = 416
_SLOT: Final = 16  # bytes for each register, also for the 10-byte x87 ones
_PLACES: Final = {
    2: FPSW,  # before the x87 registers: it says which of them is ST0
    0: FPCW,
    4: FPTAG,
    6: FOP,
    8: FIP,
    16: FDP,
    24: MXCSR,
    **{_ST + i * _SLOT: ST0 + i for i in range(8)},
    **{_XMM + i * _SLOT: XMM0 + i for i in range(16)},
}
# What programs and signal handlers start with: exceptions masked, extended precision.
_INIT: Final = _HEAD.pack(0x37F, 0, 0, 0, 0, 0, 0x1F80, _MXCSR_EXISTING).ljust(FXSAVE_SIZE, b"\0")


class Fpu:
    """The FPU of a processor: its state as bytes."""

    def __init__(self, cpu: Cpu) -> None:
        self._block = cpu.register_block(FXSAVE_SIZE, _PLACES)

    def fxsave(self) -> bytes:
        """The state as FXSAVE stores it."""
        image = bytearray(self._block.read())
        # FXSAVE keeps one bit for each x87 register, "not empty", where the engine has the two of FSAVE.
        tags = int.from_bytes(image[_FTW], "little")
        abridged = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != 3)
        image[_FTW] = abridged.to_bytes(2, "little")
        image[_MXCSR_MASK] = _MXCSR_EXISTING.to_bytes(4, "little")
        image[_RESERVED:] = bytes(FXSAVE_SIZE - _RESERVED)
        return bytes(image)

    def fxrstor(self, image: bytes) -> None:
        """Load what `fxsave` stored; EINVAL when it has bits in MXCSR that do not exist (the instruction's #GP)."""
        if int.from_bytes(image[_MXCSR], "little") & ~_MXCSR_EXISTING:
            raise KernelError(Errno.EINVAL)
        view = self._block.view
        view[:] = image[:FXSAVE_SIZE]
        abridged = image[_FTW.start]
        tags = sum(3 << 2 * i for i in range(8) if not abridged >> i & 1)  # of the rest the engine sees by itself
        view[_FTW] = tags.to_bytes(2, "little")
        self._block.write()

    def clear(self) -> None:
        """The state to start with. Source: ``arch/x86/kernel/fpu/core.c:fpu__clear_user_states``."""
        self.fxrstor(_INIT)

    def save_frame(self) -> bytes:
        """What a signal frame holds. Source: ``arch/x86/kernel/fpu/signal.c:copy_fpstate_to_sigframe``."""
        return _with(self.fxsave(), _SW_BYTES) + _XSTATE_HEADER + _MAGIC2

    def xstate(self) -> bytes:
        """The register set NT_X86_XSTATE. Source: ``arch/x86/kernel/fpu/regset.c:xstateregs_get``."""
        return _with(self.fxsave(), _USER_XCR0) + _XSTATE_HEADER


def _with(image: bytes, software: bytes) -> bytes:
    """``image`` with the bytes that FXSAVE leaves to software."""
    return image[: _SW_RESERVED.start] + software
