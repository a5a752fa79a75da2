"""Open-file descriptions and descriptor tables.

Mirrors ``fs/file.c``, ``fs/file_table.c`` and ``include/linux/fs.h:struct file``. A *descriptor* is a number in a
`FilesStruct`; a *file* (open-file description) is what open made; the *inode* is what it is open on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelBug, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.resource import Rlimit
from minikern.kernel.waitqueue import Wait, WaitQueue

if TYPE_CHECKING:
    from minikern.fs.eventpoll import EpItem
    from minikern.fs.inode import Inode
    from minikern.fs.locks import FileLock
    from minikern.fs.path import Path
    from minikern.kernel.pid import Pid
    from minikern.kernel.task import Task
    from minikern.mm.filemap import AddressSpace
    from minikern.mm.vma import Vma


@fast_flags
class OpenFlag(IntFlag):
    """Open flags in the generic numbering; an architecture translates its own at the system call."""

    ACCMODE = 0o3
    RDONLY = 0o0
    WRONLY = 0o1
    RDWR = 0o2
    CREAT = 0o100
    EXCL = 0o200
    NOCTTY = 0o400
    TRUNC = 0o1000
    APPEND = 0o2000
    NONBLOCK = 0o4000
    DSYNC = 0o10000
    ASYNC = 0o20000
    DIRECT = 0o40000
    LARGEFILE = 0o100000
    DIRECTORY = 0o200000
    NOFOLLOW = 0o400000
    NOATIME = 0o1000000
    CLOEXEC = 0o2000000
    SYNC = 0o4010000
    PATH = 0o10000000
    TMPFILE = 0o20200000


@fast_flags
class FMode(IntFlag):
    """What a file can do (``FMODE_*``)."""

    READ = 0x1
    WRITE = 0x2
    LSEEK = 0x4
    PREAD = 0x8
    PWRITE = 0x10
    EXEC = 0x20
    PATH = 0x4000
    WRITER = 0x10000  # counts as a writer of its inode, which therefore cannot be executed


@fast_flags
class Poll(IntFlag):
    """Readiness (``EPOLL*``; the low ones equal ``POLL*``)."""

    IN = 0x1
    PRI = 0x2
    OUT = 0x4
    ERR = 0x8
    HUP = 0x10
    NVAL = 0x20
    RDNORM = 0x40
    RDBAND = 0x80
    WRNORM = 0x100
    WRBAND = 0x200
    MSG = 0x400
    RDHUP = 0x2000


class File:
    """An open-file description (``struct file``); subclasses implement ``struct file_operations``.

    ``read`` and ``write`` move bytes and know nothing of guest memory. A method that would sleep returns a `Wait`;
    with ``resume=None`` in it the system call runs again from its start after the wake-up.
    """

    __slots__ = (
        "count",
        "epitems",
        "f_flags",
        "f_mode",
        "f_path",
        "f_pos",
        "inode",
        "owner",
        "owner_sig",
        "owner_type",
    )

    def __init__(self, inode: Inode, path: Path | None, flags: int, mode: FMode) -> None:
        inode.i_count += 1
        self.inode = inode
        self.f_path = path  # None: never had a name (pipes, sockets …)
        self.f_flags = flags  # OpenFlag
        self.f_mode = mode
        self.f_pos = 0  # bytes
        self.count = 1  # references: descriptors, mappings, calls in flight
        self.owner: Pid | None = None  # F_SETOWN
        self.owner_type = 0
        self.owner_sig = 0
        self.epitems: list[EpItem] | None = None  # epoll instances that watch it

    # struct file_operations

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Up to ``count`` bytes from offset ``pos`` (ignored by streams); empty at the end of the file."""
        raise KernelError(Errno.EINVAL)

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int | Wait:
        """How many bytes of ``data`` were written at ``pos`` (ignored by streams)."""
        raise KernelError(Errno.EINVAL)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """The new position, which is stored as well."""
        raise KernelError(Errno.ESPIPE)

    def iterate(self, task: Task) -> list[tuple[int, int, int, bytes]]:
        """Directory entries from ``f_pos`` on: (ino, next position, DT_*, name)."""
        raise KernelError(Errno.ENOTDIR)

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """`Poll` bits that are true now; appends to ``queues`` where to wait for a change."""
        return Poll.IN | Poll.OUT | Poll.RDNORM | Poll.WRNORM

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Device control; ENOTTY when the command is not known."""
        raise KernelError(Errno.ENOTTY)

    def mmap(self, task: Task, vma: Vma) -> AddressSpace | None:
        """The pages behind a mapping of this file; None: zero pages (as a private /dev/zero). ENODEV: cannot be mapped."""
        raise KernelError(Errno.ENODEV)

    def flush(self, task: Task) -> None:
        """A descriptor of this file is being closed, by close, exec or death (``f_op->flush``)."""

    def release(self) -> None:
        """The last reference is gone (``f_op->release``)."""

    def open_wait(self, task: Task) -> Wait | None:
        """What open(2) still has to wait for, asked again after every wake-up; None: the open is complete (FIFOs)."""
        return None

    def d_dname(self) -> bytes:
        """What /proc/PID/fd shows for a file that never had a name (``d_op->d_dname``)."""
        return b""

    def show_fdinfo(self) -> str:
        """Extra lines for /proc/PID/fdinfo/N."""
        return ""

    # references

    def get(self) -> File:
        """One more reference (``get_file``)."""
        self.count += 1
        return self

    def fput(self) -> None:
        """One reference less; the last one releases the file (``fs/file_table.c:fput``)."""
        self.count -= 1
        if self.count == 0:
            for item in tuple(self.epitems or ()):
                item.remove()
            self.release()
            self.inode.file_released(self)
        elif self.count < 0:
            raise KernelBug(f"file {self!r} put more often than it was got")


@dataclass(slots=True, eq=False, repr=False)
class FilesStruct:
    """The descriptors of a process (``struct files_struct``)."""

    fds: dict[int, File] = field(default_factory=dict)  # descriptor -> file
    close_on_exec: set[int] = field(default_factory=set)
    holes: list[int] = field(default_factory=list)  # heap of free descriptors below `top`
    top: int = 0  # every descriptor from here on is free
    count: int = 1  # tasks that share the table
    lock_requests: list[FileLock] = field(default_factory=list)  # record locks that these tasks sleep for

    def fget(self, fd: int) -> File:
        """The file behind a descriptor; EBADF when there is none, or only an O_PATH one (``fget``)."""
        file = self.fds.get(fd)
        if file is None or file.f_mode & FMode.PATH:
            raise KernelError(Errno.EBADF)
        return file

    def fget_raw(self, fd: int) -> File:
        """The same, O_PATH descriptors included (``fget_raw``)."""
        file = self.fds.get(fd)
        if file is None:
            raise KernelError(Errno.EBADF)
        return file

    def alloc_fd(self, task: Task, file: File, *, start: int = 0, cloexec: bool = False) -> int:
        """Give ``file`` the lowest free descriptor from ``start`` on; the caller's reference becomes the table's.

        Fails as `get_unused_fd` does. Source: ``fs/file.c:alloc_fd``.
        """
        fd = self.get_unused_fd(task, start)
        self.install(fd, file, cloexec=cloexec)
        return fd

    def get_unused_fd(self, task: Task, start: int = 0) -> int:
        """The lowest free descriptor from ``start`` on. EMFILE (EINVAL when ``start`` is beyond it) at RLIMIT_NOFILE.

        Source: ``fs/file.c:get_unused_fd_flags``.
        """
        limit = task.signal.rlim.cur(Rlimit.NOFILE)
        fd = self._lowest_free(start)
        if fd >= limit:
            if start == 0 or start < limit:
                raise KernelError(Errno.EMFILE)
            raise KernelError(Errno.EINVAL)
        return fd

    def install(self, fd: int, file: File, *, cloexec: bool = False) -> None:
        """Put ``file`` at a free descriptor (``fd_install``)."""
        self.fds[fd] = file
        if fd >= self.top:
            for hole in range(self.top, fd):
                heappush(self.holes, hole)
            self.top = fd + 1
        if cloexec:
            self.close_on_exec.add(fd)

    def remove(self, fd: int) -> File:
        """Take the descriptor out of the table; its reference is the caller's now. EBADF when it is not open."""
        file = self.fds.pop(fd, None)
        if file is None:
            raise KernelError(Errno.EBADF)
        self.close_on_exec.discard(fd)
        heappush(self.holes, fd)
        return file

    def copy(self) -> FilesStruct:
        """The same files in a table of their own (``dup_fd``)."""
        for file in self.fds.values():
            file.count += 1
        return FilesStruct(dict(self.fds), set(self.close_on_exec), list(self.holes), self.top)

    def _lowest_free(self, start: int) -> int:
        while self.holes and self.holes[0] in self.fds:  # taken by install() meanwhile
            heappop(self.holes)
        if start >= self.top:
            return start
        if start == 0:
            return self.holes[0] if self.holes else self.top
        return next(fd for fd in range(start, self.top + 1) if fd not in self.fds)


