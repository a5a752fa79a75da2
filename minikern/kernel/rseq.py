"""Restartable sequences: short stretches of user code that begin again when the task is interrupted in them.

Mirrors ``kernel/rseq.c``. There is one processor, so the numbers that the kernel keeps in the registered area are
always 0. `rseq_handle_notify_resume` is to be called when a task lost the processor or gets a signal.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import force_sig
from minikern.kernel.syscalls import Int, Ptr, UInt, syscall
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

RSEQ_ALIGN = 32  # AT_RSEQ_ALIGN
RSEQ_FEATURE_SIZE = 28  # AT_RSEQ_FEATURE_SIZE: bytes of the area that mean something
_ORIG_SIZE = 32  # of the first version of ``struct rseq``
_FLAG_UNREGISTER = 1
_IDS = struct.Struct("<II")  # cpu_id_start, cpu_id
_NODE_IDS = struct.Struct("<II")  # node_id, mm_cid
_RSEQ_CS_OFFSET, _NODE_IDS_OFFSET = 8, 20
_CPU_ID_UNINITIALIZED = 0xFFFFFFFF
_RSEQ_CS = struct.Struct("<IIQQQ")  # struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip
assert _RSEQ_CS.size == 32


@syscall("rseq")
def sys_rseq(task: Task, rseq: Ptr, rseq_len: UInt, flags: Int, sig: UInt) -> Result:
    """Register or unregister the area of a thread. Source: ``kernel/rseq.c:rseq``."""
    if flags & _FLAG_UNREGISTER:
        if flags & ~_FLAG_UNREGISTER or not task.rseq or task.rseq != rseq or rseq_len != task.rseq_len:
            raise KernelError(Errno.EINVAL)
        if task.rseq_sig != sig:
            raise KernelError(Errno.EPERM)
        _write_ids(task, _CPU_ID_UNINITIALIZED)
        task.rseq = task.rseq_len = task.rseq_sig = 0
        return 0
    if flags:
        raise KernelError(Errno.EINVAL)
    if task.rseq:
        if task.rseq != rseq or rseq_len != task.rseq_len:
            raise KernelError(Errno.EINVAL)
        raise KernelError(Errno.EPERM if task.rseq_sig != sig else Errno.EBUSY)
    if rseq % RSEQ_ALIGN or rseq_len < _ORIG_SIZE:
        raise KernelError(Errno.EINVAL)
    if rseq + rseq_len > task.arch.task_size:
        raise KernelError(Errno.EFAULT)
    task.rseq, task.rseq_len, task.rseq_sig = rseq, rseq_len, sig
    rseq_handle_notify_resume(task)
    return 0


def _write_ids(task: Task, cpu_id: int) -> None:
    copy_to_user(task, task.rseq, _IDS.pack(0, cpu_id))
    copy_to_user(task, task.rseq + _NODE_IDS_OFFSET, _NODE_IDS.pack(0, 0))


def rseq_handle_notify_resume(task: Task) -> None:
    """Before a registered task goes on after an interruption: leave a critical section, write the processor's number.

    SIGSEGV when the area cannot be used. Source: ``kernel/rseq.c:__rseq_handle_notify_resume``.
    """
    try:
        _rseq_ip_fixup(task)
        _write_ids(task, 0)
    except KernelError:
        force_sig(Signal.SIGSEGV, task)


def _rseq_ip_fixup(task: Task) -> None:
    """A task interrupted inside a critical section goes on at its abort handler. Source: ``kernel/rseq.c:rseq_ip_fixup``."""
    section = get_user(task, task.rseq + _RSEQ_CS_OFFSET, 8)
    if not section:
        return
    _, flags, start_ip, post_commit_offset, abort_ip = _RSEQ_CS.unpack(copy_from_user(task, section, _RSEQ_CS.size))
    end_ip = start_ip + post_commit_offset
    if flags or max(start_ip, end_ip, abort_ip) >= task.arch.task_size or start_ip <= abort_ip < end_ip:
        raise KernelError(Errno.EINVAL)
    if get_user(task, abort_ip - 4, 4) != task.rseq_sig:
        raise KernelError(Errno.EINVAL)
    put_user(task, task.rseq + _RSEQ_CS_OFFSET, 0, 8)
    if start_ip <= task.arch.instruction_pointer(task) < end_ip:
        task.arch.set_instruction_pointer(task, abort_ip)
