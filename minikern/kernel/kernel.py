"""The kernel of one machine: the object that all state hangs from, and the loop that runs it.

The nearest things in Linux are ``init/main.c`` and ``kernel/sched/core.c:__schedule``. Several kernels can live in
one process. Host handles (descriptors, terminal, engines, the ticker) are reached through `Kernel.host`, the arena
and the backends, which copies of the state share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minikern.engine.arena import Arena
from minikern.fs.anon_inodes import PseudoFilesystems
from minikern.fs.char_dev import CharDevices
from minikern.fs.deathwatch import register_deathwatch
from minikern.fs.devices import register_standard_devices
from minikern.fs.devpts import register_ptys
from minikern.fs.do_mounts import mount_root
from minikern.fs.file import FilesStruct, exit_files
from minikern.fs.fs_struct import FsStruct
from minikern.fs.namei import At, Lookup, filename_lookup
from minikern.fs.namespace import MountNamespace
from minikern.fs.open_namei import open_exec
from minikern.fs.tty import TtyFile, register_ttys
from minikern.fs.tty_jobctrl import tty_open_proc_set_tty
from minikern.ipc.namespace import IpcNamespace
from minikern.kernel.config import Config
from minikern.kernel.cred import Cred
from minikern.kernel.entry import no_such_call, run_task
from minikern.kernel.errno import KernelBug
from minikern.kernel.events import Events
from minikern.kernel.exec import Binprm, bprm_execve
from minikern.kernel.exit import do_exit, release_task
from minikern.kernel.futex import FutexTable
from minikern.kernel.init import fork_from_init, init_main, kill_everything, make_idle_task, make_init_task
from minikern.kernel.pid import PidMap
from minikern.kernel.posix_cpu_timers import has_cpu_timers, run_posix_cpu_timers
from minikern.kernel.rusage import RUSAGE_BOTH, getrusage
from minikern.kernel.sched import Sched
from minikern.kernel.syscalls import find_syscall
from minikern.kernel.task import PF, ExitState, Task
from minikern.kernel.timers import TimerQueue
from minikern.kernel.vdso import Vdso
from minikern.kernel.waitqueue import Wait
from minikern.mm.page_alloc import PageAllocator
from minikern.net.af_unix import UnixNames

if TYPE_CHECKING:
    from minikern.arch import Arch
    from minikern.fs.file import File
    from minikern.host.host import Host
    from minikern.host.sources import Sources


class HandlerTable(dict[int, Any]):
    """Number -> decoder and handler, for one architecture; filled as numbers are used."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch

    def __missing__(self, nr: int) -> Any:
        name = self.arch.syscalls.get(nr, "")
        declared = self.arch.own_syscalls.calls.get(name) or find_syscall(name)
        handler = declared.decoder() if declared is not None else no_such_call
        if declared is not None or name:
            self[nr] = handler
        return handler


