"""``minikern run``: one program, with the terminal, the files and the exit status of a native run.

Annotations are evaluated here, not kept as texts: typer would evaluate each text twice, which is 4 ms of every start.
"""

import gc
import os
from typing import Annotated

import typer

EPILOG = """
Examples:

    minikern run ./hello
    minikern run --root rootfs /bin/busybox sh -c 'ls -la / | head'
    minikern run --bind "$PWD/out:/out:rw" ./build --to /out
    minikern run --pid1 --hostname box ./tini -- ./server

Exit status: the program's own; 128 + N when signal N killed it; 125 minikern failed; 126 the program cannot be
executed; 127 it was not found.
"""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PAGE_SIZE = 4096
_LEAST_MEMORY = 16 << 20  # below that not even a C library starts with any use


def run(
    binary: Annotated[
        str,
        typer.Argument(metavar="BINARY", help="The program, in the guest's tree. Without a slash: here, then in PATH."),
    ],
    args: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="Its arguments.")] = None,
    root: Annotated[
        str, typer.Option(metavar="DIR", help="Host directory that is the guest's /. It is never written to.")
    ] = "/",
    bind: Annotated[
        list[str] | None,
        typer.Option(metavar="SRC:DST[:rw]", help="Show the host's SRC at DST; with :rw, writes reach the host."),
    ] = None,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of the machine, such as 512M or 2G.")] = "1G",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="Set an environment variable, or take the host's."),
    ] = None,
    clean_env: Annotated[bool, typer.Option("--clean-env", help="Start with an empty environment.")] = False,
    cwd: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory to start in. [default: this one, or / with --root]")
    ] = None,
    hostname: Annotated[str, typer.Option(metavar="NAME", help="What uname says.")] = "minikern",
    pid1: Annotated[bool, typer.Option("--pid1", help="The program is process 1 itself: for real inits.")] = False,
    warn_unimplemented: Annotated[
        bool, typer.Option("--warn-unimplemented", help="Name each missing system call once, on standard error.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="At the end the kernel checks itself: whatever has leaked is a failure.")
    ] = False,
) -> int:
    """Run a static Linux program on minikern's own kernel.

    The program sees the host's files; what it writes stays in memory and is gone afterwards. Options end at BINARY.
    """
    gc.disable()  # the imports leave no garbage, and to look for it is 15 ms of a start
    from minikern.cli.foreground import forwarders
    from minikern.kernel.config import Bind, Config
    from minikern.machine import ExecError, Machine

    try:
        config = Config(
            root=_directory(root),
            binds=[Bind.parse(text) for text in bind or ()],
            memory_bytes=_size(memory),
            pid1=pid1,
            hostname=hostname,
            warn_unimplemented=warn_unimplemented,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        machine = Machine(config)
    except OSError as error:
        raise typer.BadParameter(f"the host does not give a machine {memory} of memory: {error.strerror}") from None
    try:
        process = machine.spawn([binary, *(args or ())], env=_environment(env or [], clean_env), cwd=cwd)
    except ExecError as error:
        typer.echo(f"minikern: {error}", err=True)
        return error.exit_status
    gc.freeze()  # what was imported lives for ever: never look through it again
    gc.enable()
    machine.run(on_signal=forwarders(machine))
    if machine.panic:
        typer.echo(f"minikern: {machine.panic}", err=True)
    if check and (leaks := machine.check()):
        for leak in leaks:
            typer.echo(f"minikern: {leak}", err=True)
        return 125
    return process.exit_status


def _size(text: str) -> int:
    """Bytes from ``512M`` and the like, in whole pages."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write 512M or 2G")
    size = int(number) * _UNITS[unit]
    if size < _LEAST_MEMORY:
        raise ValueError(f"{text} of memory is too little; at least {_LEAST_MEMORY >> 20}M are needed")
    return size // _PAGE_SIZE * _PAGE_SIZE


def _directory(path: str) -> str:
    if not os.path.isdir(path):
        raise ValueError(f"{path!r} is not a directory")
    return os.path.realpath(path)


def _environment(settings: list[str], clean: bool) -> dict[str, str]:
    """The guest's environment: the host's unless ``clean``, changed by ``NAME=VALUE`` and ``NAME``."""
    result = {} if clean else dict(os.environ)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name:
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE")
        if equals:
            result[name] = value
        elif name in os.environ:
            result[name] = os.environ[name]
    return result
