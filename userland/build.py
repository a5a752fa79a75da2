"""Build the guest programs: `python userland/build.py [--out DIR] [--flavour F] [NAME...]`.

Each program is one C file below this folder; `include/` holds what they share. The comment at its top says what it
proves, and in lines `// key: value` what a test needs to know (see `Program`). A binary is static and is made in up to
four flavours: musl by `zig cc` for both architectures, glibc by the gcc of the system where there is one.

The output depends on the source and the compiler only, never on where the tree lies, so that a binary can be
committed. It is rebuilt when the source, a header, the flags or the compiler changes, under a file lock and by an
atomic rename: any number of test processes may ask for the same program at once.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

USERLAND = Path(__file__).resolve().parent
INCLUDE = USERLAND / "include"

COMMON_FLAGS = (
    *("-std=gnu17", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-pthread"),
    # Nothing of this machine gets into the output: neither paths nor a hash that covers them.
    *(f"-ffile-prefix-map={USERLAND}=.", "-Wl,--build-id=none"),
)


class BuildError(Exception):
    """The compiler refused a program, or a name or flavour does not exist."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kind of binary: an architecture, a C library and the compiler that makes it."""

    name: str  # what `build` is asked for
    arch: str  # as uname -m says
    libc: str  # "musl" or "glibc"
    compiler: tuple[str, ...]  # the command up to the flags
    flags: tuple[str, ...]  # added for this flavour only
    link: Mapping[str, tuple[str, ...]] = field(hash=False)  # the program's `link:` value -> flags


ZIG = (sys.executable, "-m", "ziglang", "cc")
# Zig's default turns undefined behaviour into traps; these programs provoke some of it on purpose. The debug
# information of zig's libc holds the paths of the machine it was built on, so all of it goes; the symbols stay.
ZIG_FLAGS = ("-mcpu=baseline", "-fno-sanitize=undefined", "-Wl,--strip-debug")
GCC_FLAGS = ("-g",)
ZIG_LINK = {"static": ("-static",), "static-pie": ("-static", "-fPIE", "-pie")}
GCC_LINK = {"static": ("-static", "-no-pie"), "static-pie": ("-static-pie", "-fPIE")}

FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("x86_64-musl", "x86_64", "musl", (*ZIG, "-target", "x86_64-linux-musl"), ZIG_FLAGS, ZIG_LINK),
        Flavour("aarch64-musl", "aarch64", "musl", (*ZIG, "-target", "aarch64-linux-musl"), ZIG_FLAGS, ZIG_LINK),
        Flavour("x86_64-glibc", "x86_64", "glibc", ("x86_64-linux-gnu-gcc",), GCC_FLAGS, GCC_LINK),
        Flavour("aarch64-glibc", "aarch64", "glibc", ("aarch64-linux-gnu-gcc",), GCC_FLAGS, GCC_LINK),
    )
}


@dataclass(frozen=True, slots=True)
class Run:
    """One way to start a program, and how it must end: a line `// run: ARGS => STATUS`."""

    args: tuple[str, ...] = ()  # argv[1:]
    status: int = 0  # as subprocess.returncode: the exit status, or minus the signal (written as 0, 33, SIGSEGV)

    @property
    def title(self) -> str:
        """A short name for the run, unique within its program."""
        return "-".join(self.args) or "plain"


@dataclass(frozen=True, slots=True)
class Program:
    """A guest program and what the comment at its top says about it."""

    name: str  # stem of the file name; unique in the tree
    source: Path  # the C file
    summary: str  # what it proves, in one paragraph
    concept: str = ""  # `concept:` the part of the life-cycle document that it witnesses
    runs: tuple[Run, ...] = (Run(),)  # `run:` one line each; without any: no arguments, status 0
    stdin: str = ""  # `stdin:` what it reads there (a Python string's escapes are understood)
    link: str = "static"  # `link:` static or static-pie
    flags: tuple[str, ...] = ()  # `flags:` more for the compiler
    arch: str = ""  # `arch:` the only architecture it is for; empty: all
    libc: str = ""  # `libc:` the only C library it is for; empty: both
    is_init: bool = False  # `init: yes` it must run as pid 1
    not_native: str = ""  # `native: no (REASON)` why it cannot run on the host's own kernel
    not_qemu: str = ""  # `qemu: no (REASON)` why qemu-user does not pass it
    output: str = "same"  # `output: varies` when two correct runs may print different things

    def fits(self, flavour: Flavour) -> bool:
        """Whether the program is for that architecture and C library."""
        return self.arch in ("", flavour.arch) and self.libc in ("", flavour.libc)

    @property
    def folder(self) -> str:
        """The concept's folder, for instance `signal`."""
        return self.source.parent.name


def cache_dir() -> Path:
    """Where binaries and the compiler's own caches live: $MINIKERN_BUILD or userland/.build."""
    return Path(os.environ.get("MINIKERN_BUILD") or USERLAND / ".build").resolve()


def flavours() -> list[str]:
    """Names of the flavours whose compilers are present."""
    return [name for name, flavour in FLAVOURS.items() if _compiler_version(flavour)]


