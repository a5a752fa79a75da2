"""What /proc/cpuinfo says, read from CPUID. Mirrors ``arch/x86/kernel/cpu/proc.c``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from minikern_x86_64.cpu import cpuid

if TYPE_CHECKING:
    from minikern.engine.cpu import Cpu

# Leaf, register (EAX EBX ECX EDX) and the names of its bits from 0 on; "-" has none.
_FEATURES: Final = (
    (
        (1, 3),
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse "
        "sse2 ss ht tm ia64 pbe",
    ),
    ((0x8000_0001, 3), "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm"),
    (
        (1, 2),
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 "
        "sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
    ),
    ((0x8000_0001, 2), "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch"),
    (
        (7, 1),
        "fsgsbase tsc_adjust - bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm mpx rdt_a - avx512f avx512dq rdseed adx "
        "smap",
    ),
)
_FAMILY_EXTENDED: Final = 15  # families from here on add the extended family field


def cpuinfo(cpu: Cpu) -> str:
    """One processor's paragraph, without its number. Only before user code runs."""
    largest, *vendor = cpuid(cpu, 0)
    signature, misc, _, _ = cpuid(cpu, 1)
    family, model, stepping = signature >> 8 & 15, signature >> 4 & 15, signature & 15
    if family == _FAMILY_EXTENDED:
        family += signature >> 20 & 0xFF
    if family >= 6:
        model += (signature >> 16 & 15) << 4
    brand = b"".join(struct.pack("<4I", *cpuid(cpu, leaf)) for leaf in range(0x8000_0002, 0x8000_0005))
    sizes = cpuid(cpu, 0x8000_0008)[0]
    flags = []
    for (leaf, register), names in _FEATURES:
        word = cpuid(cpu, leaf)[register]
        flags += [name for bit, name in enumerate(names.split()) if name != "-" and word >> bit & 1]
    lines = {
        "vendor_id": struct.pack("<3I", vendor[0], vendor[2], vendor[1]).decode(),
        "cpu family": family,
        "model": model,
        "model name": brand.split(b"\0")[0].decode().strip(),
        "stepping": stepping,
        "cpuid level": largest,
        "fpu": "yes",
        "fpu_exception": "yes",
        "wp": "yes",
        "flags": " ".join(flags),
        "clflush size": (misc >> 8 & 0xFF) * 8,
        "cache_alignment": (misc >> 8 & 0xFF) * 8,
        "address sizes": f"{sizes & 0xFF} bits physical, {sizes >> 8 & 0xFF} bits virtual",
    }
    return "".join(f"{name:<15} : {value}\n".expandtabs() for name, value in lines.items())
