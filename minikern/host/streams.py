"""Standard input, output and error of a machine when they are not its terminal.

A `HostStream` hands bytes through to a descriptor of the host and looks to the guest like what the host has there: a
regular file can be positioned, a pipe is a FIFO, /dev/null a device. `CapturedInput` and `CapturedOutput` are
pipes whose other end is the Python program that runs the machine.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import PseudoFile
from minikern.fs.console import Console, open_console
from minikern.fs.file import FMode, OpenFlag, Poll
from minikern.fs.inode import Inode
from minikern.fs.ioctls import FIONREAD, TCGETS, TIOCGWINSZ
from minikern.fs.kstat import Kstat
from minikern.fs.namei import At, Lookup, filename_lookup
from minikern.fs.termbits import Termios
from minikern.host.files import HostFile
from minikern.host.terminal import Terminal
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import send_sig
from minikern.kernel.waitqueue import Wait, WaitQueue
from minikern.mm.uaccess import copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

_PIPE_BUF_BYTES = 4096  # a descriptor that is ready for writing takes as much without blocking
_MAX_READ_BYTES = 1 << 20
_BLOCKING_TYPES = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR)


class HostInode(Inode):
    """What stat(2) says of a descriptor of the host."""

    __slots__ = ("fd", "name")

    def __init__(self, kernel: Kernel, fd: int) -> None:
        status = os.fstat(fd)
        super().__init__(
            kernel.pseudo.hostfs, status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_rdev
        )
        self.fd = fd
        try:
            self.name = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # a host without /proc
            self.name = f"host:[{fd}]"

    def getattr(self, task: Task) -> Kstat:
        """As the host says."""
        status = os.fstat(self.fd)
        return Kstat(
            dev=status.st_dev,
            ino=status.st_ino,
            mode=status.st_mode,
            nlink=status.st_nlink,
            uid=status.st_uid,
            gid=status.st_gid,
            rdev=status.st_rdev,
            size=status.st_size,
            blksize=status.st_blksize,
            blocks=status.st_blocks,
            atime_ns=status.st_atime_ns,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Opened again by its name in /proc: a regular file gets a position of its own, all else is the same stream."""
        own = None
        if stat.S_ISREG(self.mode):
            append = os.O_APPEND if flags & OpenFlag.APPEND else 0
            try:
                own = HostFile(os.open(f"/dev/fd/{self.fd}", flags & OpenFlag.ACCMODE | append | os.O_CLOEXEC))
            except OSError as error:
                raise KernelError(error.errno or Errno.EIO) from None
        return HostStream(self, path, flags & (OpenFlag.ACCMODE | OpenFlag.NONBLOCK | OpenFlag.APPEND), own)

    def truncate(self, size: int) -> None:
        """Make a regular file ``size`` bytes long."""
        try:
            os.truncate(f"/dev/fd/{self.fd}", size)
        except OSError as error:
            raise KernelError(error.errno or Errno.EIO) from None


class HostStream(PseudoFile):
    """A descriptor of the host, in the guest. The position is the host's own, which others may share."""

    __slots__ = ("fd", "may_block", "own")

    def __init__(self, inode: HostInode, path: Path | None, flags: int, own: HostFile | None = None) -> None:
        super().__init__(inode, path, flags, _mode_of(flags, stat.S_ISREG(inode.mode)))
        self.own = own  # a descriptor that is closed with this file; None: that of the inode is used
        self.fd = inode.fd if own is None else own.fd
        self.may_block = stat.S_IFMT(inode.mode) in _BLOCKING_TYPES

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Read from the host if it has something now."""
        if self.may_block and not self.ready(select.POLLIN):
            if self.f_flags & OpenFlag.NONBLOCK:
                raise KernelError(Errno.EAGAIN)
            return Wait((task.kernel.host.poller.wait_queue(self.fd, False),), wchan="pipe_read")
        try:
            return os.read(self.fd, min(count, _MAX_READ_BYTES))
        except OSError as error:
            raise KernelError(error.errno or Errno.EIO) from None

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Write to the host."""
        return host_write(self, task, data, 0)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """The host's position."""
        try:
            self.f_pos = os.lseek(self.fd, offset, whence)
        except OSError as error:
            raise KernelError(error.errno or Errno.EIO) from None
        return self.f_pos

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """What the host says; what is not ready is asked for, for whoever waits."""
        mask = Poll.IN | Poll.RDNORM | Poll.OUT | Poll.WRNORM
        if not self.may_block:
            return mask
        poller = task.kernel.host.poller
        mask = Poll(0)
        for event, bits, mode in (
            (select.POLLIN, Poll.IN | Poll.RDNORM, FMode.READ),
            (select.POLLOUT, Poll.OUT | Poll.WRNORM, FMode.WRITE),
        ):
            if not self.f_mode & mode:
                continue
            ready = self.ready(event)
            if ready & event:
                mask |= bits
            mask |= Poll(ready & (select.POLLHUP | select.POLLERR))
            queue = poller.wait_queue(self.fd, event == select.POLLOUT, arm=not ready)
            if queues is not None:
                queues.append(queue)
        return mask

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Enough of a terminal for isatty and for programs that ask how wide it is."""
        if cmd == FIONREAD and self.may_block:
            return self._fionread(task, arg)
        if not os.isatty(self.fd):
            raise KernelError(Errno.ENOTTY)
        if cmd == TIOCGWINSZ:
            columns, rows = os.get_terminal_size(self.fd)
            copy_to_user(task, arg, struct.pack("<4H", rows, columns, 0, 0))
        elif cmd == TCGETS:
            copy_to_user(task, arg, Termios().pack())
        else:
            raise KernelError(Errno.ENOTTY)
        return 0

    def d_dname(self) -> bytes:
        """The host's name of it."""
        assert isinstance(self.inode, HostInode)
        return os.fsencode(self.inode.name)

    def _fionread(self, task: Task, arg: int) -> int:
        import termios

        try:
            waiting = fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4))
        except OSError as error:
            raise KernelError(error.errno or Errno.ENOTTY) from None
        put_user(task, arg, int.from_bytes(waiting, "little"), 4)
        return 0

    def ready(self, event: int) -> int:
        """Which of ``event``, hang-up and error are true now."""
        poll = select.poll()
        poll.register(self.fd, event)
        ready = poll.poll(0)
        return ready[0][1] if ready else 0


