"""A Go program: a runtime that makes its own system calls, threads, signal frames and timers, without any C library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ARCHES, DEBIAN_NAMES, guest, missing, native

SOURCE = Path(__file__).parent / "go/runtime.go"
CACHE = Path(os.environ.get("MINIKERN_DEBIAN") or Path.home() / ".cache/minikern/debian") / "go"


def built(arch: str, folder: Path) -> Path:
    """The program for one architecture; Go's own cache makes all but the first time quick."""
    go = shutil.which("go")
    if not go:
        missing("no go here: install golang-go")
    program = folder / f"runtime-{arch}"
    target = {"GOARCH": DEBIAN_NAMES[arch], "GOOS": "linux", "CGO_ENABLED": "0"}
    settings = {"GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(CACHE)}
    subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", program, SOURCE],
        env={**os.environ, **target, **settings},
        check=True,
    )
    return program


@pytest.mark.parametrize("arch", ARCHES)
def test_go_runtime(arch: str, tmp_path: Path) -> None:
    outcome = guest([built(arch, tmp_path)])
    assert (outcome.status, outcome.stderr) == (7, b"done\n")
    assert outcome == native([built("x86_64", tmp_path)])
