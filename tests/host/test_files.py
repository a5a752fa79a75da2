"""Descriptors of the host run out for the guest before they do for the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """if True:
    import os, resource, sys
    from minikern.host.files import HostTree
    from minikern.kernel.errno import Errno, KernelError
    from minikern.kernel.syscalls import find_syscall
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    root, files = HostTree(sys.argv[1]).root, []
    try:
        while True:
            files.append(root.open(b"file", os.O_RDONLY))
    except KernelError as error:
        assert error.errno == Errno.EMFILE, error
    assert len(files) > 32, len(files)
    assert find_syscall("kcmp") is not None
"""


def test_the_kernel_can_still_import(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True)
