"""Structures and bits that differ from architecture to architecture."""

from __future__ import annotations

import copy
import struct

import pytest

from minikern.arch import InstalledArches
from minikern.fs.file import OpenFlag
from minikern.fs.kstat import Kstat
from tests.arch.bench import Bench
from tests.arch.test_signal_frames import FAULT

STAT = Kstat(
    dev=0x801,
    ino=2,
    mode=0o100644,
    nlink=3,
    uid=4,
    gid=5,
    rdev=6,
    size=7,
    blksize=4096,
    blocks=8,
    atime_ns=9_000_000_010,
    mtime_ns=11_000_000_012,
    ctime_ns=-1,
    btime_ns=0,
)
# Offset and format of each field, from the headers.
OFFSETS = {
    "x86_64": "dev=0Q ino=8Q nlink=16Q mode=24I uid=28I gid=32I rdev=40Q size=48q blksize=56q blocks=64q times=72",
    "aarch64": "dev=0Q ino=8Q mode=16I nlink=20I uid=24I gid=28I rdev=32Q size=48q blksize=56i blocks=64q times=72",
}
SIZES = {"x86_64": 144, "aarch64": 128}


def test_stat(bench: Bench) -> None:
    data = bench.arch.pack_stat(STAT)
    assert len(data) == SIZES[bench.arch.name]
    for field in OFFSETS[bench.arch.name].split():
        name, _, place = field.partition("=")
        if name == "times":
            assert struct.unpack_from("<6q", data, int(place)) == (9, 10, 11, 12, -1, 999_999_999)
        else:
            assert struct.unpack_from(f"<{place[-1]}", data, int(place[:-1])) == (getattr(STAT, name),), name


def test_open_flags_go_both_ways(bench: Bench) -> None:
    for flag in (1 << bit for bit in range(23)):
        generic = bench.arch.open_flags(flag)
        assert generic.bit_count() == 1
        assert bench.arch.guest_open_flags(generic) == flag
    everything = (1 << 23) - 1
    assert bench.arch.open_flags(everything) == everything == bench.arch.guest_open_flags(everything)


@pytest.mark.parametrize(
    ("guest", "generic"),
    [
        (0o40000, OpenFlag.DIRECTORY),
        (0o100000, OpenFlag.NOFOLLOW),
        (0o200000, OpenFlag.DIRECT),
        (0o400000, OpenFlag.LARGEFILE),
        (0o2000000, OpenFlag.CLOEXEC),
        (0o20040000, OpenFlag.TMPFILE),
    ],
)
def test_arm64_open_flags(arm64: Bench, guest: int, generic: OpenFlag) -> None:
    assert arm64.arch.open_flags(guest) == generic


def test_epoll_event() -> None:
    assert {name: backend.epoll_event_packed for name, backend in InstalledArches().items() if name in SIZES} == {
        "x86_64": True,
        "aarch64": False,
    }


def test_capabilities_are_named_in_cpuinfo(bench: Bench) -> None:
    text = bench.arch.cpuinfo()
    assert all(":" in line for line in text.splitlines())
    words = set(text.split())
    hwcap, _ = bench.arch.hwcap()
    if bench.arch.name == "x86_64":
        assert {"sse4_2", "popcnt", "cx16", "fsgsbase"} <= words
        assert not {"avx", "avx2", "avx512f", "fma", "f16c"} & words
        assert hwcap & 1 << 25  # SSE
    else:
        assert {"fp", "asimd", "atomics", "crc32"} <= words
        assert not {"sve", "paca", "bti", "mte"} & words
        assert hwcap & 0b11 == 0b11
        assert not hwcap >> 22 & 1 and not hwcap >> 30 & 1  # SVE, pointer authentication
        assert not hwcap >> 11 & 1  # CPUID: reads of ID registers are not emulated


def test_deepcopy_shares_the_engine(bench: Bench) -> None:
    assert copy.deepcopy(bench.arch) is bench.arch


def test_room_for_a_frame(bench: Bench) -> None:
    before = bench.arch.stack_pointer(bench.task)
    bench.arch.setup_rt_frame(bench.task, FAULT, bench.action(), 0)
    assert before - bench.arch.stack_pointer(bench.task) <= bench.arch.minsigstksz + 128  # and the red zone
