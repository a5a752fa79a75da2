"""Files and directories of the host, reached without ever following a symbolic link.

A `HostTree` is everything below one host directory. Every step down from there opens one component relative to the
directory above it with O_NOFOLLOW, so no name and no link that the guest makes or finds leads outside, not even while
somebody else changes the tree. Handles survive a copy of the kernel: ``copy.deepcopy`` gives the handle itself.
Failures of the host become `KernelError` with the same number.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from minikern.kernel.errno import KernelError

# Directories kept open, so that a look-up is one system call on the host; the oldest are closed first.
MAX_OPEN_DIRS = 128
# Descriptors that the guest's files never take: the kernel opens its own modules only when a program needs them.
_KEPT_FREE = 16
_DIR_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_DT_OF_TYPE = 12  # DT_* is the type part of the mode without its 12 permission bits

# statx(2), which Python has no function for, tells when a file was made; None: nor has this host's C library.
_STATX = getattr(ctypes.CDLL(None), "statx", None)
_STATX_BTIME = 0x800
_STATX_SIZE = 256
_STATX_BTIME_OFFSET = 0x50
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _host_call(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn what the host says went wrong into the guest's error."""

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            assert error.errno is not None
            raise KernelError(error.errno) from None

    call.__doc__ = function.__doc__
    return call


class HostFile:
    """One open file of the host; closed when nobody refers to it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __deepcopy__(self, memo: dict[int, Any]) -> HostFile:
        return self

    def __del__(self) -> None:
        os.close(self.fd)

    @_host_call
    def pread(self, count: int, pos: int) -> bytes:
        """Up to ``count`` bytes from ``pos`` on; short only at the end of the file."""
        data = os.pread(self.fd, count, pos)
        if 0 < len(data) < count:
            rest = os.pread(self.fd, count - len(data), pos + len(data))
            while rest:
                data += rest
                rest = os.pread(self.fd, count - len(data), pos + len(data))
        return data

    @_host_call
    def pwrite(self, data: bytes | memoryview, pos: int) -> int:
        """Write at ``pos``; how many bytes were written."""
        return os.pwrite(self.fd, data, pos)

    @_host_call
    def stat(self) -> os.stat_result:
        """fstat(2)."""
        return os.fstat(self.fd)

    @_host_call
    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        os.ftruncate(self.fd, size)

    @_host_call
    def fallocate(self, pos: int, length: int) -> None:
        """posix_fallocate(3)."""
        os.posix_fallocate(self.fd, pos, length)

    @_host_call
    def sync(self) -> None:
        """fsync(2)."""
        os.fsync(self.fd)

    @_host_call
    def seek_data(self, pos: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE."""
        return os.lseek(self.fd, pos, whence)


