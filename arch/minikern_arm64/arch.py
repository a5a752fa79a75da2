"""arm64 as the kernel sees it.

Mirrors ``arch/arm64/kernel/process.c`` and ``arch/arm64/kernel/syscall.c``. Left out: 32-bit programs, SVE, SME, pointer
authentication and memory tagging, which AT_HWCAP does not offer either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from minikern.engine.cpu import Cpu
from minikern.fs.file import OpenFlag
from minikern_arm64 import calls, ptrace, signal, traps
from minikern_arm64.counter import COUNTER_FREQUENCY, counts_host_clock, host_counter
from minikern_arm64.cpu import PSTATE, REG_PC, REG_SP, SPEC, TPIDR_EL0
from minikern_arm64.cpuinfo import cpuinfo, hwcaps
from minikern_arm64.fpsimd import FpSimd
from minikern_arm64.stat import pack_stat
from minikern_arm64.thread import MASK64, Psr, ThreadState
from minikern_arm64.unistd import SYSCALLS

if TYPE_CHECKING:
    from minikern.engine.arena import Arena
    from minikern.kernel.task import Task

_SVC_LENGTH: Final = 4  # bytes of the SVC instruction
_REG_NR: Final = 8  # X8 holds the number of a system call
_RT_SIGRETURN: Final = bytes.fromhex("681180d2 010000d4")  # mov x8, #139; svc #0
_SIGN32: Final = 1 << 31
_SIGN64: Final = 1 << 63

# Open flags that have numbers of their own here (``arch/arm64/include/uapi/asm/fcntl.h``).
_O_DIRECTORY: Final = 0o40000
_O_NOFOLLOW: Final = 0o100000
_O_DIRECT: Final = 0o200000
_O_LARGEFILE: Final = 0o400000
_OWN_FLAGS: Final = (
    (_O_DIRECTORY, OpenFlag.DIRECTORY.value),
    (_O_NOFOLLOW, OpenFlag.NOFOLLOW.value),
    (_O_DIRECT, OpenFlag.DIRECT.value),
    (_O_LARGEFILE, OpenFlag.LARGEFILE.value),
)
_OWN_BITS: Final = _O_DIRECTORY | _O_NOFOLLOW | _O_DIRECT | _O_LARGEFILE  # the same bits in both numberings


class Arm64:
    """The backend of arm64."""

    name = "aarch64"
    elf_machine = 183  # EM_AARCH64
    capstone = (1, 0)  # CS_ARCH_ARM64, CS_MODE_ARM
    audit_arch = 0xC00000B7  # AUDIT_ARCH_AARCH64
    platform = b"aarch64"
    syscalls: Mapping[int, str] = SYSCALLS
    own_syscalls = calls.TABLE
    restart_syscall_nr = 128
    minsigstksz = 4720  # AT_MINSIGSTKSZ: room that a signal frame takes at most
    task_size = 1 << 48
    et_dyn_base = 2 * (1 << 48) // 3 & -4096  # ELF_ET_DYN_BASE
    vdso = Path(__file__).with_name("vdso").joinpath("vdso.so").read_bytes()
    epoll_event_packed = False
    counter_frequency = COUNTER_FREQUENCY
    semid_ds_padded = False

    def __init__(self, arena: Arena) -> None:
        self.cpu = cpu = Cpu(SPEC, arena)
        self.regs = cpu.regs
        self.fpsimd = FpSimd(cpu)
        self._hwcap = hwcaps(cpu)
        self._has_host_counter = counts_host_clock(cpu)
        self._loaded: ThreadState | None = None  # whose registers are on the processor

    def __deepcopy__(self, memo: dict[int, Any]) -> Arm64:
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
        if thread.single_step is not self.cpu.single_step:
            self.cpu.single_step = thread.single_step
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
        """Number and arguments, after the SVC instruction. Source: ``arch/arm64/kernel/syscall.c:el0_svc_common``."""
        if task.thread is not self._loaded:
            self.load(task)
        regs = self.regs
        return (
            (regs[_REG_NR] & 0xFFFF_FFFF ^ _SIGN32) - _SIGN32,
            (regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]),
        )

    def syscall_set_return(self, task: Task, value: int) -> None:
        """Set the result register."""
        if task.thread is not self._loaded:
            self.load(task)
        self.regs[0] = value & MASK64

    def syscall_get_return(self, task: Task) -> int:
        """The result register as a signed number."""
        self.load(task)
        return (self.regs[0] ^ _SIGN64) - _SIGN64

    def syscall_get_args(self, task: Task) -> tuple[int, tuple[int, ...]]:
        """Number and arguments as they are now, after a tracer may have changed them at the entry stop."""
        self.load(task)
        regs = self.regs
        return task.syscall.nr, (regs[0], regs[1], regs[2], regs[3], regs[4], regs[5])

    def syscall_set_args(self, task: Task, nr: int, args: tuple[int, ...]) -> None:
        """Change the call that ``task`` is entering. Source: ``arch/arm64/include/asm/syscall.h:syscall_set_arguments``."""
        self.load(task)
        for index, value in enumerate(args):
            self.regs[index] = value
        task.syscall.nr = nr
        task.syscall.args = args

    def syscall_restart(self, task: Task, nr: int) -> None:
        """Go back onto the SVC instruction, to enter call ``nr`` with the first argument that the result has replaced."""
        self.load(task)
        regs = self.regs
        regs[0] = task.syscall.args[0]
        regs[_REG_NR] = nr
        regs[REG_PC] -= _SVC_LENGTH

    def syscall_rollback(self, task: Task) -> None:
        """The first argument was in the result register. Source: ``arch/arm64/include/asm/syscall.h:syscall_rollback``."""
        self.load(task)
        self.regs[0] = task.syscall.args[0]

    def instruction_pointer(self, task: Task) -> int:
        if task.thread is not self._loaded:
            self.load(task)
        return self.regs[REG_PC]

    def set_instruction_pointer(self, task: Task, address: int) -> None:
        self.load(task)
        self.regs[REG_PC] = address

    def stack_pointer(self, task: Task) -> int:
        self.load(task)
        return self.regs[REG_SP]

    def start_thread(self, task: Task, entry: int, sp: int) -> None:
        """Fresh registers for a new program image. Source: ``arch/arm64/include/asm/processor.h:start_thread``."""
        self.forget(task)
        task.thread = ThreadState(self.cpu.new_context())
        self.load(task)
        self.regs[REG_PC] = entry
        self.regs[REG_SP] = sp

    def copy_thread(self, child: Task, parent: Task, sp: int, tls: int | None) -> None:
        """Give ``child`` the registers of ``parent``. Source: ``arch/arm64/kernel/process.c:copy_thread``."""
        thread = self.thread(parent)
        child.thread = ThreadState(self.cpu.snapshot(), thread.fault_address, thread.fault_code)
        self.load(child)
        self.regs[0] = 0
        if sp:
            self.regs[REG_SP] = sp
        if tls is not None:
            self.cpu.write_reg(TPIDR_EL0, tls)

    def pstate(self) -> int:
        """PSTATE of the loaded task, as programs and tracers see it."""
        return self.cpu.read_reg(PSTATE) & Psr.FLAGS

    def set_pstate(self, thread: ThreadState, value: int) -> None:
        """Set what programs own of it."""
        self.cpu.write_reg(PSTATE, self.cpu.read_reg(PSTATE) & ~(Psr.FLAGS | Psr.BTYPE) | value & Psr.FLAGS)

    def set_single_step(self, task: Task, on: bool) -> None:
        """Stop after each instruction. Source: ``arch/arm64/kernel/debug-monitors.c:user_enable_single_step``."""
        self.thread(task).single_step = self.cpu.single_step = on

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
    core_regsets: tuple[int, ...] = (0x401, 0x404)  # NT_ARM_TLS, NT_ARM_SYSTEM_CALL
    get_regset = ptrace.get_regset
    set_regset = ptrace.set_regset
    arch_ptrace = ptrace.arch_ptrace
    pack_stat = staticmethod(pack_stat)

    # -- layouts

    def open_flags(self, flags: int) -> int:
        """Guest O_* bits as `OpenFlag`."""
        if not flags & _OWN_BITS:
            return flags
        return flags & ~_OWN_BITS | sum(generic for own, generic in _OWN_FLAGS if flags & own)

    def guest_open_flags(self, flags: int) -> int:
        """`OpenFlag` as guest bits."""
        if not flags & _OWN_BITS:
            return flags
        return flags & ~_OWN_BITS | sum(own for own, generic in _OWN_FLAGS if flags & generic)

    def hwcap(self) -> tuple[int, int]:
        """AT_HWCAP and AT_HWCAP2."""
        return self._hwcap

    def read_counter(self) -> int | None:
        """What CNTVCT_EL0 shows."""
        return host_counter() if self._has_host_counter else None

    def sigreturn_trampoline(self) -> int | None:
        """Offset of ``__kernel_rt_sigreturn`` in the vDSO."""
        return self.vdso.index(_RT_SIGRETURN)

    def sigreturn_address(self, task: Task) -> int:
        """Where a handler without SA_RESTORER returns to."""
        offset = self.sigreturn_trampoline()
        assert offset is not None and task.mm is not None
        return task.mm.vdso + offset

    def cpuinfo(self) -> str:
        """One processor's part of /proc/cpuinfo."""
        return cpuinfo(self.cpu)
