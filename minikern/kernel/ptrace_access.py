"""Who may look into whom.

Mirrors ``kernel/ptrace.c:__ptrace_may_access`` and the part of ``security/commoncap.c`` that it asks.
"""

from __future__ import annotations

from minikern.kernel.cred import SUID_DUMP_USER, Cap, Cred, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.task import Task


def ptrace_may_access(task: Task, target: Task, *, fscreds: bool = False) -> bool:
    """Whether ``task`` may inspect ``target``: the same process, the same identity throughout, or CAP_SYS_PTRACE.

    ``fscreds``: who asks is judged as for files, by fsuid and effective capabilities, which is what /proc does.
    """
    if task.signal is target.signal:
        return True
    mine, theirs = task.cred, target.cred
    uid, gid = (mine.fsuid, mine.fsgid) if fscreds else (mine.uid, mine.gid)
    same = uid == theirs.uid == theirs.euid == theirs.suid and gid == theirs.gid == theirs.egid == theirs.sgid
    permitted = mine.cap_effective if fscreds else mine.cap_permitted
    if same and (target.mm is None or target.dumpable == SUID_DUMP_USER) and not theirs.cap_permitted & ~permitted:
        return True
    return capable(task, Cap.SYS_PTRACE)


def ptrace_traceme_allowed(parent: Task, cred: Cred) -> None:
    """EPERM when a task with ``cred`` must not ask ``parent`` to trace it. Source: ``security/commoncap.c:cap_ptrace_traceme``."""
    if cred.cap_permitted & ~parent.cred.cap_permitted and not parent.cred.has_cap(Cap.SYS_PTRACE):
        raise KernelError(Errno.EPERM)