def programs() -> list[str]:
    """Names of all programs, sorted by folder."""
    return list(catalogue())


@functools.cache
def catalogue() -> dict[str, Program]:
    """Every program of the tree by name."""
    found: dict[str, Program] = {}
    for source in sorted(USERLAND.glob("*/*.c")):
        if source.stem in found:
            raise BuildError(f"two programs are called {source.stem}")
        found[source.stem] = parse(source)
    return found


def program(name: str) -> Program:
    """The program of that name."""
    try:
        return catalogue()[name]
    except KeyError:
        raise BuildError(f"no program called {name}") from None


def parse(source: Path) -> Program:
    """Read the `//` comment at the top of a C file."""
    summary: list[str] = []
    keys: dict[str, list[str]] = {}
    for line in source.read_text().splitlines():
        if not line.startswith("//"):
            break
        text = line[2:].strip()
        if key := re.match(r"(concept|run|stdin|link|flags|arch|libc|init|native|qemu|output): *(.*)$", text):
            keys.setdefault(key[1], []).append(key[2])
        else:
            summary.append(text)

    def last(key: str, default: str = "") -> str:
        return keys.get(key, [default])[-1]

    return Program(
        name=source.stem,
        source=source,
        summary=" ".join(summary).strip(),
        concept=last("concept"),
        runs=tuple(_parse_run(text) for text in keys.get("run", ["=> 0"])),
        stdin=last("stdin").encode().decode("unicode_escape"),
        link=last("link", "static"),
        flags=tuple(last("flags").split()),
        arch=last("arch"),
        libc=last("libc"),
        is_init=last("init") == "yes",
        not_native=_parse_refusal(last("native")),
        not_qemu=_parse_refusal(last("qemu")),
        output=last("output", "same"),
    )


def _parse_run(text: str) -> Run:
    args, _, status = text.rpartition("=>")
    status = status.strip()
    code = -int(signal.Signals[status]) if status.startswith("SIG") else int(status)
    return Run(tuple(shlex.split(args)), code)


def _parse_refusal(text: str) -> str:
    refusal = re.match(r"no \((.+)\)$", text)
    return refusal[1] if refusal else ""


def build(name: str, flavour: str) -> Path:
    """Path of the binary of a program in a flavour, made or found in the cache."""
    guest, kind = program(name), FLAVOURS[flavour]
    target = cache_dir() / flavour / name
    if not guest.fits(kind):
        raise BuildError(f"{name} is not for {flavour}")
    version = _compiler_version(kind)
    if not version:
        raise BuildError(f"no compiler for {flavour}: {kind.compiler[0]}")

    flags = (*COMMON_FLAGS, *kind.flags, *kind.link[guest.link], *guest.flags)
    key = _content_hash(guest, version, flags)
    stamp = target.with_name(name + ".key")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(name + ".lock")):
        if target.exists() and stamp.exists() and stamp.read_text() == key:
            return target
        _compile(guest, kind, flags, target)
        stamp.write_text(key)
    return target


def _compile(guest: Program, kind: Flavour, flags: tuple[str, ...], target: Path) -> None:
    fresh = target.with_name(f"{guest.name}.{os.getpid()}.new")
    zig_cache = str(cache_dir() / "zig")
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache}
    environment |= {"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"}
    # The compiler runs in the tree with relative names: they are what ends up in __FILE__ and the debug information.
    source = guest.source.relative_to(USERLAND)
    command = [*kind.compiler, *flags, "-Iinclude", str(source), "-o", str(fresh), "-lm"]
    done = subprocess.run(command, check=False, cwd=USERLAND, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(command)}\n{done.stderr}")
    os.replace(fresh, target)


def _content_hash(guest: Program, version: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((guest.name, version, flags)).encode())
    for path in (guest.source, *sorted(INCLUDE.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _compiler_version(kind: Flavour) -> str:
    """What identifies the compiler in the cache key; empty when it is not there."""
    if kind.libc == "musl":
        return importlib.metadata.version("ziglang") if importlib.util.find_spec("ziglang") else ""
    if not shutil.which(kind.compiler[0]):
        return ""
    return subprocess.run([*kind.compiler, "--version"], capture_output=True, text=True, check=True).stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="build the guest programs")
    parser.add_argument("--out", type=Path, help="also copy each binary to DIR/FLAVOUR/NAME")
    parser.add_argument("--flavour", action="append", choices=list(FLAVOURS), help="default: all that can be built")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all programs")
    options = parser.parse_args()
    failed = 0
    for name in options.names or programs():
        for flavour in options.flavour or flavours():
            if not program(name).fits(FLAVOURS[flavour]):
                continue
            try:
                binary = build(name, flavour)
            except BuildError as error:
                print(f"{name} {flavour}: {error}", file=sys.stderr)
                failed += 1
                continue
            if options.out:
                (options.out / flavour).mkdir(parents=True, exist_ok=True)
                binary = Path(shutil.copy2(binary, options.out / flavour / name))
            print(binary)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
