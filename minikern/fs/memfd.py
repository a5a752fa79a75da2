"""Files in memory without a name, and the seals on them.

Mirrors ``mm/memfd.c``. Left out: huge pages.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.dcache import Dentry
from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.inode import current_time
from minikern.fs.open_namei import vfs_open
from minikern.fs.path import Path
from minikern.fs.ramfs import RamFile, Seal
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import CStr, UInt, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import strncpy_from_user
from minikern.mm.vma import VM_MAYWRITE, VM_SHARED

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_PREFIX = b"memfd:"
_NAME_MAX = 255 - len(_PREFIX)
_ALL_SEALS = Seal.SEAL | Seal.SHRINK | Seal.GROW | Seal.WRITE | Seal.FUTURE_WRITE | Seal.EXEC


@fast_flags
class Mfd(IntFlag):
    """Flags of memfd_create (``MFD_*``)."""

    CLOEXEC = 0x01
    ALLOW_SEALING = 0x02
    NOEXEC_SEAL = 0x08
    EXEC = 0x10


@syscall("memfd_create", partial="MFD_HUGETLB")
def sys_memfd_create(task: Task, uname: CStr, flags: UInt) -> Result:
    """Source: ``mm/memfd.c:memfd_create``."""
    if flags & ~(Mfd.CLOEXEC | Mfd.ALLOW_SEALING | Mfd.NOEXEC_SEAL | Mfd.EXEC):
        raise KernelError(Errno.EINVAL)
    if flags & Mfd.EXEC and flags & Mfd.NOEXEC_SEAL:
        raise KernelError(Errno.EINVAL)
    name = strncpy_from_user(task, uname, _NAME_MAX + 1)
    if len(name) > _NAME_MAX:
        raise KernelError(Errno.EINVAL)

    mount = task.kernel.mounts.shm_mnt
    mode = 0o666 if flags & Mfd.NOEXEC_SEAL else 0o777
    inode = RamFile(mount.sb, mount.sb.next_ino(), stat.S_IFREG | mode, task.cred.fsuid, task.cred.fsgid)
    inode.nlink = 0
    inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = current_time(task.kernel)
    if flags & Mfd.NOEXEC_SEAL:
        inode.seals = Seal.EXEC
    elif flags & Mfd.ALLOW_SEALING:
        inode.seals = Seal(0)
    dentry = Dentry(mount.sb, mount.root, _PREFIX + name, inode)
    dentry.hashed = False
    file = vfs_open(task, Path(mount, dentry), OpenFlag.RDWR | OpenFlag.LARGEFILE)
    assert task.files is not None
    try:
        return task.files.alloc_fd(task, file, cloexec=bool(flags & Mfd.CLOEXEC))
    except KernelError:
        file.fput()
        raise


def memfd_fcntl(file: File, seals: int, *, add: bool) -> int:
    """F_ADD_SEALS and F_GET_SEALS. Source: ``mm/memfd.c:memfd_fcntl``."""
    inode = file.inode
    if not isinstance(inode, RamFile):
        raise KernelError(Errno.EINVAL)
    if not add:
        return inode.seals
    if not file.f_mode & FMode.WRITE:
        raise KernelError(Errno.EPERM)
    if seals & ~_ALL_SEALS:
        raise KernelError(Errno.EINVAL)
    if inode.seals & Seal.SEAL:
        raise KernelError(Errno.EPERM)
    if seals & Seal.WRITE and not inode.seals & Seal.WRITE:
        shared_writable = VM_SHARED | VM_MAYWRITE
        if any(vma.flags & shared_writable == shared_writable for vma in inode.mapping.i_mmap):
            raise KernelError(Errno.EBUSY)
    if seals & Seal.EXEC and inode.mode & 0o111:  # what can be executed cannot be written either
        seals |= Seal.SHRINK | Seal.GROW | Seal.WRITE | Seal.FUTURE_WRITE
    inode.seals |= Seal(seals)
    return 0
