"""System calls that change the machine itself, which no program may do here.

They check what Linux checks first, and then fail with EPERM, as for a user without the capability. Left out: all
they would do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Buf, CStr, Fd, Int, Path, Ptr, Size, UInt, ULong, syscall

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_LOG_BUF_LEN = 1 << 17  # bytes of the kernel's log, which is always empty
_REFUSED = "always EPERM"


def _refuse() -> NoReturn:
    raise KernelError(Errno.EPERM)


@syscall("reboot", partial=_REFUSED)
def sys_reboot(task: Task, magic1: Int, magic2: Int, cmd: UInt, arg: Ptr) -> Result:
    """Source: ``kernel/reboot.c:reboot``."""
    _refuse()


@syscall("kexec_load", partial=_REFUSED)
def sys_kexec_load(task: Task, entry: ULong, nr_segments: ULong, segments: Ptr, flags: ULong) -> Result:
    """Source: ``kernel/kexec.c:kexec_load``."""
    _refuse()


@syscall("kexec_file_load", partial=_REFUSED)
def sys_kexec_file_load(
    task: Task, kernel_fd: Fd, initrd_fd: Fd, cmdline_len: ULong, cmdline_ptr: CStr, flags: ULong
) -> Result:
    """Source: ``kernel/kexec_file.c:kexec_file_load``."""
    _refuse()


@syscall("init_module", partial=_REFUSED)
def sys_init_module(task: Task, umod: Buf, length: Size, uargs: CStr) -> Result:
    """Source: ``kernel/module/main.c:init_module``."""
    _refuse()


@syscall("finit_module", partial=_REFUSED)
def sys_finit_module(task: Task, fd: Fd, uargs: CStr, flags: Int) -> Result:
    """Source: ``kernel/module/main.c:finit_module``."""
    _refuse()


@syscall("delete_module", partial=_REFUSED)
def sys_delete_module(task: Task, name_user: CStr, flags: UInt) -> Result:
    """Source: ``kernel/module/main.c:delete_module``."""
    _refuse()


@syscall("swapon", partial=_REFUSED)
def sys_swapon(task: Task, specialfile: Path, swap_flags: Int) -> Result:
    """Source: ``mm/swapfile.c:swapon``."""
    _refuse()


@syscall("swapoff", partial=_REFUSED)
def sys_swapoff(task: Task, specialfile: Path) -> Result:
    """Source: ``mm/swapfile.c:swapoff``."""
    _refuse()


class SyslogAction(IntEnum):
    """Actions of syslog(2) (``SYSLOG_ACTION_*``)."""

    CLOSE = 0
    OPEN = 1
    READ = 2
    READ_ALL = 3
    READ_CLEAR = 4
    CLEAR = 5
    CONSOLE_OFF = 6
    CONSOLE_ON = 7
    CONSOLE_LEVEL = 8
    SIZE_UNREAD = 9
    SIZE_BUFFER = 10


_CONSOLE_LEVELS = range(1, 9)
_UNPRIVILEGED = (SyslogAction.READ_ALL, SyslogAction.SIZE_BUFFER)


@syscall("syslog", partial="the log is empty")
def sys_syslog(task: Task, action: Int, buf: Buf, length: Int) -> Result:
    """Source: ``kernel/printk/printk.c:do_syslog``."""
    if action not in _UNPRIVILEGED and not capable(task, Cap.SYSLOG):
        raise KernelError(Errno.EPERM)
    match action:
        case SyslogAction.READ | SyslogAction.READ_ALL | SyslogAction.READ_CLEAR if not buf or length < 0:
            raise KernelError(Errno.EINVAL)
        case SyslogAction.CONSOLE_LEVEL if length not in _CONSOLE_LEVELS:
            raise KernelError(Errno.EINVAL)
        case SyslogAction.SIZE_BUFFER:
            return _LOG_BUF_LEN
        case _ if action in tuple(SyslogAction):
            return 0
        case _:
            raise KernelError(Errno.EINVAL)
