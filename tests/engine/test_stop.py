"""A stop never takes an instruction apart, whenever it comes: what has reached memory is not done a second time."""

from __future__ import annotations

import threading
import time

import pytest

from minikern.engine.arena import PAGE_SHIFT
from minikern.engine.cpu import Access, Trap
from tests.engine.guest import CODE, CODE_FRAME, DATA, DATA_FRAME, Guest

# Instructions that may not be done twice; register 0 points at a word, register 1 holds 1. Then the system call.
ONCE = {
    "x86_64": {
        "add to memory": "480108 0f05",  # add [rax], rcx
        "atomic add": "f0480108 0f05",  # lock add [rax], rcx
        "exchange and add": "f0480fc108 0f05",  # lock xadd [rax], rcx
        "follow a pointer": "488b00 0f05",  # mov rax, [rax]
    },
    "arm64": {
        "atomic add": "020021f8 010000d4",  # ldadd x1, x2, [x0]; svc #0
        # ldxr x2, [x0]; add x2, x2, x1; stxr w3, x2, [x0]; svc #0
        "store exclusive": "027c5fc8 4200018b 027c03c8 010000d4",
        "follow a pointer": "000040f9 010000d4",  # ldr x0, [x0]; svc #0
    },
}
CASES = [(arch, name) for arch, snippets in ONCE.items() for name in snippets]


class _StopsAtAccess:
    """An address space in which whoever reads or writes the data page is stopped in that very moment."""

    def __init__(self, guest: Guest) -> None:
        self.tables: dict[int, object] = {}
        self._guest = guest

    def fault(self, vaddr: int, access: int) -> int:
        if vaddr >> PAGE_SHIFT == CODE >> PAGE_SHIFT:
            return CODE_FRAME | Access.EXEC
        self._guest.cpu.stop()
        return DATA_FRAME | access


@pytest.mark.parametrize(("arch", "name"), CASES)
def test_an_instruction_is_done_once(arch: str, name: str, in_place: bool, guest: Guest) -> None:
    guest.put(bytes.fromhex(ONCE[arch][name]))
    cpu = guest.cpu
    cpu.set_space(_StopsAtAccess(guest))  # type: ignore[arg-type]
    first = 5 if name != "follow a pointer" else DATA + 16
    guest.arena.view[DATA_FRAME : DATA_FRAME + 8] = first.to_bytes(8, "little")
    cpu.restore(cpu.new_context())
    cpu.regs[0], cpu.regs[1] = DATA, 1
    pc = CODE
    for _ in range(10):
        trap = cpu.run(pc)
        if trap is not Trap.PREEMPT:
            break
        pc = cpu.pc
    assert trap is Trap.SYSCALL
    if name == "follow a pointer":
        assert cpu.regs[0] == first
    else:
        assert guest.word(DATA) == 6


def test_counting_while_being_stopped(arch: str, guest: Guest) -> None:
    """A loop increments memory, then a register. Whenever it is stopped, they differ by one at most."""
    loop = {
        "x86_64": "f048ff00 48ffc1 ebf7",  # 1: lock inc qword [rax]; inc rcx; jmp 1b
        "arm64": "220080d2 030022f8 21040091 fdffff17",  # 1: mov x2, #1; ldadd x2, x3, [x0]; add x1, x1, #1; b 1b
    }[arch]
    cpu = guest.cpu
    guest.put(bytes.fromhex(loop))
    cpu.restore(cpu.new_context())
    cpu.regs[0], cpu.regs[1] = DATA, 0
    over = threading.Event()

    def ticks() -> None:
        while not over.is_set():
            time.sleep(0.0002)
            cpu.stop()

    ticker = threading.Thread(target=ticks)
    ticker.start()
    try:
        pc = CODE
        for _ in range(300):
            assert cpu.run(pc) is Trap.PREEMPT
            pc = cpu.pc
            assert guest.word(DATA) - cpu.regs[1] in (0, 1)
    finally:
        over.set()
        ticker.join()
    assert cpu.regs[1] > 300
