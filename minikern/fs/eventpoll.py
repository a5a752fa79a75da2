"""epoll: a set of files that is told of changes instead of asking for them.

Mirrors ``fs/eventpoll.c``. An `EpItem` watches one file: it hangs a callback on every wait queue of the file, and
the callback puts the item on the ready list of its `EventPoll`. Whether the file is still ready is looked at when
somebody waits; a level-triggered item stays on the list as long as it is, an edge-triggered one only comes back by another
callback. Left out: EPOLLWAKEUP, busy polling, the limit on watches.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.anon_inodes import AnonFile, anon_inode_getfd
from minikern.fs.file import File, OpenFlag, Poll
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.signal_calls import set_user_sigmask
from minikern.kernel.signal_delivery import restore_saved_sigmask
from minikern.kernel.syscalls import Fd, Int, Ptr, Size, syscall
from minikern.kernel.time import add_safe_ns, get_timespec_ns
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

EPOLLEXCLUSIVE = 1 << 28  # a wake-up is for one of the epoll instances that watch the file
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30  # reported once, then off until EPOLL_CTL_MOD
EPOLLET = 1 << 31  # edge-triggered
_PRIVATE_BITS = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET
_ALWAYS = Poll.ERR | Poll.HUP
_EXCLUSIVE_OK = Poll.IN | Poll.OUT | Poll.ERR | Poll.HUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
_INOUT = Poll.IN | Poll.OUT
_MAX_NESTS = 4  # instances below one another
_MAX_EVENTS = 0x7FFFFFFF // 12
_NSEC_PER_MSEC = 10**6

Finish = Callable[[int], Result]  # what a call does with its result before it returns to the user


class Ctl(IntEnum):
    """What epoll_ctl is to do (``EPOLL_CTL_*``)."""

    ADD = 1
    DEL = 2
    MOD = 3


class EpItem:
    """One watched file (``struct epitem``), and the entry that it has on the file's wait queues."""

    __slots__ = ("data", "ep", "events", "fd", "file", "queues")

    def __init__(self, ep: EventPoll, file: File, fd: int, events: int, data: int) -> None:
        self.ep = ep
        self.file = file
        self.fd = fd  # under which it was added
        self.events = events | _ALWAYS  # wanted, with the EPOLL* flags
        self.data = data  # the user's own
        self.queues: list[WaitQueue] = []  # where it waits

    @property
    def exclusive(self) -> bool:
        """Whether one wake-up is for one such waiter."""
        return bool(self.events & EPOLLEXCLUSIVE)

    def wake(self, key: int) -> bool:
        """Something happened to the file. Source: ``fs/eventpoll.c:ep_poll_callback``."""
        took = not self.exclusive
        if not self.events & ~_PRIVATE_BITS or (key and not key & self.events):
            return took
        ep = self.ep
        ep.ready[self] = None
        if ep.wq.tasks:
            happened = key & _INOUT
            took |= not happened or bool(happened & self.events)
            ep.wq.wake_up()
        ep.poll_wait.wake_up_all(Poll.IN | Poll.RDNORM)
        return took

    def poll(self, task: Task) -> int:
        """What is true now of what is wanted. Source: ``fs/eventpoll.c:ep_item_poll``."""
        return int(self.file.poll(task, None)) & self.events

    def attach(self, task: Task) -> int:
        """Wait on the queues of the file; what is true of it now (``ep_ptable_queue_proc``)."""
        mask = int(self.file.poll(task, self.queues)) & self.events
        for queue in self.queues:
            queue.add_callback(self)
        if self.file.epitems is None:
            self.file.epitems = []
        self.file.epitems.append(self)
        return mask

    def remove(self) -> None:
        """Watch no longer: taken out, or the file is gone. Source: ``fs/eventpoll.c:__ep_remove``."""
        for queue in self.queues:
            assert queue.callbacks is not None
            queue.callbacks.remove(self)
        self.queues.clear()
        assert self.file.epitems is not None
        self.file.epitems.remove(self)
        del self.ep.items[self.file, self.fd]
        self.ep.ready.pop(self, None)


