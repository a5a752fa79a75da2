"""The memory devices, /dev/kmsg, and the base of every device driver.

Mirrors ``drivers/char/mem.c``, ``drivers/char/random.c`` and ``kernel/printk/printk.c``. A driver is a `Device` subclass: an
instance is one open of the device, and overrides what it can do of `read`, `write`, `poll`, `ioctl`, `llseek`, `flush`
(a process closed it or died) and `release` (nobody has it open any more)::

    class Counter(Device):
        def read(self, task, count, pos):
            return b"%d\\n" % task.pid

    kernel.register_device("counter", 0o666, Counter)

Left out: /dev/mem and /dev/port.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from minikern.fs.char_dev import CharDevices
from minikern.fs.file import File, FMode, OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.waitqueue import Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.mm.filemap import AddressSpace
    from minikern.mm.vma import Vma

MEM_MAJOR = 1
_CHUNK_BYTES = 1 << 20  # an endless device hands out no more than this at once
_LOG_RECORDS = 1024
_LOG_LINE_MAX = 1024 - 32
_LOG_USER = 1 << 3  # facility of what users write
_LOG_WARNING = 4


class Device(File):
    """One open of a character device."""

    __slots__ = ()

    def __init__(self, task: Task, inode: Inode, path: Path | None, flags: int) -> None:
        super().__init__(inode, path, flags, open_mode(flags))


class Null(Device):
    """/dev/null: nothing to read, and room for everything."""

    __slots__ = ()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """End of file."""
        return b""

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Gone."""
        return len(data)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Every position is 0. Source: ``drivers/char/mem.c:null_lseek``."""
        self.f_pos = 0
        return 0


class Zero(Null):
    """/dev/zero: endless zero bytes; mapped, it is anonymous memory."""

    __slots__ = ()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Zeroes."""
        return bytes(min(count, _CHUNK_BYTES))

    def mmap(self, task: Task, vma: Vma) -> AddressSpace | None:
        """Source: ``drivers/char/mem.c:mmap_zero``."""
        return None


class Full(Zero):
    """/dev/full: a full disk."""

    __slots__ = ()

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Source: ``drivers/char/mem.c:write_full``."""
        raise KernelError(Errno.ENOSPC)


class Random(Device):
    """/dev/random and /dev/urandom, which are the same once a machine has booted."""

    __slots__ = ()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Random bytes."""
        return task.kernel.sources.random_bytes(min(count, _CHUNK_BYTES))

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Stirred in, to no effect."""
        return len(data)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Source: ``fs/read_write.c:noop_llseek``."""
        return self.f_pos


class KernelLog:
    """The driver of /dev/kmsg: messages that users write, with the time since boot (``struct printk_ringbuffer``)."""

    def __init__(self) -> None:
        self.records: deque[bytes] = deque(maxlen=_LOG_RECORDS)
        self.first_seq = 0  # number of the oldest record that is still there
        self.next_seq = 0
        self.wait = WaitQueue()

    def open(self, task: Task, inode: Inode, path: Path | None, flags: int) -> File:
        """The factory of the device."""
        return Kmsg(task, inode, path, flags, self)

    def store(self, priority: int, time_ns: int, text: bytes) -> None:
        """Add a record (``vprintk_store``)."""
        self.records.append(b"%d,%d,%d,-;%s\n" % (priority, self.next_seq, time_ns // 1000, text))
        self.next_seq += 1
        self.first_seq = self.next_seq - len(self.records)
        self.wait.wake_up_all(Poll.IN | Poll.RDNORM)


class Kmsg(Device):
    """/dev/kmsg: one record per read; the records that come, and those that were there."""

    __slots__ = ("log", "seq")

    def __init__(self, task: Task, inode: Inode, path: Path | None, flags: int, log: KernelLog) -> None:
        super().__init__(task, inode, path, flags)
        self.log = log
        self.seq = log.first_seq  # the next record to read

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """EPIPE: records were lost; EINVAL: too little room. Source: ``kernel/printk/printk.c:devkmsg_read``."""
        log = self.log
        if self.seq >= log.next_seq:
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            return Wait((log.wait,), wchan="devkmsg_read")
        if self.seq < log.first_seq:
            self.seq = log.first_seq
            raise KernelError(Errno.EPIPE)
        record = log.records[self.seq - log.first_seq]
        if len(record) > count:
            raise KernelError(Errno.EINVAL)
        self.seq += 1
        return record

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """A message, with ``<priority>`` before it or without. Source: ``kernel/printk/printk.c:devkmsg_write``."""
        text = bytes(data)
        if len(text) > _LOG_LINE_MAX:
            raise KernelError(Errno.EINVAL)
        priority = _LOG_USER | _LOG_WARNING
        head, bracket, rest = text[1:].partition(b">")
        if text.startswith(b"<") and bracket and head.isdigit():
            priority, text = int(head), rest
        self.log.store(priority, task.kernel.sources.monotonic_ns(), text.rstrip(b"\n"))
        return len(data)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """To the oldest record or behind the newest. Source: ``kernel/printk/printk.c:devkmsg_llseek``."""
        if offset:
            raise KernelError(Errno.ESPIPE)
        if whence == os.SEEK_SET:
            self.seq = self.log.first_seq
        elif whence == os.SEEK_END:
            self.seq = self.log.next_seq
        else:
            raise KernelError(Errno.EINVAL)
        return 0

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``kernel/printk/printk.c:devkmsg_poll``."""
        if queues is not None:
            queues.append(self.log.wait)
        if self.seq >= self.log.next_seq:
            return 0
        lost = Poll.ERR | Poll.PRI if self.seq < self.log.first_seq else 0
        return Poll.IN | Poll.RDNORM | lost


def open_mode(flags: int) -> FMode:
    """What a file that was opened with ``flags`` can do (``OPEN_FMODE``)."""
    access = flags & OpenFlag.ACCMODE
    mode = FMode.LSEEK | FMode.PREAD | FMode.PWRITE
    if access != OpenFlag.WRONLY:
        mode |= FMode.READ
    if access != OpenFlag.RDONLY:
        mode |= FMode.WRITE
    return mode


def register_standard_devices(kernel: Kernel) -> None:
    """The devices that every machine has."""
    devices: CharDevices = kernel.chrdevs
    devices.add((MEM_MAJOR, 3), "null", 0o666, Null)
    devices.add((MEM_MAJOR, 5), "zero", 0o666, Zero)
    devices.add((MEM_MAJOR, 7), "full", 0o666, Full)
    devices.add((MEM_MAJOR, 8), "random", 0o666, Random)
    devices.add((MEM_MAJOR, 9), "urandom", 0o666, Random)
    devices.add((MEM_MAJOR, 11), "kmsg", 0o644, KernelLog().open)
