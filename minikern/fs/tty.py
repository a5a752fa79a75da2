"""Terminals: what all of them have in common.

Mirrors ``drivers/tty/tty_io.c`` and ``include/linux/tty.h``. A `Tty` sits between its driver (subclasses: the ends of a
pseudo terminal, the console), its line discipline (`minikern.fs.n_tty`) and the files that processes have open on it.
Left out: other line disciplines, serial lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.devices import Device
from minikern.fs.file import FMode, OpenFlag, Poll
from minikern.fs.ioctls import TIOCSPGRP
from minikern.fs.n_tty import NTty
from minikern.fs.n_tty_io import n_tty_poll, n_tty_read, n_tty_write
from minikern.fs.termbits import Termios
from minikern.fs.tty_ioctl import tty_ioctl
from minikern.fs.tty_jobctrl import (
    disassociate_ctty,
    tty_open_proc_set_tty,
    tty_signal_pgrp,
    tty_signal_session_leader,
)
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.waitqueue import Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.pid import Pid
    from minikern.kernel.task import Task

__all__ = ["Tty", "TtyFile", "disassociate_ctty", "register_ttys", "tty_open"]

TTYAUX_MAJOR = 5
TTY_BUFFER_LIMIT = 8192  # bytes on their way to the line discipline
WinSize = tuple[int, int, int, int]  # rows, columns, and the same in pixels


class Tty:
    """One terminal (``struct tty_struct``) with the operations of its driver (``struct tty_operations``)."""

    is_pty = False
    is_master = False  # the side of a pseudo terminal that plays the user

    def __init__(self, kernel: Kernel, name: str, dev: int, termios: Termios | None = None) -> None:
        self.kernel = kernel
        self.name = name  # below /dev
        self.dev = dev  # device number, as `makedev` packs it
        self.termios = termios if termios is not None else Termios()
        self.winsize: WinSize = (0, 0, 0, 0)
        self.link: Tty | None = None  # the other end of a pseudo terminal
        self.pgrp: Pid | None = None  # foreground process group
        self.session: Pid | None = None  # whose controlling terminal it is
        self.files: list[TtyFile] = []  # open on it
        self.read_wait = WaitQueue()
        self.write_wait = WaitQueue()
        self.port = bytearray()  # what the line discipline had no room for yet (``struct tty_port`` and its buffer)
        self.ldisc = NTty(self)
        self.stopped = False  # output is held back by ^S
        self.tco_stopped = False  # … by TCXONC
        self.packet = False  # a master that reads what happens to the slave (TIOCPKT)
        self.pktstatus = 0  # TIOCPKT_* not yet read
        self.exclusive = False  # nobody else may open it (TIOCEXCL)
        self.other_closed = False  # the other end of a pseudo terminal is not open any more
        self.io_error = False  # its own end is closed

    # struct tty_operations

    def open(self, task: Task) -> None:
        """A file is about to be opened on it."""

    def close(self) -> None:
        """The last file open on it is closed."""

    def write(self, data: bytes) -> int:
        """Send towards the user; how many bytes were taken."""
        raise NotImplementedError

    def write_room(self) -> int:
        """How many bytes `write` would take now."""
        raise NotImplementedError

    def chars_in_buffer(self) -> int:
        """Bytes that were taken and have not arrived."""
        return 0

    def flush_buffer(self) -> None:
        """Forget what has not arrived."""

    def set_termios(self, old: Termios) -> None:
        """The settings have changed from ``old``."""

    def driver_ioctl(self, task: Task, cmd: int, arg: int) -> int | None:
        """Commands that only this driver knows; None: it does not."""
        return None

    def resize(self, size: WinSize) -> None:
        """The window has another size: tell the foreground group. Source: ``tty_do_resize``."""
        if size != self.winsize:
            self.winsize = size
            tty_signal_pgrp(self, Signal.SIGWINCH)

    # what the driver calls

    def receive(self, data: bytes) -> int:
        """Input for the line discipline; how much of it was taken (``tty_insert_flip_string_and_push_buffer``)."""
        taken = data[: max(0, TTY_BUFFER_LIMIT - len(self.port))]
        self.port += taken
        self.flush_to_ldisc()
        return len(taken)

    def flush_to_ldisc(self) -> None:
        """Hand over as much as the line discipline takes. Source: ``drivers/tty/tty_buffer.c:flush_to_ldisc``."""
        if self.port:
            data = bytes(self.port)
            self.port.clear()  # input can make output, and that more input
            self.port[:0] = data[self.ldisc.receive_buf(data) :]

    def wakeup(self) -> None:
        """There is room for output again (``tty_wakeup``)."""
        self.ldisc.process_echoes()
        self.write_wait.wake_up(key=Poll.OUT | Poll.WRNORM)

    def input_taken(self) -> None:
        """The line discipline has room again. Source: ``drivers/tty/n_tty.c:n_tty_check_unthrottle``."""
        self.flush_to_ldisc()
        if self.link is not None:
            self.link.wakeup()

    # flow control

    def stop(self) -> None:
        """Hold output back (``stop_tty``)."""
        self.stopped = True

    def start(self) -> None:
        """Let output go on (``start_tty``)."""
        if self.stopped and not self.tco_stopped:
            self.stopped = False
            self.wakeup()

    # the end

    def vhangup(self, *, exit_session: bool = False) -> None:
        """Nobody who has it open can use it any more. Source: ``drivers/tty/tty_io.c:__tty_hangup``."""
        for file in self.files:
            file.hung_up = True
        tty_signal_session_leader(self, exit_session)
        self.ldisc.flush_buffer()
        self.flush_buffer()
        self.termios = Termios() if not self.is_master else self.termios
        self.session = None
        self.pgrp = None
        self.pktstatus = 0
        self.stopped = self.tco_stopped = False
        self.read_wait.wake_up_all(Poll.IN | Poll.RDNORM | Poll.HUP)
        self.write_wait.wake_up_all(Poll.OUT | Poll.WRNORM | Poll.HUP)


class TtyFile(Device):
    """An open terminal (``tty_fops``)."""

    __slots__ = ("hung_up", "minimum_waived", "tty")

    def __init__(self, task: Task, inode: Inode, path: Path | None, flags: int, tty: Tty) -> None:
        super().__init__(task, inode, path, flags)
        self.f_mode &= ~(FMode.LSEEK | FMode.PREAD | FMode.PWRITE)
        self.tty = tty
        self.hung_up = False  # the terminal went away (``hung_up_tty_fops``)
        self.minimum_waived = False  # the next read takes what is there, since its time is up
        tty.files.append(self)

    @property
    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return bool(self.f_mode & FMode.READ)

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Source: ``drivers/tty/tty_io.c:tty_read``."""
        if self.hung_up:
            return b""
        if self.tty.io_error:
            raise KernelError(Errno.EIO)
        return n_tty_read(self, task, count)

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """Source: ``drivers/tty/tty_io.c:tty_write``."""
        if self.hung_up or self.tty.io_error:
            raise KernelError(Errno.EIO)
        return n_tty_write(self, task, data)

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``drivers/tty/tty_io.c:tty_poll``."""
        if self.hung_up:
            return Poll.IN | Poll.OUT | Poll.ERR | Poll.HUP | Poll.RDNORM | Poll.WRNORM
        return n_tty_poll(self, queues)

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Source: ``drivers/tty/tty_io.c:tty_ioctl``."""
        if self.hung_up:
            raise KernelError(Errno.ENOTTY if cmd == TIOCSPGRP else Errno.EIO)
        if self.tty.io_error:
            raise KernelError(Errno.EIO)
        return tty_ioctl(self, task, cmd, arg)

    def release(self) -> None:
        """The last file closes the terminal. Source: ``drivers/tty/tty_io.c:tty_release``."""
        tty = self.tty
        tty.files.remove(self)
        if not tty.files:
            tty.close()


