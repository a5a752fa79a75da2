"""Terminals: line editing and echo, output processing, signals from the keyboard, job control, pseudo terminals."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from minikern.fs import ioctls
from minikern.fs.file import Poll
from minikern.fs.termbits import CC, IFlag, LFlag, OFlag, Termios
from minikern.kernel.errno import ERESTARTSYS, Errno
from minikern.kernel.pid import Pid, change_pid
from minikern.kernel.siginfo import SIG_IGN, Signal
from minikern.kernel.signal import sigmask
from minikern.kernel.task import PidType, Task
from minikern.mm.uaccess import copy_from_user
from tests.fs.sleepers import NONBLOCK, StreamMachine

DECISECOND = 100_000_000
OUTPUT = Poll.OUT | Poll.WRNORM
INPUT = Poll.IN | Poll.RDNORM


class PtyMachine(StreamMachine):
    """A pseudo terminal: `master` plays the user, the program is on `slave`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.kernel.chrdevs.add((5, 2), "", 0, self.kernel.devpts.ptmx_open)
        assert self.call("mknodat", -100, "/ptmx", 0o020666, 5 << 8 | 2) == 0
        self.master = self.open("/ptmx", os.O_RDWR | NONBLOCK)
        assert self.ioctl(self.master, ioctls.TIOCSPTLCK, bytes(4)) == 0
        self.slave = self.ioctl(self.master, ioctls.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | NONBLOCK)

    def ioctl(self, fd: int, cmd: int, arg: bytes | int = 0, task: Task | None = None) -> Any:
        return self.call("ioctl", fd, cmd, self.string(arg) if isinstance(arg, bytes) else arg, task=task)

    def query(self, fd: int, cmd: int) -> int:
        assert self.ioctl(fd, cmd, self.buffer) == 0
        return int.from_bytes(self.peek(4), "little")

    @property
    def tty(self) -> Any:
        return self.file(self.slave).tty

    def settings(self, **changes: int) -> None:
        """Change flags of the slave; names of special characters take a number."""
        new = self.tty.termios.copy()
        for name, value in changes.items():
            if name in CC.__members__:
                new.cc[CC[name]] = value
            else:
                setattr(new, name, value)
        assert self.ioctl(self.slave, ioctls.TCSETS, new.pack()) == 0

    def type(self, keys: bytes) -> bytes:
        """Type something; what appears on the screen."""
        assert self.write(self.master, keys) == len(keys)
        return self.screen()

    def screen(self) -> bytes:
        shown = self.read(self.master)
        return b"" if shown == -Errno.EAGAIN else shown  # type: ignore[return-value]

    def show(self, output: bytes) -> bytes:
        """What the program's output looks like on the screen."""
        assert self.write(self.slave, output) == len(output)
        return self.screen()


@pytest.fixture
def machine(tmp_path: Path) -> PtyMachine:
    return PtyMachine(tmp_path)


