"""Death by a signal that asks for a core file.

Mirrors ``fs/coredump.c``. All other threads of the process go down first and wait in `exit.do_exit`; then the one that
crashed writes the file at one go, and all of them exit. The file itself is made by `minikern.fs.elf_core`. Left out:
core patterns that begin with ``|``, which want a program to be started: no file is written then.
"""

from __future__ import annotations

import stat
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.dirops import unlink_name
from minikern.fs.elf_core import elf_core_dump
from minikern.fs.file import FMode, OpenFlag, unshare_files
from minikern.fs.namei import At
from minikern.fs.open_namei import do_filp_open, do_truncate
from minikern.fs.path import d_path
from minikern.kernel.cred import ROOT_UID, SUID_DUMP_DISABLE, SUID_DUMP_USER
from minikern.kernel.errno import KernelError
from minikern.kernel.exit import do_group_exit
from minikern.kernel.resource import Rlimit
from minikern.kernel.siginfo import SigInfo, Signal
from minikern.kernel.signal import (
    fatal_signal_pending,
    sigmask,
    signal_wake_up,
    start_group_exit,
    task_clear_jobctl_pending,
)
from minikern.kernel.task import PF, CoreState, JobCtl, SignalFlags, Task
from minikern.kernel.waitqueue import Result, TaskState, Wait

if TYPE_CHECKING:
    from minikern.fs.file import File

CORE_DUMPED = 0x80  # bit of a status word
_MIN_COREDUMP = 4096  # a smaller limit means that no file is wanted
_CORE_MODE = 0o600
_OPEN_FLAGS = OpenFlag.CREAT | OpenFlag.WRONLY | OpenFlag.NOFOLLOW | OpenFlag.LARGEFILE | OpenFlag.EXCL
_NSEC_PER_SEC = 1_000_000_000


def do_coredump(task: Task, info: SigInfo) -> Result:
    """Write a core file if one is wanted, then end the process. Source: ``fs/coredump.c:do_coredump``."""
    if task.mm is None or task.dumpable == SUID_DUMP_DISABLE:
        return do_group_exit(task, int(info.signo))
    core_state = CoreState([task])
    if not _zap_threads(task, core_state, info.signo):
        return do_group_exit(task, int(info.signo))
    then = partial(_dump_and_exit, task, core_state, info)
    if core_state.nr_threads:
        return Wait((core_state.startup,), then, TaskState.UNINTERRUPTIBLE, wchan="coredump_wait")
    return then()


def _zap_threads(task: Task, core_state: CoreState, exit_code: int) -> bool:
    """Have all other threads die; False when the process is dying of something else already.

    Source: ``fs/coredump.c:zap_threads`` and ``zap_process``.
    """
    signal = task.signal
    if signal.flags & SignalFlags.GROUP_EXIT or signal.group_exec_task is not None:
        return False
    signal.core_state = core_state  # SIGKILL is let through from now on, to end the dump
    start_group_exit(task, exit_code)
    for thread in signal.threads:
        task_clear_jobctl_pending(thread, JobCtl.PENDING_MASK)
        if thread is not task and not thread.flags & PF.POSTCOREDUMP:
            if (hook := task.kernel.events.zap) is not None:
                hook(task, thread)
            thread.pending.signal |= sigmask(Signal.SIGKILL)
            signal_wake_up(thread, fatal=True)
            core_state.nr_threads += 1
    task.sigpending = False
    task.flags |= PF.DUMPCORE
    return True


def _dump_and_exit(task: Task, core_state: CoreState, info: SigInfo) -> Result:
    """The whole group is down. The rest of ``do_coredump``, then ``coredump_finish``."""
    signal = task.signal
    path = _write_core(task, core_state, info)
    if path is not None and not fatal_signal_pending(task):
        signal.group_exit_code |= CORE_DUMPED
    if (hook := task.kernel.events.core) is not None:
        hook(task, info.signo, path)
    signal.core_state = None
    core_state.finished.wake_up_all()
    return do_group_exit(task, int(info.signo))


