"""One address space: its areas, its page tables, what it has cost.

Mirrors ``include/linux/mm_types.h:mm_struct`` and its part of ``kernel/fork.c``. The engine sees an `Mm` as a dict of
page tables and one function, `Mm.fault`; all that changes it is in the other modules of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.mm.memory import Fault, copy_page_range, do_user_addr_fault
from minikern.mm.pgtable import PageTable
from minikern.mm.vma import VM_EXEC, VM_SHARED, VM_STACK, VM_WRITE, Vma, release_vma

if TYPE_CHECKING:
    from minikern.arch import Arch
    from minikern.fs.file import File
    from minikern.kernel.kernel import Kernel

# Private and shared anonymous memory, headers of mapped programs, private huge pages (``MMF_DUMP_FILTER_DEFAULT``)
COREDUMP_FILTER_DEFAULT = 0x33


@dataclass(slots=True, eq=False, repr=False)
class Mm:
    """An address space (``struct mm_struct``)."""

    kernel: Kernel
    arch: Arch  # whose programs run in it
    tables: dict[int, PageTable] = field(default_factory=dict)  # address >> 21 -> table; never replaced
    vmas: list[Vma] = field(default_factory=list)  # by address
    last_vma: Vma | None = None  # the one that was looked up last
    users: int = 1  # tasks, and whoever looks into it for a moment

    # Layout
    mmap_base: int = 0  # areas are placed below it, from the top down
    start_code: int = 0
    end_code: int = 0
    start_data: int = 0
    end_data: int = 0
    start_brk: int = 0
    brk: int = 0
    start_stack: int = 0
    arg_start: int = 0
    arg_end: int = 0
    env_start: int = 0
    env_end: int = 0
    saved_auxv: bytes = b""  # /proc/PID/auxv
    vdso: int = 0  # where the vDSO is; 0: not mapped
    exe_file: File | None = None  # what is executed; cannot be written meanwhile
    def_flags: int = 0  # VM_* of new areas (mlockall)
    coredump_filter: int = COREDUMP_FILTER_DEFAULT  # `DumpFilter`: what of it goes into a core file

    # Accounting, in pages
    total_vm: int = 0
    data_vm: int = 0
    exec_vm: int = 0
    stack_vm: int = 0
    locked_vm: int = 0
    hiwater_vm: int = 0  # as of the last time that total_vm went down
    rss_file: int = 0
    rss_anon: int = 0
    rss_shmem: int = 0
    hiwater_rss: int = 0  # as of the last time that pages went

    # Faults
    fault_reason: Fault = Fault.SEGV_MAPERR  # why `fault` returned 0 the last time
    oom_reaped: bool = False  # MMF_UNSTABLE: the OOM killer took its memory; no fault succeeds any more
    membarrier_state: int = 0  # what membarrier(2) was told to expect

    def __repr__(self) -> str:
        return f"<mm of {self.total_vm} pages, {self.users} users>"

    def fault(self, vaddr: int, access: int) -> int:
        """The pte that allows ``access`` to the page of ``vaddr``, or 0; then `fault_reason` says why.

        Called by the engine, and by the kernel's own accesses. Source: ``mm/memory.c:handle_mm_fault``.
        """
        return do_user_addr_fault(self, vaddr, access)

    def flush_tlb(self) -> None:
        """Entries went or lost permissions: the processor must look them up again. Source: ``flush_tlb_mm``."""
        cpu = self.arch.cpu
        if cpu.space is self:
            cpu.flush_tlb()

    @property
    def rss(self) -> int:
        """Resident pages (``get_mm_rss``)."""
        return self.rss_file + self.rss_anon + self.rss_shmem

    @property
    def max_rss(self) -> int:
        """The most pages that were ever resident (``get_mm_hiwater_rss``)."""
        return max(self.hiwater_rss, self.rss)

    @property
    def max_vm(self) -> int:
        """The most pages that were ever mapped (``get_mm_hiwater_vm``)."""
        return max(self.hiwater_vm, self.total_vm)

    def update_hiwater_rss(self) -> None:
        """Pages are about to go (``update_hiwater_rss``)."""
        self.hiwater_rss = self.max_rss

    def account_vm(self, flags: int, pages: int) -> None:
        """``pages`` (negative: fewer) of an area with ``flags`` are mapped. Source: ``mm/mmap.c:vm_stat_account``."""
        self.hiwater_vm = max(self.hiwater_vm, self.total_vm)
        self.total_vm += pages
        if is_stack_mapping(flags):
            self.stack_vm += pages
        elif flags & (VM_EXEC | VM_WRITE) == VM_EXEC:
            self.exec_vm += pages
        elif is_data_mapping(flags):
            self.data_vm += pages

    def rlimit(self, which: Rlimit) -> int:
        """A soft limit of the task that runs; the kernel itself has none (``rlimit``)."""
        current = self.kernel.sched.current
        return current.signal.rlim.cur(which) if current is not None else RLIM_INFINITY


def is_stack_mapping(flags: int) -> bool:
    """Whether an area counts as stack. Source: ``mm/internal.h:is_stack_mapping``."""
    return flags & VM_STACK != 0


def is_data_mapping(flags: int) -> bool:
    """Whether an area counts as data. Source: ``mm/internal.h:is_data_mapping``."""
    return flags & (VM_WRITE | VM_SHARED | VM_STACK) == VM_WRITE


def mm_alloc(kernel: Kernel, arch: Arch) -> Mm:
    """An empty address space with one user, the caller. Source: ``kernel/fork.c:mm_alloc``."""
    return Mm(kernel, arch)


def dup_mm(old: Mm) -> Mm:
    """The child's copy of an address space at fork. Source: ``kernel/fork.c:dup_mm``."""
    mm = Mm(
        old.kernel,
        old.arch,
        mmap_base=old.mmap_base,
        start_code=old.start_code,
        end_code=old.end_code,
        start_data=old.start_data,
        end_data=old.end_data,
        start_brk=old.start_brk,
        brk=old.brk,
        start_stack=old.start_stack,
        arg_start=old.arg_start,
        arg_end=old.arg_end,
        env_start=old.env_start,
        env_end=old.env_end,
        saved_auxv=old.saved_auxv,
        vdso=old.vdso,
        coredump_filter=old.coredump_filter,
        membarrier_state=old.membarrier_state,
    )
    if old.exe_file is not None:
        set_mm_exe_file(mm, old.exe_file)
    copy_page_range(mm, old)
    return mm


