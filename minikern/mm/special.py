"""Pages of the kernel's own in every process: the vDSO and its data.

Mirrors ``mm/mmap.c:_install_special_mapping``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT
from minikern.mm.vma import VM_DONTEXPAND, Vma, vma_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minikern.mm.mm import Mm


def install_special_mapping(mm: Mm, addr: int, pfns: Sequence[int], flags: int, name: str) -> Vma:
    """Map frames that the kernel holds at a free place. ``flags``: VM_*; ``name``: as in /proc/PID/maps.

    A store to them, where the flags or a tracer allow one, makes a private copy.
    """
    vma = Vma(mm, addr, addr + (len(pfns) << PAGE_SHIFT), flags | VM_DONTEXPAND, 0, pfns=tuple(pfns), name=name)
    vma_link(vma)
    mm.account_vm(vma.flags, len(pfns))
    return vma
