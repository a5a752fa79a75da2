"""/proc/PID: the directory of a process or thread, and which entries it has.

Mirrors ``fs/proc/base.c``. What the files show is in `proc_array`, `proc_task_mmu` and `proc_fd`. A directory is there as
long as the number is in use, zombies included; one that somebody still stands in fails with ESRCH or ENOENT afterwards.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs import proc_array, proc_task_mmu
from minikern.fs.file import File, FMode
from minikern.fs.inode import Inode, mode_dt
from minikern.fs.path import Path, d_path
from minikern.fs.proc_fd import FdDir, FdInfoDir
from minikern.fs.procfs import ProcDir, ProcInode, SeqFile, Show, Store
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.pid import find_task
from minikern.kernel.ptrace_access import ptrace_may_access
from minikern.kernel.task import PidType, Task
from minikern.mm.uaccess import access_remote_vm

if TYPE_CHECKING:
    from minikern.fs.attr import Iattr
    from minikern.fs.super import SuperBlock
    from minikern.kernel.pid import Pid

ShowTask = Callable[[Task, Task], str | bytes]  # (who reads, whom it is about)
StoreTask = Callable[[Task, Task, bytes], None]  # (who writes, whom it is about, what)
LinkTask = Callable[[Task], Path | None]  # where a magic link of a task leads


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the directory of a task (``struct pid_entry``)."""

    name: bytes
    mode: int  # permissions
    show: ShowTask | None = None  # a file …
    store: StoreTask | None = None
    link: LinkTask | None = None  # … or a magic link …
    make: Callable[[PidDir], Inode] | None = None  # … or something else
    guarded: bool = False  # reading is for those who may trace the task
    thread_only: bool = False  # not in the directory of a process
    group_only: bool = False  # not in the directories of threads


class PidInode(ProcInode):
    """An inode that belongs to a task: owned by its user."""

    __slots__ = ("directory",)

    def __init__(self, directory: PidDir, mode: int) -> None:
        super().__init__(directory.sb, mode)
        self.directory = directory
        self.revalidate()

    def revalidate(self) -> None:
        """Be owned by whoever the task is now. Source: ``fs/proc/base.c:task_dump_owner``."""
        task = self.directory.task()
        if task is None:
            return
        cred = task.cred
        if task.mm is not None and task.dumpable != 1 and stat.S_IMODE(self.mode) != 0o555:
            self.uid, self.gid = 0, 0
        else:
            self.uid, self.gid = cred.euid, cred.egid


