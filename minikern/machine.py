"""A machine from the outside: start programs on a kernel of their own, run it, and look at what became of them.

This is the public Python API (docs/api.md describes it) and what the command line is made of. It joins the kernel to
the host: files for standard input and output, host signals, a limit on time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Self, TypeAlias

from minikern.arch import InstalledArches
from minikern.fs.namei import At, filename_lookup
from minikern.host.host import Host
from minikern.host.streams import CapturedInput, CapturedOutput, open_host_fd
from minikern.kernel.config import Config
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.kernel import Kernel
from minikern.kernel.task import ExitState, SignalFlags, Task
from minikern.kernel.timers import Timer

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.host.sources import Sources

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NSEC_PER_SEC = 10**9
_USEC_PER_SEC = 10**6
_RUSAGE = struct.Struct("<18q")  # struct rusage
_KIB = 1024


class Stream(Enum):
    """What a standard stream of a program is connected to, when it is not bytes or a host descriptor."""

    INHERIT = auto()  # the same stream of the host's process
    CAPTURE = auto()  # kept, and found in the Process afterwards
    NULL = auto()  # /dev/null
    STDOUT = auto()  # for standard error only: wherever standard output goes


Input: TypeAlias = Stream | bytes | int
Output: TypeAlias = Stream | int


class ExecError(Exception):
    """A program could not be started."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno  # what execve(2) would say
        self.exit_status = 127 if errno == Errno.ENOENT else 126  # as shells have it


class MachineError(Exception):
    """The machine stopped in another way than by the end of its programs."""


class TimeLimitExceeded(MachineError):
    """The machine was stopped because its time was over."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and the children that it waited for have cost (``struct rusage``)."""

    user_s: float = 0.0  # seconds in the program
    system_s: float = 0.0  # seconds in the kernel
    max_rss_bytes: int = 0  # largest resident set
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_switches: int = 0  # gave the processor up
    involuntary_switches: int = 0  # lost it

    @staticmethod
    def unpack(data: bytes) -> Usage:
        """From the guest's structure."""
        fields = _RUSAGE.unpack(data)
        return Usage(
            user_s=fields[0] + fields[1] / _USEC_PER_SEC,
            system_s=fields[2] + fields[3] / _USEC_PER_SEC,
            max_rss_bytes=fields[4] * _KIB,
            minor_faults=fields[8],
            major_faults=fields[9],
            voluntary_switches=fields[16],
            involuntary_switches=fields[17],
        )


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process, alive or dead, as it was when one looked."""

    pid: int
    ppid: int
    comm: str  # name of its program
    threads: int  # that have not been released
    wait_status: int | None  # status word once it is dead


class Process:
    """A program that was started in a machine."""

    def __init__(self, argv: Sequence[str], task: Task, stdout: CapturedOutput | None, stderr: CapturedOutput | None):
        self.argv = list(argv)
        self.pid = task.pid
        self.wait_status: int | None = None  # status word of wait4(2), once it has ended
        self.usage = Usage()
        self._stdout = stdout
        self._stderr = stderr

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.argv!r} returncode={self.returncode}>"

    def note_end(self, kernel: Kernel) -> None:
        """Take status and usage over from the kernel if the program has ended."""
        if self.pid in kernel.ended:
            self.wait_status, usage = kernel.ended[self.pid]
            self.usage = Usage.unpack(usage)

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that killed it (as in `subprocess`); None while it runs."""
        return None if self.wait_status is None else os.waitstatus_to_exitcode(self.wait_status)

    @property
    def exit_status(self) -> int:
        """As a shell shows it: 128 + N when signal N killed it."""
        if self.returncode is None:
            raise MachineError(f"{self.argv[0]} has not ended")
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def core_dumped(self) -> bool:
        """Whether it died with a core dump."""
        return self.wait_status is not None and os.WCOREDUMP(self.wait_status)

    @property
    def stdout(self) -> bytes:
        """What it and its children wrote to a captured standard output so far."""
        return bytes(self._stdout.data) if self._stdout is not None else b""

    @property
    def stderr(self) -> bytes:
        """The same for standard error."""
        return bytes(self._stderr.data) if self._stderr is not None else b""


