"""Every test of the engine runs on both architectures, with the registers in place and by calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.guest import ARCHES, Guest, guest_of


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[True, False], ids=["in_place", "by_call"])
def in_place(request: pytest.FixtureRequest) -> bool:
    flag: bool = request.param
    return flag


@pytest.fixture
def guest(arch: str, in_place: bool) -> Iterator[Guest]:
    with guest_of(arch, in_place=in_place) as guest:
        yield guest


@pytest.fixture
def x86_64() -> Iterator[Guest]:
    with guest_of("x86_64") as guest:
        yield guest


@pytest.fixture
def arm64() -> Iterator[Guest]:
    with guest_of("arm64") as guest:
        yield guest
