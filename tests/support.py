"""What many tests need: programs to run, and both ways to run them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from minikern import Config, Machine, Stream

ARCHES = ("x86_64", "aarch64")
DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
TIMEOUT_S = 60
PLAIN_ENV = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C", "TZ": "UTC"}

# Where the host itself can be the witness: it runs the very same binary.
NATIVE = platform.system() == "Linux" and platform.machine() == "x86_64"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind."""

    status: int  # exit status, or minus the signal that killed it
    stdout: bytes
    stderr: bytes


def missing(what: str) -> NoReturn:
    """The test needs something that is not on this machine: skipped, except where everything has to be there."""
    if os.environ.get("MINIKERN_ALL_TESTS"):
        pytest.fail(f"{what}, and MINIKERN_ALL_TESTS is set")
    pytest.skip(what)


def debian(arch: str, path: str) -> Path:
    """A program of a Debian package, as ``tests/real/fetch-debian`` unpacked it."""
    folder = Path(os.environ.get("MINIKERN_DEBIAN") or Path.home() / ".cache/minikern/debian")
    found = folder / DEBIAN_NAMES[arch] / path
    if not found.exists():
        missing(f"no {path} of {DEBIAN_NAMES[arch]} here: run tests/real/fetch-debian")
    return found


def native(
    argv: Sequence[str | Path], *, stdin: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] = PLAIN_ENV
) -> Outcome:
    """Run a program on the host's kernel."""
    if not NATIVE:
        pytest.skip("the host is not an x86-64 Linux, so it cannot be the witness")
    done = subprocess.run(
        [str(each) for each in argv], input=stdin, cwd=cwd, env=env, capture_output=True, timeout=TIMEOUT_S
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def guest(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] = PLAIN_ENV,
    **config: object,
) -> Outcome:
    """Run a program in a machine of its own, and have the kernel check itself afterwards."""
    machine = Machine(Config(**config))  # type: ignore[arg-type]
    process = machine.spawn(
        [str(each) for each in argv],
        env=env,
        cwd=str(cwd) if cwd else None,
        stdin=stdin,
        stdout=Stream.CAPTURE,
        stderr=Stream.CAPTURE,
    )
    machine.run(timeout_s=TIMEOUT_S)
    assert machine.check() == []
    assert process.returncode is not None
    return Outcome(process.returncode, process.stdout, process.stderr)


def minikern_command(*args: str, stdin: bytes = b"", cwd: Path | None = None) -> Outcome:
    """Run the ``minikern`` command in a process of its own."""
    command = [sys.executable, "-m", "minikern", *args]
    done = subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, timeout=TIMEOUT_S)
    return Outcome(done.returncode, done.stdout, done.stderr)
