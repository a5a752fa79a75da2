"""Exceptions of the CPU: their numbers, where pc is, and that one leaves nothing behind for the next."""

from __future__ import annotations

import pytest

from minikern.engine.cpu import INVALID_INSTRUCTION, Trap
from tests.engine.guest import A0, A2, CODE, DATA, DATA_FRAME, NOWHERE, Guest, R, W

X86_64 = {  # name: (code, exception, how far pc is behind the start)
    "divide by zero": ("31d2 31c9 48f7f1", 0, 4),  # xor edx, edx; xor ecx, ecx; div rcx
    "int3": ("cc", 3, 1),
    "int 0x80": ("cd80", 0x80, 2),
    "int 4": ("cd04", 4, 2),
    "ud2": ("0f0b", INVALID_INSTRUCTION, 0),
    "hlt": ("f4", 13, 0),
    "cli": ("fa", 13, 0),
    "mov rax, cr3": ("0f20d8", 13, 0),
    "wrmsr": ("0f30", 13, 0),
    "iretq": ("48cf", 13, 0),
    "sysretq": ("480f07", 13, 0),
    "swapgs": ("0f01f8", 13, 0),
    "AVX": ("c5fc58c0", INVALID_INSTRUCTION, 0),  # vaddps ymm0, ymm0, ymm0
    "lock without memory": ("f001c0", INVALID_INSTRUCTION, 0),
    "trap flag": ("9c 48810c2400010000 9d 90 90", 1, 11),  # pushfq; or [rsp], TF; popfq; nop; nop
    "x87": ("d9e8 d9ee d928 def9 9b", 16, 8),  # fld1; fldz; fldcw [rax]; fdivp; fwait
}
ARM64 = {
    "udf": (0x00000000, 1, 0),
    "brk": (0xD4200020, 7, 0),
    "hvc": (0xD4000002, 1, 0),
    "msr daifset": (0xD50342DF, 1, 0),
    "mrs midr_el1": (0xD5380000, 1, 0),
    "ic iallu": (0xD508751F, 1, 0),
    "eret": (0xD69F03E0, 1, 0),
    "SVE": (0x2518E3E0, 1, 0),  # ptrue p0.b
    "LDXR, not aligned": (0xC85F7C01, 4, 0),
    "LDADD, not aligned": (0xF8210002, 4, 0),
}


@pytest.mark.parametrize("name", X86_64)
def test_x86_64(x86_64: Guest, name: str) -> None:
    code, exception, behind = X86_64[name]
    assert x86_64.run(bytes.fromhex(code), DATA) is Trap.EXCEPTION
    assert (x86_64.cpu.exception, x86_64.cpu.pc - CODE) == (exception, behind)


@pytest.mark.parametrize("name", ARM64)
def test_arm64(arm64: Guest, name: str) -> None:
    code, exception, behind = ARM64[name]
    assert arm64.run(code.to_bytes(4, "little"), DATA + 1) is Trap.EXCEPTION
    assert (arm64.cpu.exception, arm64.cpu.pc - CODE) == (exception, behind)


def test_unaligned_pc(arm64: Guest) -> None:
    assert arm64.run("jump", CODE + 2) is Trap.EXCEPTION
    assert (arm64.cpu.exception, arm64.cpu.pc) == (1, CODE + 2)


def test_wait_for_interrupt_gives_way(arm64: Guest) -> None:
    assert arm64.run(bytes.fromhex("7f2003d5")) is Trap.PREEMPT
    assert arm64.cpu.pc == CODE + 4


@pytest.mark.parametrize("hint", ["3f2003d5", "5f2003d5", "3f2303d5", "bf2303d5", "5f2403d5"])
def test_hints_do_nothing(arm64: Guest, hint: str) -> None:
    """yield, wfe, paciasp, autiasp, bti c."""
    arm64.regs[30] = 0x1234
    assert arm64.run(bytes.fromhex(hint) + arm64.code("syscall")) is Trap.SYSCALL


def test_exceptions_do_not_add_up(guest: Guest) -> None:
    """Without care the engine makes a double fault of the second one and stops for good at the third."""
    number = None
    for _ in range(6):
        assert guest.run("privileged") is Trap.EXCEPTION
        number = guest.cpu.exception if number is None else number
        assert guest.cpu.exception == number
        assert guest.run("unknown") is Trap.EXCEPTION
        assert guest.run("load", NOWHERE) is Trap.FAULT
        assert guest.run("load", DATA) is Trap.SYSCALL


def test_program_goes_on_after_an_exception(guest: Guest) -> None:
    guest.arena.view[DATA_FRAME : DATA_FRAME + 8] = (77).to_bytes(8, "little")
    assert guest.run("breakpoint", DATA, 0, 5) is Trap.EXCEPTION
    guest.put("load")
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    assert (guest.regs[1], guest.regs[A2]) == (77, 6)


def test_address_tags_are_ignored(arm64: Guest) -> None:
    tag = 0xAB << 56
    assert arm64.run("store", DATA | tag, 9) is Trap.SYSCALL
    assert arm64.word(DATA) == 9
    assert arm64.run("load", NOWHERE | tag) is Trap.FAULT
    assert arm64.cpu.fault_address == NOWHERE
    kernel = 0xFFFF_8000_0000_0000
    assert arm64.run("load", kernel) is Trap.FAULT
    assert arm64.cpu.fault_address == kernel


def test_tagged_access_on_demand(arm64: Guest) -> None:
    page = DATA + (32 << 12)
    arm64.space.on_demand[page] = DATA_FRAME | R | W
    assert arm64.run("store", page | 0x11 << 56, 4) is Trap.SYSCALL
    assert arm64.space.asked == [(page, 2)]


def test_non_canonical_address(x86_64: Guest) -> None:
    """A general protection fault on hardware; here a fault with the address, for the architecture to tell apart."""
    assert x86_64.run("load", 1 << 63) is Trap.FAULT
    assert x86_64.cpu.fault_address == 1 << 63


@pytest.mark.parametrize(
    "code",
    [
        "31c9 0f01d0",  # xor ecx, ecx; xgetbv
        "0f01f9",  # rdtscp
        "480fc7f0",  # rdrand rax
        "f3480faec0",  # rdfsbase rax
        "f3480fbcc1",  # tzcnt rax, rcx
        "f3480fbdc1",  # lzcnt rax, rcx
        "c4e2f0f2c2",  # andn rax, rcx, rdx
        "660f3840c1",  # pmulld xmm0, xmm1
        "660f38dcc1",  # aesenc xmm0, xmm1
        "f30f1efa",  # endbr64
        "0fae20",  # xsave [rax]
    ],
)
def test_what_cpuid_offers_works(x86_64: Guest, code: str) -> None:
    assert x86_64.run(bytes.fromhex(code) + x86_64.code("syscall"), DATA) is Trap.SYSCALL


def test_system_call_instruction_leaves_its_registers_alone(x86_64: Guest) -> None:
    """Hardware sets RCX and R11; here that is up to the architecture's entry code."""
    x86_64.run("syscall", 1, 0x1111)
    assert (x86_64.regs[A0], x86_64.regs[1], x86_64.regs[11]) == (1, 0x1111, 0)
