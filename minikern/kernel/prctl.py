"""prctl(2): one call for many small properties of a task.

Mirrors ``kernel/sys.c:prctl`` and ``security/commoncap.c:cap_task_prctl``. Each option is a function of its own in
`_OPTIONS`. Left out, and EINVAL: what belongs to processors and devices that this machine does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from minikern.kernel.cred import CAP_LAST_CAP, Cap, Cred, SecureBits, capable, commit_creds, prepare_creds, set_dumpable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.prctl_mm import prctl_set_mm, prctl_set_vma
from minikern.kernel.seccomp import SeccompMode, prctl_set_seccomp
from minikern.kernel.syscalls import Int, ULong, syscall
from minikern.kernel.task import NSIG, TASK_COMM_LEN
from minikern.mm.uaccess import copy_to_user, put_user, strncpy_from_user
from minikern.mm.vma import VM_NOHUGEPAGE

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result


class Pr(IntEnum):
    """Options (``PR_*``)."""

    SET_PDEATHSIG = 1
    GET_PDEATHSIG = 2
    GET_DUMPABLE = 3
    SET_DUMPABLE = 4
    GET_KEEPCAPS = 7
    SET_KEEPCAPS = 8
    GET_TIMING = 13
    SET_TIMING = 14
    SET_NAME = 15
    GET_NAME = 16
    GET_SECCOMP = 21
    SET_SECCOMP = 22
    CAPBSET_READ = 23
    CAPBSET_DROP = 24
    GET_TSC = 25
    GET_SECUREBITS = 27
    SET_SECUREBITS = 28
    SET_TIMERSLACK = 29
    GET_TIMERSLACK = 30
    SET_MM = 35
    SET_CHILD_SUBREAPER = 36
    GET_CHILD_SUBREAPER = 37
    SET_NO_NEW_PRIVS = 38
    GET_NO_NEW_PRIVS = 39
    GET_TID_ADDRESS = 40
    SET_THP_DISABLE = 41
    GET_THP_DISABLE = 42
    CAP_AMBIENT = 47
    GET_SPECULATION_CTRL = 52
    SET_SPECULATION_CTRL = 53
    SET_VMA = 0x53564D41
    GET_AUXV = 0x41555856


class CapAmbient(IntEnum):
    """What PR_CAP_AMBIENT does."""

    IS_SET = 1
    RAISE = 2
    LOWER = 3
    CLEAR_ALL = 4


_TSC_ENABLE = 1
_PTR_BYTES = 8
_INT_BYTES = 4
_SPECULATION_KINDS = 3  # store bypass, indirect branch, L1D flush: none of them concerns this machine

Option = Callable[["Task", int, int, int, int], "Result"]


@syscall("prctl", partial="PR_SET_MM_EXE_FILE, PR_SET_MDWE, PR_SCHED_CORE and processor features are EINVAL")
def sys_prctl(task: Task, option: Int, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong) -> Result:
    """Source: ``kernel/sys.c:prctl``."""
    function = _OPTIONS.get(option)
    if function is None:
        raise KernelError(Errno.EINVAL)
    return function(task, arg2, arg3, arg4, arg5)


def _require_zero(*args: int) -> None:
    """Arguments that are not in use have to be 0."""
    if any(args):
        raise KernelError(Errno.EINVAL)


# The task and its process


def _set_pdeathsig(task: Task, signo: int, arg3: int, arg4: int, arg5: int) -> Result:
    if signo > NSIG:
        raise KernelError(Errno.EINVAL)
    task.pdeath_signal = signo
    return 0


def _get_pdeathsig(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    put_user(task, address, task.pdeath_signal, _INT_BYTES)
    return 0


def _get_dumpable(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return task.dumpable


def _set_dumpable(task: Task, value: int, arg3: int, arg4: int, arg5: int) -> Result:
    if value not in (0, 1):
        raise KernelError(Errno.EINVAL)
    set_dumpable(task, value)
    return 0


def _get_timing(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return 0  # PR_TIMING_STATISTICAL, the only kind there ever was


def _set_timing(task: Task, kind: int, arg3: int, arg4: int, arg5: int) -> Result:
    _require_zero(kind)
    return 0


def _set_name(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    task.comm = strncpy_from_user(task, address, TASK_COMM_LEN - 1)
    return 0


def _get_name(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    copy_to_user(task, address, task.comm.ljust(TASK_COMM_LEN, b"\0"))
    return 0


def _get_tsc(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    put_user(task, address, _TSC_ENABLE, _INT_BYTES)
    return 0


def _set_timerslack(task: Task, slack_ns: int, arg3: int, arg4: int, arg5: int) -> Result:
    task.timer_slack_ns = slack_ns if 0 < slack_ns < 1 << 63 else task.default_timer_slack_ns
    return 0


def _get_timerslack(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return task.timer_slack_ns


def _set_child_subreaper(task: Task, on: int, arg3: int, arg4: int, arg5: int) -> Result:
    """Source: ``kernel/sys.c:prctl``, ``kernel/fork.c:walk_process_tree`` with ``propagate_has_child_subreaper``."""
    task.signal.is_child_subreaper = on != 0
    if on:
        pending = [child for thread in task.signal.threads for child in thread.children]
        while pending:
            process = pending.pop()
            if process.signal.has_child_subreaper:
                continue
            process.signal.has_child_subreaper = True
            pending += (child for thread in process.signal.threads for child in thread.children)
    return 0


def _get_child_subreaper(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    put_user(task, address, int(task.signal.is_child_subreaper), _INT_BYTES)
    return 0


def _get_tid_address(task: Task, address: int, arg3: int, arg4: int, arg5: int) -> Result:
    put_user(task, address, task.clear_child_tid, _PTR_BYTES)
    return 0


def _set_seccomp(task: Task, mode: int, filter_: int, arg4: int, arg5: int) -> Result:
    return prctl_set_seccomp(task, mode, filter_)


def _get_seccomp(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return task.seccomp.mode if task.seccomp is not None else SeccompMode.DISABLED


def _get_speculation_ctrl(task: Task, which: int, arg3: int, arg4: int, arg5: int) -> Result:
    _require_zero(arg3, arg4, arg5)
    if which >= _SPECULATION_KINDS:
        raise KernelError(Errno.ENODEV)
    return 0  # PR_SPEC_NOT_AFFECTED


def _set_speculation_ctrl(task: Task, which: int, control: int, arg4: int, arg5: int) -> Result:
    _require_zero(arg4, arg5)
    raise KernelError(Errno.ENODEV if which >= _SPECULATION_KINDS else Errno.ENXIO)


# Memory


def _set_thp_disable(task: Task, on: int, arg3: int, arg4: int, arg5: int) -> Result:
    """There are no huge pages; what was asked for is remembered and inherited."""
    _require_zero(arg3, arg4, arg5)
    assert task.mm is not None
    task.mm.def_flags = task.mm.def_flags | VM_NOHUGEPAGE if on else task.mm.def_flags & ~VM_NOHUGEPAGE
    return 0


def _get_thp_disable(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    _require_zero(arg2, arg3, arg4, arg5)
    assert task.mm is not None
    return int(task.mm.def_flags & VM_NOHUGEPAGE != 0)


def _get_auxv(task: Task, address: int, length: int, arg4: int, arg5: int) -> Result:
    """Source: ``kernel/sys.c:prctl_get_auxv``."""
    _require_zero(arg4, arg5)
    assert task.mm is not None
    copy_to_user(task, address, task.mm.saved_auxv[:length])
    return len(task.mm.saved_auxv)


# Privileges


def _get_keepcaps(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return int(task.cred.securebits & SecureBits.KEEP_CAPS != 0)


def _set_keepcaps(task: Task, on: int, arg3: int, arg4: int, arg5: int) -> Result:
    if on > 1:
        raise KernelError(Errno.EINVAL)
    new = prepare_creds(task)
    if new.securebits & SecureBits.KEEP_CAPS_LOCKED:
        raise KernelError(Errno.EPERM)
    new.securebits = new.securebits | SecureBits.KEEP_CAPS if on else new.securebits & ~SecureBits.KEEP_CAPS
    commit_creds(task, new)
    return 0


def _capbset_read(task: Task, cap: int, arg3: int, arg4: int, arg5: int) -> Result:
    return task.cred.cap_bset >> _valid_cap(cap) & 1


def _capbset_drop(task: Task, cap: int, arg3: int, arg4: int, arg5: int) -> Result:
    """Source: ``security/commoncap.c:cap_prctl_drop``."""
    if not capable(task, Cap.SETPCAP):
        raise KernelError(Errno.EPERM)
    new = prepare_creds(task)
    new.cap_bset &= ~(1 << _valid_cap(cap))
    commit_creds(task, new)
    return 0


def _valid_cap(cap: int) -> int:
    if cap > CAP_LAST_CAP:
        raise KernelError(Errno.EINVAL)
    return cap


def _get_securebits(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    return task.cred.securebits


def _set_securebits(task: Task, bits: int, arg3: int, arg4: int, arg5: int) -> Result:
    """Locked bits stay, locks are not undone, unknown ones refused. Source: ``security/commoncap.c:cap_task_prctl``."""
    new = prepare_creds(task)
    locked = (new.securebits & SecureBits.ALL_LOCKS) >> 1
    changed = new.securebits ^ bits
    unlocks = new.securebits & SecureBits.ALL_LOCKS & ~bits
    unknown = bits & ~int(SecureBits.ALL_LOCKS | SecureBits.ALL_BITS)
    if locked & changed or unlocks or unknown or not capable(task, Cap.SETPCAP):
        raise KernelError(Errno.EPERM)
    new.securebits = SecureBits(bits)
    commit_creds(task, new)
    return 0


def _set_no_new_privs(task: Task, on: int, arg3: int, arg4: int, arg5: int) -> Result:
    if on != 1:
        raise KernelError(Errno.EINVAL)
    _require_zero(arg3, arg4, arg5)
    task.no_new_privs = True
    return 0


def _get_no_new_privs(task: Task, arg2: int, arg3: int, arg4: int, arg5: int) -> Result:
    _require_zero(arg2, arg3, arg4, arg5)
    return int(task.no_new_privs)


def _cap_ambient(task: Task, action: int, cap: int, arg4: int, arg5: int) -> Result:
    """Source: ``security/commoncap.c:cap_task_prctl``."""
    if action == CapAmbient.CLEAR_ALL:
        _require_zero(cap, arg4, arg5)
        new = prepare_creds(task)
        new.cap_ambient = 0
        commit_creds(task, new)
        return 0
    _require_zero(arg4, arg5)
    bit = 1 << _valid_cap(cap)
    match action:
        case CapAmbient.IS_SET:
            return int(task.cred.cap_ambient & bit != 0)
        case CapAmbient.RAISE if not _may_raise(task.cred, bit):
            raise KernelError(Errno.EPERM)
        case CapAmbient.RAISE | CapAmbient.LOWER:
            new = prepare_creds(task)
            new.cap_ambient = new.cap_ambient | bit if action == CapAmbient.RAISE else new.cap_ambient & ~bit
            commit_creds(task, new)
            return 0
        case _:
            raise KernelError(Errno.EINVAL)


def _may_raise(cred: Cred, bit: int) -> bool:
    return bool(cred.cap_permitted & cred.cap_inheritable & bit) and not (
        cred.securebits & SecureBits.NO_CAP_AMBIENT_RAISE
    )


_OPTIONS: Final[dict[int, Option]] = {
    Pr.SET_PDEATHSIG: _set_pdeathsig,
    Pr.GET_PDEATHSIG: _get_pdeathsig,
    Pr.GET_DUMPABLE: _get_dumpable,
    Pr.SET_DUMPABLE: _set_dumpable,
    Pr.GET_KEEPCAPS: _get_keepcaps,
    Pr.SET_KEEPCAPS: _set_keepcaps,
    Pr.GET_TIMING: _get_timing,
    Pr.SET_TIMING: _set_timing,
    Pr.SET_NAME: _set_name,
    Pr.GET_NAME: _get_name,
    Pr.GET_SECCOMP: _get_seccomp,
    Pr.SET_SECCOMP: _set_seccomp,
    Pr.CAPBSET_READ: _capbset_read,
    Pr.CAPBSET_DROP: _capbset_drop,
    Pr.GET_TSC: _get_tsc,
    Pr.GET_SECUREBITS: _get_securebits,
    Pr.SET_SECUREBITS: _set_securebits,
    Pr.SET_TIMERSLACK: _set_timerslack,
    Pr.GET_TIMERSLACK: _get_timerslack,
    Pr.SET_MM: prctl_set_mm,
    Pr.SET_CHILD_SUBREAPER: _set_child_subreaper,
    Pr.GET_CHILD_SUBREAPER: _get_child_subreaper,
    Pr.SET_NO_NEW_PRIVS: _set_no_new_privs,
    Pr.GET_NO_NEW_PRIVS: _get_no_new_privs,
    Pr.GET_TID_ADDRESS: _get_tid_address,
    Pr.SET_THP_DISABLE: _set_thp_disable,
    Pr.GET_THP_DISABLE: _get_thp_disable,
    Pr.CAP_AMBIENT: _cap_ambient,
    Pr.GET_SPECULATION_CTRL: _get_speculation_ctrl,
    Pr.SET_SPECULATION_CTRL: _set_speculation_ctrl,
    Pr.SET_VMA: prctl_set_vma,
    Pr.GET_AUXV: _get_auxv,
}
