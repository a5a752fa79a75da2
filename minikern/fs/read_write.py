"""Moving bytes between files and guest memory.

Mirrors ``fs/read_write.c``. A file hands over and takes ``bytes``; here is where they meet user memory, in one piece
however many buffers a call names. What a stream gave and the guest's buffer cannot take is lost.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.fsnotify import In, fsnotify_file
from minikern.fs.readdir import DirFile
from minikern.fs.regular import RegularFile, generic_write_checks
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Buf, Fd, Int, Long, Ptr, Size, UInt, ULong, syscall
from minikern.kernel.waitqueue import Exited, Result, Wait
from minikern.mm.uaccess import copy_from_user, copy_from_user_partial, copy_to_user_partial, get_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task

MAX_RW_COUNT = 0x7FFFF000  # bytes that one call moves at most
UIO_MAXIOV = 1024
_IOVEC = struct.Struct("<QQ")  # struct iovec: address, bytes
_LLONG_SIGN = 1 << 63

Iovec = list[tuple[int, int]]  # (guest address, bytes)


@fast_flags
class Rwf(IntFlag):
    """Flags of preadv2 and pwritev2 (``RWF_*``)."""

    HIPRI = 0x01
    DSYNC = 0x02
    SYNC = 0x04
    NOWAIT = 0x08
    APPEND = 0x10
    NOAPPEND = 0x20


_RWF_SUPPORTED = Rwf(0x3F)

# -- one buffer


@syscall("read")
def sys_read(task: Task, fd: Fd, buf: Buf, count: Size) -> Result:
    """Source: ``fs/read_write.c:ksys_read``."""
    file = task.files.fget(fd)  # type: ignore[union-attr]
    if not file.f_mode & FMode.READ:
        raise KernelError(Errno.EBADF)
    data = file.read(task, rw_count(count), file.f_pos)
    if isinstance(data, Wait):
        return data
    done = copy_to_user_partial(task, buf, data)
    if file.f_mode & FMode.LSEEK:
        file.f_pos += done
    if done and task.kernel.mounts.marks:
        fsnotify_file(file, In.ACCESS)
    return done


@syscall("write")
def sys_write(task: Task, fd: Fd, buf: Buf, count: Size) -> Result:
    """Source: ``fs/read_write.c:ksys_write``."""
    file = task.files.fget(fd)  # type: ignore[union-attr]
    if not file.f_mode & FMode.WRITE:
        raise KernelError(Errno.EBADF)
    done = file.write(task, copy_from_user_partial(task, buf, rw_count(count)), file.f_pos)
    if file.f_mode & FMode.LSEEK and not isinstance(done, Wait):
        advance(file, done)
    if task.kernel.mounts.marks and not isinstance(done, Wait) and done:
        fsnotify_file(file, In.MODIFY)
    return done


@syscall("pread64")
def sys_pread64(task: Task, fd: Fd, buf: Buf, count: Size, pos: Long) -> Result:
    """Source: ``fs/read_write.c:ksys_pread64``."""
    return vfs_readv(task, positioned(task, fd, pos, FMode.PREAD), [(buf, rw_count(count))], pos)


@syscall("pwrite64")
def sys_pwrite64(task: Task, fd: Fd, buf: Buf, count: Size, pos: Long) -> Result:
    """Source: ``fs/read_write.c:ksys_pwrite64``."""
    return vfs_writev(task, positioned(task, fd, pos, FMode.PWRITE), [(buf, rw_count(count))], pos)


def rw_count(count: int) -> int:
    """How much one call moves; EINVAL when the size is negative as a signed one. Source: ``rw_verify_area``."""
    if count <= MAX_RW_COUNT:
        return count
    if count & _LLONG_SIGN:
        raise KernelError(Errno.EINVAL)
    return MAX_RW_COUNT


def advance(file: File, done: int) -> None:
    """``done`` bytes were written at the position; in append mode that was the end."""
    if file.f_flags & OpenFlag.APPEND and isinstance(file, RegularFile):
        file.f_pos = file.inode.size
    else:
        file.f_pos += done


def positioned(task: Task, fd: int, pos: int, mode: FMode) -> File:
    """The file of a call that brings its own position; ESPIPE for streams."""
    if pos < 0:
        raise KernelError(Errno.EINVAL)
    assert task.files is not None
    file = task.files.fget(fd)
    if not file.f_mode & mode:
        raise KernelError(Errno.ESPIPE)
    return file


# -- several buffers


@syscall("readv")
def sys_readv(task: Task, fd: Fd, vec: Ptr, vlen: ULong) -> Result:
    """Source: ``fs/read_write.c:do_readv``."""
    assert task.files is not None
    return vfs_readv(task, task.files.fget(fd), import_iovec(task, vec, vlen), None)


@syscall("writev")
def sys_writev(task: Task, fd: Fd, vec: Ptr, vlen: ULong) -> Result:
    """Source: ``fs/read_write.c:do_writev``."""
    assert task.files is not None
    return vfs_writev(task, task.files.fget(fd), import_iovec(task, vec, vlen), None)


@syscall("preadv")
def sys_preadv(task: Task, fd: Fd, vec: Ptr, vlen: ULong, pos_l: Long, pos_h: ULong) -> Result:
    """Source: ``fs/read_write.c:do_preadv``; 64-bit callers put all of the position into ``pos_l``."""
    file = positioned(task, fd, pos_l, FMode.PREAD)
    return vfs_readv(task, file, import_iovec(task, vec, vlen), pos_l)


@syscall("pwritev")
def sys_pwritev(task: Task, fd: Fd, vec: Ptr, vlen: ULong, pos_l: Long, pos_h: ULong) -> Result:
    """Source: ``fs/read_write.c:do_pwritev``."""
    file = positioned(task, fd, pos_l, FMode.PWRITE)
    return vfs_writev(task, file, import_iovec(task, vec, vlen), pos_l)


@syscall("preadv2")
def sys_preadv2(task: Task, fd: Fd, vec: Ptr, vlen: ULong, pos_l: Long, pos_h: ULong, flags: Int) -> Result:
    """Source: ``fs/read_write.c:preadv2``; position -1 is the file's own."""
    assert task.files is not None
    check_rwf(flags)
    pos = None if pos_l == -1 else pos_l
    file = task.files.fget(fd) if pos is None else positioned(task, fd, pos, FMode.PREAD)
    return vfs_readv(task, file, import_iovec(task, vec, vlen), pos)


