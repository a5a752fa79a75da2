"""Death by a signal that asks for a core file.

Mirrors ``fs/coredump.c``. The file itself is not written yet: the process ends as with RLIMIT_CORE 0.
"""

from __future__ import annotations

from minikern.kernel.exit import do_group_exit
from minikern.kernel.siginfo import SigInfo
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Result


def do_coredump(task: Task, info: SigInfo) -> Result:
    """End the process. Source: ``fs/coredump.c:do_coredump``."""
    return do_group_exit(task, int(info.signo))
