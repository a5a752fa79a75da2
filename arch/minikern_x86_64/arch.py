"""x86-64 as the kernel sees it.

Mirrors ``arch/x86/kernel/process_64.c`` and ``arch/x86/entry/``. Left out: 32-bit programs, AVX, shadow stacks, memory
protection keys, and the alternative to SYSCALL (``int 0x80``), which faults as on a kernel without IA32_EMULATION.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minikern.engine.cpu import Cpu
from minikern.kernel.errno import Errno
from minikern_x86_64 import calls, ptrace, signal, traps
from minikern_x86_64.cpu import (
    EFLAGS,
    FS_BASE,
    REG_R8,
    REG_R9,
    REG_R10,
    REG_R11,
    REG_RAX,
    REG_RCX,
    REG_RDI,
    REG_RDX,
    REG_RIP,
    REG_RSI,
    REG_RSP,
    SPEC,
    hwcaps,
)
from minikern_x86_64.cpuinfo import cpuinfo
from minikern_x86_64.fpu import Fpu
from minikern_x86_64.stat import pack_stat
from minikern_x86_64.thread import MASK64, Flag, ThreadState
from minikern_x86_64.tsc import host_counter
from minikern_x86_64.unistd import SYSCALLS

if TYPE_CHECKING:
    from minikern.engine.arena import Arena
    from minikern.kernel.task import Task

_SYSCALL_LENGTH = 2  # bytes of the SYSCALL instruction
_MINUS_ENOSYS = -Errno.ENOSYS & MASK64
_SIGN32 = 1 << 31
_SIGN64 = 1 << 63


class X86_64:
    """The backend of x86-64."""

    name = "x86_64"
    elf_machine = 62  # EM_X86_64
    capstone = (3, 8)  # CS_ARCH_X86, CS_MODE_64
    audit_arch = 0xC000003E  # AUDIT_ARCH_X86_64
    platform = b"x86_64"
    syscalls: Mapping[int, str] = SYSCALLS
    own_syscalls = calls.TABLE
    restart_syscall_nr = 219
    minsigstksz = 1104  # AT_MINSIGSTKSZ: room that a signal frame takes at most
    task_size = 0x7FFF_FFFF_F000  # the last page below 2^47 is never mapped
    et_dyn_base = 0x5555_5555_4000  # two thirds of task_size, ELF_ET_DYN_BASE
    vdso = Path(__file__).with_name("vdso").joinpath("vdso.so").read_bytes()
    epoll_event_packed = True
    counter_frequency = 0
    semid_ds_padded = True

    def __init__(self, arena: Arena) -> None:
        self.cpu = cpu = Cpu(SPEC, arena)
        self.regs = cpu.regs
        self.fpu = Fpu(cpu)
        self._hwcap = hwcaps(cpu)
        self._cpuinfo = cpuinfo(cpu)
        self._counter = host_counter(cpu)
        self._loaded: ThreadState | None = None  # whose registers are on the processor

    def __deepcopy__(self, memo: dict[int, Any]) -> X86_64:
        """It is a host handle: copies of a kernel share it. Call `unload` before making one."""
        return self

    # -- registers

    def load(self, task: Task) -> None:
        """Put the registers of ``task`` on the processor, saving those of whoever is there."""
        thread = task.thread
        if thread is self._loaded:
            return
        assert isinstance(thread, ThreadState)
        self.unload()
        self.cpu.restore(thread.context)
        self._loaded = thread

    def unload(self) -> None:
        """Save the registers of whoever is on the processor, and leave it to nobody."""
        if self._loaded is not None:
            self.cpu.save(self._loaded.context)
            self._loaded = None

    def forget(self, task: Task) -> None:
        """``task`` is gone: never save its registers again."""
        if task.thread is self._loaded:
            self._loaded = None

    def thread(self, task: Task) -> ThreadState:
        """The state of ``task``, whose registers are on the processor afterwards."""
        self.load(task)
        assert self._loaded is not None
        return self._loaded

    def syscall_enter(self, task: Task) -> tuple[int, tuple[int, ...]]:
        """Number and arguments, after the SYSCALL instruction. Source: ``arch/x86/entry/entry_64.S:entry_SYSCALL_64``."""
        if task.thread is not self._loaded:
            self.load(task)
        regs = self.regs
        nr = regs[REG_RAX]
        # The instruction keeps the return address and the flags in these two; the engine leaves that to its hook.
        regs[REG_RCX] = regs[REG_RIP]
        regs[REG_R11] = self.cpu.read_reg(EFLAGS)
        regs[REG_RAX] = _MINUS_ENOSYS
        return (
            (nr & 0xFFFF_FFFF ^ _SIGN32) - _SIGN32,
            (regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]),
        )

    def syscall_set_return(self, task: Task, value: int) -> None:
        """Set the result register."""
        if task.thread is not self._loaded:
            self.load(task)
        self.regs[REG_RAX] = value & MASK64

    def syscall_get_return(self, task: Task) -> int:
        """The result register as a signed number."""
        self.load(task)
        return (self.regs[REG_RAX] ^ _SIGN64) - _SIGN64

    def syscall_get_args(self, task: Task) -> tuple[int, tuple[int, ...]]:
        """Number and arguments as they are now, after a tracer may have changed them at the entry stop."""
        self.load(task)
        regs = self.regs
        return task.syscall.nr, (regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9])

    def syscall_set_args(self, task: Task, nr: int, args: tuple[int, ...]) -> None:
        """Change the call that ``task`` is entering. Source: ``arch/x86/include/asm/syscall.h:syscall_set_arguments``."""
        self.load(task)
        regs = self.regs
        regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9] = args
        task.syscall.nr = nr

    def syscall_restart(self, task: Task, nr: int) -> None:
        """Go back onto the SYSCALL instruction, to enter call ``nr``. The arguments are still in their registers."""
        self.load(task)
        regs = self.regs
        regs[REG_RAX] = nr & MASK64
        regs[REG_RIP] -= _SYSCALL_LENGTH

    def syscall_rollback(self, task: Task) -> None:
        """The number was in the result register. Source: ``arch/x86/include/asm/syscall.h:syscall_rollback``."""
        self.load(task)
        self.regs[REG_RAX] = task.syscall.nr & MASK64

    def instruction_pointer(self, task: Task) -> int:
        if task.thread is not self._loaded:
            self.load(task)
        return self.regs[REG_RIP]

    def set_instruction_pointer(self, task: Task, address: int) -> None:
        self.load(task)
        self.regs[REG_RIP] = address

    def stack_pointer(self, task: Task) -> int:
        self.load(task)
        return self.regs[REG_RSP]

    def start_thread(self, task: Task, entry: int, sp: int) -> None:
        """Fresh registers for a new program image. Source: ``arch/x86/kernel/process_64.c:start_thread``."""
        self.forget(task)
        task.thread = ThreadState(self.cpu.new_context())
        self.load(task)
        self.regs[REG_RIP] = entry
        self.regs[REG_RSP] = sp

    def copy_thread(self, child: Task, parent: Task, sp: int, tls: int | None) -> None:
        """Give ``child`` the registers of ``parent``. Source: ``arch/x86/kernel/process.c:copy_thread``."""
        thread = self.thread(parent)
        child.thread = ThreadState(self.cpu.snapshot(), thread.cr2, thread.error_code, thread.trap_nr)
        self.load(child)
        self.regs[REG_RAX] = 0
        if thread.forced_tf:  # the child is not the one that is stepped
            self.cpu.write_reg(EFLAGS, self.cpu.read_reg(EFLAGS) & ~Flag.TF)
        if sp:
            self.regs[REG_RSP] = sp
        if tls is not None:
            self.cpu.write_reg(FS_BASE, tls)

    def user_flags(self, thread: ThreadState) -> int:
        """RFLAGS of the loaded task without the trap flag of a tracer. Source: ``arch/x86/kernel/ptrace.c:get_flags``."""
        flags = self.cpu.read_reg(EFLAGS)
        return flags & ~Flag.TF if thread.forced_tf else flags

    def set_single_step(self, task: Task, on: bool) -> None:
        """Stop after each instruction. Source: ``arch/x86/kernel/step.c:user_enable_single_step``."""
        thread = self.thread(task)
        flags = self.cpu.read_reg(EFLAGS)
        if on and not flags & Flag.TF:
            thread.forced_tf = True
            self.cpu.write_reg(EFLAGS, flags | Flag.TF)
        elif not on and thread.forced_tf:
            thread.forced_tf = False
            self.cpu.write_reg(EFLAGS, flags & ~Flag.TF)

    # -- what has a file of its own

    exception_info = traps.exception_info
    single_step_info = traps.single_step_info
    fault_context = traps.fault_context
    setup_rt_frame = signal.setup_rt_frame
    restore_rt_frame = signal.restore_rt_frame
    get_gregs = ptrace.get_gregs
    set_gregs = ptrace.set_gregs
    get_fpregs = ptrace.get_fpregs
    set_fpregs = ptrace.set_fpregs
    core_regsets: tuple[int, ...] = (0x202,)  # NT_X86_XSTATE
    get_regset = ptrace.get_regset
    set_regset = ptrace.set_regset
    arch_ptrace = ptrace.arch_ptrace
    pack_stat = staticmethod(pack_stat)

    # -- layouts

    def open_flags(self, flags: int) -> int:
        """The generic numbering is this architecture's own."""
        return flags

    def guest_open_flags(self, flags: int) -> int:
        return flags

    def hwcap(self) -> tuple[int, int]:
        """AT_HWCAP and AT_HWCAP2."""
        return self._hwcap

    def read_counter(self) -> int | None:
        """What RDTSC shows."""
        if self._counter is None:
            return None
        value: int = self._counter.read()
        return value

    def sigreturn_trampoline(self) -> int | None:
        """The C library brings its own (SA_RESTORER is obligatory)."""
        return None

    def cpuinfo(self) -> str:
        """One processor's part of /proc/cpuinfo."""
        return self._cpuinfo
