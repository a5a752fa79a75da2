"""The console: a shell in a machine, driven through a terminal of the host as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from minikern.host.terminal import Terminal
from tests.support import missing

SHELL = Path("/bin/busybox")
PROMPT = r"\$> "


@pytest.fixture
def shell() -> Iterator[pexpect.spawn]:
    if not SHELL.exists():
        missing("no static busybox here")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "minikern", "run", "--", str(SHELL), "sh", "-i"],
        env={**os.environ, "PS1": "$> ", "TERM": "dumb"},
        dimensions=(30, 100),
        timeout=60,
    )
    child.expect(PROMPT)
    yield child
    child.close(force=True)


def test_keys_and_jobs(shell: pexpect.spawn) -> None:
    shell.sendline("stty size; tty")
    shell.expect("30 100")
    shell.expect("/dev/console")
    shell.expect(PROMPT)
    shell.sendline("sleep 100")
    time.sleep(0.5)
    shell.sendintr()
    shell.expect(PROMPT)
    shell.sendline("echo status=$?")
    shell.expect("status=130")
    shell.expect(PROMPT)
    shell.sendline("sleep 100")
    time.sleep(0.5)
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    shell.sendline("bg; jobs")
    shell.expect("Running")
    shell.expect(PROMPT)
    shell.sendline("cat &")
    shell.expect(PROMPT)
    time.sleep(0.5)
    shell.sendline("jobs")
    shell.expect("tty input")
    shell.expect(PROMPT)
    shell.setwinsize(40, 120)
    time.sleep(0.5)
    shell.sendline("stty size")
    shell.expect("40 120")
    shell.expect(PROMPT)
    shell.sendline("kill -9 %1 %2")
    shell.expect(PROMPT)
    time.sleep(0.5)
    shell.sendline("jobs; exit 3")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 3


@pytest.mark.parametrize("end", ["end of input", "SIGTERM"])
def test_the_terminal_is_put_back(end: str) -> None:
    if not SHELL.exists():
        missing("no static busybox here")
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "minikern", "run", "--", str(SHELL), "cat"]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    deadline = time.monotonic() + 60
    while termios.tcgetattr(slave) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not termios.tcgetattr(slave)[3] & termios.ICANON
    if end == "SIGTERM":
        child.terminate()
    else:
        os.write(master, b"\x04")
    assert child.wait(60) == (0 if end == "end of input" else 128 + signal.SIGTERM)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_raw_and_back() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    terminal = Terminal(slave)
    terminal.enter_raw()
    assert not termios.tcgetattr(slave)[3] & termios.ECHO
    terminal.enter_raw()
    terminal.restore()
    terminal.restore()
    assert termios.tcgetattr(slave) == before
    os.write(master, b"typed\n")
    assert terminal.read(100) == b"typed\n"
    assert terminal.writable() and terminal.write(b"shown") == 5
    os.close(master)
    assert terminal.read(100) == b""  # the terminal is gone
    assert terminal.write(b"lost") == 4
    os.close(slave)
