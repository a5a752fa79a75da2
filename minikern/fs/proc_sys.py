"""/proc/sys: settings.

Mirrors ``fs/proc/proc_sysctl.c`` and the tables that are spread over Linux. Most are fixed; what can be changed is what
something here depends on, and it takes root.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from minikern.fs.inotify import MAX_QUEUED_EVENTS, MAX_USER_WATCHES
from minikern.fs.pipe import PIPE_MAX_BYTES
from minikern.ipc.namespace import MSGMAX, MSGMNB
from minikern.kernel.cred import CAP_LAST_CAP
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.sys import NEW_UTS_LEN, RELEASE, VERSION
from minikern.mm.mmap import MMAP_MIN_ADDR
from minikern.mm.vma import MAX_MAP_COUNT

if TYPE_CHECKING:
    from minikern.fs.procfs import ProcDir, Show, Store
    from minikern.kernel.task import Task

_NR_OPEN = 1048576
_OVERFLOW_ID = 65534
_SHM_UNLIMITED = (1 << 64) - (1 << 24) - 1  # ULONG_MAX - (1 << 24)
_UUID_VERSION = 4
_CORENAME_MAX = 127  # bytes of a core pattern

# What is always the same
_CONSTANTS = (
    ("fs/file-max", "9223372036854775807"),
    ("fs/inotify/max_queued_events", MAX_QUEUED_EVENTS),
    ("fs/inotify/max_user_instances", 128),
    ("fs/inotify/max_user_watches", MAX_USER_WATCHES),
    ("fs/nr_open", _NR_OPEN),
    ("fs/overflowgid", _OVERFLOW_ID),
    ("fs/overflowuid", _OVERFLOW_ID),
    ("fs/pipe-max-size", PIPE_MAX_BYTES),
    ("fs/protected_fifos", 0),
    ("fs/protected_hardlinks", 0),
    ("fs/protected_regular", 0),
    ("fs/protected_symlinks", 0),
    ("fs/suid_dumpable", 0),
    ("kernel/cap_last_cap", int(CAP_LAST_CAP)),
    ("kernel/msgmax", MSGMAX),
    ("kernel/msgmnb", MSGMNB),
    ("kernel/msgmni", 32000),
    ("kernel/ngroups_max", 65536),
    ("kernel/osrelease", RELEASE),
    ("kernel/ostype", "Linux"),
    ("kernel/overflowgid", _OVERFLOW_ID),
    ("kernel/overflowuid", _OVERFLOW_ID),
    ("kernel/random/entropy_avail", 256),
    ("kernel/random/poolsize", 256),
    ("kernel/sem", "32000\t1024000000\t500\t32000"),
    ("kernel/shmall", _SHM_UNLIMITED),
    ("kernel/shmmax", _SHM_UNLIMITED),
    ("kernel/shmmni", 4096),
    ("kernel/version", VERSION),
    ("net/core/somaxconn", 4096),
    ("net/unix/max_dgram_qlen", 512),
    ("vm/max_map_count", MAX_MAP_COUNT),
    ("vm/mmap_min_addr", MMAP_MIN_ADDR),
    ("vm/overcommit_memory", 0),
    ("vm/overcommit_ratio", 50),
    ("vm/swappiness", 0),
)


def add_sysctls(root: ProcDir) -> None:
    """Fill /proc/sys."""
    for name, value in _CONSTANTS:
        _add(root, name, partial(_constant, f"{value}\n"))
    _add(root, "fs/file-nr", _file_nr)
    _add(root, "kernel/pid_max", _pid_max)
    _add(root, "kernel/threads-max", _pid_max)
    _add(root, "kernel/randomize_va_space", _randomize_va_space)
    _add(root, "kernel/core_pattern", _core_pattern, _set_core_pattern)
    _add(root, "kernel/core_uses_pid", _core_uses_pid, _set_core_uses_pid)
    _add(root, "kernel/hostname", _hostname, _set_hostname)
    _add(root, "kernel/domainname", _domainname, _set_domainname)
    _add(root, "kernel/random/uuid", _uuid)
    _add(root, "kernel/random/boot_id", partial(_constant, _random_uuid(root.sb.kernel.sources.random_bytes(16))))


def _add(root: ProcDir, name: str, show: Show, store: Store | None = None) -> None:
    directory, _, last = name.rpartition("/")
    root.mkdir_p(directory).add_file(last, show, 0o644 if store is not None else 0o444, store)


def _constant(text: str, task: Task) -> str:
    return text


def _file_nr(task: Task) -> str:
    tables = {id(each.files): each.files for each in task.kernel.pids.all_tasks() if each.files is not None}
    files = {id(file) for table in tables.values() for file in table.fds.values()}
    return f"{len(files)}\t0\t9223372036854775807\n"


def _pid_max(task: Task) -> str:
    return f"{task.kernel.pids.pid_max}\n"


def _randomize_va_space(task: Task) -> str:
    return "2\n" if task.kernel.config.aslr else "0\n"


def _core_pattern(task: Task) -> bytes:
    return task.kernel.core_pattern + b"\n"


def _set_core_pattern(task: Task, data: bytes) -> None:
    task.kernel.core_pattern = data.split(b"\n")[0].split(b"\0")[0][:_CORENAME_MAX]


def _core_uses_pid(task: Task) -> str:
    return f"{int(task.kernel.core_uses_pid)}\n"


def _set_core_uses_pid(task: Task, data: bytes) -> None:
    try:
        task.kernel.core_uses_pid = int(data) != 0
    except ValueError:
        raise KernelError(Errno.EINVAL) from None


def _hostname(task: Task) -> bytes:
    return task.kernel.hostname + b"\n"


def _set_hostname(task: Task, data: bytes) -> None:
    task.kernel.hostname = _uts_name(data)


def _domainname(task: Task) -> bytes:
    return task.kernel.domainname + b"\n"


def _set_domainname(task: Task, data: bytes) -> None:
    task.kernel.domainname = _uts_name(data)


def _uts_name(data: bytes) -> bytes:
    """Source: ``kernel/utsname_sysctl.c:proc_do_uts_string``."""
    name = data.split(b"\n")[0].split(b"\0")[0]
    if len(name) > NEW_UTS_LEN:
        raise KernelError(Errno.EINVAL)
    return name


def _uuid(task: Task) -> str:
    return _random_uuid(task.kernel.sources.random_bytes(16))


def _random_uuid(random: bytes) -> str:
    """A random UUID. Source: ``drivers/char/random.c:proc_do_uuid``, ``lib/uuid.c:generate_random_uuid``."""
    data = bytearray(random)
    data[6] = data[6] & 0x0F | _UUID_VERSION << 4
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}\n"