def host_write(file: HostStream, task: Task, data: bytes | memoryview, done: int) -> int | Wait:
    """Write ``data[done:]``, in pieces that the host takes without blocking; sleep while it takes none."""
    size = len(data)
    while done < size:
        piece = data[done:]
        if file.may_block:
            if not file.ready(select.POLLOUT):
                if file.f_flags & OpenFlag.NONBLOCK:
                    break
                queue = task.kernel.host.poller.wait_queue(file.fd, True)
                resume = partial(host_write, file, task, bytes(data), done)
                return Wait((queue,), resume, interrupted=done or -ERESTARTSYS, wchan="pipe_write")
            piece = piece[:_PIPE_BUF_BYTES]
        try:
            done += os.write(file.fd, piece)
        except BrokenPipeError:
            send_sig(Signal.SIGPIPE, task, False)
            if not done:
                raise KernelError(Errno.EPIPE) from None
            break
        except OSError as error:
            if not done:
                raise KernelError(error.errno or Errno.EIO) from None
            break
    if size and not done:
        raise KernelError(Errno.EAGAIN)
    return done


def _mode_of(flags: int, seekable: bool) -> FMode:
    access = flags & OpenFlag.ACCMODE
    mode = FMode.LSEEK if seekable else FMode(0)
    if access != OpenFlag.WRONLY:
        mode |= FMode.READ
    if access != OpenFlag.RDONLY:
        mode |= FMode.WRITE
    return mode


class CapturedInput(PseudoFile):
    """A pipe that holds bytes given beforehand, and whose writer is gone."""

    __slots__ = ("data", "position")

    def __init__(self, kernel: Kernel, data: bytes) -> None:
        sb = kernel.pseudo.pipefs
        super().__init__(Inode(sb, sb.next_ino(), stat.S_IFIFO | 0o600), None, OpenFlag.RDONLY, FMode.READ)
        self.data = data
        self.position = 0  # of what has not been read

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """The next bytes."""
        taken = self.data[self.position : self.position + count]
        self.position += len(taken)
        return taken

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """As a pipe without writers."""
        return Poll.IN | Poll.RDNORM | Poll.HUP if self.position < len(self.data) else Poll.HUP

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Source: ``fs/pipe.c:pipe_ioctl``."""
        if cmd != FIONREAD:
            raise KernelError(Errno.ENOTTY)
        put_user(task, arg, len(self.data) - self.position, 4)
        return 0


class CapturedOutput(PseudoFile):
    """A pipe that keeps everything written to it."""

    __slots__ = ("callback", "data")

    def __init__(self, kernel: Kernel, callback: Callable[[bytes], None] | None = None) -> None:
        sb = kernel.pseudo.pipefs
        super().__init__(Inode(sb, sb.next_ino(), stat.S_IFIFO | 0o600), None, OpenFlag.WRONLY, FMode.WRITE)
        self.data = bytearray()
        self.callback = callback  # is given every piece as it is written

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Keep it."""
        self.data += data
        if self.callback is not None:
            self.callback(bytes(data))
        return len(data)

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """There is always room."""
        return Poll.OUT | Poll.WRNORM


def open_host_fd(kernel: Kernel, fd: int) -> File:
    """The guest's file for a descriptor of the host; /dev/null when it is closed.

    Standard input becomes the console if it is a terminal, and so does everything else that is the same terminal.
    """
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        fd = os.open(os.devnull, os.O_RDWR)
        flags = os.O_RDWR
    if os.isatty(fd):
        console = kernel.chrdevs.console
        if isinstance(console, Console) and os.fstat(fd).st_rdev == console.terminal.device():
            return console.files[0].get()
        if fd == 0 and console is None:
            kernel.boot()  # /dev/console must be there
            return open_console(kernel, Terminal(fd), _find_console_node(kernel))
    access = flags & os.O_ACCMODE  # has the same numbers everywhere
    return HostStream(HostInode(kernel, fd), None, access | (OpenFlag.APPEND if flags & os.O_APPEND else 0))


def _find_console_node(kernel: Kernel) -> Path | None:
    """Where /dev/console is, if the machine has one."""
    try:
        return filename_lookup(kernel.init_task, At.FDCWD, b"/dev/console", Lookup.FOLLOW)
    except KernelError:
        return None
