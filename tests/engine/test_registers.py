"""Registers: in place and by calls say the same; numbers agree with Unicorn's own."""

from __future__ import annotations

import importlib
import random

from minikern.engine.cpu import Trap
from tests.engine.guest import CODE, DATA, Guest, guest_of


def test_both_ways_agree(arch: str) -> None:
    """The same program with the same values leaves the same registers, whichever way they are reached."""
    values = [random.Random(1).getrandbits(60) for _ in range(64)]
    seen = []
    for in_place in (True, False):
        with guest_of(arch, in_place=in_place) as guest:
            assert guest.cpu.in_place is in_place
            guest.put("store")
            for index in range(len(guest.regs)):
                guest.regs[index] = values[index]
            guest.regs[0] = DATA + 8
            assert guest.cpu.run(CODE) is Trap.SYSCALL
            seen.append([guest.regs[i] for i in range(len(guest.regs))])
            for index, register in enumerate(guest.cpu.spec.gpr_ids):
                assert guest.cpu.read_reg(register) == guest.regs[index]
    assert seen[0] == seen[1]


def test_reading_by_number_sees_what_was_written_in_place(guest: Guest) -> None:
    for index, register in enumerate(guest.cpu.spec.gpr_ids):
        guest.regs[index] = 1000 + index
        assert guest.cpu.read_reg(register) == 1000 + index
        guest.cpu.write_reg(register, 2000 + index)
        assert guest.regs[index] == 2000 + index


def test_block(guest: Guest) -> None:
    ids = guest.cpu.spec.gpr_ids
    first = {"x86_64": 122, "arm64": 228}[guest.arch]  # XMM0, V0
    block = guest.cpu.register_block(64, {0: ids[1], 16: first + 3, 40: ids[2]})
    guest.regs[1], guest.regs[2] = 11, 22
    guest.cpu.write_reg_bytes(first + 3, b"ABCDEFGHIJKLMNOP")
    view = block.read()
    assert bytes(view[:8]) == (11).to_bytes(8, "little")
    assert bytes(view[16:32]) == b"ABCDEFGHIJKLMNOP"
    assert bytes(view[40:48]) == (22).to_bytes(8, "little")
    view[0] = 12
    view[16:32] = b"ponmlkjihgfedcba"
    block.write()
    assert guest.regs[1] == 12
    assert guest.cpu.read_reg_bytes(first + 3, 16) == b"ponmlkjihgfedcba"


def test_numbers_are_unicorns(arch: str) -> None:
    ours = importlib.import_module(f"minikern_{arch}.cpu")
    prefix, module = {"x86_64": ("X86", "x86_const"), "arm64": ("ARM64", "arm64_const")}[arch]
    theirs = importlib.import_module(f"unicorn.{module}")
    known = {name.removeprefix(f"UC_{prefix}_REG_"): value for name, value in vars(theirs).items() if "_REG_" in name}
    ours_by_name = {name: value for name, value in vars(ours).items() if name in known}
    assert len(ours_by_name) >= 10
    assert ours_by_name == {name: known[name] for name in ours_by_name}
    spec = ours.SPEC
    if arch == "x86_64":
        order = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15 RIP".split()
        assert (spec.uc_arch, spec.uc_mode, spec.cpu_model) == (4, 8, theirs.UC_CPU_X86_HASWELL)
        assert spec.syscall_instruction == theirs.UC_X86_INS_SYSCALL
    else:
        order = [*(f"X{n}" for n in range(31)), "SP", "PC"]
        assert (spec.uc_arch, spec.uc_mode, spec.cpu_model) == (2, 0, theirs.UC_CPU_ARM64_MAX)
    assert spec.gpr_ids == tuple(known[name] for name in order)
    assert order[spec.pc_index] in ("RIP", "PC")