class TestLines:
    def test_a_line_is_read_when_it_is_complete(self, machine: PtyMachine) -> None:
        assert machine.type(b"hel") == b"hel"
        assert machine.read(machine.slave) == -Errno.EAGAIN
        assert machine.type(b"lo\r") == b"lo\r\n"
        assert machine.read(machine.slave) == b"hello\n"

    def test_one_line_at_a_time_in_pieces(self, machine: PtyMachine) -> None:
        machine.type(b"one\ntwo\n")
        assert machine.query(machine.slave, ioctls.FIONREAD) == 8
        assert [machine.read(machine.slave, 3) for _ in range(4)] == [b"one", b"\n", b"two", b"\n"]

    def test_end_of_file(self, machine: PtyMachine) -> None:
        machine.type(b"\x04")
        assert machine.read(machine.slave) == b""
        machine.type(b"part\x04")
        assert machine.read(machine.slave) == b"part"
        machine.type(b"full\x04")  # a read that takes exactly the line must not leave an end of file behind
        assert machine.read(machine.slave, 4) == b"full"
        assert machine.read(machine.slave) == -Errno.EAGAIN

    @pytest.mark.parametrize(
        ("keys", "shown", "line"),
        [
            (b"abc\x7f\x7fX\n", b"abc\b \b\b \bX\r\n", b"aX\n"),
            (b"one\x15two\n", b"one\b \b\b \b\b \btwo\r\n", b"two\n"),
            (b"w1 w2 \x17\n", b"w1 w2 \b \b\b \b\b \b\r\n", b"w1 \n"),
            (b"a\t\x7fb\n", b"a\t\b\b\b\b\b\b\bb\r\n", b"ab\n"),
            (b"\x16\x03q\n", b"^\b^Cq\r\n", b"\x03q\n"),
            (b"\x01\x7f\n", b"^A\b \b\b \b\r\n", b"\n"),
            (b"re\x12\n", b"re^R\r\nre\r\n", b"re\n"),
            (b"\x7f\x15\x17x\n", b"x\r\n", b"x\n"),
        ],
    )
    def test_editing(self, machine: PtyMachine, keys: bytes, shown: bytes, line: bytes) -> None:
        assert machine.type(keys) == shown
        assert machine.read(machine.slave) == line

    def test_characters_of_several_bytes(self, machine: PtyMachine) -> None:
        assert machine.type("é\x7f\n".encode()) == "é\b \b\r\n".encode()
        assert machine.read(machine.slave) == b"\xc3\n"
        machine.settings(iflag=machine.tty.termios.iflag | IFlag.IUTF8)
        assert machine.type("é\x7f\n".encode()) == "é\b \b\r\n".encode()
        assert machine.read(machine.slave) == b"\n"

    def test_without_echo(self, machine: PtyMachine) -> None:
        machine.settings(lflag=machine.tty.termios.lflag & ~LFlag.ECHO)
        assert machine.type(b"secret\n") == b""
        machine.settings(lflag=machine.tty.termios.lflag | LFlag.ECHONL)
        assert machine.type(b"secret\n") == b"\r\n"

    def test_the_hard_copy_terminal(self, machine: PtyMachine) -> None:
        machine.settings(lflag=LFlag.ICANON | LFlag.ECHO | LFlag.ECHOE | LFlag.ECHOPRT)
        assert machine.type(b"abc\x7f\x7fx\n") == b"abc\\cb/x\r\n"
        assert machine.read(machine.slave) == b"ax\n"

    def test_other_ends_of_lines(self, machine: PtyMachine) -> None:
        machine.settings(VEOL=ord("!"))
        machine.type(b"ab!cd\n")
        assert [machine.read(machine.slave) for _ in range(2)] == [b"ab!", b"cd\n"]

    def test_a_line_too_long_can_be_ended(self, machine: PtyMachine) -> None:
        machine.settings(lflag=LFlag.ICANON)
        for _ in range(5000):
            assert machine.write(machine.master, b"k") == 1
        machine.type(b"\n")
        line = machine.read(machine.slave)
        assert isinstance(line, bytes) and len(line) == 4096 and line.endswith(b"k\n")

    def test_what_was_typed_before_is_a_line_afterwards(self, machine: PtyMachine) -> None:
        lflag = machine.tty.termios.lflag
        machine.settings(lflag=lflag & ~LFlag.ICANON)
        machine.type(b"pending")
        machine.settings(lflag=lflag)
        assert machine.read(machine.slave) == b"pending"


class TestRaw:
    @pytest.fixture
    def machine(self, machine: PtyMachine) -> PtyMachine:
        machine.settings(iflag=0, oflag=0, lflag=0, VMIN=1, VTIME=0)
        machine.call("fcntl", machine.slave, 4, 0)  # blocking
        return machine

    def test_every_byte(self, machine: PtyMachine) -> None:
        assert machine.type(b"a\x03\x04\r\n") == b""
        assert machine.read(machine.slave) == b"a\x03\x04\r\n"
        assert machine.show(b"x\n") == b"x\n"

    def test_nothing_is_waited_for(self, machine: PtyMachine) -> None:
        machine.settings(VMIN=0)
        assert machine.read(machine.slave) == b""

    def test_a_minimum(self, machine: PtyMachine) -> None:
        machine.settings(VMIN=3)
        sleeper = machine.start("read", machine.slave, machine.buffer + 100, 10)
        machine.type(b"ab")
        machine.run_woken()
        assert sleeper.asleep and machine.poll(machine.slave) == OUTPUT
        machine.type(b"c")
        machine.run_woken()
        assert sleeper.result == 3
        machine.type(b"z")
        assert machine.read(machine.slave, 1) == b"z"  # no more is asked for than fits

    def test_a_time_for_the_first_byte(self, machine: PtyMachine) -> None:
        machine.settings(VMIN=0, VTIME=2)
        late = machine.start("read", machine.slave, machine.buffer, 10)
        machine.pass_time(2 * DECISECOND - 1)
        assert late.asleep
        machine.pass_time(1)
        assert late.result == 0
        in_time = machine.start("read", machine.slave, machine.buffer, 10)
        machine.pass_time(DECISECOND)
        machine.type(b"x")
        machine.run_woken()
        assert in_time.result == 1

    def test_a_time_between_bytes(self, machine: PtyMachine) -> None:
        machine.settings(VMIN=9, VTIME=2)
        sleeper = machine.start("read", machine.slave, machine.buffer + 100, 10)
        machine.pass_time(50 * DECISECOND)
        assert sleeper.asleep  # it begins with the first byte
        for _ in range(3):
            machine.type(b"x")
            machine.run_woken()
            machine.pass_time(2 * DECISECOND - 1)
            assert sleeper.asleep
        machine.pass_time(1)
        assert sleeper.result == 3

    def test_a_signal_gives_what_there_is(self, machine: PtyMachine) -> None:
        machine.settings(VMIN=9)
        sleepers = [machine.start("read", machine.slave, machine.buffer, 10) for _ in range(2)]
        machine.type(b"abc")
        machine.run_woken()
        for each in sleepers:
            machine.interrupt(each)
        assert [each.result for each in sleepers] == [3, -ERESTARTSYS]


