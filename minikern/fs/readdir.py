"""Reading directories.

Mirrors ``fs/readdir.c``. What a directory holds is looked at when it is read from its beginning and kept until it is
rewound, so positions stay valid whatever happens meanwhile: names that come later may be missed, as POSIX allows, but none
is seen twice and none that stays is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from minikern.fs.file import File, FMode
from minikern.fs.regular import MAX_LFS_FILESIZE, SEEK_CUR, SEEK_SET
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Buf, Fd, UInt, syscall
from minikern.kernel.waitqueue import Result
from minikern.mm.uaccess import copy_to_user

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.kernel.task import Task

DT_DIR = 4
Pack = Callable[[int, int, int, bytes], bytes]  # lays out one entry: ino, next position, DT_*, name

_DIRENT64 = struct.Struct("<QqHB")  # d_ino, d_off, d_reclen, d_type; the name follows
_DIRENT = struct.Struct("<QQH")  # d_ino, d_off, d_reclen; the name, and d_type in the last byte


class DirFile(File):
    """An open directory."""

    __slots__ = ("entries",)

    def __init__(self, inode: Inode, path: Path | None, flags: int) -> None:
        super().__init__(inode, path, flags, FMode.LSEEK | FMode.PREAD | FMode.PWRITE)
        self.entries: list[tuple[int, int, int, bytes]] = []  # as `iterate` returns them

    def read(self, task: Task, count: int, pos: int) -> bytes:
        """Source: ``fs/libfs.c:generic_read_dir``."""
        raise KernelError(Errno.EISDIR)

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Source: ``fs/libfs.c:dcache_dir_lseek``."""
        pos = offset + self.f_pos if whence == SEEK_CUR else offset
        if whence not in (SEEK_SET, SEEK_CUR) or not 0 <= pos <= MAX_LFS_FILESIZE:
            raise KernelError(Errno.EINVAL)
        self.f_pos = pos
        return pos

    def iterate(self, task: Task) -> list[tuple[int, int, int, bytes]]:
        """Source: ``fs/libfs.c:dcache_readdir``."""
        if self.inode.nlink == 0:
            raise KernelError(Errno.ENOENT)
        if self.f_pos == 0:
            path = self.f_path
            assert path is not None
            found = [(self.inode.ino, DT_DIR, b"."), (path.dentry.parent.inode.ino, DT_DIR, b"..")]
            found += self.inode.readdir(task)
            self.entries = [(ino, pos, kind, name) for pos, (ino, kind, name) in enumerate(found, 1)]
        return self.entries[self.f_pos :] if self.f_pos else self.entries


@syscall("getdents64")
def sys_getdents64(task: Task, fd: Fd, dirent: Buf, count: UInt) -> Result:
    """Source: ``fs/readdir.c:getdents64``."""
    return iterate_dir(task, fd, dirent, count, pack_dirent64)


def iterate_dir(task: Task, fd: int, dirent: int, count: int, pack: Pack) -> int:
    """Fill ``count`` bytes at ``dirent`` with entries; EINVAL when not even one fits. Source: ``fs/readdir.c:iterate_dir``."""
    assert task.files is not None
    file = task.files.fget(fd)
    entries = file.iterate(task)
    packed: list[bytes] = []
    room = count
    pos = file.f_pos
    for ino, next_pos, kind, name in entries:
        record = pack(ino, next_pos, kind, name)
        if len(record) > room:
            if not packed:
                raise KernelError(Errno.EINVAL)
            break
        packed.append(record)
        room -= len(record)
        pos = next_pos
    data = b"".join(packed)
    copy_to_user(task, dirent, data)
    file.f_pos = pos
    return len(data)


def pack_dirent64(ino: int, next_pos: int, kind: int, name: bytes) -> bytes:
    """``struct linux_dirent64``."""
    length = (_DIRENT64.size + len(name) + 1 + 7) & ~7
    return (_DIRENT64.pack(ino, next_pos, length, kind) + name).ljust(length, b"\0")


def pack_dirent(ino: int, next_pos: int, kind: int, name: bytes) -> bytes:
    """``struct linux_dirent``, of the older call."""
    length = (_DIRENT.size + len(name) + 2 + 7) & ~7
    return (_DIRENT.pack(ino, next_pos, length) + name).ljust(length - 1, b"\0") + bytes([kind])