class HostTree:
    """Everything below one host directory."""

    def __init__(self, root: bytes) -> None:
        self.root = HostDir(self, None, root)
        self.open_dirs: dict[HostDir, int] = {}  # the descriptors of directories, oldest first

    def __deepcopy__(self, memo: dict[int, Any]) -> HostTree:
        return self

    def close_some(self) -> None:
        """Close the older half of the open directories."""
        for directory in list(self.open_dirs)[: MAX_OPEN_DIRS // 2]:
            os.close(self.open_dirs.pop(directory))

    def close(self) -> None:
        """Close every directory; they are opened again when needed."""
        while self.open_dirs:
            os.close(self.open_dirs.popitem()[1])

    def __del__(self) -> None:
        self.close()


class HostDir:
    """A directory of the host, by its name in the directory above it."""

    __slots__ = ("name", "parent", "tree")

    def __init__(self, tree: HostTree, parent: HostDir | None, name: bytes) -> None:
        self.tree = tree
        self.parent = parent  # None: the root of the tree, whose name is a path of the host
        self.name = name

    def __deepcopy__(self, memo: dict[int, Any]) -> HostDir:
        return self

    def fd(self) -> int:
        """An O_PATH descriptor, which belongs to the tree."""
        open_dirs = self.tree.open_dirs
        fd = open_dirs.get(self)
        if fd is None:
            if self.parent is None:
                fd = os.open(self.name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                fd = os.open(self.name, _DIR_FLAGS, dir_fd=self.parent.fd())
            if len(open_dirs) >= MAX_OPEN_DIRS or _is_scarce(fd):
                self.tree.close_some()
            open_dirs[self] = fd
        return fd

    def moved(self, parent: HostDir, name: bytes) -> None:
        """The directory is called ``name`` in ``parent`` now."""
        self.parent = parent
        self.name = name

    def forget(self) -> None:
        """The name stands for another directory now, or for none."""
        fd = self.tree.open_dirs.pop(self, None)
        if fd is not None:
            os.close(fd)

    @_host_call
    def stat(self) -> os.stat_result:
        """Attributes of the directory itself."""
        return os.fstat(self.fd())

    def lookup(self, name: bytes) -> os.stat_result | None:
        """Attributes of what ``name`` is, symbolic links not followed; None: nothing is called that."""
        try:
            return os.stat(name, dir_fd=self.fd(), follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            assert error.errno is not None
            raise KernelError(error.errno) from None

    def birth_ns(self, name: bytes | None) -> int | None:
        """When ``name``, or the directory itself, was made, in ns since 1970; None: not known."""
        buffer = ctypes.create_string_buffer(_STATX_SIZE)
        flags = _AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH
        if _STATX is None or _STATX(self.fd(), name or b"", flags, _STATX_BTIME, buffer):
            return None
        if not struct.unpack_from("<I", buffer)[0] & _STATX_BTIME:
            return None
        seconds, nanoseconds = struct.unpack_from("<qI", buffer, _STATX_BTIME_OFFSET)
        return int(seconds) * 10**9 + int(nanoseconds)

    @_host_call
    def scan(self) -> list[tuple[int, int, bytes]]:
        """(ino, DT_*, name) of every entry in the order of the host, without ``.`` and ``..``."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd())
        try:
            with os.scandir(fd) as entries:
                return [(entry.inode(), _dt(entry), os.fsencode(entry.name)) for entry in entries]
        finally:
            os.close(fd)

    @_host_call
    def readlink(self, name: bytes) -> bytes:
        """Where the symbolic link ``name`` points."""
        return os.readlink(name, dir_fd=self.fd())

    @_host_call
    def open(self, name: bytes, flags: int, mode: int = 0) -> HostFile:
        """Open the file ``name``; never waits, and never follows a symbolic link."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        file = HostFile(os.open(name, flags, mode, dir_fd=self.fd()))
        if _is_scarce(file.fd):
            raise KernelError(errno.EMFILE)
        return file

    @_host_call
    def mkdir(self, name: bytes, mode: int) -> None:
        """mkdir(2)."""
        os.mkdir(name, mode, dir_fd=self.fd())

    @_host_call
    def mknod(self, name: bytes, mode: int, rdev: int) -> None:
        """mknod(2)."""
        os.mknod(name, mode, rdev, dir_fd=self.fd())

    @_host_call
    def symlink(self, target: bytes, name: bytes) -> None:
        """symlink(2)."""
        os.symlink(target, name, dir_fd=self.fd())

    @_host_call
    def link(self, name: bytes, new_dir: HostDir, new_name: bytes) -> None:
        """link(2) of ``name`` itself."""
        os.link(name, new_name, src_dir_fd=self.fd(), dst_dir_fd=new_dir.fd(), follow_symlinks=False)

    @_host_call
    def unlink(self, name: bytes) -> None:
        """unlink(2)."""
        os.unlink(name, dir_fd=self.fd())

    @_host_call
    def rmdir(self, name: bytes) -> None:
        """rmdir(2)."""
        os.rmdir(name, dir_fd=self.fd())

    @_host_call
    def rename(self, name: bytes, new_dir: HostDir, new_name: bytes) -> None:
        """rename(2)."""
        os.rename(name, new_name, src_dir_fd=self.fd(), dst_dir_fd=new_dir.fd())

    def chmod(self, name: bytes | None, mode: int) -> None:
        """chmod(2) of ``name``, or of the directory itself."""
        with self._opened(name) as path:
            os.chmod(path, mode)

    @_host_call
    def chown(self, name: bytes | None, uid: int, gid: int) -> None:
        """lchown(2) of ``name``, or of the directory itself; -1 leaves an id alone."""
        if name is None:
            with self._opened(None) as path:
                os.chown(path, uid, gid)
        else:
            os.chown(name, uid, gid, dir_fd=self.fd(), follow_symlinks=False)

    @_host_call
    def utimens(self, name: bytes | None, atime_ns: int, mtime_ns: int) -> None:
        """Set both times of ``name`` itself, or of the directory."""
        if name is None:
            with self._opened(None) as path:
                os.utime(path, ns=(atime_ns, mtime_ns))
        else:
            os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=self.fd(), follow_symlinks=False)

    @_host_call
    def statvfs(self) -> os.statvfs_result:
        """statvfs(3) of the file system that the directory is on."""
        return os.fstatvfs(self.fd())

    def listxattr(self, name: bytes | None) -> list[bytes]:
        """Names of extended attributes of ``name``, or of the directory itself."""
        with self._opened(name) as path:
            return [os.fsencode(each) for each in os.listxattr(path)]

    def getxattr(self, name: bytes | None, attribute: bytes) -> bytes:
        """Value of an extended attribute of ``name``, or of the directory itself."""
        with self._opened(name) as path:
            return os.getxattr(path, attribute)

    def setxattr(self, name: bytes | None, attribute: bytes, value: bytes | None) -> None:
        """Set or, with None, remove an extended attribute of ``name``, or of the directory itself."""
        with self._opened(name) as path:
            if value is None:
                os.removexattr(path, attribute)
            else:
                os.setxattr(path, attribute, value)

    @contextmanager
    def _opened(self, name: bytes | None) -> Iterator[str]:
        """A path through /proc/self/fd for calls that have no form with a directory descriptor."""
        try:
            if name is None:
                yield f"/proc/self/fd/{self.fd()}"
                return
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd())
            try:
                yield f"/proc/self/fd/{fd}"
            finally:
                os.close(fd)
        except OSError as error:
            assert error.errno is not None
            raise KernelError(error.errno) from None


def _is_scarce(fd: int) -> bool:
    """Whether ``fd`` is among the last descriptors that this process can have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and fd >= limit - _KEPT_FREE


def _dt(entry: os.DirEntry[str]) -> int:
    """DT_* of a directory entry; the common types cost no system call."""
    if entry.is_file(follow_symlinks=False):
        mode = stat.S_IFREG
    elif entry.is_dir(follow_symlinks=False):
        mode = stat.S_IFDIR
    elif entry.is_symlink():
        mode = stat.S_IFLNK
    else:
        mode = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
    return mode >> _DT_OF_TYPE
