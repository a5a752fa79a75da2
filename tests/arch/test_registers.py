"""Where the registers of a task are, and what system calls, fork and exec do to them."""

from __future__ import annotations

import copy
import random

import pytest

from minikern.engine.cpu import Trap
from minikern.kernel.errno import Errno
from tests.arch.bench import CODE, STACK_TOP, Bench


def scramble(bench: Bench, seed: int = 1) -> bytes:
    """Give every general register another value; the register set afterwards."""
    generator = random.Random(seed)
    regs = bench.arch.regs
    bench.arch.load(bench.task)
    for index in range(len(regs)):
        regs[index] = generator.getrandbits(46)
    gregs: bytes = bench.arch.get_gregs(bench.task)
    return gregs


def test_a_new_program_starts_with_nothing_in_its_registers(bench: Bench) -> None:
    scramble(bench)
    bench.arch.start_thread(bench.task, CODE, STACK_TOP)
    assert bench.arch.instruction_pointer(bench.task) == CODE
    assert bench.arch.stack_pointer(bench.task) == STACK_TOP
    others = [value for value in bench.arch.regs if value not in (CODE, STACK_TOP)]
    assert not any(others)
    assert len(others) == len(bench.arch.regs) - 2


def test_a_call_and_its_result(bench: Bench) -> None:
    bench.task.syscall.nr = -1
    assert bench.run(bench.code.call) is Trap.SYSCALL
    nr, args = bench.arch.syscall_enter(bench.task)
    assert bench.arch.syscalls[nr] == "exit"
    assert len(args) == 6
    assert args[0] == 1
    for value in (0, 42, -Errno.ENOENT, -(1 << 63), (1 << 63) - 1):
        bench.arch.syscall_set_return(bench.task, value)
        assert bench.arch.syscall_get_return(bench.task) == value


def test_number_is_what_the_low_half_says(bench: Bench) -> None:
    bench.run(bench.code.call)
    nr, args = bench.arch.syscall_enter(bench.task)
    for given, expected in ((1 << 32 | 5, 5), (0xFFFF_FFFF, -1), (1 << 31, -(1 << 31))):
        bench.task.syscall.nr, bench.task.syscall.args = nr, args
        bench.arch.syscall_restart(bench.task, given)
        bench.run()
        assert bench.arch.syscall_enter(bench.task)[0] == expected


def test_a_restarted_call_is_entered_with_the_same_arguments(bench: Bench) -> None:
    bench.run(bench.code.call)
    before = bench.arch.instruction_pointer(bench.task)
    nr, args = bench.arch.syscall_enter(bench.task)
    bench.task.syscall.nr, bench.task.syscall.args = nr, args
    bench.arch.syscall_set_return(bench.task, -512)
    bench.arch.syscall_restart(bench.task, nr)
    assert bench.arch.instruction_pointer(bench.task) == before - len(bench.code.syscall)
    assert bench.run() is Trap.SYSCALL
    assert bench.arch.syscall_enter(bench.task) == (nr, args)


def test_restart_syscall_has_a_number(bench: Bench) -> None:
    assert bench.arch.syscalls[bench.arch.restart_syscall_nr] == "restart_syscall"


def test_a_tracer_changes_a_call(bench: Bench) -> None:
    bench.run(bench.code.call)
    bench.task.syscall.nr, bench.task.syscall.args = bench.arch.syscall_enter(bench.task)
    bench.arch.syscall_set_args(bench.task, 7, (1, 2, 3, 4, 5, 6))
    assert bench.arch.syscall_get_args(bench.task) == (7, (1, 2, 3, 4, 5, 6))


def test_a_child_has_the_same_registers_and_result_0(bench: Bench) -> None:
    scramble(bench)
    bench.arch.syscall_set_return(bench.task, 99)
    parent = bench.arch.get_gregs(bench.task)
    child = bench.fork()
    assert bench.arch.syscall_get_return(child) == 0
    bench.arch.syscall_set_return(child, 99)
    assert bench.arch.get_gregs(child) == parent
    assert bench.arch.get_gregs(bench.task) == parent


