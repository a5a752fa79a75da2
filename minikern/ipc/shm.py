"""System V shared memory.

Mirrors ``ipc/shm.c``. A segment is a file in memory that only shmat can map; it knows how many areas show it, and one
that is marked for removal goes with the last of them. A dying process detaches by losing its address space.
Left out: huge pages, shm_rmid_forced; locking a segment changes only what is reported.
"""

from __future__ import annotations

import stat
import struct
from enum import IntEnum, IntFlag
from functools import partial
from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.fs.file import File, FMode, OpenFlag
from minikern.fs.ramfs import TMPFS_MAGIC, RamFile
from minikern.fs.super import SuperBlock
from minikern.ipc.util import IPC_PERM_SIZE, IpcCmd, IpcPerm, Want, ipcperms, now_s
from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.resource import Rlimit
from minikern.kernel.syscalls import Int, Ptr, Size, syscall
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap, do_munmap
from minikern.mm.pgtable import OFFSET_MASK, PAGE_MASK, page_align
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern.mm.vma import Vma, find_vma_intersection, vmas_between

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.filemap import AddressSpace

SHMMIN = 1
SHMMAX = (1 << 64) - 1 - (1 << 24)  # bytes of a segment
SHMALL = SHMMAX  # pages of all together
_SHM_DEST = 0o1000  # mode: to be destroyed with the last detach
_SHM_LOCKED = 0o2000  # mode: shall not be swapped
_SHMID_DS = struct.Struct("<Qqqqiiq16x")  # struct shmid64_ds behind its ipc64_perm
_SHMINFO = struct.Struct("<5Q32x")  # struct shminfo64
_SHM_INFO = struct.Struct("<i4x5Q")  # struct shm_info
assert IPC_PERM_SIZE + _SHMID_DS.size == 112 and _SHMINFO.size == 72 and _SHM_INFO.size == 48


@fast_flags
class ShmFlag(IntFlag):
    """Flags of shmget (HUGETLB, NORESERVE) and shmat (the others)."""

    HUGETLB = 0o4000
    RDONLY = 0o10000
    NORESERVE = 0o10000
    RND = 0o20000
    REMAP = 0o40000
    EXEC = 0o100000


class ShmCmd(IntEnum):
    """Commands of shmctl beside `IpcCmd`."""

    LOCK = 11
    UNLOCK = 12
    STAT = 13
    INFO = 14
    STAT_ANY = 15


class ShmSegment:
    """One segment (``struct shmid_kernel``), which hears of every area that shows it (``struct vm_operations_struct``)."""

    __slots__ = ("atime_s", "cpid", "ctime_s", "dtime_s", "inode", "kernel", "lpid", "nattch", "perm", "size")

    def __init__(self, task: Task, perm: IpcPerm, size: int) -> None:
        self.kernel: Kernel = task.kernel
        self.perm = perm
        self.size = size  # bytes, as asked for
        self.atime_s = 0  # last attach, detach and change
        self.dtime_s = 0
        self.ctime_s = now_s(task)
        self.cpid = task.tgid  # creator
        self.lpid = 0  # last to attach or detach
        self.nattch = 0  # areas that show it, and shmat calls in flight
        self.inode = RamFile(_shm_mnt(task.kernel), 0, stat.S_IFREG | perm.mode, perm.uid, perm.gid)
        self.inode.size = page_align(size)

    def open(self, vma: Vma) -> None:
        """One more area shows it. Source: ``ipc/shm.c:shm_open``."""
        self.nattch += 1
        self._touch()
        self.atime_s = self._now_s()

    def close(self, vma: Vma) -> None:
        """An area is gone. Source: ``ipc/shm.c:shm_close``."""
        self._touch()
        self.dtime_s = self._now_s()
        self.put()

    def put(self) -> None:
        """One attach less; the last one takes a segment along that is to be destroyed. Source: ``ipc/shm.c:__shm_close``."""
        self.nattch -= 1
        if not self.nattch and self.perm.mode & _SHM_DEST:
            self.destroy()

    def destroy(self) -> None:
        """Id and memory are free. Source: ``ipc/shm.c:shm_destroy``."""
        self.kernel.ipc.shm.remove(self)
        self.inode.mapping.evict()

    def _touch(self) -> None:
        current = self.kernel.sched.current
        if current is not None:
            self.lpid = current.tgid

    def _now_s(self) -> int:
        return self.kernel.sources.realtime_ns() // 10**9

    @property
    def nr_pages(self) -> int:
        """Its size in pages."""
        return self.inode.size >> PAGE_SHIFT

    def pack(self) -> bytes:
        """``struct shmid64_ds``."""
        fields = (self.size, self.atime_s, self.dtime_s, self.ctime_s, self.cpid, self.lpid, self.nattch)
        return self.perm.pack() + _SHMID_DS.pack(*fields)


