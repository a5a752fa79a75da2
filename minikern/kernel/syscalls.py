"""System calls: how one is declared, decoded and dispatched.

Mirrors ``include/linux/syscalls.h``. A call is declared once, beside the concept it belongs to::

    @syscall("lseek")
    def sys_lseek(task: Task, fd: UInt, offset: Long, whence: UInt) -> Result: ...

The annotations are the C types of the arguments; from them a decoder is built once, on first use. An
architecture only maps its numbers to these names.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any, TypeVar

from minikern.kernel.waitqueue import Result


@dataclass(frozen=True, slots=True)
class ArgType:
    """The C type of an argument: how the 64-bit register becomes a Python int, and how a tracer shows it."""

    name: str  # what a tracer goes by: "fd", "path", "ptr" …
    bits: int = 64  # significant bits of the register
    signed: bool = False  # whether the top one of them is the sign


Int = Annotated[int, ArgType("int", 32, True)]
UInt = Annotated[int, ArgType("uint", 32)]
Long = Annotated[int, ArgType("long", 64, True)]
ULong = Annotated[int, ArgType("ulong")]
Size = Annotated[int, ArgType("size")]
Ptr = Annotated[int, ArgType("ptr")]  # address of some structure in guest memory
Path = Annotated[int, ArgType("path")]  # address of a file name
CStr = Annotated[int, ArgType("str")]  # address of another NUL-terminated string
Buf = Annotated[int, ArgType("buf")]  # address of bytes
Fd = Annotated[int, ArgType("fd", 32, True)]
DirFd = Annotated[int, ArgType("dirfd", 32, True)]
Pid = Annotated[int, ArgType("pid", 32, True)]
Sig = Annotated[int, ArgType("sig", 32, True)]
Mode = Annotated[int, ArgType("mode", 16)]
OpenFlags = Annotated[int, ArgType("open_flags", 32, True)]

Handler = Callable[..., Result]
_F = TypeVar("_F", bound=Handler)

# The packages whose modules declare system calls, and what that looks like in their sources.
_PACKAGES = ("minikern.kernel", "minikern.mm", "minikern.fs", "minikern.ipc", "minikern.net")
_DECLARATION = re.compile(rb'\n@syscall\(\s*"(\w+)"')


@dataclass(slots=True)
class Syscall:
    """One declared system call."""

    name: str  # as in the kernel's tables, without "sys_"
    handler: Handler  # takes the task and the decoded arguments
    partial: str  # what is missing; empty: complete
    inline: bool  # can neither sleep, switch tasks, nor touch the engine: may be served inside the trap

    def arg_types(self) -> list[tuple[str, ArgType]]:
        """Name and C type of each argument, in order."""
        code, scope = self.handler.__code__, self.handler.__globals__
        names = code.co_varnames[1 : code.co_argcount]  # after the task
        return [(name, scope[self.handler.__annotations__[name]].__metadata__[0]) for name in names]

    def decoder(self) -> Callable[[Any, Any], Result]:
        """A function ``(task, registers) -> Result`` that decodes up to six 64-bit registers and calls the handler.

        It is compiled from the argument types so that a call pays for nothing but the conversions it needs.
        """
        terms = [_conversion(f"a[{i}]", kind) for i, (_, kind) in enumerate(self.arg_types())]
        source = f"lambda t, a: h({', '.join(['t', *terms])})"
        compiled: Callable[[Any, Any], Result] = eval(source, {"h": self.handler})
        return compiled


def _conversion(register: str, kind: ArgType) -> str:
    """The Python expression that turns an unsigned 64-bit register into the argument."""
    masked = register if kind.bits == 64 else f"({register} & {(1 << kind.bits) - 1:#x})"
    if not kind.signed:
        return masked
    sign = 1 << (kind.bits - 1)
    return f"(({masked} ^ {sign:#x}) - {sign:#x})"


class SyscallTable:
    """Declared calls by name: the generic ones here, an architecture's own oddities in its package."""

    def __init__(self) -> None:
        self.calls: dict[str, Syscall] = {}  # filled while modules are imported, constant afterwards

    def declare(self, name: str, *, partial: str = "", inline: bool = False) -> Callable[[_F], _F]:
        """Declare the decorated function as the handler of system call ``name``."""

        def register(handler: _F) -> _F:
            if name in self.calls:
                raise AssertionError(f"system call {name} is declared twice")
            self.calls[name] = Syscall(name, handler, partial, inline)
            return handler

        return register


GENERIC = SyscallTable()
syscall = GENERIC.declare


def find_syscall(name: str) -> Syscall | None:
    """The generic system call ``name``; None: the kernel does not have it.

    A module that nothing but its system calls has a need of is imported when the first of them is made: a small program
    would wait 15 ms for all of them.
    """
    if name not in GENERIC.calls and (module := _not_imported().get(name)) is not None:
        import_module(module)
    return GENERIC.calls.get(name)


def all_syscalls() -> dict[str, Syscall]:
    """Every generic system call that the kernel declares, by name."""
    for module in set(_not_imported().values()):
        import_module(module)
    return GENERIC.calls


@cache
def _not_imported() -> dict[str, str]:
    """System call -> module that declares it, read off the sources of the modules that were not imported until now."""
    modules: dict[str, str] = {}
    for package in _PACKAGES:
        for folder in import_module(package).__path__:
            for file_name in os.listdir(folder):
                module = f"{package}.{file_name.removesuffix('.py')}"
                if file_name.endswith(".py") and module not in sys.modules:
                    with open(os.path.join(folder, file_name), "rb") as source:
                        modules |= {name.decode(): module for name in _DECLARATION.findall(source.read())}
    return modules
