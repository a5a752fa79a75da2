"""What /proc/PID says of the memory of a task.

Mirrors ``fs/proc/task_mmu.c`` and what of ``fs/proc/base.c`` reads the task's memory. Left out: pagemap, clear_refs,
NUMA maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.fs.kdev_t import major, minor
from minikern.fs.path import d_path
from minikern.fs.procfs import mangle
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.pgtable import PAGE_MASK, PTE_ANON, PTE_W, pte_of
from minikern.mm.uaccess import access_remote_vm
from minikern.mm.vma import VM_EXEC, VM_LOCKED, VM_MAYSHARE, VM_PFNMAP, VM_READ, VM_WRITE, Vma, vma_name

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.mm.mm import Mm

_NAME_COLUMN = 73  # where names begin in maps
_KIB = 1024
_DUMP_FILTER_MASK = 0x1FF  # bits that coredump_filter has


def show_maps(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/task_mmu.c:show_map_vma``."""
    mm = task.mm
    return b"".join(show_map_vma(reader, vma) for vma in mm.vmas) if mm is not None else b""


def show_map_vma(reader: Task, vma: Vma) -> bytes:
    """One line of maps."""
    flags = vma.flags
    rights = "".join(
        letter if flags & bit else "-" for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
    ) + ("s" if flags & VM_MAYSHARE else "p")
    dev = ino = pgoff = 0
    name = vma_name(vma).encode()
    if vma.file is not None:
        dev, ino = vma.file.inode.device(), vma.file.inode.ino
        pgoff = vma.pgoff << PAGE_SHIFT
        if not name:
            path = vma.file.f_path
            assert reader.fs is not None
            text = d_path(path, reader.fs.root) if path is not None else vma.file.d_dname()
            name = mangle(text, b"\n").encode(errors="surrogateescape")
    line = f"{vma.start:08x}-{vma.end:08x} {rights} {pgoff:08x} {major(dev):02x}:{minor(dev):02x} {ino} "
    return (line.ljust(_NAME_COLUMN) if name else line).encode() + name + b"\n"


def show_smaps(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/task_mmu.c:show_smap``."""
    mm = task.mm
    return b"".join(_show_smap(reader, mm, vma) for vma in mm.vmas) if mm is not None else b""


def _show_smap(reader: Task, mm: Mm, vma: Vma) -> bytes:
    refs = mm.kernel.frames.refs
    rss = pss = shared_clean = shared_dirty = private_clean = private_dirty = anonymous = 0
    for vpn in range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT):
        pte = pte_of(mm, vpn)
        if not pte or vma.flags & VM_PFNMAP:
            continue
        sharers = max(refs[(pte & PAGE_MASK) >> PAGE_SHIFT], 1)
        anon = bool(pte & PTE_ANON)
        dirty = anon or bool(pte & PTE_W)
        rss += PAGE_SIZE
        pss += PAGE_SIZE // sharers
        anonymous += PAGE_SIZE if anon else 0
        if sharers > 1 and dirty:
            shared_dirty += PAGE_SIZE
        elif sharers > 1:
            shared_clean += PAGE_SIZE
        elif dirty:
            private_dirty += PAGE_SIZE
        else:
            private_clean += PAGE_SIZE
    sizes = (
        ("Size", vma.end - vma.start),
        ("KernelPageSize", PAGE_SIZE),
        ("MMUPageSize", PAGE_SIZE),
        ("Rss", rss),
        ("Pss", pss),
        ("Pss_Dirty", private_dirty),
        ("Shared_Clean", shared_clean),
        ("Shared_Dirty", shared_dirty),
        ("Private_Clean", private_clean),
        ("Private_Dirty", private_dirty),
        ("Referenced", rss),
        ("Anonymous", anonymous),
        ("KSM", 0),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", pss if vma.flags & VM_LOCKED else 0),
    )
    lines = "".join(f"{name + ':':<15} {size // _KIB:8} kB\n" for name, size in sizes)
    return show_map_vma(reader, vma) + lines.encode() + b"THPeligible:           0\n"


def show_statm(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/array.c:proc_pid_statm``."""
    mm = task.mm
    if mm is None:
        return "0 0 0 0 0 0 0\n"
    text = ((mm.end_code + PAGE_SIZE - 1) >> PAGE_SHIFT) - (mm.start_code >> PAGE_SHIFT)
    shared = mm.rss_file + mm.rss_shmem
    return f"{mm.total_vm} {mm.rss} {shared} {text} 0 {mm.data_vm + mm.stack_vm} 0\n"


def show_coredump_filter(reader: Task, task: Task) -> str:
    """Source: ``fs/proc/base.c:proc_coredump_filter_read``."""
    return f"{task.mm.coredump_filter:08x}\n" if task.mm is not None else ""


def store_coredump_filter(writer: Task, task: Task, data: bytes) -> None:
    """Source: ``fs/proc/base.c:proc_coredump_filter_write``."""
    if task.mm is None:
        raise KernelError(Errno.ESRCH)
    try:
        task.mm.coredump_filter = int(data, 0) & _DUMP_FILTER_MASK
    except ValueError:
        raise KernelError(Errno.EINVAL) from None


# -- the task's own memory


def show_cmdline(reader: Task, task: Task) -> bytes:
    """The arguments as the program left them; a program that wrote over them shows a title instead.

    Source: ``fs/proc/base.c:get_mm_cmdline``.
    """
    mm = task.mm
    if mm is None or not mm.env_end:
        return b""
    arguments = access_remote_vm(mm, mm.arg_start, mm.arg_end - mm.arg_start, force=True)
    if not arguments or arguments.endswith(b"\0"):
        return arguments
    title = arguments
    if mm.env_start == mm.arg_end:  # a long title goes on where the environment was
        title += access_remote_vm(mm, mm.env_start, mm.env_end - mm.env_start, force=True)
    return title.split(b"\0")[0] + (b"\0" if b"\0" in title else b"")


def show_environ(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/base.c:environ_read``."""
    mm = task.mm
    return access_remote_vm(mm, mm.env_start, mm.env_end - mm.env_start, force=True) if mm is not None else b""


def show_auxv(reader: Task, task: Task) -> bytes:
    """Source: ``fs/proc/base.c:auxv_read``."""
    return task.mm.saved_auxv if task.mm is not None else b""
