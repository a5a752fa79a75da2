"""Pseudo terminals: two terminals back to back.

Mirrors ``drivers/tty/pty.c``. What is written to one end is input of the other. The slave is what programs run on; the
master is held by whoever plays the user. Left out: the old BSD names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs import ioctls
from minikern.fs.file import Poll
from minikern.fs.n_tty import (
    TIOCPKT_DOSTOP,
    TIOCPKT_FLUSHWRITE,
    TIOCPKT_NOSTOP,
    TIOCPKT_START,
    TIOCPKT_STOP,
)
from minikern.fs.termbits import CC, CFlag, IFlag, Termios
from minikern.fs.tty import TTY_BUFFER_LIMIT, Tty, WinSize, tty_open
from minikern.fs.tty_jobctrl import tty_signal_pgrp
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.task import NSIG
from minikern.mm.uaccess import get_user, put_user

if TYPE_CHECKING:
    from minikern.fs.devpts import DevPts
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.task import Task

_CFLAG = CFlag.B38400 | CFlag.CS8 | CFlag.CREAD
_DC1, _DC3 = 0x11, 0x13  # ^Q and ^S


class PtyEnd(Tty):
    """What both ends have in common."""

    is_pty = True
    link: PtyEnd  # is set as long as the pair exists, which is longer than anybody can look

    def write(self, data: bytes) -> int:
        """Source: ``pty_write``."""
        return 0 if self.stopped else self.link.receive(data)

    def write_room(self) -> int:
        """Source: ``pty_write_room``."""
        return 0 if self.stopped else TTY_BUFFER_LIMIT - len(self.link.port)

    def flush_buffer(self) -> None:
        """Source: ``pty_flush_buffer``."""
        self.link.port.clear()
        self.tell_packet_mode(TIOCPKT_FLUSHWRITE, 0)

    def stop(self) -> None:
        """Source: ``pty_stop``."""
        super().stop()
        self.tell_packet_mode(TIOCPKT_STOP, TIOCPKT_START)

    def start(self) -> None:
        """Source: ``pty_start``."""
        if self.stopped and not self.tco_stopped:
            self.tell_packet_mode(TIOCPKT_START, TIOCPKT_STOP)
        super().start()

    def tell_packet_mode(self, status: int, instead_of: int) -> None:
        """Let a master in packet mode know what happened here."""
        if self.link.packet:
            self.pktstatus = self.pktstatus & ~instead_of | status
            self.link.read_wait.wake_up_all(Poll.PRI | Poll.IN | Poll.RDNORM)

    def resize(self, size: WinSize) -> None:
        """Both ends have the same window. Source: ``pty_resize``."""
        if size == self.winsize:
            return
        self.winsize = self.link.winsize = size
        tty_signal_pgrp(self, Signal.SIGWINCH)
        if self.link.pgrp is not self.pgrp:
            tty_signal_pgrp(self.link, Signal.SIGWINCH)

    def close(self) -> None:
        """This end is not open any more. Source: ``pty_close``."""
        self.io_error = True
        self.packet = False
        self.link.other_closed = True
        for tty in (self, self.link):
            tty.read_wait.wake_up_all(Poll.IN | Poll.RDNORM | Poll.HUP)
            tty.write_wait.wake_up_all(Poll.OUT | Poll.WRNORM | Poll.HUP)


class PtySlave(PtyEnd):
    """The end that looks like a terminal."""

    def __init__(self, driver: DevPts, index: int, dev: int) -> None:
        super().__init__(driver.kernel, f"pts/{index}", dev, Termios(cflag=_CFLAG))
        self.locked = True  # not to be opened before the master says so (unlockpt)

    def open_file(self, task: Task, inode: Inode, path: Path | None, flags: int) -> File:
        """The factory of its device node."""
        return tty_open(task, self, inode, path, flags)

    def open(self, task: Task) -> None:
        """EIO while it is locked, or when nobody has the master. Source: ``pty_open``."""
        if self.locked or self.other_closed:
            raise KernelError(Errno.EIO)
        self.link.other_closed = False

    def set_termios(self, old: Termios) -> None:
        """Source: ``pty_set_termios``."""
        new = self.termios
        if _flow_control(old) != _flow_control(new):
            status = TIOCPKT_DOSTOP if _flow_control(new) else TIOCPKT_NOSTOP
            self.tell_packet_mode(status, TIOCPKT_DOSTOP | TIOCPKT_NOSTOP)
        new.cflag = new.cflag & ~(CFlag.CSIZE | CFlag.PARENB) | CFlag.CS8 | CFlag.CREAD


class PtyMaster(PtyEnd):
    """The end that plays the user."""

    is_master = True
    link: PtySlave

    def __init__(self, driver: DevPts, index: int, dev: int) -> None:
        super().__init__(driver.kernel, "ptmx", dev, Termios(0, 0, _CFLAG, 0))
        self.driver = driver
        self.index = index

    def close(self) -> None:
        """The terminal is gone: its name goes, and whoever has it open is hung up."""
        super().close()
        self.driver.kill(self.index)
        self.link.vhangup()

    def driver_ioctl(self, task: Task, cmd: int, arg: int) -> int | None:
        """Source: ``pty_unix98_ioctl``."""
        match cmd:
            case ioctls.TIOCSPTLCK:
                self.link.locked = get_user(task, arg, 4) != 0
            case ioctls.TIOCGPTLCK:
                put_user(task, arg, self.link.locked, 4)
            case ioctls.TIOCGPTN:
                put_user(task, arg, self.index, 4)
            case ioctls.TIOCPKT:
                packet = get_user(task, arg, 4) != 0
                if packet and not self.packet:
                    self.link.pktstatus = 0
                self.packet = packet
            case ioctls.TIOCGPKT:
                put_user(task, arg, self.packet, 4)
            case ioctls.TIOCSIG:
                if not 0 < arg <= NSIG:
                    raise KernelError(Errno.EINVAL)
                tty_signal_pgrp(self.link, arg)
            case ioctls.TIOCGPTPEER:
                return self.driver.open_peer(task, self, arg)
            case _:
                return None
        return 0


def _flow_control(termios: Termios) -> bool:
    return termios.iflag & IFlag.IXON != 0 and termios.cc[CC.VSTOP] == _DC3 and termios.cc[CC.VSTART] == _DC1
