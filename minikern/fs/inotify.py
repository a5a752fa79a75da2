"""inotify: reading what happens to files and directories.

Mirrors ``fs/notify/inotify``. The hooks are in `minikern.fs.fsnotify`.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import FMode, OpenFlag, Poll
from minikern.fs.fsnotify import In
from minikern.fs.ioctls import FIONREAD
from minikern.fs.namei import At, Lookup, filename_lookup, getname
from minikern.fs.permission import May, path_permission
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Fd, Int, OpenFlags, Path, UInt, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import put_user

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.kernel.task import Task

MAX_QUEUED_EVENTS = 16384
MAX_USER_WATCHES = 65536
_EVENT = struct.Struct("<iIII")  # struct inotify_event: wd, mask, cookie, length of the name that follows
# Bits that mean something to inotify_add_watch. Source: ``ALL_INOTIFY_BITS``
_INOTIFY_BITS = (
    In.ALL_EVENTS
    | In.UNMOUNT
    | In.Q_OVERFLOW
    | In.IGNORED
    | In.ONLYDIR
    | In.DONT_FOLLOW
    | In.EXCL_UNLINK
    | In.MASK_CREATE
    | In.MASK_ADD
    | In.ISDIR
    | In.ONESHOT
)


@dataclass(slots=True, eq=False, repr=False)
class Watch:
    """One watch of one instance (``struct inotify_inode_mark``)."""

    file: InotifyFile
    wd: int
    inode: Inode
    mask: int

    def event(self, mask: int, name: bytes, cookie: int, *, unlinked: bool) -> None:
        """Source: ``fs/notify/inotify/inotify_fsnotify.c:inotify_handle_inode_event``."""
        if not mask & self.mask & In.ALL_EVENTS or (unlinked and self.mask & In.EXCL_UNLINK):
            return
        self.file.queue_event(self.wd, mask, cookie, name)
        if self.mask & In.ONESHOT:
            self.file.remove(self)

    def inode_gone(self) -> None:
        """Source: ``fs/notify/inotify/inotify_user.c:inotify_ignored_and_remove_idr``."""
        self.file.watches.pop(self.wd, None)
        self.file.queue_event(self.wd, In.IGNORED, 0, b"")


class InotifyFile(AnonFile):
    """An instance: a set of watches and the events that were not read yet."""

    __slots__ = ("events", "last_wd", "wait", "watches")
    name = "inotify"

    def __init__(self, task: Task, flags: int) -> None:
        super().__init__(task, OpenFlag.RDONLY | flags & OpenFlag.NONBLOCK)
        self.f_mode = FMode.READ
        self.watches: dict[int, Watch] = {}  # by watch descriptor
        self.last_wd = 0
        self.events: deque[tuple[int, int, int, bytes]] = deque()  # (wd, mask, cookie, name)
        self.wait = WaitQueue()

    def queue_event(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """Add an event, unless it says the same as the one before. Source: ``inotify_merge``, ``fsnotify_insert_event``."""
        event = wd, mask, cookie, name
        if len(self.events) >= MAX_QUEUED_EVENTS:
            event = -1, int(In.Q_OVERFLOW), 0, b""
        if not self.events or self.events[-1] != event:
            self.events.append(event)
            self.wait.wake_up_all(key=Poll.IN | Poll.RDNORM)

    def remove(self, watch: Watch) -> None:
        """End a watch. Source: ``fsnotify_destroy_mark``."""
        marks = watch.inode.sb.kernel.mounts.marks
        on_inode = marks.get(watch.inode, [])
        if watch in on_inode:
            on_inode.remove(watch)
        if not on_inode:
            marks.pop(watch.inode, None)
        watch.inode_gone()

    def read(self, task: Task, count: int, pos: int) -> bytes | Wait:
        """Whole events only. Source: ``fs/notify/inotify/inotify_user.c:inotify_read``."""
        packed = b""
        while self.events:
            wd, mask, cookie, name = self.events[0]
            length = (len(name) + 1 + _EVENT.size - 1) // _EVENT.size * _EVENT.size if name else 0
            if len(packed) + _EVENT.size + length > count:
                if not packed:
                    raise KernelError(Errno.EINVAL)
                break
            packed += _EVENT.pack(wd, mask, cookie, length) + name.ljust(length, b"\0")
            self.events.popleft()
        if packed:
            return packed
        if self.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        return Wait((self.wait,), wchan="inotify_read")

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Source: ``fs/notify/inotify/inotify_user.c:inotify_poll``."""
        if queues is not None:
            queues.append(self.wait)
        return Poll.IN | Poll.RDNORM if self.events else 0

    def ioctl(self, task: Task, cmd: int, arg: int) -> int | Wait:
        """Source: ``fs/notify/inotify/inotify_user.c:inotify_ioctl``."""
        if cmd != FIONREAD:
            raise KernelError(Errno.ENOTTY)
        sizes = ((len(name) + _EVENT.size) // _EVENT.size * _EVENT.size if name else 0 for *_, name in self.events)
        put_user(task, arg, sum(_EVENT.size + size for size in sizes), 4)
        return 0

    def release(self) -> None:
        """Source: ``fs/notify/inotify/inotify_user.c:inotify_release``."""
        for watch in list(self.watches.values()):
            self.remove(watch)

    def show_fdinfo(self) -> str:
        """Source: ``fs/notify/fdinfo.c:inotify_show_fdinfo``."""
        return "".join(
            f"inotify wd:{watch.wd:x} ino:{watch.inode.ino:x} sdev:{watch.inode.device():x} mask:{watch.mask:x} "
            "ignored_mask:0 \n"
            for watch in self.watches.values()
        )


@syscall("inotify_init1")
def sys_inotify_init1(task: Task, flags: OpenFlags) -> Result:
    """Source: ``fs/notify/inotify/inotify_user.c:do_inotify_init``."""
    return do_inotify_init(task, task.arch.open_flags(flags))


def do_inotify_init(task: Task, flags: int) -> int:
    """A new instance; ``flags`` are `OpenFlag`."""
    if flags & ~(OpenFlag.CLOEXEC | OpenFlag.NONBLOCK):
        raise KernelError(Errno.EINVAL)
    return anon_inode_getfd(task, InotifyFile(task, flags), cloexec=bool(flags & OpenFlag.CLOEXEC))


def _instance(task: Task, fd: int) -> InotifyFile:
    assert task.files is not None
    file = task.files.fget(fd)
    if not isinstance(file, InotifyFile):
        raise KernelError(Errno.EINVAL)
    return file


@syscall("inotify_add_watch")
def sys_inotify_add_watch(task: Task, fd: Fd, pathname: Path, mask: UInt) -> Result:
    """Source: ``fs/notify/inotify/inotify_user.c:inotify_add_watch``."""
    if not mask & _INOTIFY_BITS or (mask & In.MASK_ADD and mask & In.MASK_CREATE):
        raise KernelError(Errno.EINVAL)
    file = _instance(task, fd)
    lookup = Lookup(0) if mask & In.DONT_FOLLOW else Lookup.FOLLOW
    path = filename_lookup(
        task, At.FDCWD, getname(task, pathname), lookup | (Lookup.DIRECTORY if mask & In.ONLYDIR else 0)
    )
    path_permission(task, path, May.READ)
    inode = path.dentry.inode
    kept = mask & (In.ALL_EVENTS | In.EXCL_UNLINK | In.ONESHOT)
    watch = next((each for each in file.watches.values() if each.inode is inode), None)
    if watch is not None:
        if mask & In.MASK_CREATE:
            raise KernelError(Errno.EEXIST)
        watch.mask = watch.mask | kept if mask & In.MASK_ADD else kept
        return watch.wd
    if len(file.watches) >= MAX_USER_WATCHES:
        raise KernelError(Errno.ENOSPC)
    file.last_wd += 1
    watch = Watch(file, file.last_wd, inode, kept)
    file.watches[watch.wd] = watch
    task.kernel.mounts.marks.setdefault(inode, []).append(watch)
    return watch.wd


@syscall("inotify_rm_watch")
def sys_inotify_rm_watch(task: Task, fd: Fd, wd: Int) -> Result:
    """Source: ``fs/notify/inotify/inotify_user.c:inotify_rm_watch``."""
    file = _instance(task, fd)
    watch = file.watches.get(wd)
    if watch is None:
        raise KernelError(Errno.EINVAL)
    file.remove(watch)
    return 0
