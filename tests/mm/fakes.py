"""A kernel as small as memory management can stand: real frames and page tables, nothing that runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from minikern.engine.arena import Arena
from minikern.fs.file import FMode
from minikern.kernel.cred import Cap
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.events import Events
from minikern.kernel.resource import RLIM_INFINITY, Rlimit
from minikern.kernel.task import SignalStruct, Task
from minikern.mm.check import check_frames, check_mm
from minikern.mm.filemap import AddressSpace
from minikern.mm.mm import Mm, mm_alloc
from minikern.mm.mmap import arch_pick_mmap_layout
from minikern.mm.page_alloc import PageAllocator
from minikern.mm.pgtable import PTE_W

TASK_SIZE = 0x7FFF_FFFF_F000


class FakeCpu:
    """A processor with a TLB that remembers what it was told until it is flushed, as the real one does."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.space: Any = None
        self.code_frames: set[int] = set()
        self.dropped: list[int] = []
        self.tlb: dict[tuple[int, int], int] = {}

    def set_space(self, space: Any) -> None:
        if space is not self.space:
            self.space = space
            self.flush_tlb()

    def flush_tlb(self) -> None:
        self.tlb.clear()

    def drop_code(self, paddr: int, length: int) -> None:
        self.dropped.append(paddr >> 12)
        self.code_frames.discard(paddr >> 12)

    def translate(self, vaddr: int, access: int) -> int | None:
        """The physical address for an access of the running program; None: a fault that nobody resolved."""
        page = vaddr >> 12
        if (page, access) not in self.tlb:
            table = self.space.tables.get(vaddr >> 21)
            pte = table.entries.get(page, 0) if table is not None else 0
            if table is not None and table.refs != 1:
                pte &= ~PTE_W
            if not pte & access:
                pte = self.space.fault(vaddr, access)
                if not pte & access:
                    return None
                table = self.space.tables[vaddr >> 21]
                if table.refs != 1 and access != PTE_W:
                    pte &= ~PTE_W
            for bit in (1, 2, 4):  # a fill replaces whatever the TLB held for the page
                self.tlb.pop((page, bit), None)
                if pte & bit:
                    self.tlb[page, bit] = pte & ~0xFFF
        return self.tlb[page, access] | vaddr & 0xFFF

    def load(self, vaddr: int) -> int | None:
        """One byte, as the program reads it."""
        paddr = self.translate(vaddr, 1)
        return None if paddr is None else self.arena.view[paddr]

    def store(self, vaddr: int, value: int) -> bool:
        """One byte, as the program writes it; says whether it could."""
        paddr = self.translate(vaddr, 2)
        if paddr is None:
            return False
        self.arena.view[paddr] = value
        return True


class FakeCred:
    """Root, or nobody."""

    def __init__(self, caps: frozenset[Cap] = frozenset()) -> None:
        self.caps = caps

    def has_cap(self, cap: Cap) -> bool:
        return cap in self.caps


@dataclass(eq=False)
class FakePids:
    tasks: list[Task] = field(default_factory=list)

    def all_processes(self) -> list[Task]:
        return self.tasks


@dataclass(eq=False)
class FakeKernel:
    arena: Arena
    events: Events = field(default_factory=Events)
    archs: dict[str, Any] = field(default_factory=dict)
    pids: FakePids = field(default_factory=FakePids)
    config: Any = field(default_factory=lambda: SimpleNamespace(aslr=False))
    sched: Any = field(default_factory=lambda: SimpleNamespace(current=None))
    frames: PageAllocator = field(init=False)

    def __post_init__(self) -> None:
        self.frames = PageAllocator(self)  # type: ignore[arg-type]


@dataclass(eq=False)
class FakeArch:
    cpu: FakeCpu
    task_size: int = TASK_SIZE


class Machine:
    """One kernel with one processor and one process."""

    def __init__(self, memory: int = 64 << 20) -> None:
        self.kernel: Any = FakeKernel(Arena(memory))
        self.cpu = FakeCpu(self.kernel.arena)
        self.arch: Any = FakeArch(self.cpu)
        self.kernel.archs["fake"] = self.arch
        self.task = self.new_task(self.new_mm())
        self.run(self.task)

    def new_mm(self) -> Mm:
        mm = mm_alloc(self.kernel, self.arch)
        arch_pick_mmap_layout(mm, TASK_SIZE)
        return mm

    def new_task(self, mm: Mm) -> Task:
        signal = SignalStruct()
        signal.rlim.pairs[Rlimit.STACK] = (8 << 20, RLIM_INFINITY)
        task = Task(self.kernel, self.arch, None, mm=mm, signal=signal)
        task.cred = FakeCred()  # type: ignore[assignment]
        signal.threads.append(task)
        self.kernel.pids.tasks.append(task)
        return task

    def run(self, task: Task) -> None:
        """It is this task's turn."""
        self.kernel.sched.current = task
        assert task.mm is not None
        self.cpu.set_space(task.mm)


class FakeInode:
    """A file on some disk: bytes, and a page cache over them."""

    def __init__(self, kernel: Any, data: bytes = b"", *, backed: bool = True) -> None:
        self.disk = bytearray(data)
        self.size = len(data)
        self.reads: list[int] = []
        self.writes: list[int] = []
        self.broken = False
        self.i_writecount = 0
        self.mapping = AddressSpace(kernel, self, backed=backed)

    def read_page(self, index: int) -> bytes:
        self.reads.append(index)
        if self.broken:
            raise KernelError(Errno.EIO)
        return bytes(self.disk[index << 12 : (index + 1) << 12])

    def write_page(self, index: int, data: bytes) -> None:
        self.writes.append(index)
        end = (index << 12) + len(data)
        if len(self.disk) < end:
            self.disk.extend(bytes(end - len(self.disk)))
        self.disk[index << 12 : end] = data

    def punch_hole(self, pos: int, length: int) -> None:
        self.disk[pos : pos + length] = bytes(length)
        self.mapping.punch_hole(pos, pos + length)

    def deny_write_access(self) -> None:
        self.i_writecount -= 1

    def allow_write_access(self) -> None:
        self.i_writecount += 1


class FakeFile:
    """An open file that can be mapped."""

    def __init__(self, inode: FakeInode, mode: FMode = FMode.READ | FMode.WRITE) -> None:
        self.inode = inode
        self.f_mode = mode
        self.f_path = None
        self.count = 1

    def get(self) -> FakeFile:
        self.count += 1
        return self

    def fput(self) -> None:
        self.count -= 1
        assert self.count >= 0

    def mmap(self, task: Task, vma: Any) -> AddressSpace:
        return self.inode.mapping


def check(machine: Machine, *tasks: Task, pinned: Iterable[int] = ()) -> None:
    """Every reference to a frame has a holder, and the address spaces of ``tasks`` are sound."""
    mms = [task.mm for task in tasks if task.mm is not None]
    assert check_frames(machine.kernel, mms, pinned) == []
    assert [complaint for mm in mms for complaint in check_mm(mm)] == []
