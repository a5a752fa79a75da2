"""Saved states: complete, copyable, and without what a task must not bring along."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from minikern.engine.context import find_state_word
from minikern.engine.cpu import Trap
from tests.engine.guest import A0, A1, A2, A3, CODE, DATA, STACK_POINTER, Guest, guest_of

LDXR_THEN_STXR = bytes.fromhex(
    "017c5fc8 010000d4 037c02c8 010000d4"
)  # ldxr x1, [x0]; svc #0; stxr w2, x3, [x0]; svc #0


def test_new_context_is_clean_user_mode(guest: Guest) -> None:
    guest.run("add", 1, 2)
    guest.cpu.restore(guest.cpu.new_context())
    assert [guest.regs[i] for i in range(len(guest.regs))] == [0] * len(guest.regs)
    assert guest.run("privileged") is Trap.EXCEPTION


def test_save_and_restore(guest: Guest) -> None:
    cpu = guest.cpu
    guest.put("add")
    contexts = []
    for value in range(5):
        cpu.restore(cpu.new_context())
        guest.regs[A0], guest.regs[A1] = value, 100
        guest.regs[STACK_POINTER[guest.arch]] = value << 12
        contexts.append(cpu.snapshot())
    for value, context in reversed(list(enumerate(contexts))):
        cpu.restore(context)
        assert guest.regs[STACK_POINTER[guest.arch]] == value << 12
        assert cpu.run(CODE) is Trap.SYSCALL
        assert guest.regs[A0] == value + 100


def test_simd_state_is_part_of_it(guest: Guest) -> None:
    cpu = guest.cpu
    register = {"x86_64": 122 + 9, "arm64": 228 + 9}[guest.arch]
    cpu.write_reg_bytes(register, b"0123456789abcdef")
    context = cpu.snapshot()
    cpu.write_reg_bytes(register, bytes(16))
    cpu.restore(context)
    assert cpu.read_reg_bytes(register, 16) == b"0123456789abcdef"


def test_copies(guest: Guest) -> None:
    guest.regs[A2] = 0x77
    context = guest.cpu.snapshot()
    for twin in (copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
        assert twin == context
        assert twin.data is not context.data
        guest.regs[A2] = 0
        guest.cpu.restore(twin)
        assert guest.regs[A2] == 0x77
    assert len(context) == len(bytes(context))
    guest.regs[A2] = 1
    assert guest.cpu.snapshot() != context


def test_context_fits_another_engine_of_its_kind(arch: str) -> None:
    """Nothing in it points into the engine that saved it."""
    with guest_of(arch) as one, guest_of(arch) as other:
        one.put("add")
        one.regs[A0], one.regs[A1] = 40, 2
        context = copy.deepcopy(one.cpu.snapshot())
        one.cpu.close()
        other.put("add")
        other.cpu.restore(context)
        assert other.cpu.run(CODE) is Trap.SYSCALL
        assert other.regs[A0] == 42


def test_store_exclusive_fails_after_a_switch(arm64: Guest) -> None:
    cpu, regs = arm64.cpu, arm64.regs
    assert cpu.cleared_on_restore is not None
    assert arm64.run(LDXR_THEN_STXR, DATA, 0, 9, 5) is Trap.SYSCALL
    context = cpu.snapshot()
    assert cpu.run(cpu.pc) is Trap.SYSCALL  # no switch in between: it succeeds
    assert (regs[A2], arm64.word(DATA)) == (0, 5)

    arm64.run(LDXR_THEN_STXR, DATA + 64, 0, 9, 6)  # another task, with a reservation of its own
    other = cpu.snapshot()
    regs[A3] = 7
    cpu.restore(context)
    assert cpu.run(CODE + 8) is Trap.SYSCALL  # at the STXR
    assert regs[A2] == 1  # it failed
    cpu.restore(other)
    assert cpu.run(CODE + 8) is Trap.SYSCALL
    assert (regs[A2], arm64.word(DATA + 64)) == (1, 0)


def test_word_is_not_found_when_it_is_not_the_only_one() -> None:
    class Fake:
        def __init__(self, data: bytes) -> None:
            self.view = memoryview(data)

        def __len__(self) -> int:
            return len(self.view)

    def find(*samples: tuple[bytes, bytes]) -> Any:
        return find_state_word([(Fake(data), value) for data, value in samples])  # type: ignore[misc]

    assert find((b"aaaabbbbcccc", b"bbbb"), (b"aaaaxxxxcccc", b"xxxx")).begin == 4
    assert find((b"bbbbbbbbcccc", b"bbbb"), (b"xxxxxxxxcccc", b"xxxx")) is None
    assert find((b"aaaabbbbcccc", b"bbbb"), (b"aaaaxxxxcccc", b"yyyy")) is None
