"""Several tasks that sleep in system calls, woken and gone on with as the scheduler does it, but by hand."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from minikern.kernel.errno import KernelError
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Wait
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern.net.af_unix import UnixNames
from tests.fs.machine import FsMachine


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def realtime_ns(self) -> int:
        return self.now_ns

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)

    def pick(self, runnable: object) -> int:
        return 0


class Sleeper:
    """One call of one task: its `result`, once there is one."""

    def __init__(self, machine: StreamMachine, task: Task, name: str, *args: Any) -> None:
        self.machine = machine
        self.task = task
        self.name = name
        self.args = args
        self.result: int | None = None
        task.syscall.nr = len(machine.handlers)
        machine.handlers[task.syscall.nr] = self._invoke
        self._settle(self._invoke(task, ()))

    def _invoke(self, task: Task, registers: tuple[int, ...]) -> Any:
        return self.machine.call(self.name, *self.args, task=task)

    @property
    def asleep(self) -> bool:
        return self.result is None

    @property
    def wchan(self) -> str:
        """Where it sleeps; empty when it does not."""
        wait = self.task.wait
        return wait.wchan if self.asleep and wait is not None else ""

    def _settle(self, result: Any) -> None:
        while isinstance(result, Wait):
            ending = None
            if self.task.sigpending:
                ending = result.interrupted
            elif result.deadline_ns is not None and result.deadline_ns <= self.machine.clock.now_ns:
                ending = result.timed_out
            if ending is None:
                self.machine.kernel.sched.sleep(self.task, result)
                return
            result = ending() if callable(ending) else ending
        self.result = result

    def go_on(self) -> None:
        """The task was woken: look again, and finish or sleep on."""
        wait, self.task.wait = self.task.wait, None
        assert wait is not None
        try:
            result = wait.resume() if wait.resume else self._invoke(self.task, ())
        except KernelError as error:
            result = -error.errno
        self._settle(result)


class StreamMachine(FsMachine):
    """A machine with a clock of its own, in which calls can sleep."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.clock = Clock()
        self.kernel.sources = self.clock
        self.kernel.unix_names = UnixNames()
        self.sleepers: list[Sleeper] = []
        self.handlers: dict[int, Any] = {}  # for calls that run again: by a number that each gets
        self.kernel.handlers = {"fake": self.handlers}
        self.arch.name = "fake"

    def start(self, name: str, *args: Any, task: Task | None = None) -> Sleeper:
        """A task, a new one unless given, makes a call."""
        sleeper = Sleeper(self, task or self.clone(), name, *args)
        self.sleepers.append(sleeper)
        self.kernel.sched.current = self.task
        return sleeper

    def run_woken(self) -> None:
        """Everybody who was woken goes on, in the order in which they were woken, until all sleep or are done."""
        queue = self.kernel.sched.runqueue
        while queue:
            task = self.kernel.sched.pick_next_task()
            sleeper = next(each for each in self.sleepers if each.task is task and each.asleep)
            self.kernel.sched.current = task
            sleeper.go_on()
        self.kernel.sched.current = self.task

    def pass_time(self, ns: int) -> None:
        """Let time pass, and timers run."""
        self.clock.now_ns += ns
        self.kernel.timers.run_expired(self.clock.now_ns)
        self.run_woken()

    def interrupt(self, sleeper: Sleeper) -> None:
        """A signal that a handler will take comes to a task that sleeps."""
        sleeper.task.sigpending = True
        self.kernel.sched.try_to_wake_up(sleeper.task)
        self.run_woken()

    def put(self, data: bytes, offset: int = 0) -> int:
        """Store bytes into the common buffer; their guest address."""
        copy_to_user(self.task, self.buffer + offset, data)
        return int(self.buffer) + offset

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        """Descriptors of a new pipe: to read from and to write to."""
        assert self.call("pipe2", self.buffer, flags) == 0
        reader, writer = struct.unpack("<2i", self.peek(8))
        return reader, writer

    def poll(self, fd: int, events: int = 0x3FFF) -> int:
        """What poll(2) says of a descriptor now."""
        address = self.string(struct.pack("<iHH", fd, events, 0))
        timeout = self.string(bytes(16))
        result = self.call("ppoll", address, 1, timeout, 0, 8)
        assert isinstance(result, int) and result >= 0, result
        return int.from_bytes(copy_from_user(self.task, address + 6, 2), "little")

    def file(self, fd: int, task: Task | None = None) -> Any:
        """The open file behind a descriptor."""
        files = (task or self.task).files
        assert files is not None
        return files.fget(fd)


NONBLOCK = os.O_NONBLOCK
