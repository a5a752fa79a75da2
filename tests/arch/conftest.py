"""Every test of the contract runs against every installed backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minikern.arch import InstalledArches
from tests.arch.bench import CODES, Bench


@pytest.fixture(params=list(InstalledArches()))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    name: str = request.param
    if name not in CODES:
        pytest.skip(f"tests/arch/bench.py has no machine code for {name}")
    bench = Bench(name, InstalledArches()[name])
    yield bench
    bench.arch.cpu.close()


@pytest.fixture
def x86_64() -> Iterator[Bench]:
    bench = Bench("x86_64", InstalledArches()["x86_64"])
    yield bench
    bench.arch.cpu.close()


@pytest.fixture
def arm64() -> Iterator[Bench]:
    bench = Bench("aarch64", InstalledArches()["aarch64"])
    yield bench
    bench.arch.cpu.close()