class Machine:
    """One machine: a kernel, and programs started on it."""

    def __init__(self, config: Config | None = None, sources: Sources | None = None) -> None:
        self.config = config if config is not None else Config()
        self.kernel = Kernel(self.config, Host(sources), InstalledArches())
        self.programs: list[Process] = []  # in the order in which they were started
        self._stopped_by: BaseException | None = None
        self._ended = _Obituaries()
        self.kernel.events.attach(self._ended)
        if self.config.warn_unimplemented:
            self.kernel.events.attach(_Warnings())

    # -- starting programs

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: Input = Stream.INHERIT,
        stdout: Output = Stream.INHERIT,
        stderr: Output = Stream.INHERIT,
    ) -> Process:
        """Start a program; it runs when the machine does.

        A name without a slash is looked for in ``cwd``, then in the PATH of ``env``, which is the host's environment
        unless given. ``cwd`` is in the guest: by default the host's if the guest has the host's tree, else ``/``.
        Raises ExecError.
        """
        self.kernel.boot()
        environment = os.environ if env is None else env
        if cwd is None:
            cwd = self._default_directory()
        elif not S_ISDIR(self._mode(cwd)):
            raise ExecError(f"{cwd}: no such directory in the guest to start in", Errno.ENOENT)
        path = self._find(argv[0], cwd, environment.get("PATH", _DEFAULT_PATH))
        files = self._open_streams(stdin, stdout, stderr)
        try:
            task = self.kernel.spawn(
                [os.fsencode(each) for each in argv],
                [os.fsencode(f"{name}={value}") for name, value in environment.items()],
                files,
                executable=os.fsencode(path),
                cwd=os.fsencode(cwd),
            )
        except KernelError as error:
            raise ExecError(f"{argv[0]}: {self._explain(error, os.path.join(cwd, path))}", error.errno) from None
        captured = [file if isinstance(file, CapturedOutput) else None for file in files]
        process = Process(argv, task, captured[1], captured[2] if stderr is not Stream.STDOUT else None)
        self.programs.append(process)
        return process

    def _find(self, name: str, cwd: str, search_path: str) -> str:
        """Where in the guest the program is that was called by ``name``."""
        if "/" in name:
            return name
        refused = ""
        for folder in (cwd, *search_path.split(":")):
            candidate = os.path.join(folder or ".", name)
            mode = self._mode(os.path.join(cwd, candidate))
            if S_ISREG(mode) and mode & 0o111:
                return candidate
            if S_ISREG(mode):
                refused = refused or candidate
        if refused:
            return refused  # exec will say why
        raise ExecError(f"{name}: not found, neither here nor in PATH", Errno.ENOENT)

    def _default_directory(self) -> str:
        """The host's current directory if the guest has it too."""
        if self.config.root == "/":
            with contextlib.suppress(OSError):  # it may have been removed
                return os.getcwd()
        return "/"

    def _mode(self, path: str) -> int:
        """st_mode of a file in the guest; 0 when there is none."""
        try:
            found = filename_lookup(self.kernel.init_task, At.FDCWD, os.fsencode(path))
        except (KernelError, ValueError):
            return 0
        return found.dentry.inode.mode if found.dentry.inode is not None else 0

    def _explain(self, error: KernelError, path: str) -> str:
        """Why a program could not be started, and what to do about it."""
        if reason := getattr(error, "reason", ""):
            return f"cannot be executed: {reason}"
        mode = self._mode(path)
        match error.errno:
            case Errno.EACCES if S_ISDIR(mode):
                return "is a directory, not a program"
            case Errno.EACCES if mode and not S_ISREG(mode):
                return "is not a regular file"
            case Errno.EACCES:
                return "no permission to execute it (chmod +x?)"
            case Errno.ENOENT | Errno.ENOTDIR if not mode:
                where = "" if self.config.root == "/" else f" below {self.config.root}, where the guest's / is"
                return f"not found{where}"
            case Errno.ENOENT | Errno.ENOTDIR:
                error.errno = Errno.ENOEXEC
                return "the interpreter that its first line names was not found"
            case Errno.ELOOP:
                return "too many symbolic links, or interpreters that call each other"
            case Errno.ENOMEM:
                return "the machine has too little memory for it (--memory?)"
            case Errno.E2BIG:
                return "its arguments and environment are too long"
            case _:
                return f"cannot be executed: {os.strerror(error.errno)}"

    def _open_streams(self, stdin: Input, stdout: Output, stderr: Output) -> list[File]:
        kernel = self.kernel
        files: list[File] = [CapturedInput(kernel, stdin) if isinstance(stdin, bytes) else self._open(0, stdin)]
        files.append(self._open(1, stdout))
        files.append(files[1].get() if stderr is Stream.STDOUT else self._open(2, stderr))
        return files

    def _open(self, fd: int, stream: Stream | int) -> File:
        if stream is Stream.CAPTURE:
            return CapturedOutput(self.kernel)
        if stream is Stream.NULL:
            return open_host_fd(self.kernel, os.open(os.devnull, os.O_RDWR))
        return open_host_fd(self.kernel, fd if isinstance(stream, Stream) else stream)

    # -- running

    def run(self, timeout_s: float | None = None, *, on_signal: Mapping[int, Callable[[], None]] | None = None) -> None:
        """Run until every program that was started has ended, and end what they have left behind. A machine runs once.

        ``on_signal`` says what to do about signals that the host sends to this process; by default Ctrl-C stops the
        machine and raises KeyboardInterrupt. Raises TimeLimitExceeded after ``timeout_s``,
        MachineError when it has run before.
        """
        kernel = self.kernel
        if kernel.halted:
            raise MachineError("the machine has stopped already; make another one")
        limit = None
        if timeout_s is not None:
            expires_ns = kernel.sources.monotonic_ns() + int(timeout_s * _NSEC_PER_SEC)
            limit = Timer(expires_ns, partial(self.stop, TimeLimitExceeded(f"still running after {timeout_s} s")))
            kernel.timers.add(limit)
        if on_signal is None:
            on_signal = {signal.SIGINT: partial(self.stop, KeyboardInterrupt())}
        signals = kernel.host.poller.signals
        for signum, function in on_signal.items():
            signals.handle(signum, function)
        try:
            kernel.run()
        finally:
            if limit is not None:
                kernel.timers.cancel(limit)
        for process in self.programs:
            process.note_end(kernel)
        if self._stopped_by is not None:
            raise self._stopped_by

    def stop(self, reason: BaseException) -> None:
        """Stop the machine where it is, while it runs; `run` raises ``reason``."""
        self._stopped_by = reason
        self.kernel.halted = self.kernel.need_resched = True

    # -- looking

    @property
    def panic(self) -> str:
        """Why the kernel stopped when it did not end in order; empty when it did."""
        return self.kernel.panic

    @property
    def unimplemented(self) -> dict[tuple[str, str], int]:
        """How often a missing system call was called, by architecture and name."""
        return dict(self.kernel.unimplemented)

    def processes(self) -> list[ProcessInfo]:
        """Every process: those that are gone, in the order in which they went, then those that are there."""
        return self._ended.processes + [_describe(task) for task in self.kernel.pids.all_processes()]

    def check(self) -> list[str]:
        """After the end: what the kernel has kept without a reason, in words; nothing when all is well."""
        from minikern.kernel.check import check_kernel  # only who wants to check waits for it

        return check_kernel(self.kernel)


