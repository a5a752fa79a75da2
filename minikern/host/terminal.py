"""The terminal that the host process was started from: raw while a machine runs, and always put back afterwards."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import termios
import threading
import tty
from types import FrameType
from typing import Any


class Terminal:
    """A terminal of the host, by one of its descriptors. A handle: copies of the kernel share it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[Any] | None = None  # settings to restore; None: they are in force

    def __deepcopy__(self, memo: dict[int, object]) -> Terminal:
        return self

    def enter_raw(self) -> None:
        """Every key is a byte of input, and every byte of output is shown as it is."""
        if self._saved is None:
            self._saved = termios.tcgetattr(self.fd)
            atexit.register(self.restore)
            if threading.current_thread() is threading.main_thread():
                for signum in (signal.SIGTERM, signal.SIGHUP):
                    if signal.getsignal(signum) is signal.SIG_DFL:
                        signal.signal(signum, self._die)
        tty.setraw(self.fd, termios.TCSANOW)

    def restore(self) -> None:
        """Back to the settings from before `enter_raw`."""
        if self._saved is None:
            return
        with contextlib.suppress(termios.error, OSError):  # the terminal may be gone
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
        self._saved = None
        atexit.unregister(self.restore)
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) == self._die:
                    signal.signal(signum, signal.SIG_DFL)

    def _die(self, signum: int, frame: FrameType | None) -> None:
        """A signal that nobody else handles: put the terminal back, then die of it after all."""
        self.restore()
        os.kill(os.getpid(), signum)

    def device(self) -> int:
        """The device number, by which to tell whether another descriptor is the same terminal."""
        return os.fstat(self.fd).st_rdev

    def size(self) -> tuple[int, int, int, int]:
        """Rows, columns, and the same in pixels, where 0 is: not known."""
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(self.fd)
            return rows, columns, 0, 0
        return 0, 0, 0, 0

    def read(self, count: int) -> bytes:
        """What has been typed, once the descriptor is readable; empty: the terminal is gone."""
        try:
            return os.read(self.fd, count)
        except OSError:
            return b""

    def writable(self) -> bool:
        """Whether output would not block."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(0))

    def write(self, data: bytes) -> int:
        """Show ``data``; how much was taken. What is written to a terminal that is gone is lost."""
        try:
            return os.write(self.fd, data)
        except OSError:
            return len(data)