class Kernel:
    """One machine."""

    def __init__(self, config: Config, host: Host, archs: Mapping[str, type[Arch]]) -> None:
        self.config = config
        self.host = host  # descriptors, terminal, ticker: handles, no state
        self.sources: Sources = host.sources  # clocks, randomness, the scheduler's choices
        self.arch_classes = archs  # every installed backend, by name
        self.archs: dict[str, Arch] = {}  # those that a program has needed
        self.handlers: dict[str, HandlerTable] = {}  # by architecture
        self.events = Events()
        self.timers = TimerQueue()
        self.sched = Sched(self)
        self.pids = PidMap()
        self.futexes = FutexTable()

        # Memory
        self.arena = Arena(config.memory_bytes)
        self.frames = PageAllocator(self)
        self.vdso = Vdso(self)
        self.elf_images: dict[tuple[int, ...], Any] = {}  # headers of what was executed lately

        # Files
        self.chrdevs = CharDevices()
        self.acct_file: File | None = None  # acct(2)
        self.ipc = IpcNamespace()  # System V and POSIX message objects
        self.mounts = MountNamespace()  # filled when the first program starts
        self.pseudo = PseudoFilesystems(self)
        self.unix_names = UnixNames()  # addresses of sockets

        # Counters and names
        self.hostname = config.hostname.encode()
        self.domainname = b"(none)"
        self.core_pattern = b"core"  # /proc/sys/kernel/core_pattern
        self.core_uses_pid = False  # /proc/sys/kernel/core_uses_pid
        self.sigpending_count: dict[int, int] = {}  # queued signals by user
        self.unimplemented: dict[tuple[str, str], int] = {}  # (architecture, call) -> how often
        self.total_forks = 0
        self.boot_ns = self.clock_ns = self.sources.monotonic_ns()  # clock_ns: when the kernel was entered last
        self.boot_realtime_ns = self.sources.realtime_ns()

        # Running
        self.need_resched = False  # the current task has to let others run
        self.halted = False
        self.panic = ""  # why the machine stopped, if it did not end in order
        self.programs: list[int] = []  # pids that the machine was started for and that have not ended
        self.ended: dict[int, tuple[int, bytes]] = {}  # pid -> status word and rusage, of those that init reaped

        self.idle_task = make_idle_task(self, Cred.from_host())
        self.init_task: Task = make_init_task(self)
        for register in (register_standard_devices, register_ttys, register_deathwatch):
            register(self)
        self.devpts = register_ptys(self)  # pseudo terminals

    # -- architectures

    def arch_names(self) -> list[str]:
        """What is installed."""
        return list(self.arch_classes)

    def arch_for_machine(self, machine: int) -> Arch | None:
        """The backend for an ELF machine, its engine started when it is needed first; None: not installed."""
        # That of the host first: most programs are for it, and each backend that has to be asked takes 5 ms to import.
        host = os.uname().machine
        for name in sorted(self.arch_classes, key=lambda name: name != host):
            cls = self.arch_classes[name]
            if cls.elf_machine == machine:
                arch = self.archs.get(name)
                if arch is None:
                    arch = self.archs[name] = cls(self.arena)
                    self.handlers[name] = HandlerTable(arch)
                return arch
        return None

    # -- programs

    def boot(self) -> None:
        """Mount the file systems; devices of one's own have been registered before. The first `spawn` does it too."""
        if not self.mounts.mounts:
            mount_root(self)
            self.init_task.fs = FsStruct(self.mounts.root, self.mounts.root)

    def spawn(
        self,
        argv: list[bytes],
        envp: list[bytes],
        files: list[File],
        *,
        executable: bytes | None = None,
        cwd: bytes = b"/",
    ) -> Task:
        """Make a process that runs a program; KernelError when that fails, with nothing left of the process.

        ``files`` become its descriptors 0, 1, 2 …; its parent is init, or it is init with ``Config.pid1``.
        """
        self.boot()
        task = self._new_process()
        task.files = FilesStruct()
        for fd, file in enumerate(files):
            task.files.install(fd, file)
            if isinstance(file, TtyFile):
                tty_open_proc_set_tty(task, file.tty, file.readable)
        self.sched.current = task
        try:
            name = executable if executable is not None else argv[0]
            assert task.fs is not None
            task.fs.pwd = filename_lookup(task, At.FDCWD, cwd, Lookup.FOLLOW | Lookup.DIRECTORY)
            bprm = Binprm(open_exec(task, At.FDCWD, name), name, name, list(argv), list(envp))
            result = bprm_execve(task, bprm)
            assert result == 0
        except BaseException:
            self._abandon(task)
            raise
        finally:
            self.sched.current = None
        self.programs.append(task.pid)
        self.sched.enqueue(task)
        return task

    def _new_process(self) -> Task:
        if not self.config.pid1:
            return fork_from_init(self)
        task = self.init_task
        if self.programs:
            raise KernelBug("only one program can be process 1")
        task.flags &= ~PF.KTHREAD
        task.signal.leader = True
        return task

    def _abandon(self, task: Task) -> None:
        """Undo `_new_process`: the process ends without having run."""
        if task is self.init_task:
            self.halted = True
            if task.files is not None:
                exit_files(task)
            return
        do_exit(task, 127 << 8)
        if task.exit_state is ExitState.ZOMBIE:
            task.set_exit_state(ExitState.DEAD)
            release_task(task)

    def programs_running(self) -> bool:
        """Whether a program that the machine was started for has not ended."""
        return bool(self.programs)

    def process_ended(self, pid: int, status: int, rusage: bytes) -> None:
        """Init has reaped a process."""
        if pid in self.programs:
            self.programs.remove(pid)
            self.ended[pid] = status, rusage

    def panic_init_died(self, code: int) -> None:
        """Process 1 is dying: so does everything else. Source: ``kernel/exit.c:do_exit`` and ``kernel/panic.c``."""
        self.panic = f"Attempted to kill init! exitcode={code:#010x}"
        self.ended[1] = code, getrusage(self.init_task, RUSAGE_BOTH)
        self.programs.clear()
        kill_everything(self)

    # -- running

    def run(self) -> None:
        """Run until every program has ended and nothing is left."""
        init = self.init_task
        if init.flags & PF.KTHREAD and init.wait is None:
            self._start_init(init)
        self.clock_ns = self.sources.monotonic_ns()
        with self.host.running():
            while not self.halted:
                self._schedule()
        if self.panic:
            self._reap_everything()

    def _start_init(self, init: Task) -> None:
        result = init_main(init)
        if isinstance(result, Wait):
            self.sched.sleep(init, result)

    def _schedule(self) -> None:
        """Run the next task until it gives the processor up. Source: ``kernel/sched/core.c:__schedule``."""
        sched = self.sched
        expiry = self.timers.next_expiry()
        if expiry is not None and expiry <= self.clock_ns:
            self.timers.run_expired(self.clock_ns)
            if self.halted:
                return
        task = sched.pick_next_task()
        if task is None:
            self._idle()
            return
        self.need_resched = False
        if (hook := self.events.sched_switch) is not None and task is not sched.previous:
            hook(sched.previous, task)
        sched.current = task
        if not task.flags & PF.KTHREAD:
            self.host.enter(task.arch.cpu, soon=expiry is not None or bool(sched.runqueue) or has_cpu_timers(task))
        run_task(self, task)
        sched.previous, sched.current = task, None

    def _idle(self) -> None:
        """Nothing can run: wait for the host. Source: ``kernel/sched/idle.c:do_idle``."""
        if self.panic and all(each.exit_state is not ExitState.ALIVE for each in self.pids.all_processes()):
            self.halted = True
            return
        expiry = self.timers.next_expiry()
        now_ns = self.sources.monotonic_ns()
        self.host.block(None if expiry is None else max(expiry - now_ns, 0))
        self.clock_ns = self.sources.monotonic_ns()

    def tick(self) -> None:
        """The ticker fired: timers, host events, and the end of a time slice. Source: ``kernel/time/tick-common.c:tick_periodic``."""
        self.timers.run_expired(self.clock_ns)
        current = self.sched.current
        if current is not None:
            run_posix_cpu_timers(current)
        self.host.poller.check()
        self.need_resched = self.halted or bool(self.sched.runqueue)

    def _reap_everything(self) -> None:
        """Process 1 has died and everything with it: release what nobody is left to wait for."""
        for process in reversed(list(self.pids.all_processes())):
            if process.exit_state is ExitState.ZOMBIE:
                process.set_exit_state(ExitState.DEAD)
                release_task(process)