def test_a_thread_has_a_stack_and_storage_of_its_own(bench: Bench) -> None:
    scramble(bench)
    before = bench.arch.get_gregs(bench.task), bench.arch.stack_pointer(bench.task)
    child = bench.fork(sp=0x7000, tls=0x5555_0000)
    assert bench.arch.stack_pointer(child) == 0x7000
    assert (bench.arch.get_gregs(bench.task), bench.arch.stack_pointer(bench.task)) == before


def test_two_tasks_run_in_turns(bench: Bench) -> None:
    bench.put(bench.code.three_nops)
    child = bench.fork(sp=STACK_TOP - 4096)
    seen = []
    for task in (bench.task, child, bench.task, child):
        bench.arch.syscall_set_return(task, 1000 + (task is child))
        bench.arch.load(task)
        seen.append((bench.arch.syscall_get_return(task), bench.arch.stack_pointer(task)))
    assert seen[0] == seen[2] == (1000, STACK_TOP - 64)
    assert seen[1] == seen[3] == (1001, STACK_TOP - 4096)


def test_a_forgotten_task_is_never_saved(bench: Bench) -> None:
    child = bench.fork()
    saved = bytes(child.thread.context)  # type: ignore[attr-defined]
    bench.arch.load(child)
    bench.arch.syscall_set_return(child, 0x77)
    bench.arch.forget(child)
    bench.arch.load(bench.task)
    assert bytes(child.thread.context) == saved  # type: ignore[attr-defined]


def test_a_copy_of_the_state_runs_on_by_itself(bench: Bench) -> None:
    scramble(bench)
    bench.arch.unload()
    twin = bench.new_task()
    twin.thread = copy.deepcopy(bench.task.thread)
    before = bench.arch.get_gregs(bench.task)
    assert bench.arch.get_gregs(twin) == before
    bench.arch.syscall_set_return(twin, 5)
    assert bench.arch.get_gregs(bench.task) == before


def test_flags_survive_a_switch(bench: Bench) -> None:
    data = bytearray(scramble(bench))
    carry = {"x86_64": (18 * 8, 1), "aarch64": (33 * 8 + 3, 0x20)}[bench.arch.name]
    data[carry[0]] |= carry[1]
    bench.arch.set_gregs(bench.task, bytes(data))
    child = bench.fork()
    bench.arch.load(child)
    assert bench.arch.get_gregs(bench.task)[carry[0]] & carry[1]


@pytest.mark.parametrize("steps", [3])
def test_single_steps(bench: Bench, steps: int) -> None:
    bench.put(bench.code.three_nops)
    bench.arch.set_single_step(bench.task, True)
    for step in range(1, steps + 1):
        assert bench.run() is Trap.EXCEPTION
        info = bench.arch.exception_info(bench.task)
        assert (info.signo, info.code) == (5, 2)  # SIGTRAP, TRAP_TRACE
        assert info.addr == bench.arch.instruction_pointer(bench.task) == CODE + step * bench.code.nop_size
    assert bench.run() is Trap.SYSCALL  # a call is not skipped
    bench.arch.set_single_step(bench.task, False)
    bench.arch.start_thread(bench.task, CODE, STACK_TOP)
    assert bench.run() is Trap.SYSCALL


def test_stepping_is_not_inherited_and_not_seen(bench: Bench) -> None:
    bench.put(bench.code.three_nops)
    before = bench.arch.get_gregs(bench.task)
    bench.arch.set_single_step(bench.task, True)
    assert bench.arch.get_gregs(bench.task) == before
    child = bench.fork()
    assert bench.run(task=child) is Trap.SYSCALL
    assert bench.run() is Trap.EXCEPTION
