"""eventfd: a counter behind a descriptor. Mirrors ``fs/eventfd.c``."""

from __future__ import annotations

from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Int, UInt, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_MAX = (1 << 64) - 1  # the counter stays below it
_COUNT_BYTES = 8


@fast_flags
class Efd(IntFlag):
    """Flags of eventfd2 (``EFD_*``)."""

    SEMAPHORE = 0x1
    NONBLOCK = OpenFlag.NONBLOCK
    CLOEXEC = OpenFlag.CLOEXEC


class EventFd(AnonFile):
    """The file (``struct eventfd_ctx``)."""

    __slots__ = ("counter", "semaphore", "wqh")
    name = "[eventfd]"

    def __init__(self, task: Task, counter: int, flags: int) -> None:
        super().__init__(task, OpenFlag.RDWR | flags & OpenFlag.NONBLOCK)
        self.counter = counter
        self.semaphore = bool(flags & Efd.SEMAPHORE)  # a read takes 1 and not all
        self.wqh = WaitQueue()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Source: ``fs/eventfd.c:eventfd_read``."""
        if count < _COUNT_BYTES:
            raise KernelError(Errno.EINVAL)
        if not self.counter:
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            return Wait((self.wqh,), wchan="eventfd_read")
        taken = 1 if self.semaphore else self.counter
        self.counter -= taken
        self.wqh.wake_up(key=Poll.OUT)
        return taken.to_bytes(_COUNT_BYTES, "little")

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Source: ``fs/eventfd.c:eventfd_write``."""
        if len(data) < _COUNT_BYTES:
            raise KernelError(Errno.EINVAL)
        added = int.from_bytes(data[:_COUNT_BYTES], "little")
        if added == _MAX:
            raise KernelError(Errno.EINVAL)
        return _add(self, added)

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``fs/eventfd.c:eventfd_poll``."""
        if queues is not None:
            queues.append(self.wqh)
        mask = Poll.IN if self.counter else Poll(0)
        if self.counter < _MAX - 1:
            mask |= Poll.OUT
        return mask

    def show_fdinfo(self) -> str:
        """Source: ``fs/eventfd.c:eventfd_show_fdinfo``."""
        return f"eventfd-count: {self.counter:16x}\neventfd-semaphore: {int(self.semaphore)}\n"


def _add(file: EventFd, added: int) -> int | Wait:
    if added >= _MAX - file.counter:
        if file.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        return Wait((file.wqh,), partial(_add, file, added), wchan="eventfd_write")
    file.counter += added
    file.wqh.wake_up(key=Poll.IN)
    return _COUNT_BYTES


@syscall("eventfd2")
def sys_eventfd2(task: Task, count: UInt, flags: Int) -> Result:
    """Source: ``fs/eventfd.c:do_eventfd``."""
    if flags & ~int(Efd.SEMAPHORE | Efd.NONBLOCK | Efd.CLOEXEC):
        raise KernelError(Errno.EINVAL)
    return anon_inode_getfd(task, EventFd(task, count, flags), cloexec=bool(flags & Efd.CLOEXEC))