class ShmFile(File):
    """What an attached area shows."""

    __slots__ = ("segment",)

    def __init__(self, segment: ShmSegment, flags: int, mode: FMode) -> None:
        super().__init__(segment.inode, None, flags, mode)
        self.segment = segment

    def mmap(self, task: Task, vma: Vma) -> AddressSpace | None:
        """Source: ``ipc/shm.c:shm_mmap``."""
        vma.ops = self.segment
        self.segment.open(vma)
        return self.inode.mapping

    def d_dname(self) -> bytes:
        """What /proc/PID/maps shows."""
        return b"/SYSV%08x (deleted)" % (self.segment.perm.key & 0xFFFFFFFF)


def _shm_mnt(kernel: Kernel) -> SuperBlock:
    if kernel.ipc.shm_mnt is None:
        kernel.ipc.shm_mnt = SuperBlock(kernel, "tmpfs", TMPFS_MAGIC)
    return kernel.ipc.shm_mnt


@syscall("shmget", partial="no huge pages")
def sys_shmget(task: Task, key: Int, size: Size, shmflg: Int) -> Result:
    """Source: ``ipc/shm.c:ksys_shmget``."""
    create, check = partial(_newseg, task, key, size, shmflg), partial(_shm_more_checks, size)
    return task.kernel.ipc.shm.get(task, key, shmflg, create, check)


def _newseg(task: Task, key: int, size: int, shmflg: int) -> ShmSegment:
    """Source: ``ipc/shm.c:newseg``."""
    if not SHMMIN <= size <= SHMMAX:
        raise KernelError(Errno.EINVAL)
    used = sum(each.nr_pages for each in task.kernel.ipc.shm.slots.values())
    if used + (page_align(size) >> PAGE_SHIFT) > SHMALL:
        raise KernelError(Errno.ENOSPC)
    if shmflg & ShmFlag.HUGETLB:
        raise KernelError(Errno.ENOMEM)  # no huge page was set aside
    if page_align(size) >> PAGE_SHIFT > task.kernel.frames.total and not shmflg & ShmFlag.NORESERVE:
        raise KernelError(Errno.ENOMEM)
    return ShmSegment(task, IpcPerm.new(task, key, shmflg & 0o777), size)


def _shm_more_checks(size: int, segment: ShmSegment) -> None:
    if segment.size < size:
        raise KernelError(Errno.EINVAL)


@syscall("shmat")
def sys_shmat(task: Task, shmid: Int, shmaddr: Ptr, shmflg: Int) -> Result:
    """Map a segment; returns where. Source: ``ipc/shm.c:do_shmat``."""
    addr = shmaddr
    if addr & OFFSET_MASK:
        if not shmflg & ShmFlag.RND:
            raise KernelError(Errno.EINVAL)
        addr &= PAGE_MASK
    if not addr and shmflg & ShmFlag.REMAP:
        raise KernelError(Errno.EINVAL)
    prot, wanted, mode = Prot.READ, Want.READ, FMode.READ
    if not shmflg & ShmFlag.RDONLY:
        prot, wanted, mode = prot | Prot.WRITE, wanted | Want.WRITE, mode | FMode.WRITE
    if shmflg & ShmFlag.EXEC:
        prot, wanted = prot | Prot.EXEC, wanted | Want.EXEC

    segment = task.kernel.ipc.shm.obtain(shmid)
    ipcperms(task, segment.perm, wanted)
    segment.nattch += 1  # so that it cannot go while it is being mapped
    file = ShmFile(segment, OpenFlag.RDWR if mode & FMode.WRITE else OpenFlag.RDONLY, mode)
    try:
        assert task.mm is not None
        if addr and not shmflg & ShmFlag.REMAP:
            if addr + segment.inode.size >= 1 << 64 or find_vma_intersection(task.mm, addr, addr + segment.inode.size):
                raise KernelError(Errno.EINVAL)
        flags = Map.SHARED | (Map.FIXED if addr else 0)
        return do_mmap(task, file, addr, segment.inode.size, prot, flags, 0)
    finally:
        file.fput()
        segment.put()


