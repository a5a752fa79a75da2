"""A machine with a file system and one process, but no processor: system calls are called as the entry code would."""

from __future__ import annotations

import os
from typing import Any

from minikern.fs.anon_inodes import PseudoFilesystems
from minikern.fs.char_dev import CharDevices
from minikern.fs.devpts import DevPts
from minikern.fs.do_mounts import mount_root
from minikern.fs.file import FilesStruct
from minikern.fs.fs_struct import FsStruct
from minikern.fs.kstat import Kstat
from minikern.fs.namespace import MountNamespace
from minikern.host.sources import HostSources
from minikern.kernel.config import Config
from minikern.kernel.cred import CAP_FULL_SET, Cred
from minikern.kernel.errno import KernelError
from minikern.kernel.pid import Pid, PidMap
from minikern.kernel.sched import Sched
from minikern.kernel.syscalls import all_syscalls
from minikern.kernel.task import PidType, Task
from minikern.kernel.timers import TimerQueue
from minikern.kernel.waitqueue import Wait
from minikern.mm.mmap import do_mmap
from minikern.mm.uaccess import copy_from_user, copy_to_user
from tests.mm.fakes import FakeArch, Machine

_BUFFER_BYTES = 1 << 20
_MAP_PRIVATE_ANONYMOUS = 0x22
_PROT_READ_WRITE = 3


class FsArch(FakeArch):
    """Flags and layouts of a guest whose own are the generic ones."""

    def open_flags(self, flags: int) -> int:
        return flags

    def guest_open_flags(self, flags: int) -> int:
        return flags & 0o37777777

    def pack_stat(self, kstat: Kstat) -> bytes:
        self.kstat = kstat
        return b"stat"


