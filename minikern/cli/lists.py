"""``minikern arches`` and ``minikern syscalls``: what there is, read off the code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from minikern.arch import Arch

EPILOG = """
Examples:

    minikern syscalls --arch aarch64
    minikern syscalls --json | jq '.[] | select(.support == "partial")'
"""


@dataclass(frozen=True, slots=True)
class Support:
    """How well one system call of one architecture is supported."""

    arch: str
    number: int
    name: str
    support: str  # "complete", "partial" or "missing"
    lacks: str  # what a partial one does not do


def arches() -> int:
    """List the installed architectures."""
    from minikern.arch import InstalledArches

    for name, backend in InstalledArches().items():
        calls = supported(backend)
        there = sum(call.support != "missing" for call in calls)
        typer.echo(f"{name:10}{backend.__module__.partition('.')[0]:20}{there} of {len(calls)} system calls")
    return 0


def syscalls(
    arch: Annotated[
        str | None, typer.Option(metavar="ARCH", help="Only this architecture (see minikern arches).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON array, for programs.")] = False,
) -> int:
    """List every Linux system call: complete, partial and what it lacks, or missing."""
    from minikern.arch import InstalledArches

    backends = InstalledArches()
    if arch is not None and arch not in backends:
        raise typer.BadParameter(f"{arch!r} is not installed; there are {', '.join(backends)}")
    calls = [call for name in backends if arch in (None, name) for call in supported(backends[name])]
    if json:
        import dataclasses
        from json import dumps

        typer.echo(dumps([dataclasses.asdict(call) for call in calls], indent=1))
        return 0
    for call in calls:
        typer.echo(f"{call.arch:8} {call.number:4} {call.name:24} {call.support:9} {call.lacks}".rstrip())
    return 0


def supported(backend: type[Arch]) -> list[Support]:
    """Every call of an architecture's table, by number."""
    from minikern.kernel.syscalls import all_syscalls

    handlers = {**all_syscalls(), **backend.own_syscalls.calls}
    rows = []
    for number, name in sorted(backend.syscalls.items()):
        call = handlers.get(name)
        support = "missing" if call is None else "partial" if call.partial else "complete"
        rows.append(Support(backend.name, number, name, support, call.partial if call else ""))
    return rows
