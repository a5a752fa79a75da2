"""Build the vDSO images that are committed beside their sources: ``python arch/build_vdso.py [--check]``.

The compiler is the one of the ``ziglang`` package in the version that pyproject.toml pins, so the bytes are the same on
every machine; ``--check`` builds elsewhere and fails when they differ.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_ARCH: Final = Path(__file__).parent
_TARGETS: Final = {"minikern_x86_64": "x86_64-linux-musl", "minikern_arm64": "aarch64-linux-musl"}
_COMPILE: Final = (
    *("-c", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fPIC"),
    *("-fno-stack-protector", "-fno-sanitize=all"),
    *("-fasynchronous-unwind-tables", "-fno-omit-frame-pointer", "-g0"),
)
_LINK: Final = (
    *("-shared", "-soname=linux-vdso.so.1", "--hash-style=both", "--eh-frame-hdr", "--build-id=none", "--strip-all"),
    # One segment, readable and executable, that is used where it lies in the file.
    *("--no-rosegment", "-z", "rodynamic", "-z", "norelro", "-z", "noseparate-code", "-z", "max-page-size=4096"),
)


def build(package: str, image: Path) -> None:
    """Make the image of one architecture."""
    source = _ARCH / package / "vdso"
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch, "vdso.o")
        _zig("cc", "-target", _TARGETS[package], *_COMPILE, str(source / "vdso.c"), "-o", str(compiled))
        script = f"--version-script={source / 'vdso.map'}"
        _zig("ld.lld", *_LINK, script, str(compiled), "-o", str(image))
    image.chmod(0o644)


def _zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], check=True)


def main() -> int:
    """Build or check every image; the exit status."""
    check = sys.argv[1:] == ["--check"]
    stale = []
    for package in _TARGETS:
        committed = _ARCH / package / "vdso" / "vdso.so"
        if not check:
            build(package, committed)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            rebuilt = Path(scratch, "vdso.so")
            build(package, rebuilt)
            if rebuilt.read_bytes() != committed.read_bytes():
                stale.append(str(committed))
    for path in stale:
        print(f"{path} is not what its source makes: run arch/build_vdso.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
