"""Where everything that differs from run to run comes from: clocks, randomness, and the scheduler's free choices.

The one place to replace for a run that can be repeated exactly. Nothing else in the kernel reads a host clock or
asks the host for random bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

    from minikern.kernel.task import Task

_SEEDED_EPOCH_NS = 1_700_000_000 * 10**9  # wall-clock time at which seeded machines boot


class Sources(Protocol):
    """What a kernel cannot compute by itself."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes backwards."""

    def realtime_ns(self) -> int:
        """Nanoseconds since 1970."""

    def random_bytes(self, count: int) -> bytes:
        """``count`` random bytes."""

    def pick(self, runnable: Sequence[Task]) -> int:
        """Index of the task that runs next, among equals."""


class HostSources:
    """The host's own clocks and randomness; tasks take turns."""

    def __deepcopy__(self, memo: dict[int, object]) -> HostSources:
        return self

    def monotonic_ns(self) -> int:
        """The host's monotonic clock."""
        return time.monotonic_ns()

    def realtime_ns(self) -> int:
        """The host's wall clock."""
        return time.time_ns()

    def random_bytes(self, count: int) -> bytes:
        """From the host's random number generator."""
        return os.urandom(count)

    def pick(self, runnable: Sequence[Task]) -> int:
        """Whoever has waited longest."""
        return 0


@dataclass(slots=True)
class SeededSources:
    """A machine whose every run is the same: a clock that moves only when told, and randomness from a seed."""

    seed: int
    now_ns: int = 0  # the monotonic clock
    generator: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from random import Random  # it brings OpenSSL with it, which only seeded machines should pay for

        self.generator = Random(self.seed)

    def advance_to(self, now_ns: int) -> None:
        """Let time pass until ``now_ns``; a moment that is over already changes nothing."""
        self.now_ns = max(self.now_ns, now_ns)

    def monotonic_ns(self) -> int:
        """The virtual clock."""
        return self.now_ns

    def realtime_ns(self) -> int:
        """The virtual clock, counted from a fixed date."""
        return _SEEDED_EPOCH_NS + self.now_ns

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the seed's sequence."""
        return self.generator.randbytes(count)

    def pick(self, runnable: Sequence[Task]) -> int:
        """Any of them, as the seed decides."""
        return self.generator.randrange(len(runnable))
