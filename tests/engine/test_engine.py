"""The library, the arena, two engines over one memory, and the clocks that user code can read."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import struct
import subprocess
import sys
import time

import pytest

from minikern.engine import lib
from minikern.engine.arena import PAGE_SIZE, Arena
from minikern.engine.cpu import Cpu, Trap
from tests.engine.guest import A0, A1, CODE, CODE_FRAME, DATA, DATA_FRAME, SNIPPETS, Guest, R, Space, W, X, spec_of


def test_arena_is_zero_and_lazy() -> None:
    arena = Arena(16 << 30)  # far more than the machine has to have
    assert arena.size == len(arena.view) == 16 << 30
    assert bytes(arena.view[8 << 30 : (8 << 30) + 16]) == bytes(16)
    arena.view[4096:4100] = b"abcd"
    assert ctypes.string_at(arena.address + 4096, 4) == b"abcd"


@pytest.mark.parametrize("size", [0, -4096, 1, 4097])
def test_arena_refuses_odd_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="pages"):
        Arena(size)


def test_unicorn_package_is_not_imported() -> None:
    script = "import sys; from minikern.engine import lib; lib.load(); assert 'unicorn' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(lib.EngineError, match="not installed"):
        lib.load()


def test_old_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "MINIMUM_VERSION", (2, 99, 0))
    with pytest.raises(lib.EngineError, match=r"2\.1\.\d+ is too old: 2\.99\.0"):
        lib.load()


def test_two_engines_over_one_memory() -> None:
    """What one architecture stores the other one loads; each runs between the other's runs."""
    arena = Arena(64 << 20)
    guests = []
    for number, arch in enumerate(("x86_64", "arm64")):
        cpu = Cpu(spec_of(arch), arena)
        space = Space()
        frame = CODE_FRAME + number * PAGE_SIZE
        space.map(CODE, frame, R | X)
        space.map(DATA, DATA_FRAME, R | W)
        cpu.set_space(space)
        guests.append((arch, cpu, frame))
    for round_ in range(10):
        for index in (0, 1):
            arch, cpu, frame = guests[index]
            other_arch, other, other_frame = guests[1 - index]
            for name, who, where in (("store", cpu, frame), ("load", other, other_frame)):
                code = bytes.fromhex(SNIPPETS[arch if who is cpu else other_arch][name])
                arena.view[where : where + len(code)] = code
                who.drop_code(where, len(code))
            cpu.regs[A0], cpu.regs[A1] = DATA + 8, round_ * 2 + index
            assert cpu.run(CODE) is Trap.SYSCALL
            other.regs[A0] = DATA + 8
            assert other.run(CODE) is Trap.SYSCALL
            assert other.regs[A1] == round_ * 2 + index
    for _arch, cpu, _frame in guests:
        cpu.close()


def test_engine_is_given_back_when_nobody_has_it(arch: str) -> None:
    cpu = Cpu(spec_of(arch), Arena(PAGE_SIZE))
    handle = cpu._handle
    assert handle.value
    del cpu
    gc.collect()
    assert not handle.value


def test_counter_of_arm64_is_the_hosts_monotonic_clock(arm64: Guest) -> None:
    """CNTVCT_EL0 counts 16 ns of CLOCK_MONOTONIC, so a vDSO needs no calibration."""
    ticks_ns = 16
    before = time.monotonic_ns()
    assert arm64.run(bytes.fromhex("40e03bd5 010000d4")) is Trap.SYSCALL  # mrs x0, cntvct_el0; svc #0
    after = time.monotonic_ns()
    assert before - ticks_ns <= arm64.regs[A0] * ticks_ns <= after
    assert arm64.run(bytes.fromhex("00e03bd5 010000d4")) is Trap.SYSCALL  # mrs x0, cntfrq_el0; svc #0
    assert arm64.regs[A0] == 10**9 // ticks_ns


def test_counter_of_x86_64_is_steady(x86_64: Guest) -> None:
    """RDTSC has a constant rate against CLOCK_MONOTONIC, so a vDSO can build on it after calibration."""
    code = bytes.fromhex("0f31 48c1e220 4809d0 0f05")  # rdtsc; shl rdx, 32; or rax, rdx; syscall
    x86_64.run(code)

    def sample() -> tuple[int, int]:
        """The counter and the time in ns, from the quickest of several tries."""
        best = None
        for _ in range(50):
            start = time.monotonic_ns()
            assert x86_64.cpu.run(CODE) is Trap.SYSCALL
            end = time.monotonic_ns()
            if best is None or end - start < best[0]:
                best = end - start, x86_64.regs[A0], (start + end) // 2
        assert best is not None
        return best[1:]

    samples = []
    for _ in range(3):
        samples.append(sample())
        time.sleep(0.1)
    (tsc0, ns0), (tsc1, ns1), (tsc2, ns2) = samples
    rate = (tsc1 - tsc0) / (ns1 - ns0)
    assert abs((tsc2 - tsc0) / rate - (ns2 - ns0)) < 100_000  # ns; 140 were measured over 2.5 s


def test_user_mode_selectors(x86_64: Guest) -> None:
    assert (x86_64.cpu.read_reg(11), x86_64.cpu.read_reg(49)) == (0x33, 0x2B)  # CS, SS


def test_initial_fpu_state(x86_64: Guest) -> None:
    assert x86_64.cpu.read_reg(246) == 0x37F  # FPCW
    assert struct.unpack("<I", x86_64.cpu.read_reg_bytes(249, 4))[0] == 0x1F80  # MXCSR
