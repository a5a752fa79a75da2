"""How long a whole `minikern run hello` takes, beside what Python and typer alone cost.

    python benchmarks/start.py

Wall time of whole processes, in milliseconds, best and median. The aim is 200 ms on a machine with two cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from minikern.arch import InstalledArches
from minikern.demos import DEMOS

ROUNDS = 15


def measure(name: str, *command: str) -> None:
    """Run a command often enough, and print what it took."""
    times_ms = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times_ms.append((time.perf_counter() - began) * 1000)
    print(f"{name:24}{min(times_ms):6.0f} ms{statistics.median(times_ms):6.0f} ms")


def main() -> None:
    """The command."""
    measure("python", sys.executable, "-c", "pass")
    measure("python, typer", sys.executable, "-c", "import typer")
    for arch in InstalledArches():
        measure(f"minikern run, {arch}", sys.executable, "-m", "minikern", "run", str(DEMOS[0].binary(arch)))


if __name__ == "__main__":
    main()