@syscall("pwritev2")
def sys_pwritev2(task: Task, fd: Fd, vec: Ptr, vlen: ULong, pos_l: Long, pos_h: ULong, flags: Int) -> Result:
    """Source: ``fs/read_write.c:pwritev2``."""
    assert task.files is not None
    check_rwf(flags)
    pos = None if pos_l == -1 else pos_l
    file = task.files.fget(fd) if pos is None else positioned(task, fd, pos, FMode.PWRITE)
    saved = file.f_flags
    if flags & Rwf.APPEND:
        file.f_flags |= OpenFlag.APPEND
    elif flags & Rwf.NOAPPEND:
        file.f_flags &= ~OpenFlag.APPEND
    try:
        return vfs_writev(task, file, import_iovec(task, vec, vlen), pos)
    finally:
        file.f_flags = saved


def check_rwf(flags: int) -> None:
    """EOPNOTSUPP for flags that no file knows. Source: ``include/linux/fs.h:kiocb_set_rw_flags``."""
    if flags & ~_RWF_SUPPORTED:
        raise KernelError(Errno.EOPNOTSUPP)
    if flags & Rwf.APPEND and flags & Rwf.NOAPPEND:
        raise KernelError(Errno.EINVAL)


def import_iovec(task: Task, vec: int, count: int) -> Iovec:
    """The buffers of a call, cut off where they exceed what one call moves. Source: ``lib/iov_iter.c:import_iovec``."""
    if count > UIO_MAXIOV:
        raise KernelError(Errno.EINVAL)
    room = MAX_RW_COUNT
    iovec = []
    for base, length in _IOVEC.iter_unpack(copy_from_user(task, vec, count * _IOVEC.size)):
        if length & _LLONG_SIGN:
            raise KernelError(Errno.EINVAL)
        length = min(length, room)
        room -= length
        iovec.append((base, length))
    return iovec


def vfs_readv(task: Task, file: File, iovec: Iovec, pos: int | None) -> Result:
    """Read into several buffers, at ``pos`` or at the file's position. Source: ``fs/read_write.c:vfs_readv``."""
    if not file.f_mode & FMode.READ:
        raise KernelError(Errno.EBADF)
    data = file.read(task, sum(length for _, length in iovec), file.f_pos if pos is None else pos)
    if isinstance(data, Wait):
        return data
    done = copy_to_iter(task, iovec, data)
    if pos is None and file.f_mode & FMode.LSEEK:
        file.f_pos += done
    if done:
        fsnotify_file(file, In.ACCESS)
    return done


def vfs_writev(task: Task, file: File, iovec: Iovec, pos: int | None) -> Result:
    """Write several buffers, at ``pos`` or at the file's position. Source: ``fs/read_write.c:vfs_writev``."""
    if not file.f_mode & FMode.WRITE:
        raise KernelError(Errno.EBADF)
    done = file.write(task, copy_from_iter(task, iovec), file.f_pos if pos is None else pos)
    if isinstance(done, Wait):
        return done
    if pos is None and file.f_mode & FMode.LSEEK:
        advance(file, done)
    if done:
        fsnotify_file(file, In.MODIFY)
    return done


def copy_to_iter(task: Task, iovec: Iovec, data: bytes) -> int:
    """Spread ``data`` over buffers; how much they took, EFAULT when that is none of it. Source: ``lib/iov_iter.c``."""
    if len(iovec) == 1:
        return copy_to_user_partial(task, iovec[0][0], data)
    view = memoryview(data)
    done = 0
    for base, length in iovec:
        part = view[done : done + length]
        if not part:
            continue
        try:
            copied = copy_to_user_partial(task, base, part)
        except KernelError:
            if not done:
                raise
            break
        done += copied
        if copied < len(part):
            break
    return done


