"""membarrier(2): memory barriers on every processor that runs this program.

Mirrors ``kernel/sched/membarrier.c``. There is one processor, and every entry into the kernel is a barrier on it; what is
left is the bookkeeping of who announced himself.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Final

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Int, UInt, syscall

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result


@fast_flags
class Membarrier(IntFlag):
    """Commands; one at a time, but a set of them is what a query answers (``MEMBARRIER_CMD_*``)."""

    QUERY = 0
    GLOBAL = 1 << 0
    GLOBAL_EXPEDITED = 1 << 1
    REGISTER_GLOBAL_EXPEDITED = 1 << 2
    PRIVATE_EXPEDITED = 1 << 3
    REGISTER_PRIVATE_EXPEDITED = 1 << 4
    PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5
    REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6
    PRIVATE_EXPEDITED_RSEQ = 1 << 7
    REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8
    GET_REGISTRATIONS = 1 << 9


CMD_FLAG_CPU: Final = 1

_REGISTRATION_FOR: Final = {
    Membarrier.PRIVATE_EXPEDITED: Membarrier.REGISTER_PRIVATE_EXPEDITED,
    Membarrier.PRIVATE_EXPEDITED_SYNC_CORE: Membarrier.REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
    Membarrier.PRIVATE_EXPEDITED_RSEQ: Membarrier.REGISTER_PRIVATE_EXPEDITED_RSEQ,
}
_REGISTRATIONS: Final = frozenset((Membarrier.REGISTER_GLOBAL_EXPEDITED, *_REGISTRATION_FOR.values()))


@syscall("membarrier")
def sys_membarrier(task: Task, cmd: Int, flags: UInt, cpu_id: Int) -> Result:
    """Source: ``kernel/sched/membarrier.c:SYSCALL_DEFINE3(membarrier)``."""
    allowed = CMD_FLAG_CPU if cmd == Membarrier.PRIVATE_EXPEDITED_RSEQ else 0
    if flags & ~allowed:
        raise KernelError(Errno.EINVAL)
    mm = task.mm
    assert mm is not None
    if cmd == Membarrier.QUERY:
        return sum(Membarrier)
    if cmd == Membarrier.GET_REGISTRATIONS:
        return mm.membarrier_state
    if cmd in _REGISTRATIONS:
        mm.membarrier_state |= cmd
        return 0
    if cmd in _REGISTRATION_FOR:
        if not mm.membarrier_state & _REGISTRATION_FOR[Membarrier(cmd)]:
            raise KernelError(Errno.EPERM)
        return 0
    if cmd in (Membarrier.GLOBAL, Membarrier.GLOBAL_EXPEDITED):
        return 0
    raise KernelError(Errno.EINVAL)
