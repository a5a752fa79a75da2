"""What an architecture is to the kernel: the protocol of a backend, and how installed ones are found.

Each backend is a package of its own with an entry point in the group ``minikern.arch`` that names a class which
follows `Arch`. One instance belongs to one Kernel; it owns the engine of that architecture, a host handle, and no
kernel state. Registers of a task that is not loaded lie in its `ThreadState`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from minikern.engine.arena import Arena
    from minikern.engine.cpu import Cpu
    from minikern.fs.kstat import Kstat
    from minikern.kernel.siginfo import SigInfo
    from minikern.kernel.syscalls import SyscallTable
    from minikern.kernel.task import SigAction, Task

ENTRY_POINT_GROUP = "minikern.arch"


class ThreadState(Protocol):
    """The registers of a task that is not on the processor; plain data that ``copy.deepcopy`` copies."""


class Arch(Protocol):
    """One CPU architecture."""

    name: str  # as ``uname -m`` says it, and as users name it
    elf_machine: int  # e_machine of its binaries
    capstone: tuple[int, int]  # arch and mode for the disassembler
    audit_arch: int  # AUDIT_ARCH_*
    platform: bytes  # AT_PLATFORM
    syscalls: Mapping[int, str]  # number -> name
    own_syscalls: SyscallTable  # handlers that only this architecture has; they go before the generic ones
    restart_syscall_nr: int  # number of restart_syscall
    minsigstksz: int  # AT_MINSIGSTKSZ: bytes that a signal frame takes
    task_size: int  # end of user addresses
    et_dyn_base: int  # where a static-PIE goes
    vdso: bytes  # ELF image mapped into every process
    cpu: Cpu  # its engine
    counter_frequency: int  # Hz, of a cycle counter that counts the host's monotonic clock from its 0 on; 0: measure it

    def __init__(self, arena: Arena) -> None: ...

    # -- registers. Every function that takes a task first makes sure that its registers are the ones on the processor

    def load(self, task: Task) -> None:
        """Put the registers of ``task`` on the processor, saving those of whoever is there."""

    def unload(self) -> None:
        """Save the registers of whoever is on the processor, so that every `ThreadState` can be looked at or copied."""

    def forget(self, task: Task) -> None:
        """``task`` is gone: never save its registers again."""

    def syscall_enter(self, task: Task) -> tuple[int, tuple[int, ...]]:
        """After a system-call trap: its number and six raw argument registers. Does what the CPU and the entry code do."""

    def syscall_set_return(self, task: Task, value: int) -> None:
        """Set the result register."""

    def syscall_get_return(self, task: Task) -> int:
        """The result register as a signed number."""

    def syscall_get_args(self, task: Task) -> tuple[int, tuple[int, ...]]:
        """Number (that of `Task.syscall`) and arguments as they are now: a tracer may have changed them after entry."""

    def syscall_set_args(self, task: Task, nr: int, args: tuple[int, ...]) -> None:
        """Change the number and arguments of the call that ``task`` is entering (tracers)."""

    def syscall_restart(self, task: Task, nr: int) -> None:
        """Go back onto the trapping instruction, with ``nr`` as the number and the first argument as it was on entry."""

    def syscall_rollback(self, task: Task) -> None:
        """Put the result register back as it was before the call; the call is not made (``syscall_rollback``)."""

    def instruction_pointer(self, task: Task) -> int: ...
    def set_instruction_pointer(self, task: Task, address: int) -> None: ...
    def stack_pointer(self, task: Task) -> int: ...

    def start_thread(self, task: Task, entry: int, sp: int) -> None:
        """Fresh registers for a new program image. Source: ``arch/*/kernel/process*.c:start_thread``."""

    def copy_thread(self, child: Task, parent: Task, sp: int, tls: int | None) -> None:
        """Give ``child`` the registers of ``parent`` with result 0, ``sp`` unless it is 0, and ``tls`` unless None."""

    # -- exceptions and signals

    def exception_info(self, task: Task) -> SigInfo:
        """The signal for the exception that the engine stopped with (`Trap.EXCEPTION`)."""

    def fault_context(self, task: Task, address: int, access: int) -> SigInfo | None:
        """Note fault address and error code where a signal frame shows them. Not None: the CPU has an exception of
        another kind for such an address, and this is its signal."""

    def setup_rt_frame(self, task: Task, info: SigInfo, action: SigAction, mask: int) -> None:
        """Push a signal frame that restores ``mask`` and enter the handler; KernelError(EFAULT) when there is no stack."""

    def restore_rt_frame(self, task: Task) -> int:
        """rt_sigreturn: restore everything from the frame (mask by ``signal.set_current_blocked``, alternate stack by
        ``signal.restore_altstack``). Returns the value of the result register. KernelError(EFAULT): bad frame."""

    # -- register sets, for ptrace and core files, in the layout of ``elf_gregset_t`` and ``elf_fpregset_t``

    def get_gregs(self, task: Task) -> bytes: ...
    def set_gregs(self, task: Task, data: bytes) -> None: ...
    def get_fpregs(self, task: Task) -> bytes: ...
    def set_fpregs(self, task: Task, data: bytes) -> None: ...

    core_regsets: tuple[int, ...]  # NT_* of the sets that core files have besides these two

    def get_regset(self, task: Task, kind: int) -> bytes:
        """A set by the type of its ELF note (PTRACE_GETREGSET); KernelError(EINVAL): there is none such."""

    def set_regset(self, task: Task, kind: int, data: bytes) -> None:
        """The same back (PTRACE_SETREGSET); ``data`` may be the beginning of the set, in whole words."""

    def arch_ptrace(self, tracer: Task, child: Task, request: int, addr: int, data: int) -> int:
        """Requests that only this architecture has; KernelError(EIO): not one of them."""

    def set_single_step(self, task: Task, on: bool) -> None: ...

    def single_step_info(self, task: Task) -> SigInfo:
        """The SIGTRAP for a step over a system call, which the CPU does not report (``user_single_step_report``)."""

    # -- layouts

    def pack_stat(self, stat: Kstat) -> bytes:
        """``struct stat``."""

    def open_flags(self, flags: int) -> int:
        """Guest O_* bits as `OpenFlag`."""

    def guest_open_flags(self, flags: int) -> int:
        """`OpenFlag` as guest bits (F_GETFL)."""

    epoll_event_packed: bool  # whether struct epoll_event has no padding
    semid_ds_padded: bool  # whether an unused word follows each time in struct semid64_ds

    def hwcap(self) -> tuple[int, int]:
        """AT_HWCAP and AT_HWCAP2."""

    def read_counter(self) -> int | None:
        """What the cycle counter shows that programs can read; None: this host cannot tell."""

    def sigreturn_trampoline(self) -> int | None:
        """Offset in the vDSO of the code that calls rt_sigreturn; None where the C library brings its own."""

    def cpuinfo(self) -> str:
        """One processor's part of /proc/cpuinfo."""


class InstalledArches(Mapping[str, "type[Arch]"]):
    """The installed backends by name, sorted; each is imported when it is first looked at."""

    def __init__(self) -> None:
        self._objects = dict(sorted(entry_points(ENTRY_POINT_GROUP).items()))  # name -> "module:class"

    def __getitem__(self, name: str) -> type[Arch]:
        module, _, attribute = self._objects[name].partition(":")
        cls: type[Arch] = getattr(import_module(module), attribute)
        return cls

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


def entry_points(group: str) -> dict[str, str]:
    """Name -> object reference of every entry point of ``group``, from the metadata of what is installed.

    What ``importlib.metadata.entry_points`` finds, and a test compares the two; but to import that takes 35 ms of the
    200 that a start may take. Source: the packaging specification, "Entry points".
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip file, or not there
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                with contextlib.suppress(OSError), open(os.path.join(folder, name, "entry_points.txt")) as file:
                    for entry, reference in _section(file, group):
                        found.setdefault(entry, reference)
    return found


def _section(lines: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    """The ``key = value`` lines of one section."""
    inside = False
    for line in lines:
        if line.startswith("["):
            inside = line.strip() == f"[{name}]"
        elif inside and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()
