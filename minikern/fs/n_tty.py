"""The line discipline of terminals: line editing, echo, signals from the keyboard, output processing.

Mirrors ``drivers/tty/n_tty.c``. Echo goes through
a queue of its own, because output may be held back while input is edited. Left out: EXTPROC, parity, auditing.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from minikern.fs.file import Poll
from minikern.fs.termbits import CC, DISABLED, IFlag, LFlag, OFlag, Termios
from minikern.fs.tty_jobctrl import tty_signal_pgrp
from minikern.kernel.siginfo import Signal

if TYPE_CHECKING:
    from minikern.fs.tty import Tty

N_TTY_BUF_SIZE = 4096
_TAB = 8  # columns
_ESCAPED = re.compile(rb"[\x00-\x1f\x7f]")  # what output processing has to look at
_PARMRK_DOUBLED = 0xFF
_INPUT_WORK = IFlag.ISTRIP | IFlag.INLCR | IFlag.IGNCR | IFlag.ICRNL | IFlag.IUCLC | IFlag.IXON | IFlag.PARMRK
_LOCAL_WORK = LFlag.ISIG | LFlag.ICANON | LFlag.ECHO
_SIGNAL_CHARS = ((CC.VINTR, Signal.SIGINT), (CC.VQUIT, Signal.SIGQUIT), (CC.VSUSP, Signal.SIGTSTP))

# What a master in packet mode reads before data. Source: ``include/uapi/asm-generic/ioctls.h``.
TIOCPKT_DATA = 0
TIOCPKT_FLUSHREAD = 1
TIOCPKT_FLUSHWRITE = 2
TIOCPKT_STOP = 4
TIOCPKT_START = 8
TIOCPKT_NOSTOP = 16
TIOCPKT_DOSTOP = 32


class Echo(Enum):
    """Kinds of entries in the echo queue (``ECHO_OP_*``)."""

    RAW = auto()  # the character goes through output processing
    CARET = auto()  # shown as ``^X``
    MOVE_BACK_COL = auto()  # it took no column
    SET_CANON_COL = auto()  # a line of input begins at this column
    ERASE_TAB = auto()  # go back over a tab; the columns since the line's start, or since the tab before
    ERASE_TAB_AFTER_TAB = auto()


class Erase(Enum):
    """How much an editing character erases."""

    CHARACTER = auto()
    WORD = auto()
    LINE = auto()


class NTty:
    """State of the discipline on one terminal (``struct n_tty_data``). Positions count bytes since it was flushed."""

    __slots__ = (
        "buf",
        "canon_column",
        "canon_head",
        "column",
        "echoes",
        "erasing",
        "lnext",
        "raw",
        "read_flags",
        "tail",
        "tty",
    )

    def __init__(self, tty: Tty) -> None:
        self.tty = tty
        self.buf = bytearray()  # input that was not read
        self.tail = 0  # position of its first byte
        self.canon_head = 0  # position up to which lines are complete
        self.read_flags: set[int] = set()  # positions of the last bytes of complete lines
        self.lnext = False  # ^V: the next character is taken as it is
        self.erasing = False  # ECHOPRT: between \ and /
        self.column = 0  # where the cursor is
        self.canon_column = 0  # where the line being typed began
        self.echoes: deque[tuple[Echo, int]] = deque()  # not yet shown
        self.raw = False  # no character of the input means anything
        self.set_termios(None)

    # settings

    @property
    def icanon(self) -> bool:
        """Whether input comes in lines."""
        return bool(self.tty.termios.lflag & LFlag.ICANON)

    def set_termios(self, old: Termios | None) -> None:
        """The terminal has new settings. Source: ``n_tty_set_termios``."""
        new = self.tty.termios
        if old is None or (old.lflag ^ new.lflag) & LFlag.ICANON:
            self.read_flags.clear()
            if self.icanon and self.buf:
                # What was typed before is a line, although nothing ends it.
                self.read_flags.add(self.head - 1)
                self.canon_head = self.head
            else:
                self.canon_head = self.tail
            self.lnext = self.erasing = False
        self.raw = not new.iflag & _INPUT_WORK and not new.lflag & _LOCAL_WORK
        if old is not None and old.iflag & IFlag.IXON and not new.iflag & IFlag.IXON:
            self.tty.start()
        self.tty.write_wait.wake_up_all()
        self.tty.read_wait.wake_up_all()

    # input

    @property
    def head(self) -> int:
        """Position behind the last byte."""
        return self.tail + len(self.buf)

    def input_available(self, minimum: int = 1) -> bool:
        """Whether there is a complete line, or ``minimum`` bytes outside canonical mode. Source: ``input_available_p``."""
        if self.icanon:
            return self.canon_head != self.tail
        return len(self.buf) >= minimum

    def inq(self) -> int:
        """How many bytes FIONREAD shows. Source: ``inq_canon``."""
        if not self.icanon:
            return len(self.buf)
        eofs = sum(self.buf[each - self.tail] == DISABLED for each in self.read_flags)
        return self.canon_head - self.tail - eofs

    def flush_buffer(self) -> None:
        """Forget all input. Source: ``n_tty_flush_buffer``."""
        self._reset_buffer_flags()
        self.tty.input_taken()
        self._packet_mode_flush()

    def _reset_buffer_flags(self) -> None:
        self.buf.clear()
        self.tail = self.canon_head = 0
        self.read_flags.clear()
        self.erasing = False

    def _packet_mode_flush(self) -> None:
        link = self.tty.link
        if link is not None and link.packet:
            self.tty.pktstatus |= TIOCPKT_FLUSHREAD
            link.read_wait.wake_up_all(Poll.IN | Poll.RDNORM | Poll.PRI)

    def receive_buf(self, data: bytes) -> int:
        """Take input from the driver; how many bytes there was room for. Source: ``n_tty_receive_buf_common``."""
        done = 0
        while done < len(data):
            room = N_TTY_BUF_SIZE - len(self.buf) - 1
            if room <= 0:
                if not self.icanon or self.canon_head != self.tail:
                    break  # readers will make room
                # A line too long to hold: what comes now replaces its end, so that the line can be ended at all.
                if room < 0:
                    self.buf.pop()
                room = 1
            piece = data[done : done + room]
            if self.raw:
                self.buf += piece
            else:
                for char in piece:
                    self._receive_char(char)
            done += len(piece)
        if self.buf and not self.icanon:
            self.tty.read_wait.wake_up(key=Poll.IN | Poll.RDNORM)
        return done

    def _receive_char(self, char: int) -> None:
        """Source: ``n_tty_receive_buf_standard``, ``n_tty_receive_char_special``."""
        tty = self.tty
        iflag, lflag, cc = tty.termios.iflag, tty.termios.lflag, tty.termios.cc
        if iflag & IFlag.ISTRIP:
            char &= 0x7F
        if iflag & IFlag.IUCLC and lflag & LFlag.IEXTEN:
            char = bytes((char,)).lower()[0]
        if self.lnext:
            self.lnext = False
            self._put_echoed(char)
            return
        if char == DISABLED:
            self._restart_any(iflag)
            self._put_echoed(char)
            return

        if iflag & IFlag.IXON and char in (cc[CC.VSTART], cc[CC.VSTOP]):
            if char == cc[CC.VSTART]:
                tty.start()
            else:
                tty.stop()
            return
        if lflag & LFlag.ISIG:
            for index, sig in _SIGNAL_CHARS:
                if char == cc[index]:
                    self._receive_signal_char(sig, char)
                    return
        self._restart_any(iflag)
        if char == ord("\r"):
            if iflag & IFlag.IGNCR:
                return
            if iflag & IFlag.ICRNL:
                char = ord("\n")
        elif char == ord("\n") and iflag & IFlag.INLCR:
            char = ord("\r")
        if lflag & LFlag.ICANON and self._receive_char_canon(char):
            return
        self._put_echoed(char)

    def _restart_any(self, iflag: int) -> None:
        if iflag & IFlag.IXON and iflag & IFlag.IXANY:
            self.tty.start()

    def _put_echoed(self, char: int) -> None:
        """An ordinary character. Source: ``n_tty_receive_char``."""
        if self.tty.termios.lflag & LFlag.ECHO:
            self._finish_erasing()
            if char == ord("\n"):
                self._echo_raw(char)
            else:
                if self.canon_head == self.head:
                    self.echoes.append((Echo.SET_CANON_COL, 0))
                self._echo_char(char)
            self.process_echoes()
        self._put(char)

    def _put(self, char: int) -> None:
        if char == _PARMRK_DOUBLED and self.tty.termios.iflag & IFlag.PARMRK:
            self.buf.append(char)
        self.buf.append(char)

    def _receive_signal_char(self, sig: Signal, char: int) -> None:
        """Source: ``n_tty_receive_signal_char``, ``isig``."""
        tty = self.tty
        tty_signal_pgrp(tty, sig)
        if not tty.termios.lflag & LFlag.NOFLSH:
            self.echoes.clear()
            tty.flush_buffer()
            self._reset_buffer_flags()
            self._packet_mode_flush()
        if tty.termios.iflag & IFlag.IXON:
            tty.start()
        if tty.termios.lflag & LFlag.ECHO:
            self._echo_char(char)
        self.process_echoes()

    def _receive_char_canon(self, char: int) -> bool:
        """Editing and line ends; False: an ordinary character. Source: ``n_tty_receive_char_canon``."""
        lflag, cc = self.tty.termios.lflag, self.tty.termios.cc
        extended = bool(lflag & LFlag.IEXTEN)
        echo = bool(lflag & LFlag.ECHO)
        if char == cc[CC.VERASE]:
            self._eraser(Erase.CHARACTER)
        elif char == cc[CC.VKILL]:
            self._eraser(Erase.LINE)
        elif char == cc[CC.VWERASE] and extended:
            self._eraser(Erase.WORD)
        elif char == cc[CC.VLNEXT] and extended:
            self.lnext = True
            if echo:
                self._finish_erasing()
                if lflag & LFlag.ECHOCTL:
                    self._echo_raw(*b"^\b")
        elif char == cc[CC.VREPRINT] and echo and extended:
            self._finish_erasing()
            self._echo_char(char)
            self._echo_raw(ord("\n"))
            for each in self.buf[self.canon_head - self.tail :]:
                self._echo_char(each)
        elif char == ord("\n"):
            if lflag & (LFlag.ECHO | LFlag.ECHONL):
                self._echo_raw(char)
                self.process_echoes()
            self._handle_newline(char)
        elif char == cc[CC.VEOF]:
            self._handle_newline(DISABLED)
        elif char == cc[CC.VEOL] or (char == cc[CC.VEOL2] and extended):
            if echo:
                if self.canon_head == self.head:
                    self.echoes.append((Echo.SET_CANON_COL, 0))
                self._echo_char(char)
                self.process_echoes()
            self._handle_newline(char)
        else:
            return False
        self.process_echoes()
        return True

    def _handle_newline(self, char: int) -> None:
        """A line is complete. Source: ``n_tty_receive_handle_newline``."""
        self._put(char)
        self.read_flags.add(self.head - 1)
        self.canon_head = self.head
        self.tty.read_wait.wake_up(key=Poll.IN | Poll.RDNORM)

    # erasing

    def _eraser(self, kind: Erase) -> None:
        """Source: ``eraser``."""
        lflag, cc = self.tty.termios.lflag, self.tty.termios.cc
        if self.head == self.canon_head:
            return
        echo = bool(lflag & LFlag.ECHO)
        line = self.canon_head - self.tail  # index at which the line begins
        if kind is Erase.LINE and not (echo and all(lflag & each for each in (LFlag.ECHOK, LFlag.ECHOKE, LFlag.ECHOE))):
            del self.buf[line:]
            if echo:
                self._finish_erasing()
                self._echo_char(cc[CC.VKILL])
                if lflag & LFlag.ECHOK:
                    self._echo_raw(ord("\n"))
            return

        seen_word = False
        while len(self.buf) > line:
            start = len(self.buf) - 1
            while start > line and self._is_continuation(self.buf[start]):
                start -= 1
            char = self.buf[start]
            if self._is_continuation(char):
                break
            if kind is Erase.WORD:
                if bytes((char,)).isalnum() or char == ord("_"):
                    seen_word = True
                elif seen_word:
                    break
            erased = bytes(self.buf[start:])
            del self.buf[start:]
            if echo:
                self._echo_erased(kind, erased, line)
            if kind is Erase.CHARACTER:
                break
        if len(self.buf) == line and echo:
            self._finish_erasing()

    def _echo_erased(self, kind: Erase, erased: bytes, line: int) -> None:
        """Take one character, of several bytes perhaps, off the screen."""
        lflag = self.tty.termios.lflag
        char = erased[0]
        if lflag & LFlag.ECHOPRT:
            if not self.erasing:
                self._echo_raw(ord("\\"))
                self.erasing = True
            self._echo_char(char)
            for each in erased[1:]:
                self._echo_raw(each)
                self.echoes.append((Echo.MOVE_BACK_COL, 0))
        elif kind is Erase.CHARACTER and not lflag & LFlag.ECHOE:
            self._echo_char(self.tty.termios.cc[CC.VERASE])
        elif char == ord("\t"):
            _, tab, after = bytes(self.buf[line:]).rpartition(b"\t")
            columns = sum(self._columns(each) for each in after)
            self.echoes.append((Echo.ERASE_TAB_AFTER_TAB if tab else Echo.ERASE_TAB, columns % _TAB))
        else:
            for _ in range(2 if _iscntrl(char) and lflag & LFlag.ECHOCTL else not _iscntrl(char)):
                self._echo_raw(*b"\b \b")

    def _columns(self, char: int) -> int:
        """How much room a character took when it was echoed."""
        if _iscntrl(char):
            return 2 if self.tty.termios.lflag & LFlag.ECHOCTL else 0
        return not self._is_continuation(char)

    def _is_continuation(self, char: int) -> bool:
        return char & 0xC0 == 0x80 and bool(self.tty.termios.iflag & IFlag.IUTF8)

    # echo

    def _echo_raw(self, *chars: int) -> None:
        self.echoes.extend((Echo.RAW, char) for char in chars)

    def _echo_char(self, char: int) -> None:
        caret = self.tty.termios.lflag & LFlag.ECHOCTL and _iscntrl(char) and char != ord("\t")
        self.echoes.append((Echo.CARET if caret else Echo.RAW, char))

    def _finish_erasing(self) -> None:
        if self.erasing:
            self._echo_raw(ord("/"))
            self.erasing = False

    def process_echoes(self) -> None:
        """Show what has been typed, as far as there is room. Source: ``__process_echoes``."""
        if not self.echoes:
            return
        room = self.tty.write_room()
        out = bytearray()
        while self.echoes and room - len(out) >= _TAB:
            kind, value = self.echoes.popleft()
            match kind:
                case Echo.RAW:
                    out += self._output_char(value) if self.tty.termios.oflag & OFlag.OPOST else bytes((value,))
                case Echo.CARET:
                    out += b"^%c" % (value ^ 0o100)
                    self.column += 2
                case Echo.MOVE_BACK_COL:
                    self.column = max(0, self.column - 1)
                case Echo.SET_CANON_COL:
                    self.canon_column = self.column
                case Echo.ERASE_TAB | Echo.ERASE_TAB_AFTER_TAB:
                    columns = value + (self.canon_column if kind is Echo.ERASE_TAB else 0)
                    back = _TAB - columns % _TAB
                    out += b"\b" * back
                    self.column = max(0, self.column - back)
        if out:
            self.tty.write(bytes(out))

    # output

    def process_output(self, data: bytes, room: int) -> tuple[bytes, int]:
        """What to send for ``data``, at most ``room`` bytes, and how many bytes of it are dealt with.

        Source: ``process_output_block``, ``process_output``.
        """
        oflag = self.tty.termios.oflag
        out = bytearray()
        done = 0
        while done < len(data) and len(out) < room:
            escaped = _ESCAPED.search(data, done)
            end = min(escaped.start() if escaped else len(data), done + room - len(out))
            if end > done:
                plain = data[done:end]
                if oflag & OFlag.OLCUC:
                    plain = plain.upper()
                out += plain
                self.column += len(plain)
                if self.tty.termios.iflag & IFlag.IUTF8:
                    self.column -= sum(each & 0xC0 == 0x80 for each in plain)
                done = end
                continue
            if len(out) + self._output_room(data[done]) > room:
                break
            out += self._output_char(data[done])
            done += 1
        return bytes(out), done

    def _output_room(self, char: int) -> int:
        oflag = self.tty.termios.oflag
        if char == ord("\n") and oflag & OFlag.ONLCR:
            return 2
        if char == ord("\t") and oflag & OFlag.XTABS == OFlag.XTABS:
            return _TAB - self.column % _TAB
        return 1

    def _output_char(self, char: int) -> bytes:
        """What to send for one character; keeps track of the column. Source: ``do_output_char``."""
        oflag = self.tty.termios.oflag
        if char == ord("\n"):
            if oflag & (OFlag.ONLRET | OFlag.ONLCR):
                self.column = 0
            self.canon_column = self.column
            return b"\r\n" if oflag & OFlag.ONLCR else b"\n"
        if char == ord("\r"):
            if oflag & OFlag.ONOCR and self.column == 0:
                return b""
            if not oflag & OFlag.OCRNL or oflag & OFlag.ONLRET:
                self.canon_column = self.column = 0
            return b"\n" if oflag & OFlag.OCRNL else b"\r"
        if char == ord("\t"):
            spaces = _TAB - self.column % _TAB
            self.column += spaces
            return b" " * spaces if oflag & OFlag.XTABS == OFlag.XTABS else b"\t"
        if char == ord("\b"):
            self.column = max(0, self.column - 1)
        elif not _iscntrl(char):
            if oflag & OFlag.OLCUC:
                char = bytes((char,)).upper()[0]
            self.column += not self._is_continuation(char)
        return bytes((char,))

    # reading

    def take(self, count: int) -> bytes:
        """Take up to ``count`` bytes, of one line in canonical mode. Source: ``canon_copy_from_read_buf``."""
        if not self.icanon:
            data = bytes(self.buf[:count])
            self._consume(len(data))
            return data
        available = min(count, self.canon_head - self.tail)
        eol = min((each for each in self.read_flags if each < self.tail + available), default=None)
        size = available if eol is None else eol - self.tail
        data = bytes(self.buf[:size])
        if eol is not None:
            last = self.buf[size]
            self.read_flags.discard(eol)
            self._consume(size + 1)
            return data if last == DISABLED else data + bytes((last,))
        self._consume(size)
        if self.tail in self.read_flags and self.buf[0] == DISABLED:
            # The line was read completely: its EOF must not be taken for an end of file. Source: ``canon_skip_eof``.
            self.read_flags.discard(self.tail)
            self._consume(1)
        return data

    def _consume(self, count: int) -> None:
        del self.buf[:count]
        self.tail += count
        self.canon_head = max(self.canon_head, self.tail)


def _iscntrl(char: int) -> bool:
    return char < 0x20 or char == 0x7F
