"""Process accounting: one record in a file for every process that ends.

Mirrors ``kernel/acct.c`` and ``include/uapi/linux/acct.h``, record version 3. Left out: the pause when the disk is
nearly full.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from minikern.fs.file import FMode, OpenFlag
from minikern.fs.kdev_t import major, minor
from minikern.fs.namei import At, getname
from minikern.fs.open_namei import do_filp_open
from minikern.kernel.cputime import NSEC_PER_SEC, nsec_to_clock_t, thread_group_usage
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Path, syscall
from minikern.kernel.task import PF

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_ACCT_V3 = struct.Struct("<BBHIIIIIIf8H16s")  # struct acct_v3
assert _ACCT_V3.size == 64
_VERSION = 3
_U32_MAX: Final = (1 << 32) - 1
_MANTISSA_BITS: Final = 13  # of a comp_t, whose exponent has base 8
_EXPONENT_BITS: Final = 3


@fast_flags
class AcctFlag(IntFlag):
    """What happened to a process (``ac_flag``)."""

    FORK = 0x01  # it never called exec
    SU = 0x02  # it used privileges
    CORE = 0x08  # it dumped core
    XSIG = 0x10  # a signal killed it


@dataclass(slots=True, eq=False, repr=False)
class Pacct:
    """What is noted while a process dies thread by thread (``struct pacct_struct``)."""

    flag: AcctFlag = AcctFlag(0)
    exitcode: int = 0  # status word of the leader
    mem_kib: int = 0  # mapped at the end


@syscall("acct")
def sys_acct(task: Task, name: Path) -> Result:
    """Write records into a file from now on, or with NULL no longer. Source: ``kernel/acct.c:acct``."""
    if not capable(task, Cap.SYS_PACCT):
        raise KernelError(Errno.EPERM)
    file = None
    if name:
        file = do_filp_open(task, At.FDCWD, getname(task, name), OpenFlag.WRONLY | OpenFlag.APPEND, 0)
        if not stat.S_ISREG(file.inode.mode):
            file.fput()
            raise KernelError(Errno.EACCES)
        if not file.f_mode & FMode.WRITE:
            file.fput()
            raise KernelError(Errno.EIO)
    kernel = task.kernel
    old, kernel.acct_file = kernel.acct_file, file
    if old is not None:
        old.fput()
    return 0


def acct_collect(task: Task, code: int, group_dead: bool) -> None:
    """A thread is dying and still has its memory. Source: ``kernel/acct.c:acct_collect``."""
    if task.kernel.acct_file is None:
        return
    signal = task.signal
    pacct = signal.pacct = signal.pacct or Pacct()
    if group_dead and task.mm is not None:
        pacct.mem_kib = sum(vma.end - vma.start for vma in task.mm.vmas) >> 10
    if task.is_leader():
        pacct.exitcode = code
        if task.flags & PF.FORKNOEXEC:
            pacct.flag |= AcctFlag.FORK
    if task.flags & PF.SUPERPRIV:
        pacct.flag |= AcctFlag.SU
    if task.flags & PF.DUMPCORE:
        pacct.flag |= AcctFlag.CORE
    if task.flags & PF.SIGNALED:
        pacct.flag |= AcctFlag.XSIG


def acct_process(task: Task) -> None:
    """The last thread of a process is dying: append its record. Source: ``kernel/acct.c:do_acct_process``."""
    file = task.kernel.acct_file
    if file is None:
        return
    try:
        file.write(task, _fill_ac(task), file.inode.size)
    except KernelError:
        pass  # nobody could be told


def _fill_ac(task: Task) -> bytes:
    """The record. Source: ``kernel/acct.c:fill_ac``."""
    sources = task.kernel.sources
    pacct, usage = task.signal.pacct or Pacct(), thread_group_usage(task)
    run_time_ns = sources.monotonic_ns() - task.group_leader.start_time_ns
    began_s = (sources.realtime_ns() - run_time_ns) // NSEC_PER_SEC
    tty = task.signal.tty
    parent = task.group_leader.real_parent
    io_chars = io_blocks = swaps = 0
    counts = (
        nsec_to_clock_t(usage.utime_ns),
        nsec_to_clock_t(usage.stime_ns),
        pacct.mem_kib,
        io_chars,
        io_blocks,
        usage.min_flt,
        usage.maj_flt,
        swaps,
    )
    return _ACCT_V3.pack(
        pacct.flag,
        _VERSION,
        (major(tty.dev) & 0xFF) << 8 | minor(tty.dev) & 0xFF if tty is not None else 0,
        pacct.exitcode,
        task.cred.uid,
        task.cred.gid,
        task.tgid,
        parent.tgid if parent is not None else 0,
        min(max(began_s, 0), _U32_MAX),
        float(nsec_to_clock_t(run_time_ns)),
        *map(encode_comp_t, counts),
        task.comm,
    )


def encode_comp_t(value: int) -> int:
    """A number as 13 bits of fraction and 3 bits of a base-8 exponent, rounded. Source: ``kernel/acct.c:encode_comp_t``."""
    max_fraction = (1 << _MANTISSA_BITS) - 1
    exponent = rounded = 0
    while value > max_fraction:
        rounded = value & 1 << (_EXPONENT_BITS - 1)
        value >>= _EXPONENT_BITS
        exponent += 1
    if rounded:
        value += 1
        if value > max_fraction:
            value >>= _EXPONENT_BITS
            exponent += 1
    if exponent >= 1 << _EXPONENT_BITS:
        return 0xFFFF
    return exponent << _MANTISSA_BITS | value
