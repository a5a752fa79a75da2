"""Credentials: who a task is and what it may do.

Mirrors ``kernel/cred.c``, ``security/commoncap.c`` and ``include/uapi/linux/capability.h``. Credentials are never
changed in place, but replaced: `prepare_creds`, change the copy, `commit_creds`. There is one user namespace.
Left out: capabilities of files, keyrings, security modules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from minikern.fs.namespace import MountFlags
from minikern.kernel.flags import fast_flags
from minikern.kernel.task import PF

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.task import Task

ROOT_UID = 0
S_ISUID = 0o4000
S_ISGID = 0o2000
S_IXGRP = 0o0010
SUID_DUMP_DISABLE = 0  # no core dump, no ptrace; also what /proc/sys/fs/suid_dumpable says
SUID_DUMP_USER = 1


class Cap(IntEnum):
    """Capabilities (``CAP_*``)."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    FSETID = 4
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    LINUX_IMMUTABLE = 9
    NET_BIND_SERVICE = 10
    NET_BROADCAST = 11
    NET_ADMIN = 12
    NET_RAW = 13
    IPC_LOCK = 14
    IPC_OWNER = 15
    SYS_MODULE = 16
    SYS_RAWIO = 17
    SYS_CHROOT = 18
    SYS_PTRACE = 19
    SYS_PACCT = 20
    SYS_ADMIN = 21
    SYS_BOOT = 22
    SYS_NICE = 23
    SYS_RESOURCE = 24
    SYS_TIME = 25
    SYS_TTY_CONFIG = 26
    MKNOD = 27
    LEASE = 28
    AUDIT_WRITE = 29
    AUDIT_CONTROL = 30
    SETFCAP = 31
    MAC_OVERRIDE = 32
    MAC_ADMIN = 33
    SYSLOG = 34
    WAKE_ALARM = 35
    BLOCK_SUSPEND = 36
    AUDIT_READ = 37
    PERFMON = 38
    BPF = 39
    CHECKPOINT_RESTORE = 40


CAP_LAST_CAP = max(Cap)
CAP_FULL_SET = (1 << (CAP_LAST_CAP + 1)) - 1


def cap_set(*caps: Cap) -> int:
    """A capability set: bit N stands for capability N."""
    return sum(1 << cap for cap in caps)


# What follows fsuid to root and away from it (``CAP_FS_SET``).
CAP_FS_SET = cap_set(
    Cap.CHOWN,
    Cap.DAC_OVERRIDE,
    Cap.DAC_READ_SEARCH,
    Cap.FOWNER,
    Cap.FSETID,
    Cap.LINUX_IMMUTABLE,
    Cap.MKNOD,
    Cap.MAC_OVERRIDE,
)


@fast_flags
class SecureBits(IntFlag):
    """How capabilities follow the user ids; each bit has a lock beside it (``SECBIT_*``)."""

    NOROOT = 0x1
    NOROOT_LOCKED = 0x2
    NO_SETUID_FIXUP = 0x4
    NO_SETUID_FIXUP_LOCKED = 0x8
    KEEP_CAPS = 0x10
    KEEP_CAPS_LOCKED = 0x20
    NO_CAP_AMBIENT_RAISE = 0x40
    NO_CAP_AMBIENT_RAISE_LOCKED = 0x80
    EXEC_RESTRICT_FILE = 0x100
    EXEC_RESTRICT_FILE_LOCKED = 0x200
    EXEC_DENY_INTERACTIVE = 0x400
    EXEC_DENY_INTERACTIVE_LOCKED = 0x800
    ALL_BITS = 0x55
    ALL_LOCKS = 0xAA


@fast_flags
class LsmUnsafe(IntFlag):
    """Why an exec must not raise privileges (``LSM_UNSAFE_*``)."""

    SHARE = 1  # a task outside the process shares its working directory
    PTRACE = 2  # it is traced
    NO_NEW_PRIVS = 4