def _write_core(task: Task, core_state: CoreState, info: SigInfo) -> bytes | None:
    """Name of the core file that was written, None: there is none."""
    limit = task.signal.rlim.cur(Rlimit.CORE)
    pattern = task.kernel.core_pattern
    if limit < _MIN_COREDUMP or pattern.startswith(b"|"):
        return None
    name = format_corename(task, pattern, info.signo)
    suid_safe = task.dumpable != SUID_DUMP_USER
    if suid_safe and not name.startswith(b"/"):
        return None
    cred = task.cred
    if suid_safe:  # nobody knows any more whose secrets it has
        task.cred = cred.copy()
        task.cred.fsuid = ROOT_UID
    try:
        file = _open_core(task, name, unlink=not suid_safe)
        if file is None:
            return None
        try:
            unshare_files(task)
            if fatal_signal_pending(task):
                return None
            elf_core_dump(task, core_state.threads, info, file, limit)
            assert file.f_path is not None and task.fs is not None
            return d_path(file.f_path, task.fs.root)
        finally:
            file.fput()
    except KernelError:
        return None
    finally:
        task.cred = cred


def _open_core(task: Task, name: bytes, *, unlink: bool) -> File | None:
    """A fresh file that nobody else has prepared; None: it is not what was asked for. The middle of ``do_coredump``."""
    assert task.fs is not None
    if unlink:
        try:
            unlink_name(task, At.FDCWD, name)
        except KernelError:
            pass  # it is not there, or opening will tell
    file = do_filp_open(task, At.FDCWD, name, _OPEN_FLAGS, _CORE_MODE)
    inode = file.inode
    usable = (
        inode.nlink == 1
        and stat.S_ISREG(inode.mode)
        and inode.uid == task.cred.fsuid
        and inode.mode & 0o677 == _CORE_MODE
        and file.f_mode & FMode.WRITE
    )
    if not usable:
        file.fput()
        return None
    do_truncate(task, inode, 0)
    return file


def format_corename(task: Task, pattern: bytes, sig: int) -> bytes:
    """Name of the core file. Source: ``fs/coredump.c:format_corename``."""
    kernel, cred = task.kernel, task.cred
    name = bytearray()
    pid_in_pattern = False
    characters = iter(pattern.decode("latin-1"))
    for character in characters:
        if character != "%":
            name += character.encode("latin-1")
            continue
        match next(characters, ""):
            case "%":
                name += b"%"
            case "p" | "P":
                pid_in_pattern = True
                name += b"%d" % task.tgid
            case "i" | "I":
                name += b"%d" % task.pid
            case "u":
                name += b"%d" % cred.uid
            case "g":
                name += b"%d" % cred.gid
            case "d":
                name += b"%d" % task.dumpable
            case "s":
                name += b"%d" % sig
            case "t":
                name += b"%d" % (kernel.sources.realtime_ns() // _NSEC_PER_SEC)
            case "h":
                name += _escaped(kernel.hostname)
            case "e":
                name += _escaped(task.comm)
            case "f":
                name += _escaped(_exe_name(task).rpartition(b"/")[2])
            case "E":
                name += _escaped(_exe_name(task))
            case "c":
                name += b"%d" % task.signal.rlim.cur(Rlimit.CORE)
            case "C":
                name += b"0"  # the only processor
    if kernel.core_uses_pid and not pid_in_pattern:
        name += b".%d" % task.tgid
    return bytes(name)


def _escaped(text: bytes) -> bytes:
    """A part of a file name that cannot lead elsewhere. Source: ``fs/coredump.c:cn_esc_printf``."""
    if text in (b".", b".."):
        text = b"!" + text[1:]
    return text.replace(b"/", b"!") or b"!"


def _exe_name(task: Task) -> bytes:
    exe = task.mm.exe_file if task.mm is not None else None
    if exe is None or exe.f_path is None or task.fs is None:
        return task.comm + b" (path unknown)"
    return d_path(exe.f_path, task.fs.root)
