"""The scheduler: who can run, who runs next, how a task goes to sleep and is woken.

Mirrors ``kernel/sched/core.c``. One processor; runnable tasks take turns, real-time ones before the others.
What a task does when its turn comes is in `minikern.kernel.entry`.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from minikern.kernel.errno import KernelBug
from minikern.kernel.timers import Timer
from minikern.kernel.waitqueue import TaskState, Wait

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

SLEEPING = (TaskState.INTERRUPTIBLE, TaskState.KILLABLE, TaskState.UNINTERRUPTIBLE)


class Sched:
    """The run queue of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.runqueue: deque[Task] = deque()  # runnable and waiting for their turn, in the order they came
        self.current: Task | None = None  # whose turn it is
        self.previous: Task | None = None  # whose turn it was before

    def enqueue(self, task: Task) -> None:
        """The task can run: it gets its turn after those who came before."""
        if task.on_rq or task.state is not TaskState.RUNNING:
            raise KernelBug(f"{task!r} cannot be put on the run queue")
        task.on_rq = True
        self.runqueue.append(task)

    def pick_next_task(self) -> Task | None:
        """Take the task off the queue whose turn it is. Source: ``kernel/sched/core.c:pick_next_task``."""
        runqueue = self.runqueue
        if not runqueue:
            return None
        if len(runqueue) > 1:
            runqueue.rotate(-self.kernel.sources.pick(runqueue))
        task = runqueue.popleft()
        task.on_rq = False
        return task

    def sleep(self, task: Task, wait: Wait) -> None:
        """The task sleeps as ``wait`` says. Source: ``include/linux/wait.h:___wait_event``, the part before schedule()."""
        task.wait = wait
        task.state = wait.state
        for queue in wait.queues:
            queue.tasks.append(task)
        if wait.deadline_ns is not None:
            timer = Timer(wait.deadline_ns, partial(self.try_to_wake_up, task))
            wait.timer = timer
            self.kernel.timers.add(timer)
        task.usage.nvcsw += 1
        if (hook := self.kernel.events.syscall_block) is not None:
            hook(task, wait)

    def try_to_wake_up(self, task: Task, states: tuple[TaskState, ...] = SLEEPING) -> bool:
        """Make the task runnable if it is in one of ``states``; says whether it was.

        Source: ``kernel/sched/core.c:try_to_wake_up``.
        """
        if task.state not in states:
            return False
        wait = task.wait
        if wait is not None:
            self.finish_wait(task, wait)
        task.state = TaskState.RUNNING
        if task is not self.current:
            self.enqueue(task)
        return True

    def finish_wait(self, task: Task, wait: Wait) -> None:
        """Leave every queue and disarm the deadline. Source: ``kernel/sched/wait.c:finish_wait``."""
        for queue in wait.queues:
            queue.tasks.remove(task)
        if wait.timer is not None:
            assert isinstance(wait.timer, Timer)
            self.kernel.timers.cancel(wait.timer)
            wait.timer = None