def tty_open(task: Task, tty: Tty, inode: Inode, path: Path | None, flags: int, *, noctty: bool = False) -> File:
    """Open a terminal; it may become the controlling one. Source: ``drivers/tty/tty_io.c:tty_open``."""
    if tty.exclusive and not capable(task, Cap.SYS_ADMIN):
        raise KernelError(Errno.EBUSY)
    tty.open(task)
    tty.io_error = False
    file = TtyFile(task, inode, path, flags, tty)
    if not noctty and not flags & OpenFlag.NOCTTY and not tty.is_master:
        tty_open_proc_set_tty(task, tty, file.readable)
    return file


def tty_open_current_tty(task: Task, inode: Inode, path: Path | None, flags: int) -> File:
    """/dev/tty: the controlling terminal of whoever opens it; ENXIO. Source: ``tty_open_current_tty``."""
    tty = task.signal.tty
    if tty is None:
        raise KernelError(Errno.ENXIO)
    return tty_open(task, tty, inode, path, flags, noctty=True)


def console_open(task: Task, inode: Inode, path: Path | None, flags: int) -> File:
    """/dev/console: the terminal of the machine; ENODEV when it has none. Source: ``tty_lookup_driver``."""
    tty = task.kernel.chrdevs.console
    if tty is None:
        raise KernelError(Errno.ENODEV)
    return tty_open(task, tty, inode, path, flags, noctty=True)


def register_ttys(kernel: Kernel) -> None:
    """The devices that every machine has, whether it has a terminal or not (``tty_init``)."""
    kernel.chrdevs.add((TTYAUX_MAJOR, 0), "tty", 0o666, tty_open_current_tty)
    kernel.chrdevs.add((TTYAUX_MAJOR, 1), "console", 0o600, console_open)
