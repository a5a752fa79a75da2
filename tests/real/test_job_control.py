"""Debian's bash at a terminal: its jobs stop, go on, end and outlive it. (tests/host/test_console.py has busybox's.)"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pexpect
import pytest

from tests.support import ARCHES, debian

PROMPT = r"\$> "
# Says when it is there, and answers each line, so that a test knows that it has the terminal.
ECHO = "f() { echo re''ady; while read -r l; do echo \"<$l>\"; done; }"


@pytest.fixture(params=ARCHES)
def shell(request: pytest.FixtureRequest) -> Iterator[pexpect.spawn]:
    bash = debian(request.param, "bin/bash-static")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "minikern", "run", "--check", "--", str(bash), "--norc", "--noprofile", "--noediting", "-i"],
        env={**os.environ, "PS1": "$> ", "TERM": "dumb", "HISTFILE": ""},
        dimensions=(30, 200),
        timeout=60,
    )
    child.expect(PROMPT)
    say(child, ECHO)
    yield child
    child.close(force=True)


def say(shell: pexpect.spawn, line: str, *answers: str) -> None:
    """Type a line, and wait for what it prints and for the next prompt."""
    shell.sendline(line)
    for answer in answers:
        shell.expect(answer)
    shell.expect(PROMPT)


def test_stop_and_continue(shell: pexpect.spawn) -> None:
    shell.sendline("(f)")
    shell.expect("ready")
    shell.send("\x1a")
    shell.expect(r"Stopped +\( f \)")
    shell.expect(PROMPT)
    say(shell, "echo s=$?", "s=148")
    say(shell, "bg", r"\[1\]\+ \( f \) &")  # it reads from the terminal, and so stops by itself
    say(shell, "until jobs -s | grep -q f; do :; done; jobs", "Stopped")
    shell.sendline("fg")
    shell.expect(r"\( f \)")
    shell.sendline("hello")
    shell.expect("<hello>")
    shell.sendintr()
    shell.expect(PROMPT)
    say(shell, "echo s=$?", "s=130")


def test_kill_wait_disown(shell: pexpect.spawn) -> None:
    say(shell, "sleep 1000 & sleep 2000 &")
    say(shell, "kill %1; wait %1; echo s=$?", "s=143")
    say(shell, "(exit 7) & wait -n %%; echo n=$?", "n=7")
    say(shell, 'kill -STOP %2; until [ "$(jobs -s)" ]; do :; done; jobs', "Stopped.*sleep 2000")
    say(shell, "p=$!; kill -CONT %2; jobs -r", "Running.*sleep 2000")
    say(shell, "disown %2; jobs; wait %2; echo d=$?", "no such job", "d=127")
    shell.sendline("exit 4")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 4


def test_hangup_on_exit(shell: pexpect.spawn) -> None:
    say(shell, "PS1='$> ' $BASH --norc --noprofile --noediting -i")  # the machine ends with the outer one
    shell.sendline("(trap 'echo hung\"\" up; exit' HUP; echo re''ady; while :; do sleep 0.01; done) &")
    shell.expect("ready")
    shell.sendline("kill -HUP $$")
    shell.expect("hung up")
    shell.sendline("echo out''er $?")
    shell.expect("outer 129")
    shell.sendline("exit 4")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 4
