"""What the processor can do, read from its ID registers: AT_HWCAP and /proc/cpuinfo.

Mirrors ``arch/arm64/kernel/cpufeature.c:arm64_elf_hwcaps`` and ``cpuinfo.c``. Only what works is offered: SVE, pointer
authentication, branch targets and memory tagging are switched off, whatever the ID registers say.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern_arm64.cpu import CP_REG

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

# System registers: op0, op1, CRn, CRm, op2
_Register = tuple[int, int, int, int, int]
_MIDR: Final = (3, 0, 0, 0, 0)
_PFR0: Final = (3, 0, 0, 4, 0)
_ISAR0: Final = (3, 0, 0, 6, 0)
_ISAR1: Final = (3, 0, 0, 6, 1)

# Name, register, lowest bit of the field of four, value from which on it is there; in the order of the HWCAP bits.
_HWCAP: Final = {
    0: ("fp", _PFR0, 16, 0),
    1: ("asimd", _PFR0, 20, 0),
    3: ("aes", _ISAR0, 4, 1),
    4: ("pmull", _ISAR0, 4, 2),
    5: ("sha1", _ISAR0, 8, 1),
    6: ("sha2", _ISAR0, 12, 1),
    7: ("crc32", _ISAR0, 16, 1),
    8: ("atomics", _ISAR0, 20, 2),
    9: ("fphp", _PFR0, 16, 1),
    10: ("asimdhp", _PFR0, 20, 1),
    12: ("asimdrdm", _ISAR0, 28, 1),
    13: ("jscvt", _ISAR1, 12, 1),
    14: ("fcma", _ISAR1, 16, 1),
    15: ("lrcpc", _ISAR1, 20, 1),
    16: ("dcpop", _ISAR1, 0, 1),
    17: ("sha3", _ISAR0, 32, 1),
    18: ("sm3", _ISAR0, 36, 1),
    19: ("sm4", _ISAR0, 40, 1),
    20: ("asimddp", _ISAR0, 44, 1),
    21: ("sha512", _ISAR0, 12, 2),
    23: ("asimdfhm", _ISAR0, 48, 1),
    26: ("ilrcpc", _ISAR1, 20, 2),
    27: ("flagm", _ISAR0, 52, 1),
    29: ("sb", _ISAR1, 36, 1),
}
_HWCAP2: Final = {
    0: ("dcpodp", _ISAR1, 0, 2),
    7: ("flagm2", _ISAR0, 52, 2),
    8: ("frint", _ISAR1, 32, 1),
    13: ("i8mm", _ISAR1, 52, 1),
    14: ("bf16", _ISAR1, 44, 1),
    16: ("rng", _ISAR0, 60, 1),
}
_NOT_THERE: Final = 15  # in a field of PFR0
_CP_REG = struct.Struct("<5I4xQ")  # the engine's uc_arm64_cp_reg: CRn, CRm, op0, op1, op2, value


def read_system_register(cpu: Cpu, register: _Register) -> int:
    """A system register by its encoding."""
    op0, op1, crn, crm, op2 = register
    request = _CP_REG.pack(crn, crm, op0, op1, op2, 0)
    value: int = _CP_REG.unpack(cpu.read_reg_bytes(CP_REG, _CP_REG.size, request))[5]
    return value


def _found(cpu: Cpu, capabilities: dict[int, tuple[str, _Register, int, int]]) -> dict[int, str]:
    """Those of the capabilities that the processor has: HWCAP bit and name."""
    found = {}
    for bit, (name, register, shift, least) in capabilities.items():
        value = read_system_register(cpu, register) >> shift & 15
        if value >= least and not (register is _PFR0 and value == _NOT_THERE):
            found[bit] = name
    return found


def hwcaps(cpu: Cpu) -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2."""
    return sum(1 << bit for bit in _found(cpu, _HWCAP)), sum(1 << bit for bit in _found(cpu, _HWCAP2))


def cpuinfo(cpu: Cpu) -> str:
    """One processor's paragraph, without its number."""
    midr = read_system_register(cpu, _MIDR)
    features = [*_found(cpu, _HWCAP).values(), *_found(cpu, _HWCAP2).values()]
    return (
        f"Features\t: {' '.join(features)}\n"
        f"CPU implementer\t: {midr >> 24 & 0xFF:#04x}\n"
        "CPU architecture: 8\n"
        f"CPU variant\t: {midr >> 20 & 15:#x}\n"
        f"CPU part\t: {midr >> 4 & 0xFFF:#05x}\n"
        f"CPU revision\t: {midr & 15}\n"
    )
