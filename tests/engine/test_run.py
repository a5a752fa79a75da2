"""Entering user mode and coming back: system calls, calls served inside the hook, and stops."""

from __future__ import annotations

import threading
import time

import pytest

from minikern.engine.cpu import SINGLE_STEP, Trap
from tests.engine.guest import A0, A1, A2, CODE, CODE_FRAME, DATA, NOWHERE, Guest, R, X, guest_of


def test_registers_are_found_in_place(arch: str) -> None:
    """The fast way works with the supported build; where it does not, everything else still passes."""
    with guest_of(arch) as guest:
        assert guest.cpu.in_place
        assert isinstance(guest.regs, memoryview)


def test_system_call_stops_behind_the_instruction(guest: Guest) -> None:
    length = len(guest.code("syscall")) // 2
    assert guest.run("syscall") is Trap.SYSCALL
    assert guest.cpu.pc == CODE + length
    assert guest.regs[guest.cpu.spec.pc_index] == guest.cpu.pc


def test_registers_written_after_a_trap_take_effect(guest: Guest) -> None:
    assert guest.run("add", 40, 2) is Trap.SYSCALL
    assert guest.regs[A0] == 42
    guest.regs[A0], guest.regs[A1] = 2**64 - 1, 2
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    assert guest.regs[A0] == 1


def test_served_call_goes_on_without_a_stop(guest: Guest) -> None:
    calls = []

    def serve() -> bool:
        calls.append(guest.regs[A0])
        guest.regs[A0] += 1
        return len(calls) < 5

    guest.cpu.serve = serve
    assert guest.run("syscall", 10) is Trap.SYSCALL
    assert calls == [10, 11, 12, 13, 14]
    assert guest.regs[A0] == 15  # what the call that was not served wrote is there too


def test_memory_may_be_taken_away_in_a_served_call(guest: Guest) -> None:
    """munmap(2) can be served: the entry goes, the TLB is flushed, and the next access misses."""
    guest.put(guest.code("syscall")[: len(guest.code("syscall")) // 2] + guest.code("load"))

    def serve() -> bool:
        guest.space.tables.clear()
        guest.space.map(CODE, CODE_FRAME, R | X)
        guest.cpu.flush_tlb()
        return True

    guest.regs[A0] = DATA
    assert guest.cpu.run(CODE + len(guest.code("syscall")) // 2) is Trap.SYSCALL  # now it is in the TLB
    guest.cpu.serve = serve
    assert guest.cpu.run(CODE) is Trap.FAULT
    assert guest.cpu.fault_address == DATA


def test_code_may_be_replaced_in_a_served_call(guest: Guest) -> None:
    """Even the page that makes the call."""
    system_call = guest.code("syscall")[: len(guest.code("syscall")) // 2]
    guest.put(system_call + guest.code("add"))

    def serve() -> bool:
        guest.cpu.serve = None
        guest.put(system_call + guest.code("increments"))
        return True

    assert guest.cpu.run(CODE) is Trap.SYSCALL
    guest.cpu.serve = serve
    guest.regs[A0], guest.regs[A1] = 5, 10
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    assert (guest.regs[A0], guest.regs[A1]) == (5, 13)


def test_exception_in_serve_comes_out_of_run(guest: Guest) -> None:
    def serve() -> bool:
        raise KeyboardInterrupt

    guest.cpu.serve = serve
    with pytest.raises(KeyboardInterrupt):
        guest.run("syscall")
    assert guest.cpu.pc == CODE + len(guest.code("syscall")) // 2
    guest.cpu.serve = None
    assert guest.cpu.run(CODE) is Trap.SYSCALL  # nothing of it is left


def test_stop_before_run_is_not_lost(guest: Guest) -> None:
    guest.put("spin")
    guest.cpu.stop()
    assert guest.cpu.stop_pending
    assert guest.cpu.run(CODE) is Trap.PREEMPT
    assert guest.cpu.pc == CODE
    assert not guest.cpu.stop_pending


def test_stop_from_another_thread(guest: Guest) -> None:
    guest.put("spin")
    guest.regs[A1] = 0
    timer = threading.Timer(0.02, guest.cpu.stop)
    timer.start()
    assert guest.cpu.run(CODE) is Trap.PREEMPT
    timer.join()
    assert guest.regs[A1] > 1000
    assert guest.cpu.pc == CODE  # a block boundary


def test_stop_during_a_served_call_ends_the_run(guest: Guest) -> None:
    def serve() -> bool:
        guest.cpu.stop()
        return True

    guest.cpu.serve = serve
    assert guest.run("syscall") is Trap.PREEMPT
    assert guest.cpu.pc == CODE + len(guest.code("syscall")) // 2


def test_stop_does_not_hide_a_system_call(guest: Guest) -> None:
    def serve() -> bool:
        guest.cpu.stop()
        return False

    guest.cpu.serve = serve
    assert guest.run("syscall") is Trap.SYSCALL
    assert guest.cpu.run(guest.cpu.pc) is Trap.PREEMPT  # the stop is still there
    guest.cpu.serve = None
    assert guest.cpu.run(guest.cpu.pc) is Trap.SYSCALL


def test_many_stops_lose_no_instruction(guest: Guest) -> None:
    """The sum of a loop that is stopped all the time is exact."""
    cpu = guest.cpu
    guest.put("touch")
    done = False

    def stop_often() -> None:
        while not done:
            cpu.stop()
            time.sleep(0.0002)

    thread = threading.Thread(target=stop_often)
    thread.start()
    try:
        for _ in range(200):
            guest.regs[A0], guest.regs[A1] = DATA, 16
            trap = cpu.run(CODE)
            while trap is Trap.PREEMPT:
                trap = cpu.run(cpu.pc)
            assert trap is Trap.SYSCALL
            assert (guest.regs[A0], guest.regs[A1]) == (DATA + 16 * 4096, 0)
    finally:
        done = True
        thread.join()


def test_single_step(guest: Guest) -> None:
    cpu = guest.cpu
    length = (len(guest.code("increments")) - len(guest.code("syscall")) // 2) // 3
    guest.put("increments")
    cpu.run(CODE)  # translated without counting
    guest.regs[A1] = 0
    cpu.single_step = True
    pc = CODE
    for count in (1, 2, 3):
        assert cpu.run(pc) is Trap.EXCEPTION
        assert cpu.exception == SINGLE_STEP
        pc = cpu.pc
        assert pc == CODE + count * length
        assert guest.regs[A1] == count
    assert cpu.run(pc) is Trap.SYSCALL
    guest.regs[A0] = NOWHERE
    guest.put("load")
    assert cpu.run(CODE) is Trap.FAULT
    cpu.single_step = False
    guest.put("increments")
    assert cpu.run(CODE) is Trap.SYSCALL
    assert guest.regs[A1] == 6


def test_stop_while_stepping_does_not_count_as_a_step(guest: Guest) -> None:
    guest.put("increments")
    guest.cpu.single_step = True
    guest.cpu.stop()
    assert guest.cpu.run(CODE) is Trap.PREEMPT
    assert guest.regs[A1] == 0
    assert guest.cpu.run(CODE) is Trap.EXCEPTION
    assert guest.regs[A1] == 1


def test_simd_registers_work_in_user_mode(guest: Guest) -> None:
    assert guest.run("simd", 0, 0xDEAD_BEEF_0123_4567) is Trap.SYSCALL
    assert guest.regs[A2] == 0xDEAD_BEEF_0123_4567