def set_mm_exe_file(mm: Mm, file: File | None) -> None:
    """Note what is executed, with a reference of the Mm's own; nobody can open it for writing meanwhile.

    The caller has made sure that nobody has. Source: ``kernel/fork.c:set_mm_exe_file``.
    """
    old = mm.exe_file
    if file is not None:
        file.get().inode.deny_write_access()
    mm.exe_file = file
    if old is not None:
        old.inode.allow_write_access()
        old.fput()


def mmput(mm: Mm) -> None:
    """One user less; the last one takes the address space down. Source: ``kernel/fork.c:mmput``."""
    mm.users -= 1
    if mm.users == 0:
        exit_mmap(mm)
        set_mm_exe_file(mm, None)


def exit_mmap(mm: Mm) -> None:
    """Everything that is mapped goes at once. Source: ``mm/mmap.c:exit_mmap``."""
    mm.update_hiwater_rss()
    frames = mm.kernel.frames
    for table in mm.tables.values():
        table.refs -= 1
        if not table.refs:
            frames.put_ptes(table.entries.values())
    mm.tables.clear()
    mm.rss_file = mm.rss_anon = mm.rss_shmem = 0
    mm.flush_tlb()

    vmas, mm.vmas, mm.last_vma = mm.vmas, [], None
    for vma in vmas:
        release_vma(vma)
    mm.total_vm = mm.data_vm = mm.exec_vm = mm.stack_vm = mm.locked_vm = 0