class FsMachine(Machine):
    """A machine whose root is ``config.root``; `call` is a system call of `task`."""

    def __init__(self, root: str, *, uid: int = 0, **config: Any) -> None:
        super().__init__()
        self.calls = all_syscalls()
        kernel = self.kernel
        self.arch = FsArch(self.cpu)
        kernel.archs["fake"] = self.arch
        kernel.config = Config(root=root, **config)
        kernel.sources = HostSources()
        kernel.timers = TimerQueue()
        kernel.sched = Sched(kernel)
        kernel.pids = PidMap()
        kernel.chrdevs = CharDevices()
        kernel.mounts = MountNamespace()
        kernel.pseudo = PseudoFilesystems(kernel)
        kernel.devpts = DevPts(kernel)
        kernel.init_task = self.task
        kernel.hostname = b"minikern"
        kernel.domainname = b"(none)"
        kernel.sigpending_count = {}
        kernel.total_forks = 0
        kernel.boot_ns = kernel.sources.monotonic_ns()
        kernel.boot_realtime_ns = kernel.sources.realtime_ns()
        self.mode_of_boot = os.umask(0o022)
        self.become(self.task, Cred(cap_permitted=CAP_FULL_SET, cap_effective=CAP_FULL_SET))
        mount_root(kernel)
        self.setup(self.task)
        if uid:
            self.become(self.task, self.user(uid))

    def user(self, uid: int, *groups: int) -> Cred:
        """Credentials of an ordinary user whose group has the same number."""
        return Cred(uid, uid, uid, uid, uid, uid, uid, uid, groups, cap_permitted=0, cap_effective=0)

    def become(self, task: Task, cred: Cred) -> None:
        task.cred = cred

    def setup(self, task: Task) -> None:
        kernel = self.kernel
        root = kernel.mounts.root
        task.arch = self.arch
        task.fs = FsStruct(root, root)
        task.files = FilesStruct()
        task.group_leader = task
        task.exit_signal = 17
        pid: Pid = kernel.pids.alloc_pid()
        task.thread_pid = pid
        for kind in PidType:
            if kind is not PidType.PID:
                task.signal.pids[kind] = pid
            pid.tasks[kind].append(task)
        kernel.sched.current = task
        self.buffer = do_mmap(task, None, 0, 2 * _BUFFER_BYTES, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, 0)
        self.next_string = self.buffer + _BUFFER_BYTES

    def clone(self, *, share_files: bool = False) -> Task:
        """Another process with the same memory, root and descriptors."""
        old = self.task
        assert old.mm is not None and old.files is not None
        task = Task(self.kernel, self.arch, None, mm=old.mm)
        task.signal.threads.append(task)
        buffer, strings = self.buffer, self.next_string
        self.setup(task)
        self.buffer, self.next_string = buffer, strings
        task.cred = old.cred
        task.files = old.files if share_files else old.files.copy()
        return task

    def string(self, text: bytes | str) -> int:
        """The guest address of a string."""
        data = (os.fsencode(text)) + b"\0"
        if self.next_string + len(data) > self.buffer + 2 * _BUFFER_BYTES:
            self.next_string = self.buffer + _BUFFER_BYTES
        address = self.next_string
        copy_to_user(self.task, address, data)
        self.next_string += len(data)
        return address

    def call(self, name: str, *args: Any, task: Task | None = None) -> Any:
        """Call with ints, and strings as pointers; a sleep is returned as its `Wait`, an error as ``-errno``."""
        task = task if task is not None else self.task
        raw = [self.string(arg) if isinstance(arg, (bytes, str)) else arg for arg in args]
        try:
            return self.calls[name].handler(task, *raw)
        except KernelError as error:
            return -error.errno

    # the calls that every test needs

    def open(self, name: bytes | str, flags: int = 0, mode: int = 0o666, dirfd: int = -100) -> int:
        result: int = self.call("openat", dirfd, name, flags, mode)
        return result

    def close(self, fd: int) -> int:
        result: int = self.call("close", fd)
        return result

    def read(self, fd: int, count: int = _BUFFER_BYTES) -> bytes | int | Wait:
        result = self.call("read", fd, self.buffer, count)
        return result if isinstance(result, Wait) or result < 0 else self.peek(result)

    def write(self, fd: int, data: bytes, pos: int | None = None) -> Any:
        copy_to_user(self.task, self.buffer, data)
        if pos is not None:
            return self.call("pwrite64", fd, self.buffer, len(data), pos)
        return self.call("write", fd, self.buffer, len(data))

    def peek(self, count: int, offset: int = 0) -> bytes:
        """The first bytes of the buffer that calls store into."""
        return copy_from_user(self.task, self.buffer + offset, count)

    def stat(self, name: bytes | str, flags: int = 0) -> Any:
        result = self.call("newfstatat", -100, name, self.buffer, flags)
        return result if result < 0 else self.arch.kstat

    def readlink(self, name: bytes | str) -> bytes | int:
        result = self.call("readlinkat", -100, name, self.buffer, 4096)
        return result if result < 0 else self.peek(result)

    def listdir(self, name: bytes | str) -> list[bytes]:
        """Names in a directory, in order, without the two that all have."""
        return [each for each, _, _ in self.entries(name)]

    def entries(self, name: bytes | str, count: int = 4096) -> list[tuple[bytes, int, int]]:
        fd = self.open(name, os.O_RDONLY | os.O_DIRECTORY)
        assert fd >= 0, (name, fd)
        found = []
        while size := self.call("getdents64", fd, self.buffer, count):
            assert size > 0, size
            data = self.peek(size)
            pos = 0
            while pos < size:
                length = int.from_bytes(data[pos + 16 : pos + 18], "little")
                text = data[pos + 19 : pos + length].split(b"\0")[0]
                found.append((text, int.from_bytes(data[pos : pos + 8], "little"), data[pos + 18]))
                pos += length
        self.close(fd)
        return [each for each in found if each[0] not in (b".", b"..")]

    def contents(self, name: bytes | str) -> bytes | int:
        fd = self.open(name)
        if fd < 0:
            return fd
        parts = []
        while data := self.read(fd):
            if isinstance(data, int):
                return data
            assert isinstance(data, bytes)
            parts.append(data)
        self.close(fd)
        return b"".join(parts)

    def write_file(self, name: bytes | str, data: bytes, mode: int = 0o666) -> None:
        fd = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        assert fd >= 0, (name, fd)
        assert self.write(fd, data) == len(data)
        assert self.close(fd) == 0