class EventPoll(AnonFile):
    """The file (``struct eventpoll``)."""

    __slots__ = ("items", "poll_wait", "ready", "wq")
    name = "[eventpoll]"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.items: dict[tuple[File, int], EpItem] = {}  # by file and descriptor
        self.ready: dict[EpItem, None] = {}  # perhaps ready, in the order in which they became so
        self.wq = WaitQueue()  # epoll_wait
        self.poll_wait = WaitQueue()  # whoever polls the instance itself

    def poll(self, task: Task, queues: list[WaitQueue] | None) -> int:
        """Readable when a watched file is ready. Source: ``fs/eventpoll.c:__ep_eventpoll_poll``."""
        if queues is not None:
            queues.append(self.poll_wait)
        for item in tuple(self.ready):
            if item.poll(task):
                return Poll.IN | Poll.RDNORM
            del self.ready[item]
        return 0

    def release(self) -> None:
        """Source: ``fs/eventpoll.c:ep_eventpoll_release``."""
        for item in tuple(self.items.values()):
            item.remove()

    def show_fdinfo(self) -> str:
        """Source: ``fs/eventpoll.c:ep_show_fdinfo``."""
        return "".join(
            f"tfd: {item.fd:8} events: {item.events:8x} data: {item.data:16x}  pos:{item.file.f_pos} "
            f"ino:{item.file.inode.ino:x} sdev:{item.file.inode.sb.dev:x}\n"
            for item in self.items.values()
        )

    def add_ready(self, item: EpItem) -> None:
        """The item was found to be ready: tell whoever waits."""
        self.ready[item] = None
        self.wq.wake_up()
        self.poll_wait.wake_up_all(Poll.IN | Poll.RDNORM)

    def take_events(self, task: Task, maximum: int) -> list[tuple[int, int]]:
        """(events, data) of at most ``maximum`` items that are ready. Source: ``fs/eventpoll.c:ep_send_events``."""
        taken: list[tuple[int, int]] = []
        again: list[EpItem] = []
        while self.ready and len(taken) < maximum:
            item = next(iter(self.ready))
            del self.ready[item]
            events = item.poll(task)
            if not events:
                continue
            taken.append((events, item.data))
            if item.events & EPOLLONESHOT:
                item.events &= _PRIVATE_BITS
            elif not item.events & EPOLLET:
                again.append(item)  # level-triggered: behind all others
        for item in again:
            self.ready[item] = None
        if self.ready:
            self.wq.wake_up()
        return taken


# -- epoll_create


def do_epoll_create(task: Task, flags: int) -> int:
    """Source: ``fs/eventpoll.c:do_epoll_create``."""
    if flags & ~int(OpenFlag.CLOEXEC):
        raise KernelError(Errno.EINVAL)
    return anon_inode_getfd(task, EventPoll(task), cloexec=bool(flags & OpenFlag.CLOEXEC))


@syscall("epoll_create1")
def sys_epoll_create1(task: Task, flags: Int) -> Result:
    """Source: ``fs/eventpoll.c:epoll_create1``."""
    return do_epoll_create(task, flags)


# -- epoll_ctl


def _event_struct(task: Task) -> struct.Struct:
    """``struct epoll_event``: events and data."""
    return struct.Struct("<IQ") if task.arch.epoll_event_packed else struct.Struct("<I4xQ")


@syscall("epoll_ctl")
def sys_epoll_ctl(task: Task, epfd: Fd, op: Int, fd: Fd, event: Ptr) -> Result:
    """Source: ``fs/eventpoll.c:do_epoll_ctl``."""
    events = data = 0
    if op != Ctl.DEL:
        layout = _event_struct(task)
        events, data = layout.unpack(copy_from_user(task, event, layout.size))
    assert task.files is not None
    ep = task.files.fget(epfd)
    file = task.files.fget(fd)
    if type(file).poll is File.poll:
        raise KernelError(Errno.EPERM)
    if file is ep or not isinstance(ep, EventPoll):
        raise KernelError(Errno.EINVAL)
    if op != Ctl.DEL and events & EPOLLEXCLUSIVE:
        if op == Ctl.MOD or isinstance(file, EventPoll) or events & ~_EXCLUSIVE_OK:
            raise KernelError(Errno.EINVAL)
    if op == Ctl.ADD and isinstance(file, EventPoll):
        _check_nesting(ep, file)

    item = ep.items.get((file, fd))
    if op == Ctl.ADD:
        if item is not None:
            raise KernelError(Errno.EEXIST)
        _ep_insert(task, ep, file, fd, events & ~EPOLLWAKEUP, data)
    elif op in (Ctl.DEL, Ctl.MOD):
        if item is None:
            raise KernelError(Errno.ENOENT)
        if op == Ctl.DEL:
            item.remove()
        elif item.exclusive:
            raise KernelError(Errno.EINVAL)
        else:
            _ep_modify(task, item, events & ~EPOLLWAKEUP, data)
    else:
        raise KernelError(Errno.EINVAL)
    return 0


def _ep_insert(task: Task, ep: EventPoll, file: File, fd: int, events: int, data: int) -> None:
    """Source: ``fs/eventpoll.c:ep_insert``."""
    item = EpItem(ep, file, fd, events, data)
    ep.items[file, fd] = item
    if item.attach(task):
        ep.add_ready(item)


