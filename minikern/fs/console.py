"""The console: the terminal whose user sits at the terminal of the host.

Nearest in Linux is ``drivers/tty/vt/vt.c``: a driver that moves bytes between the line discipline and a real keyboard and
screen. The host's terminal is in raw mode while the machine runs (`minikern.host.terminal`), so editing, echo and the
signals of ^C and ^Z are the guest's own. Input is taken whether somebody reads or not: ^C must reach a busy program.
"""

from __future__ import annotations

import signal
import stat
from typing import TYPE_CHECKING

from minikern.fs.file import OpenFlag
from minikern.fs.inode import Inode
from minikern.fs.kdev_t import makedev
from minikern.fs.tty import TTY_BUFFER_LIMIT, TTYAUX_MAJOR, Tty, TtyFile
from minikern.host.poller import WakeFunction

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.host.terminal import Terminal
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

CONSOLE_MINOR = 1
_OUTPUT_BYTES = 4096  # what a terminal of the host that is ready takes at once


class Console(Tty):
    """The terminal."""

    def __init__(self, kernel: Kernel, terminal: Terminal) -> None:
        super().__init__(kernel, "console", makedev(TTYAUX_MAJOR, CONSOLE_MINOR))
        self.terminal = terminal
        self.winsize = terminal.size()
        poller = kernel.host.poller
        poller.wait_queue(terminal.fd, False).add_callback(WakeFunction(self.host_readable))
        poller.wait_queue(terminal.fd, True, arm=False).add_callback(WakeFunction(self.wakeup))
        poller.signals.handle(signal.SIGWINCH, self.host_resized)
        poller.signals.handle(signal.SIGCONT, terminal.enter_raw)

    def write(self, data: bytes) -> int:
        """Show it."""
        return self.terminal.write(data)

    def write_room(self) -> int:
        """A page if the host's terminal takes something now."""
        if self.stopped:
            return 0
        if self.terminal.writable():
            return _OUTPUT_BYTES
        self.kernel.host.poller.wait_queue(self.terminal.fd, True)
        return 0

    def host_readable(self) -> None:
        """Somebody has typed; end of file means that the terminal is gone."""
        room = TTY_BUFFER_LIMIT - len(self.port)
        if not room:
            return  # until somebody reads
        data = self.terminal.read(room)
        if not data:
            self.vhangup()
            return
        self.receive(data)
        self._listen()

    def input_taken(self) -> None:
        """There is room for more."""
        super().input_taken()
        self._listen()

    def _listen(self) -> None:
        self.kernel.host.poller.wait_queue(self.terminal.fd, False)

    def host_resized(self) -> None:
        """The window has another size."""
        self.resize(self.terminal.size())


def open_console(kernel: Kernel, terminal: Terminal, path: Path | None) -> TtyFile:
    """Make the host's terminal the console of the machine, and open it for the first program.

    ``path`` is that of /dev/console, if the machine has a /dev.
    """
    console = Console(kernel, terminal)
    kernel.chrdevs.console = console
    kernel.host.terminal = terminal
    inode = path.dentry.inode if path is not None else None
    if inode is None:
        sb = kernel.pseudo.anon_inodefs
        inode = Inode(sb, sb.next_ino(), stat.S_IFCHR | 0o600, rdev=console.dev)
    task: Task = kernel.init_task
    return TtyFile(task, inode, path, OpenFlag.RDWR, console)
