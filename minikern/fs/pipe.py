"""Pipes and FIFOs.

Mirrors ``fs/pipe.c``: a ring of at most 16 buffers of one page each. A write goes on filling the last buffer if it fits
there, so what is written in one piece of up to PIPE_BUF bytes is never mixed with the bytes of others. Waiting readers and
writers are exclusive: what one of them leaves over wakes the next. Left out: watch queues, the limits on how much all pipes
of one user may hold.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from stat import S_IFIFO
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import PseudoFile, new_pseudo_inode
from minikern.fs.file import FMode, OpenFlag, Poll
from minikern.fs.ioctls import FIONREAD
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import send_sig
from minikern.kernel.syscalls import OpenFlags, Ptr, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.task import Task

PIPE_BUF_BYTES = 4096  # one buffer; what is not longer is written in one piece
PIPE_DEF_BUFFERS = 16
PIPE_MAX_BYTES = 1 << 20  # how far an unprivileged F_SETPIPE_SZ may go
_RING_MAX_BUFFERS = 1 << 16  # the largest ring that Linux finds memory for in one piece

_READABLE = Poll.IN | Poll.RDNORM
_WRITABLE = Poll.OUT | Poll.WRNORM


@dataclass(slots=True, eq=False, repr=False)
class PipeBuffer:
    """What one page of the ring holds (``struct pipe_buffer``)."""

    data: bytes  # not yet read
    end: int  # how far the page is filled, what was read already included
    mergeable: bool = True  # the next write may go on in this page
    packet: bool = False  # O_DIRECT: a read takes this one only, and what it does not take is lost


@dataclass(slots=True, eq=False, repr=False)
class Pipe:
    """The ring and who has its ends open (``struct pipe_inode_info``)."""

    bufs: deque[PipeBuffer] = field(default_factory=deque)  # oldest first
    max_usage: int = PIPE_DEF_BUFFERS  # how many buffers it may hold
    readers: int = 0  # open files that can read
    writers: int = 0
    r_counter: int = 0  # how often it was opened for reading
    w_counter: int = 0
    rd_wait: WaitQueue = field(default_factory=WaitQueue)
    wr_wait: WaitQueue = field(default_factory=WaitQueue)
    poll_usage: bool = False  # was polled: every write tells, for edge-triggered epoll

    def full(self) -> bool:
        """Whether no buffer is free (``pipe_full``)."""
        return len(self.bufs) >= self.max_usage

    def wake_readers(self) -> None:
        """There is something to read."""
        self.rd_wait.wake_up(key=_READABLE)

    def nbytes(self) -> int:
        """How many bytes wait to be read."""
        return sum(len(buf.data) for buf in self.bufs)

    def take(self, count: int) -> bytes:
        """Take up to ``count`` bytes off the ring and wake writers if there is room where there was none."""
        was_full = self.full()
        parts = []
        freed = False
        while count and self.bufs:
            buf = self.bufs[0]
            part = buf.data[:count]
            parts.append(part)
            count = 0 if buf.packet else count - len(part)
            if buf.packet or len(part) == len(buf.data):
                self.bufs.popleft()
                freed = True
            else:
                buf.data = buf.data[len(part) :]
        if freed and was_full:
            self.wr_wait.wake_up(key=_WRITABLE)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class PipeFile(PseudoFile):
    """One end of a pipe, or an open FIFO."""

    __slots__ = ("pipe", "rendezvous", "silent_w_counter")

    def __init__(self, inode: Inode, path: Path | None, flags: int, mode: FMode, pipe: Pipe) -> None:
        super().__init__(inode, path, flags, mode)
        self.pipe = pipe
        self.rendezvous: int | None = None  # counter of the other side at the time of a blocking open
        self.silent_w_counter = -1  # w_counter at a non-blocking open: no POLLHUP before somebody has written

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Source: ``fs/pipe.c:pipe_read``."""
        pipe = self.pipe
        if not count:
            return b""
        if pipe.bufs:
            first = pipe.bufs[0]
            if len(pipe.bufs) == 1 and len(first.data) <= count and pipe.max_usage > 1:
                pipe.bufs.clear()  # the common case: all of it, and nobody waits for room
                return first.data
            data = pipe.take(count)
            if pipe.bufs and pipe.rd_wait.tasks:
                pipe.wake_readers()
            return data
        if not pipe.writers:
            return b""
        if self.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        return Wait((pipe.rd_wait,), exclusive=True, wchan="pipe_read")

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Source: ``fs/pipe.c:pipe_write``."""
        size = len(data)
        if not size:
            return 0
        pipe = self.pipe
        if not pipe.readers:
            return pipe_fill(self, task, data, 0)
        if not pipe.bufs:
            if size > PIPE_BUF_BYTES:
                return pipe_fill(self, task, data, 0)
            # The common case, for which there is no need of a loop: one piece into an empty pipe.
            packet = bool(self.f_flags & OpenFlag.DIRECT)
            pipe.bufs.append(PipeBuffer(bytes(data), size, not packet, packet))
            pipe.wake_readers()
            return size

        done = 0
        last = pipe.bufs[-1]
        fraction = size % PIPE_BUF_BYTES
        if fraction and last.mergeable and last.end + fraction <= PIPE_BUF_BYTES:
            last.data += bytes(data[:fraction])
            last.end += fraction
            done = fraction
        return pipe_fill(self, task, data, done)

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``fs/pipe.c:pipe_poll``."""
        pipe = self.pipe
        pipe.poll_usage = True
        mask = 0
        if self.f_mode & FMode.READ:
            if queues is not None:
                queues.append(pipe.rd_wait)
            if pipe.bufs:
                mask |= _READABLE
            if not pipe.writers and self.silent_w_counter != pipe.w_counter:
                mask |= Poll.HUP
        if self.f_mode & FMode.WRITE:
            if queues is not None:
                queues.append(pipe.wr_wait)
            if len(pipe.bufs) < pipe.max_usage:
                mask |= _WRITABLE
            if not pipe.readers:
                mask |= Poll.ERR
        return mask

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Source: ``fs/pipe.c:pipe_ioctl``."""
        if cmd == FIONREAD:
            put_user(task, arg, self.pipe.nbytes(), 4)
            return 0
        raise KernelError(Errno.ENOTTY)

    def open_wait(self, task: Task) -> Wait | None:
        """An open FIFO waits for its other side. Source: ``fs/pipe.c:wait_for_partner``."""
        pipe = self.pipe
        met = pipe.w_counter if self.f_mode & FMode.READ else pipe.r_counter
        if self.rendezvous is None or met != self.rendezvous:
            return None
        return Wait((pipe.rd_wait,), wchan="wait_for_partner")

    def release(self) -> None:
        """Source: ``fs/pipe.c:pipe_release``."""
        pipe = self.pipe
        pipe.readers -= bool(self.f_mode & FMode.READ)
        pipe.writers -= bool(self.f_mode & FMode.WRITE)
        if not pipe.readers and not pipe.writers:
            self.inode.pipe = None
        elif not pipe.readers or not pipe.writers:
            pipe.rd_wait.wake_up_all(key=_READABLE | Poll.ERR | Poll.HUP)
            pipe.wr_wait.wake_up_all(key=_WRITABLE | Poll.ERR | Poll.HUP)


def pipe_fill(file: PipeFile, task: Task, data: bytes | memoryview, done: int, slept: bool = False) -> int | Wait:
    """Put ``data[done:]`` into free buffers, sleeping while there are none. Source: the loop of ``pipe_write``."""
    pipe = file.pipe
    bufs = pipe.bufs
    if not pipe.readers:
        send_sig(Signal.SIGPIPE, task, False)
        if not done:
            raise KernelError(Errno.EPIPE)
        return done

    was_empty = not bufs
    packet = bool(file.f_flags & OpenFlag.DIRECT)
    size = len(data)
    while done < size and len(bufs) < pipe.max_usage:
        part = bytes(data[done : done + PIPE_BUF_BYTES])
        bufs.append(PipeBuffer(part, len(part), not packet, packet))
        done += len(part)
    if was_empty or pipe.poll_usage:
        pipe.wake_readers()
    if slept and not pipe.full():
        pipe.wr_wait.wake_up(key=_WRITABLE)

    if done == size:
        return done
    if file.f_flags & OpenFlag.NONBLOCK:
        if not done:
            raise KernelError(Errno.EAGAIN)
        return done
    resume = partial(pipe_fill, file, task, bytes(data), done, True)
    return Wait((pipe.wr_wait,), resume, interrupted=done or -ERESTARTSYS, exclusive=True, wchan="pipe_write")


def create_pipe_files(task: Task, flags: int) -> tuple[PipeFile, PipeFile]:
    """A new pipe: its end for reading and its end for writing. Source: ``fs/pipe.c:create_pipe_files``."""
    pipe = Pipe(readers=1, writers=1, r_counter=1, w_counter=1)
    inode = new_pseudo_inode(task, task.kernel.pseudo.pipefs, S_IFIFO | 0o600)
    inode.pipe = pipe
    reader = PipeFile(inode, None, OpenFlag.RDONLY | flags & OpenFlag.NONBLOCK, FMode.READ, pipe)
    writer = PipeFile(inode, None, OpenFlag.WRONLY | flags & (OpenFlag.NONBLOCK | OpenFlag.DIRECT), FMode.WRITE, pipe)
    return reader, writer


def do_pipe2(task: Task, ptr: int, flags: int) -> int:
    """Make a pipe and store its two descriptors at ``ptr``. Source: ``fs/pipe.c:do_pipe2``."""
    if flags & ~(OpenFlag.CLOEXEC | OpenFlag.NONBLOCK | OpenFlag.DIRECT):
        raise KernelError(Errno.EINVAL)
    files = task.files
    assert files is not None
    cloexec = bool(flags & OpenFlag.CLOEXEC)
    reader, writer = create_pipe_files(task, flags)
    fds = []
    try:
        for file in (reader, writer):
            fds.append(files.alloc_fd(task, file, cloexec=cloexec))
        copy_to_user(task, ptr, b"".join(fd.to_bytes(4, "little") for fd in fds))
    except KernelError:
        for fd in fds:
            files.remove(fd)
        reader.fput()
        writer.fput()
        raise
    return 0


@syscall("pipe2")
def sys_pipe2(task: Task, fildes: Ptr, flags: OpenFlags) -> Result:
    """Source: ``fs/pipe.c:pipe2``."""
    return do_pipe2(task, fildes, task.arch.open_flags(flags))


def fifo_open(task: Task, inode: Inode, path: Path | None, flags: int) -> PipeFile:
    """Open a FIFO, or a pipe by its name in /proc. The caller sleeps as long as `PipeFile.open_wait` says so.

    ENXIO: a non-blocking writer finds no reader. Source: ``fs/pipe.c:fifo_open``.
    """
    reading = flags & OpenFlag.ACCMODE != OpenFlag.WRONLY
    writing = flags & OpenFlag.ACCMODE != OpenFlag.RDONLY
    nonblock = bool(flags & OpenFlag.NONBLOCK)
    is_pipe = isinstance(inode.pipe, Pipe) and path is None
    pipe = inode.pipe if inode.pipe is not None else Pipe()
    if writing and not reading and nonblock and not is_pipe and not pipe.readers:
        raise KernelError(Errno.ENXIO)

    mode = (FMode.READ if reading else FMode(0)) | (FMode.WRITE if writing else FMode(0))
    file = PipeFile(inode, path, flags, mode, pipe)
    inode.pipe = pipe
    pipe.r_counter += reading
    pipe.w_counter += writing
    if (reading and not pipe.readers) or (writing and not pipe.writers):
        pipe.rd_wait.wake_up_all()
    pipe.readers += reading
    pipe.writers += writing

    if reading and not writing and not is_pipe and not pipe.writers:
        if nonblock:
            file.silent_w_counter = pipe.w_counter
        else:
            file.rendezvous = pipe.w_counter
    elif writing and not reading and not is_pipe and not pipe.readers:
        file.rendezvous = pipe.r_counter
    return file


def round_pipe_size(size: int) -> int:
    """The next power of two, at least one page. Source: ``fs/pipe.c:round_pipe_size``."""
    if size > 1 << 31:
        raise KernelError(Errno.EINVAL)
    return max(PIPE_BUF_BYTES, 1 << (size - 1).bit_length()) if size else PIPE_BUF_BYTES


def get_pipe_size(file: PipeFile) -> int:
    """F_GETPIPE_SZ: bytes."""
    return file.pipe.max_usage * PIPE_BUF_BYTES


def pipe_set_size(task: Task, file: PipeFile, size: int) -> int:
    """F_SETPIPE_SZ: the new size in bytes. EPERM, ENOMEM: too much; EBUSY: more is in it. Source: ``fs/pipe.c:pipe_set_size``."""
    pipe = file.pipe
    size = round_pipe_size(size)
    slots = size // PIPE_BUF_BYTES
    if slots > pipe.max_usage and size > PIPE_MAX_BYTES and not capable(task, Cap.SYS_RESOURCE):
        raise KernelError(Errno.EPERM)
    if slots < len(pipe.bufs):
        raise KernelError(Errno.EBUSY)
    if slots > _RING_MAX_BUFFERS:
        raise KernelError(Errno.ENOMEM)
    grown = slots > pipe.max_usage
    pipe.max_usage = slots
    if grown:
        pipe.wr_wait.wake_up(key=_WRITABLE)
    return size
