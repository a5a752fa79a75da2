"""System calls that only x86-64 has, and those whose arguments come in an order of its own.

The old calls that newer architectures left out are in `minikern_x86_64.legacy`; they are declared in the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.fork import Clone, KernelCloneArgs, kernel_clone
from minikern.kernel.siginfo import Signal
from minikern.kernel.syscalls import Int, Ptr, UInt, ULong
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Result
from minikern_x86_64.legacy import TABLE
from minikern_x86_64.process import do_arch_prctl

if TYPE_CHECKING:
    from minikern_x86_64.arch import X86_64

__all__ = ["TABLE"]

_LOW_32: Final = (1 << 32) - 1
_IO_PORTS: Final = 1 << 16
_IOPL_MAX: Final = 3


@TABLE.declare("arch_prctl")
def sys_arch_prctl(task: Task, option: Int, arg2: ULong) -> Result:
    """Source: ``arch/x86/kernel/process_64.c:arch_prctl``."""
    return do_arch_prctl(cast("X86_64", task.arch), task, task, option, arg2)


@TABLE.declare("clone")
def sys_clone(task: Task, clone_flags: ULong, newsp: ULong, parent_tid: Ptr, child_tid: Ptr, tls: ULong) -> Result:
    """Source: ``kernel/fork.c:clone``."""
    return kernel_clone(
        task,
        KernelCloneArgs(
            flags=clone_flags & _LOW_32 & ~Clone.CSIGNAL,
            exit_signal=clone_flags & Clone.CSIGNAL,
            stack=newsp,
            tls=tls,
            pidfd=parent_tid,
            parent_tid=parent_tid,
            child_tid=child_tid,
        ),
    )


@TABLE.declare("fork")
def sys_fork(task: Task) -> Result:
    """Source: ``kernel/fork.c:fork``."""
    return kernel_clone(task, KernelCloneArgs(exit_signal=Signal.SIGCHLD))


@TABLE.declare("vfork")
def sys_vfork(task: Task) -> Result:
    """Source: ``kernel/fork.c:vfork``."""
    return kernel_clone(task, KernelCloneArgs(flags=Clone.VFORK | Clone.VM, exit_signal=Signal.SIGCHLD))


@TABLE.declare("ioperm")
def sys_ioperm(task: Task, first: ULong, count: ULong, turn_on: Int) -> Result:
    """There are no ports, so nobody gets one, as on a locked-down kernel. Source: ``arch/x86/kernel/ioport.c:ksys_ioperm``."""
    if not first < first + count <= _IO_PORTS:
        raise KernelError(Errno.EINVAL)
    if turn_on:
        raise KernelError(Errno.EPERM)
    return 0


@TABLE.declare("iopl")
def sys_iopl(task: Task, level: UInt) -> Result:
    """Source: ``arch/x86/kernel/ioport.c:iopl``."""
    if level > _IOPL_MAX:
        raise KernelError(Errno.EINVAL)
    if level:
        raise KernelError(Errno.EPERM)
    return 0
