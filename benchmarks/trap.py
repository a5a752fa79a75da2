"""What the engine costs: microseconds per trap, served call, TLB fill, flush and task switch.

    PYTHONPATH=.:arch python benchmarks/trap.py

Each figure is the best of several rounds.  The numbers that the code quotes come from here.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE, Arena
from minikern.engine.cpu import TABLE_SHIFT, Access, Cpu, Trap

ROUNDS = 7
CALLS = 20_000
PAGES = 4000
CODE, DATA, NOWHERE = 0x40_0000, 0x1000_0000, 0x7000_0000
CODE_FRAME, DATA_FRAME = 0x1000, 0x10_0000

# Machine code that uses the registers at positions 0 and 1 of Cpu.regs.
SYSCALL_LOOP = {"x86_64": "0f05 ebfc", "arm64": "010000d4 ffffff17"}
STORE_TO_EACH_PAGE = {
    "x86_64": "488900 480500100000 48ffc9 75f2 0f05",
    "arm64": "000000f9 00044091 210400f1 a1ffff54 010000d4",
}


@dataclass(slots=True)
class Table:
    """A page table."""

    entries: dict[int, int] = field(default_factory=dict)
    refs: int = 1


class Space:
    """An address space in which everything that there is was mapped beforehand."""

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}
        self.map(CODE, CODE_FRAME, Access.READ | Access.EXEC)

    def map(self, vaddr: int, paddr: int, permissions: int) -> None:
        self.tables.setdefault(vaddr >> TABLE_SHIFT, Table()).entries[vaddr >> PAGE_SHIFT] = paddr | permissions

    def fault(self, _vaddr: int, _access: int) -> int:
        return 0


def best(count: int, action: Callable[[], object]) -> float:
    """Microseconds per unit of an action that does `count` of them."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / count * 1e6


def repeat(action: Callable[[], object]) -> Callable[[], None]:
    """An action that does another one CALLS times."""

    def loop() -> None:
        for _ in range(CALLS):
            action()

    return loop


def measure(arch: str) -> dict[str, float]:
    """Every figure of one architecture."""
    spec = importlib.import_module(f"minikern_{arch}.cpu").SPEC
    arena = Arena(64 << 20)
    start = time.perf_counter()
    cpu = Cpu(spec, arena)
    figures = {"creation of an engine": (time.perf_counter() - start) * 1e6}
    space, other = Space(), Space()
    for page in range(PAGES):
        space.map(DATA + page * PAGE_SIZE, DATA_FRAME + page * PAGE_SIZE, Access.READ | Access.WRITE)

    def put(code: str) -> None:
        data = bytes.fromhex(code)
        arena.view[CODE_FRAME : CODE_FRAME + len(data)] = data
        cpu.drop_code(CODE_FRAME, len(data))
        cpu.set_space(space)
        cpu.run(CODE)

    put(SYSCALL_LOOP[arch])
    figures["system call, stop"] = best(CALLS, repeat(lambda: cpu.run(cpu.pc)))

    calls = 0

    def serve() -> bool:
        nonlocal calls
        calls += 1
        return calls % CALLS != 0

    cpu.serve = serve
    figures["system call, served in the hook"] = best(CALLS, lambda: cpu.run(cpu.pc))
    cpu.serve = None

    context = cpu.snapshot()
    figures["context save"] = best(CALLS, repeat(lambda: cpu.save(context)))
    figures["context restore"] = best(CALLS, repeat(lambda: cpu.restore(context)))
    figures["TLB flush"] = best(CALLS, repeat(cpu.flush_tlb))

    def switch() -> None:
        cpu.set_space(other)
        cpu.run(CODE)
        cpu.set_space(space)
        cpu.run(CODE)

    figures["switch of address spaces and a system call"] = best(CALLS * 2, repeat(switch))
    figures["drop_code of a page"] = best(CALLS, repeat(lambda: cpu.drop_code(CODE_FRAME, PAGE_SIZE)))

    cpu.regs[0] = DATA
    cpu.regs[1] = PAGES
    put(STORE_TO_EACH_PAGE[arch])

    def touch() -> None:
        cpu.regs[0], cpu.regs[1] = DATA, PAGES
        assert cpu.run(CODE) is Trap.SYSCALL

    def touch_after_flush() -> None:
        cpu.flush_tlb()
        touch()

    for _ in range(20):
        touch()  # until the TLB is large enough
    figures["store to a page in the TLB"] = best(PAGES, touch)
    figures["TLB fill"] = best(PAGES, touch_after_flush) - figures["store to a page in the TLB"]

    def fault() -> None:
        cpu.regs[0], cpu.regs[1] = NOWHERE, 1
        assert cpu.run(CODE) is Trap.FAULT

    figures["fault that stops"] = best(CALLS, repeat(fault))
    cpu.close()
    return figures


def main() -> None:
    """Print the figures of all architectures side by side."""
    columns = {arch: measure(arch) for arch in SYSCALL_LOOP}
    print(f"{'µs':<45}" + "".join(f"{arch:>10}" for arch in columns))
    for name in next(iter(columns.values())):
        print(f"{name:<45}" + "".join(f"{figures[name]:>10.3f}" for figures in columns.values()))


if __name__ == "__main__":
    main()
