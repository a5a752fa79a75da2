"""Signal frames: what a handler finds, and that sigreturn takes everything back."""

from __future__ import annotations

import random
import struct

import pytest

from minikern.engine.cpu import Access
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.sigaltstack import SS_DISABLE
from minikern.kernel.siginfo import SA, FaultCode, Layout, SigInfo, Signal
from tests.arch.bench import CODE, DATA, NOWHERE, PAGE, STACK_TOP, Bench

MASK = 0x0123_4567_89AB_0000
FAULT = SigInfo(Signal.SIGSEGV, FaultCode.SEGV_ACCERR, layout=Layout.FAULT, addr=0xDEAD000)


def scramble(bench: Bench, seed: int) -> tuple[bytes, bytes]:
    """Random values in every register of the task but the stack pointer; both register sets."""
    generator = random.Random(seed)
    arch, task = bench.arch, bench.task
    sp = arch.stack_pointer(task)
    for index in range(len(arch.regs)):
        arch.regs[index] = generator.getrandbits(47)
    gregs = arch.get_gregs(task)
    arch.start_thread(task, CODE, sp)
    words = list(struct.unpack(f"<{len(gregs) // 8}Q", gregs))
    fresh = struct.unpack(f"<{len(gregs) // 8}Q", arch.get_gregs(task))
    words = [new if old in (CODE, sp) else word for word, old, new in zip(words, fresh, fresh, strict=True)]
    arch.set_gregs(task, struct.pack(f"<{len(words)}Q", *words))
    arch.set_fpregs(task, fp_state(bench, generator))
    task.syscall.nr = -1
    return arch.get_gregs(task), arch.get_fpregs(task)


def fp_state(bench: Bench, generator: random.Random) -> bytes:
    """A floating-point state in which nothing has its initial value."""
    state = bytearray(bench.arch.get_fpregs(bench.task))
    if bench.arch.name == "x86_64":
        struct.pack_into("<HHBxHQQI", state, 0, 0x27F, 0x3A41, 0b1010_0110, 0x123, 0x1111, 0x2222, 0x1FA5)
        for i in range(8):
            state[32 + 16 * i : 42 + 16 * i] = generator.randbytes(10)
        state[160:416] = generator.randbytes(256)
    else:
        state[:512] = generator.randbytes(512)
        struct.pack_into("<II", state, 512, 0x0800_001F, 0x0100_0000)
    return bytes(state)


def test_everything_comes_back(bench: Bench) -> None:
    for seed in range(5):
        before = scramble(bench, seed)
        bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(flags=SA.SIGINFO), MASK)
        handler = bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)
        assert handler[0] != before[0]
        bench.arch.set_fpregs(bench.task, fp_state(bench, random.Random(99)))
        return_from_handler(bench)
        bench.task.blocked = 0
        result = bench.arch.restore_rt_frame(bench.task)
        assert (bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)) == before
        assert result == bench.arch.syscall_get_return(bench.task)
        assert bench.task.blocked == MASK
        assert bench.task.syscall.nr == -1


def return_from_handler(bench: Bench) -> None:
    """What the last instruction of a handler does to the stack."""
    if bench.arch.name == "x86_64":  # ret pops the address of the restorer
        bench.arch.regs[4] += 8


def test_the_handler_is_called(bench: Bench) -> None:
    action = bench.action(flags=SA.SIGINFO)
    before = bench.arch.stack_pointer(bench.task)
    bench.arch.setup_rt_frame(bench.task, FAULT, action, MASK)
    regs, sp = bench.arch.regs, bench.arch.stack_pointer(bench.task)
    assert bench.arch.instruction_pointer(bench.task) == action.handler
    first, second, third = (7, 6, 2) if bench.arch.name == "x86_64" else (0, 1, 2)
    assert regs[first] == Signal.SIGSEGV
    assert bench.read(regs[second], 128) == FAULT.pack()
    flags, link, stack, stack_flags, size = struct.unpack_from("<QQQI4xQ", bench.read(regs[third], 40))
    assert (link, stack, stack_flags, size) == (0, 0, SS_DISABLE, 0)
    assert sp < before
    if bench.arch.name == "x86_64":
        assert sp % 16 == 8  # as after a call
        assert struct.unpack("<Q", bench.read(sp, 8))[0] == action.restorer
        assert flags == 7
    else:
        assert sp % 16 == 0
        assert regs[30] == action.restorer
        assert flags == 0


