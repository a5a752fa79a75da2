"""The arm64 processor: registers by name, and the state in which user code starts.

Set-up ends at EL0, so that privileged instructions and registers trap as on hardware.  The model is the engine's `max`,
because the others lack the LSE atomics.  What of it needs a kernel's help stays off and must not be offered in AT_HWCAP:
SVE traps, pointer authentication and branch targets are no-operations (the hints) or trap, memory tagging is not there.
Addresses may carry a tag in their top byte, as under Linux.
"""

import struct
from typing import Final

from minikern.engine.context import find_state_word
from minikern.engine.cpu import SCRATCH_VADDR, Cpu, CpuSpec, Trap
from minikern.engine.lib import EngineError

# Registers of the engine (unicorn.arm64_const).
X29: Final = 1
X30: Final = 2
SP: Final = 4
NZCV: Final = 3
X0: Final = 199
V0: Final = 228
PC: Final = 260
TPIDR_EL0: Final = 262
PSTATE: Final = 265
CP_REG: Final = 290
FPCR: Final = 291
FPSR: Final = 292

# Positions in Cpu.regs; X0 to X30 are 0 to 30.
REG_LR: Final = 30
REG_SP: Final = 31
REG_PC: Final = 32

# Cpu.exception: numbers of the engine.  pc is at the instruction but for SVC.
EXCP_UDEF: Final = 1  # undefined here: unknown, privileged or switched off; also an instruction that is not aligned
EXCP_SVC: Final = 2
EXCP_DATA_ABORT: Final = 4  # an exclusive or atomic access that is not aligned
EXCP_BKPT: Final = 7  # BRK

_UC_ARCH_ARM64: Final = 2
_UC_MODE_ARM: Final = 0
_UC_CPU_MAX: Final = 3

_ENTER_USER_MODE = struct.pack(
    "<16I2I",
    0xD2A00600,  # mov x0, #0x300000
    0xD5181040,  # msr cpacr_el1, x0: floating point is free to use, SVE is not
    0xD5381000,  # mrs x0, sctlr_el1
    0x580001A1,  # ldr x1, data
    0xAA010000,  # orr x0, x0, x1
    0xD5181000,  # msr sctlr_el1, x0
    0xD2800040,  # mov x0, #2
    0xD518E100,  # msr cntkctl_el1, x0: the virtual counter may be read
    0xD2C00400,  # mov x0, #1 << 37
    0xD5182040,  # msr tcr_el1, x0: the top byte of an address is ignored
    0xD5033FDF,  # isb
    0x10000080,  # adr x0, . + 16
    0xD5184020,  # msr elr_el1, x0
    0xD518401F,  # msr spsr_el1, xzr: EL0
    0xD69F03E0,  # eret
    0xD4000001,  # svc #0: back to the host
    # data, SCTLR_EL1: DZE, UCT, nTWI, nTWE, UCI, what user code may do by itself
    1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26,
    0,
)


_LOAD_EXCLUSIVE = struct.pack("<3I", 0xC85F7C01, 0xD2800000, 0xD4000001)  # ldxr x1, [x0]; mov x0, #0; svc #0
_STOP_PROBE = struct.pack("<2I", 0x58000000, 0xD4000001)  # ldr x0, .; svc #0
_NO_ADDRESS = b"\xff" * 8


def _setup(cpu: Cpu) -> None:
    """Enter EL0 and find the exclusive monitor, which a task must not bring along to the processor.

    Where it is not found there is no harm: the engine lets a store-exclusive succeed only if the memory still has the
    value that was loaded.
    """
    if cpu.execute(_ENTER_USER_MODE) is not Trap.SYSCALL:
        raise EngineError("the engine did not enter user mode")
    before = cpu.snapshot()
    samples = [(before, _NO_ADDRESS)]
    for offset in (64, 128):
        cpu.regs[0] = address = SCRATCH_VADDR + offset
        cpu.execute(_LOAD_EXCLUSIVE)
        samples.append((cpu.snapshot(), struct.pack("<Q", address)))
    cpu.cleared_on_restore = find_state_word(samples)
    cpu.restore(before)


SPEC = CpuSpec(
    uc_arch=_UC_ARCH_ARM64,
    uc_mode=_UC_MODE_ARM,
    cpu_model=_UC_CPU_MAX,
    gpr_ids=(*range(X0, X0 + 29), X29, X30, SP, PC),
    pc_index=REG_PC,
    setup=_setup,
    syscall_interrupt=EXCP_SVC,
    page_size=4096,
    tag_mask=0xFF << 56,
    stop_probe=_STOP_PROBE,
)
