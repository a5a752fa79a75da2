"""System calls whose arguments come in an order of this architecture's own. Mirrors ``arch/arm64/kernel/sys.c``."""

from __future__ import annotations

from minikern.kernel.fork import Clone, KernelCloneArgs, kernel_clone
from minikern.kernel.syscalls import Ptr, SyscallTable, ULong
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Result

TABLE = SyscallTable()


@TABLE.declare("clone")
def sys_clone(task: Task, clone_flags: ULong, newsp: ULong, parent_tid: Ptr, tls: ULong, child_tid: Ptr) -> Result:
    """Source: ``kernel/fork.c:sys_clone`` with CONFIG_CLONE_BACKWARDS."""
    return kernel_clone(
        task,
        KernelCloneArgs(
            flags=clone_flags & 0xFFFF_FFFF & ~Clone.CSIGNAL,
            exit_signal=clone_flags & Clone.CSIGNAL,
            stack=newsp,
            tls=tls,
            pidfd=parent_tid,
            parent_tid=parent_tid,
            child_tid=child_tid,
        ),
    )
