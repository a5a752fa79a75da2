"""Small programs that come with minikern, one binary for each architecture, so that there is something to run.

Their sources are in ``userland/``; ``make demos`` rebuilds the binaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Demo:
    """One program."""

    name: str  # of the source and of the binary
    shows: str  # what one sees, in a sentence
    status: int = 0  # exit status when all is well
    with_other: bool = False  # its argument is the same program for another architecture

    def binary(self, arch: str) -> Path:
        """Where the program for an architecture lies; there may be none."""
        return _FOLDER / f"{arch}-musl" / self.name


DEMOS = (
    Demo("hello", "The smallest program there is: one write(2), then exit_group(2)."),
    Demo("fork_wait42", "A child exits with 42; its parent learns so from wait4(2)."),
    Demo("mutex4", "Four threads take one mutex a thousand times each, and no increment is lost."),
    Demo("handler", "A process sends itself a signal; the handler runs and the program goes on where it was."),
    Demo("orphan", "A child outlives its parent and is adopted by init, process 1."),
    Demo("exit_group33", "The third of three threads calls exit_group(33): the other two die with it.", status=33),
    Demo("two_worlds", "A program starts another one of another architecture; a pipe joins the two.", with_other=True),
)