class TestOutput:
    @pytest.mark.parametrize(
        ("oflag", "output", "shown"),
        [
            (OFlag.OPOST | OFlag.ONLCR, b"a\nb\n", b"a\r\nb\r\n"),
            (OFlag.OPOST | OFlag.ONLCR | OFlag.XTABS, b"a\tb\n\tc", b"a       b\r\n        c"),
            (OFlag.OPOST | OFlag.OCRNL | OFlag.ONOCR, b"\rab\rc\n\r", b"ab\nc\n\n"),
            (OFlag.OPOST | OFlag.OLCUC, b"shout", b"SHOUT"),
            (OFlag(0), b"raw\n\t", b"raw\n\t"),
        ],
    )
    def test_processing(self, machine: PtyMachine, oflag: int, output: bytes, shown: bytes) -> None:
        machine.settings(oflag=oflag)
        assert machine.show(output) == shown

    def test_flow_control(self, machine: PtyMachine) -> None:
        assert machine.type(b"\x13") == b""
        assert machine.write(machine.slave, b"held") == -Errno.EAGAIN
        machine.call("fcntl", machine.slave, 4, 0)
        sleeper = machine.start("write", machine.slave, machine.put(b"held"), 4)
        assert sleeper.asleep
        assert machine.poll(machine.slave) == 0
        machine.type(b"\x11")
        machine.run_woken()
        assert sleeper.result == 4 and machine.screen() == b"held"

    def test_a_program_waits_for_whoever_looks(self, machine: PtyMachine) -> None:
        machine.call("fcntl", machine.slave, 4, 0)
        sleeper = machine.start("write", machine.slave, machine.buffer, 30_000)
        assert sleeper.asleep
        seen = 0
        while seen < 30_000:
            seen += len(machine.screen())
            machine.run_woken()
        assert sleeper.result == 30_000

    def test_flushing(self, machine: PtyMachine) -> None:
        machine.type(b"typed\n")
        machine.ioctl(machine.slave, ioctls.TCFLSH, 0)
        assert machine.read(machine.slave) == -Errno.EAGAIN
        assert machine.ioctl(machine.slave, ioctls.TCFLSH, 9) == -Errno.EINVAL


class Session:
    """A shell with a terminal, and a job of its own group in the background."""

    def __init__(self, machine: PtyMachine) -> None:
        self.machine = machine
        self.shell = machine.task
        self.shell.signal.leader = True
        assert machine.ioctl(machine.slave, ioctls.TIOCSCTTY) == 0
        self.job = self.fork()
        self.parent_job = self.fork()

    def fork(self) -> Task:
        """A child in a group of its own; its parent is the shell, so the group is no orphan."""
        machine = self.machine
        task = machine.clone()
        task.real_parent = task.parent = self.shell
        own = task.thread_pid
        assert own is not None
        session = self.shell.signal.pids[PidType.SID]
        assert session is not None
        change_pid(task, PidType.SID, session)
        task.signal.tty = self.shell.signal.tty
        machine.kernel.sched.current = self.shell
        return task

    def pending(self, task: Task) -> set[Signal]:
        bits = task.signal.shared_pending.signal | task.pending.signal
        return {sig for sig in Signal if bits & sigmask(sig)}