class PidFile(PidInode):
    """A file about a task."""

    __slots__ = ("entry",)

    def __init__(self, directory: PidDir, entry: Entry) -> None:
        super().__init__(directory, stat.S_IFREG | entry.mode)
        self.entry = entry

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/proc/base.c:proc_single_open``."""
        show: Show = partial(_show, self.directory, self.entry)
        store: Store | None = partial(_store, self.directory, self.entry) if self.entry.store is not None else None
        return SeqFile(self, path, flags, show, store)

    def setattr(self, task: Task, attr: Iattr) -> None:
        """Only O_TRUNC gets as far as this."""

    def truncate(self, size: int) -> None:
        """Opening with O_TRUNC means nothing here."""


def _show(directory: PidDir, entry: Entry, reader: Task) -> str | bytes:
    target = directory.get_task()
    if entry.guarded and not ptrace_may_access(reader, target, fscreds=True):
        raise KernelError(Errno.EACCES)
    assert entry.show is not None
    return entry.show(reader, target)


def _store(directory: PidDir, entry: Entry, writer: Task, data: bytes) -> None:
    assert entry.store is not None
    entry.store(writer, directory.get_task(), data)


class PidLink(PidInode):
    """A magic link of a task: it leads to the place itself, whatever that is called."""

    __slots__ = ("leads_to",)

    def __init__(self, directory: PidDir, entry: Entry) -> None:
        super().__init__(directory, stat.S_IFLNK | entry.mode)
        assert entry.link is not None
        self.leads_to: LinkTask = entry.link

    def get_link(self, task: Task) -> Path:
        """Source: ``fs/proc/base.c:proc_pid_get_link``."""
        target = self.directory.get_task()
        if not ptrace_may_access(task, target, fscreds=True):
            raise KernelError(Errno.EACCES)
        path = self.leads_to(target)
        if path is None:
            raise KernelError(Errno.ENOENT)
        return path

    def readlink(self, task: Task) -> bytes:
        """Source: ``fs/proc/base.c:proc_pid_readlink``."""
        assert task.fs is not None
        return d_path(self.get_link(task), task.fs.root)


class PidDir(ProcInode):
    """The directory of one task."""

    fastperm = False
    __slots__ = ("children", "is_group", "pid")

    def __init__(self, sb: SuperBlock, pid: Pid, *, is_group: bool) -> None:
        super().__init__(sb, stat.S_IFDIR | 0o555)
        self.pid = pid
        self.is_group = is_group  # of a process; else of a single thread, below /proc/PID/task
        self.children: dict[bytes, Inode] = {}  # what was looked at already
        self.nlink = 9 if is_group else 7
        self.revalidate()

    def revalidate(self) -> None:
        """Be owned by whoever the task is now."""
        task = self.task()
        if task is not None:
            self.uid, self.gid = task.cred.euid, task.cred.egid

    def task(self) -> Task | None:
        """Who it is about, as long as the number is in use."""
        return self.pid.task(PidType.PID)

    def get_task(self) -> Task:
        """The same; ESRCH. Source: ``fs/proc/internal.h:get_proc_task``."""
        task = self.task()
        if task is None:
            raise KernelError(Errno.ESRCH)
        return task

    def permission(self, task: Task, mask: int) -> None:
        """Nothing is found below a process that is gone. Source: ``fs/proc/base.c:proc_pid_permission``."""
        self.get_task()
        super().permission(task, mask)

    def entries(self) -> list[Entry]:
        """What is in it."""
        return [entry for entry in ENTRIES if not (entry.group_only if not self.is_group else entry.thread_only)]

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/proc/base.c:proc_pident_lookup``."""
        if self.task() is None:
            return None
        inode = self.children.get(name)
        if inode is None:
            entry = next((entry for entry in self.entries() if entry.name == name), None)
            if entry is None:
                return None
            inode = self.children[name] = self._make(entry)
        if isinstance(inode, PidInode | PidDir):
            inode.revalidate()
        return inode

    def _make(self, entry: Entry) -> Inode:
        if entry.make is not None:
            return entry.make(self)
        return PidFile(self, entry) if entry.show is not None else PidLink(self, entry)

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Source: ``fs/proc/base.c:proc_pident_readdir``."""
        self.get_task()
        listed = []
        for entry in self.entries():
            inode = self.lookup(task, entry.name)
            if inode is not None:
                listed.append((inode.ino, mode_dt(inode.mode), entry.name))
        return listed

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)


class TaskDir(PidInode):
    """/proc/PID/task: the threads of a process."""

    __slots__ = ("threads",)

    def __init__(self, directory: PidDir) -> None:
        super().__init__(directory, stat.S_IFDIR | 0o555)
        self.nlink = 3
        self.threads: dict[Pid, PidDir] = {}

    def _directory(self, thread: Task) -> PidDir:
        pid = thread.thread_pid
        assert pid is not None
        if pid not in self.threads:
            self.threads[pid] = PidDir(self.sb, pid, is_group=False)
        return self.threads[pid]

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/proc/base.c:proc_task_lookup``."""
        leader = self.directory.task()
        nr = name_to_int(name)
        thread = find_task(task.kernel, nr) if nr is not None else None
        if leader is None or thread is None or thread.signal is not leader.signal:
            return None
        directory = self._directory(thread)
        directory.revalidate()
        return directory

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Source: ``fs/proc/base.c:proc_task_readdir``."""
        threads = [each for each in self.directory.get_task().signal.threads if each.thread_pid is not None]
        self.nlink = 2 + len(threads)
        self.threads = {pid: each for pid, each in self.threads.items() if pid.task(PidType.PID) is not None}
        return [(self._directory(each).ino, stat.S_IFDIR >> 12, b"%d" % each.pid) for each in threads]

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/libfs.c:dcache_dir_open``."""
        from minikern.fs.readdir import DirFile

        return DirFile(self, path, flags)


class ProcRoot(ProcDir):
    """/proc itself: a directory for every process over what is always there."""

    __slots__ = ("processes",)

    def __init__(self, sb: SuperBlock) -> None:
        super().__init__(sb)
        self.processes: dict[Pid, PidDir] = {}

    def _directory(self, pid: Pid) -> PidDir:
        if pid not in self.processes:
            self.processes[pid] = PidDir(self.sb, pid, is_group=True)
        return self.processes[pid]

    def lookup(self, task: Task, name: bytes) -> Inode | None:
        """Source: ``fs/proc/root.c:proc_root_lookup``; threads can be looked up too, though they are not listed."""
        nr = name_to_int(name)
        if nr is None:
            return super().lookup(task, name)
        pid = task.kernel.pids.find(nr)
        if pid is None or pid.task(PidType.PID) is None:
            return None
        directory = self._directory(pid)
        directory.revalidate()
        return directory

    def readdir(self, task: Task) -> list[tuple[int, int, bytes]]:
        """Source: ``fs/proc/root.c:proc_root_readdir``."""
        self.processes = {pid: each for pid, each in self.processes.items() if each.task() is not None}
        listed = super().readdir(task)
        for process in task.kernel.pids.all_processes():
            pid = process.signal.pids[PidType.TGID]
            assert pid is not None
            listed.append((self._directory(pid).ino, stat.S_IFDIR >> 12, b"%d" % pid.nr))
        return listed


def name_to_int(name: bytes) -> int | None:
    """The number that a name spells, without leading zeros. Source: ``fs/proc/util.c:name_to_int``."""
    if not name.isdigit() or (name[:1] == b"0" and len(name) > 1) or len(name) > 10:
        return None
    return int(name)


