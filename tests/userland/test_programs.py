"""Every guest program of ``userland/``, in every flavour: it prints and ends as it does on the host's own kernel.

The arm64 flavours are compared with the native run of the x86-64 build; the programs print the same in all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import NATIVE, guest, missing
from userland.build import FLAVOURS, Program, Run, build, catalogue, flavours
from userland.native import Outcome, refusal
from userland.native import run as run_natively

WITNESS = "x86_64-musl"


def cases() -> Iterator[object]:
    """Every run of every program in every flavour."""
    for program in catalogue().values():
        for how in program.runs:
            for flavour in FLAVOURS:
                if program.fits(FLAVOURS[flavour]):
                    yield pytest.param(program, how, flavour, id=f"{program.name}-{how.title}-{flavour}")


@pytest.mark.parametrize(("program", "how", "flavour"), list(cases()))
def test_program(program: Program, how: Run, flavour: str, tmp_path: Path) -> None:
    if flavour not in flavours():
        missing(f"no compiler for {flavour}")
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "TMPDIR": str(tmp_path)}
    argv: list[str | Path] = [build(program.name, flavour), *how.args]
    outcome = guest(argv, stdin=program.stdin.encode(), cwd=tmp_path, env=environment, pid1=program.is_init)
    printed = outcome.stdout.decode(errors="replace")
    assert outcome.stderr.decode(errors="replace") == "", printed
    assert outcome.status == how.status, printed
    if (expected := witness(program, how)) and program.output == "same":
        assert printed == expected.stdout


@functools.cache
def witness(program: Program, how: Run) -> Outcome | None:
    """What the host does; None where it cannot be asked."""
    flavour = "x86_64-glibc" if program.libc == "glibc" else WITNESS
    if not NATIVE or flavour not in flavours() or refusal(program, FLAVOURS[flavour]):
        return None
    outcome = run_natively(program, how, flavour)
    assert outcome.status == how.status, f"the test is wrong: the host disagrees\n{outcome}"
    return outcome
