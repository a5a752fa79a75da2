"""The host's own strace, a dynamic program, traces programs inside and says what it says outside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support import guest, missing, native
from userland.build import build, flavours


def traced(text: bytes) -> list[str]:
    """The lines without numbers that differ from run to run, and the columns that depend on them."""
    return [
        re.sub(r"0x[0-9a-f]+|(?<=wait4\()\d+|(?<= = )\d+$|\b\d{3,}\b| +(?==)", "N", line)
        for line in text.decode().splitlines()
    ]


@pytest.mark.parametrize(
    ("program", "calls"),
    [
        ("exit_codes", "exit_group,exit,wait4"),
        ("fork_wait42", "exit_group,wait4,kill,execve"),
        ("hello", "write,writev,exit_group,brk"),
    ],
)
def test_same_trace(program: str, calls: str) -> None:
    strace = shutil.which("strace")
    if not strace:
        missing("no strace")
    if "x86_64-musl" not in flavours():
        missing("no compiler")
    command: list[str | Path] = [
        strace,
        "-qq",
        "-e",
        f"trace={calls}",
        "-e",
        "signal=none",
        build(program, "x86_64-musl"),
    ]
    expected, got = native(command), guest(command)
    assert (got.status, got.stdout) == (expected.status, expected.stdout)
    assert traced(got.stderr) == traced(expected.stderr)


def test_follows_threads() -> None:
    strace = shutil.which("strace")
    if not strace:
        missing("no strace")
    if "x86_64-musl" not in flavours():
        missing("no compiler")
    outcome = guest([strace, "-f", "-e", "trace=exit,exit_group", build("exit_group33", "x86_64-musl")])
    assert outcome.status == 33
    assert outcome.stderr.count(b"+++ exited with 33 +++") == 3 and outcome.stderr.count(b"exit_group(33") == 1
