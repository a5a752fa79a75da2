"""Moving bytes between a pipe and something else without passing through the program.

Mirrors ``fs/splice.c``. Bytes are copied here; what counts is that they come out as Linux has them. Left out: SPLICE_F_MOVE
and SPLICE_F_GIFT mean nothing.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.file import File, FMode, OpenFlag, Poll
from minikern.fs.pipe import PIPE_BUF_BYTES, PipeFile
from minikern.fs.read_write import advance, copy_from_iter, copy_to_iter, import_iovec, rw_count
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Fd, Ptr, Size, UInt, ULong, syscall
from minikern.kernel.waitqueue import Result, Wait, WaitQueue
from minikern.mm.uaccess import get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

_LLONG_SIGN = 1 << 63


@fast_flags
class Splice(IntFlag):
    """Flags of splice, tee and vmsplice (``SPLICE_F_*``)."""

    MOVE = 1
    NONBLOCK = 2
    MORE = 4
    GIFT = 8
    ALL = 15


@syscall("splice")
def sys_splice(task: Task, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, length: Size, flags: UInt) -> Result:
    """Source: ``fs/splice.c:do_splice``."""
    if not length:
        return 0
    if flags & ~Splice.ALL:
        raise KernelError(Errno.EINVAL)
    source, target = _ends(task, fd_in, fd_out)
    for file, offset in ((source, off_in), (target, off_out)):
        if offset and isinstance(file, PipeFile):
            raise KernelError(Errno.ESPIPE)
        if offset and not file.f_mode & FMode.PREAD:
            raise KernelError(Errno.EINVAL)
    length = rw_count(length)
    nonblock = bool(flags & Splice.NONBLOCK)
    if isinstance(source, PipeFile) and isinstance(target, PipeFile):
        if source.pipe is target.pipe:
            raise KernelError(Errno.EINVAL)
        nonblock |= bool((source.f_flags | target.f_flags) & OpenFlag.NONBLOCK)
    if isinstance(source, PipeFile):
        wait = _wait_for_data(task, source, nonblock)
        if wait is not None:
            return wait
        if isinstance(target, PipeFile):
            return _pipe_to_pipe(task, source, target, length, nonblock)
        return _pipe_to_file(task, source, target, off_out, length)
    if isinstance(target, PipeFile):
        return _file_to_pipe(task, source, off_in, target, length, nonblock)
    raise KernelError(Errno.EINVAL)


@syscall("tee")
def sys_tee(task: Task, fdin: Fd, fdout: Fd, length: Size, flags: UInt) -> Result:
    """Source: ``fs/splice.c:do_tee``."""
    if flags & ~Splice.ALL:
        raise KernelError(Errno.EINVAL)
    if not length:
        return 0
    source, target = _ends(task, fdin, fdout)
    if not isinstance(source, PipeFile) or not isinstance(target, PipeFile) or source.pipe is target.pipe:
        raise KernelError(Errno.EINVAL)
    nonblock = bool(flags & Splice.NONBLOCK)
    wait = _wait_for_data(task, source, nonblock) or _wait_for_room(task, target, nonblock)
    if wait is not None:
        return wait
    data = b"".join(buf.data for buf in source.pipe.bufs)
    return _fill(task, target, data[: min(length, _room(target))])


@syscall("vmsplice")
def sys_vmsplice(task: Task, fd: Fd, iov: Ptr, nr_segs: ULong, flags: UInt) -> Result:
    """Source: ``fs/splice.c:vmsplice``."""
    if flags & ~Splice.ALL:
        raise KernelError(Errno.EINVAL)
    assert task.files is not None
    file = task.files.fget(fd)
    if not isinstance(file, PipeFile):
        raise KernelError(Errno.EBADF)
    iovec = import_iovec(task, iov, nr_segs)
    nonblock = bool(flags & Splice.NONBLOCK)
    if file.f_mode & FMode.WRITE:
        wait = _wait_for_room(task, file, nonblock)
        if wait is not None:
            return wait
        return _fill(task, file, copy_from_iter(task, iovec)[: _room(file)])
    wait = _wait_for_data(task, file, nonblock)
    if wait is not None:
        return wait
    return copy_to_iter(task, iovec, file.pipe.take(sum(length for _, length in iovec)))


def _ends(task: Task, fd_in: int, fd_out: int) -> tuple[File, File]:
    """The files to move from and to; EBADF when they are not open for that."""
    assert task.files is not None
    source, target = task.files.fget(fd_in), task.files.fget(fd_out)
    if not source.f_mode & FMode.READ or not target.f_mode & FMode.WRITE:
        raise KernelError(Errno.EBADF)
    return source, target


def _wait_for_data(task: Task, file: PipeFile, nonblock: bool) -> Wait | None:
    """Sleep while a pipe is empty and may yet be filled. Source: ``fs/splice.c:ipipe_prep``."""
    pipe = file.pipe
    if pipe.bufs or not pipe.writers:
        return None
    if nonblock or file.f_flags & OpenFlag.NONBLOCK:
        raise KernelError(Errno.EAGAIN)
    return Wait((pipe.rd_wait,), wchan="ipipe_prep")


def _wait_for_room(task: Task, file: PipeFile, nonblock: bool) -> Wait | None:
    """Sleep while a pipe is full and somebody may yet read. Source: ``fs/splice.c:opipe_prep``."""
    pipe = file.pipe
    if not pipe.readers or _room(file):
        return None  # without readers writing fails, with SIGPIPE
    if nonblock or file.f_flags & OpenFlag.NONBLOCK:
        raise KernelError(Errno.EAGAIN)
    return Wait((pipe.wr_wait,), wchan="opipe_prep")


def _room(file: PipeFile) -> int:
    """How many bytes fit without waiting."""
    return (file.pipe.max_usage - len(file.pipe.bufs)) * PIPE_BUF_BYTES


def _fill(task: Task, target: PipeFile, data: bytes) -> Result:
    """Write what is known to fit."""
    return target.write(task, data, 0) if data else 0


def _pipe_to_pipe(task: Task, source: PipeFile, target: PipeFile, length: int, nonblock: bool) -> Result:
    """Source: ``fs/splice.c:splice_pipe_to_pipe``."""
    if not source.pipe.bufs:
        return 0
    wait = _wait_for_room(task, target, nonblock)
    if wait is not None:
        return wait
    if not target.pipe.readers:
        return _fill(task, target, b"\0")  # fails, and takes nothing from the source
    return _fill(task, target, source.pipe.take(min(length, _room(target))))


def _pipe_to_file(task: Task, source: PipeFile, target: File, off_out: int, length: int) -> Result:
    """Source: ``fs/splice.c:do_splice_from``."""
    if target.f_flags & OpenFlag.APPEND:
        raise KernelError(Errno.EINVAL)
    pos = target.f_pos
    if off_out:
        pos = get_user(task, off_out, 8)
        if pos & _LLONG_SIGN:
            raise KernelError(Errno.EINVAL)
    queues: list[WaitQueue] = []
    if not target.poll(task, queues) & Poll.OUT:  # nothing may be taken from the pipe that cannot be put anywhere
        if target.f_flags & OpenFlag.NONBLOCK:
            raise KernelError(Errno.EAGAIN)
        return Wait(tuple(queues), wchan="splice_from_pipe")
    data = source.pipe.take(length)
    result = target.write(task, data, pos) if data else 0
    if isinstance(result, Wait):
        return result
    if off_out:
        put_user(task, off_out, pos + result, 8)
    elif target.f_mode & FMode.LSEEK:
        advance(target, result)
    return result


def _file_to_pipe(task: Task, source: File, off_in: int, target: PipeFile, length: int, nonblock: bool) -> Result:
    """Source: ``fs/splice.c:splice_file_to_pipe``."""
    wait = _wait_for_room(task, target, nonblock)
    if wait is not None:
        return wait
    pos = source.f_pos
    if off_in:
        pos = get_user(task, off_in, 8)
        if pos & _LLONG_SIGN:
            raise KernelError(Errno.EINVAL)
    data = source.read(task, min(length, max(_room(target), 1)), pos)
    if isinstance(data, Wait):
        return data
    result = _fill(task, target, data)
    assert isinstance(result, int)
    if off_in:
        put_user(task, off_in, pos + result, 8)
    elif source.f_mode & FMode.LSEEK:
        source.f_pos = pos + result
    return result