def _ep_modify(task: Task, item: EpItem, events: int, data: int) -> None:
    """Source: ``fs/eventpoll.c:ep_modify``."""
    item.events = events | _ALWAYS
    item.data = data
    if item.poll(task):
        item.ep.add_ready(item)


def _check_nesting(ep: EventPoll, added: EventPoll) -> None:
    """ELOOP when instances would watch each other, or lie too deep. Source: ``fs/eventpoll.c:ep_loop_check``."""
    if _depth_below(added, ep, 0) + _height_above(ep) > _MAX_NESTS:
        raise KernelError(Errno.ELOOP)


def _depth_below(ep: EventPoll, forbidden: EventPoll, depth: int) -> int:
    if ep is forbidden or depth > _MAX_NESTS:
        raise KernelError(Errno.ELOOP)
    nested = [file for file, _ in ep.items if isinstance(file, EventPoll)]
    return max((1 + _depth_below(file, forbidden, depth + 1) for file in nested), default=0)


def _height_above(ep: EventPoll) -> int:
    return 1 + max((_height_above(item.ep) for item in ep.epitems or ()), default=0)


# -- epoll_wait


def do_epoll_wait(
    task: Task, epfd: int, events: int, maxevents: int, deadline_ns: int | None, finish: Finish
) -> Result:
    """Wait until a watched file is ready; ``finish`` is given the result. Source: ``fs/eventpoll.c:do_epoll_wait``."""
    if not 0 < maxevents <= _MAX_EVENTS:
        return finish(-Errno.EINVAL)
    assert task.files is not None
    try:
        ep = task.files.fget(epfd)
    except KernelError as error:
        return finish(-error.errno)
    if not isinstance(ep, EventPoll):
        return finish(-Errno.EINVAL)
    return _ep_poll(task, ep, events, maxevents, deadline_ns, finish)


def _ep_poll(task: Task, ep: EventPoll, events: int, maxevents: int, deadline_ns: int | None, finish: Finish) -> Result:
    """Source: ``fs/eventpoll.c:ep_poll``."""
    if ep.ready:
        taken = ep.take_events(task, maxevents)
        if taken:
            layout = _event_struct(task)
            try:
                copy_to_user(task, events, b"".join(layout.pack(*each) for each in taken))
            except KernelError as error:
                return finish(-error.errno)
            return finish(len(taken))
    if deadline_ns is not None and deadline_ns <= task.kernel.sources.monotonic_ns():
        return finish(0)
    return Wait(
        (ep.wq,),
        partial(_ep_poll, task, ep, events, maxevents, deadline_ns, finish),
        deadline_ns=deadline_ns,
        interrupted=partial(finish, -Errno.EINTR),
        timed_out=partial(finish, 0),
        exclusive=True,
        wchan="ep_poll",
    )


def epoll_deadline(task: Task, timeout_ms: int) -> int | None:
    """The moment ``timeout_ms`` from now; None for a negative one, which means for ever."""
    return _deadline(task, timeout_ms * _NSEC_PER_MSEC) if timeout_ms >= 0 else None


def _deadline(task: Task, timeout_ns: int) -> int:
    return add_safe_ns(task.kernel.sources.monotonic_ns(), timeout_ns) if timeout_ns else 0


def no_finish(result: int) -> Result:
    """The result as it is, for epoll_wait(2)."""
    return result


def _restore_sigmask(task: Task, result: int) -> Result:
    """After epoll_pwait, unless a signal is to be handled first. Source: ``fs/eventpoll.c:do_epoll_pwait``."""
    if result != -Errno.EINTR:
        restore_saved_sigmask(task)
    return result


@syscall("epoll_pwait")
def sys_epoll_pwait(
    task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Int, sigmask: Ptr, sigsetsize: Size
) -> Result:
    """Source: ``fs/eventpoll.c:epoll_pwait``."""
    deadline = epoll_deadline(task, timeout)
    set_user_sigmask(task, sigmask, sigsetsize)
    return do_epoll_wait(task, epfd, events, maxevents, deadline, partial(_restore_sigmask, task))


@syscall("epoll_pwait2")
def sys_epoll_pwait2(
    task: Task, epfd: Fd, events: Ptr, maxevents: Int, timeout: Ptr, sigmask: Ptr, sigsetsize: Size
) -> Result:
    """Source: ``fs/eventpoll.c:epoll_pwait2``."""
    deadline = _deadline(task, get_timespec_ns(task, timeout)) if timeout else None
    set_user_sigmask(task, sigmask, sigsetsize)
    return do_epoll_wait(task, epfd, events, maxevents, deadline, partial(_restore_sigmask, task))
