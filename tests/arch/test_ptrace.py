"""Register sets of debuggers and core files."""

from __future__ import annotations

import struct

import pytest

from minikern.kernel.errno import Errno, KernelError
from tests.arch.bench import DATA, Bench

NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE, NT_ARM_TLS, NT_ARM_SYSTEM_CALL = 1, 2, 0x202, 0x401, 0x404
SIZES = {"x86_64": (216, 512), "aarch64": (272, 528)}


def numbered(size: int) -> bytes:
    """Words that can be told apart."""
    return struct.pack(f"<{size // 8}Q", *(0x1000 * (i + 1) for i in range(size // 8)))


def errno_of(call: object, *arguments: object) -> int:
    with pytest.raises(KernelError) as error:
        call(*arguments)  # type: ignore[operator]
    return error.value.errno


def test_sizes(bench: Bench) -> None:
    sets = bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)
    assert tuple(map(len, sets)) == SIZES[bench.arch.name]
    assert (bench.arch.get_regset(bench.task, NT_PRSTATUS), bench.arch.get_regset(bench.task, NT_PRFPREG)) == sets


def test_unknown_set(bench: Bench) -> None:
    assert errno_of(bench.arch.get_regset, bench.task, 0x999) == Errno.EINVAL
    assert errno_of(bench.arch.set_regset, bench.task, 0x999, b"") == Errno.EINVAL


def test_unknown_request(bench: Bench) -> None:
    assert errno_of(bench.arch.arch_ptrace, bench.task, bench.task, 0x4321, 0, 0) == Errno.EIO


def test_general_registers(bench: Bench) -> None:
    before = bytearray(bench.arch.get_gregs(bench.task))
    data = bytearray(numbered(len(before)))
    special = {"x86_64": (15, 17, 18, 20, 23, 24, 25, 26), "aarch64": (33,)}[bench.arch.name]
    for position in special:  # what cannot be set freely
        data[position * 8 : position * 8 + 8] = before[position * 8 : position * 8 + 8]
    bench.arch.set_regset(bench.task, NT_PRSTATUS, bytes(data))
    assert bench.arch.get_regset(bench.task, NT_PRSTATUS) == data


def test_the_beginning_of_a_set(bench: Bench) -> None:
    before = bench.arch.get_gregs(bench.task)
    bench.arch.set_regset(bench.task, NT_PRSTATUS, numbered(16))
    assert bench.arch.get_gregs(bench.task) == numbered(16) + before[16:]
    state = bench.arch.get_fpregs(bench.task)
    bench.arch.set_regset(bench.task, NT_PRFPREG, state[:2])
    assert bench.arch.get_fpregs(bench.task) == state


def test_flags_that_belong_to_the_kernel(bench: Bench) -> None:
    data = bytearray(bench.arch.get_gregs(bench.task))
    offset = {"x86_64": 18 * 8, "aarch64": 33 * 8}[bench.arch.name]
    data[offset : offset + 8] = b"\xff" * 8
    if bench.arch.name == "x86_64":
        bench.arch.set_gregs(bench.task, bytes(data))
        assert struct.unpack_from("<Q", bench.arch.get_gregs(bench.task), offset)[0] == 0x54FD7 | 1 << 9
    else:
        assert errno_of(bench.arch.set_gregs, bench.task, bytes(data)) == Errno.EINVAL


def test_x86_64_number_of_the_call(x86_64: Bench) -> None:
    x86_64.task.syscall.nr = 39
    data = bytearray(x86_64.arch.get_gregs(x86_64.task))
    assert struct.unpack_from("<q", data, 15 * 8)[0] == 39
    struct.pack_into("<q", data, 15 * 8, -1)
    x86_64.arch.set_gregs(x86_64.task, bytes(data))
    assert x86_64.task.syscall.nr == -1


def test_x86_64_segments(x86_64: Bench) -> None:
    words = list(struct.unpack("<27Q", x86_64.arch.get_gregs(x86_64.task)))
    assert (words[17], words[20], words[23:]) == (0x33, 0x2B, [0, 0, 0, 0])
    words[17] = 0
    assert errno_of(x86_64.arch.set_gregs, x86_64.task, struct.pack("<27Q", *words)) == Errno.EIO
    words[17], words[21] = 0x33, 1 << 47
    assert errno_of(x86_64.arch.set_gregs, x86_64.task, struct.pack("<27Q", *words)) == Errno.EIO


def test_x86_64_struct_user(x86_64: Bench) -> None:
    peek, poke = 3, 6
    arch, task = x86_64.arch, x86_64.task

    def peek_user(offset: int) -> int:
        assert arch.arch_ptrace(task, task, peek, offset, DATA) == 0
        return int.from_bytes(x86_64.read(DATA, 8), "little")

    arch.arch_ptrace(task, task, poke, 10 * 8, 0x1234)
    assert peek_user(10 * 8) == 0x1234 == arch.syscall_get_return(task)
    assert peek_user(848) == 0
    for number in range(8):
        arch.arch_ptrace(task, task, poke, 848 + 8 * number, number + 1)
    assert [peek_user(848 + 8 * number) for number in range(8)] == list(range(1, 9))
    assert peek_user(920) == 0
    for offset in (4, 928, 1 << 40):
        assert errno_of(arch.arch_ptrace, task, task, peek, offset, DATA) == Errno.EIO
    assert errno_of(arch.arch_ptrace, task, task, poke, 736, 1) == Errno.EIO


def test_x86_64_old_requests(x86_64: Bench) -> None:
    arch, task = x86_64.arch, x86_64.task
    for get, put, data in ((12, 13, arch.get_gregs(task)), (14, 15, arch.get_fpregs(task))):
        arch.arch_ptrace(task, task, get, 0, DATA)
        assert x86_64.read(DATA, len(data)) == data
        arch.arch_ptrace(task, task, put, 0, DATA)
        assert (arch.get_gregs(task), arch.get_fpregs(task))[get == 14] == data


def test_x86_64_extended_state(x86_64: Bench) -> None:
    arch, task = x86_64.arch, x86_64.task
    data = arch.get_regset(task, NT_X86_XSTATE)
    assert len(data) == 576
    assert data[:464] == arch.get_fpregs(task)[:464]
    assert struct.unpack_from("<Q", data, 464) == (3,)  # XCR0, for debuggers
    arch.set_regset(task, NT_X86_XSTATE, data[:160] + b"\x11" * 16 + data[176:])
    assert arch.get_fpregs(task)[160:176] == b"\x11" * 16


def test_x86_64_thread_pointer(x86_64: Bench) -> None:
    child = x86_64.fork(tls=0x5555_0000)
    assert struct.unpack("<27Q", x86_64.arch.get_gregs(child))[21] == 0x5555_0000


def test_arm64_thread_pointer(arm64: Bench) -> None:
    child = arm64.fork(tls=0x5555_0000)
    assert arm64.arch.get_regset(child, NT_ARM_TLS) == struct.pack("<Q", 0x5555_0000)
    assert arm64.arch.get_regset(arm64.task, NT_ARM_TLS) == bytes(8)
    arm64.arch.set_regset(child, NT_ARM_TLS, struct.pack("<Q", 0x6666_0000))
    assert arm64.arch.get_regset(child, NT_ARM_TLS) == struct.pack("<Q", 0x6666_0000)


def test_arm64_number_of_the_call(arm64: Bench) -> None:
    arm64.task.syscall.nr = 172
    assert arm64.arch.get_regset(arm64.task, NT_ARM_SYSTEM_CALL) == struct.pack("<i", 172)
    arm64.arch.set_regset(arm64.task, NT_ARM_SYSTEM_CALL, struct.pack("<i", -1))
    assert arm64.task.syscall.nr == -1
