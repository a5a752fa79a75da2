"""Random sequences of memory operations in several processes, against a model that is a dict of pages."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minikern.kernel.errno import KernelError
from minikern.kernel.task import Task
from minikern.mm.madvise import do_madvise
from minikern.mm.memory import Fault
from minikern.mm.mm import dup_mm, mmput
from minikern.mm.mman import Madv, Map, Mremap, Prot
from minikern.mm.mmap import do_mmap, do_munmap
from minikern.mm.mprotect import do_mprotect
from minikern.mm.mremap import sys_mremap
from minikern.mm.uaccess import access_remote_vm, copy_from_user, copy_to_user

from .fakes import FakeFile, FakeInode, Machine, check

PAGE = 4096
BASE = 0x5555_5540_0000 - 4 * PAGE  # the window lies across a table boundary
WINDOW = 10  # pages
FILE_PAGES = 4

pages = st.integers(0, WINDOW - 1)
lengths = st.integers(1, 4)
RW = Prot.READ | Prot.WRITE
prots = st.sampled_from([RW, RW, RW, RW, Prot.NONE, Prot.READ, Prot.READ | Prot.EXEC, Prot.WRITE])
values = st.integers(1, 255)


@dataclass(eq=False)
class Box:
    """The first byte of a page, wherever it is seen."""

    value: int = 0


@dataclass
class Page:
    """What one process has at one address."""

    prot: int
    box: Box
    shared: bool
    file_page: int | None = None  # which page of the file, for mappings of it
    copied: bool = False  # a private page that has its own box

    def readable(self) -> bool:
        return self.prot != 0

    def child(self) -> Page:
        box = Box(self.box.value) if not self.shared and (self.file_page is None or self.copied) else self.box
        return Page(self.prot, box, self.shared, self.file_page, self.copied)


class Memory(RuleBasedStateMachine):
    """Processes with the same window of addresses; every byte that can be seen is compared after every step."""

    @initialize(backed=st.booleans())
    def start(self, backed: bool) -> None:
        self.machine = Machine(4 << 20)
        self.inode = FakeInode(
            self.machine.kernel, b"".join(bytes([i + 1]) * PAGE for i in range(FILE_PAGES)), backed=backed
        )
        self.file_boxes = [Box(i + 1 if backed else 0) for i in range(FILE_PAGES)]
        self.file = FakeFile(self.inode)
        self.models: dict[Task, dict[int, Page]] = {self.machine.task: {}}
        self.mmap_anonymous(0, 0, WINDOW // 2, RW, False)
        self.mmap_file(0, WINDOW // 2, 0, FILE_PAGES, RW, False)
        for page in range(0, WINDOW - 1, 2):
            self.store(0, page, page + 1, False)

    def pick(self, which: int) -> tuple[Task, dict[int, Page]]:
        task = list(self.models)[which % len(self.models)]
        self.machine.run(task)
        return task, self.models[task]

    @rule(which=st.integers(0, 5), at=pages, count=lengths, prot=prots, shared=st.booleans())
    def mmap_anonymous(self, which: int, at: int, count: int, prot: int, shared: bool) -> None:
        task, model = self.pick(which)
        flags = Map.ANONYMOUS | Map.FIXED | (Map.SHARED if shared else Map.PRIVATE)
        do_mmap(task, None, BASE + at * PAGE, count * PAGE, prot, flags, 0)
        for page in range(at, at + count):
            model[page] = Page(prot, Box(), shared)

    @rule(
        which=st.integers(0, 5),
        at=pages,
        first=st.integers(0, FILE_PAGES - 1),
        count=lengths,
        prot=prots,
        shared=st.booleans(),
    )
    def mmap_file(self, which: int, at: int, first: int, count: int, prot: int, shared: bool) -> None:
        task, model = self.pick(which)
        count = min(count, FILE_PAGES - first)
        flags = Map.FIXED | (Map.SHARED if shared else Map.PRIVATE)
        do_mmap(task, self.file, BASE + at * PAGE, count * PAGE, prot, flags, first)  # type: ignore[arg-type]
        for i in range(count):
            model[at + i] = Page(prot, self.file_boxes[first + i], shared, first + i)

    @rule(which=st.integers(0, 5), at=pages, count=lengths)
    def munmap(self, which: int, at: int, count: int) -> None:
        task, model = self.pick(which)
        do_munmap(task.mm, BASE + at * PAGE, count * PAGE)  # type: ignore[arg-type]
        for page in range(at, at + count):
            model.pop(page, None)

    @rule(which=st.integers(0, 5), at=pages, count=lengths, prot=prots)
    def mprotect(self, which: int, at: int, count: int, prot: int) -> None:
        task, model = self.pick(which)
        holes = [page for page in range(at, at + count) if page not in model]
        if holes:
            with pytest.raises(KernelError):
                do_mprotect(task.mm, BASE + at * PAGE, count * PAGE, prot)  # type: ignore[arg-type]
        else:
            do_mprotect(task.mm, BASE + at * PAGE, count * PAGE, prot)  # type: ignore[arg-type]
        for page in range(at, holes[0] if holes else at + count):
            model[page].prot = prot

    @rule(which=st.integers(0, 5), at=pages, value=values, by_kernel=st.booleans())
    def store(self, which: int, at: int, value: int, by_kernel: bool) -> None:
        task, model = self.pick(which)
        address = BASE + at * PAGE
        page = model.get(at)
        allowed = page is not None and page.prot & Prot.WRITE != 0
        if by_kernel:
            try:
                copy_to_user(task, address, bytes([value]))
                done = True
            except KernelError:
                done = False
        else:
            done = self.machine.cpu.store(address, value)
        assert done == allowed
        if not done:
            assert task.mm is not None
            assert task.mm.fault_reason is (Fault.SEGV_MAPERR if page is None else Fault.SEGV_ACCERR)
        else:
            assert page is not None
            self._stored(page, value)

    def _stored(self, page: Page, value: int) -> None:
        if page.file_page is not None and not page.shared and not page.copied:
            page.box, page.copied = Box(), True
        page.box.value = value

    @rule(which=st.integers(0, 5), at=pages, value=values)
    def poke(self, which: int, at: int, value: int) -> None:
        """A debugger's store: it ignores the protection of private pages."""
        task, model = self.pick(which)
        assert task.mm is not None
        page = model.get(at)
        done = access_remote_vm(task.mm, BASE + at * PAGE, bytes([value]), force=True)
        assert bool(done) == (page is not None and (not page.shared or page.prot & Prot.WRITE != 0))
        if done:
            assert page is not None
            self._stored(page, value)

    @rule(which=st.integers(0, 5), at=pages, count=lengths)
    def dontneed(self, which: int, at: int, count: int) -> None:
        task, model = self.pick(which)
        assert task.mm is not None
        try:
            do_madvise(task.mm, BASE + at * PAGE, count * PAGE, Madv.DONTNEED)
        except KernelError:
            assert any(page not in model for page in range(at, at + count))
        for number in range(at, at + count):
            page = model.get(number)
            if page is None or page.shared:
                continue
            if page.file_page is None:
                page.box = Box()
            else:
                page.box, page.copied = self.file_boxes[page.file_page], False

    @rule(which=st.integers(0, 5), at=pages, to=pages, count=st.integers(1, 4), keep=st.booleans())
    def mremap(self, which: int, at: int, to: int, count: int, keep: bool) -> None:
        task, model = self.pick(which)
        flags = Mremap.MAYMOVE | Mremap.FIXED | (Mremap.DONTUNMAP if keep else 0)
        assert task.mm is not None
        vma = next((v for v in task.mm.vmas if v.start <= BASE + at * PAGE < v.end), None)
        fits = vma is not None and BASE + (at + count) * PAGE <= vma.end
        overlap = at < to + count and to < at + count
        try:
            sys_mremap(task, BASE + at * PAGE, count * PAGE, count * PAGE, flags, BASE + to * PAGE)
        except KernelError:
            assert overlap or not fits
            if not overlap and vma is not None:  # the target was cleared before the source was looked at
                for i in range(count):
                    model.pop(to + i, None)
            return
        assert fits and not overlap
        for i in range(count):
            page = model[at + i]
            model[to + i] = Page(page.prot, page.box, page.shared, page.file_page, page.copied)
            if not keep:
                del model[at + i]
            elif not page.shared:
                page.copied = False
                page.box = Box() if page.file_page is None else self.file_boxes[page.file_page]

    @precondition(lambda self: len(self.models) < 4)
    @rule(which=st.integers(0, 5))
    def fork(self, which: int) -> None:
        task, model = self.pick(which)
        assert task.mm is not None
        child = self.machine.new_task(dup_mm(task.mm))
        self.models[child] = {number: page.child() for number, page in model.items()}

    @precondition(lambda self: len(self.models) > 1)
    @rule(which=st.integers(0, 5))
    def exit(self, which: int) -> None:
        task, _ = self.pick(which)
        del self.models[task]
        self.machine.run(next(iter(self.models)))
        assert task.mm is not None
        mmput(task.mm)

    @rule(index=st.integers(0, FILE_PAGES - 1), value=values)
    def write_file(self, index: int, value: int) -> None:
        self.inode.mapping.write(index * PAGE, bytes([value]))
        self.file_boxes[index].value = value

    @rule()
    def reclaim(self) -> None:
        self.machine.kernel.frames.shrink_page_cache(1000)

    @rule()
    def writeback(self) -> None:
        self.inode.mapping.writeback()
        if self.inode.mapping.backed:
            assert [self.inode.disk[i * PAGE] for i in range(FILE_PAGES)] == [box.value for box in self.file_boxes]

    @invariant()
    def what_is_seen(self) -> None:
        if not hasattr(self, "models"):
            return
        for task, model in self.models.items():
            runs = self.machine.cpu.space is task.mm  # to switch would flush the TLB, and hide a flush that is missing
            for number in range(WINDOW + 4):
                page = model.get(number)
                address = BASE + number * PAGE
                expected = page.box.value if page is not None and page.readable() else None
                if runs:
                    assert self.machine.cpu.load(address) == expected
                try:
                    seen: int | None = copy_from_user(task, address, 1)[0]
                except KernelError:
                    seen = None
                assert seen == expected
        check(self.machine, *self.models)


Memory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMemory = Memory.TestCase
