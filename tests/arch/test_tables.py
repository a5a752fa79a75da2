"""Numbers of system calls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minikern.arch import InstalledArches
from minikern.kernel.syscalls import all_syscalls
from minikern.kernel.unistd import GENERIC_TABLE, parse_table

BACKENDS = InstalledArches()
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/aarch64-linux-gnu/include/asm-generic/unistd.h",
}
LAST_OF_LINUX_6_12 = 462  # mseal


@pytest.fixture(params=list(BACKENDS))
def name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_table_is_a_number_and_names() -> None:
    assert parse_table("\n 3 a b\n\n7 c\n") == {3: "a", 4: "b", 7: "c"}


def test_every_name_has_one_number(name: str) -> None:
    table = BACKENDS[name].syscalls
    assert len(set(table.values())) == len(table)
    assert max(table) == LAST_OF_LINUX_6_12
    assert table[LAST_OF_LINUX_6_12] == "mseal"
    assert table[424] == "pidfd_send_signal"  # from here on, all architectures agree
    assert {nr: call for nr, call in table.items() if nr >= 424} == {
        nr: call for nr, call in parse_table(GENERIC_TABLE).items() if nr >= 424
    }


def test_numbers_are_those_of_the_headers(name: str) -> None:
    header = Path(HEADERS.get(name, "/nonexistent"))
    if not header.exists():
        pytest.skip(f"no kernel headers of {name} here")
    table = BACKENDS[name].syscalls
    defined = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE))
    renamed = {"sync_file_range2"}  # a name for other architectures
    wrong = {
        call: (int(nr), table.get(int(nr)))
        for call, nr in defined.items()
        if table.get(int(nr)) != call and call in set(table.values()) and call not in renamed
    }
    assert not wrong


def test_declared_calls_have_numbers(name: str) -> None:
    backend = BACKENDS[name]
    assert set(backend.own_syscalls.calls) <= set(backend.syscalls.values())


def test_every_generic_call_is_on_some_architecture() -> None:
    known = {call for backend in BACKENDS.values() for call in backend.syscalls.values()}
    assert set(all_syscalls()) <= known


def test_own_calls_do_not_hide_generic_ones(name: str) -> None:
    assert not set(BACKENDS[name].own_syscalls.calls) & set(all_syscalls())


def test_old_calls_are_served_where_there_are_numbers() -> None:
    served = {*all_syscalls(), *BACKENDS["x86_64"].own_syscalls.calls}
    old = """open creat stat lstat access readlink rename mkdir rmdir link unlink symlink chmod chown lchown mknod utime
        utimes futimesat getdents dup2 pipe eventfd signalfd poll select epoll_create epoll_wait time alarm pause getpgrp
        fork vfork clone arch_prctl"""
    assert set(old.split()) <= served
