"""Settings of a terminal: ``struct termios`` in the layout of every architecture that uses the generic one.

Mirrors ``include/uapi/asm-generic/termbits.h`` and ``termios.h``. Speeds are kept but mean nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from minikern.kernel.flags import fast_flags


class CC(IntEnum):
    """Index of a special character in ``c_cc``."""

    VINTR = 0
    VQUIT = 1
    VERASE = 2
    VKILL = 3
    VEOF = 4
    VTIME = 5
    VMIN = 6
    VSWTC = 7
    VSTART = 8
    VSTOP = 9
    VSUSP = 10
    VEOL = 11
    VREPRINT = 12
    VDISCARD = 13
    VWERASE = 14
    VLNEXT = 15
    VEOL2 = 16


@fast_flags
class IFlag(IntFlag):
    """Input modes."""

    IGNBRK = 0x1
    BRKINT = 0x2
    IGNPAR = 0x4
    PARMRK = 0x8
    INPCK = 0x10
    ISTRIP = 0x20
    INLCR = 0x40
    IGNCR = 0x80
    ICRNL = 0x100
    IUCLC = 0x200
    IXON = 0x400
    IXANY = 0x800
    IXOFF = 0x1000
    IMAXBEL = 0x2000
    IUTF8 = 0x4000


@fast_flags
class OFlag(IntFlag):
    """Output modes."""

    OPOST = 0x1
    OLCUC = 0x2
    ONLCR = 0x4
    OCRNL = 0x8
    ONOCR = 0x10
    ONLRET = 0x20
    OFILL = 0x40
    OFDEL = 0x80
    XTABS = 0x1800  # expand tabs to spaces (TAB3)


@fast_flags
class CFlag(IntFlag):
    """Control modes."""

    B38400 = 0xF
    CSIZE = 0x30
    CS8 = 0x30
    CSTOPB = 0x40
    CREAD = 0x80
    PARENB = 0x100
    PARODD = 0x200
    HUPCL = 0x400
    CLOCAL = 0x800


@fast_flags
class LFlag(IntFlag):
    """Local modes."""

    ISIG = 0x1
    ICANON = 0x2
    XCASE = 0x4
    ECHO = 0x8
    ECHOE = 0x10
    ECHOK = 0x20
    ECHONL = 0x40
    NOFLSH = 0x80
    TOSTOP = 0x100
    ECHOCTL = 0x200
    ECHOPRT = 0x400
    ECHOKE = 0x800
    FLUSHO = 0x1000
    PENDIN = 0x4000
    IEXTEN = 0x8000
    EXTPROC = 0x10000


NCCS = 19
NCC = 8
_TERMIOS = struct.Struct(f"<IIIIB{NCCS}s")  # struct termios
_TERMIOS2 = struct.Struct(f"<IIIIB{NCCS}sII")  # struct termios2
_TERMIO = struct.Struct(f"<HHHHB{NCC}sx")  # struct termio, of System V
assert (_TERMIOS.size, _TERMIOS2.size, _TERMIO.size) == (36, 44, 18)

TERMIOS_SIZE = _TERMIOS.size
TERMIOS2_SIZE = _TERMIOS2.size
TERMIO_SIZE = _TERMIO.size
DEFAULT_SPEED = 38400

INIT_C_CC = bytes.fromhex("03 1c 7f 15 04 00 01 00 11 13 1a 00 12 0f 17 16 00 00 00")
DISABLED = 0  # a special character that is switched off (``__DISABLED_CHAR``)


@dataclass(slots=True, eq=False, repr=False)
class Termios:
    """The settings (``struct ktermios``); the defaults are those of a new terminal (``tty_std_termios``)."""

    iflag: int = IFlag.ICRNL | IFlag.IXON
    oflag: int = OFlag.OPOST | OFlag.ONLCR
    cflag: int = CFlag.B38400 | CFlag.CS8 | CFlag.CREAD | CFlag.HUPCL
    lflag: int = (
        LFlag.ISIG | LFlag.ICANON | LFlag.ECHO | LFlag.ECHOE | LFlag.ECHOK | LFlag.ECHOCTL | LFlag.ECHOKE | LFlag.IEXTEN
    )
    line: int = 0  # line discipline
    cc: bytearray = field(default_factory=lambda: bytearray(INIT_C_CC))  # by `CC`
    ispeed: int = DEFAULT_SPEED
    ospeed: int = DEFAULT_SPEED

    def pack(self) -> bytes:
        """``struct termios``, for TCGETS."""
        return _TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, bytes(self.cc))

    def pack2(self) -> bytes:
        """``struct termios2``, for TCGETS2."""
        flags = self.iflag, self.oflag, self.cflag, self.lflag
        return _TERMIOS2.pack(*flags, self.line, bytes(self.cc), self.ispeed, self.ospeed)

    def pack_termio(self) -> bytes:
        """``struct termio``, for TCGETA."""
        flags = (flag & 0xFFFF for flag in (self.iflag, self.oflag, self.cflag, self.lflag))
        return _TERMIO.pack(*flags, self.line, bytes(self.cc[:NCC]))

    @classmethod
    def unpack(cls, data: bytes) -> Termios:
        """From ``struct termios``."""
        iflag, oflag, cflag, lflag, line, cc = _TERMIOS.unpack(data)
        return cls(iflag, oflag, cflag, lflag, line, bytearray(cc))

    @classmethod
    def unpack2(cls, data: bytes) -> Termios:
        """From ``struct termios2``."""
        iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed = _TERMIOS2.unpack(data)
        return cls(iflag, oflag, cflag, lflag, line, bytearray(cc), ispeed, ospeed)

    def with_termio(self, data: bytes) -> Termios:
        """These settings with what a ``struct termio`` says: the low halves of the flags and eight characters."""
        *flags, line, cc = _TERMIO.unpack(data)
        old = (self.iflag, self.oflag, self.cflag, self.lflag)
        iflag, oflag, cflag, lflag = (before & ~0xFFFF | low for before, low in zip(old, flags, strict=True))
        return Termios(iflag, oflag, cflag, lflag, line, bytearray(cc) + self.cc[NCC:], self.ispeed, self.ospeed)

    def copy(self) -> Termios:
        """The same settings, to change."""
        flags = self.iflag, self.oflag, self.cflag, self.lflag
        return Termios(*flags, self.line, bytearray(self.cc), self.ispeed, self.ospeed)
