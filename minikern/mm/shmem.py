"""Memory that is shared but has no file with a name behind it.

Mirrors ``mm/shmem.c:shmem_zero_setup``. tmpfs and memfd are file systems over the same kind of page cache: an
`AddressSpace` with ``backed=False``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikern.kernel.errno import KernelBug
from minikern.mm.filemap import AddressSpace

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.mm.vma import Vma


@dataclass(slots=True, eq=False, repr=False)
class _Unnamed:
    """What a shared anonymous mapping has in the place of an inode."""

    size: int  # bytes
    mapping: SharedAnonymous

    def read_page(self, index: int) -> bytes:
        raise KernelBug(f"page {index} of shared memory was read from nowhere")

    def write_page(self, index: int, data: bytes) -> None:
        raise KernelBug(f"page {index} of shared memory was written to nowhere")

    def punch_hole(self, pos: int, length: int) -> None:
        self.mapping.punch_hole(pos, pos + length)


class SharedAnonymous(AddressSpace):
    """The pages of one shared anonymous mapping: they live as long as an area shows them."""

    __slots__ = ()

    def __init__(self, kernel: Kernel, size: int) -> None:
        super().__init__(kernel, _Unnamed(size, self), backed=False)

    def remove_vma(self, vma: Vma) -> None:
        """The last area takes the pages along."""
        super().remove_vma(vma)
        if not self.i_mmap:
            self.evict()


def shmem_zero_setup(vma: Vma) -> None:
    """Put memory behind a shared anonymous area. Source: ``mm/shmem.c:shmem_zero_setup``."""
    vma.mapping = SharedAnonymous(vma.mm.kernel, vma.end - vma.start)
    vma.name = "/dev/zero (deleted)"
