"""A processor with a few pages and snippets of machine code: what the tests of the engine run.

The snippets use the registers at positions 0 to 3 of `Cpu.regs`, so a test reads the same for both architectures.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE, Arena
from minikern.engine.cpu import TABLE_SHIFT, Cpu, CpuSpec, Trap
from minikern.engine.registers import RegisterFile

ARCHES = ("x86_64", "arm64")

CODE = 0x40_0000  # virtual addresses
DATA = 0x60_0000
DATA_PAGES = 16
STACK_TOP = DATA + 8 * PAGE_SIZE
NOWHERE = 0x1234_5678
CODE_FRAME = 0x1000  # physical addresses
DATA_FRAME = 0x10_0000

R, W, X = 1, 2, 4
A0, A1, A2, A3 = range(4)  # positions in Cpu.regs

SNIPPETS = {
    "x86_64": {
        "syscall": "0f05 ebfc",  # 1: syscall; jmp 1b
        "load": "488b08 48ffc2 0f05",  # mov rcx, [rax]; inc rdx; syscall
        "store": "488908 48ffc2 0f05",  # mov [rax], rcx; inc rdx; syscall
        "jump": "ffe0",  # jmp rax
        "call": "ffd3 0f05",  # call rbx; syscall
        "add": "4801c8 0f05",  # add rax, rcx; syscall
        "spin": "48ffc1 ebfb",  # 1: inc rcx; jmp 1b
        "increments": "48ffc1 48ffc1 48ffc1 0f05",  # inc rcx, three times; syscall
        "touch": "488900 480500100000 48ffc9 75f2 0f05",  # 1: mov [rax], rax; add rax, 4096; dec rcx; jnz 1b; syscall
        "store_and_call": "488908 ffd3 0f05",  # mov [rax], rcx; call rbx; syscall
        "simd": "664c0f6ec9 664c0f7eca 0f05",  # movq xmm9, rcx; movq rdx, xmm9; syscall
        "return_1": "b801000000 c3",  # mov eax, 1; ret
        "return_2": "b802000000 c3",
        "breakpoint": "cc",  # int3
        "unknown": "0f0b",  # ud2
        "privileged": "f4",  # hlt
    },
    "arm64": {
        "syscall": "010000d4 ffffff17",  # 1: svc #0; b 1b
        "load": "010040f9 42040091 010000d4",  # ldr x1, [x0]; add x2, x2, #1; svc #0
        "store": "010000f9 42040091 010000d4",  # str x1, [x0]; add x2, x2, #1; svc #0
        "jump": "00001fd6",  # br x0
        "call": "60003fd6 010000d4",  # blr x3; svc #0
        "add": "0000018b 010000d4",  # add x0, x0, x1; svc #0
        "spin": "21040091 ffffff17",  # 1: add x1, x1, #1; b 1b
        "increments": "21040091 21040091 21040091 010000d4",  # add x1, x1, #1, three times; svc #0
        # 1: str x0, [x0]; add x0, x0, #4096; subs x1, x1, #1; b.ne 1b; svc #0
        "touch": "000000f9 00044091 210400f1 a1ffff54 010000d4",
        # str x1, [x0]; dc cvau, x0; dsb ish; ic ivau, x3; dsb ish; isb; blr x3; svc #0
        "store_and_call": "010000f9 207b0bd5 9f3b03d5 23750bd5 9f3b03d5 df3f03d5 60003fd6 010000d4",
        "simd": "290c084e 223d184e 010000d4",  # dup v9.2d, x1; umov x2, v9.d[1]; svc #0
        "return_1": "200080d2 c0035fd6",  # mov x0, #1; ret
        "return_2": "400080d2 c0035fd6",
        "breakpoint": "200020d4",  # brk #1
        "unknown": "00000000",  # udf #0
        "privileged": "df4203d5",  # msr daifset, #2
    },
}
STACK_POINTER = {"x86_64": 4, "arm64": 31}  # position in Cpu.regs


def spec_of(arch: str) -> CpuSpec:
    """The CpuSpec of an architecture's package."""
    spec: CpuSpec = importlib.import_module(f"minikern_{arch}.cpu").SPEC
    return spec


@dataclass(slots=True)
class Table:
    """A page table as the engine wants it."""

    entries: dict[int, int] = field(default_factory=dict)
    refs: int = 1


class Space:
    """An address space that remembers what it was asked for, and maps on demand what `on_demand` says."""

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}
        self.on_demand: dict[int, int] = {}  # virtual address of a page -> entry
        self.asked: list[tuple[int, int]] = []

    def map(self, vaddr: int, paddr: int, permissions: int, pages: int = 1) -> None:
        for offset in range(0, pages * PAGE_SIZE, PAGE_SIZE):
            table = self.tables.setdefault(vaddr + offset >> TABLE_SHIFT, Table())
            table.entries[vaddr + offset >> PAGE_SHIFT] = paddr + offset | permissions

    def fault(self, vaddr: int, access: int) -> int:
        self.asked.append((vaddr, access))
        entry = self.on_demand.get(vaddr, 0)
        if entry & access:
            self.map(vaddr, entry & -PAGE_SIZE, entry % PAGE_SIZE)
        return entry


class Guest:
    """A processor, a space with a code page and data pages, and the code in it."""

    def __init__(self, arch: str, arena: Arena, *, in_place: bool = True) -> None:
        self.arch = arch
        self.arena = arena
        self.cpu = Cpu(spec_of(arch), arena, in_place=in_place)
        self.space = Space()
        self.space.map(CODE, CODE_FRAME, R | X)
        self.space.map(DATA, DATA_FRAME, R | W, DATA_PAGES)
        self.cpu.set_space(self.space)
        self.arena.view[CODE_FRAME : CODE_FRAME + PAGE_SIZE] = bytes(PAGE_SIZE)
        self.arena.view[DATA_FRAME : DATA_FRAME + DATA_PAGES * PAGE_SIZE] = bytes(DATA_PAGES * PAGE_SIZE)

    @property
    def regs(self) -> RegisterFile:
        return self.cpu.regs

    def code(self, name: str) -> bytes:
        return bytes.fromhex(SNIPPETS[self.arch][name])

    def put(self, code: str | bytes, paddr: int = CODE_FRAME) -> None:
        """Place a snippet, by name or as bytes, as the kernel would."""
        data = self.code(code) if isinstance(code, str) else code
        self.arena.view[paddr : paddr + len(data)] = data
        self.cpu.drop_code(paddr, len(data))

    def run(self, code: str | bytes, *registers: int) -> Trap:
        """Run a snippet from a fresh state with the given values in the first registers."""
        self.put(code)
        self.cpu.restore(self.cpu.new_context())
        self.cpu.regs[STACK_POINTER[self.arch]] = STACK_TOP
        for index, value in enumerate(registers):
            self.cpu.regs[index] = value
        return self.cpu.run(CODE)

    def word(self, vaddr: int) -> int:
        """Eight bytes of the data pages."""
        paddr = vaddr - DATA + DATA_FRAME
        return int.from_bytes(self.arena.view[paddr : paddr + 8], "little")


@contextmanager
def guest_of(arch: str, *, in_place: bool = True) -> Iterator[Guest]:
    """A Guest whose engine is given back at the end."""
    guest = Guest(arch, Arena(64 << 20), in_place=in_place)
    try:
        yield guest
    finally:
        guest.cpu.close()
