"""What travels with a message: open files and the sender's identity.

Mirrors ``net/core/scm.c``. Left out: pidfds, security labels, and the collection of files that only messages to one
another keep alive (``net/unix/garbage.c``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.uaccess import copy_to_user
from minikern.net.socket import Msg, Received, SendMsg, Ucred
from minikern.net.sockopt import SOL_SOCKET

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.task import Task

SCM_RIGHTS = 1
SCM_CREDENTIALS = 2
SCM_MAX_FD = 253
_CMSGHDR = struct.Struct("<Qii")  # struct cmsghdr: length with this header, level, type
_UCRED = struct.Struct("<iII")
_ALIGN = 8


def _aligned(length: int) -> int:
    return (length + _ALIGN - 1) & -_ALIGN


def scm_send(task: Task, control: bytes, msg: SendMsg) -> None:
    """Take files and credentials out of the control messages. Source: ``net/core/scm.c:__scm_send``."""
    offset = 0
    while offset + _CMSGHDR.size <= len(control):
        length, level, kind = _CMSGHDR.unpack_from(control, offset)
        if length < _CMSGHDR.size or offset + length > len(control):
            raise KernelError(Errno.EINVAL)
        body = control[offset + _CMSGHDR.size : offset + length]
        offset += _aligned(length)
        if level != SOL_SOCKET:
            continue
        if kind == SCM_RIGHTS:
            _scm_fp_copy(task, body, msg.files)
        elif kind == SCM_CREDENTIALS:
            if len(body) != _UCRED.size:
                raise KernelError(Errno.EINVAL)
            msg.creds = Ucred(*_UCRED.unpack(body))
            _scm_check_creds(task, msg.creds)
        else:
            raise KernelError(Errno.EINVAL)


def _scm_fp_copy(task: Task, body: bytes, files: list[File]) -> None:
    """Source: ``net/core/scm.c:scm_fp_copy``."""
    count = len(body) // 4
    if len(files) + count > SCM_MAX_FD:
        raise KernelError(Errno.EINVAL)
    assert task.files is not None
    for (fd,) in struct.iter_unpack("<i", body[: count * 4]):
        files.append(task.files.fget_raw(fd).get())


def _scm_check_creds(task: Task, creds: Ucred) -> None:
    """Whether the sender may say that it is that one. Source: ``net/core/scm.c:scm_check_creds``."""
    cred = task.cred
    if (
        (creds.pid == task.tgid or capable(task, Cap.SYS_ADMIN))
        and (creds.uid in (cred.uid, cred.euid, cred.suid) or capable(task, Cap.SETUID))
        and (creds.gid in (cred.gid, cred.egid, cred.sgid) or capable(task, Cap.SETGID))
    ):
        return
    raise KernelError(Errno.EPERM)


def scm_recv(task: Task, got: Received, address: int, room: int, *, passcred: bool, cloexec: bool) -> int:
    """Store control messages at ``address``; how many bytes. Sets MSG_CTRUNC for what did not fit.

    Files get descriptors; those for which there is none are closed. Source: ``net/core/scm.c:scm_recv_unix``.
    """
    used = 0
    if passcred and got.creds is not None:
        body = _UCRED.pack(got.creds.pid, got.creds.uid, got.creds.gid)
        used = _put_cmsg(task, got, address, room, SCM_CREDENTIALS, body)
    if got.files:
        used += _scm_detach_fds(task, got, address + used, room - used, cloexec)
    return used


def _put_cmsg(task: Task, got: Received, address: int, room: int, kind: int, body: bytes) -> int:
    """One control message, cut off where the room ends. Source: ``net/core/scm.c:put_cmsg``."""
    if not address or room < _CMSGHDR.size:
        got.flags |= Msg.CTRUNC
        return 0
    length = _CMSGHDR.size + len(body)
    if room < length:
        got.flags |= Msg.CTRUNC
        length = room
    message = _CMSGHDR.pack(length, SOL_SOCKET, kind) + body
    copy_to_user(task, address, message[:length])
    return min(_aligned(length), room)


def _scm_detach_fds(task: Task, got: Received, address: int, room: int, cloexec: bool) -> int:
    """Source: ``net/core/scm.c:scm_detach_fds``."""
    assert task.files is not None
    files, got.files = got.files, []
    fit = max(0, room - _CMSGHDR.size) // 4 if address else 0
    fds: list[int] = []
    for file in files:
        if len(fds) < fit:
            try:
                fds.append(task.files.alloc_fd(task, file, cloexec=cloexec))
                continue
            except KernelError:
                fit = len(fds)
        got.flags |= Msg.CTRUNC
        file.fput()
    if not fds:
        return 0
    body = struct.pack(f"<{len(fds)}i", *fds)
    return _put_cmsg(task, got, address, room, SCM_RIGHTS, body)
