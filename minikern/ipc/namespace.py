"""All System V and POSIX message objects of a machine.

Mirrors ``ipc/namespace.c``; there is only the initial namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minikern.ipc.util import IpcIds

if TYPE_CHECKING:
    from minikern.fs.super import SuperBlock
    from minikern.ipc.mqueue import MqueueSuper
    from minikern.ipc.msg import MsgQueue
    from minikern.ipc.sem import SemArray
    from minikern.ipc.shm import ShmSegment

_SHMMNI = 4096  # most segments
_SEMMNI = 32000  # most arrays of semaphores
_MSGMNI = 32000  # most message queues
MSGMAX = 8192  # bytes of a message
MSGMNB = 16384  # bytes that a new queue holds


@dataclass(slots=True, eq=False, repr=False)
class IpcNamespace:
    """``struct ipc_namespace``."""

    shm: IpcIds[ShmSegment] = field(default_factory=lambda: IpcIds(_SHMMNI))
    sem: IpcIds[SemArray] = field(default_factory=lambda: IpcIds(_SEMMNI))
    msg: IpcIds[MsgQueue] = field(default_factory=lambda: IpcIds(_MSGMNI))
    shm_mnt: SuperBlock | None = None  # where the files behind segments are; made with the first segment
    mqueue_mnt: MqueueSuper | None = None  # POSIX message queues by name; made with the first queue