def test_a_nested_handler(bench: Bench) -> None:
    outer = scramble(bench, 1)
    bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(), 1)
    inner = bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)
    bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(), 2)
    return_from_handler(bench)
    bench.arch.restore_rt_frame(bench.task)
    assert (bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)) == inner
    assert bench.task.blocked == 2
    return_from_handler(bench)
    bench.arch.restore_rt_frame(bench.task)
    assert (bench.arch.get_gregs(bench.task), bench.arch.get_fpregs(bench.task)) == outer
    assert bench.task.blocked == 1


def test_the_alternate_stack(bench: Bench) -> None:
    task, arch = bench.task, bench.arch
    task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags = DATA, 3 * PAGE, 0
    arch.setup_rt_frame(task, FAULT, bench.action(flags=SA.ONSTACK | SA.SIGINFO), 0)
    assert DATA < arch.stack_pointer(task) < DATA + 3 * PAGE
    regs = arch.regs
    stack, flags, size = struct.unpack_from("<QI4xQ", bench.read(regs[2] + 16, 24))
    assert (stack, flags, size) == (DATA, 0, 3 * PAGE)
    before = arch.stack_pointer(task)
    arch.setup_rt_frame(task, FAULT, bench.action(flags=SA.ONSTACK), 0)  # it goes on below
    assert DATA < arch.stack_pointer(task) < before
    for _ in range(2):
        return_from_handler(bench)
        arch.restore_rt_frame(task)
    assert arch.stack_pointer(task) == STACK_TOP - 64
    assert (task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags) == (DATA, 3 * PAGE, 0)


def test_no_stack(bench: Bench) -> None:
    bench.arch.start_thread(bench.task, CODE, NOWHERE)
    with pytest.raises(KernelError) as error:
        bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(), 0)
    assert error.value.errno == Errno.EFAULT


def test_no_frame(bench: Bench) -> None:
    bench.arch.start_thread(bench.task, CODE, NOWHERE)
    with pytest.raises(KernelError) as error:
        bench.arch.restore_rt_frame(bench.task)
    assert error.value.errno == Errno.EFAULT


def test_a_fault_shows_in_the_frame(bench: Bench) -> None:
    assert bench.arch.fault_context(bench.task, NOWHERE + 4, Access.WRITE) is None
    bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(flags=SA.SIGINFO), 0)
    context = bench.arch.regs[2]
    if bench.arch.name == "x86_64":
        err, trapno, _, cr2 = struct.unpack("<4Q", bench.read(context + 40 + 152, 32))
        assert (err, trapno, cr2) == (6, 14, NOWHERE + 4)
    else:
        assert struct.unpack("<Q", bench.read(context + 176, 8))[0] == NOWHERE + 4
        magic, size, esr = struct.unpack("<IIQ", bench.read(context + 176 + 288 + 528, 16))
        assert (magic, size, esr) == (0x45535201, 16, 0x24 << 26 | 1 << 25 | 1 << 6 | 7)


# What debuggers and unwinders rely on, which is not the same everywhere


