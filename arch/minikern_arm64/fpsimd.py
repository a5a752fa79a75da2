"""The SIMD and floating-point registers as bytes. Mirrors ``arch/arm64/kernel/fpsimd.c``. Left out: SVE and SME."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minikern_arm64.cpu import FPCR, FPSR, V0

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

VREGS_SIZE: Final = 32 * 16
FPSIMD_SIZE: Final = VREGS_SIZE + 16  # struct user_fpsimd_state: vregs, fpsr, fpcr, 8 bytes of nothing
_FPSR: Final = VREGS_SIZE
_FPCR: Final = VREGS_SIZE + 4
_END: Final = VREGS_SIZE + 8
_PLACES: Final = {**{i * 16: V0 + i for i in range(32)}, _FPSR: FPSR, _FPCR: FPCR}


class FpSimd:
    """The FPU of a processor: its state as ``struct user_fpsimd_state``."""

    def __init__(self, cpu: Cpu) -> None:
        self._block = cpu.register_block(FPSIMD_SIZE, _PLACES)

    def save(self) -> bytes:
        """The 528 bytes."""
        view = self._block.read()
        view[_END:] = bytes(FPSIMD_SIZE - _END)
        return bytes(view)

    def load(self, state: bytes) -> None:
        """Set every register from what `save` returned."""
        self._block.view[:] = state
        self._block.write()
