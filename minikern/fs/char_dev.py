"""Character devices: which driver stands behind which number.

Mirrors ``fs/char_dev.c``, ``drivers/char/misc.c`` and the list of nodes that devtmpfs creates. A driver is a *factory*: a
function that makes the open file. A `Device` subclass is one, so is a bound method of an object that the opens share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minikern.fs.kdev_t import major, makedev, minor
from minikern.kernel.errno import Errno, KernelError

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.fs.inode import Inode
    from minikern.fs.path import Path
    from minikern.fs.tty import Tty
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

MISC_MAJOR = 10
MISC_DYNAMIC_MINOR = 256  # the first number for devices that have none of their own

Factory = Callable[["Task", "Inode", "Path | None", int], "File"]  # (task, inode, path, OpenFlags)


@dataclass(slots=True, eq=False, repr=False)
class CharDev:
    """One driver (``struct cdev``)."""

    name: str  # of its node, below /dev; empty: no node of its own
    mode: int  # permissions of the node
    factory: Factory


@dataclass(slots=True, eq=False, repr=False)
class CharDevices:
    """The drivers of one kernel."""

    table: dict[tuple[int, int], CharDev] = field(default_factory=dict)  # (major, minor)
    next_misc_minor: int = MISC_DYNAMIC_MINOR
    console: Tty | None = None  # the terminal of the machine, behind /dev/console

    def add(self, number: tuple[int, int], name: str, mode: int, factory: Factory) -> None:
        """Put a driver behind a number; EBUSY when there is one already (``cdev_add``)."""
        if number in self.table:
            raise KernelError(Errno.EBUSY)
        self.table[number] = CharDev(name, mode, factory)

    def nodes(self) -> Iterator[tuple[str, int, int]]:
        """(name, permissions, device number) of every node that /dev has at boot (``devtmpfs_create_node``)."""
        for (high, low), device in self.table.items():
            if device.name:
                yield device.name, device.mode, makedev(high, low)


def chrdev_open(task: Task, inode: Inode, path: Path | None, flags: int) -> File:
    """Open the device that a special file stands for; ENXIO: no driver. Source: ``fs/char_dev.c:chrdev_open``."""
    device = task.kernel.chrdevs.table.get((major(inode.rdev), minor(inode.rdev)))
    if device is None:
        raise KernelError(Errno.ENXIO)
    return device.factory(task, inode, path, flags)


def register_device(kernel: Kernel, name: str, mode: int, factory: Factory) -> int:
    """Add a driver of one's own as ``/dev/NAME``; returns its device number. Source: ``drivers/char/misc.c:misc_register``.

    To be called before the machine boots: the nodes are made when /dev is mounted.
    """
    devices = kernel.chrdevs
    number = MISC_MAJOR, devices.next_misc_minor
    devices.add(number, name, mode, factory)
    devices.next_misc_minor += 1
    return makedev(*number)
