"""The kernel's own accesses to user memory.

Mirrors ``lib/usercopy.c``, ``include/linux/uaccess.h`` and ``mm/gup.c``. An access within one page that is present is a
lookup in two dicts and a slice of the arena; everything else goes page by page and faults pages in as the program's own
access would. The functions that take a task raise KernelError(EFAULT); those that take an `Mm` say how far they came.

This is a hot path. Measured on 2 cores, CPython 3.11: 0.4 µs for `get_user`, 0.5 for `copy_from_user` and 0.6 for
`copy_to_user` of 16 bytes, 1.2 for a file name.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.engine.cpu import TABLE_SHIFT
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.memory import do_user_addr_fault, handle_mm_fault
from minikern.mm.pgtable import OFFSET_MASK, PAGE_MASK, PTE_R, PTE_W, pte_of
from minikern.mm.vma import VM_IO, VM_MAYREAD, VM_MAYWRITE, VM_PFNMAP, VM_SHARED, Vma, find_vma

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.mm.mm import Mm

_UNPACK: Final = {size: Struct(code).unpack_from for size, code in ((1, "<B"), (2, "<H"), (4, "<I"), (8, "<Q"))}
_PACK_U32: Final = Struct("<I").pack_into
_MASK: Final = {size: (1 << 8 * size) - 1 for size in (1, 2, 4, 8)}


# -- a task's own memory


def copy_from_user(task: Task, address: int, count: int) -> bytes:
    """``count`` bytes at ``address``; EFAULT when not all of them can be read."""
    mm = task.mm
    assert mm is not None
    table = mm.tables.get(address >> TABLE_SHIFT)
    if table is not None:
        pte = table.entries.get(address >> PAGE_SHIFT, 0)
        offset = address & OFFSET_MASK
        if pte & PTE_R and offset + count <= PAGE_SIZE:
            start = (pte & PAGE_MASK) + offset
            return mm.kernel.arena.view[start : start + count].tobytes()
    data = mm_read(mm, address, count)
    if len(data) != count:
        raise KernelError(Errno.EFAULT)
    return data


def copy_to_user(task: Task, address: int, data: bytes | memoryview) -> None:
    """Store ``data`` at ``address``; EFAULT when not all of it fits, after storing what does."""
    mm = task.mm
    assert mm is not None
    table = mm.tables.get(address >> TABLE_SHIFT)
    if table is not None and table.refs == 1:
        pte = table.entries.get(address >> PAGE_SHIFT, 0)
        offset = address & OFFSET_MASK
        count = len(data)
        if pte & PTE_W and offset + count <= PAGE_SIZE:
            kernel = mm.kernel
            kernel.frames.before_write(pte >> PAGE_SHIFT)
            start = (pte & PAGE_MASK) + offset
            kernel.arena.view[start : start + count] = data
            return
    if mm_write(mm, address, data) != len(data):
        raise KernelError(Errno.EFAULT)


def copy_to_user_partial(task: Task, address: int, data: bytes | memoryview) -> int:
    """Store as much of ``data`` as can be; returns how many bytes; EFAULT when that is none though there were some."""
    assert task.mm is not None
    done = mm_write(task.mm, address, data)
    if not done and data:
        raise KernelError(Errno.EFAULT)
    return done


def copy_from_user_partial(task: Task, address: int, count: int) -> bytes:
    """As many of ``count`` bytes as can be read; EFAULT when that is none though some were wanted."""
    assert task.mm is not None
    data = mm_read(task.mm, address, count)
    if not data and count:
        raise KernelError(Errno.EFAULT)
    return data


def get_user(task: Task, address: int, size: int) -> int:
    """The unsigned number of 1, 2, 4 or 8 bytes at ``address``."""
    mm = task.mm
    assert mm is not None
    table = mm.tables.get(address >> TABLE_SHIFT)
    if table is not None:
        pte = table.entries.get(address >> PAGE_SHIFT, 0)
        offset = address & OFFSET_MASK
        if pte & PTE_R and offset + size <= PAGE_SIZE:
            value: int = _UNPACK[size](mm.kernel.arena.view, (pte & PAGE_MASK) + offset)[0]
            return value
    return int.from_bytes(copy_from_user(task, address, size), "little")


def put_user(task: Task, address: int, value: int, size: int) -> None:
    """Store a number, signed or unsigned, in 1, 2, 4 or 8 bytes; only its low bits count."""
    copy_to_user(task, address, (value & _MASK[size]).to_bytes(size, "little"))


def clear_user(task: Task, address: int, count: int) -> None:
    """Store ``count`` zero bytes."""
    assert task.mm is not None
    if mm_write(task.mm, address, bytes(count)) != count:
        raise KernelError(Errno.EFAULT)


def strncpy_from_user(task: Task, address: int, limit: int) -> bytes:
    """The string at ``address`` without its NUL; ``limit`` bytes without one are returned as they are.

    Source: ``lib/strncpy_from_user.c``.
    """
    mm = task.mm
    assert mm is not None
    view = mm.kernel.arena.view
    chunks: list[bytes] = []
    while limit > 0:
        length = min(PAGE_SIZE - (address & OFFSET_MASK), limit)
        start = user_page(mm, address, PTE_R)
        if not start:
            raise KernelError(Errno.EFAULT)
        chunk, nul, _ = view[start : start + length].tobytes().partition(b"\0")
        chunks.append(chunk)
        if nul:
            break
        address += length
        limit -= length
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def cmpxchg_user_u32(task: Task, address: int, old: int, new: int) -> int:
    """If the 32-bit number at ``address`` is ``old`` make it ``new``; returns what it was.

    Source: ``arch/*/include/asm/futex.h:futex_atomic_cmpxchg_inatomic``.
    """
    mm = task.mm
    assert mm is not None
    paddr = user_page(mm, address, PTE_W) if not address & 3 else 0
    if not paddr:
        raise KernelError(Errno.EFAULT)
    value: int = _UNPACK[4](mm.kernel.arena.view, paddr)[0]
    if value == old:
        _PACK_U32(mm.kernel.arena.view, paddr, new)
    return value


# -- any address space


def user_page(mm: Mm, address: int, access: int) -> int:
    """Where in the arena the byte at ``address`` lies, ready for ``access`` (PTE_R or PTE_W) up to the end of its page.

    0: it cannot be accessed so, and ``mm.fault_reason`` says why.
    """
    table = mm.tables.get(address >> TABLE_SHIFT)
    pte = 0
    if table is not None:
        pte = table.entries.get(address >> PAGE_SHIFT, 0)
        if table.refs != 1:
            pte &= ~PTE_W
    if not pte & access:
        pte = fault_in_user_page(mm, address, access)
        if not pte & access:
            return 0
    if access == PTE_W:
        mm.kernel.frames.before_write(pte >> PAGE_SHIFT)
    return pte & PAGE_MASK | address & OFFSET_MASK


def fault_in_user_page(mm: Mm, address: int, access: int) -> int:
    """A fault of the kernel's own: when it replaces a frame, the CPU must not go on using the old one."""
    before = pte_of(mm, address >> PAGE_SHIFT)
    pte = do_user_addr_fault(mm, address, access)
    if before and (before ^ pte) & PAGE_MASK:
        mm.flush_tlb()
    return pte


def mm_read(mm: Mm, address: int, count: int) -> bytes:
    """Up to ``count`` bytes at ``address``, ending before the first byte that cannot be read."""
    view = mm.kernel.arena.view
    chunks: list[bytes] = []
    while count > 0:
        length = min(PAGE_SIZE - (address & OFFSET_MASK), count)
        start = user_page(mm, address, PTE_R)
        if not start:
            break
        chunks.append(view[start : start + length].tobytes())
        address += length
        count -= length
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def mm_write(mm: Mm, address: int, data: bytes | memoryview) -> int:
    """Store ``data`` at ``address``; returns how many bytes were stored before the first that could not be."""
    view = mm.kernel.arena.view
    total = len(data)
    room = PAGE_SIZE - (address & OFFSET_MASK)
    if total <= room:  # the common case: one page, no slicing
        start = user_page(mm, address, PTE_W) if total else 0
        if not start:
            return 0
        view[start : start + total] = data
        return total

    done = 0
    while done < total:
        length = min(room, total - done)
        start = user_page(mm, address + done, PTE_W)
        if not start:
            break
        view[start : start + length] = data[done : done + length]
        done += length
        room = PAGE_SIZE
    return done


# -- tracers


def access_remote_vm(mm: Mm, address: int, data: int | bytes, *, force: bool) -> bytes:
    """Read ``data`` bytes, or store the bytes ``data``; returns what was read or stored, up to the first bad page.

    With ``force``, permissions that mprotect could grant do not matter; a store to a page that the program cannot write
    makes a private copy. Source: ``mm/memory.c:access_remote_vm``.
    """
    write = not isinstance(data, int)
    count = data if isinstance(data, int) else len(data)
    view = mm.kernel.arena.view
    done = bytearray()
    while len(done) < count:
        here = address + len(done)
        length = min(PAGE_SIZE - (here & OFFSET_MASK), count - len(done))
        start = _remote_page(mm, here, write, force)
        if not start:
            break
        if not isinstance(data, int):
            view[start : start + length] = data[len(done) : len(done) + length]
        done += view[start : start + length]
    return bytes(done)


def _remote_page(mm: Mm, address: int, write: bool, force: bool) -> int:
    """`user_page` for whoever may override permissions. Source: ``mm/gup.c:check_vma_flags``, ``faultin_page``."""
    vma = find_vma(mm, address)
    if vma is None or address < vma.start or vma.flags & (VM_IO | VM_PFNMAP):
        return 0
    if not force or not _may_force(vma, write):
        return user_page(mm, address, PTE_W if write else PTE_R)
    before = pte_of(mm, address >> PAGE_SHIFT)
    pte = handle_mm_fault(vma, address, write)
    if not pte:
        return 0
    if before and (before ^ pte) & PAGE_MASK:
        mm.flush_tlb()
    if write:
        mm.kernel.frames.before_write(pte >> PAGE_SHIFT)
    return pte & PAGE_MASK | address & OFFSET_MASK


def _may_force(vma: Vma, write: bool) -> bool:
    if write:
        return vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
    return vma.flags & VM_MAYREAD != 0
