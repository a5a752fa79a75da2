"""Reading, writing and polling a terminal through its line discipline.

Mirrors the second half of ``drivers/tty/n_tty.c``; what the discipline does with input and output is in `minikern.fs.n_tty`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import OpenFlag, Poll
from minikern.fs.n_tty import TIOCPKT_DATA
from minikern.fs.termbits import CC, LFlag, OFlag
from minikern.fs.tty_jobctrl import tty_check_change
from minikern.kernel.errno import ERESTARTSYS, Errno, KernelError
from minikern.kernel.siginfo import Signal
from minikern.kernel.waitqueue import Result, Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.fs.tty import TtyFile
    from minikern.kernel.task import Task

WAKEUP_CHARS = 256  # a terminal with less than that on its way to the user is writable
_DECISECOND_NS = 10**8  # unit of VTIME


def n_tty_read(file: TtyFile, task: Task, count: int) -> bytes | Wait:
    """Source: ``drivers/tty/n_tty.c:n_tty_read``."""
    tty = file.tty
    ldisc = tty.ldisc
    tty_check_change(task, tty, Signal.SIGTTIN)
    if tty.packet and tty.link is not None and tty.link.pktstatus:
        status, tty.link.pktstatus = tty.link.pktstatus, 0
        return bytes((status,))
    if not count:
        return b""

    minimum = timeout_ns = 0
    if not ldisc.icanon:
        minimum = min(tty.termios.cc[CC.VMIN], count)
        timeout_ns = tty.termios.cc[CC.VTIME] * _DECISECOND_NS
    waived, file.minimum_waived = file.minimum_waived, False
    if ldisc.input_available(1 if waived else max(1, minimum)):
        data = ldisc.take(count - tty.packet)
        tty.input_taken()
        return bytes((TIOCPKT_DATA,)) + data if tty.packet else data

    if tty.other_closed:
        raise KernelError(Errno.EIO)
    if waived or not (ldisc.icanon or minimum or timeout_ns):
        return b""  # its time was up, or VMIN and VTIME are both 0
    if file.f_flags & OpenFlag.NONBLOCK:
        raise KernelError(Errno.EAGAIN)
    if not minimum and not timeout_ns:
        return Wait((tty.read_wait,), wchan="n_tty_read")
    return _wait_for_more(file, task, minimum, timeout_ns)


def _wait_for_more(file: TtyFile, task: Task, minimum: int, timeout_ns: int) -> Wait:
    """Outside canonical mode: sleep for VMIN bytes, for no longer than VTIME.

    The time limit begins with the call if VMIN is 0, else with the first byte, and again with every further one.
    """
    tty = file.tty
    there = len(tty.ldisc.buf)
    ending = partial(_read_what_is_there, file, task)
    wait = Wait((tty.read_wait,), timed_out=ending, wchan="n_tty_read")
    if minimum and there:
        wait.interrupted = ending
    if timeout_ns and (not minimum or there):
        wait.deadline_ns = task.kernel.sources.monotonic_ns() + timeout_ns
    wait.resume = partial(_more_has_come, file, task, wait, minimum, timeout_ns, there)
    return wait


def _more_has_come(file: TtyFile, task: Task, wait: Wait, minimum: int, timeout_ns: int, there: int) -> Result:
    tty = file.tty
    if file.hung_up or tty.other_closed or tty.ldisc.input_available(max(1, minimum)):
        return _rerun(task)
    return wait if len(tty.ldisc.buf) == there else _wait_for_more(file, task, minimum, timeout_ns)


def _read_what_is_there(file: TtyFile, task: Task) -> Result:
    """Run the call once more, and let it be content with what has come."""
    file.minimum_waived = True
    return _rerun(task)


def _rerun(task: Task) -> Result:
    from minikern.kernel.entry import invoke

    return invoke(task)


def n_tty_write(file: TtyFile, task: Task, data: bytes | memoryview) -> int | Wait:
    """Source: ``drivers/tty/n_tty.c:n_tty_write``."""
    if file.tty.termios.lflag & LFlag.TOSTOP:
        tty_check_change(task, file.tty)
    file.tty.ldisc.process_echoes()
    return _write_rest(file, bytes(data), 0)


def _write_rest(file: TtyFile, data: bytes, done: int) -> int | Wait:
    """Write ``data[done:]``, sleeping while the driver takes nothing."""
    tty = file.tty
    while done < len(data):
        if file.hung_up or tty.io_error:
            if not done:
                raise KernelError(Errno.EIO)
            return done
        room = tty.write_room()
        piece = data[done : done + room]
        if room and tty.termios.oflag & OFlag.OPOST:
            out, dealt = tty.ldisc.process_output(piece, room)
            if out:
                tty.write(out)
        else:
            dealt = tty.write(piece) if room else 0
        done += dealt
        if dealt:
            continue
        if file.f_flags & OpenFlag.NONBLOCK:
            if not done:
                raise KernelError(Errno.EAGAIN)
            return done
        return Wait(
            (tty.write_wait,),
            partial(_write_rest, file, data, done),
            interrupted=done or -ERESTARTSYS,
            wchan="n_tty_write",
        )
    return done


def n_tty_poll(file: TtyFile, queues: list[WaitQueue] | None) -> int:
    """Source: ``drivers/tty/n_tty.c:n_tty_poll``."""
    tty = file.tty
    if queues is not None:
        queues.append(tty.read_wait)
        queues.append(tty.write_wait)
    mask = 0
    cc = tty.termios.cc
    if tty.ldisc.input_available(max(1, cc[CC.VMIN]) if not cc[CC.VTIME] else 1):
        mask |= Poll.IN | Poll.RDNORM
    if tty.packet and tty.link is not None and tty.link.pktstatus:
        mask |= Poll.PRI | Poll.IN | Poll.RDNORM
    if tty.other_closed:
        mask |= Poll.HUP
    if tty.chars_in_buffer() < WAKEUP_CHARS and tty.write_room() > 0:
        mask |= Poll.OUT | Poll.WRNORM
    return mask
