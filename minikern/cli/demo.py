"""``minikern demo``: run the programs that come with minikern."""

from __future__ import annotations

from typing import Annotated

import typer

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
    from minikern.machine import Machine

    wrong = 0
    for each in chosen:
        typer.echo(f"{each.name}: {each.shows}")
        for arch in InstalledArches():
            binary = each.binary(arch)
            if not binary.exists():
                continue
            machine = Machine()
            process = machine.spawn([str(binary)])
            typer.echo(f"  {arch}:")
            machine.run()
            ok = process.returncode == each.status
            wrong += not ok
            typer.echo(f"  exit status {process.exit_status}" + ("" if ok else f", but {each.status} was expected"))
        typer.echo()
    return 1 if wrong else 0
