"""Seeded sources repeat themselves; the host's do not go backwards."""

from __future__ import annotations

import copy

from minikern.host.sources import HostSources, SeededSources


def test_the_same_seed_gives_the_same_machine() -> None:
    one, other = SeededSources(7), SeededSources(7)
    assert one.random_bytes(33) == other.random_bytes(33)
    assert [one.pick(range(5)) for _ in range(20)] == [other.pick(range(5)) for _ in range(20)]  # type: ignore[arg-type]
    assert one.random_bytes(8) != SeededSources(8).random_bytes(8)


def test_the_virtual_clock_moves_only_when_told() -> None:
    sources = SeededSources(0)
    before = sources.monotonic_ns(), sources.realtime_ns()
    assert (sources.monotonic_ns(), sources.realtime_ns()) == before
    sources.advance_to(500)
    sources.advance_to(400)
    assert (sources.monotonic_ns(), sources.realtime_ns()) == (before[0] + 500, before[1] + 500)


def test_a_copy_goes_on_from_the_same_point() -> None:
    sources = SeededSources(3)
    sources.random_bytes(5)
    assert copy.deepcopy(sources).random_bytes(5) == sources.random_bytes(5)


def test_the_host_is_shared_by_copies() -> None:
    sources = HostSources()
    assert copy.deepcopy(sources) is sources
    assert sources.monotonic_ns() <= sources.monotonic_ns()
    assert len(sources.random_bytes(9)) == 9 and sources.pick([]) == 0
