"""``minikern demo``: run the programs that come with minikern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from minikern.demos import Demo

EPILOG = """
Examples:

    minikern demo
    minikern demo orphan
    minikern demo --list
"""


def demo(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one; all of them without.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only tell what there is.")] = False,
) -> int:
    """Run small real programs on every installed architecture."""
    from minikern.demos import DEMOS

    chosen = [each for each in DEMOS if name in (None, each.name)]
    if not chosen:
        raise typer.BadParameter(f"there is no demo {name!r}; there are {', '.join(each.name for each in DEMOS)}")
    if list_:
        for each in chosen:
            typer.echo(f"{each.name:14}{each.shows}")
        return 0

    from minikern.arch import InstalledArches

    arches = list(InstalledArches())
    outcomes = [_show(each, arches) for each in chosen]
    wrong = sum(outcome.count(False) for outcome in outcomes)
    total = sum(map(len, outcomes))
    typer.echo(f"{total - wrong} of {total} programs did what they should")
    return 1 if wrong else 0


def _show(each: Demo, arches: list[str]) -> list[bool]:
    """Run one demo on every architecture; whether each run ended as it should."""
    from minikern.machine import Machine, Stream

    typer.echo(f"{each.name}: {each.shows}")
    outcomes = []
    for arch in arches:
        others = [str(each.binary(other)) for other in arches if other != arch and each.with_other]
        if not each.binary(arch).exists() or (each.with_other and not others):
            continue
        machine = Machine()
        process = machine.spawn([str(each.binary(arch)), *others[:1]], stdout=Stream.CAPTURE, stderr=Stream.STDOUT)
        machine.run()
        lines = process.stdout.decode(errors="replace").splitlines()
        ok = process.returncode == each.status
        lines.append(f"exit status {process.exit_status}" + ("" if ok else f", but {each.status} was expected"))
        for label, line in zip([arch, *[""] * len(lines)], lines, strict=False):
            typer.echo(f"    {label:9}{line}")
        outcomes.append(ok)
    typer.echo()
    return outcomes