def copy_from_iter(task: Task, iovec: Iovec) -> bytes:
    """What is in the buffers, up to the first byte that cannot be read; EFAULT when there is none before it."""
    if len(iovec) == 1:
        return copy_from_user_partial(task, *iovec[0])
    parts: list[bytes] = []
    for base, length in iovec:
        try:
            part = copy_from_user_partial(task, base, length)
        except KernelError:
            if not any(parts):
                raise
            break
        parts.append(part)
        if len(part) < length:
            break
    return b"".join(parts)


# -- position


@syscall("lseek")
def sys_lseek(task: Task, fd: Fd, offset: Long, whence: UInt) -> Result:
    """Source: ``fs/read_write.c:ksys_lseek``."""
    assert task.files is not None
    file = task.files.fget(fd)
    if whence > 4:
        raise KernelError(Errno.EINVAL)
    if not file.f_mode & FMode.LSEEK:
        raise KernelError(Errno.ESPIPE)
    return file.llseek(task, offset, whence)


# -- from file to file


@syscall("sendfile")
def sys_sendfile(task: Task, out_fd: Fd, in_fd: Fd, offset: Ptr, count: Size) -> Result:
    """Source: ``fs/read_write.c:do_sendfile``."""
    assert task.files is not None
    in_file = task.files.fget(in_fd)
    if not in_file.f_mode & FMode.READ:
        raise KernelError(Errno.EBADF)
    if offset:
        if not in_file.f_mode & FMode.PREAD:
            raise KernelError(Errno.ESPIPE)
        pos = get_user(task, offset, 8)
        if pos & _LLONG_SIGN:
            raise KernelError(Errno.EINVAL)
    else:
        pos = in_file.f_pos
    out_file = task.files.fget(out_fd)
    if not out_file.f_mode & FMode.WRITE:
        raise KernelError(Errno.EBADF)
    if out_file.f_flags & OpenFlag.APPEND or not isinstance(in_file, RegularFile):
        raise KernelError(Errno.EINVAL)

    data = in_file.read(task, rw_count(count), pos)
    if not data:
        return 0
    result = out_file.write(task, data, out_file.f_pos)
    return _sendfile_sent(task, in_file, out_file, offset, pos, result)


def _sendfile_sent(task: Task, in_file: File, out_file: File, offset: int, pos: int, result: Result) -> Result:
    """Note how far sendfile came, once it is known."""
    if isinstance(result, Wait):
        if result.resume is None:
            return result  # nothing was taken: the call starts again
        noted = partial(_sendfile_woken, task, in_file, out_file, offset, pos)
        return replace(result, resume=partial(noted, result.resume), interrupted=partial(noted, result.interrupted))
    if isinstance(result, Exited) or result <= 0:
        return result
    if out_file.f_mode & FMode.LSEEK:
        advance(out_file, result)
    if offset:
        put_user(task, offset, pos + result, 8)
    else:
        in_file.f_pos = pos + result
    return result


def _sendfile_woken(
    task: Task, in_file: File, out_file: File, offset: int, pos: int, outcome: int | Callable[[], Result]
) -> Result:
    """The sleep that sendfile's writing ended in is over, with a result or a function that knows it."""
    result = outcome() if callable(outcome) else outcome
    return _sendfile_sent(task, in_file, out_file, offset, pos, result)


@syscall("copy_file_range")
def sys_copy_file_range(
    task: Task, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, length: Size, flags: UInt
) -> Result:
    """Source: ``fs/read_write.c:vfs_copy_file_range``."""
    assert task.files is not None
    in_file, out_file = task.files.fget(fd_in), task.files.fget(fd_out)
    pos_in = get_user(task, off_in, 8) if off_in else in_file.f_pos
    pos_out = get_user(task, off_out, 8) if off_out else out_file.f_pos
    if flags:
        raise KernelError(Errno.EINVAL)
    for file in (in_file, out_file):
        if not isinstance(file, RegularFile):
            raise KernelError(Errno.EISDIR if isinstance(file, DirFile) else Errno.EINVAL)
    if not in_file.f_mode & FMode.READ or not out_file.f_mode & FMode.WRITE or out_file.f_flags & OpenFlag.APPEND:
        raise KernelError(Errno.EBADF)
    if (pos_in | pos_out) & _LLONG_SIGN:
        raise KernelError(Errno.EOVERFLOW)
    count = min(rw_count(length), max(in_file.inode.size - pos_in, 0))
    if in_file.inode is out_file.inode and pos_out < pos_in + count and pos_in < pos_out + count:
        raise KernelError(Errno.EINVAL)
    count = generic_write_checks(task, pos_out, count)
    if not count:
        return 0

    assert isinstance(in_file, RegularFile) and isinstance(out_file, RegularFile)
    done = out_file.write(task, in_file.read(task, count, pos_in), pos_out)
    if off_in:
        put_user(task, off_in, pos_in + done, 8)
    else:
        in_file.f_pos = pos_in + done
    if off_out:
        put_user(task, off_out, pos_out + done, 8)
    else:
        out_file.f_pos = pos_out + done
    return done
