"""One processor: a Unicorn engine that runs user code until it traps.

The engine knows physical memory (the arena) and asks for every page that is not in its TLB; it knows nothing of
processes.  An address space is a two-level dict of page-table entries that the memory manager owns.  So fork, exec,
copy-on-write and demand paging are plain Python data, one engine serves every process, and translated code is shared
by whoever runs the same physical page at the same address.

`Cpu.run` returns for one of four reasons (`Trap`).  Nothing of the kernel runs inside a callback except
`AddressSpace.fault`, and `Cpu.serve` for system calls that can neither block nor switch tasks.

Left out: anything that interrupts a processor from outside but `stop`; privileged user code (set-up leaves the engine
in user mode, so privileged instructions trap as they do on hardware).
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from minikern.engine import lib
from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE, Arena
from minikern.engine.context import Context, StateWord
from minikern.engine.registers import words_at
from minikern.engine.uc import Engine

TABLE_SHIFT: Final = 21  # one page table spans 2 MiB, as Linux's last level does with 4 KiB pages
INVALID_INSTRUCTION: Final = -1  # `Cpu.exception` for an instruction that the CPU does not know
SINGLE_STEP: Final = -2  # `Cpu.exception` when `Cpu.single_step` is set and one instruction has run; pc is at the next

_PAGE_MASK: Final = PAGE_SIZE - 1
_WRITE: Final = 2
_READ_WRITE: Final = 3
_FETCH: Final = 4
_ALL: Final = 7

# The engine's TLB starts at 256 entries and grows only at a flush, when it was well used.  So it is flushed after this
# many fills, then after twice as many, and so on: a loop over 20 MB needs 12,874 fills that way and 2,078,641 without.
_FIRST_GROWTH: Final = 256
_LAST_GROWTH: Final = 1 << 20
_REMEMBERED_SPACES: Final = 1024

_HANDLE_WORDS: Final = 512  # of the engine's struct, which is several times larger
_FLAGS: Final = bytes((0, 1, 0, 1))  # four flags side by side in it, as they are while nothing runs …
_WHOLE_BLOCKS: Final = 2  # … and which of them it is about
_WINDOW: Final = 1 << 62  # drop_code looks physical pages up here; fills for the guest never are at this address
SCRATCH_VADDR: Final = 0x10000  # where `Cpu.execute` runs its instructions


class Access(IntEnum):
    """What an access needs: the permission bits of a page-table entry."""

    READ = 1
    WRITE = 2
    EXEC = 4


class Trap(IntEnum):
    """Why `Cpu.run` returned."""

    SYSCALL = 1  # the system-call instruction; pc is behind it
    FAULT = 2  # fault_address and fault_access say what could not be done; pc is at the instruction
    EXCEPTION = 3  # `Cpu.exception` is the number
    PREEMPT = 4  # somebody called stop()


class PageTable(Protocol):
    """What is mapped in 2 MiB; shared by two address spaces after fork, then copy-on-write as a whole."""

    entries: dict[int, int]  # virtual page number -> physical address | Access bits
    refs: int  # how many address spaces use it; with more than one the WRITE bits do not count


class AddressSpace(Protocol):
    """What the CPU needs of a memory manager."""

    @property
    def tables(self) -> Mapping[int, PageTable]:
        """Virtual address >> TABLE_SHIFT -> table; always the same dict object."""

    def fault(self, vaddr: int, access: int) -> int:
        """The page-table entry that allows `access` to the page at `vaddr`, or 0 (Linux: mm/memory.c:handle_mm_fault)."""


@dataclass(frozen=True, slots=True)
class CpuSpec:
    """What an architecture tells the engine."""

    uc_arch: int  # UC_ARCH_*
    uc_mode: int  # UC_MODE_*
    cpu_model: int  # UC_CPU_*
    gpr_ids: tuple[int, ...]  # registers that Cpu.regs indexes, in the order in which the engine keeps them
    pc_index: int  # position of the program counter in gpr_ids
    setup: Callable[["Cpu"], None]  # run once: enable the FPU, enter user mode, find state words
    syscall_instruction: int | None = None  # UC_*_INS_* to hook, where system calls come as an instruction …
    syscall_interrupt: int | None = None  # … or the interrupt number, where they come as an exception
    page_size: int | None = None  # to be set first, where the engine's own is not 4 KiB
    tag_mask: int = 0  # the top bits of an address, where the MMU ignores them
    stop_probe: bytes = b""  # a load from the page in which it is, then the system-call instruction


class Cpu(Engine):
    """A processor.  Used by one thread at a time, but for `stop`."""

    def __init__(self, spec: CpuSpec, arena: Arena, *, in_place: bool = True) -> None:
        """Create the engine; `in_place=False` reaches the registers by calls even where they are found in memory."""
        super().__init__(spec.uc_arch, spec.uc_mode, spec.cpu_model, spec.page_size)
        self.spec = spec
        self.arena = arena
        self.pc = 0  # of the last trap
        self.fault_address = 0  # of the last Trap.FAULT: the first byte that could not be reached
        self.fault_access = Access.READ  # of the last Trap.FAULT
        self.exception = 0  # of the last Trap.EXCEPTION
        self.serve: Callable[[], bool] | None = None  # called on a system call; True: done, go on without a stop
        # Physical page numbers; no frame is in both sets: see _on_fill.
        self.code_frames: set[int] = set()  # code may have been translated from them
        self._open_frames: set[int] = set()  # the guest may store to them without anybody noticing
        self.fills = 0  # TLB fills so far
        self.flushes = 0  # TLB flushes so far
        self.cleared_on_restore: StateWord | None = None  # by setup: what a task must not bring along
        self.cleared_after_exception: StateWord | None = None  # by setup: what the next exception must not see

        self._trap: Trap | None = None
        self._error: BaseException | None = None  # raised inside a callback, for `run` to raise
        self._stop_requested = False
        self._missed_page: int | None = None  # the last page that could not be filled in, since `run`
        self._missed_access = 0
        self._window_open = False
        self.space: AddressSpace = _Nowhere()  # the one that runs; set by `set_space`
        self._tables: Mapping[int, PageTable] = self.space.tables
        self._growth = _FIRST_GROWTH
        self._next_growth = _FIRST_GROWTH  # value of `fills` at which the TLB is made to grow
        self._growth_of: dict[int, int] = {}  # id of an address space -> how far its growth had come
        self._results: dict[int, memoryview] = {}  # address -> the words that a fill is answered in
        self._pc_index = spec.pc_index

        self._start = self._library.slow.uc_emu_start
        self._stop = self._library.quick.uc_emu_stop
        self._quick_control = self._library.quick.uc_ctl
        self._begin = ctypes.c_uint64()
        self._zero = ctypes.c_uint64(0)
        self._count = ctypes.c_size_t(0)
        self._flush_word = ctypes.c_uint(lib.CTL_FLUSH_TLB)
        self._invalid_address: memoryview | None = None
        self._whole_blocks: ctypes.c_uint8 | None = None  # the engine's flag: stop between blocks only
        self._scratch = Arena(PAGE_SIZE)
        self._scratch_paddr = arena.size
        self._spare = self.new_context()

        self._map(0, arena)
        self._map(self._scratch_paddr, self._scratch)
        self._add_hooks()
        self._find_registers(spec.gpr_ids, in_place)
        self._set_up()

    # -- running

    def run(self, pc: int) -> Trap:
        """Enter user mode at `pc` until it traps.  The pc of the trap is in `self.pc` and in the registers."""
        if self._stop_requested:
            self._stop_requested = False
            self.regs[self._pc_index] = self.pc = pc
            return Trap.PREEMPT
        self._trap = None
        self._begin.value = pc
        zero = self._zero
        error = self._start(self._handle, self._begin, zero, zero, self._count)
        self.pc = self.regs[self._pc_index]
        if self._trap is Trap.SYSCALL and self._error is None:
            return Trap.SYSCALL
        return self._other_trap(error)

    def _other_trap(self, error: int) -> Trap:
        """`run` ended, and not with a system call."""
        missed, self._missed_page = self._missed_page, None
        if self._error is not None:
            raised, self._error = self._error, None
            raise raised
        if error == lib.UC_ERR_INSN_INVALID:
            self._trap = Trap.EXCEPTION
            self.exception = INVALID_INSTRUCTION
        if self._trap is Trap.EXCEPTION:
            if self.cleared_after_exception is not None:
                self.save(self._spare)
                self.cleared_after_exception.clear(self._spare)
                self._restore(self._handle, self._spare.data)
            return Trap.EXCEPTION
        if error and missed is not None:
            self.fault_access = Access(self._missed_access)
            self.fault_address = self._missed_address(missed)
            return Trap.FAULT
        self._library.check(error, f"the engine stopped at {self.pc:#x}")
        if self._count.value and not (self._stop_requested and self.pc == self._begin.value):
            self.exception = SINGLE_STEP
            return Trap.EXCEPTION
        # stop(); or one that an earlier run has answered already; or an instruction that waits for an interrupt.
        self._stop_requested = False
        return Trap.PREEMPT

    def _missed_address(self, page: int) -> int:
        """The address of the access that missed `page`; the callback is told the page only."""
        address = page if self._invalid_address is None else self._invalid_address[0]
        return self._untagged(address if address & ~_PAGE_MASK == page else page)

    def _untagged(self, address: int) -> int:
        """`address` without the bits that the MMU ignores; an address of the kernel's half stays as it is."""
        tag_mask = self.spec.tag_mask
        plain = address & ~tag_mask
        return address if plain & tag_mask >> 1 else plain

    def stop(self) -> None:
        """Make `run` return with PREEMPT soon; from any thread.  One that comes before `run` is not lost.

        One that comes in the very moment of entering can be missed by the engine; then `stop_pending` stays True, and
        who must not wait for the next stop (`Ticker`) repeats it.
        """
        self._stop_requested = True
        self._stop(self._handle)

    @property
    def stop_pending(self) -> bool:
        """Whether a stop was asked for that `run` has not answered yet."""
        return self._stop_requested

    @property
    def single_step(self) -> bool:
        """Whether `run` executes one instruction only and then returns EXCEPTION with SINGLE_STEP.

        Every change makes the engine translate everything anew.  Not to be changed from within `serve`.
        """
        return self._count.value != 0

    @single_step.setter
    def single_step(self, on: bool) -> None:
        if on and not self._count.value:
            self._control(lib.CTL_FLUSH_CODE)  # what is there does not count instructions
        if self._whole_blocks is not None:
            self._whole_blocks.value = not on
        self._count.value = int(on)

    # -- callbacks: the hot path.  Nothing may be raised out of them: Python would print and forget it.

    def _on_syscall(self) -> None:
        """The system-call instruction."""
        serve = self.serve
        if serve is not None:
            try:
                if serve():
                    return
            except BaseException as error:  # KeyboardInterrupt too
                self._error = error
        self._trap = Trap.SYSCALL
        self._stop(self._handle)

    def _on_interrupt(self, _handle: int, number: int) -> None:
        """Every exception of the CPU; on some architectures the system call is one of them."""
        if number == self.spec.syscall_interrupt:
            self._on_syscall()
            return
        if self._trap is Trap.SYSCALL:
            return  # the trap flag of x86 also traps behind a system call; the call comes first
        self._trap = Trap.EXCEPTION
        self.exception = number
        self._stop(self._handle)

    def _on_fill(self, _handle: int, vaddr: int, kind: int, result: int) -> bool:
        """A page is not in the TLB: answered from the page table, and what is not there by `AddressSpace.fault`."""
        access = 1 << kind - lib.UC_MEM_READ
        try:
            table = self._tables[vaddr >> TABLE_SHIFT]
            entry = table.entries[vaddr >> PAGE_SHIFT]
            if table.refs != 1:
                entry &= ~_WRITE
        except KeyError:
            entry = 0
        if not entry & access:
            entry = self._resolve(vaddr, access)
            if not entry:
                return False
        # `result` points into the C stack, to one of few places: a view of each is kept.
        try:
            words = self._results[result]
        except KeyError:
            words = self._results[result] = words_at(result, 2)
        words[0] = entry & ~_PAGE_MASK
        # A store through an executable TLB entry makes the engine look for code to forget, but costs 28 ns instead of 2.
        # So only a fetch gets the EXEC bit, and a frame has either code or entries that are writable and no more: a
        # translation makes the engine watch the stores at its own address, not those through another mapping.
        frame = entry >> PAGE_SHIFT
        if access == _FETCH:
            if frame in self._open_frames:
                self.flush_tlb()
            self.code_frames.add(frame)
            words[1] = entry & _ALL
        elif not entry & _WRITE:
            words[1] = entry & _READ_WRITE
        elif frame in self.code_frames:
            words[1] = self._data_access_to_code(entry, access)
        else:
            self._open_frames.add(frame)
            words[1] = entry & _READ_WRITE
        self.fills = fills = self.fills + 1
        if fills >= self._next_growth:
            self._grow_tlb()
        return True

    def _data_access_to_code(self, entry: int, access: int) -> int:
        """What a load or a store may do with a page that the guest may write and that is in a frame of `code_frames`."""
        if entry & _FETCH:
            return entry & _ALL  # code that writes code: it stays, but for what the stores hit
        if access != _WRITE:
            return entry & _READ_WRITE & ~_WRITE
        frame = entry >> PAGE_SHIFT
        self.drop_code(frame << PAGE_SHIFT, PAGE_SIZE)
        self._open_frames.add(frame)
        return entry & _READ_WRITE

    def _resolve(self, vaddr: int, access: int) -> int:
        """The entry for a fill that the page table does not answer; 0 makes the engine stop at the instruction."""
        if self._window_open:
            return vaddr - _WINDOW | _FETCH
        page = self._untagged(vaddr)
        entry = self._lookup(page) if page != vaddr else 0
        if not entry & access:
            try:
                entry = self.space.fault(page, access)
            except BaseException as error:  # KeyboardInterrupt too
                self._error = error
                return 0
            if not entry & access:
                self._missed_page, self._missed_access = vaddr, access
                return 0
            if access != _WRITE:
                # The table says whether a page that was only read may be written to without another fault.
                entry &= self._lookup(page) | ~_WRITE
        return entry

    def _lookup(self, page: int) -> int:
        """The entry of a page, or 0."""
        table = self._tables.get(page >> TABLE_SHIFT)
        if table is None:
            return 0
        entry = table.entries.get(page >> PAGE_SHIFT, 0)
        return entry if table.refs == 1 else entry & ~_WRITE

    # -- address spaces

    def set_space(self, space: AddressSpace) -> None:
        """Run in another address space from now on."""
        if space is self.space:
            return
        if len(self._growth_of) >= _REMEMBERED_SPACES:
            self._growth_of.clear()
        self._growth_of[id(self.space)] = self._growth  # an id that is used again does no harm
        self._growth = self._growth_of.get(id(space), _FIRST_GROWTH)
        self.space = space
        self._tables = space.tables
        self.flush_tlb()

    def flush_tlb(self) -> None:
        """Forget every fill; needed after page-table entries were changed or removed."""
        self._quick_control(self._handle, self._flush_word)
        self._open_frames.clear()
        self.flushes += 1
        self._next_growth = self.fills + self._growth

    def _grow_tlb(self) -> None:
        """Flush because the TLB was too small; a well-used one comes back with twice the size."""
        if self._growth < _LAST_GROWTH:
            self._growth *= 2
        self.flush_tlb()

    def drop_code(self, paddr: int, length: int) -> None:
        """Forget what was translated from a physical range; needed after the kernel wrote into a frame of `code_frames`."""
        begin = _WINDOW + paddr
        self._window_open = True
        try:
            self._control(lib.CTL_REMOVE_CACHE, ctypes.c_uint64(begin), ctypes.c_uint64(begin + length))
        finally:
            self._window_open = False
            self.flush_tlb()  # the guest must not find the window
        self.code_frames.difference_update(range(paddr >> PAGE_SHIFT, (paddr + length - 1 >> PAGE_SHIFT) + 1))

    # -- contexts

    def restore(self, context: Context) -> None:
        """Go on with the state in `context`, but for what no task may bring along: the exclusive monitor is clear."""
        if self.cleared_on_restore is not None:
            self.cleared_on_restore.clear(context)
        self._restore(self._handle, context.data)

    # -- set-up

    def _add_hooks(self) -> None:
        """Install the callbacks."""
        if self.spec.syscall_instruction is not None:
            instruction = ctypes.c_int(self.spec.syscall_instruction)
            self._add_hook(lib.UC_HOOK_INSN, lib.SYSCALL_HOOK(self._on_syscall), instruction)
        self._add_hook(lib.UC_HOOK_INTR, lib.INTR_HOOK(self._on_interrupt))
        self._add_hook(lib.UC_HOOK_TLB_FILL, lib.TLB_HOOK(self._on_fill))

    def _set_up(self) -> None:
        """Let the architecture put the processor into user mode, and remember that state."""
        self._invalid_address = self._find_invalid_address()
        self.spec.setup(self)
        self._whole_blocks = self._find_whole_blocks()
        for index in range(len(self.regs)):
            self.regs[index] = 0
        self.set_space(_Nowhere())
        self._pristine = bytes(self.snapshot())
        self.code_frames.clear()
        self.fills = self.flushes = 0
        self._next_growth = self._growth

    def _find_invalid_address(self) -> memoryview | None:
        """The word of the engine's struct that keeps the address which could not be filled in.

        Two jumps to nowhere put two addresses there.  Only the struct itself is searched: no foreign memory is read.
        Without that word a fault is exact to the page.
        """
        words = words_at(self._handle.value or 0, _HANDLE_WORDS)
        candidates = set(range(_HANDLE_WORDS))
        for address in (0x1234_5678_9ABC, 0x5432_10FE_DCB8):
            self.run(address)
            candidates = {index for index in candidates if words[index] == address}
        return words[candidates.pop() :] if len(candidates) == 1 else None

    def _find_whole_blocks(self) -> ctypes.c_uint8 | None:
        """Set the flag in the engine's struct that makes `stop` take effect between blocks only, and find it by that.

        Without it the engine looks for a stop behind every access to memory as well, and leaves the instruction to be
        done again that has just made one: a counter in memory is then incremented twice (unicorn issue 1355).  The flag is
        there for blocks that must not be taken apart; code translated while it is set has no such looks, and is faster.
        """
        start = self._handle.value or 0
        struct = bytes(words_at(start, _HANDLE_WORDS))
        at = struct.find(_FLAGS)
        while at >= 0:
            flag = ctypes.c_uint8.from_address(start + at + _WHOLE_BLOCKS)
            flag.value = 1
            if self._stops_behind_block():
                return flag
            flag.value = 0
            at = struct.find(_FLAGS, at + 1)
        return None

    def _stops_behind_block(self) -> bool:
        """Whether a stop that comes during an access to memory waits for the end of the block."""
        before = self.snapshot()
        self._scratch.view[: len(self.spec.stop_probe)] = self.spec.stop_probe
        self._control(lib.CTL_FLUSH_CODE)
        self.set_space(_StopsAtLoad(self, self._scratch_paddr))
        trap = self.run(SCRATCH_VADDR)
        self._stop_requested = False
        self.restore(before)
        return trap is Trap.SYSCALL

    def execute(self, code: bytes) -> Trap:
        """Run a few instructions, which must end in a trap, from a page that only this call can reach; for set-up.

        The privilege is the one that the engine has at that time.
        """
        self._scratch.view[: len(code)] = code
        self.drop_code(self._scratch_paddr, PAGE_SIZE)
        self.set_space(_Scratch(self._scratch_paddr))
        return self.run(SCRATCH_VADDR)


class _Nowhere:
    """An address space with nothing in it."""

    def __init__(self) -> None:
        self.tables: dict[int, PageTable] = {}

    def fault(self, _vaddr: int, _access: int) -> int:
        return 0


class _Scratch(_Nowhere):
    """An address space with one page, readable, writable and executable."""

    def __init__(self, paddr: int) -> None:
        super().__init__()
        self._paddr = paddr

    def fault(self, vaddr: int, _access: int) -> int:
        return self._paddr | _ALL if vaddr == SCRATCH_VADDR else 0


class _StopsAtLoad(_Scratch):
    """The same, but whoever reads from it is stopped."""

    def __init__(self, cpu: Cpu, paddr: int) -> None:
        super().__init__(paddr)
        self._cpu = cpu

    def fault(self, vaddr: int, access: int) -> int:
        if access == Access.READ:
            self._cpu.stop()
        return super().fault(vaddr, access) & ~_READ_WRITE | access
