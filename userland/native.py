"""Run guest programs on the host's own kernel: the witness that minikern is compared with.

`python userland/native.py [--times N] [NAME...]` runs every program as its `// run:` lines say, in each flavour that the
host (or an installed qemu-aarch64) can execute, and demands the same output and status every time and from every
flavour.
"""

from __future__ import annotations

import argparse
import functools
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from userland.build import FLAVOURS, BuildError, Flavour, Program, Run, build, flavours, program, programs

TIMEOUT_S = 60
# A program that must be pid 1 gets a pid namespace of its own.
UNSHARE = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind."""

    stdout: str  # all it printed
    stderr: str  # complaints of a failed CHECK
    status: int  # exit status, or minus the signal that killed it


def runner(kind: Flavour) -> tuple[str, ...] | None:
    """What to put before the binary's name on this host: nothing, or an emulator; None when it cannot run here."""
    if platform.system() != "Linux":
        return None
    if platform.machine() == kind.arch:
        return ()
    emulator = _emulator(kind.arch)
    return (emulator,) if emulator else None


@functools.cache
def _emulator(arch: str) -> str | None:
    return shutil.which(f"qemu-{arch}-static") or shutil.which(f"qemu-{arch}")


@functools.cache
def _can_unshare() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*UNSHARE, "true"], check=False).returncode


def refusal(guest: Program, kind: Flavour) -> str:
    """Why this program cannot be witnessed in this flavour on this host; empty when it can."""
    if not guest.fits(kind):
        return f"is not for {kind.name}"
    prefix = runner(kind)
    if prefix is None:
        return "the host cannot execute it"
    if guest.is_init and not _can_unshare():
        return "a pid namespace is for root only"
    return guest.not_native or (guest.not_qemu if prefix else "")


def run(guest: Program, how: Run, flavour: str) -> Outcome:
    """Run a program natively in an empty directory, with a plain environment."""
    prefix = runner(FLAVOURS[flavour])
    assert prefix is not None, flavour
    if guest.is_init:
        prefix = (*UNSHARE, *prefix)
    binary = build(guest.name, flavour)
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [*prefix, str(binary), *how.args],
            check=False,
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "HOME": "/", "TMPDIR": directory},
            input=guest.stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            preexec_fn=_default_signals,
            errors="replace",
        )
    return Outcome(done.stdout, done.stderr, done.returncode)


def _default_signals() -> None:
    """What nohup and shells leave ignored for the programs that they start."""
    for sig in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(sig, signal.SIG_DFL)


def witness(guest: Program, times: int, only: list[str], verbose: bool) -> list[str]:
    """Run a program in all its ways and these flavours; the complaints, if any."""
    complaints = []
    for how in guest.runs:
        expected: str | None = None
        for flavour in only:
            if refusal(guest, FLAVOURS[flavour]):
                continue
            for _ in range(times):
                where = f"{guest.name} {' '.join(how.args)} [{flavour}]"
                try:
                    outcome = run(guest, how, flavour)
                except subprocess.TimeoutExpired:
                    complaints.append(f"{where}: hangs")
                    break
                except BuildError as error:
                    complaints.append(f"{where}: {error}")
                    break
                if verbose and expected is None:
                    print(outcome.stdout, end="")
                if outcome.status != how.status:
                    complaints.append(f"{where}: status {outcome.status}\n{outcome.stdout}{outcome.stderr}")
                    break
                if expected is None or guest.output == "varies":
                    expected = outcome.stdout
                if outcome.stdout != expected:
                    complaints.append(f"{where}: prints\n{outcome.stdout}instead of\n{expected}")
                    break
    return complaints


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="run the guest programs on the host's own kernel")
    parser.add_argument("--times", type=int, default=1, help="how often each run is repeated")
    parser.add_argument("--flavour", action="append", choices=list(FLAVOURS), help="default: all that can run here")
    parser.add_argument("--verbose", action="store_true", help="show what the programs print")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all programs")
    options = parser.parse_args()
    failed = 0
    for name in options.names or programs():
        complaints = witness(program(name), options.times, options.flavour or flavours(), options.verbose)
        print(f"{'FAIL' if complaints else 'ok'} {name}")
        for complaint in complaints:
            print(complaint)
        failed += bool(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
