"""The alternate signal stack.

Mirrors the ``sas_ss`` functions of ``include/linux/sched/signal.h`` and ``kernel/signal.c:do_sigaltstack``.
"""

from __future__ import annotations

import struct

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.siginfo import SA
from minikern.kernel.syscalls import Ptr, syscall
from minikern.kernel.task import SigAction, Task
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_from_user, copy_to_user

SS_ONSTACK = 1
SS_DISABLE = 2
SS_AUTODISARM = 1 << 31

_STACK_T = struct.Struct("<QI4xQ")  # stack_t: ss_sp, ss_flags, ss_size
_MINSIGSTKSZ = 2048
assert _STACK_T.size == 24


def on_sig_stack(task: Task, sp: int) -> bool:
    """Whether ``sp`` lies on the alternate stack; never with SS_AUTODISARM. Source: ``on_sig_stack``."""
    if task.sas_ss_flags & SS_AUTODISARM:
        return False
    return task.sas_ss_sp < sp <= task.sas_ss_sp + task.sas_ss_size


def sas_ss_flags(task: Task, sp: int) -> int:
    """SS_DISABLE, SS_ONSTACK or 0, as seen from ``sp``. Source: ``sas_ss_flags``."""
    if not task.sas_ss_size:
        return SS_DISABLE
    return SS_ONSTACK if on_sig_stack(task, sp) else 0


def sas_ss_reset(task: Task) -> None:
    """No alternate stack any more. Source: ``sas_ss_reset``."""
    task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags = 0, 0, SS_DISABLE


def sigsp(task: Task, sp: int, action: SigAction) -> int:
    """Where a signal frame goes: below ``sp``, or at the top of the alternate stack. Source: ``sigsp``."""
    if action.flags & SA.ONSTACK and not sas_ss_flags(task, sp):
        return task.sas_ss_sp + task.sas_ss_size
    return sp


def save_altstack(task: Task) -> tuple[int, int, int]:
    """Address, flags and size as a signal frame keeps them. Source: ``kernel/signal.c:__save_altstack``."""
    return task.sas_ss_sp, task.sas_ss_flags, task.sas_ss_size


def restore_altstack(task: Task, sp: int, flags: int, size: int) -> None:
    """Take the alternate stack back from a frame; what is wrong with it is ignored. Source: ``kernel/signal.c:restore_altstack``."""
    try:
        _set_altstack(task, sp, flags, size)
    except KernelError:
        pass


def _set_altstack(task: Task, sp: int, flags: int, size: int) -> None:
    if on_sig_stack(task, task.arch.stack_pointer(task)):
        raise KernelError(Errno.EPERM)
    mode = flags & ~SS_AUTODISARM
    if mode not in (SS_DISABLE, SS_ONSTACK, 0):
        raise KernelError(Errno.EINVAL)
    if (task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags) == (sp, size, flags):
        return
    if mode == SS_DISABLE:
        sp, size = 0, 0
    elif size < _MINSIGSTKSZ:
        raise KernelError(Errno.ENOMEM)
    task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags = sp, size, flags


@syscall("sigaltstack")
def sys_sigaltstack(task: Task, uss: Ptr, uoss: Ptr) -> Result:
    """Source: ``kernel/signal.c:do_sigaltstack``."""
    new = _STACK_T.unpack(copy_from_user(task, uss, _STACK_T.size)) if uss else None
    flags = sas_ss_flags(task, task.arch.stack_pointer(task)) | (task.sas_ss_flags & SS_AUTODISARM)
    old = _STACK_T.pack(task.sas_ss_sp, flags, task.sas_ss_size)
    if new is not None:
        _set_altstack(task, *new)
    if uoss:
        copy_to_user(task, uoss, old)
    return 0
