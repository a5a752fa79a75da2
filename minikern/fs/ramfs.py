"""File systems in memory: /dev, /dev/shm, tmpfs mounts, and whatever the overlay adds to the host's tree.

Mirrors ``fs/ramfs/inode.c`` and ``mm/shmem.c``. A file's contents are its page cache, a directory is a dict. Left out:
size limits of single mounts, quotas.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.fs.attr import Attr, Iattr
from minikern.fs.file import File
from minikern.fs.inode import Inode, current_time, mode_dt
from minikern.fs.regular import RegularInode
from minikern.fs.super import Kstatfs, SuperBlock
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.mm.filemap import AddressSpace

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

TMPFS_MAGIC = 0x01021994
_BOGO_DIRENT_SIZE = 20  # what an entry adds to the size of a directory of tmpfs


class RamSuper(SuperBlock):
    """A file system whose files are all in memory."""

    dir_size = 2 * _BOGO_DIRENT_SIZE  # bytes that an empty directory shows
    dirent_size = _BOGO_DIRENT_SIZE

    def __init__(self, kernel: Kernel, fstype: str = "tmpfs", dev: int | None = None, mode: int = 0o1777) -> None:
        super().__init__(kernel, fstype, TMPFS_MAGIC, dev)
        if dev is None:
            root = RamDir(self, self.next_ino(), stat.S_IFDIR | mode)
            root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = current_time(kernel)
            self.set_root(root)

    def new_inode(self, task: Task, directory: Inode, mode: int, rdev: int = 0) -> Inode:
        """A new file of the type in ``mode``, owned as one made in ``directory``. Source: ``mm/shmem.c:shmem_get_inode``."""
        mode, gid = inode_init_owner(task, directory, mode)
        ino, uid = self.next_ino(), task.cred.fsuid
        inode: Inode
        match stat.S_IFMT(mode):
            case stat.S_IFREG:
                inode = RamFile(self, ino, mode, uid, gid)
            case stat.S_IFDIR:
                inode = RamDir(self, ino, mode, uid, gid)
            case stat.S_IFLNK:
                inode = RamSymlink(self, ino, mode, uid, gid)
            case _:
                inode = RamSpecial(self, ino, mode, uid, gid, rdev)
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = current_time(self.kernel)
        return inode

    def kill(self) -> None:
        """Everything in it is lost; what is open lives until it is closed. Source: ``fs/super.c:kill_litter_super``."""
        todo = [self.root.inode]
        for inode in todo:
            if isinstance(inode, RamDir):
                todo += [each for each in inode.entries.values() if each is not None]
                inode.entries.clear()
            elif inode.nlink:
                inode.drop_nlink()

    def statfs(self) -> Kstatfs:
        """Half of memory, as tmpfs gives itself by default. Source: ``mm/shmem.c:shmem_statfs``."""
        frames = self.kernel.frames
        blocks = frames.total // 2
        free = min(blocks, frames.nr_free)
        return Kstatfs(self.magic, blocks=blocks, bfree=free, bavail=free, files=blocks, ffree=blocks - self.last_ino)


def inode_init_owner(task: Task, directory: Inode, mode: int) -> tuple[int, int]:
    """Mode and group of a new file in ``directory``. Source: ``fs/inode.c:inode_init_owner``, ``mode_strip_sgid``."""
    if not directory.mode & stat.S_ISGID:
        return mode, task.cred.fsgid
    if stat.S_ISDIR(mode):
        mode |= stat.S_ISGID
    elif (
        mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID | stat.S_IXGRP
        and not task.cred.in_group(directory.gid)
        and not capable(task, Cap.FSETID)
    ):
        mode &= ~stat.S_ISGID
    return mode, directory.gid


class RamInode(Inode):
    """What all inodes in memory have in common: extended attributes that anybody can set."""

    __slots__ = ()

    def listxattr(self, task: Task) -> list[bytes]:
        """Source: ``fs/xattr.c:simple_xattr_list``."""
        return list(self.xattrs or ())

    def getxattr(self, task: Task, name: bytes) -> bytes:
        """Source: ``fs/xattr.c:simple_xattr_get``."""
        if self.xattrs is None or name not in self.xattrs:
            raise KernelError(Errno.ENODATA)
        return self.xattrs[name]

    def setxattr(self, task: Task, name: bytes, value: bytes | None) -> None:
        """Source: ``fs/xattr.c:simple_xattr_set``."""
        self.mark_dirty()
        if self.xattrs is None:
            self.xattrs = {}
        if value is not None:
            self.xattrs[name] = value
        elif self.xattrs.pop(name, None) is None:
            raise KernelError(Errno.ENODATA)
        self.ctime_ns = current_time(self.sb.kernel)


@fast_flags
class Seal(IntFlag):
    """What can no longer be done with a file in memory (``F_SEAL_*``)."""

    SEAL = 0x01  # add seals
    SHRINK = 0x02
    GROW = 0x04
    WRITE = 0x08
    FUTURE_WRITE = 0x10  # … except through mappings that exist
    EXEC = 0x20  # change the execute bits


class RamFile(RegularInode, RamInode):
    """A regular file in memory."""

    __slots__ = ("seals",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, ino, mode, uid, gid)
        self.mapping = AddressSpace(sb.kernel, self, backed=False)
        self.seals = Seal.SEAL

    def check_seals(self, *, write: bool = False, size: int | None = None) -> None:
        """Source: ``mm/shmem.c:shmem_write_begin``, ``shmem_setattr``."""
        if self.seals <= Seal.SEAL:
            return
        if write and self.seals & (Seal.WRITE | Seal.FUTURE_WRITE):
            raise KernelError(Errno.EPERM)
        if size is not None and (
            (size > self.size and self.seals & Seal.GROW) or (size < self.size and self.seals & Seal.SHRINK)
        ):
            raise KernelError(Errno.EPERM)

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Source: ``mm/shmem.c:shmem_setattr``."""
        if attr.valid & Attr.SIZE:
            self.check_seals(size=attr.size)
        if attr.valid & Attr.MODE and self.seals & Seal.EXEC and (attr.mode ^ self.mode) & 0o111:
            raise KernelError(Errno.EPERM)
        super().setattr(task, attr)


