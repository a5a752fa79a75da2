"""Two thousand children come and go, and the machine is as it was: no frame, task, pid or descriptor more."""

from __future__ import annotations

import resource
import sys

import pytest

from minikern import Machine, Stream
from tests.support import ARCHES
from userland.build import build


def run_fork_loop(arch: str, children: int) -> Machine:
    """A machine in which so many children have been forked and reaped, one after the other."""
    machine = Machine()
    process = machine.spawn([str(build("fork_loop", f"{arch}-musl")), str(children)], stdout=Stream.CAPTURE)
    machine.run(timeout_s=120)
    assert process.returncode == 0
    assert process.stdout.startswith(b"%d children" % children)
    assert machine.check() == []
    return machine


@pytest.mark.parametrize("arch", ARCHES)
def test_fork_loop(arch: str) -> None:
    small = run_fork_loop(arch, 20)
    before_kib = peak_kib()
    large = run_fork_loop(arch, 2000)
    grown_kib = peak_kib() - before_kib

    assert large.kernel.frames.nr_free == small.kernel.frames.nr_free
    assert [task.tgid for task in large.kernel.pids.all_tasks()] == [1]
    assert len(large.processes()) == 2002  # the program, its children, init
    assert grown_kib < 8 << 10


def peak_kib() -> int:
    """The largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
