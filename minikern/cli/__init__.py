"""The ``minikern`` command.

Exit status: that of the guest; 128 + N when signal N killed it; 125 when minikern itself cannot go on, which includes
a command line that makes no sense; 126 when the program cannot be executed, 127 when it is not there. Whatever goes
wrong is one line on standard error. Everything that not every command needs is imported late: a start takes less time.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from minikern import __version__
from minikern.cli import demo, lists, run

FAILURE = 125
INTERRUPTED = 130

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


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        status = app(prog_name="minikern", standalone_mode=False)
        if sys.stdout is not None:  # it was closed before we came
            sys.stdout.flush()
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "minikern"
        status = _fail(f"{error.format_message()} (see {where} --help)")
    except BrokenPipeError:  # whoever read our output has gone; the flush at exit must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILURE
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if os.environ.get("MINIKERN_TRACEBACK"):
            raise
        status = _fail(f"internal error: {type(error).__name__}: {error} (MINIKERN_TRACEBACK=1 shows where)")
    sys.exit(status)


def _fail(message: str) -> int:
    print("minikern:", " ".join(message.split()), file=sys.stderr)
    return FAILURE