def test_x86_64_frame(x86_64: Bench) -> None:
    gregs, fpregs = scramble(x86_64, 3)
    words = struct.unpack("<27Q", gregs)
    x86_64.arch.setup_rt_frame(x86_64.task, FAULT, x86_64.action(flags=SA.SIGINFO), MASK)
    frame = x86_64.arch.regs[4]
    mcontext = struct.unpack("<23Q", x86_64.read(frame + 8 + 40, 184))
    r8_to_r15 = [words[i] for i in (9, 8, 7, 6, 3, 2, 1, 0)]
    di_to_ip = [words[i] for i in (14, 13, 4, 5, 12, 10, 11, 19, 16)]
    assert [*mcontext[:17]] == r8_to_r15 + di_to_ip
    assert mcontext[17] == words[18]  # flags
    assert mcontext[18] == 0x33 | 0x2B << 48  # cs, gs, fs, ss
    assert mcontext[21] == MASK
    fpstate = struct.unpack("<Q", x86_64.read(frame + 8 + 40 + 184, 8))[0]
    assert fpstate % 64 == 0
    state = x86_64.read(fpstate, 580)
    assert state[:464] == fpregs[:464]
    assert struct.unpack_from("<IIQI", state, 464) == (0x46505853, 580, 3, 576)
    assert struct.unpack_from("<Q", state, 512) == (3,)
    assert state[576:] == b"EXPF"
    assert fpstate + 580 <= STACK_TOP - 64 - 128  # the red zone is left alone
    assert x86_64.read(frame + 8 + 296, 8) == MASK.to_bytes(8, "little")


def test_x86_64_handler_starts_with_a_clean_processor(x86_64: Bench) -> None:
    arch, task = x86_64.arch, x86_64.task
    fresh = arch.get_fpregs(task)
    scramble(x86_64, 4)
    words = list(struct.unpack("<27Q", arch.get_gregs(task)))
    words[18] |= 1 << 10 | 1 << 8  # DF, TF
    arch.set_gregs(task, struct.pack("<27Q", *words))
    arch.setup_rt_frame(task, FAULT, x86_64.action(), 0)
    assert arch.get_fpregs(task) == fresh
    assert not struct.unpack("<27Q", arch.get_gregs(task))[18] & (1 << 10 | 1 << 8)
    assert arch.regs[0] == 0


def test_x86_64_needs_a_restorer(x86_64: Bench) -> None:
    action = x86_64.action()
    action.flags &= ~SA.RESTORER
    with pytest.raises(KernelError):
        x86_64.arch.setup_rt_frame(x86_64.task, FAULT, action, 0)


def test_x86_64_small_alternate_stack(x86_64: Bench) -> None:
    task = x86_64.task
    task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags = DATA + 2048, 1024, 0
    with pytest.raises(KernelError):
        x86_64.arch.setup_rt_frame(task, FAULT, x86_64.action(flags=SA.ONSTACK), 0)


def test_x86_64_frame_without_fp_state(x86_64: Bench) -> None:
    arch, task = x86_64.arch, x86_64.task
    fresh = arch.get_fpregs(task)
    scramble(x86_64, 5)
    arch.setup_rt_frame(task, FAULT, x86_64.action(), 0)
    x86_64.write(arch.regs[4] + 8 + 40 + 184, bytes(8))
    return_from_handler(x86_64)
    arch.restore_rt_frame(task)
    assert arch.get_fpregs(task) == fresh


@pytest.mark.parametrize(
    ("offset", "value", "size"),
    [(8 + 40 + 144, 0x23, 2), (8 + 40 + 150, 0x10, 2), (8 + 40 + 184, NOWHERE, 8)],
    ids=["cs", "ss", "fpstate"],
)
def test_x86_64_bad_frame(x86_64: Bench, offset: int, value: int, size: int) -> None:
    x86_64.arch.setup_rt_frame(x86_64.task, FAULT, x86_64.action(), 0)
    x86_64.write(x86_64.arch.regs[4] + offset, value.to_bytes(size, "little"))
    return_from_handler(x86_64)
    with pytest.raises(KernelError):
        x86_64.arch.restore_rt_frame(x86_64.task)