@fast_flags
class Personality(IntFlag):
    """Flags of the execution domain, above its number (``include/uapi/linux/personality.h``)."""

    UNAME26 = 0x0020000
    ADDR_NO_RANDOMIZE = 0x0040000
    FDPIC_FUNCPTRS = 0x0080000
    MMAP_PAGE_ZERO = 0x0100000
    ADDR_COMPAT_LAYOUT = 0x0200000
    READ_IMPLIES_EXEC = 0x0400000
    ADDR_LIMIT_32BIT = 0x0800000
    SHORT_INODE = 0x1000000
    WHOLE_SECONDS = 0x2000000
    STICKY_TIMEOUTS = 0x4000000
    ADDR_LIMIT_3GB = 0x8000000
    CLEAR_ON_SETID = READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO


@dataclass(slots=True, eq=False, repr=False)
class Cred:
    """Who a task is (``struct cred``)."""

    uid: int = 0  # real
    gid: int = 0
    suid: int = 0  # saved
    sgid: int = 0
    euid: int = 0  # effective
    egid: int = 0
    fsuid: int = 0  # for files
    fsgid: int = 0
    groups: tuple[int, ...] = ()  # supplementary, ascending
    securebits: SecureBits = SecureBits(0)
    cap_inheritable: int = 0  # capability sets: bit N stands for capability N
    cap_permitted: int = CAP_FULL_SET
    cap_effective: int = CAP_FULL_SET
    cap_bset: int = CAP_FULL_SET  # what exec may ever give
    cap_ambient: int = 0

    @classmethod
    def from_host(cls) -> Cred:
        """Credentials of the first process: those of whoever started the machine; root has every capability.

        The machine is a world of its own, so what the host's root may not do is no concern of the guest's.
        """
        uid, gid = os.getuid(), os.getgid()
        caps = CAP_FULL_SET if uid == ROOT_UID else 0
        groups = tuple(sorted(os.getgroups()))
        return cls(uid, gid, uid, gid, uid, gid, uid, gid, groups, cap_permitted=caps, cap_effective=caps)

    def copy(self) -> Cred:
        """The same identity, to be changed and committed."""
        return replace(self)

    def in_group(self, gid: int) -> bool:
        """Whether files of group ``gid`` are its group's (``in_group_p``)."""
        return gid == self.fsgid or gid in self.groups

    def in_egroup(self, gid: int) -> bool:
        """The same by the effective group (``in_egroup_p``)."""
        return gid == self.egid or gid in self.groups

    def has_cap(self, cap: Cap) -> bool:
        """Whether ``cap`` is effective."""
        return bool(self.cap_effective >> cap & 1)


def capable(task: Task, cap: Cap) -> bool:
    """Whether the running task may use ``cap``; notes that it did. Source: ``kernel/capability.c:capable``."""
    if not task.cred.has_cap(cap):
        return False
    task.flags |= PF.SUPERPRIV
    return True


def prepare_creds(task: Task) -> Cred:
    """A copy of the task's credentials to change. Source: ``kernel/cred.c:prepare_creds``."""
    return task.cred.copy()


def commit_creds(task: Task, new: Cred) -> None:
    """Make ``new`` the task's credentials.

    Whoever changes its identity can no longer be dumped, and forgets its parent-death signal.
    Source: ``kernel/cred.c:commit_creds``.
    """
    old = task.cred
    before = (old.euid, old.egid, old.fsuid, old.fsgid)
    after = (new.euid, new.egid, new.fsuid, new.fsgid)
    if before != after or new.cap_permitted & ~old.cap_permitted:
        set_dumpable(task, SUID_DUMP_DISABLE)
        task.pdeath_signal = 0
    task.cred = new


def set_dumpable(task: Task, value: int) -> None:
    """Say for the whole process whether it may be dumped and traced. Source: ``fs/exec.c:set_dumpable``."""
    for thread in task.signal.threads or [task]:
        thread.dumpable = value