class TestJobControl:
    @pytest.fixture
    def session(self, machine: PtyMachine) -> Session:
        machine.kernel.init_task = Task(machine.kernel, machine.arch, None)
        machine.kernel.init_task.group_leader = machine.kernel.init_task
        return Session(machine)

    def test_keys_are_signals_for_the_foreground(self, machine: PtyMachine, session: Session) -> None:
        assert machine.ioctl(machine.slave, ioctls.TIOCSPGRP, session.job.pid.to_bytes(4, "little")) == 0
        assert machine.type(b"lost\x1a") == b"lost^Z"
        assert session.pending(session.job) == {Signal.SIGTSTP}
        assert session.pending(session.shell) == set()
        machine.type(b"\n")
        assert machine.query(machine.slave, ioctls.FIONREAD) == 1  # what was typed before the signal is gone

    def test_background_reading_stops(self, machine: PtyMachine, session: Session) -> None:
        assert machine.call("read", machine.slave, machine.buffer, 1, task=session.job) == -ERESTARTSYS
        assert session.pending(session.job) == {Signal.SIGTTIN}
        assert session.job.sighand is not None
        session.job.sighand.action[Signal.SIGTTIN - 1].handler = SIG_IGN
        assert machine.call("read", machine.slave, machine.buffer, 1, task=session.job) == -Errno.EIO

    def test_background_writing_stops_if_asked_to(self, machine: PtyMachine, session: Session) -> None:
        assert machine.call("write", machine.slave, machine.put(b"x"), 1, task=session.job) == 1
        machine.settings(lflag=machine.tty.termios.lflag | LFlag.TOSTOP)
        assert machine.call("write", machine.slave, machine.put(b"x"), 1, task=session.job) == -ERESTARTSYS
        assert session.pending(session.job) == {Signal.SIGTTOU}

    def test_background_settings_stop(self, machine: PtyMachine, session: Session) -> None:
        assert machine.ioctl(machine.slave, ioctls.TCSETS, Termios().pack(), session.job) == -ERESTARTSYS
        assert session.pending(session.job) == {Signal.SIGTTOU}
        session.job.blocked = sigmask(Signal.SIGTTOU)
        assert machine.ioctl(machine.slave, ioctls.TCSETS, Termios().pack(), session.job) == 0

    def test_an_orphaned_group_gets_an_error(self, machine: PtyMachine, session: Session) -> None:
        session.job.real_parent = machine.kernel.init_task
        assert machine.call("read", machine.slave, machine.buffer, 1, task=session.job) == -Errno.EIO
        assert session.pending(session.job) == set()

    def test_who_may_be_in_the_foreground(self, machine: PtyMachine, session: Session) -> None:
        assert machine.query(machine.slave, ioctls.TIOCGPGRP) == session.shell.pid
        assert machine.query(machine.slave, ioctls.TIOCGSID) == session.shell.pid
        assert machine.ioctl(machine.slave, ioctls.TIOCSPGRP, (9999).to_bytes(4, "little")) == -Errno.ESRCH
        stranger = machine.clone()
        machine.kernel.sched.current = session.shell
        assert machine.ioctl(machine.slave, ioctls.TIOCSPGRP, stranger.pid.to_bytes(4, "little")) == -Errno.EPERM
        assert machine.ioctl(machine.slave, ioctls.TIOCGPGRP, machine.buffer, stranger) == -Errno.ENOTTY
        assert machine.ioctl(machine.slave, ioctls.TIOCSCTTY, 0, stranger) == -Errno.EPERM

    def test_the_window_changes(self, machine: PtyMachine, session: Session) -> None:
        assert session.shell.sighand is not None
        session.shell.sighand.action[Signal.SIGWINCH - 1].handler = 0x1000
        assert machine.ioctl(machine.master, ioctls.TIOCSWINSZ, struct.pack("<4H", 24, 80, 0, 0)) == 0
        assert session.pending(session.shell) == {Signal.SIGWINCH}
        assert machine.ioctl(machine.slave, ioctls.TIOCGWINSZ, machine.buffer) == 0
        assert struct.unpack("<4H", machine.peek(8)) == (24, 80, 0, 0)

    def test_giving_the_terminal_up(self, machine: PtyMachine, session: Session) -> None:
        foreground: Pid | None = session.job.thread_pid
        machine.tty.pgrp = foreground
        assert machine.ioctl(machine.slave, ioctls.TIOCNOTTY) == 0
        assert session.pending(session.job) >= {Signal.SIGHUP}
        assert session.job.signal.tty is session.shell.signal.tty is machine.tty.session is None

    def test_the_user_goes(self, machine: PtyMachine, session: Session) -> None:
        tty = machine.tty
        machine.close(machine.master)
        for task in (session.job, session.parent_job):  # they have it open too
            assert task.files is not None
            task.files.remove(machine.master).fput()
        assert session.pending(session.shell) >= {Signal.SIGHUP}
        assert tty.session is None and session.shell.signal.tty is None
        assert machine.read(machine.slave) == b""
        assert machine.write(machine.slave, b"x") == -Errno.EIO


