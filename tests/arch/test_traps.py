"""Exceptions and faults: which signal each becomes."""

from __future__ import annotations

import struct

import pytest

from minikern.engine.cpu import Access, Trap
from minikern.kernel.siginfo import FaultCode, Layout, SiCode, Signal
from tests.arch.bench import CODE, DATA, NOWHERE, Bench


def signal_of(bench: Bench, code: bytes) -> tuple[int, int, int, int]:
    """Signal, code, address and how far the program counter has come."""
    assert bench.run(code) is Trap.EXCEPTION
    info = bench.arch.exception_info(bench.task)
    assert (info.layout is Layout.FAULT) is (info.code != SiCode.SI_KERNEL)
    return info.signo, info.code, info.addr, bench.arch.instruction_pointer(bench.task) - CODE


def test_illegal_instruction(bench: Bench) -> None:
    signo, code, address, _ = signal_of(bench, bench.code.illegal)
    assert signo == Signal.SIGILL
    assert code in (FaultCode.ILL_ILLOPC, FaultCode.ILL_ILLOPN)
    assert address == CODE


def test_breakpoint(bench: Bench) -> None:
    signo, code, _, advanced = signal_of(bench, bench.code.breakpoint)
    assert signo == Signal.SIGTRAP
    assert code in (FaultCode.TRAP_BRKPT, SiCode.SI_KERNEL)
    assert advanced == (len(bench.code.breakpoint) if bench.code.breakpoint_advances else 0)


def test_page_fault(bench: Bench) -> None:
    assert bench.run(bench.code.store) is Trap.FAULT
    assert (bench.arch.cpu.fault_address, bench.arch.cpu.fault_access) == (NOWHERE, Access.WRITE)
    assert bench.arch.fault_context(bench.task, NOWHERE, Access.WRITE) is None


UNTRAPPED = bytes.fromhex("0f05")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("31c9 f7f1", (Signal.SIGFPE, FaultCode.FPE_INTDIV, CODE + 2, 2)),  # div ecx
        ("cd03", (Signal.SIGTRAP, SiCode.SI_KERNEL, 0, 2)),  # int 3
        ("f4", (Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0)),  # hlt
        ("fa", (Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0)),  # cli
        ("0f30", (Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0)),  # wrmsr
        ("cd80", (Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0)),  # int 0x80
        ("cd21", (Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0)),
        ("06", (Signal.SIGILL, FaultCode.ILL_ILLOPN, CODE, 0)),  # push es
        ("c5fc58c0", (Signal.SIGILL, FaultCode.ILL_ILLOPN, CODE, 0)),  # vaddps ymm
        # pushf; or dword [rsp], TF; popf; nop
        ("9c 810c2400010000 9d 90", (Signal.SIGTRAP, FaultCode.TRAP_TRACE, CODE + 10, 10)),
    ],
)
def test_x86_64_exceptions(x86_64: Bench, code: str, expected: tuple[int, int, int, int]) -> None:
    assert signal_of(x86_64, bytes.fromhex(code) + UNTRAPPED) == expected


def test_x86_64_software_interrupt_shows_its_vector(x86_64: Bench) -> None:
    signal_of(x86_64, bytes.fromhex("cd80"))
    assert (x86_64.task.thread.trap_nr, x86_64.task.thread.error_code) == (13, 0x80 << 3 | 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", [1 << 47, 1 << 63, (1 << 64) - (1 << 48)])
def test_x86_64_address_that_cannot_be(x86_64: Bench, address: int) -> None:
    info = x86_64.arch.fault_context(x86_64.task, address, Access.READ)
    assert (info.signo, info.code, info.addr) == (Signal.SIGSEGV, SiCode.SI_KERNEL, 0)


def test_x86_64_kernel_address(x86_64: Bench) -> None:
    assert x86_64.arch.fault_context(x86_64.task, 0xFFFF_8000_0000_0000, Access.READ) is None


def test_x86_64_own_trap_flag_does_not_swallow_a_call(x86_64: Bench) -> None:
    # pushf; or dword [rsp], TF; popf; syscall
    assert x86_64.run(bytes.fromhex("9c 810c2400010000 9d 0f05 90")) is Trap.SYSCALL


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE, Access.EXEC])
def test_error_code_says_what_was_tried(bench: Bench, access: Access) -> None:
    seen = set()
    for address in (NOWHERE, CODE):
        bench.put(bench.code.illegal)  # so that the page is there
        bench.arch.fault_context(bench.task, address, access)
        thread = bench.task.thread
        seen.add(thread.error_code if bench.arch.name == "x86_64" else thread.fault_code)  # type: ignore[attr-defined]
    if bench.arch.name == "x86_64":
        bits = {Access.READ: 4, Access.WRITE: 6, Access.EXEC: 20}[access]
        assert seen == {bits, bits | 1}
    else:
        kind = 0x20 if access is Access.EXEC else 0x24
        bits = kind << 26 | 1 << 25 | (access is Access.WRITE) << 6
        assert seen == {bits | 7, bits | 15}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([0xD4000002], (Signal.SIGILL, FaultCode.ILL_ILLOPC, CODE, 0)),  # hvc
        ([0xD50342DF], (Signal.SIGILL, FaultCode.ILL_ILLOPC, CODE, 0)),  # msr daifset
        ([0x2518E3E0], (Signal.SIGILL, FaultCode.ILL_ILLOPC, CODE, 0)),  # ptrue: SVE is off
        ([0xD503201F, 0xD4207D00], (Signal.SIGTRAP, FaultCode.TRAP_BRKPT, CODE + 4, 4)),  # nop; brk #1000
        # movz x0, #0x60, lsl #16; add x0, x0, #1; ldxr x1, [x0]
        ([0xD2A00C00, 0x91000400, 0xC85F7C01], (Signal.SIGBUS, FaultCode.BUS_ADRALN, DATA + 1, 8)),
    ],
)
def test_arm64_exceptions(arm64: Bench, words: list[int], expected: tuple[int, int, int, int]) -> None:
    assert signal_of(arm64, struct.pack(f"<{len(words) + 1}I", *words, 0xD4000001)) == expected


def test_arm64_unaligned_program_counter(arm64: Bench) -> None:
    arm64.put(arm64.code.three_nops)
    arm64.arch.start_thread(arm64.task, CODE + 2, DATA)
    assert arm64.run() is Trap.EXCEPTION
    info = arm64.arch.exception_info(arm64.task)
    assert (info.signo, info.code, info.addr) == (Signal.SIGBUS, FaultCode.BUS_ADRALN, CODE + 2)
