"""The kernel looks at itself: every reference has an owner, every list agrees with its opposite.

There is no counterpart in Linux; the nearest things are kmemleak and the various CONFIG_DEBUG options. It walks all
state and is for tests and for ``--check``, between two system calls or after the end.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from minikern.fs.file import File, FilesStruct
from minikern.kernel.task import ExitState, PidType, Task
from minikern.kernel.waitqueue import TaskState, WaitQueue
from minikern.mm.check import check_frames, check_mm
from minikern.mm.mm import Mm
from minikern.net.af_unix import SkBuff

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel

_T = TypeVar("_T")


def check_kernel(kernel: Kernel) -> list[str]:
    """What is wrong, in words; nothing when all is well."""
    gc.collect()  # what only a cycle of dead objects holds is no leak
    tasks = list(kernel.pids.all_tasks())
    return [
        *_check_pids(kernel, tasks),
        *_check_families(kernel, tasks),
        *_check_sharing(tasks),
        *_check_sleepers(kernel, tasks),
        *_check_memory(kernel, tasks),
        *_check_files(kernel, tasks),
        *_check_counters(kernel, tasks),
    ]


def _check_pids(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    known = set(map(id, tasks))
    for nr, pid in kernel.pids.numbers.items():
        if pid.nr != nr or not any(pid.tasks):
            yield f"pid {nr} is taken, but nobody uses it"
        for kind in PidType:
            for task in pid.tasks[kind]:
                mine = task.thread_pid if kind is PidType.PID else task.signal.pids[kind]
                if mine is not pid:
                    yield f"{task!r} is listed under {kind.name} {nr}, which is not its own"
                if id(task) not in known:
                    yield f"{task!r} is listed under {kind.name} {nr}, but has no tid"


def _check_families(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    for task in tasks:
        if task.exit_state is ExitState.DEAD:
            yield f"{task!r} is dead, but has not been released"
        if task not in task.signal.threads:
            yield f"{task!r} is missing in its thread group"
        leader = task.group_leader
        if leader.signal is not task.signal:
            yield f"{task!r} has a leader of another process"
        parent = task.real_parent
        if task is leader and (parent is None or task not in parent.children):
            yield f"{task!r} is missing among the children of {parent!r}"
        for child in task.children:
            if child.real_parent is not task or child.thread_pid is None:
                yield f"{task!r} lists {child!r}, which is not its child"
        for tracee in task.ptraced:
            if tracee.parent is not task or tracee.ptrace is None:
                yield f"{task!r} lists {tracee!r}, which it does not trace"
        if task.sighand is None:
            yield f"{task!r} has lost its signal actions"


def _check_sharing(tasks: list[Task]) -> Iterator[str]:
    """Counts of what clone can share."""
    for attribute, count in (("sighand", "count"), ("files", "count"), ("fs", "count"), ("mm", "users")):
        users = Counter(id(owner) for task in tasks if (owner := getattr(task, attribute)) is not None)
        for owner in {id(owner): owner for task in tasks if (owner := getattr(task, attribute)) is not None}.values():
            if getattr(owner, count) != users[id(owner)]:
                yield f"{attribute} of {users[id(owner)]} task(s) has a count of {getattr(owner, count)}"


def _check_sleepers(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    queued = kernel.sched.runqueue
    for task in tasks:
        if (task in queued) != task.on_rq:
            yield f"{task!r} says on_rq={task.on_rq}, which is not so"
        asleep = task.state is not TaskState.RUNNING
        at_rest = kernel.halted and task is kernel.init_task
        if not asleep and not task.on_rq and task is not kernel.sched.current and not at_rest:
            yield f"{task!r} can run, but is not on the run queue"
        if asleep and task.wait is not None:
            for queue in task.wait.queues:
                if queue.tasks.count(task) != task.wait.queues.count(queue):
                    yield f"{task!r} sleeps in {task.wait.wchan}, but its queue does not know"
    for queue in _all(WaitQueue):
        for task in queue.tasks:
            if task.kernel is kernel and (task.wait is None or queue not in task.wait.queues):
                yield f"a wait queue holds {task!r}, which does not wait for it"
    for _, serial, timer in kernel.timers.heap:
        function = timer.function
        if timer.serial == serial and isinstance(function, partial) and function.args:
            owner = function.args[0]
            if isinstance(owner, Task) and owner.exit_state is not ExitState.ALIVE:
                yield f"a timer is armed for {owner!r}"
    for key, waiters in kernel.futexes.queues.items():
        for q in waiters:
            if q.key != key or q.task.exit_state is not ExitState.ALIVE:
                yield f"the futex at {key[1]:#x} has a waiter that is gone: {q.task!r}"


def _check_memory(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    mms: dict[int, Mm] = {id(task.mm): task.mm for task in tasks if task.mm is not None}
    pinned = [pfn for image in kernel.vdso.images.values() for pfn in (*image.data_pfns, *image.code_pfns)]
    yield from check_frames(kernel, mms.values(), pinned)
    for mm in mms.values():
        yield from check_mm(mm)
    for mm in _all(Mm):
        if mm.kernel is kernel and id(mm) not in mms and mm.users:
            yield f"{mm!r} belongs to no task"


def _check_files(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    """References to open files from descriptors, mappings and what is executed."""
    references: Counter[int] = Counter()
    tables: dict[int, FilesStruct] = {id(task.files): task.files for task in tasks if task.files is not None}
    for table in tables.values():
        references.update(map(id, table.fds.values()))
    for mm in {id(task.mm): task.mm for task in tasks if task.mm is not None}.values():
        references.update(id(vma.file) for vma in mm.vmas if vma.file is not None)
        if mm.exe_file is not None:
            references[id(mm.exe_file)] += 1
    for message in _all(SkBuff):
        references.update(map(id, message.files))
    if kernel.acct_file is not None:
        references[id(kernel.acct_file)] += 1
    for file in _all(File):
        if file.inode.sb.kernel is kernel and file.count < references[id(file)]:
            yield f"{file!r} has {references[id(file)]} users and a count of {file.count}"
        if file.inode.sb.kernel is kernel and file.count > 0 and not references[id(file)]:
            yield f"{file!r} is open, but nobody has it"


def _check_counters(kernel: Kernel, tasks: list[Task]) -> Iterator[str]:
    queued: Counter[int] = Counter()
    for process in {id(task.signal): task.signal for task in tasks}.values():
        queued.update(info.charged_uid for info in process.shared_pending.queue if info.charged_uid is not None)
    for task in tasks:
        queued.update(info.charged_uid for info in task.pending.queue if info.charged_uid is not None)
    for uid, count in kernel.sigpending_count.items():
        if count < queued[uid]:
            yield f"user {uid} has {queued[uid]} queued signals, but is charged for {count}"
        elif count > queued[uid] and not any(task.signal.posix_timers for task in tasks):
            yield f"user {uid} is charged for {count} queued signals, but has {queued[uid]}"


def _all(kind: type[_T]) -> Iterator[_T]:
    """Every living object of a class."""
    for each in gc.get_objects():
        if isinstance(each, kind):
            yield each
