"""Files without a name: the inodes behind pipes, sockets and everything that only a descriptor refers to.

Mirrors ``fs/anon_inodes.c`` and ``fs/libfs.c:alloc_anon_inode``. Pipes and sockets get an inode each; eventfd, epoll, timerfd
and their like share a single one. Left out: the mounts that these file systems have inside Linux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.inode import Inode, current_time
from minikern.fs.super import SuperBlock

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

PIPEFS_MAGIC = 0x50495045
SOCKFS_MAGIC = 0x534F434B
ANON_INODE_FS_MAGIC = 0x09041934


class PseudoFilesystems:
    """The file systems of one kernel that are never mounted."""

    def __init__(self, kernel: Kernel) -> None:
        self.pipefs = SuperBlock(kernel, "pipefs", PIPEFS_MAGIC)
        self.sockfs = SuperBlock(kernel, "sockfs", SOCKFS_MAGIC)
        self.hostfs = SuperBlock(kernel, "host", ANON_INODE_FS_MAGIC)  # descriptors of the host
        self.anon_inodefs = SuperBlock(kernel, "anon_inodefs", ANON_INODE_FS_MAGIC)
        self.anon_inode = Inode(
            self.anon_inodefs, self.anon_inodefs.next_ino(), 0o600
        )  # the shared one: it has no type


class PseudoFile(File):
    """An open file that never had a name; also the base of FIFOs, which have one."""

    __slots__ = ()

    def __init__(self, inode: Inode, path: Path | None, flags: int, mode: FMode) -> None:
        super().__init__(inode, path, flags, mode)

    def d_dname(self) -> bytes:
        """What /proc/PID/fd shows: ``pipe:[7]``. Source: ``fs/pipe.c:pipefs_dname``."""
        return b"%s:[%d]" % (self.inode.sb.fstype.removesuffix("fs").encode(), self.inode.ino)


class AnonFile(PseudoFile):
    """A file on the shared inode; subclasses say what it does and what it is called."""

    __slots__ = ()
    name = "[unknown]"  # after ``anon_inode:``

    def __init__(self, task: Task, flags: int = OpenFlag.RDWR) -> None:
        super().__init__(task.kernel.pseudo.anon_inode, None, flags, FMode.READ | FMode.WRITE)

    def d_dname(self) -> bytes:
        """Source: ``fs/anon_inodes.c:anon_inodefs_dname``."""
        return b"anon_inode:" + self.name.encode()


def new_pseudo_inode(task: Task, sb: SuperBlock, mode: int) -> Inode:
    """An inode of its own in a pseudo file system, owned by the caller. Source: ``fs/pipe.c:get_pipe_inode``."""
    inode = Inode(sb, sb.next_ino(), mode, task.cred.fsuid, task.cred.fsgid)
    inode.atime_ns = inode.mtime_ns = inode.ctime_ns = current_time(task.kernel)
    return inode


def anon_inode_getfd(task: Task, file: AnonFile, *, cloexec: bool) -> int:
    """Give a new file a descriptor. Source: ``fs/anon_inodes.c:anon_inode_getfd``."""
    assert task.files is not None
    try:
        return task.files.alloc_fd(task, file, cloexec=cloexec)
    except Exception:
        file.fput()
        raise
