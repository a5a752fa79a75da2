"""/proc/PID/fd and fdinfo: the descriptors of a process.

Mirrors ``fs/proc/fd.c``.
"""

from __future__ import annotations

import stat
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.dcache import Dentry
from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.inode import Inode
from minikern.fs.namespace import Mount
from minikern.fs.path import Path, d_path
from minikern.fs.procfs import ProcInode, SeqFile
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.ptrace_access import ptrace_may_access

if TYPE_CHECKING:
    from minikern.fs.proc_base import PidDir
    from minikern.kernel.task import Task


class FdDirBase(ProcInode):
    """A directory with one entry for each descriptor."""

    __slots__ = ("children", "directory")

    def __init__(self, directory: PidDir, mode: int) -> None:
        super().__init__(directory.sb, stat.S_IFDIR | mode)
        self.directory = directory
        self.nlink = 2
        self.uid, self.gid = directory.uid, directory.gid
        self.children: dict[int, tuple[File, Inode]] = {}  # what a descriptor was when it was looked at

    def make(self, fd: int, file: File) -> Inode:
        """The entry for a descriptor."""
        raise NotImplementedError

    def permission(self, task: Task, mask: int) -> None:
        """A process may always look at itself. Source: ``fs/proc/fd.c:proc_fd_permission``."""
        target = self.directory.task()
        if target is None or target.signal is not task.signal:
            super().permission(task, mask)

    def _file(self, task: Task, name: bytes) -> tuple[int, File] | None:
        from minikern.fs.proc_base import name_to_int

        target = self.directory.task()
        fd = name_to_int(name)
        if target is None or target.files is None or fd is None or not ptrace_may_access(task, target, fscreds=True):
            return None
        file = target.files.fds.get(fd)
        return (fd, file) if file is not None else None

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/proc/fd.c:proc_lookupfd_common``."""
        found = self._file(task, name)
        if found is None:
            return None
        fd, file = found
        known = self.children.get(fd)
        if known is not None and known[0] is file:
            return known[1]
        inode = self.make(fd, file)
        self.children[fd] = file, inode
        return inode

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Source: ``fs/proc/fd.c:proc_readfd_common``."""
        target = self.directory.get_task()
        if not ptrace_may_access(task, target, fscreds=True):
            raise KernelError(Errno.EACCES)
        fds = target.files.fds if target.files is not None else {}
        self.children = {fd: known for fd, known in self.children.items() if fds.get(fd) is known[0]}
        listed = []
        for fd in sorted(fds):
            inode = self.lookup(task, b"%d" % fd)
            if inode is not None:
                listed.append((inode.ino, stat.S_IFMT(inode.mode) >> 12, b"%d" % fd))
        return listed

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)


class FdDir(FdDirBase):
    """/proc/PID/fd: links to what is open."""

    __slots__ = ()

    def __init__(self, directory: PidDir) -> None:
        super().__init__(directory, 0o500)

    def make(self, fd: int, file: File) -> Inode:
        """A magic link whose permissions say how the file is open."""
        return FdLink(self, file)


class FdLink(ProcInode):
    """The file behind a descriptor."""

    __slots__ = ("file",)

    def __init__(self, directory: FdDir, file: File) -> None:
        mode = stat.S_IFLNK
        if file.f_mode & FMode.READ:
            mode |= 0o500
        if file.f_mode & FMode.WRITE:
            mode |= 0o300
        super().__init__(directory.sb, mode)
        self.uid, self.gid = directory.uid, directory.gid
        self.size = 64
        self.file = file

    def get_link(self, task: Task) -> Path:
        """Source: ``fs/proc/fd.c:proc_fd_link``."""
        return file_path(self.file)

    def readlink(self, task: Task) -> bytes:
        """Source: ``fs/proc/base.c:do_proc_readlink``."""
        assert task.fs is not None
        path = self.file.f_path
        return d_path(path, task.fs.root) if path is not None else self.file.d_dname()


def file_path(file: File) -> Path:
    """The place of an open file; one without a name gets a place of its own outside of every mount."""
    if file.f_path is not None:
        return file.f_path
    inode = file.inode
    dentry = Dentry(inode.sb, None, file.d_dname(), inode)
    return Path(Mount(0, inode.sb, dentry, inode.sb.fstype), dentry)


class FdInfoDir(FdDirBase):
    """/proc/PID/fdinfo: what there is to know of each descriptor."""

    __slots__ = ()

    def __init__(self, directory: PidDir) -> None:
        super().__init__(directory, 0o555)

    def make(self, fd: int, file: File) -> Inode:
        """A file."""
        return FdInfo(self, fd, file)


class FdInfo(ProcInode):
    """What there is to know of one descriptor."""

    __slots__ = ("directory", "fd", "file")

    def __init__(self, directory: FdInfoDir, fd: int, file: File) -> None:
        super().__init__(directory.sb, stat.S_IFREG | 0o444)
        self.uid, self.gid = directory.uid, directory.gid
        self.directory = directory
        self.fd = fd
        self.file = file

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/proc/fd.c:seq_fdinfo_open``."""
        return SeqFile(self, path, flags, partial(_show_fdinfo, self.directory.directory, self.fd, self.file))


def _show_fdinfo(directory: PidDir, fd: int, file: File, reader: Task) -> str:
    """Source: ``fs/proc/fd.c:seq_show``."""
    target = directory.get_task()
    if target.files is None or target.files.fds.get(fd) is not file:
        raise KernelError(Errno.ENOENT)
    flags = target.arch.guest_open_flags(file.f_flags)
    if fd in target.files.close_on_exec:
        flags |= target.arch.guest_open_flags(OpenFlag.CLOEXEC)
    mnt_id = file.f_path.mount.id if file.f_path is not None else 0
    text = f"pos:\t{file.f_pos}\nflags:\t0{flags:o}\nmnt_id:\t{mnt_id}\nino:\t{file.inode.ino}\n"
    ctx = file.inode.flock_ctx
    if ctx is not None:
        text += "".join(f"lock:\t{line}\n" for line in ctx.show_locks(file, target.files))
    return text + file.show_fdinfo()
