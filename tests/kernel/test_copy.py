"""The state of a machine is plain data: a copy of it is complete, shares nothing that changes, and disturbs nothing."""

from __future__ import annotations

import copy

import minikern
from minikern.kernel.kernel import Kernel
from minikern.kernel.timers import Timer
from userland.build import build

ARCHES = ("x86_64", "aarch64")


class Photographer:
    """Copies a kernel from within, while its tasks sleep."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.copies: list[Kernel] = []

    def take(self) -> None:
        for arch in self.kernel.archs.values():
            arch.unload()
        self.copies.append(copy.deepcopy(self.kernel))


def test_a_running_machine_can_be_copied() -> None:
    machine = minikern.Machine()
    kernel = machine.kernel
    processes = [machine.spawn([str(build("sleep_rest", f"{arch}-musl"))]) for arch in ARCHES]
    photographer = Photographer(kernel)
    for after_ms in (20, 60):
        kernel.timers.add(Timer(kernel.sources.monotonic_ns() + after_ms * 1_000_000, photographer.take))
    machine.run(timeout_s=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert machine.check() == []

    assert len(photographer.copies) == 2
    for copied in photographer.copies:
        tasks = list(copied.pids.all_tasks())
        assert len(tasks) >= 3
        assert all(task.kernel is copied for task in tasks)
        for task in tasks:
            assert task.thread_pid is copied.pids.find(task.pid)
            assert task.wait is None or all(queue.tasks.count(task) for queue in task.wait.queues)
    assert list(kernel.pids.all_tasks()) == [kernel.init_task]
