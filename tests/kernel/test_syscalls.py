"""System calls are found without importing what declares them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module

from minikern.kernel import syscalls


def test_the_sources_name_what_the_decorator_declares() -> None:
    for package in syscalls._PACKAGES:
        for module in pkgutil.iter_modules(import_module(package).__path__):
            import_module(f"{package}.{module.name}")
    script = "from minikern.kernel.syscalls import all_syscalls; print(*all_syscalls())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set(found) == set(syscalls.GENERIC.calls)


def test_a_call_brings_only_the_module_that_declares_it() -> None:
    script = """if True:
        import sys
        from minikern.kernel.syscalls import find_syscall
        assert find_syscall("mq_open").name == "mq_open"
        assert "minikern.ipc.mqueue" in sys.modules
        assert "minikern.kernel.kcmp" not in sys.modules
        assert find_syscall("no_such_call") is None
    """
    subprocess.run([sys.executable, "-c", script], check=True)
