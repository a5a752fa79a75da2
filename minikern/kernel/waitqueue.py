"""Wait queues, and what a system call returns when it has to sleep.

Mirrors ``kernel/sched/wait.c``. A sleeping call has no Python frame: its handler returns a `Wait`, plain data that
says what to wait for and which function looks at the condition again. So a blocked task can be inspected, copied
and killed like any other piece of kernel state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from minikern.kernel.errno import ERESTARTSYS, KernelError

if TYPE_CHECKING:
    from minikern.kernel.task import Task


class TaskState(Enum):
    """What keeps a task off the processor (``__state`` of ``task_struct``)."""

    RUNNING = auto()  # on the run queue, or the one that runs
    INTERRUPTIBLE = auto()  # asleep; any signal that is not blocked wakes it
    KILLABLE = auto()  # asleep; only a fatal signal wakes it
    UNINTERRUPTIBLE = auto()  # asleep; no signal wakes it
    STOPPED = auto()  # job control
    TRACED = auto()  # in a ptrace stop
    DEAD = auto()  # has run its last instruction


class WaitCallback(Protocol):
    """A waiter that is not a task but wants to be told (``wait_queue_entry`` with a function of its own)."""

    @property
    def exclusive(self) -> bool:
        """Whether it counts as one of the exclusive waiters when it says that it took the wake-up."""

    def wake(self, key: int) -> bool:
        """Something happened: ``key`` are the `Poll` bits of it, 0 when the waker did not say."""


class WaitQueue:
    """Tasks that wait for one thing to happen, in the order in which they came."""

    __slots__ = ("callbacks", "tasks")

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.callbacks: list[WaitCallback] | None = None  # told before any task; None: never had one

    def add_callback(self, callback: WaitCallback) -> None:
        """Have ``callback`` told as well (``add_wait_queue``)."""
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append(callback)

    def wake_up(self, nr_exclusive: int = 1, key: int = 0) -> int:
        """Wake every ordinary waiter and ``nr_exclusive`` exclusive ones (0: all of them).

        ``key`` says what happened, as `Poll` bits, to callbacks that care. Returns how many tasks were woken.
        Source: ``kernel/sched/wait.c:__wake_up_common``.
        """
        exclusive_left = nr_exclusive
        if self.callbacks:
            for callback in tuple(self.callbacks):
                if callback.exclusive and nr_exclusive and not exclusive_left:
                    continue
                if callback.wake(key) and callback.exclusive:
                    exclusive_left -= 1
        if not self.tasks:
            return 0
        woken = 0
        for task in tuple(self.tasks):
            wait = task.wait
            if wait is not None and wait.exclusive:
                if nr_exclusive and not exclusive_left:
                    continue
                exclusive_left -= 1
            woken += task.kernel.sched.try_to_wake_up(task)
        return woken

    def wake_up_all(self, key: int = 0) -> int:
        """Wake every waiter. Source: ``include/linux/wait.h:wake_up_all``."""
        return self.wake_up(0, key)


class Exited(Enum):
    """What a handler returns whose task no longer exists: nothing is written back to the guest."""

    EXITED = auto()


EXITED = Exited.EXITED


@dataclass(slots=True, eq=False)
class Wait:
    """A task's sleep, as data: ``wait_event`` with its condition turned into a function that is called again.

    When the task is woken it leaves all queues and ``resume`` runs. If that would sleep again (returns a `Wait`),
    first a pending signal and then the deadline of THAT wait end the sleep. Source: ``include/linux/wait.h:___wait_event``.
    """

    queues: tuple[WaitQueue, ...]  # any of them wakes the task
    resume: Callable[[], Result] | None = None  # looks again; None: the system call runs again from its start
    state: TaskState = TaskState.INTERRUPTIBLE  # which signals end it
    deadline_ns: int | None = None  # on the monotonic clock; None: no time limit
    interrupted: int | Callable[[], Result] = -ERESTARTSYS  # result when a signal ends the sleep
    timed_out: int | Callable[[], Result] = 0  # result when the deadline has passed
    exclusive: bool = False  # one wake_up wakes only one such waiter
    wchan: str = ""  # the kernel function that sleeps, as /proc/PID/wchan names it
    why: Callable[[], str] | None = None  # says in words what has to happen, for whoever asks
    timer: object | None = field(default=None, repr=False)  # the armed deadline, the scheduler's own


Result: TypeAlias = int | Wait | Exited


def then(result: Result, function: Callable[[int], Result]) -> Result:
    """Go on with ``function``: at once if ``result`` is a number, else with whatever the sleep ends with.

    A sleep after which the call runs again from its start stays as it is; so does the end of the task.
    """
    if isinstance(result, int):
        return function(result)
    if isinstance(result, Wait) and result.resume is not None:
        result.resume = partial(_then_woken, result.resume, function)
        result.interrupted = partial(_then_woken, result.interrupted, function)
        result.timed_out = partial(_then_woken, result.timed_out, function)
    return result


def _then_woken(outcome: int | Callable[[], Result], function: Callable[[int], Result]) -> Result:
    """The sleep is over, with a result or with a function that knows it."""
    try:
        result = outcome() if callable(outcome) else outcome
    except KernelError as error:
        result = -error.errno
    return then(result, function)
