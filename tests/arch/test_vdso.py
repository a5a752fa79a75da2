"""The vDSO: its image, its functions, and the page from which they read the clock."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from minikern.engine.arena import PAGE_SHIFT
from minikern.engine.cpu import Trap
from minikern.host.sources import SeededSources
from minikern.kernel.vdso import VdsoData
from minikern.mm.special import install_special_mapping
from minikern.mm.vma import VM_EXEC, VM_READ
from tests.arch.bench import DATA, STACK_TOP, Bench

TOP = Path(__file__).resolve().parents[2]
VDSO = 0x7000_1000
NSEC = 1_000_000_000
REALTIME, MONOTONIC, CPUTIME, BOOTTIME = 0, 1, 2, 7
FUNCTIONS = {
    "x86_64": (
        "LINUX_2.6",
        "__vdso_clock_gettime __vdso_gettimeofday __vdso_time __vdso_getcpu __vdso_clock_getres "
        "clock_gettime gettimeofday time getcpu clock_getres",
    ),
    "aarch64": (
        "LINUX_2.6.39",
        "__kernel_rt_sigreturn __kernel_clock_gettime __kernel_gettimeofday __kernel_clock_getres",
    ),
}


def symbols(bench: Bench) -> dict[str, int]:
    """Name -> offset of what the image exports."""
    image: Any = ELFFile(io.BytesIO(bench.arch.vdso))
    return {each.name: each["st_value"] for each in image.get_section_by_name(".dynsym").iter_symbols() if each.name}


def function(bench: Bench, name: str) -> int:
    """Offset of a function by the name that it has on x86-64 or arm64."""
    found = symbols(bench)
    return next(found[prefix + name] for prefix in ("__vdso_", "__kernel_") if prefix + name in found)


def map_vdso(bench: Bench) -> None:
    image = bench.kernel.vdso.image(bench.arch)
    assert bench.task.mm is not None
    bench.task.mm.vdso = VDSO
    install_special_mapping(bench.task.mm, VDSO - 4096, image.data_pfns, VM_READ, "[vvar]")
    install_special_mapping(bench.task.mm, VDSO, image.code_pfns, VM_READ | VM_EXEC, "[vdso]")


def set_page(bench: Bench, data: VdsoData) -> None:
    start = bench.kernel.vdso.images[bench.arch.name].data_pfns[0] << PAGE_SHIFT
    packed = data.pack()
    bench.kernel.arena.view[start : start + len(packed)] = packed


def call(bench: Bench, name: str, *arguments: int) -> Trap:
    """Call a function of the vDSO; it returns to the system-call instruction in the code page."""
    bench.put(bench.code.syscall)
    bench.arch.start_thread(bench.task, VDSO + function(bench, name), STACK_TOP - 64)
    regs = bench.arch.regs
    if bench.arch.name == "x86_64":
        regs[4] -= 8
        bench.write(regs[4], (0x40_0000).to_bytes(8, "little"))
        places = 7, 6, 2
    else:
        regs[30] = 0x40_0000
        places = 0, 1, 2
    for index, value in zip(places, arguments, strict=False):
        regs[index] = value
    return bench.run()


def came_back(bench: Bench) -> bool:
    """Whether the last `call` ended in the code page, not in a system call of the vDSO itself."""
    return bool(bench.arch.instruction_pointer(bench.task) == 0x40_0000 + len(bench.code.syscall))


def counter_page(bench: Bench) -> VdsoData:
    """A page that works, whatever the host is: the counter is read, and counts for nothing."""
    return VdsoData(mult=1, cycle_last=1 << 62, monotonic_ns=5 * NSEC + 7, realtime_offset_ns=1_700_000_000 * NSEC)


def test_image(bench: Bench) -> None:
    image: Any = ELFFile(io.BytesIO(bench.arch.vdso))
    assert image["e_machine"] in ("EM_X86_64", "EM_AARCH64")
    loads = [each for each in image.iter_segments() if each["p_type"] == "PT_LOAD"]
    assert len(loads) == 1
    assert loads[0]["p_vaddr"] == loads[0]["p_offset"] == 0  # it is used where it lies in the file
    assert loads[0]["p_flags"] == 5
    version, names = FUNCTIONS[bench.arch.name]
    assert set(symbols(bench)) == set(names.split())
    definitions = image.get_section_by_name(".gnu.version_d")
    assert version in [aux.name for _, auxes in definitions.iter_versions() for aux in auxes]
    assert image.get_section_by_name(".hash") and image.get_section_by_name(".gnu.hash")
    assert image.has_dwarf_info() or image.get_section_by_name(".eh_frame")
    relocations = [each.name for each in image.iter_sections() if each["sh_type"] in ("SHT_REL", "SHT_RELA")]
    assert not relocations


def test_committed_images_are_what_their_sources_make() -> None:
    pytest.importorskip("ziglang")
    done = subprocess.run([sys.executable, TOP / "arch/build_vdso.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sigreturn_trampoline(arm64: Bench) -> None:
    offset = arm64.arch.sigreturn_trampoline()
    assert offset == symbols(arm64)["__kernel_rt_sigreturn"]
    map_vdso(arm64)
    arm64.arch.start_thread(arm64.task, VDSO + offset, STACK_TOP)
    assert arm64.run() is Trap.SYSCALL
    nr, _ = arm64.arch.syscall_enter(arm64.task)
    assert arm64.arch.syscalls[nr] == "rt_sigreturn"


@pytest.mark.parametrize(
    ("clock", "seconds"), [(MONOTONIC, 5), (REALTIME, 1_700_000_005), (BOOTTIME, 5), (4, 5), (5, 1_700_000_005), (6, 5)]
)
def test_clocks(bench: Bench, clock: int, seconds: int) -> None:
    map_vdso(bench)
    set_page(bench, counter_page(bench))
    assert call(bench, "clock_gettime", clock, DATA) is Trap.SYSCALL
    assert came_back(bench)
    assert bench.arch.syscall_get_return(bench.task) == 0
    assert struct.unpack("<qq", bench.read(DATA, 16)) == (seconds, 7)


def test_gettimeofday(bench: Bench) -> None:
    map_vdso(bench)
    page = counter_page(bench)
    page.monotonic_ns = 5 * NSEC + 7999
    set_page(bench, page)
    bench.write(DATA + 16, b"\xff" * 8)
    call(bench, "gettimeofday", DATA, DATA + 16)
    assert came_back(bench)
    assert struct.unpack("<qqii", bench.read(DATA, 24)) == (1_700_000_005, 7, 0, 0)
    call(bench, "gettimeofday", 0, 0)
    assert came_back(bench)


def test_x86_64_time_and_getcpu(x86_64: Bench) -> None:
    map_vdso(x86_64)
    set_page(x86_64, counter_page(x86_64))
    call(x86_64, "time", DATA)
    assert x86_64.arch.syscall_get_return(x86_64.task) == 1_700_000_005
    assert struct.unpack("<q", x86_64.read(DATA, 8)) == (1_700_000_005,)
    x86_64.write(DATA, b"\xff" * 8)
    call(x86_64, "getcpu", DATA, DATA + 4, 0)
    assert (x86_64.arch.syscall_get_return(x86_64.task), x86_64.read(DATA, 8)) == (0, bytes(8))


@pytest.mark.parametrize("clock", [CPUTIME, 3, 9, 12, 31, 33, -6, 0x7FFF_FFFF])
def test_other_clocks_are_system_calls(bench: Bench, clock: int) -> None:
    map_vdso(bench)
    set_page(bench, counter_page(bench))
    assert call(bench, "clock_gettime", clock & (1 << 64) - 1, DATA) is Trap.SYSCALL
    assert not came_back(bench)
    nr, args = bench.arch.syscall_enter(bench.task)
    assert bench.arch.syscalls[nr] == "clock_gettime"
    assert (args[0] & 0xFFFF_FFFF, args[1]) == (clock & 0xFFFF_FFFF, DATA)
    bench.arch.syscall_set_return(bench.task, -22)
    bench.run()
    assert came_back(bench)
    assert bench.arch.syscall_get_return(bench.task) & 0xFFFF_FFFF == -22 & 0xFFFF_FFFF


def test_without_a_counter_everything_is_a_system_call(bench: Bench) -> None:
    map_vdso(bench)
    set_page(bench, VdsoData())
    for name, call_name in (("clock_gettime", None), ("gettimeofday", None), ("clock_getres", None)):
        call(bench, name, 0, DATA)
        assert not came_back(bench)
        assert bench.arch.syscalls[bench.arch.syscall_enter(bench.task)[0]] == (call_name or name)


def test_the_counter_is_what_programs_read(bench: Bench) -> None:
    """The clock in a program lies between two readings of the kernel's, and never goes back."""
    if bench.arch.read_counter() is None:
        pytest.skip("this host cannot tell what the counter shows")
    map_vdso(bench)
    vdso, clock = bench.kernel.vdso, bench.kernel.sources.monotonic_ns
    until = clock() + 8_000_000
    while clock() < until:
        vdso.update_vsyscall()
    vdso.update_vsyscall()
    previous = 0
    for turn in range(300):
        before = clock()
        if turn % 3 == 0:
            vdso.update_vsyscall()
        call(bench, "clock_gettime", MONOTONIC, DATA)
        after = clock()
        assert came_back(bench)
        seconds, nanoseconds = struct.unpack("<qq", bench.read(DATA, 16))
        now = seconds * NSEC + nanoseconds
        assert previous <= now <= after
        if turn % 3 == 0:
            assert before <= now
        previous = now


