"""The commands and the options before them."""

from __future__ import annotations

from typing import Annotated

import typer

from minikern import __version__
from minikern.cli import demo, lists, run

app = typer.Typer(
    name="minikern",
    help="A Linux kernel in miniature: runs real static Linux programs of several architectures.",
    epilog="Try: minikern demo",
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("run", context_settings={"allow_interspersed_args": False}, epilog=run.EPILOG)(run.run)
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("arches")(lists.arches)
app.command("syscalls", epilog=lists.EPILOG)(lists.syscalls)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """The options before a command."""
    if version:
        typer.echo(f"minikern {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
