"""ioctl(2): what every file can do, before its driver is asked.

Mirrors ``fs/ioctl.c``. Left out: mapping of blocks, freezing, cloning of extents.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from minikern.fs.file import File, OpenFlag
from minikern.fs.ioctls import FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE
from minikern.kernel.errno import ENOIOCTLCMD, Errno, KernelError
from minikern.kernel.syscalls import Fd, UInt, ULong, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

FIGETBSZ = 2


@syscall("ioctl")
def sys_ioctl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> Result:
    """Source: ``fs/ioctl.c:do_vfs_ioctl``."""
    assert task.files is not None
    file = task.files.fget(fd)
    match cmd:
        case _ if cmd == FIOCLEX:
            task.files.close_on_exec.add(fd)
            return 0
        case _ if cmd == FIONCLEX:
            task.files.close_on_exec.discard(fd)
            return 0
        case _ if cmd == FIONBIO:
            return _set_flag(file, OpenFlag.NONBLOCK, get_user(task, arg, 4) != 0)
        case _ if cmd == FIOASYNC:
            return _set_flag(file, OpenFlag.ASYNC, get_user(task, arg, 4) != 0)
        case _ if cmd == FIOQSIZE:
            if stat.S_IFMT(file.inode.mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise KernelError(Errno.ENOTTY)
            put_user(task, arg, file.inode.size, 8)
            return 0
        case _ if cmd == FIGETBSZ and not stat.S_ISSOCK(file.inode.mode):
            put_user(task, arg, file.inode.blksize, 4)
            return 0
        case _ if cmd == FIONREAD and stat.S_ISREG(file.inode.mode):
            put_user(task, arg, file.inode.size - file.f_pos, 4)
            return 0
    try:
        return file.ioctl(task, cmd, arg)
    except KernelError as error:
        if error.errno == ENOIOCTLCMD:
            raise KernelError(Errno.ENOTTY) from None
        raise


def _set_flag(file: File, flag: OpenFlag, on: bool) -> int:
    if on:
        file.f_flags |= flag
    else:
        file.f_flags &= ~flag
    return 0