@syscall("shmdt")
def sys_shmdt(task: Task, shmaddr: Ptr) -> Result:
    """Unmap every area of the attach that begins at ``shmaddr``. Source: ``ipc/shm.c:ksys_shmdt``."""
    if shmaddr & OFFSET_MASK:
        raise KernelError(Errno.EINVAL)
    mm = task.mm
    assert mm is not None
    attached: File | None = None
    for vma in vmas_between(mm, shmaddr, 1 << 64):
        if isinstance(vma.file, ShmFile) and vma.start - shmaddr == vma.pgoff * PAGE_SIZE:
            if attached is None:
                attached = vma.file
            if vma.file is attached:
                do_munmap(mm, vma.start, vma.end - vma.start)
    if attached is None:
        raise KernelError(Errno.EINVAL)
    return 0


@syscall("shmctl")
def sys_shmctl(task: Task, shmid: Int, cmd: Int, buf: Ptr) -> Result:
    """Source: ``ipc/shm.c:ksys_shmctl``."""
    if cmd < 0 or shmid < 0:
        raise KernelError(Errno.EINVAL)
    ids = task.kernel.ipc.shm
    match cmd:
        case IpcCmd.INFO:
            shmseg = ids.limit
            copy_to_user(task, buf, _SHMINFO.pack(SHMMAX, SHMMIN, ids.limit, shmseg, SHMALL))
            return ids.max_index
        case ShmCmd.INFO:
            total = sum(each.nr_pages for each in ids.slots.values())
            resident = sum(each.inode.mapping.nr_pages for each in ids.slots.values())
            copy_to_user(task, buf, _SHM_INFO.pack(len(ids.slots), total, resident, 0, 0, 0))
            return ids.max_index
        case IpcCmd.STAT | ShmCmd.STAT | ShmCmd.STAT_ANY:
            segment = ids.obtain(shmid) if cmd == IpcCmd.STAT else ids.obtain_index(shmid)
            if cmd != ShmCmd.STAT_ANY:
                ipcperms(task, segment.perm, Want.READ)
            copy_to_user(task, buf, segment.pack())
            return 0 if cmd == IpcCmd.STAT else segment.perm.id
        case IpcCmd.SET:
            data = copy_from_user(task, buf, IPC_PERM_SIZE + _SHMID_DS.size)
            segment = ids.obtain_owned(task, shmid)
            segment.perm.update(data)
            segment.ctime_s = now_s(task)
        case IpcCmd.RMID:
            _do_shm_rmid(ids.obtain_owned(task, shmid))
        case ShmCmd.LOCK | ShmCmd.UNLOCK:
            _shm_lock(task, ids.obtain(shmid), lock=cmd == ShmCmd.LOCK)
        case _:
            raise KernelError(Errno.EINVAL)
    return 0


def _do_shm_rmid(segment: ShmSegment) -> None:
    """Destroy it, or see to it that the last detach does; the key is free at once. Source: ``ipc/shm.c:do_shm_rmid``."""
    if segment.nattch:
        segment.perm.mode |= _SHM_DEST
        segment.perm.key = 0
    else:
        segment.destroy()


def _shm_lock(task: Task, segment: ShmSegment, *, lock: bool) -> None:
    """There is no swap, so only the flag changes."""
    if not capable(task, Cap.IPC_LOCK):
        if task.cred.euid not in (segment.perm.uid, segment.perm.cuid):
            raise KernelError(Errno.EPERM)
        if lock and not task.signal.rlim.cur(Rlimit.MEMLOCK):
            raise KernelError(Errno.EPERM)
    segment.perm.mode = segment.perm.mode | _SHM_LOCKED if lock else segment.perm.mode & ~_SHM_LOCKED
