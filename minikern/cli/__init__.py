"""The ``minikern`` command.

Exit status: that of the guest; 128 + N when signal N killed it; 125 when minikern itself cannot go on, which includes
a command line that makes no sense; 126 when the program cannot be executed, 127 when it is not there. Whatever goes
wrong is one line on standard error. Everything that not every command needs is imported late: a start takes less time.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

FAILURE = 125
INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit."""
    gc.disable()  # what follows leaves no garbage, and to look for it is 5 ms of a start
    import typer

    from minikern.cli.app import app

    gc.enable()
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