class TestPty:
    def test_names(self, machine: PtyMachine) -> None:
        assert machine.query(machine.master, ioctls.TIOCGPTN) == 0
        assert [name for name, _ in machine.kernel.devpts.root.entries.items()] == [b"0"]
        machine.close(machine.slave)
        machine.close(machine.master)
        assert not machine.kernel.devpts.root.entries and not machine.kernel.devpts.ptys

    def test_locked_until_the_master_allows(self, machine: PtyMachine) -> None:
        other = machine.open("/ptmx", os.O_RDWR)
        assert machine.query(other, ioctls.TIOCGPTN) == 1
        assert machine.ioctl(other, ioctls.TIOCGPTPEER, os.O_RDWR) == -Errno.EIO

    def test_the_last_program_closes(self, machine: PtyMachine) -> None:
        machine.write(machine.slave, b"last words")
        machine.close(machine.slave)
        assert machine.read(machine.master) == b"last words"
        assert machine.read(machine.master) == -Errno.EIO
        assert machine.poll(machine.master) == OUTPUT | Poll.HUP
        slave = machine.ioctl(machine.master, ioctls.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        assert machine.poll(machine.master) == OUTPUT
        machine.write(slave, b"again")
        assert machine.read(machine.master) == b"again"

    def test_packet_mode(self, machine: PtyMachine) -> None:
        assert machine.ioctl(machine.master, ioctls.TIOCPKT, (1).to_bytes(4, "little")) == 0
        assert machine.show(b"data") == b"\0data"
        machine.ioctl(machine.slave, ioctls.TCFLSH, 0)
        assert machine.poll(machine.master) == OUTPUT | INPUT | Poll.PRI
        assert machine.screen() == b"\1"
        machine.settings(iflag=IFlag.ICRNL)
        assert machine.screen() == bytes([16])
        machine.settings(iflag=IFlag.ICRNL | IFlag.IXON)
        assert machine.screen() == bytes([32])

    def test_settings_in_every_layout(self, machine: PtyMachine) -> None:
        assert machine.ioctl(machine.master, ioctls.TCGETS, machine.buffer) == 0  # those of the slave
        assert Termios.unpack(machine.peek(36)).lflag == machine.tty.termios.lflag
        new = machine.tty.termios.copy()
        new.cc[CC.VINTR] = 1
        new.ospeed = 9600
        assert machine.ioctl(machine.slave, ioctls.TCSETSF2, new.pack2()) == 0
        assert machine.ioctl(machine.slave, ioctls.TCGETS2, machine.buffer) == 0
        assert Termios.unpack2(machine.peek(44)).ospeed == 9600
        assert machine.ioctl(machine.slave, ioctls.TCGETA, machine.buffer) == 0
        assert len(new.pack_termio()) == 18 and machine.peek(18) == new.pack_termio()
        assert machine.ioctl(machine.slave, ioctls.TCSETAW, new.pack_termio()) == 0
        assert machine.tty.termios.ospeed == 9600

    def test_refused(self, machine: PtyMachine) -> None:
        assert machine.ioctl(machine.slave, ioctls.TIOCSTI, b"x") == -Errno.EIO
        assert machine.ioctl(machine.slave, 0x5499) == -Errno.ENOTTY
        assert machine.ioctl(machine.slave, ioctls.TIOCGPTN, machine.buffer) == -Errno.ENOTTY
        assert machine.call("lseek", machine.slave, 0, 0) == -Errno.ESPIPE
        assert copy_from_user(machine.task, machine.buffer, 0) == b""
