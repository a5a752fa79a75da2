"""Who may look into whom.

Mirrors ``kernel/ptrace.c:__ptrace_may_access``.
"""

from __future__ import annotations

from minikern.kernel.cred import Cap, capable
from minikern.kernel.task import Task


def ptrace_may_access(task: Task, target: Task) -> bool:
    """Whether ``task`` may inspect ``target``: the same process, the same identity throughout, or CAP_SYS_PTRACE."""
    if task.signal is target.signal:
        return True
    mine, theirs = task.cred, target.cred
    same = mine.uid == theirs.uid == theirs.euid == theirs.suid and mine.gid == theirs.gid == theirs.egid == theirs.sgid
    return (same and target.dumpable == 1) or capable(task, Cap.SYS_PTRACE)
