"""A task in user mode with a few pages of memory, on a kernel that does nothing else: what the contract is tested with.

A backend that is to be tested brings the machine code below; everything else is the same for all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from minikern.arch import Arch
from minikern.engine.cpu import Trap
from minikern.host.host import Host
from minikern.kernel.config import Config
from minikern.kernel.kernel import Kernel
from minikern.kernel.siginfo import SA
from minikern.kernel.task import SigAction, Task
from minikern.mm.mm import mm_alloc
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import arch_pick_mmap_layout, do_mmap
from minikern.mm.uaccess import access_remote_vm, mm_read, mm_write

PAGE = 4096
CODE = 0x40_0000
DATA = 0x60_0000
STACK = 0x80_0000
STACK_PAGES = 16
STACK_TOP = STACK + STACK_PAGES * PAGE
NOWHERE = 0x1234_5000  # nothing is mapped there


@dataclass(frozen=True, slots=True)
class Code:
    """Machine code of one architecture."""

    syscall: bytes  # the system-call instruction
    call: bytes  # exit(1): load number and first argument, then the instruction
    store: bytes  # store something at address NOWHERE
    illegal: bytes  # an instruction that does not exist
    breakpoint: bytes  # what debuggers insert
    breakpoint_advances: bool  # whether the program counter is behind it afterwards
    three_nops: bytes  # three instructions without effect, then the system-call instruction
    nop_size: int  # of each of the three


CODES = {
    "x86_64": Code(
        syscall=bytes.fromhex("0f05"),
        call=bytes.fromhex("b83c000000 bf01000000 0f05"),  # mov eax, 60; mov edi, 1; syscall
        store=bytes.fromhex("890425 00503412"),  # mov [0x12345000], eax
        illegal=bytes.fromhex("0f0b"),  # ud2
        breakpoint=bytes.fromhex("cc"),  # int3
        breakpoint_advances=True,
        three_nops=bytes.fromhex("90 90 90 0f05"),
        nop_size=1,
    ),
    "aarch64": Code(
        syscall=struct.pack("<I", 0xD4000001),  # svc #0
        call=struct.pack("<3I", 0xD2800BA8, 0xD2800020, 0xD4000001),  # mov x8, #93; mov x0, #1; svc #0
        # movz x1, #0x5000; movk x1, #0x1234, lsl #16; str w0, [x1]
        store=struct.pack("<3I", 0xD28A0001, 0xF2A24681, 0xB9000020),
        illegal=struct.pack("<I", 0),  # udf #0
        breakpoint=struct.pack("<I", 0xD4200000),  # brk #0
        breakpoint_advances=False,
        three_nops=struct.pack("<4I", *[0xD503201F] * 3, 0xD4000001),
        nop_size=4,
    ),
}


class Bench:
    """One task on one kernel."""

    def __init__(self, name: str, cls: type[Arch]) -> None:
        self.kernel = Kernel(Config(memory_bytes=16 << 20), Host(), {name: cls})
        arch = self.kernel.arch_for_machine(cls.elf_machine)
        assert arch is not None
        self.arch: Any = arch  # a backend has more than the protocol
        self.code = CODES[name]
        self.task = self.new_task()
        self.task.mm = mm = mm_alloc(self.kernel, arch)
        self.kernel.sched.current = self.task
        arch_pick_mmap_layout(mm, cls.task_size)
        for start, pages, prot in (
            (CODE, 1, Prot.READ | Prot.EXEC),
            (DATA, 4, Prot.READ | Prot.WRITE),
            (STACK, STACK_PAGES, Prot.READ | Prot.WRITE),
        ):
            do_mmap(self.task, None, start, pages * PAGE, prot, Map.PRIVATE | Map.ANONYMOUS | Map.FIXED, 0)
        arch.start_thread(self.task, CODE, STACK_TOP - 64)

    def new_task(self) -> Task:
        """Another task, which has no registers yet."""
        assert self.kernel.init_task is not None
        nothing: Any = SimpleNamespace()
        return Task(self.kernel, self.arch, nothing, cred=self.kernel.init_task.cred)

    def fork(self, sp: int = 0, tls: int | None = None) -> Task:
        """A child in the same memory."""
        child = self.new_task()
        child.mm, child.thread = self.task.mm, self.task.thread
        self.arch.copy_thread(child, self.task, sp, tls)
        return child

    def put(self, code: bytes) -> None:
        """Place code where the task begins."""
        assert self.task.mm is not None
        access_remote_vm(self.task.mm, CODE, code, force=True)

    def run(self, code: bytes | None = None, task: Task | None = None) -> Trap:
        """Let a task run to its next trap; with ``code``, from the beginning of it."""
        task = task or self.task
        assert task.mm is not None
        if code is not None:
            self.put(code)
            self.arch.start_thread(task, CODE, STACK_TOP - 64)
        self.arch.load(task)
        cpu = self.arch.cpu
        cpu.set_space(task.mm)
        trap: Trap = cpu.run(self.arch.instruction_pointer(task))
        return trap

    def read(self, address: int, count: int) -> bytes:
        assert self.task.mm is not None
        data = mm_read(self.task.mm, address, count)
        assert len(data) == count
        return data

    def write(self, address: int, data: bytes) -> None:
        assert self.task.mm is not None
        assert mm_write(self.task.mm, address, data) == len(data)

    def action(self, handler: int = CODE + 0x100, flags: int = 0, restorer: int = CODE + 0x200) -> SigAction:
        """An action as C libraries make them."""
        return SigAction(handler, flags | SA.RESTORER, restorer)
