"""The x86-64 processor: registers by name, and the state in which user code starts.

Set-up ends in ring 3, with the selectors that Linux uses, so that privileged instructions raise #GP as on hardware.
The model is a Haswell without what Unicorn lacks, AVX above all: x86-64-v2, BMI, MOVBE, LZCNT, RDRAND and FSGSBASE.
CPUID offers only what works, so nothing in it has to be corrected.  RDTSC is the host's own counter on an x86-64 host.

Left out, because Unicorn does not do it: IN, OUT and SYSENTER do nothing instead of raising #GP; unmasked SIMD
exceptions, alignment checks and #GP for non-canonical addresses do not come (the last are faults); there are no
descriptor tables, so loading a data segment register with anything but a null selector is #GP.
"""

import struct
from typing import Final

from minikern.engine.context import find_state_word
from minikern.engine.cpu import Cpu, CpuSpec, Trap
from minikern.engine.lib import EngineError

# Registers of the engine (unicorn.x86_const).
EFLAGS: Final = 25
FPSW: Final = 31
RAX: Final = 35
RBP: Final = 36
RBX: Final = 37
RCX: Final = 38
RDI: Final = 39
RDX: Final = 40
RIP: Final = 41
RSI: Final = 43
RSP: Final = 44
CS: Final = 11
SS: Final = 49
ST0: Final = 114
XMM0: Final = 122
R8: Final = 106
FPCW: Final = 246
FPTAG: Final = 247
MXCSR: Final = 249
FS_BASE: Final = 250
GS_BASE: Final = 251
FIP: Final = 254
FDP: Final = 256
FOP: Final = 258

# Positions in Cpu.regs: the order in which instructions encode the registers, and the engine keeps them.
(
    REG_RAX,
    REG_RCX,
    REG_RDX,
    REG_RBX,
    REG_RSP,
    REG_RBP,
    REG_RSI,
    REG_RDI,
    REG_R8,
    REG_R9,
    REG_R10,
    REG_R11,
    REG_R12,
    REG_R13,
    REG_R14,
    REG_R15,
    REG_RIP,
) = range(17)

USER_CS: Final = 0x33  # Linux: arch/x86/include/asm/segment.h:__USER_CS
USER_DS: Final = 0x2B

# Cpu.exception is the vector of the CPU (Linux: arch/x86/include/asm/trapnr.h), but for an invalid instruction, which is
# minikern.engine.cpu.INVALID_INSTRUCTION.  pc is behind the instruction for INT n, INT3 and after a single step by the
# trap flag, and at it for all others.
_TRAP_GP: Final = 13

_UC_ARCH_X86: Final = 4
_UC_MODE_64: Final = 8
_UC_CPU_HASWELL: Final = 19
_UC_INS_SYSCALL: Final = 699

_ENTER_USER_MODE = bytes.fromhex(
    "0f20c0 83c822 0f22c0"  # CR0 |= MP | NE: x87 exceptions as vector 16
    "0f20e0 0d00060500 0f22e0"  # CR4 |= OSFXSR | OSXMMEXCPT | FSGSBASE | OSXSAVE
    "31c9 31d2 b803000000 0f01d1"  # XCR0 = x87 | SSE
    "dbe3"  # fninit
    "0fae152c000000"  # ldmxcsr: every SIMD exception masked
    "b9800000c0 0f32 83c801 0f30"  # EFER |= SCE
    "b9810000c0 ba10002300 31c0 0f30"  # STAR: the base of the selectors that sysret loads
    "488d0d09000000 41bb02020000"  # rcx = the instruction after the next, r11 = IF and the bit that is always set
    "480f07"  # sysretq: to ring 3
    "0f05"  # syscall: back to the host
    "801f0000"  # data: MXCSR
)
_HLT = bytes.fromhex("f4")
_STOP_PROBE = bytes.fromhex("488b05f9ffffff 0f05")  # mov rax, [rip - 7]; syscall
_CPUID = bytes.fromhex("0fa2 0f05")

_HWCAP2_FSGSBASE: Final = 1 << 1


def _setup(cpu: Cpu) -> None:
    """Enter ring 3 and find the word that makes the engine turn a second exception into a double fault."""
    if cpu.execute(_ENTER_USER_MODE) is not Trap.SYSCALL or cpu.read_reg(CS) != USER_CS:
        raise EngineError("the engine did not enter user mode")
    before = cpu.snapshot()
    if cpu.execute(_HLT) is not Trap.EXCEPTION or cpu.exception != _TRAP_GP:
        raise EngineError("a privileged instruction was not refused")
    word = find_state_word([(before, struct.pack("<i", -1)), (cpu.snapshot(), struct.pack("<i", _TRAP_GP))])
    if word is None:
        raise EngineError("the engine does not show the exception that it handles")
    cpu.cleared_after_exception = word
    cpu.restore(before)


SPEC = CpuSpec(
    uc_arch=_UC_ARCH_X86,
    uc_mode=_UC_MODE_64,
    cpu_model=_UC_CPU_HASWELL,
    gpr_ids=(RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, *range(R8, R8 + 8), RIP),
    pc_index=REG_RIP,
    setup=_setup,
    syscall_instruction=_UC_INS_SYSCALL,
    stop_probe=_STOP_PROBE,
)


def cpuid(cpu: Cpu, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX and EDX of CPUID as user code gets them; not while user code runs."""
    state, space = cpu.snapshot(), cpu.space
    cpu.regs[REG_RAX], cpu.regs[REG_RCX] = leaf, subleaf
    cpu.execute(_CPUID)
    eax, ecx, edx, ebx = cpu.regs[REG_RAX], cpu.regs[REG_RCX], cpu.regs[REG_RDX], cpu.regs[REG_RBX]
    cpu.restore(state)
    cpu.set_space(space)
    return eax, ebx, ecx, edx


def hwcaps(cpu: Cpu) -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2 (Linux: arch/x86/include/asm/elf.h:ELF_HWCAP, ELF_HWCAP2)."""
    return cpuid(cpu, 1)[3], _HWCAP2_FSGSBASE
