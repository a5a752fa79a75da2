"""Page tables: two-level dicts that the engine walks, shared as a whole between parent and child after fork.

Takes the place of ``arch/*/include/asm/pgtable.h`` and of ``copy_pte_range`` in ``mm/memory.c``. ``mm.tables`` maps
``address >> 21`` to a `PageTable`, whose entries map the virtual page number to a *pte*::

    physical address | PTE_R | PTE_W | PTE_X | PTE_ANON

* Each entry holds one reference to its frame; a table that two address spaces share holds it once for both.
* While a table is shared its W bits do not count, and nothing in it may change: `writable_entries` comes first.
* A private page may be written in place only when it is anonymous and its frame has no other reference.

An entry without R, W and X is that of a present page under PROT_NONE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.engine.cpu import TABLE_SHIFT

if TYPE_CHECKING:
    from minikern.mm.mm import Mm

# Plain integers, not an IntFlag: its operators cost half a microsecond each, and these run for every page.
PTE_R: Final = 0x1  # the engine's Access.READ
PTE_W: Final = 0x2
PTE_X: Final = 0x4
PTE_ANON: Final = 0x8  # private memory of this process, not a page of a file; the engine does not look at it
PTE_RWX: Final = PTE_R | PTE_W | PTE_X

PAGE_MASK: Final = -PAGE_SIZE  # address & PAGE_MASK: start of its page
OFFSET_MASK: Final = PAGE_SIZE - 1
_PAGE_MASK_64: Final = PAGE_MASK & (1 << 64) - 1
TABLE_PAGES_SHIFT: Final = TABLE_SHIFT - PAGE_SHIFT
PTRS_PER_TABLE: Final = 1 << TABLE_PAGES_SHIFT  # entries that a full table has


@dataclass(slots=True, eq=False, repr=False)
class PageTable:
    """What is mapped in one aligned 2 MiB piece of an address space."""

    entries: dict[int, int] = field(default_factory=dict)  # virtual page number -> pte
    refs: int = 1  # address spaces that use it


def page_align(length: int) -> int:
    """Round up to whole pages; as in Linux, what is rounded up to 2^64 becomes 0 (``PAGE_ALIGN``)."""
    return (length + OFFSET_MASK) & _PAGE_MASK_64


def pte_of(mm: Mm, vpn: int) -> int:
    """The entry of a page as it stands, 0 when there is none."""
    table = mm.tables.get(vpn >> TABLE_PAGES_SHIFT)
    return table.entries.get(vpn, 0) if table is not None else 0


def writable_entries(mm: Mm, key: int) -> dict[int, int]:
    """The entries of the table ``key`` of an address space, ready to be changed: its own, and there.

    Copying a shared table is the part of fork that was put off: both copies of a private page become read-only, so
    that the next store decides who gets a copy. Source: ``mm/memory.c:copy_pte_range``.
    """
    table = mm.tables.get(key)
    if table is None:
        table = mm.tables[key] = PageTable()
        return table.entries
    if table.refs == 1:
        return table.entries

    entries = table.entries
    refs = mm.kernel.frames.refs
    for vpn, pte in entries.items():
        refs[pte >> PAGE_SHIFT] += 1
        if pte & PTE_ANON:
            entries[vpn] = pte & ~PTE_W
    table.refs -= 1
    copy = mm.tables[key] = PageTable(dict(entries))
    return copy.entries


def set_pte(mm: Mm, vpn: int, pte: int) -> None:
    """Enter a page; its reference to the frame is the caller's to have taken."""
    writable_entries(mm, vpn >> TABLE_PAGES_SHIFT)[vpn] = pte


def tables_between(mm: Mm, first: int, last: int) -> list[int]:
    """Keys of the tables that cover virtual pages [first, last), in order."""
    low, high = first >> TABLE_PAGES_SHIFT, (last - 1 >> TABLE_PAGES_SHIFT) + 1
    tables = mm.tables
    if high - low < len(tables):
        return [key for key in range(low, high) if key in tables]
    return sorted(key for key in tables if low <= key < high)


def present_pages(entries: dict[int, int], first: int, last: int) -> list[int]:
    """Which virtual pages of [first, last) have an entry in one table."""
    if last - first < len(entries):
        return [vpn for vpn in range(first, last) if vpn in entries]
    return [vpn for vpn in entries if first <= vpn < last]
