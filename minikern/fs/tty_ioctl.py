"""ioctls of terminals.

Mirrors ``drivers/tty/tty_ioctl.c`` and the switch of ``drivers/tty/tty_io.c:tty_ioctl``. Faked input (TIOCSTI) is always
refused, as where ``dev.tty.legacy_tiocsti`` is off. Left out: locked settings, modem lines, serial drivers.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs import ioctls
from minikern.fs.termbits import CC, TERMIO_SIZE, TERMIOS2_SIZE, TERMIOS_SIZE, CFlag, Termios
from minikern.fs.tty_jobctrl import no_tty, tiocgpgrp, tiocgsid, tiocsctty, tiocspgrp, tty_check_change
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.waitqueue import Wait
from minikern.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user

if TYPE_CHECKING:
    from minikern.fs.tty import Tty, TtyFile
    from minikern.kernel.task import Task

_WINSIZE = struct.Struct("<4H")
N_TTY = 0  # the only line discipline
_TCIFLUSH, _TCOFLUSH, _TCIOFLUSH = range(3)
_TCOOFF, _TCOON, _TCIOFF, _TCION = range(4)

# What a TCSET* ioctl waits for, and whether it throws input away: (wait for output, flush input).
_NOW, _DRAIN, _FLUSH = (False, False), (True, False), (True, True)
_SETTERS = {
    ioctls.TCSETS: (TERMIOS_SIZE, _NOW),
    ioctls.TCSETSW: (TERMIOS_SIZE, _DRAIN),
    ioctls.TCSETSF: (TERMIOS_SIZE, _FLUSH),
    ioctls.TCSETS2: (TERMIOS2_SIZE, _NOW),
    ioctls.TCSETSW2: (TERMIOS2_SIZE, _DRAIN),
    ioctls.TCSETSF2: (TERMIOS2_SIZE, _FLUSH),
    ioctls.TCSETA: (TERMIO_SIZE, _NOW),
    ioctls.TCSETAW: (TERMIO_SIZE, _DRAIN),
    ioctls.TCSETAF: (TERMIO_SIZE, _FLUSH),
}


def tty_ioctl(file: TtyFile, task: Task, cmd: int, arg: int) -> int | Wait:
    """Source: ``drivers/tty/tty_io.c:tty_ioctl``."""
    tty = file.tty
    real_tty = tty.link if tty.is_master and tty.link is not None else tty
    if cmd in _SETTERS:
        return set_termios(task, real_tty, cmd, arg)
    match cmd:
        case ioctls.TIOCGPGRP:
            return tiocgpgrp(task, tty, real_tty, arg)
        case ioctls.TIOCSPGRP:
            return tiocspgrp(task, tty, real_tty, arg)
        case ioctls.TIOCGSID:
            return tiocgsid(task, tty, real_tty, arg)
        case ioctls.TIOCSCTTY:
            return tiocsctty(task, real_tty, file, arg)
        case ioctls.TIOCNOTTY:
            if task.signal.tty is not tty:
                raise KernelError(Errno.ENOTTY)
            no_tty(task)
        case ioctls.TCGETS:
            copy_to_user(task, arg, real_tty.termios.pack())
        case ioctls.TCGETS2:
            copy_to_user(task, arg, real_tty.termios.pack2())
        case ioctls.TCGETA:
            copy_to_user(task, arg, real_tty.termios.pack_termio())
        case ioctls.TIOCGWINSZ:
            copy_to_user(task, arg, _WINSIZE.pack(*real_tty.winsize))
        case ioctls.TIOCSWINSZ:
            rows, columns, width, height = _WINSIZE.unpack(copy_from_user(task, arg, _WINSIZE.size))
            real_tty.resize((rows, columns, width, height))
        case ioctls.TIOCEXCL | ioctls.TIOCNXCL:
            tty.exclusive = cmd == ioctls.TIOCEXCL
        case ioctls.TIOCGEXCL:
            put_user(task, arg, tty.exclusive, 4)
        case ioctls.TIOCGETD:
            put_user(task, arg, N_TTY, 4)
        case ioctls.TIOCSETD:
            tty_check_change(task, tty)
            if get_user(task, arg, 4) != N_TTY:
                raise KernelError(Errno.EINVAL)
        case ioctls.TIOCGDEV:
            put_user(task, arg, real_tty.dev, 4)
        case ioctls.TIOCSTI:
            raise KernelError(Errno.EIO)
        case ioctls.TIOCVHANGUP:
            if not capable(task, Cap.SYS_ADMIN):
                raise KernelError(Errno.EPERM)
            tty.vhangup()
        case ioctls.TCSBRK | ioctls.TCSBRKP:
            # Also tcdrain(3): wait until all output is out. A break means nothing here.
            return _drained(task, tty, partial(_nothing))
        case ioctls.TIOCSBRK | ioctls.TIOCCBRK:
            tty_check_change(task, tty)
        case _:
            return n_tty_ioctl(task, tty, real_tty, cmd, arg)
    return 0


def n_tty_ioctl(task: Task, tty: Tty, real_tty: Tty, cmd: int, arg: int) -> int:
    """What the line discipline and the driver know. Source: ``n_tty_ioctl``, ``n_tty_ioctl_helper``."""
    match cmd:
        case ioctls.TIOCOUTQ:
            put_user(task, arg, tty.chars_in_buffer(), 4)
        case ioctls.FIONREAD:
            put_user(task, arg, tty.ldisc.inq(), 4)
        case ioctls.TCFLSH:
            tty_check_change(task, tty)
            _perform_flush(tty, arg)
        case ioctls.TCXONC:
            tty_check_change(task, tty)
            _flow(tty, arg)
        case ioctls.TIOCGSOFTCAR:
            put_user(task, arg, bool(tty.termios.cflag & CFlag.CLOCAL), 4)
        case ioctls.TIOCSSOFTCAR:
            local = CFlag.CLOCAL if get_user(task, arg, 4) else 0
            tty.termios.cflag = tty.termios.cflag & ~CFlag.CLOCAL | local
        case _:
            result = tty.driver_ioctl(task, cmd, arg)
            if result is None:
                raise KernelError(Errno.ENOTTY)
            return result
    return 0


def _perform_flush(tty: Tty, which: int) -> None:
    """TCFLSH. Source: ``__tty_perform_flush``."""
    if which not in (_TCIFLUSH, _TCOFLUSH, _TCIOFLUSH):
        raise KernelError(Errno.EINVAL)
    if which != _TCOFLUSH:
        tty.port.clear()
        tty.ldisc.flush_buffer()
    if which != _TCIFLUSH:
        tty.flush_buffer()


def _flow(tty: Tty, action: int) -> None:
    """TCXONC. Source: ``n_tty_ioctl_helper``."""
    match action:
        case x if x == _TCOOFF:
            tty.tco_stopped = True
            tty.stop()
        case x if x == _TCOON:
            if tty.tco_stopped:
                tty.tco_stopped = False
                tty.start()
        case x if x in (_TCIOFF, _TCION):
            char = tty.termios.cc[CC.VSTOP if x == _TCIOFF else CC.VSTART]
            if char:
                tty.write(bytes((char,)))
        case _:
            raise KernelError(Errno.EINVAL)


def set_termios(task: Task, tty: Tty, cmd: int, arg: int) -> int | Wait:
    """TCSETS and its like. Source: ``drivers/tty/tty_ioctl.c:set_termios``."""
    size, (drain, flush) = _SETTERS[cmd]
    tty_check_change(task, tty)
    data = copy_from_user(task, arg, size)
    if size == TERMIOS_SIZE:
        new = Termios.unpack(data)
        new.ispeed, new.ospeed = tty.termios.ispeed, tty.termios.ospeed
    elif size == TERMIOS2_SIZE:
        new = Termios.unpack2(data)
    else:
        new = tty.termios.with_termio(data)
    if flush:
        tty.port.clear()
        tty.ldisc.flush_buffer()
    change = partial(tty_set_termios, tty, new)
    return _drained(task, tty, change) if drain else change()


def tty_set_termios(tty: Tty, new: Termios) -> int:
    """The terminal has these settings now. Source: ``tty_set_termios``."""
    old, tty.termios = tty.termios, new
    tty.set_termios(old)
    tty.ldisc.set_termios(old)
    return 0


def _drained(task: Task, tty: Tty, then: partial[int]) -> int | Wait:
    """Go on when all output has arrived. Source: ``tty_wait_until_sent``."""
    tty_check_change(task, tty)
    return _drain_step(tty, then)


def _drain_step(tty: Tty, then: partial[int]) -> int | Wait:
    if tty.chars_in_buffer():
        return Wait((tty.write_wait,), partial(_drain_step, tty, then), wchan="tty_wait_until_sent")
    return then()


def _nothing() -> int:
    return 0