def filp_close(task: Task, file: File, files: FilesStruct) -> None:
    """Close one descriptor's hold on a file: flush, drop the process's record locks, put. Source: ``fs/open.c:filp_close``."""
    if not file.f_mode & FMode.PATH:
        file.flush(task)
        file.inode.remove_posix_locks(files)
    file.fput()


def close_files(task: Task, files: FilesStruct) -> None:
    """Close everything in descriptor order, when the last user of the table has gone. Source: ``fs/file.c:close_files``."""
    for fd in sorted(files.fds):
        filp_close(task, files.fds.pop(fd), files)


def exit_files(task: Task) -> None:
    """The task lets go of its descriptors. Source: ``fs/file.c:exit_files``."""
    files = task.files
    if files is not None:
        task.files = None
        put_files_struct(task, files)


def put_files_struct(task: Task, files: FilesStruct) -> None:
    """One user of the table less. Source: ``fs/file.c:put_files_struct``."""
    files.count -= 1
    if files.count == 0:
        close_files(task, files)


def unshare_files(task: Task) -> None:
    """Give the task a table of its own, for exec. Source: ``kernel/fork.c:unshare_files``."""
    files = task.files
    if files is not None and files.count > 1:
        task.files = files.copy()
        put_files_struct(task, files)


def do_close_on_exec(task: Task) -> None:
    """Close what exec must not leave open. Source: ``fs/file.c:do_close_on_exec``."""
    files = task.files
    assert files is not None
    for fd in sorted(files.close_on_exec):
        filp_close(task, files.remove(fd), files)