def cap_emulate_setxuid(new: Cred, old: Cred) -> None:
    """Let the capabilities follow the user ids to root and away. Source: ``security/commoncap.c:cap_emulate_setxuid``."""
    if new.securebits & SecureBits.NO_SETUID_FIXUP:
        return
    if ROOT_UID in (old.uid, old.euid, old.suid) and ROOT_UID not in (new.uid, new.euid, new.suid):
        if not new.securebits & SecureBits.KEEP_CAPS:
            new.cap_permitted = 0
            new.cap_effective = 0
        new.cap_ambient = 0  # a program that drops root does not expect its children to keep anything
    if old.euid == ROOT_UID and new.euid != ROOT_UID:
        new.cap_effective = 0
    if old.euid != ROOT_UID and new.euid == ROOT_UID:
        new.cap_effective = new.cap_permitted


def cap_emulate_setfsuid(new: Cred, old: Cred) -> None:
    """Let the capabilities for files follow fsuid. Source: ``security/commoncap.c:cap_task_fix_setuid``."""
    if new.securebits & SecureBits.NO_SETUID_FIXUP:
        return
    if old.fsuid == ROOT_UID and new.fsuid != ROOT_UID:
        new.cap_effective &= ~CAP_FS_SET
    if old.fsuid != ROOT_UID and new.fsuid == ROOT_UID:
        new.cap_effective |= new.cap_permitted & CAP_FS_SET


@dataclass(slots=True, eq=False, repr=False)
class BprmCreds:
    """What exec does with the credentials (the part of ``struct linux_binprm`` that is about them)."""

    cred: Cred  # to be committed
    secureexec: bool  # AT_SECURE: privileges were gained
    per_clear: Personality  # flags of the personality that do not survive


def bprm_creds_from_file(task: Task, file: File, unsafe: LsmUnsafe) -> BprmCreds:
    """Credentials of the program in ``file`` when ``task`` executes it: set-user-id, set-group-id, root's capabilities.

    Source: ``fs/exec.c:bprm_fill_uid`` and ``security/commoncap.c:cap_bprm_creds_from_file``.
    """
    old = task.cred
    new = prepare_creds(task)
    per_clear = _bprm_fill_uid(task, file, new)

    new.cap_permitted = 0
    effective = False
    if not new.securebits & SecureBits.NOROOT:  # root by id is root by capability
        if ROOT_UID in (new.euid, new.uid):
            new.cap_permitted = old.cap_bset | old.cap_inheritable
        effective = new.euid == ROOT_UID

    if new.cap_permitted & ~old.cap_permitted:
        per_clear |= Personality.CLEAR_ON_SETID
    is_setid = new.euid != old.uid or new.egid != old.gid
    gained = bool(new.cap_permitted & ~old.cap_permitted)
    if (is_setid or gained) and (unsafe & ~LsmUnsafe.PTRACE or (unsafe and not _ptracer_capable(task))):
        if not capable(task, Cap.SETUID) or unsafe & LsmUnsafe.NO_NEW_PRIVS:
            new.euid = new.uid
            new.egid = new.gid
        new.cap_permitted &= old.cap_permitted

    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    if is_setid:
        new.cap_ambient = 0
    new.cap_permitted |= new.cap_ambient
    new.cap_effective = new.cap_permitted if effective else new.cap_ambient
    new.securebits &= ~SecureBits.KEEP_CAPS
    grew = bool(new.cap_permitted & ~new.cap_ambient)
    secureexec = is_setid or (new.uid != ROOT_UID and (effective or grew))
    return BprmCreds(new, secureexec, per_clear)


def _bprm_fill_uid(task: Task, file: File, new: Cred) -> Personality:
    """Take user and group from a set-id file, where that is allowed."""
    if task.no_new_privs or file.f_path is None or file.f_path.mount.flags & MountFlags.NOSUID:
        return Personality(0)
    inode = file.inode
    per_clear = Personality(0)
    if inode.mode & S_ISUID:
        per_clear = Personality.CLEAR_ON_SETID
        new.euid = inode.uid
    if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        per_clear = Personality.CLEAR_ON_SETID
        new.egid = inode.gid
    return per_clear


def _ptracer_capable(task: Task) -> bool:
    """Whether the tracer could trace anybody. Source: ``kernel/capability.c:ptracer_capable``."""
    return task.parent is None or task.parent.cred.has_cap(Cap.SYS_PTRACE)
