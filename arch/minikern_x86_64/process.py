"""arch_prctl: the segment bases, and what programs ask about optional features of the CPU.

Mirrors ``arch/x86/kernel/process_64.c``. Left out: what needs shadow stacks, address masking or CPUID faulting; the
answer is that of a kernel without them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern.mm.uaccess import put_user
from minikern_x86_64.cpu import FS_BASE, GS_BASE
from minikern_x86_64.fpu import XFEATURES

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern_x86_64.arch import X86_64


class ArchPrctl(IntEnum):
    """Codes of arch_prctl (``ARCH_*``)."""

    SET_GS = 0x1001
    SET_FS = 0x1002
    GET_FS = 0x1003
    GET_GS = 0x1004
    GET_CPUID = 0x1011
    SET_CPUID = 0x1012
    GET_XCOMP_SUPP = 0x1021
    GET_XCOMP_PERM = 0x1022
    REQ_XCOMP_PERM = 0x1023


_BASES: Final = {
    ArchPrctl.SET_GS: GS_BASE,
    ArchPrctl.SET_FS: FS_BASE,
    ArchPrctl.GET_FS: FS_BASE,
    ArchPrctl.GET_GS: GS_BASE,
}
_XFEATURE_MAX: Final = 19


def do_arch_prctl(arch: X86_64, caller: Task, task: Task, code: int, addr: int) -> int:
    """Serve ``code`` for ``task``; results go into the memory of ``caller``, who may be a tracer.

    Source: ``arch/x86/kernel/process_64.c:do_arch_prctl_64``.
    """
    match code:
        case ArchPrctl.SET_GS | ArchPrctl.SET_FS:
            if addr >= arch.task_size:
                raise KernelError(Errno.EPERM)
            arch.load(task)
            arch.cpu.write_reg(_BASES[ArchPrctl(code)], addr)
        case ArchPrctl.GET_FS | ArchPrctl.GET_GS:
            arch.load(task)
            put_user(caller, addr, arch.cpu.read_reg(_BASES[ArchPrctl(code)]), 8)
        case ArchPrctl.GET_CPUID:
            return 1  # the instruction may be used
        case ArchPrctl.SET_CPUID:
            raise KernelError(Errno.ENODEV)  # the processor cannot forbid it
        case ArchPrctl.GET_XCOMP_SUPP | ArchPrctl.GET_XCOMP_PERM:
            put_user(caller, addr, XFEATURES, 8)
        case ArchPrctl.REQ_XCOMP_PERM:
            raise KernelError(Errno.EINVAL if addr >= _XFEATURE_MAX else Errno.EOPNOTSUPP)
        case _:
            raise KernelError(Errno.EINVAL)
    return 0
