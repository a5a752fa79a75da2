"""Random calls, made here and on the host's kernel: the same results, and the same areas afterwards.

No page is touched in between: Linux keeps neighbours apart whose anonymous pages have different histories, and minikern
joins them. Left out as well: mremap to another place, whose errors changed with Linux 6.17, and what depends on huge pages.
"""

from __future__ import annotations

import json
import platform
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minikern.fs.file import FMode
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.madvise import sys_madvise
from minikern.mm.mincore import sys_mincore
from minikern.mm.mmap import sys_mmap, sys_munmap
from minikern.mm.mprotect import sys_mprotect
from minikern.mm.mremap import sys_mremap
from minikern.mm.msync import sys_msync
from minikern.mm.vma import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE

from . import witness
from .fakes import FakeFile, FakeInode, Machine
from .witness import BASE, FILE_PAGES, WINDOW

SEQUENCES = 60
PAGE = 4096
HANDLERS: dict[str, Any] = {
    "mmap": sys_mmap,
    "munmap": sys_munmap,
    "mprotect": sys_mprotect,
    "mremap": sys_mremap,
    "madvise": sys_madvise,
    "msync": sys_msync,
    "mincore": sys_mincore,
}
FDS = {"rw": 3, "ro": 4, "wo": 5, "none": -1}
Step = tuple[int, list[tuple[int, int, str, int]]]


class Files:
    """A descriptor table over one file, opened in three ways."""

    def __init__(self, inode: FakeInode) -> None:
        modes = {3: FMode.READ | FMode.WRITE, 4: FMode.READ, 5: FMode.WRITE}
        self.files = {fd: FakeFile(inode, mode) for fd, mode in modes.items()}

    def fget(self, fd: int) -> FakeFile:
        if fd not in self.files:
            raise KernelError(Errno.EBADF)
        return self.files[fd]


def sequence(rnd: random.Random) -> list[list[Any]]:
    """Calls that hit and miss: mostly sound, some with odd flags, addresses and lengths."""

    def address() -> int:
        return BASE + rnd.randrange(WINDOW // 2) * PAGE + (5 if rnd.random() < 0.03 else 0)

    def length() -> int:
        if rnd.random() < 0.03:
            return rnd.choice([0, (1 << 64) - PAGE, (1 << 64) - 1])
        return rnd.choice([1, 2, 3, 4, 5, 8]) * PAGE - (100 if rnd.random() < 0.2 else 0)

    def prot() -> int:
        return rnd.choice([0, 1, 1, 2, 3, 3, 3, 3, 5, 7])

    calls: list[list[Any]] = []
    for _ in range(rnd.randrange(5, 40)):
        name = rnd.choice(["mmap"] * 5 + ["mprotect"] * 4 + ["munmap"] * 2 + ["madvise"] * 3 + list(HANDLERS))
        match name:
            case "mmap":
                fd = rnd.choice(["none", "none", "none", "rw", "rw", "ro", "wo"])
                flags = rnd.choice([1, 2, 2, 2, 3, 0, 4]) | rnd.choice([0x10, 0x10, 0x10, 0x100000])
                flags |= 0x20 if fd == "none" or rnd.random() < 0.03 else 0
                flags |= rnd.choice([0x100, 0x800, 0x4000, 0x1000000]) if rnd.random() < 0.1 else 0
                offset = rnd.choice([0, 1, 2, 3]) * PAGE + (3 if rnd.random() < 0.02 else 0)
                calls.append([name, address(), length(), prot(), flags, fd, offset])
            case "mprotect":
                odd = rnd.choice([0x10, 0x8, 0x1000001, 0x3000001])
                calls.append([name, address(), length(), odd if rnd.random() < 0.05 else prot()])
            case "mremap":
                calls.append(
                    [name, address(), length() % (9 * PAGE), length() % (9 * PAGE), rnd.choice([0, 0, 0, 2, 4, 8]), 0]
                )
            case "madvise":
                advice = rnd.choice([0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 24, 33])
                calls.append([name, address(), length(), advice])
            case "msync":
                calls.append([name, address(), length(), rnd.choice([0, 1, 2, 4, 5, 6, 8])])
            case _:
                calls.append([name, address(), length()])
    return calls


def run_here(calls: list[list[Any]]) -> list[Step]:
    """What the calls do in minikern."""
    machine = Machine()
    inode = FakeInode(machine.kernel, bytes(FILE_PAGES * PAGE))
    for index in range(FILE_PAGES):
        inode.mapping.get_page(index)
    machine.task.files = Files(inode)  # type: ignore[assignment]
    answer = sys_mmap(machine.task, 0x1000_0000, PAGE, 3, 0x22, -1, 0)
    steps: list[Step] = []
    for name, *args in calls:
        if name == "mmap":
            args[4] = FDS[args[4]]
        elif name == "mincore":
            args.append(answer)
        try:
            result = HANDLERS[name](machine.task, *args)
        except KernelError as error:
            result = -error.errno
        steps.append((result, areas(machine)))
    return steps


def areas(machine: Machine) -> list[tuple[int, int, str, int]]:
    assert machine.task.mm is not None
    found = []
    for vma in machine.task.mm.vmas:
        start, end = vma.start - BASE >> 12, vma.end - BASE >> 12
        if start < WINDOW and end > 0:
            rights = "".join(
                letter if vma.flags & bit else "-"
                for letter, bit in zip("rwx", (VM_READ, VM_WRITE, VM_EXEC), strict=True)
            )
            kind = "s" if vma.flags & VM_MAYSHARE else "p"
            found.append((start, end, rights + kind, vma.pgoff if vma.file is not None else 0))
    return found


def linux_release() -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", platform.release())[:2])


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64" or linux_release() < (6, 12),
    reason="the host cannot be the witness",
)
def test_as_the_host_does_it() -> None:
    sequences = [sequence(random.Random(seed)) for seed in range(SEQUENCES)]
    done = subprocess.run(
        [sys.executable, Path(witness.__file__)],
        input=json.dumps(sequences),
        capture_output=True,
        text=True,
        check=True,
    )
    for calls, there in zip(sequences, json.loads(done.stdout), strict=True):
        here = run_here(calls)
        for call, (result, found), (native_result, native_found) in zip(calls, here, there, strict=True):
            assert (call, result, found) == (call, native_result, [tuple(each) for each in native_found])
