"""System calls that read and change user and group ids.

Mirrors the first part of ``kernel/sys.c``, and ``kernel/groups.c``. There is one user namespace, so every 32-bit
number but -1 is an id.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.kernel.cred import (
    Cap,
    Cred,
    cap_emulate_setfsuid,
    cap_emulate_setxuid,
    capable,
    commit_creds,
    prepare_creds,
)
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.syscalls import Int, Ptr, UInt, syscall
from minikern.mm.uaccess import copy_from_user, copy_to_user, put_user

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

INVALID_ID = 0xFFFFFFFF  # (uid_t)-1: "leave it" where that makes sense
NGROUPS_MAX = 65536
_ID_SIZE = 4


@syscall("getuid", inline=True)
def sys_getuid(task: Task) -> Result:
    """The real user id. Source: ``kernel/sys.c:getuid``."""
    return task.cred.uid


@syscall("geteuid", inline=True)
def sys_geteuid(task: Task) -> Result:
    """The effective user id. Source: ``kernel/sys.c:geteuid``."""
    return task.cred.euid


@syscall("getgid", inline=True)
def sys_getgid(task: Task) -> Result:
    """The real group id. Source: ``kernel/sys.c:getgid``."""
    return task.cred.gid


@syscall("getegid", inline=True)
def sys_getegid(task: Task) -> Result:
    """The effective group id. Source: ``kernel/sys.c:getegid``."""
    return task.cred.egid


@syscall("setuid")
def sys_setuid(task: Task, uid: UInt) -> Result:
    """Become ``uid``: for good when privileged, else only as the effective one. Source: ``kernel/sys.c:__sys_setuid``."""
    _check_id(uid)
    old = task.cred
    new = prepare_creds(task)
    if capable(task, Cap.SETUID):
        new.uid = new.suid = uid
    elif uid not in (old.uid, old.suid):
        raise KernelError(Errno.EPERM)
    new.fsuid = new.euid = uid
    return _commit_uids(task, new)


@syscall("setgid")
def sys_setgid(task: Task, gid: UInt) -> Result:
    """As setuid, for groups. Source: ``kernel/sys.c:__sys_setgid``."""
    _check_id(gid)
    old = task.cred
    new = prepare_creds(task)
    if capable(task, Cap.SETGID):
        new.gid = new.sgid = gid
    elif gid not in (old.gid, old.sgid):
        raise KernelError(Errno.EPERM)
    new.fsgid = new.egid = gid
    commit_creds(task, new)
    return 0


@syscall("setreuid")
def sys_setreuid(task: Task, ruid: UInt, euid: UInt) -> Result:
    """Set real and effective id; the saved one follows. Source: ``kernel/sys.c:__sys_setreuid``."""
    old = task.cred
    new = prepare_creds(task)
    if ruid != INVALID_ID:
        new.uid = ruid
        if ruid not in (old.uid, old.euid) and not capable(task, Cap.SETUID):
            raise KernelError(Errno.EPERM)
    if euid != INVALID_ID:
        new.euid = euid
        if euid not in (old.uid, old.euid, old.suid) and not capable(task, Cap.SETUID):
            raise KernelError(Errno.EPERM)
    if ruid != INVALID_ID or (euid != INVALID_ID and euid != old.uid):
        new.suid = new.euid
    new.fsuid = new.euid
    return _commit_uids(task, new)


@syscall("setregid")
def sys_setregid(task: Task, rgid: UInt, egid: UInt) -> Result:
    """As setreuid, for groups. Source: ``kernel/sys.c:__sys_setregid``."""
    old = task.cred
    new = prepare_creds(task)
    if rgid != INVALID_ID:
        if rgid not in (old.gid, old.egid) and not capable(task, Cap.SETGID):
            raise KernelError(Errno.EPERM)
        new.gid = rgid
    if egid != INVALID_ID:
        if egid not in (old.gid, old.egid, old.sgid) and not capable(task, Cap.SETGID):
            raise KernelError(Errno.EPERM)
        new.egid = egid
    if rgid != INVALID_ID or (egid != INVALID_ID and egid != old.gid):
        new.sgid = new.egid
    new.fsgid = new.egid
    commit_creds(task, new)
    return 0


@syscall("setresuid")
def sys_setresuid(task: Task, ruid: UInt, euid: UInt, suid: UInt) -> Result:
    """Set any of the three ids. Source: ``kernel/sys.c:__sys_setresuid``."""
    old = task.cred
    ids = (old.uid, old.euid, old.suid)
    if any(each != INVALID_ID and each not in ids for each in (ruid, euid, suid)) and not capable(task, Cap.SETUID):
        raise KernelError(Errno.EPERM)
    new = prepare_creds(task)
    if ruid != INVALID_ID:
        new.uid = ruid
    if euid != INVALID_ID:
        new.euid = euid
    if suid != INVALID_ID:
        new.suid = suid
    new.fsuid = new.euid
    return _commit_uids(task, new)


@syscall("setresgid")
def sys_setresgid(task: Task, rgid: UInt, egid: UInt, sgid: UInt) -> Result:
    """As setresuid, for groups. Source: ``kernel/sys.c:__sys_setresgid``."""
    old = task.cred
    ids = (old.gid, old.egid, old.sgid)
    if any(each != INVALID_ID and each not in ids for each in (rgid, egid, sgid)) and not capable(task, Cap.SETGID):
        raise KernelError(Errno.EPERM)
    new = prepare_creds(task)
    if rgid != INVALID_ID:
        new.gid = rgid
    if egid != INVALID_ID:
        new.egid = egid
    if sgid != INVALID_ID:
        new.sgid = sgid
    new.fsgid = new.egid
    commit_creds(task, new)
    return 0


@syscall("getresuid")
def sys_getresuid(task: Task, ruid: Ptr, euid: Ptr, suid: Ptr) -> Result:
    """Source: ``kernel/sys.c:getresuid``."""
    put_user(task, ruid, task.cred.uid, _ID_SIZE)
    put_user(task, euid, task.cred.euid, _ID_SIZE)
    put_user(task, suid, task.cred.suid, _ID_SIZE)
    return 0


@syscall("getresgid")
def sys_getresgid(task: Task, rgid: Ptr, egid: Ptr, sgid: Ptr) -> Result:
    """Source: ``kernel/sys.c:getresgid``."""
    put_user(task, rgid, task.cred.gid, _ID_SIZE)
    put_user(task, egid, task.cred.egid, _ID_SIZE)
    put_user(task, sgid, task.cred.sgid, _ID_SIZE)
    return 0


@syscall("setfsuid")
def sys_setfsuid(task: Task, uid: UInt) -> Result:
    """Set the id for files; returns the old one and never fails. Source: ``kernel/sys.c:__sys_setfsuid``."""
    old = task.cred
    if uid == INVALID_ID or uid == old.fsuid:
        return old.fsuid
    if uid in (old.uid, old.euid, old.suid) or capable(task, Cap.SETUID):
        new = prepare_creds(task)
        new.fsuid = uid
        cap_emulate_setfsuid(new, old)
        commit_creds(task, new)
    return old.fsuid


@syscall("setfsgid")
def sys_setfsgid(task: Task, gid: UInt) -> Result:
    """As setfsuid, for groups. Source: ``kernel/sys.c:__sys_setfsgid``."""
    old = task.cred
    if gid == INVALID_ID or gid == old.fsgid:
        return old.fsgid
    if gid in (old.gid, old.egid, old.sgid) or capable(task, Cap.SETGID):
        new = prepare_creds(task)
        new.fsgid = gid
        commit_creds(task, new)
    return old.fsgid


@syscall("getgroups")
def sys_getgroups(task: Task, gidsetsize: Int, grouplist: Ptr) -> Result:
    """The supplementary groups, or with size 0 only how many. Source: ``kernel/groups.c:getgroups``."""
    groups = task.cred.groups
    if gidsetsize < 0:
        raise KernelError(Errno.EINVAL)
    if gidsetsize:
        if len(groups) > gidsetsize:
            raise KernelError(Errno.EINVAL)
        copy_to_user(task, grouplist, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


@syscall("setgroups")
def sys_setgroups(task: Task, gidsetsize: UInt, grouplist: Ptr) -> Result:
    """Replace the supplementary groups. Source: ``kernel/groups.c:setgroups``."""
    if not capable(task, Cap.SETGID):
        raise KernelError(Errno.EPERM)
    if gidsetsize > NGROUPS_MAX:
        raise KernelError(Errno.EINVAL)
    groups = struct.unpack(f"<{gidsetsize}I", copy_from_user(task, grouplist, gidsetsize * _ID_SIZE))
    if INVALID_ID in groups:
        raise KernelError(Errno.EINVAL)
    new = prepare_creds(task)
    new.groups = tuple(sorted(groups))
    commit_creds(task, new)
    return 0


def _check_id(number: int) -> None:
    """Source: ``include/linux/uidgid.h:uid_valid``."""
    if number == INVALID_ID:
        raise KernelError(Errno.EINVAL)


def _commit_uids(task: Task, new: Cred) -> Result:
    """The capabilities follow the ids, then the change is made."""
    cap_emulate_setxuid(new, task.cred)
    commit_creds(task, new)
    return 0
