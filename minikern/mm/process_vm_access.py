"""process_vm_readv(2) and process_vm_writev(2): copy between two processes.

Mirrors ``mm/process_vm_access.c``.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from minikern.fs.read_write import UIO_MAXIOV, import_iovec
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.syscalls import Pid, Ptr, ULong, syscall
from minikern.mm.uaccess import copy_from_user, mm_read, mm_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_IOVEC: Final = Struct("<QQ")  # struct iovec: address, bytes
_SSIZE_MAX: Final = (1 << 63) - 1
_CHUNK: Final = 1 << 20  # bytes copied at a time


@syscall("process_vm_readv")
def sys_process_vm_readv(
    task: Task, pid: Pid, lvec: Ptr, liovcnt: ULong, rvec: Ptr, riovcnt: ULong, flags: ULong
) -> Result:
    """Source: ``mm/process_vm_access.c:SYSCALL_DEFINE6(process_vm_readv)``."""
    return _process_vm_rw(task, pid, lvec, liovcnt, rvec, riovcnt, flags, write=False)


@syscall("process_vm_writev")
def sys_process_vm_writev(
    task: Task, pid: Pid, lvec: Ptr, liovcnt: ULong, rvec: Ptr, riovcnt: ULong, flags: ULong
) -> Result:
    """Source: ``mm/process_vm_access.c:SYSCALL_DEFINE6(process_vm_writev)``."""
    return _process_vm_rw(task, pid, lvec, liovcnt, rvec, riovcnt, flags, write=True)


def _process_vm_rw(
    task: Task, pid: int, lvec: int, liovcnt: int, rvec: int, riovcnt: int, flags: int, *, write: bool
) -> int:
    """Copy as much as both sides have; EFAULT when that is nothing. Source: ``mm/process_vm_access.c:process_vm_rw``."""
    if flags:
        raise KernelError(Errno.EINVAL)
    local = import_iovec(task, lvec, liovcnt)
    if not sum(length for _, length in local):
        return 0
    remote = _iovec_from_user(task, rvec, riovcnt)
    if not sum(length for _, length in remote):
        return 0
    target = find_task(task.kernel, pid)
    if target is None:
        raise KernelError(Errno.ESRCH)
    if target is not task and not ptrace_may_access(task, target):
        raise KernelError(Errno.EPERM)
    if target.mm is None:
        raise KernelError(Errno.ESRCH)

    assert task.mm is not None
    source, sink = (local, remote) if write else (remote, local)
    source_mm, sink_mm = (task.mm, target.mm) if write else (target.mm, task.mm)
    done = _copy(source_mm, source, sink_mm, sink)
    if not done:
        raise KernelError(Errno.EFAULT)
    return done


def _iovec_from_user(task: Task, vec: int, count: int) -> list[tuple[int, int]]:
    """The other side's buffers; their addresses mean nothing here. Source: ``lib/iov_iter.c:iovec_from_user``."""
    if count > UIO_MAXIOV:
        raise KernelError(Errno.EINVAL)
    iovec = list(_IOVEC.iter_unpack(copy_from_user(task, vec, count * _IOVEC.size)))
    if any(length > _SSIZE_MAX for _, length in iovec):
        raise KernelError(Errno.EINVAL)
    return iovec


def _copy(source_mm: Mm, source: list[tuple[int, int]], sink_mm: Mm, sink: list[tuple[int, int]]) -> int:
    """Copy piece by piece up to the first byte that cannot be copied; how many bytes were."""
    done = 0
    for (read_at, write_at), length in _pieces(source, sink):
        data = mm_read(source_mm, read_at, length)
        written = mm_write(sink_mm, write_at, data)
        done += written
        if written < length:
            break
    return done


def _pieces(source: list[tuple[int, int]], sink: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], int]]:
    """Cut both lists of buffers where either has a seam: ((source address, sink address), length)."""
    readers = [list(each) for each in reversed(source)]
    writers = [list(each) for each in reversed(sink)]
    while readers and writers:
        reader, writer = readers[-1], writers[-1]
        length = min(reader[1], writer[1], _CHUNK)
        if length:
            yield (reader[0], writer[0]), length
        for buffers, buffer in ((readers, reader), (writers, writer)):
            buffer[0] += length
            buffer[1] -= length
            if not buffer[1]:
                buffers.pop()
