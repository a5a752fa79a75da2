"""/dev/deathwatch: a device that learns of the death of every process that has it open.

Linux has no such device; it is here to show that a driver's *flush* is called for each descriptor of a dying process,
however the process died. Whoever else has the device open reads one line for each death::

    PID COMM exited CODE
    PID COMM killed SIGNAL
    PID COMM dumped SIGNAL
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.char_dev import register_device
from minikern.fs.devices import Device
from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.task import PF, SignalFlags
from minikern.kernel.waitqueue import Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

_SIGNAL_MASK = 0x7F  # of a status word
_CORE_BIT = 0x80


class DeathWatch:
    """The driver: all open files of the device."""

    def __init__(self) -> None:
        self.files: list[DeathWatchFile] = []
        self.last_dead = 0  # process that was announced last: it may have several descriptors

    def open(self, task: Task, inode: Inode, path: Path | None, flags: int) -> File:
        """The factory of the device."""
        file = DeathWatchFile(task, inode, path, flags, self)
        self.files.append(file)
        return file

    def announce(self, task: Task) -> None:
        """The process of ``task`` is dead: a line for every open file."""
        if task.tgid == self.last_dead:
            return
        self.last_dead = task.tgid
        group = task.signal
        status = group.group_exit_code if group.flags & SignalFlags.GROUP_EXIT else task.exit_code
        line = b"%d %s %s\n" % (task.tgid, task.group_leader.comm, describe_status(status).encode())
        for file in self.files:
            file.lines += line
            file.wait.wake_up_all(Poll.IN | Poll.RDNORM)


class DeathWatchFile(Device):
    """One open of the device."""

    __slots__ = ("driver", "lines", "wait")

    def __init__(self, task: Task, inode: Inode, path: Path | None, flags: int, driver: DeathWatch) -> None:
        super().__init__(task, inode, path, flags)
        self.driver = driver
        self.lines = b""  # not yet read
        self.wait = WaitQueue()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """What is known of deaths since the last read; waits for one."""
        if not self.lines:
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            return Wait((self.wait,), wchan="deathwatch_read")
        data, self.lines = self.lines[:count], self.lines[count:]
        return data

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Readable when there is something to read."""
        if queues is not None:
            queues.append(self.wait)
        return Poll.IN | Poll.RDNORM if self.lines else 0

    def flush(self, task: Task) -> None:
        """A descriptor goes: by close, or because the process is dying."""
        if task.flags & PF.EXITING:
            self.driver.announce(task)

    def release(self) -> None:
        """Nobody has this open any more."""
        self.driver.files.remove(self)


def describe_status(status: int) -> str:
    """A status word in words."""
    signal = status & _SIGNAL_MASK
    if not signal:
        return f"exited {status >> 8}"
    return f"{'dumped' if status & _CORE_BIT else 'killed'} {signal}"


def register_deathwatch(kernel: Kernel) -> None:
    """Every machine has the device."""
    register_device(kernel, "deathwatch", 0o666, DeathWatch().open)
