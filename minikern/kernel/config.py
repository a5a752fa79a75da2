"""What is decided about a machine before it boots; the nearest thing in Linux is the kernel command line.

Plain data without any host handle. Nothing changes it after boot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bind:
    """A host directory or file that appears somewhere in the guest's tree (``mount --bind``)."""

    src: str  # absolute path on the host
    dst: str  # absolute path in the guest; what was there is hidden
    rw: bool = False  # whether the guest's writes reach the host

    @staticmethod
    def parse(text: str) -> Bind:
        """Read ``SRC:DST[:ro|:rw]``; ValueError says what is wrong with it."""
        src, colon, rest = text.partition(":")
        dst, _, mode = rest.partition(":")
        if not colon or not src or mode not in ("", "ro", "rw"):
            raise ValueError(f"{text!r} is not SRC:DST or SRC:DST:rw")
        if not dst.startswith("/"):
            raise ValueError(f"{dst!r} must be an absolute path in the guest")
        if not os.path.exists(src):
            raise ValueError(f"{src!r} does not exist")
        return Bind(os.path.abspath(src), os.path.normpath(dst), mode == "rw")


@dataclass(slots=True)
class Config:
    """The choices of whoever starts a machine; the defaults are those of ``minikern run``."""

    root: str = "/"  # host directory that is the guest's root; read-only, writes go to memory
    binds: list[Bind] = field(default_factory=list)  # mounted over the root, in this order
    memory_bytes: int = 1 << 30  # page frames of the machine; a multiple of the page size
    pid1: bool = False  # the program is process 1 itself, instead of a child of the built-in init
    hostname: str = "minikern"  # nodename of uname(2)
    aslr: bool = False  # randomize the layout of address spaces
    warn_unimplemented: bool = False  # say each missing system call once
    cpus: int = 1  # processors that the guest is told of
