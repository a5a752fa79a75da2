"""``minikern run`` at a terminal: a shell with line editing, job control, window size; and the terminal afterwards."""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterator

import pexpect
import pytest

from tests.support import ARCHES, debian

PROMPT = "ready> "


@pytest.fixture(params=ARCHES)
def shell(request: pytest.FixtureRequest) -> Iterator[pexpect.spawn]:
    """An interactive busybox shell inside, after its first prompt."""
    busybox = str(debian(request.param, "bin/busybox"))
    command = ["-m", "minikern", "run", "--env", f"PS1={PROMPT}", busybox, "sh"]
    child = pexpect.spawn(sys.executable, command, timeout=20, encoding="utf-8", dimensions=(33, 77))
    child.settings = termios.tcgetattr(child.child_fd)
    child.expect_exact(PROMPT)
    yield child
    child.close(force=True)


def ask(shell: pexpect.spawn, line: str) -> str:
    """Type a line; what is printed until the next prompt."""
    shell.sendline(line)
    shell.expect_exact(line)
    shell.expect_exact(PROMPT)
    text: str = shell.before
    return text.replace("\r\n", "\n").strip()


def test_a_session(shell: pexpect.spawn) -> None:
    assert ask(shell, "echo $((6 * 7))") == "42"
    assert ask(shell, "stty size") == "33 77"
    assert ask(shell, "test -t 0 && test -t 1 && echo terminal").endswith("terminal")
    shell.sendline("exit 5")
    shell.expect(pexpect.EOF)
    shell.wait()
    assert shell.exitstatus == 5


def test_ctrl_c_ends_the_command_and_not_the_shell(shell: pexpect.spawn) -> None:
    shell.sendline("echo be''gin; while :; do :; done")
    shell.expect_exact("begin")
    shell.sendintr()
    shell.expect_exact(PROMPT)
    assert ask(shell, "echo still here") == "still here"
    shell.sendline("cat")
    shell.sendline("twice")
    shell.expect_exact("twice")
    shell.expect_exact("twice")
    shell.sendintr()
    shell.expect_exact(PROMPT)


def test_end_of_file_ends_the_shell(shell: pexpect.spawn) -> None:
    shell.sendeof()
    shell.expect(pexpect.EOF)
    shell.wait()
    assert shell.exitstatus == 0


def test_job_control(shell: pexpect.spawn) -> None:
    shell.sendline("sleep 100")
    shell.expect_exact("sleep 100")
    shell.send("\x1a")
    shell.expect_exact("Stopped")
    shell.expect_exact(PROMPT)
    assert "Stopped" in ask(shell, "jobs")
    ask(shell, "kill %1")
    ask(shell, "wait")


def test_the_terminal_is_left_as_it_was(shell: pexpect.spawn) -> None:
    assert termios.tcgetattr(shell.child_fd) != shell.settings  # raw while the guest has it
    ask(shell, "stty -echo; stty raw; stty sane")
    shell.sendline("kill -9 $$")
    shell.expect(pexpect.EOF)
    shell.wait()
    assert shell.exitstatus == 137
    assert termios.tcgetattr(shell.child_fd) == shell.settings
