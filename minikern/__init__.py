"""minikern: a Linux kernel in miniature that runs real programs of several architectures in one Python process.

The public names are loaded when they are first used, so that ``import minikern`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minikern.kernel.config import Bind, Config
    from minikern.machine import (
        ExecError,
        Machine,
        MachineError,
        Process,
        ProcessInfo,
        Result,
        Stream,
        TimeLimitExceeded,
        Usage,
        run,
    )

__version__ = "0.1.0"

__all__ = [
    "Bind",
    "Config",
    "ExecError",
    "Machine",
    "MachineError",
    "Process",
    "ProcessInfo",
    "Result",
    "Stream",
    "TimeLimitExceeded",
    "Usage",
    "__version__",
    "run",
]

_HOMES = {"Bind": "minikern.kernel.config", "Config": "minikern.kernel.config"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "minikern.machine")), name)