@dataclass(frozen=True, slots=True)
class Result:
    """What `run` returns."""

    returncode: int  # the exit status, or minus the signal that killed it
    stdout: bytes
    stderr: bytes
    usage: Usage
    processes: list[ProcessInfo]  # all there were, in the order in which they ended
    unimplemented: dict[tuple[str, str], int]  # missing system calls that were called


def run(
    argv: Sequence[str],
    *,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout_s: float | None = None,
    config: Config | None = None,
) -> Result:
    """Run one program on a machine of its own, with its output captured. Raises ExecError, TimeLimitExceeded."""
    machine = Machine(config)
    process = machine.spawn(argv, env=env, cwd=cwd, stdin=input, stdout=Stream.CAPTURE, stderr=Stream.CAPTURE)
    machine.run(timeout_s)
    assert process.returncode is not None
    return Result(
        process.returncode, process.stdout, process.stderr, process.usage, machine.processes(), machine.unimplemented
    )


class _Observer:
    """Listens to a kernel from outside; no part of its state, so copies of the kernel share it."""

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _Obituaries(_Observer):
    """Keeps what is worth knowing of every process that is released."""

    def __init__(self) -> None:
        self.processes: list[ProcessInfo] = []

    def on_release(self, task: Task) -> None:
        """The pid of ``task`` is about to be free."""
        if task.is_leader():
            self.processes.append(_describe(task))


class _Warnings(_Observer):
    """Says each missing system call once."""

    def on_unimplemented(self, task: Task, nr: int, name: str) -> None:
        """``task`` has called what the kernel does not have."""
        if task.kernel.unimplemented[task.arch.name, name] == 1:
            comm = task.comm.decode(errors="replace")
            print(f"minikern: {comm} ({task.pid}) called {name}, which is not implemented", file=sys.stderr)


def _describe(task: Task) -> ProcessInfo:
    signals = task.signal
    code = signals.group_exit_code if signals.flags & SignalFlags.GROUP_EXIT else task.exit_code
    return ProcessInfo(
        pid=task.tgid,
        ppid=task.real_parent.tgid if task.real_parent is not None else 0,
        comm=task.comm.decode(errors="replace"),
        threads=len(signals.threads),
        wait_status=None if task.exit_state is ExitState.ALIVE else code,
    )
