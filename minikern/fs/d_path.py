"""getcwd(2) and umask(2): what a process can ask of its `FsStruct`. Mirrors ``fs/d_path.c`` and ``kernel/sys.c``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.path import prepend_path
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Buf, Int, ULong, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_PATH_MAX = 4096
_S_IRWXUGO = 0o777


@syscall("getcwd")
def sys_getcwd(task: Task, buf: Buf, size: ULong) -> Result:
    """Source: ``fs/d_path.c:getcwd``."""
    fs = task.fs
    assert fs is not None
    if not fs.pwd.dentry.hashed and not fs.pwd.dentry.is_root():
        raise KernelError(Errno.ENOENT)
    name, reachable = prepend_path(fs.pwd, fs.root)
    if not reachable:
        name = b"(unreachable)" + name
    data = name + b"\0"
    if len(data) > _PATH_MAX:
        raise KernelError(Errno.ENAMETOOLONG)
    if len(data) > size:
        raise KernelError(Errno.ERANGE)
    copy_to_user(task, buf, data)
    return len(data)


@syscall("umask")
def sys_umask(task: Task, mask: Int) -> Result:
    """Source: ``kernel/sys.c:umask``."""
    assert task.fs is not None
    old, task.fs.umask = task.fs.umask, mask & _S_IRWXUGO
    return old
