"""The filter machine: every instruction, and programs that are refused."""

from __future__ import annotations

import pytest

from minikern.kernel.bpf_filter import MISC_TAX, MISC_TXA, RET_A, RET_K, Alu, Class, Insn, Jmp, check_filter, run_filter
from minikern.kernel.errno import Errno, KernelError

SIZE = 64
WORDS = tuple(range(100, 116))
LD_ABS, LD_IMM, LDX_IMM, LD_MEM, LDX_MEM, LD_LEN, ST, STX = 0x20, 0x00, 0x01, 0x60, 0x61, 0x80, 0x02, 0x03


def insn(code: int, k: int = 0, jt: int = 0, jf: int = 0) -> Insn:
    return Insn(code, jt, jf, k)


def run(*program: Insn) -> int:
    check_filter(program, SIZE)
    return run_filter(program, WORDS)


@pytest.mark.parametrize(
    ("op", "a", "k", "result"),
    [
        (Alu.ADD, 0xFFFFFFFF, 2, 1),
        (Alu.SUB, 1, 2, 0xFFFFFFFF),
        (Alu.MUL, 0x10000, 0x10001, 0x10000),
        (Alu.DIV, 7, 2, 3),
        (Alu.OR, 5, 2, 7),
        (Alu.AND, 7, 5, 5),
        (Alu.XOR, 7, 5, 2),
        (Alu.LSH, 0x80000001, 1, 2),
        (Alu.RSH, 0x80000000, 31, 1),
        (Alu.NEG, 1, 0, 0xFFFFFFFF),
    ],
)
def test_arithmetic(op: Alu, a: int, k: int, result: int) -> None:
    assert run(insn(LD_IMM, a), insn(Class.ALU | op, k), insn(RET_A)) == result
    if op is not Alu.NEG:
        assert run(insn(LD_IMM, a), insn(LDX_IMM, k), insn(Class.ALU | op | 8), insn(RET_A)) == result


def test_division_by_a_zero_register_returns_0() -> None:
    assert run(insn(LD_IMM, 9), insn(Class.ALU | Alu.DIV | 8), insn(RET_K, 5)) == 0


@pytest.mark.parametrize(
    ("op", "a", "k", "holds"),
    [
        (Jmp.JEQ, 5, 5, True),
        (Jmp.JEQ, 5, 6, False),
        (Jmp.JGT, 5, 5, False),
        (Jmp.JGT, 0xFFFFFFFF, 5, True),
        (Jmp.JGE, 5, 5, True),
        (Jmp.JSET, 6, 2, True),
        (Jmp.JSET, 4, 2, False),
    ],
)
def test_jumps(op: Jmp, a: int, k: int, holds: bool) -> None:
    ends = (insn(RET_K, 1), insn(RET_K, 0))
    assert run(insn(LD_IMM, a), insn(Class.JMP | op, k, 0, 1), *ends) == holds
    assert run(insn(LD_IMM, a), insn(LDX_IMM, k), insn(Class.JMP | op | 8, 0, 0, 1), *ends) == holds


def test_loads_stores_and_transfers() -> None:
    assert run(insn(LD_ABS, 60), insn(RET_A)) == WORDS[15]
    assert run(insn(LD_LEN), insn(RET_A)) == SIZE
    assert run(insn(LD_IMM, 7), insn(ST, 3), insn(LD_IMM, 0), insn(LD_MEM, 3), insn(RET_A)) == 7
    assert run(insn(LDX_IMM, 8), insn(STX, 15), insn(LDX_MEM, 15), insn(MISC_TXA), insn(RET_A)) == 8
    assert run(insn(LD_IMM, 9), insn(MISC_TAX), insn(LD_IMM, 0), insn(MISC_TXA), insn(RET_A)) == 9
    assert run(insn(Class.JMP | Jmp.JA, 1), insn(RET_K, 1), insn(RET_K, 2)) == 2


@pytest.mark.parametrize(
    "program",
    [
        (),
        (insn(LD_IMM, 1),),
        (insn(LD_ABS, 64), insn(RET_A)),
        (insn(LD_ABS, 6), insn(RET_A)),
        (insn(0x28), insn(RET_A)),
        (insn(LD_MEM, 16), insn(RET_A)),
        (insn(ST, 16), insn(RET_A)),
        (insn(Class.ALU | Alu.DIV), insn(RET_A)),
        (insn(Class.ALU | Alu.LSH, 32), insn(RET_A)),
        (insn(Class.JMP | Jmp.JA, 1), insn(RET_A)),
        (insn(Class.JMP | Jmp.JEQ, 0, 1, 0), insn(RET_A)),
        (insn(Class.JMP | Jmp.JEQ, 0, 0, 1), insn(RET_A)),
    ],
)
def test_unsafe_programs_are_refused(program: tuple[Insn, ...]) -> None:
    with pytest.raises(KernelError) as failure:
        check_filter(program, SIZE)
    assert failure.value.errno == Errno.EINVAL
