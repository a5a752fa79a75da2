"""The classic Berkeley packet filter machine: checking programs and running them.

Mirrors ``net/core/filter.c`` and ``include/uapi/linux/bpf_common.h``, as far as system call filters use it: the input is
one ``struct seccomp_data``, read in aligned 32-bit words.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from minikern.kernel.errno import Errno, KernelError

BPF_MAXINSNS = 4096
_MEMWORDS = 16
_U32 = 0xFFFFFFFF
_CLASS_MASK, _MODE_MASK, _OP_MASK, _SOURCE_X = 0x07, 0xE0, 0xF0, 0x08


class Class(IntEnum):
    """The low three bits of an instruction."""

    LD = 0
    LDX = 1
    ST = 2
    STX = 3
    ALU = 4
    JMP = 5
    RET = 6
    MISC = 7


class Mode(IntEnum):
    """Where a load takes its value from."""

    IMM = 0x00
    ABS = 0x20
    MEM = 0x60
    LEN = 0x80


class Alu(IntEnum):
    """Arithmetic."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    NEG = 0x80
    XOR = 0xA0


class Jmp(IntEnum):
    """Jumps."""

    JA = 0x00
    JEQ = 0x10
    JGT = 0x20
    JGE = 0x30
    JSET = 0x40


RET_A = 0x16  # BPF_RET | BPF_A
RET_K = 0x06
MISC_TXA = 0x87
MISC_TAX = 0x07


class Insn(NamedTuple):
    """One instruction (``struct sock_filter``)."""

    code: int
    jt: int  # instructions to skip when the condition holds
    jf: int  # … when it does not
    k: int  # constant


_LOADS: Final = frozenset({0x20, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61})  # LD ABS, LD/LDX LEN, IMM, MEM
_STORES: Final = frozenset({0x02, 0x03})
_ALU_CODES: Final = frozenset(
    {Class.ALU | op | source for op in Alu for source in (0, _SOURCE_X) if op is not Alu.NEG or not source}
)
_JMP_CODES: Final = frozenset(
    {Class.JMP | op | source for op in Jmp for source in (0, _SOURCE_X) if op is not Jmp.JA or not source}
)
_ALLOWED: Final = _LOADS | _STORES | _ALU_CODES | _JMP_CODES | {RET_A, RET_K, MISC_TAX, MISC_TXA}


def check_filter(program: tuple[Insn, ...], data_size: int) -> None:
    """EINVAL unless the program is safe: it stays inside its memory and input, only jumps forward, and returns.

    Source: ``net/core/filter.c:bpf_check_classic`` and ``kernel/seccomp.c:seccomp_check_filter``.
    """
    length = len(program)
    for pc, insn in enumerate(program):
        if insn.code not in _ALLOWED or not _insn_ok(insn, length - pc - 1, data_size):
            raise KernelError(Errno.EINVAL)
    if not program or program[-1].code not in (RET_A, RET_K):
        raise KernelError(Errno.EINVAL)


def _insn_ok(insn: Insn, left: int, data_size: int) -> bool:
    """Whether the operands make sense with ``left`` instructions to follow."""
    code, jt, jf, k = insn
    kind = code & _CLASS_MASK
    if kind in (Class.LD, Class.LDX) and code & _MODE_MASK == Mode.ABS:
        return k < data_size and k % 4 == 0
    if kind in (Class.ST, Class.STX) or (kind in (Class.LD, Class.LDX) and code & _MODE_MASK == Mode.MEM):
        return k < _MEMWORDS
    if kind == Class.ALU and not code & _SOURCE_X:
        op = code & _OP_MASK
        return (op != Alu.DIV or k != 0) and (op not in (Alu.LSH, Alu.RSH) or k < 32)
    if kind == Class.JMP:
        if code & _OP_MASK == Jmp.JA:
            return k < left
        return jt < left and jf < left
    return True


def run_filter(program: tuple[Insn, ...], words: tuple[int, ...]) -> int:
    """What a checked program returns for an input of 32-bit ``words``. Source: ``kernel/bpf/core.c:___bpf_prog_run``."""
    a = x = pc = 0
    memory = [0] * _MEMWORDS
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        match code & _CLASS_MASK:
            case Class.LD | Class.LDX as kind:
                value = _load(code & _MODE_MASK, k, words, memory)
                if kind == Class.LD:
                    a = value
                else:
                    x = value
            case Class.ST:
                memory[k] = a
            case Class.STX:
                memory[k] = x
            case Class.ALU:
                operand = x if code & _SOURCE_X else k
                if code & _OP_MASK == Alu.DIV and not operand:
                    return 0
                a = _alu(code & _OP_MASK, a, operand)
            case Class.JMP:
                if code & _OP_MASK == Jmp.JA:
                    pc += k
                else:
                    pc += jt if _condition(code & _OP_MASK, a, x if code & _SOURCE_X else k) else jf
            case Class.RET:
                return a if code == RET_A else k
            case _:
                if code == MISC_TAX:
                    x = a
                else:
                    a = x


def _load(mode: int, k: int, words: tuple[int, ...], memory: list[int]) -> int:
    match mode:
        case Mode.ABS:
            return words[k >> 2]
        case Mode.MEM:
            return memory[k]
        case Mode.LEN:
            return 4 * len(words)
        case _:
            return k


def _alu(op: int, a: int, operand: int) -> int:
    match op:
        case Alu.ADD:
            a += operand
        case Alu.SUB:
            a -= operand
        case Alu.MUL:
            a *= operand
        case Alu.DIV:
            a //= operand
        case Alu.OR:
            a |= operand
        case Alu.AND:
            a &= operand
        case Alu.LSH:
            a <<= operand & 31
        case Alu.RSH:
            a >>= operand & 31
        case Alu.NEG:
            a = -a
        case Alu.XOR:
            a ^= operand
    return a & _U32


def _condition(op: int, a: int, operand: int) -> bool:
    match op:
        case Jmp.JEQ:
            return a == operand
        case Jmp.JGT:
            return a > operand
        case Jmp.JGE:
            return a >= operand
        case _:
            return a & operand != 0
