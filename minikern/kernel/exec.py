"""execve: a task begins to run another program.

Mirrors ``fs/exec.c``. The formats themselves are in `minikern.fs.binfmt_elf` and `minikern.fs.binfmt_script`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.binfmt_script import script_interpreter
from minikern.fs.file import File, do_close_on_exec, unshare_files
from minikern.fs.namei import At, getname_flags
from minikern.fs.open_namei import open_exec
from minikern.kernel.cred import LsmUnsafe, bprm_creds_from_file, commit_creds
from minikern.kernel.errno import Errno, KernelBug, KernelError
from minikern.kernel.exit import release_task
from minikern.kernel.fork import mm_release
from minikern.kernel.futex import futex_exit_release
from minikern.kernel.pid import exchange_tids, transfer_pid
from minikern.kernel.posix_timers import exit_itimers, flush_itimer_signals
from minikern.kernel.ptrace import ptrace_exec_event
from minikern.kernel.resource import Rlimit
from minikern.kernel.sigaltstack import sas_ss_reset
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import fatal_signal_pending, flush_signal_handlers, force_fatal_sig, zap_other_threads
from minikern.kernel.syscalls import DirFd as DirFdArg
from minikern.kernel.syscalls import Int, Path, Ptr, syscall
from minikern.kernel.task import PF, TASK_COMM_LEN, ExitState, PidType, SignalFlags, Task
from minikern.kernel.waitqueue import Result, TaskState, Wait
from minikern.mm.mm import Mm, mmput
from minikern.mm.uaccess import get_user, strncpy_from_user

if TYPE_CHECKING:
    from minikern.fs.binfmt_elf import ElfImage

_PAGE_SIZE = 4096
MAX_ARG_STRLEN = 32 * _PAGE_SIZE  # bytes of one argument, its NUL included
MAX_ARG_STRINGS = 0x7FFFFFFF
_STK_LIM = 8 << 20
_ARG_MAX = 128 << 10  # bytes of all arguments that are always allowed
_BINPRM_BUF_SIZE = 256
_MAX_INTERPRETERS = 5
SUID_DUMP_USER = 1
SUID_DUMP_DISABLE = 0


class NotExecutable(KernelError):
    """ENOEXEC with the reason in words, for whoever started the machine."""

    def __init__(self, reason: str, errno: int = Errno.ENOEXEC) -> None:
        super().__init__(errno)
        self.reason = reason


@dataclass(slots=True, eq=False, repr=False)
class Binprm:
    """A program that is being started (``struct linux_binprm``)."""

    file: File  # what is loaded in the end
    filename: bytes  # as the caller named it: AT_EXECFN
    interp: bytes  # … or as the interpreter was named
    argv: list[bytes]
    envp: list[bytes]
    executable: File | None = None  # the script, while `file` is its interpreter
    head: bytes = b""  # the first bytes of the file
    unsafe: LsmUnsafe = LsmUnsafe(0)
    secureexec: bool = False  # AT_SECURE
    point_of_no_return: bool = False
    image: ElfImage | None = None  # what the file says
    interpreter: File | None = None  # the dynamic linker
    interpreter_image: ElfImage | None = None
    old_tid: int = 0  # number of the task before it became the leader
    mm: Mm | None = field(default=None, repr=False)  # the new address space, until it is the task's

    def close(self) -> None:
        """Let go of the files."""
        for file in (self.file, self.executable, self.interpreter):
            if file is not None:
                _put_executable(file)
        self.executable = self.interpreter = None


@syscall("execve")
def sys_execve(task: Task, filename: Path, argv: Ptr, envp: Ptr) -> Result:
    """Source: ``fs/exec.c:SYSCALL_DEFINE3(execve)``."""
    return _do_execveat_common(task, At.FDCWD, getname_flags(task, filename, 0), argv, envp, 0)


@syscall("execveat")
def sys_execveat(task: Task, fd: DirFdArg, filename: Path, argv: Ptr, envp: Ptr, flags: Int) -> Result:
    """Source: ``fs/exec.c:SYSCALL_DEFINE5(execveat)``."""
    name = getname_flags(task, filename, flags & At.EMPTY_PATH)
    return _do_execveat_common(task, fd, name, argv, envp, flags)


def _do_execveat_common(task: Task, fd: int, name: bytes, argv: int, envp: int, flags: int) -> Result:
    """Source: ``fs/exec.c:do_execveat_common``."""
    file = open_exec(task, fd, name, flags)
    try:
        filename = name if fd == At.FDCWD or name.startswith(b"/") else _dev_fd_name(fd, name)
        arguments, environment = _read_strings(task, argv), _read_strings(task, envp)
        if not arguments:
            arguments = [b""]
        _check_arg_size(task, filename, arguments, environment)
    except KernelError:
        _put_executable(file)
        raise
    return bprm_execve(task, Binprm(file, filename, filename, arguments, environment))


def _dev_fd_name(fd: int, name: bytes) -> bytes:
    """How a program finds itself that was named by a descriptor. Source: ``fs/exec.c:alloc_bprm``."""
    return b"/dev/fd/%d" % fd + (b"/" + name if name else b"")


def _read_strings(task: Task, address: int) -> list[bytes]:
    """The strings of a NULL-terminated vector. Source: ``fs/exec.c:count`` and ``copy_strings``."""
    strings: list[bytes] = []
    if not address:
        return strings
    total = 0
    limit = _strings_limit(task)
    while pointer := get_user(task, address + 8 * len(strings), 8):
        string = strncpy_from_user(task, pointer, MAX_ARG_STRLEN)
        if len(string) >= MAX_ARG_STRLEN:
            raise KernelError(Errno.E2BIG)
        strings.append(string)
        total += len(string) + 9
        if total > limit:
            raise KernelError(Errno.E2BIG)
    return strings


def _strings_limit(task: Task) -> int:
    """Bytes that arguments and environment may take. Source: ``fs/exec.c:bprm_stack_limits``."""
    return max(min(_STK_LIM // 4 * 3, task.signal.rlim.cur(Rlimit.STACK) // 4), _ARG_MAX)


def _check_arg_size(task: Task, filename: bytes, argv: list[bytes], envp: list[bytes]) -> None:
    """E2BIG when strings and pointers to them are too much. Source: ``fs/exec.c:bprm_stack_limits``."""
    pointers = 8 * (len(argv) + len(envp))
    size = sum(len(string) + 1 for string in (filename, *argv, *envp))
    if size + pointers > _strings_limit(task):
        raise KernelError(Errno.E2BIG)


def bprm_execve(task: Task, bprm: Binprm) -> Result:
    """Find out what the file is, and run it. Source: ``fs/exec.c:bprm_execve`` and ``exec_binprm``."""
    if task.ptrace is not None:
        bprm.unsafe |= LsmUnsafe.PTRACE
    if task.no_new_privs:
        bprm.unsafe |= LsmUnsafe.NO_NEW_PRIVS
    if task.fs is not None and task.fs.count > sum(1 for each in task.signal.threads if each.fs is task.fs):
        bprm.unsafe |= LsmUnsafe.SHARE
    bprm.old_tid = task.pid
    try:
        _search_binary_handler(task, bprm)
        return _begin_new_exec(task, bprm)
    except KernelError:
        _exec_failed(task, bprm)
        raise


def _exec_failed(task: Task, bprm: Binprm) -> None:
    """Before the point of no return the caller goes on; after it there is nothing to go back to."""
    bprm.close()
    if bprm.mm is not None:
        mm, bprm.mm = bprm.mm, None
        mmput(mm)
    if bprm.point_of_no_return and not fatal_signal_pending(task):
        force_fatal_sig(Signal.SIGSEGV, task)


def _put_executable(file: File) -> None:
    """Undo `open_exec`."""
    file.inode.allow_write_access()
    file.fput()


def _read_head(task: Task, file: File) -> bytes:
    """The first bytes, by which formats are told apart (``bprm->buf``)."""
    head = file.read(task, _BINPRM_BUF_SIZE, 0)
    assert isinstance(head, bytes)
    return head.ljust(_BINPRM_BUF_SIZE, b"\0")


def _search_binary_handler(task: Task, bprm: Binprm) -> None:
    """Follow scripts to their interpreters, then look at the ELF file. Source: ``fs/exec.c:exec_binprm``."""
    from minikern.fs.binfmt_elf import find_arch, read_image

    depth = 0
    while True:
        bprm.head = _read_head(task, bprm.file)
        interpreter = script_interpreter(bprm.head)
        if interpreter is None:
            break
        depth += 1
        if depth > _MAX_INTERPRETERS:
            raise KernelError(Errno.ELOOP)
        name, argument = interpreter
        bprm.argv[:1] = [name, *([argument] if argument else []), bprm.interp]
        _check_arg_size(task, bprm.filename, bprm.argv, bprm.envp)
        bprm.interp = name
        file = open_exec(task, At.FDCWD, name, 0)
        previous, bprm.file = bprm.file, file
        if bprm.executable is None:
            bprm.executable = previous
        else:
            _put_executable(previous)
    bprm.image = read_image(task, bprm.file, bprm.head)
    find_arch(task.kernel, bprm.image)
    if bprm.image.interpreter:
        bprm.interpreter = open_exec(task, At.FDCWD, bprm.image.interpreter, 0)
        head = _read_head(task, bprm.interpreter)
        bprm.interpreter_image = read_image(task, bprm.interpreter, head)
        if bprm.interpreter_image.machine != bprm.image.machine:
            raise NotExecutable("its dynamic linker is for another architecture", Errno.ELIBBAD)


def _begin_new_exec(task: Task, bprm: Binprm) -> Result:
    """From here on the old program is gone. Source: ``fs/exec.c:begin_new_exec``, its beginning."""
    bprm.point_of_no_return = True
    return _de_thread(task, partial(_after_de_thread, task, bprm), partial(_exec_killed, task, bprm))


def _exec_killed(task: Task, bprm: Binprm) -> Result:
    task.signal.group_exec_task = None
    task.signal.notify_count = 0
    bprm.close()
    return -Errno.EAGAIN


def _de_thread(task: Task, then: partial[Result], killed: partial[Result]) -> Result:
    """Be the only thread, and the leader. Source: ``fs/exec.c:de_thread``."""
    signal = task.signal
    if len(signal.threads) > 1:
        if signal.flags & SignalFlags.GROUP_EXIT or signal.group_exec_task is not None:
            return killed()
        signal.group_exec_task = task
        signal.notify_count = zap_other_threads(task)
        if not task.is_leader():
            signal.notify_count -= 1
        return _wait_for_threads(task, then, killed)
    task.exit_signal = Signal.SIGCHLD
    return then()


def _wait_for_threads(task: Task, then: partial[Result], killed: partial[Result]) -> Result:
    """Sleep until the others are gone, then until the leader is dead."""
    signal = task.signal
    leader = task.group_leader
    if signal.notify_count <= 0 and leader is not task:
        signal.notify_count = -1  # exit_notify of the leader wakes us
    if signal.notify_count > 0 or (leader is not task and leader.exit_state is ExitState.ALIVE):
        return Wait(
            (signal.exec_wait,),
            partial(_wait_for_threads, task, then, killed),
            TaskState.KILLABLE,
            interrupted=killed,
            wchan="de_thread",
        )
    if leader is not task:
        _become_leader(task, leader)
    signal.group_exec_task = None
    signal.notify_count = 0
    task.exit_signal = Signal.SIGCHLD
    return then()


def _become_leader(task: Task, leader: Task) -> None:
    """Take over number and place in the family of the dead leader. The second half of ``de_thread``."""
    task.start_time_ns, task.start_boottime_ns = leader.start_time_ns, leader.start_boottime_ns
    exchange_tids(task, leader)
    for kind in (PidType.TGID, PidType.PGID, PidType.SID):
        transfer_pid(leader, task, kind)
    parent = leader.real_parent
    assert parent is not None
    parent.children[parent.children.index(leader)] = task
    task.group_leader = task
    leader.group_leader = task
    task.exit_signal, leader.exit_signal = Signal.SIGCHLD, -1
    if leader.exit_state is not ExitState.ZOMBIE:
        raise KernelBug(f"{leader!r} is replaced by exec, but is not a zombie")
    leader.set_exit_state(ExitState.DEAD)
    if leader.ptrace is not None and leader.parent is not None:
        leader.parent.signal.wait_chldexit.wake_up_all()
    release_task(leader)


def _after_de_thread(task: Task, bprm: Binprm) -> Result:
    """The task is alone: give up what belonged to the old program and load the new one.

    Source: the rest of ``fs/exec.c:begin_new_exec``, then ``fs/binfmt_elf.c:load_elf_binary``.
    """
    try:
        return _load(task, bprm)
    except KernelError:
        _exec_failed(task, bprm)
        raise


def _load(task: Task, bprm: Binprm) -> Result:
    from minikern.fs.binfmt_elf import find_arch, load_elf_binary, new_mm

    assert bprm.image is not None
    creds = bprm_creds_from_file(task, bprm.executable or bprm.file, bprm.unsafe)
    bprm.secureexec = creds.secureexec
    arch = find_arch(task.kernel, bprm.image)
    unshare_files(task)
    bprm.mm = new_mm(task, arch, bprm)
    _exec_mmap(task, bprm.mm)
    if task.arch is not arch:
        task.arch = arch
        task.kernel.need_resched = True  # `run_task` holds the old one: it starts anew
    bprm.mm = None

    exit_itimers(task)
    flush_itimer_signals(task)
    _unshare_sighand(task)
    task.flags &= ~PF.FORKNOEXEC
    task.did_exec = True
    task.personality &= ~creds.per_clear
    do_close_on_exec(task)
    if bprm.secureexec:
        task.pdeath_signal = 0
    sas_ss_reset(task)
    task.rseq = 0
    same_ids = creds.cred.euid == creds.cred.uid and creds.cred.egid == creds.cred.gid
    task.dumpable = SUID_DUMP_USER if same_ids else SUID_DUMP_DISABLE
    task.comm = bprm.filename.rpartition(b"/")[2][: TASK_COMM_LEN - 1]
    task.self_exec_id += 1
    flush_signal_handlers(task, force_default=False)
    commit_creds(task, creds.cred)

    load_elf_binary(task, bprm)
    bprm.close()
    if (hook := task.kernel.events.exec) is not None:
        hook(task, bprm.old_tid)
    return ptrace_exec_event(task, bprm.old_tid, partial(int, 0))


def _exec_mmap(task: Task, mm: Mm) -> None:
    """Change to the new address space. Source: ``fs/exec.c:exec_mmap`` and ``kernel/fork.c:exec_mm_release``."""
    futex_exit_release(task)
    mm_release(task)
    old, task.mm = task.mm, mm
    if old is not None:
        mm.coredump_filter = old.coredump_filter
        task.signal.maxrss_pages = max(task.signal.maxrss_pages, old.max_rss)
        mmput(old)


def _unshare_sighand(task: Task) -> None:
    """Signal actions of its own. Source: ``fs/exec.c:unshare_sighand``."""
    sighand = task.sighand
    assert sighand is not None
    if sighand.count > 1:
        sighand.count -= 1
        task.sighand = sighand.copy()