def test_x86_64_bad_mxcsr(x86_64: Bench) -> None:
    x86_64.arch.setup_rt_frame(x86_64.task, FAULT, x86_64.action(), 0)
    fpstate = struct.unpack("<Q", x86_64.read(x86_64.arch.regs[4] + 8 + 40 + 184, 8))[0]
    x86_64.write(fpstate + 24, (0x10000).to_bytes(4, "little"))
    return_from_handler(x86_64)
    with pytest.raises(KernelError):
        x86_64.arch.restore_rt_frame(x86_64.task)


def test_arm64_frame(arm64: Bench) -> None:
    gregs, fpregs = scramble(arm64, 3)
    words = struct.unpack("<34Q", gregs)
    arm64.arch.setup_rt_frame(arm64.task, FAULT, arm64.action(), MASK)
    frame = arm64.arch.regs[31]
    assert arm64.read(frame + 128 + 40, 8) == MASK.to_bytes(8, "little")
    mcontext = struct.unpack("<35Q", arm64.read(frame + 128 + 176, 280))
    assert mcontext[1:] == words
    magic, size = struct.unpack("<II", arm64.read(frame + 128 + 464, 8))
    assert (magic, size) == (0x46508001, 528)
    assert arm64.read(frame + 128 + 472, 8) == fpregs[512:520]
    assert arm64.read(frame + 128 + 480, 512) == fpregs[:512]
    assert arm64.read(frame + 128 + 464 + 528, 8) == bytes(8)  # the end of the records
    # The frame record above it, for who follows x29
    assert arm64.arch.regs[29] == frame + 4688
    assert struct.unpack("<QQ", arm64.read(frame + 4688, 16)) == words[29:31]
    assert frame + 4688 + 16 <= STACK_TOP - 64


def test_arm64_returns_through_the_vdso(arm64: Bench) -> None:
    action = arm64.action()
    action.flags &= ~SA.RESTORER
    assert arm64.task.mm is not None
    arm64.task.mm.vdso = 0x7000_0000
    arm64.arch.setup_rt_frame(arm64.task, FAULT, action, 0)
    assert arm64.arch.regs[30] == 0x7000_0000 + arm64.arch.sigreturn_trampoline()


def test_arm64_stack_pointer_has_to_be_aligned(arm64: Bench) -> None:
    arm64.arch.setup_rt_frame(arm64.task, FAULT, arm64.action(), 0)
    arm64.arch.regs[31] += 8
    with pytest.raises(KernelError):
        arm64.arch.restore_rt_frame(arm64.task)


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (464, struct.pack("<II", 0x46508001, 512)),  # wrong size
        (464, struct.pack("<II", 0, 0)),  # no floating-point state at all
        (464, struct.pack("<II", 0x12345678, 528)),  # an unknown record
        (464 + 528, struct.pack("<II", 0x46508001, 528)),  # twice
        (464 + 528, struct.pack("<II", 0, 8)),  # a terminator with a size
        (464 + 528, struct.pack("<II", 0x45535201, 0)),  # a record that would never end
        (464 + 528, struct.pack("<II", 0x45535201, 5000)),  # one that goes beyond
        (464 + 528, struct.pack("<II", 0x45535201, 24)),  # the next is not aligned
        (176 + 272, struct.pack("<Q", 5)),  # not EL0
    ],
)
def test_arm64_bad_frame(arm64: Bench, offset: int, data: bytes) -> None:
    arm64.arch.setup_rt_frame(arm64.task, FAULT, arm64.action(), 0)
    arm64.write(arm64.arch.regs[31] + 128 + offset, data)
    if data[4:] == struct.pack("<I", 24):
        arm64.write(arm64.arch.regs[31] + 128 + offset + 24, struct.pack("<II", 0x45535201, 16))
    with pytest.raises(KernelError) as error:
        arm64.arch.restore_rt_frame(arm64.task)
    assert error.value.errno == Errno.EFAULT
