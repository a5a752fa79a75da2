"""AF_UNIX sockets: streams, messages, addresses, what travels with a message, what the death of one end does."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from minikern.fs.file import Poll
from minikern.kernel.errno import ERESTARTSYS, Errno
from minikern.kernel.siginfo import Signal
from minikern.kernel.signal import sigmask
from minikern.mm.uaccess import copy_from_user, copy_to_user
from minikern.net.socket import Msg, Sock
from minikern.net.sockopt import So
from minikern.net.unix_io import truesize
from tests.fs.sleepers import NONBLOCK, Sleeper, StreamMachine

MS = 1_000_000
AF_UNIX = 1
SOL_SOCKET = 1
READABLE = Poll.IN | Poll.RDNORM
WRITABLE = Poll.OUT | Poll.WRNORM | Poll.WRBAND


class NetMachine(StreamMachine):
    """Calls of sockets with their structures in guest memory."""

    def pair(self, kind: int = Sock.STREAM, flags: int = 0) -> tuple[int, int]:
        assert self.call("socketpair", AF_UNIX, kind | flags, 0, self.buffer) == 0
        one, two = struct.unpack("<2i", self.peek(8))
        return one, two

    def socket(self, kind: int = Sock.STREAM, flags: int = 0) -> int:
        fd = self.call("socket", AF_UNIX, kind | flags, 0)
        assert isinstance(fd, int) and fd >= 0
        return fd

    def address(self, name: bytes) -> tuple[int, int]:
        """Guest address and length of a ``struct sockaddr_un``; names that begin with @ are abstract."""
        data = struct.pack("<H", AF_UNIX) + (b"\0" + name[1:] if name.startswith(b"@") else name + b"\0")
        return self.string(data), len(data)

    def bind(self, fd: int, name: bytes) -> int:
        result = self.call("bind", fd, *self.address(name))
        assert isinstance(result, int)
        return result

    def listener(self, name: bytes, kind: int = Sock.STREAM, backlog: int = 5) -> int:
        fd = self.socket(kind)
        assert self.bind(fd, name) == 0
        assert self.call("listen", fd, backlog) == 0
        return fd

    def connect(self, fd: int, name: bytes) -> Any:
        return self.call("connect", fd, *self.address(name))

    def name_of(self, call: str, fd: int) -> bytes | int:
        length = self.string((110).to_bytes(4, "little"))
        result = self.call(call, fd, self.buffer, length)
        if result < 0:
            return int(result)
        return self.peek(int.from_bytes(copy_from_user(self.task, length, 4), "little"))

    def option(self, fd: int, option: int) -> bytes | int:
        length = self.string((128).to_bytes(4, "little"))
        result = self.call("getsockopt", fd, SOL_SOCKET, option, self.buffer, length)
        if result < 0:
            return int(result)
        return self.peek(int.from_bytes(copy_from_user(self.task, length, 4), "little"))

    def set_option(self, fd: int, option: int, value: bytes | int) -> int:
        data = value.to_bytes(4, "little") if isinstance(value, int) else value
        result = self.call("setsockopt", fd, SOL_SOCKET, option, self.string(data), len(data))
        assert isinstance(result, int)
        return result

    def _msghdr(self, data: int, size: int, control: int, room: int) -> int:
        iovec = self.string(struct.pack("<QQ", data, size))
        self.header = self.string(struct.pack("<QI4xQQQQI4x", 0, 0, iovec, 1, control, room, 0))
        return self.header

    def sendmsg(self, fd: int, data: bytes, *fds: int, flags: int = 0) -> Any:
        body = struct.pack(f"<{len(fds)}i", *fds)
        control = self.string(struct.pack("<Qii", 16 + len(body), SOL_SOCKET, 1) + body) if fds else 0
        header = self._msghdr(self.string(data), len(data), control, 16 + len(body) if fds else 0)
        return self.call("sendmsg", fd, header, flags)

    def recvmsg(self, fd: int, count: int = 100, room: int = 200, flags: int = 0) -> tuple[bytes, bytes, int]:
        """(data, control messages, flags)."""
        self._msghdr(self.buffer, count, self.buffer + 8192, room)
        size = self.call("recvmsg", fd, self.header, flags)
        assert isinstance(size, int) and size >= 0, size
        used, stored_flags = struct.unpack("<QI", copy_from_user(self.task, self.header + 40, 12))
        return self.peek(min(size, count)), self.peek(used, 8192), stored_flags

    def received_fds(self, control: bytes) -> list[int]:
        if not control:
            return []
        length, level, kind = struct.unpack_from("<Qii", control)
        assert (level, kind) == (SOL_SOCKET, 1)
        return [fd for (fd,) in struct.iter_unpack("<i", control[16:length])]

    def recv(self, fd: int, count: int = 100, flags: int = 0) -> Any:
        size = self.call("recvfrom", fd, self.buffer, count, flags, 0, 0)
        return self.peek(size) if isinstance(size, int) and size >= 0 else size

    def start_recv(self, fd: int, count: int, flags: int = 0) -> Sleeper:
        return self.start("recvfrom", fd, self.buffer + 4096, count, flags, 0, 0)


@pytest.fixture
def machine(tmp_path: Path) -> NetMachine:
    machine = NetMachine(tmp_path)
    copy_to_user(machine.task, machine.buffer, bytes(65536))
    return machine


class TestStream:
    def test_bytes_without_bounds(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        machine.write(one, b"hello")
        machine.write(one, b"world")
        assert machine.recv(two, 3, Msg.PEEK) == b"hel"
        assert machine.recv(two, 7) == b"hellowo"
        assert machine.read(two) == b"rld"

    def test_waiting(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader = machine.start_recv(two, 10)
        assert reader.wchan == "unix_stream_data_wait"
        machine.write(one, b"late")
        machine.run_woken()
        assert reader.result == 4

    def test_waitall(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader = machine.start_recv(two, 6, Msg.WAITALL)
        machine.write(one, b"abc")
        machine.run_woken()
        assert reader.asleep
        machine.write(one, b"defg")
        machine.run_woken()
        assert reader.result == 6 and machine.peek(6, 4096) == b"abcdef"
        assert machine.read(two) == b"g"

    def test_a_signal_ends_waitall_with_what_has_come(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        first, second = machine.start_recv(two, 6, Msg.WAITALL), machine.start_recv(two, 6)
        machine.interrupt(second)
        assert second.result == -ERESTARTSYS
        machine.write(one, b"abc")
        machine.run_woken()
        machine.interrupt(first)
        assert first.result == 3

    def test_room_is_counted_as_linux_counts_it(self, machine: NetMachine) -> None:
        one, two = machine.pair(flags=NONBLOCK)
        assert [truesize(size, 3776) for size in (1, 1000, 4000, 36544)] == [768, 2304, 4864, 37120]
        count = 0
        while machine.write(one, b"x") == 1:
            count += 1
        assert count == -(-212992 // 768)
        assert machine.poll(one) & Poll.OUT == 0
        machine.read(two, count * 3 // 4 - 1)
        assert machine.poll(one) & Poll.OUT == 0  # until a quarter is left
        machine.read(two, 2)
        assert machine.poll(one) & Poll.OUT

    def test_a_long_write_waits_for_the_reader(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        writer = machine.start("write", one, machine.buffer, 500_000)
        assert writer.asleep
        got = 0
        while got < 500_000:
            part = machine.read(two, 50_000)
            assert isinstance(part, bytes)
            got += len(part)
            machine.run_woken()
        assert writer.result == 500_000

    def test_time_limits(self, machine: NetMachine) -> None:
        _, two = machine.pair()
        machine.set_option(two, So.RCVTIMEO, struct.pack("<qq", 0, 50_000))
        sleepers = [machine.start("read", two, machine.buffer, 1), machine.start_recv(two, 1)]
        interrupted = machine.start_recv(two, 1)
        machine.interrupt(interrupted)
        assert interrupted.result == -Errno.EINTR
        machine.pass_time(49 * MS)
        assert all(each.asleep for each in sleepers)
        machine.pass_time(1 * MS)
        assert [each.result for each in sleepers] == [-Errno.EAGAIN] * 2

    def test_half_closed(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        assert machine.call("shutdown", one, 1) == 0
        assert machine.poll(two) == READABLE | WRITABLE | Poll.RDHUP
        assert machine.read(two) == b""
        assert machine.sendmsg(one, b"x", flags=Msg.NOSIGNAL) == -Errno.EPIPE
        assert not machine.task.pending.signal
        assert machine.write(one, b"x") == -Errno.EPIPE
        assert machine.task.pending.signal & sigmask(Signal.SIGPIPE)
        machine.write(two, b"back")
        assert machine.read(one) == b"back"

    def test_the_other_end_is_gone(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        machine.write(one, b"last")
        machine.close(one)
        assert machine.poll(two) == READABLE | WRITABLE | Poll.RDHUP | Poll.HUP
        assert (machine.read(two), machine.read(two)) == (b"last", b"")
        assert machine.write(two, b"x") == -Errno.EPIPE

    def test_unread_bytes_make_it_a_reset(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        machine.write(two, b"never read")
        machine.close(one)
        assert machine.read(two) == -Errno.ECONNRESET
        assert machine.read(two) == b""


class TestConnections:
    def test_connect_and_accept(self, machine: NetMachine) -> None:
        server = machine.listener(b"@server")
        client = machine.socket()
        assert machine.connect(client, b"@server") == 0
        assert machine.poll(server) == READABLE
        machine.write(client, b"early")
        length = machine.string((110).to_bytes(4, "little"))
        accepted = machine.call("accept4", server, machine.buffer, length, 0)
        assert machine.read(accepted) == b"early"
        assert machine.name_of("getsockname", accepted) == b"\x01\0\0server"
        assert machine.name_of("getpeername", client) == b"\x01\0\0server"
        assert machine.name_of("getpeername", accepted) == b"\x01\0"
        assert machine.connect(client, b"@server") == -Errno.EISCONN

    def test_accept_waits(self, machine: NetMachine) -> None:
        server = machine.listener(b"@server")
        sleeper = machine.start("accept4", server, 0, 0, 0)
        assert sleeper.asleep
        assert machine.connect(machine.socket(), b"@server") == 0
        machine.run_woken()
        assert sleeper.result is not None and sleeper.result >= 0

    def test_connect_waits_while_the_backlog_is_full(self, machine: NetMachine) -> None:
        server = machine.listener(b"@server", backlog=0)
        assert machine.connect(machine.socket(), b"@server") == 0
        assert machine.connect(machine.socket(flags=NONBLOCK), b"@server") == -Errno.EAGAIN
        sleeper = machine.start("connect", machine.socket(), *machine.address(b"@server"))
        assert sleeper.asleep
        machine.call("accept4", server, 0, 0, 0)
        machine.run_woken()
        assert sleeper.result == 0

    def test_a_listener_that_closes_resets_who_waits(self, machine: NetMachine) -> None:
        server = machine.listener(b"@server")
        client = machine.socket()
        machine.connect(client, b"@server")
        machine.close(server)
        assert machine.read(client) == -Errno.ECONNRESET
        assert machine.connect(machine.socket(), b"@server") == -Errno.ECONNREFUSED

    def test_names_in_the_file_system(self, machine: NetMachine) -> None:
        server = machine.listener(b"/socket")
        assert machine.stat("/socket").mode == 0o140755
        assert machine.open("/socket", os.O_RDWR) == -Errno.ENXIO
        assert machine.bind(machine.socket(), b"/socket") == -Errno.EADDRINUSE
        assert machine.connect(machine.socket(Sock.SEQPACKET), b"/socket") == -Errno.EPROTOTYPE
        assert machine.name_of("getsockname", server) == b"\x01\0/socket\0"
        assert machine.connect(machine.socket(), b"/socket") == 0
        machine.close(server)
        assert machine.connect(machine.socket(), b"/socket") == -Errno.ECONNREFUSED
        assert machine.connect(machine.socket(), b"/nothing") == -Errno.ENOENT

    def test_credentials_of_the_peer(self, machine: NetMachine) -> None:
        one, _ = machine.pair()
        assert machine.option(one, So.PEERCRED) == struct.pack("<iII", machine.task.tgid, 0, 0)
        assert machine.option(machine.socket(), So.PEERCRED) == struct.pack("<iII", 0, 2**32 - 1, 2**32 - 1)

    def test_rejected(self, machine: NetMachine) -> None:
        fd = machine.socket()
        assert machine.call("listen", fd, 1) == -Errno.EINVAL  # no address
        assert machine.call("accept4", fd, 0, 0, 0) == -Errno.EINVAL
        assert machine.read(fd) == -Errno.EINVAL
        assert machine.write(fd, b"x") == -Errno.ENOTCONN
        assert machine.name_of("getpeername", fd) == -Errno.ENOTCONN
        assert machine.call("listen", machine.socket(Sock.DGRAM), 1) == -Errno.EOPNOTSUPP
        assert machine.call("bind", fd, machine.string(b"\x02\0abc"), 5) == -Errno.EINVAL
        assert machine.call("socket", 2, 1, 0) == machine.call("socket", 99, 1, 0) == -Errno.EAFNOSUPPORT
        assert machine.call("socket", 1, Sock.RDM, 0) == -Errno.ESOCKTNOSUPPORT
        assert machine.call("socket", 1, 1, 7) == -Errno.EPROTONOSUPPORT
        assert machine.call("shutdown", machine.pipe()[0], 1) == -Errno.ENOTSOCK


class TestMessages:
    def test_bounds_are_kept_and_what_does_not_fit_is_lost(self, machine: NetMachine) -> None:
        one, two = machine.pair(Sock.DGRAM)
        machine.write(one, b"first")
        machine.write(one, b"")
        machine.write(one, b"third")
        data, _, flags = machine.recvmsg(two, 3)
        assert (data, flags) == (b"fir", Msg.TRUNC)
        assert (machine.read(two), machine.recv(two, 1, Msg.TRUNC | Msg.PEEK)[:1]) == (b"", b"t")
        assert machine.call("recvfrom", two, machine.buffer, 1, Msg.TRUNC, 0, 0) == 5

    def test_sender_and_receiver(self, machine: NetMachine) -> None:
        server, client = machine.socket(Sock.DGRAM), machine.socket(Sock.DGRAM)
        machine.bind(server, b"@server")
        assert machine.write(client, b"x") == -Errno.ENOTCONN
        machine.bind(client, b"@client")
        address = machine.address(b"@server")
        assert machine.call("sendto", client, machine.string(b"hello"), 5, 0, *address) == 5
        length = machine.string((110).to_bytes(4, "little"))
        assert machine.call("recvfrom", server, machine.buffer, 100, 0, machine.buffer + 4096, length) == 5
        assert machine.peek(9, 4096) == b"\x01\0\0client"

    def test_eleven_may_wait(self, machine: NetMachine) -> None:
        server, client = machine.socket(Sock.DGRAM), machine.socket(Sock.DGRAM, NONBLOCK)
        machine.bind(server, b"@server")
        assert machine.connect(client, b"@server") == 0
        assert sum(machine.write(client, b"x") == 1 for _ in range(20)) == 11
        assert machine.poll(client) & Poll.OUT == 0
        machine.read(server, 1)
        assert machine.poll(client) & Poll.OUT
        machine.close(server)
        assert machine.write(client, b"x") == -Errno.ECONNREFUSED
        assert machine.write(client, b"x") == -Errno.ENOTCONN

    def test_a_connected_socket_hears_its_peer_only(self, machine: NetMachine) -> None:
        one, two, other = (machine.socket(Sock.DGRAM) for _ in range(3))
        machine.bind(one, b"@one")
        machine.bind(two, b"@two")
        machine.connect(one, b"@two")
        address = machine.address(b"@one")
        assert machine.call("sendto", other, machine.string(b"x"), 1, 0, *address) == -Errno.EPERM

    def test_seqpacket(self, machine: NetMachine) -> None:
        one, two = machine.pair(Sock.SEQPACKET)
        machine.write(one, b"abc")
        machine.write(one, b"de")
        assert (machine.read(two, 2), machine.read(two)) == (b"ab", b"de")
        machine.close(one)
        assert machine.read(two) == b""
        assert machine.write(two, b"x") == -Errno.EPIPE

    def test_several_at_once(self, machine: NetMachine) -> None:
        one, two = machine.pair(Sock.DGRAM)
        parts = [machine.string(b"a"), machine.string(b"bb")]
        vectors = [machine.string(struct.pack("<QQ", part, size)) for part, size in zip(parts, (1, 2), strict=True)]
        entries = b"".join(struct.pack("<QI4xQQQQI4xI4x", 0, 0, vec, 1, 0, 0, 0, 0) for vec in vectors)
        mmsg = machine.string(entries)
        assert machine.call("sendmmsg", one, mmsg, 2, 0) == 2
        assert [copy_from_user(machine.task, mmsg + at, 4)[0] for at in (56, 120)] == [1, 2]
        rooms = [machine.string(struct.pack("<QQ", machine.buffer + at, 10)) for at in (0, 100)]
        mmsg = machine.string(b"".join(struct.pack("<QI4xQQQQI4xI4x", 0, 0, vec, 1, 0, 0, 0, 0) for vec in rooms))
        sleeper = machine.start("recvmmsg", two, mmsg, 2, 0, 0)
        assert sleeper.result == 2 and machine.peek(2, 100) == b"bb"
        sleeper = machine.start("recvmmsg", two, mmsg, 2, 0, 0)
        machine.write(one, b"x")
        machine.run_woken()
        assert sleeper.asleep
        machine.interrupt(sleeper)
        assert sleeper.result == 1


class TestRights:
    def test_files_travel(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader, writer = machine.pipe()
        assert machine.sendmsg(one, b"take", reader, writer) == 4
        machine.close(reader)
        machine.close(writer)
        data, control, flags = machine.recvmsg(two, flags=Msg.CMSG_CLOEXEC)
        fds = machine.received_fds(control)
        assert (data, len(fds), flags) == (b"take", 2, Msg.CMSG_CLOEXEC)
        machine.write(fds[1], b"alive")
        assert machine.read(fds[0]) == b"alive"
        assert machine.task.files is not None and machine.task.files.close_on_exec >= set(fds)

    def test_they_are_not_mixed_with_what_follows(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader, _ = machine.pipe()
        machine.sendmsg(one, b"ab", reader)
        machine.write(one, b"cd")
        data, control, _ = machine.recvmsg(two)
        assert (data, len(machine.received_fds(control))) == (b"ab", 1)
        assert machine.recvmsg(two)[:2] == (b"cd", b"")

    def test_what_does_not_fit_is_closed(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader, writer = machine.pipe()
        machine.sendmsg(one, b"x", writer, writer)
        machine.close(writer)
        _, control, flags = machine.recvmsg(two, room=20)
        (fd,) = machine.received_fds(control)
        assert flags == Msg.CTRUNC
        machine.close(fd)
        assert machine.read(reader) == b""  # no writer is left

    def test_read_drops_them(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader, writer = machine.pipe()
        machine.sendmsg(one, b"x", writer)
        machine.close(writer)
        assert machine.read(two, 10) == b"x"
        assert machine.read(reader) == b""

    def test_unread_files_go_with_the_socket(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        reader, writer = machine.pipe()
        machine.sendmsg(one, b"x", writer)
        machine.close(writer)
        machine.close(two)
        assert machine.read(reader) == b""

    def test_a_bad_descriptor_sends_nothing(self, machine: NetMachine) -> None:
        one, two = machine.pair(flags=NONBLOCK)
        reader, writer = machine.pipe()
        assert machine.sendmsg(one, b"x", writer, 99) == -Errno.EBADF
        assert machine.read(two) == -Errno.EAGAIN
        machine.close(writer)
        assert machine.read(reader) == b""

    def test_credentials(self, machine: NetMachine) -> None:
        one, two = machine.pair()
        machine.write(one, b"before")
        machine.set_option(two, So.PASSCRED, 1)
        nobody, sender = struct.pack("<iII", 0, 65534, 65534), struct.pack("<iII", machine.task.tgid, 0, 0)
        machine.write(one, b"after")
        head = struct.pack("<Qii", 28, SOL_SOCKET, 2)
        # What was sent before anybody asked is from nobody, and is not joined with the rest.
        assert machine.recvmsg(two)[:2] == (b"before", head + nobody + bytes(4))
        assert machine.recvmsg(two)[:2] == (b"after", head + sender + bytes(4))


def test_options(machine: NetMachine) -> None:
    fd = machine.socket(Sock.SEQPACKET)
    number = {option: machine.option(fd, option) for option in (So.TYPE, So.DOMAIN, So.SNDBUF, So.ACCEPTCONN)}
    assert number == {
        So.TYPE: b"\5\0\0\0",
        So.DOMAIN: b"\1\0\0\0",
        So.SNDBUF: (212992).to_bytes(4, "little"),
        So.ACCEPTCONN: bytes(4),
    }
    machine.set_option(fd, So.SNDBUF, 10_000)
    assert machine.option(fd, So.SNDBUF) == (20_000).to_bytes(4, "little")
    assert machine.option(fd, 9999) == machine.set_option(fd, 9999, 1) == -Errno.ENOPROTOOPT
    assert machine.call("getsockopt", fd, 6, 1, machine.buffer, machine.buffer) == -Errno.EOPNOTSUPP


def test_autobind(machine: NetMachine) -> None:
    fds = [machine.socket(Sock.DGRAM) for _ in range(2)]
    for fd in fds:
        assert machine.call("bind", fd, machine.string(b"\x01\0"), 2) == 0
    names = [machine.name_of("getsockname", fd) for fd in fds]
    assert all(isinstance(name, bytes) and len(name) == 8 and name[2] == 0 for name in names)
    assert names[0] != names[1]