def test_a_seeded_machine_has_no_counter(bench: Bench) -> None:
    bench.kernel.sources = SeededSources(1)
    map_vdso(bench)
    for _ in range(3):
        bench.kernel.vdso.update_vsyscall()
    call(bench, "clock_gettime", MONOTONIC, DATA)
    assert not came_back(bench)


# The line itself


def shown(data: VdsoData, cycles: int) -> int:
    """What programs read when the counter shows ``cycles``."""
    _, mode, last, mult, shift, base, _ = struct.unpack("<IIQIIQq", data.pack())
    assert mode == 1
    return int(base + (max(cycles - last, 0) * mult >> shift))


def test_a_measured_line_is_a_little_slow_and_never_goes_back() -> None:
    data, previous = VdsoData(), 0
    for now in range(10 * NSEC, 11 * NSEC, 3_000_000):
        cycles = now * 21 // 10  # 2.1 GHz
        data.update(now, cycles, now, 0)
        if not data.mult:
            assert now < 10 * NSEC + 5_000_000
            continue
        for later in (0, 1_000_000, 2_999_999):
            value = shown(data, (now + later) * 21 // 10)
            assert previous <= value <= now + later
            assert now + later - value <= 3000  # it loses no more than the margin
            previous = value


def test_a_clock_that_is_slowed_down_does_not_turn_the_line_back() -> None:
    data = VdsoData()
    for now, cycles in ((0, 0), (NSEC, 2 * NSEC)):
        data.update(now, cycles, now, 0)
    ahead = shown(data, 2 * NSEC + 2_000_000)  # 1 ms later
    data.update(NSEC + 900_000, 2 * NSEC + 2_000_000, NSEC + 900_000, 0)  # but the clock says 0.9 ms
    assert shown(data, 2 * NSEC + 2_000_000) == ahead


def test_after_the_host_has_slept_the_line_starts_anew() -> None:
    data = VdsoData()
    for now, cycles in ((0, 0), (NSEC, 2 * NSEC)):
        data.update(now, cycles, now, 0)
    data.update(NSEC + 1000, 100 * NSEC, NSEC + 1000, 0)  # the counter went on, the clock did not
    assert shown(data, 100 * NSEC) == NSEC + 1000


def test_readings_that_were_interrupted_make_the_line_slower_only() -> None:
    for before, after in ((0, 1_000_000), (1_000_000, 0)):
        data = VdsoData()
        data.update(10 * NSEC, 21 * NSEC, 10 * NSEC + before, 0)
        end = 10 * NSEC + 6_000_000
        data.update(end, (end + after) * 21 // 10, end + after, 0)
        if data.mult:
            assert shown(data, (end + 10_000_000) * 21 // 10) <= end + 10_000_000
