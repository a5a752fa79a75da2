"""Root, working directory and umask of a process.

Mirrors ``fs/fs_struct.c``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minikern.fs.path import Path
    from minikern.kernel.task import Task

DEFAULT_UMASK = 0o022


@dataclass(slots=True, eq=False, repr=False)
class FsStruct:
    """What CLONE_FS shares (``struct fs_struct``)."""

    root: Path  # where ``/`` is
    pwd: Path  # where names without a ``/`` begin
    umask: int = DEFAULT_UMASK  # permissions that new files do not get
    count: int = 1  # tasks that share it

    def copy(self) -> FsStruct:
        """The same for a child. Source: ``fs/fs_struct.c:copy_fs_struct``."""
        return FsStruct(self.root, self.pwd, self.umask)


def exit_fs(task: Task) -> None:
    """The task lets go of its root and working directory. Source: ``fs/fs_struct.c:exit_fs``."""
    fs = task.fs
    if fs is not None:
        task.fs = None
        fs.count -= 1
