"""Waiting for any of several files: poll and select in all their shapes.

Mirrors ``fs/select.c``. Every look at the files collects the queues on which a change would be announced; if nothing is
ready the task sleeps on all of them and looks again. Left out: busy polling, timer slack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import Poll
from minikern.kernel.cputime import NSEC_PER_SEC, NSEC_PER_USEC
from minikern.kernel.errno import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Errno, KernelError
from minikern.kernel.resource import Rlimit
from minikern.kernel.signal_calls import set_user_sigmask
from minikern.kernel.signal_delivery import restore_saved_sigmask
from minikern.kernel.syscalls import Int, Ptr, Size, UInt, syscall
from minikern.kernel.time import add_safe_ns, get_timespec_ns, timespec_to_ns
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import copy_from_user, copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.fs.file import FilesStruct
    from minikern.kernel.task import Task

NSEC_PER_MSEC = 10**6
USEC_PER_SEC = 10**6

_POLLFD = struct.Struct("<iHH")  # struct pollfd: fd, events, revents
_REVENTS_OFFSET = 6
_TIMESPEC = struct.Struct("<qq")  # seconds, and nanoseconds or microseconds
_SIGSET_ARG = struct.Struct("<QQ")  # what the sixth argument of pselect6 points to: address and size of the mask

# What each of the three sets of select means. Source: POLLIN_SET and its like.
_IN_SET = Poll.RDNORM | Poll.RDBAND | Poll.IN | Poll.HUP | Poll.ERR | Poll.NVAL
_OUT_SET = Poll.WRBAND | Poll.WRNORM | Poll.OUT | Poll.ERR | Poll.NVAL
_EX_SET = Poll.PRI | Poll.NVAL
_SETS = (int(_IN_SET), int(_OUT_SET), int(_EX_SET))

_BITS_PER_LONG = 64
_NR_OPEN_DEFAULT = 64  # descriptors that a table has room for at first

Finish = Callable[[int], Result]  # what a call does with its result before it returns to the user


# -- poll


@dataclass(slots=True, eq=False, repr=False)
class PollCall:
    """One poll(2) on its way, as data."""

    task: Task
    ufds: int  # guest address of the pollfds
    fds: list[tuple[int, int]]  # descriptor and wanted events of each
    deadline_ns: int | None  # on the monotonic clock; None: for ever
    finish: Finish


def do_sys_poll(task: Task, ufds: int, nfds: int, deadline_ns: int | None, finish: Finish) -> Result:
    """Poll ``nfds`` pollfds at ``ufds``; ``finish`` is given the result, or -ERESTARTNOHAND when a signal came.

    Source: ``fs/select.c:do_sys_poll``.
    """
    try:
        if nfds > task.signal.rlim.cur(Rlimit.NOFILE):
            raise KernelError(Errno.EINVAL)
        data = copy_from_user(task, ufds, nfds * _POLLFD.size) if nfds else b""
    except KernelError as error:
        return finish(-error.errno)
    fds = [(fd, events) for fd, events, _ in _POLLFD.iter_unpack(data)]
    return do_poll(PollCall(task, ufds, fds, deadline_ns, finish))


def do_poll(call: PollCall) -> Result:
    """Look at every file once; sleep if none is ready. Source: ``fs/select.c:do_poll``."""
    task = call.task
    assert task.files is not None
    queues: list[WaitQueue] | None = None if _expired(task, call.deadline_ns) else []
    revents = []
    count = 0
    for fd, events in call.fds:
        mask = do_pollfd(task, task.files, fd, events, None if count else queues)
        revents.append(mask)
        count += mask != 0
    if count or queues is None:
        return call.finish(_store_revents(call, revents, count))
    return Wait(
        tuple(queues),
        partial(do_poll, call),
        deadline_ns=call.deadline_ns,
        interrupted=partial(_poll_ends, call, -ERESTARTNOHAND),
        timed_out=partial(_poll_ends, call, 0),
        wchan="do_poll",
    )


def do_pollfd(task: Task, files: FilesStruct, fd: int, events: int, queues: list[WaitQueue] | None) -> int:
    """Which of ``events`` are true of a descriptor, errors always included. Source: ``fs/select.c:do_pollfd``."""
    if fd < 0:
        return 0
    try:
        file = files.fget(fd)
    except KernelError:
        return Poll.NVAL
    return int(file.poll(task, queues)) & (events | Poll.ERR | Poll.HUP)


def _poll_ends(call: PollCall, result: int) -> Result:
    """Nothing became ready: store that, and return ``result``."""
    return call.finish(_store_revents(call, [0] * len(call.fds), result))


def _store_revents(call: PollCall, revents: list[int], result: int) -> int:
    try:
        for index, mask in enumerate(revents):
            put_user(call.task, call.ufds + index * _POLLFD.size + _REVENTS_OFFSET, mask, 2)
    except KernelError as error:
        return -error.errno
    return result


@syscall("ppoll")
def sys_ppoll(task: Task, ufds: Ptr, nfds: UInt, tsp: Ptr, sigmask: Ptr, sigsetsize: Size) -> Result:
    """Source: ``fs/select.c:ppoll``."""
    deadline = _deadline_from_timespec(task, tsp)
    set_user_sigmask(task, sigmask, sigsetsize)
    return do_sys_poll(task, ufds, nfds, deadline, partial(poll_select_finish, task, deadline, tsp, 1))


def ksys_poll(task: Task, ufds: int, nfds: int, timeout_ms: int) -> Result:
    """poll(2), for architectures that have it; a negative timeout means for ever. Source: ``fs/select.c:poll``."""
    deadline = None
    if timeout_ms >= 0:
        deadline = _deadline(task, timeout_ms * NSEC_PER_MSEC)
    return do_sys_poll(task, ufds, nfds, deadline, partial(_finish_poll, task, ufds, nfds, deadline))


def _finish_poll(task: Task, ufds: int, nfds: int, deadline_ns: int | None, result: int) -> Result:
    """After a signal poll goes on by restart_syscall, so that the time left counts. Source: ``fs/select.c:do_restart_poll``."""
    if result != -ERESTARTNOHAND:
        return result
    finish = partial(_finish_poll, task, ufds, nfds, deadline_ns)
    task.restart_block = partial(do_sys_poll, task, ufds, nfds, deadline_ns, finish)
    return -ERESTART_RESTARTBLOCK


# -- select


@dataclass(slots=True, eq=False, repr=False)
class SelectCall:
    """One select(2) on its way, as data."""

    task: Task
    n: int  # descriptors below this one
    addresses: tuple[int, int, int]  # guest addresses of the three sets; 0: not given
    wanted: tuple[int, int, int]  # the sets as bit masks
    deadline_ns: int | None  # on the monotonic clock; None: for ever
    finish: Finish


def core_sys_select(
    task: Task, n: int, addresses: tuple[int, int, int], deadline_ns: int | None, finish: Finish
) -> Result:
    """Wait until something in the three sets is ready. Source: ``fs/select.c:core_sys_select``."""
    assert task.files is not None
    try:
        if n < 0:
            raise KernelError(Errno.EINVAL)
        n = min(n, _max_fds(task.files))
        wanted = (
            _get_fd_set(task, n, addresses[0]),
            _get_fd_set(task, n, addresses[1]),
            _get_fd_set(task, n, addresses[2]),
        )
        _check_open(task.files, wanted[0] | wanted[1] | wanted[2])
    except KernelError as error:
        return finish(-error.errno)
    return do_select(SelectCall(task, n, addresses, wanted, deadline_ns, finish))


def do_select(call: SelectCall) -> Result:
    """Look at every file once; sleep if none is ready. Source: ``fs/select.c:do_select``."""
    task = call.task
    assert task.files is not None
    queues: list[WaitQueue] | None = None if _expired(task, call.deadline_ns) else []
    ready = [0, 0, 0]
    count = 0
    for fd in _bits(call.wanted[0] | call.wanted[1] | call.wanted[2]):
        file = task.files.fds.get(fd)
        mask = Poll.NVAL if file is None else file.poll(task, None if count else queues)
        for which, meaning in enumerate(_SETS):
            if mask & meaning and call.wanted[which] >> fd & 1:
                ready[which] |= 1 << fd
                count += 1
    if count or queues is None:
        return call.finish(_store_sets(call, ready, count))
    return Wait(
        tuple(queues),
        partial(do_select, call),
        deadline_ns=call.deadline_ns,
        interrupted=partial(call.finish, -ERESTARTNOHAND),
        timed_out=partial(_select_times_out, call),
        wchan="do_select",
    )


def _select_times_out(call: SelectCall) -> Result:
    return call.finish(_store_sets(call, [0, 0, 0], 0))


def _store_sets(call: SelectCall, sets: list[int], result: int) -> int:
    try:
        for address, bits in zip(call.addresses, sets, strict=True):
            if address:
                copy_to_user(call.task, address, bits.to_bytes(_fds_bytes(call.n), "little"))
    except KernelError as error:
        return -error.errno
    return result


def _fds_bytes(n: int) -> int:
    """How long a set for ``n`` descriptors is (``FDS_BYTES``)."""
    return (n + _BITS_PER_LONG - 1) // _BITS_PER_LONG * 8


def _get_fd_set(task: Task, n: int, address: int) -> int:
    if not address or not n:
        return 0
    return int.from_bytes(copy_from_user(task, address, _fds_bytes(n)), "little") & ((1 << n) - 1)


def _max_fds(files: FilesStruct) -> int:
    """For how many descriptors the table has room; what is asked of higher ones is ignored (``fdt->max_fds``)."""
    if files.top <= _NR_OPEN_DEFAULT:
        return _NR_OPEN_DEFAULT
    return max(4 * _NR_OPEN_DEFAULT, 1 << (files.top - 1).bit_length())


def _check_open(files: FilesStruct, wanted: int) -> None:
    """EBADF when a descriptor is not open. Source: ``fs/select.c:max_select_fd``."""
    for fd in _bits(wanted):
        files.fget_raw(fd)


def _bits(mask: int) -> list[int]:
    """Numbers of the bits that are set, lowest first."""
    numbers = []
    while mask:
        low = mask & -mask
        numbers.append(low.bit_length() - 1)
        mask ^= low
    return numbers


@syscall("pselect6")
def sys_pselect6(task: Task, n: Int, inp: Ptr, outp: Ptr, exp: Ptr, tsp: Ptr, sig: Ptr) -> Result:
    """Source: ``fs/select.c:pselect6``."""
    sigmask, size = _SIGSET_ARG.unpack(copy_from_user(task, sig, _SIGSET_ARG.size)) if sig else (0, 0)
    deadline = _deadline_from_timespec(task, tsp)
    set_user_sigmask(task, sigmask, size)
    return core_sys_select(task, n, (inp, outp, exp), deadline, partial(poll_select_finish, task, deadline, tsp, 1))


def kern_select(task: Task, n: int, inp: int, outp: int, exp: int, tvp: int) -> Result:
    """select(2), for architectures that have it; the time left is stored at ``tvp``. Source: ``fs/select.c:kern_select``."""
    deadline = None
    if tvp:
        seconds, microseconds = _TIMESPEC.unpack(copy_from_user(task, tvp, _TIMESPEC.size))
        spec = (seconds + microseconds // USEC_PER_SEC, microseconds % USEC_PER_SEC * NSEC_PER_USEC)
        deadline = _deadline(task, timespec_to_ns(spec))
    finish = partial(poll_select_finish, task, deadline, tvp, NSEC_PER_USEC)
    return core_sys_select(task, n, (inp, outp, exp), deadline, finish)


# -- time limits and signal masks


def poll_select_finish(task: Task, deadline_ns: int | None, address: int, unit_ns: int, result: int) -> Result:
    """Put the signal mask back and store the time left, in seconds and units of ``unit_ns``.

    If it cannot be stored the call cannot be restarted either. Source: ``fs/select.c:poll_select_finish``.
    """
    if result != -ERESTARTNOHAND:  # else after the handler
        restore_saved_sigmask(task)
    if not deadline_ns:  # no limit, or zero: nothing to update
        return result
    left = max(0, deadline_ns - task.kernel.sources.monotonic_ns())
    try:
        copy_to_user(task, address, _TIMESPEC.pack(left // NSEC_PER_SEC, left % NSEC_PER_SEC // unit_ns))
    except KernelError:
        if result == -ERESTARTNOHAND:
            return -Errno.EINTR
    return result


def _deadline_from_timespec(task: Task, address: int) -> int | None:
    """Source: ``fs/select.c:poll_select_set_timeout``."""
    return _deadline(task, get_timespec_ns(task, address)) if address else None


def _deadline(task: Task, timeout_ns: int) -> int:
    """The moment that is ``timeout_ns`` away; 0 stays 0, a moment that is always over."""
    return add_safe_ns(task.kernel.sources.monotonic_ns(), timeout_ns) if timeout_ns else 0


def _expired(task: Task, deadline_ns: int | None) -> bool:
    return deadline_ns is not None and deadline_ns <= task.kernel.sources.monotonic_ns()