# -- links


def _cwd(task: Task) -> Path | None:
    return task.fs.pwd if task.fs is not None else None


def _root(task: Task) -> Path | None:
    return task.fs.root if task.fs is not None else None


def _exe(task: Task) -> Path | None:
    return task.mm.exe_file.f_path if task.mm is not None and task.mm.exe_file is not None else None


# -- memory


class MemInode(PidInode):
    """/proc/PID/mem."""

    __slots__ = ()

    def __init__(self, directory: PidDir) -> None:
        super().__init__(directory, stat.S_IFREG | 0o600)

    def open(self, task: Task, path: Path, flags: int) -> File:
        """Source: ``fs/proc/base.c:mem_open``."""
        target = self.directory.get_task()
        if not ptrace_may_access(task, target, fscreds=True):
            raise KernelError(Errno.EACCES)
        return MemFile(self, path, flags, target)


class MemFile(File):
    """The memory that a task had when the file was opened; the position is the address."""

    __slots__ = ("mm",)

    def __init__(self, inode: Inode, path: Path, flags: int, target: Task) -> None:
        super().__init__(inode, path, flags, FMode.LSEEK | FMode.PREAD | FMode.PWRITE)
        self.mm = target.mm

    def read(self, task: Task, count: int, pos: int) -> bytes:
        """Source: ``fs/proc/base.c:mem_rw``."""
        if self.mm is None or not self.mm.users or not count:
            return b""
        data = access_remote_vm(self.mm, pos, count, force=True)
        if not data:
            raise KernelError(Errno.EIO)
        return data

    def write(self, task: Task, data: bytes | memoryview, pos: int) -> int:
        """Source: ``fs/proc/base.c:mem_rw``."""
        if self.mm is None or not self.mm.users or not data:
            return 0
        done = len(access_remote_vm(self.mm, pos, bytes(data), force=True))
        if not done:
            raise KernelError(Errno.EIO)
        return done

    def llseek(self, task: Task, offset: int, whence: int) -> int:
        """Source: ``fs/proc/base.c:mem_lseek``."""
        if whence not in (0, 1):
            raise KernelError(Errno.EINVAL)
        self.f_pos = (self.f_pos + offset if whence else offset) & ((1 << 64) - 1)
        return self.f_pos


# Source: ``tgid_base_stuff`` and ``tid_base_stuff``, in their order
ENTRIES = (
    Entry(b"task", 0o555, make=TaskDir, group_only=True),
    Entry(b"fd", 0o500, make=FdDir),
    Entry(b"fdinfo", 0o555, make=FdInfoDir),
    Entry(b"environ", 0o400, proc_task_mmu.show_environ, guarded=True),
    Entry(b"auxv", 0o400, proc_task_mmu.show_auxv, guarded=True),
    Entry(b"status", 0o444, proc_array.show_status),
    Entry(b"personality", 0o400, proc_array.show_personality, guarded=True),
    Entry(b"limits", 0o444, proc_array.show_limits),
    Entry(b"comm", 0o644, proc_array.show_comm, proc_array.store_comm),
    Entry(b"syscall", 0o400, proc_array.show_syscall, guarded=True),
    Entry(b"cmdline", 0o444, proc_task_mmu.show_cmdline),
    Entry(b"stat", 0o444, proc_array.show_tgid_stat, group_only=True),
    Entry(b"stat", 0o444, proc_array.show_tid_stat, thread_only=True),
    Entry(b"statm", 0o444, proc_task_mmu.show_statm),
    Entry(b"maps", 0o444, proc_task_mmu.show_maps, guarded=True),
    Entry(b"children", 0o444, proc_array.show_children, thread_only=True),
    Entry(b"mem", 0o600, make=MemInode),
    Entry(b"cwd", 0o777, link=_cwd),
    Entry(b"root", 0o777, link=_root),
    Entry(b"exe", 0o777, link=_exe),
    Entry(b"mounts", 0o444, proc_array.show_mounts),
    Entry(b"mountinfo", 0o444, proc_array.show_mountinfo),
    Entry(b"smaps", 0o444, proc_task_mmu.show_smaps, guarded=True),
    Entry(b"wchan", 0o444, proc_array.show_wchan),
    Entry(b"oom_score", 0o444, proc_array.show_oom_score),
    Entry(b"oom_score_adj", 0o644, proc_array.show_oom_score_adj, proc_array.store_oom_score_adj),
    Entry(b"loginuid", 0o644, proc_array.show_unset_id),
    Entry(b"sessionid", 0o444, proc_array.show_unset_id),
    Entry(
        b"coredump_filter",
        0o644,
        proc_task_mmu.show_coredump_filter,
        proc_task_mmu.store_coredump_filter,
        group_only=True,
    ),
    Entry(b"io", 0o400, proc_array.show_io, guarded=True),
    Entry(b"timerslack_ns", 0o666, proc_array.show_timerslack, group_only=True),
)
