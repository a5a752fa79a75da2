"""Random bytes for programs.

Mirrors ``drivers/char/random.c``. The generator is always ready: what is behind it is `Sources.random_bytes`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.flags import fast_flags
from minikern.kernel.syscalls import Buf, Size, UInt, syscall
from minikern.mm.uaccess import copy_to_user_partial

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result

_MAX_BYTES = (1 << 25) - 1  # as much as one call is given
_CHUNK_BYTES = 1 << 16


@fast_flags
class Grnd(IntFlag):
    """Flags of getrandom (``GRND_*``)."""

    NONBLOCK = 1
    RANDOM = 2
    INSECURE = 4


@syscall("getrandom")
def sys_getrandom(task: Task, buf: Buf, length: Size, flags: UInt) -> Result:
    """Source: ``drivers/char/random.c:getrandom``."""
    if flags & ~int(Grnd.NONBLOCK | Grnd.RANDOM | Grnd.INSECURE):
        raise KernelError(Errno.EINVAL)
    if flags & (Grnd.INSECURE | Grnd.RANDOM) == Grnd.INSECURE | Grnd.RANDOM:
        raise KernelError(Errno.EINVAL)
    wanted = min(length, _MAX_BYTES)
    done = 0
    while done < wanted:
        chunk = min(wanted - done, _CHUNK_BYTES)
        copied = copy_to_user_partial(task, buf + done, task.kernel.sources.random_bytes(chunk))
        done += copied
        if copied < chunk:
            break
    if wanted and not done:
        raise KernelError(Errno.EFAULT)
    return done
