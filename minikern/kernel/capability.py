"""System calls that read and change the capabilities of a task.

Mirrors ``kernel/capability.c``; the sets themselves are in `minikern.kernel.cred`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.kernel.cred import CAP_FULL_SET, Cap, Cred, capable, commit_creds, prepare_creds
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.syscalls import Ptr, syscall
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_VERSION_1 = 0x19980330  # 32 capabilities
_VERSION_2 = 0x20071026  # 64
_VERSION_3 = 0x20080522
_WORDS = {_VERSION_1: 1, _VERSION_2: 2, _VERSION_3: 2}  # 32-bit words of each set
_DATA = struct.Struct("<III")  # struct __user_cap_data_struct: effective, permitted, inheritable
_LOW = 0xFFFFFFFF


@syscall("capget")
def sys_capget(task: Task, header: Ptr, dataptr: Ptr) -> Result:
    """The capabilities of a task. Without ``dataptr``: asks for the version to use. Source: ``kernel/capability.c:capget``."""
    words = _cap_validate_magic(task, header)
    if words is None:
        if not dataptr:
            return 0
        raise KernelError(Errno.EINVAL)
    if not dataptr:
        return 0
    cred = _target(task, _header_pid(task, header)).cred
    sets = (cred.cap_effective, cred.cap_permitted, cred.cap_inheritable)
    data = b"".join(_DATA.pack(*(each >> 32 * word & _LOW for each in sets)) for word in range(words))
    copy_to_user(task, dataptr, data)
    return 0


@syscall("capset")
def sys_capset(task: Task, header: Ptr, data: Ptr) -> Result:
    """Set the capabilities of the calling task. Source: ``kernel/capability.c:capset``."""
    words = _cap_validate_magic(task, header)
    if words is None:
        raise KernelError(Errno.EINVAL)
    if _header_pid(task, header) not in (0, task.pid):
        raise KernelError(Errno.EPERM)
    effective = permitted = inheritable = 0
    raw = copy_from_user(task, data, words * _DATA.size)
    for word, (low_effective, low_permitted, low_inheritable) in enumerate(_DATA.iter_unpack(raw)):
        effective |= low_effective << 32 * word
        permitted |= low_permitted << 32 * word
        inheritable |= low_inheritable << 32 * word
    new = prepare_creds(task)
    _cap_capset(task, new, effective & CAP_FULL_SET, inheritable & CAP_FULL_SET, permitted & CAP_FULL_SET)
    commit_creds(task, new)
    return 0


def _cap_capset(task: Task, new: Cred, effective: int, inheritable: int, permitted: int) -> None:
    """Check the three sets and put them into ``new``. Source: ``security/commoncap.c:cap_capset``."""
    old = task.cred
    if inheritable & ~(old.cap_inheritable | old.cap_permitted) and not capable(task, Cap.SETPCAP):
        raise KernelError(Errno.EPERM)
    if inheritable & ~(old.cap_inheritable | old.cap_bset):
        raise KernelError(Errno.EPERM)
    if permitted & ~old.cap_permitted:
        raise KernelError(Errno.EPERM)
    if effective & ~permitted:
        raise KernelError(Errno.EPERM)
    new.cap_effective = effective
    new.cap_inheritable = inheritable
    new.cap_permitted = permitted
    new.cap_ambient &= permitted & inheritable


def _cap_validate_magic(task: Task, header: int) -> int | None:
    """How many words a set has in the caller's version; None, and the right version in the header, when it is unknown."""
    words = _WORDS.get(get_user(task, header, 4))
    if words is None:
        put_user(task, header, _VERSION_3, 4)
    return words


def _header_pid(task: Task, header: int) -> int:
    (pid,) = struct.unpack("<i", copy_from_user(task, header + 4, 4))
    return int(pid)


def _target(task: Task, pid: int) -> Task:
    if pid < 0:
        raise KernelError(Errno.EINVAL)
    if pid in (0, task.pid):
        return task
    target = find_task(task.kernel, pid)
    if target is None:
        raise KernelError(Errno.ESRCH)
    return target