class RamSymlink(RamInode):
    """A symbolic link in memory."""

    __slots__ = ("target",)

    def __init__(self, sb: SuperBlock, ino: int, mode: int, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, ino, mode, uid, gid)
        self.target = b""

    def get_link(self, task: Task) -> bytes:
        """Where it points."""
        return self.target


class RamSpecial(RamInode):
    """A FIFO, a socket or a device node."""

    __slots__ = ()

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/inode.c:init_special_inode``."""
        if stat.S_ISFIFO(self.mode):
            from minikern.fs.pipe import fifo_open

            return fifo_open(task, self, path, flags)
        if stat.S_ISCHR(self.mode):
            from minikern.fs.char_dev import chrdev_open

            return chrdev_open(task, self, path, flags)
        raise KernelError(Errno.ENXIO)


class RamDir(RamInode):
    """A directory in memory."""

    __slots__ = ("entries",)

    sb: RamSuper

    def __init__(self, sb: RamSuper, ino: int, mode: int, uid: int = 0, gid: int = 0) -> None:
        super().__init__(sb, ino, mode, uid, gid)
        self.entries: dict[bytes, Inode | None] = {}  # None: the name is gone although it exists below
        self.nlink = 2
        self.size = sb.dir_size

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/libfs.c:simple_lookup``."""
        return self.entries.get(name)

    def is_empty(self) -> bool:
        """Whether it could be removed. Source: ``fs/libfs.c:simple_empty``."""
        return not self.entries

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Oldest first."""
        return [(inode.ino, mode_dt(inode.mode), name) for name, inode in self.entries.items() if inode is not None]

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)

    def create(self, task: Task, name: bytes, mode: int, rdev: int = 0) -> Inode:
        """Source: ``mm/shmem.c:shmem_mknod``."""
        return self._insert(name, self.sb.new_inode(task, self, mode, rdev))

    def mkdir(self, task: Task, name: bytes, mode: int) -> Inode:
        """Source: ``mm/shmem.c:shmem_mkdir``."""
        inode = self._insert(name, self.sb.new_inode(task, self, stat.S_IFDIR | mode))
        self.nlink += 1
        return inode

    def symlink(self, task: Task, name: bytes, target: bytes) -> Inode:
        """Source: ``mm/shmem.c:shmem_symlink``."""
        inode = self.sb.new_inode(task, self, stat.S_IFLNK | 0o777)
        assert isinstance(inode, RamSymlink)
        inode.target = target
        inode.size = len(target)
        return self._insert(name, inode)

    def tmpfile(self, task: Task, mode: int) -> Inode:
        """Source: ``mm/shmem.c:shmem_tmpfile``."""
        inode = self.sb.new_inode(task, self, mode)
        inode.nlink = 0
        inode.linkable = True
        return inode

    def link(self, task: Task, inode: Inode, name: bytes) -> None:
        """Source: ``mm/shmem.c:shmem_link``."""
        inode.mark_dirty()
        inode.nlink += 1
        inode.ctime_ns = current_time(self.sb.kernel)
        self._insert(name, inode)

    def unlink(self, task: Task, name: bytes, inode: Inode) -> None:
        """Source: ``mm/shmem.c:shmem_unlink``."""
        self._remove(name)
        inode.drop_nlink()

    def rmdir(self, task: Task, name: bytes, inode: Inode) -> None:
        """Source: ``mm/shmem.c:shmem_rmdir``."""
        assert isinstance(inode, RamDir)
        if not inode.is_empty():
            raise KernelError(Errno.ENOTEMPTY)
        self._remove(name)
        self.nlink -= 1
        inode.mark_dirty()
        inode.nlink = 1
        inode.drop_nlink()

    def rename(
        self,
        task: Task,
        name: bytes,
        inode: Inode,
        new_dir: Inode,
        new_name: bytes,
        target: Inode | None,
        *,
        exchange: bool,
    ) -> None:
        """Source: ``mm/shmem.c:shmem_rename2``."""
        assert isinstance(new_dir, RamDir)
        if exchange:
            assert target is not None
            self._insert(name, target)
            new_dir._insert(new_name, inode)
            gained = stat.S_ISDIR(target.mode) - stat.S_ISDIR(inode.mode)
            self.nlink += gained
            new_dir.nlink -= gained
            target.mark_dirty()
            target.ctime_ns = self.ctime_ns
        else:
            if target is not None and stat.S_ISDIR(target.mode):
                new_dir.rmdir(task, new_name, target)
            elif target is not None:
                new_dir.unlink(task, new_name, target)
            self._remove(name)
            new_dir._insert(new_name, inode)
            if stat.S_ISDIR(inode.mode):
                self.nlink -= 1
                new_dir.nlink += 1
        inode.mark_dirty()
        inode.ctime_ns = self.ctime_ns

    def blocks(self) -> int:
        """A directory of tmpfs takes none; elsewhere what its size needs."""
        return 0 if self.sb.dirent_size else (self.size + 511) // 512

    def _insert(self, name: bytes, inode: Inode) -> Inode:
        self._changed(self.entries.get(name) is None)
        self.entries[name] = inode
        return inode

    def _remove(self, name: bytes) -> None:
        self._changed(-1)
        self._forget(name)

    def _forget(self, name: bytes) -> None:
        del self.entries[name]

    def _changed(self, entries: int) -> None:
        """So many entries came: note it in the attributes."""
        self.mark_dirty()
        self.size += entries * self.sb.dirent_size
        self.mtime_ns = self.ctime_ns = current_time(self.sb.kernel)
