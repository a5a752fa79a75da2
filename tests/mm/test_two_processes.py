"""process_vm_readv and process_vm_writev, and barriers between threads."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from minikern.kernel.errno import KernelError
from minikern.kernel.task import Task
from minikern.mm import process_vm_access
from minikern.mm.membarrier import CMD_FLAG_CPU, Membarrier, sys_membarrier
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import do_mmap
from minikern.mm.process_vm_access import sys_process_vm_readv, sys_process_vm_writev
from minikern.mm.uaccess import copy_from_user, copy_to_user

from .fakes import Machine

PAGE = 4096
RW = Prot.READ | Prot.WRITE
FIXED = Map.PRIVATE | Map.ANONYMOUS | Map.FIXED
AT = 0x4000_0000
LOCAL, REMOTE = AT + PAGE, AT + PAGE + 512  # where the iovecs lie


def fails(errno: str) -> Any:
    return pytest.raises(KernelError, match=f"^{errno}$")


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Task]:
    """A task and another one, number 2, that it may look into; both have two pages at AT, the other one more."""
    machine = Machine()
    other = machine.new_task(machine.new_mm())
    do_mmap(machine.task, None, AT, 2 * PAGE, RW, FIXED, 0)
    do_mmap(other, None, AT, 2 * PAGE, RW, FIXED, 0)
    do_mmap(other, None, AT + 2 * PAGE, PAGE, Prot.READ, FIXED, 0)
    monkeypatch.setattr(process_vm_access, "find_task", lambda kernel, pid: {1: machine.task, 2: other}.get(pid))
    monkeypatch.setattr(process_vm_access, "ptrace_may_access", lambda task, target: target.comm != b"secret")
    return machine, other


def vectors(task: Task, local: list[tuple[int, int]], remote: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    for at, iovec in ((LOCAL, local), (REMOTE, remote)):
        copy_to_user(task, at, b"".join(struct.pack("<QQ", *each) for each in iovec))
    return LOCAL, len(local), REMOTE, len(remote)


def test_scatter_and_gather(pair: tuple[Machine, Task]) -> None:
    task, other = pair[0].task, pair[1]
    copy_to_user(other, AT, b"abcdefghij")
    args = vectors(task, [(AT, 3), (AT + 100, 0), (AT + 200, 5)], [(AT, 1), (AT + 4, 7)])
    assert sys_process_vm_readv(task, 2, *args, 0) == 8
    assert (copy_from_user(task, AT, 3), copy_from_user(task, AT + 200, 5)) == (b"aef", b"ghij\0")
    copy_to_user(task, AT, b"XYZ")
    args = vectors(task, [(AT, 3)], [(AT + 2 * PAGE - 2, 3)])
    assert sys_process_vm_writev(task, 2, *args, 0) == 2  # then comes a page that nobody may write
    assert copy_from_user(other, AT + 2 * PAGE - 2, 3) == b"XY\0"


def test_refusals(pair: tuple[Machine, Task]) -> None:
    task, other = pair[0].task, pair[1]
    args = vectors(task, [(AT, 3)], [(0, 3)])
    with fails("EFAULT"):
        sys_process_vm_readv(task, 2, *args, 0)
    with fails("EINVAL"):
        sys_process_vm_readv(task, 2, *args, 1)
    with fails("ESRCH"):
        sys_process_vm_readv(task, 3, *args, 0)
    with fails("EINVAL"):
        sys_process_vm_readv(task, 2, LOCAL, 1025, REMOTE, 1, 0)
    with fails("EINVAL"):
        sys_process_vm_readv(task, 2, LOCAL, 1, REMOTE, 1025, 0)
    with fails("EINVAL"):
        sys_process_vm_readv(task, 2, *vectors(task, [(AT, 3)], [(AT, 1 << 63)]), 0)
    assert sys_process_vm_readv(task, 3, *vectors(task, [], [(AT, 3)]), 0) == 0
    other.comm = b"secret"
    with fails("EPERM"):
        sys_process_vm_readv(task, 2, *vectors(task, [(AT, 3)], [(AT, 3)]), 0)
    assert sys_process_vm_readv(task, 1, *vectors(task, [(AT, 3)], [(AT, 3)]), 0) == 3


def test_membarrier(pair: tuple[Machine, Task]) -> None:
    task = pair[0].task
    assert sys_membarrier(task, Membarrier.QUERY, 0, 0) == 0x3FF
    with fails("EPERM"):
        sys_membarrier(task, Membarrier.PRIVATE_EXPEDITED, 0, 0)
    assert sys_membarrier(task, Membarrier.REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
    assert sys_membarrier(task, Membarrier.PRIVATE_EXPEDITED, 0, 0) == 0
    assert sys_membarrier(task, Membarrier.GET_REGISTRATIONS, 0, 0) == Membarrier.REGISTER_PRIVATE_EXPEDITED
    assert sys_membarrier(task, Membarrier.GLOBAL, 0, 0) == 0
    with fails("EPERM"):
        sys_membarrier(task, Membarrier.PRIVATE_EXPEDITED_RSEQ, CMD_FLAG_CPU, 0)
    for cmd, flags in ((Membarrier.GLOBAL, 1), (3, 0), (1 << 20, 0), (-1, 0)):
        with fails("EINVAL"):
            sys_membarrier(task, cmd, flags, 0)
