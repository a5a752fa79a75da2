"""Each backend has what the protocol asks for: for the type checker, and for who runs the tests without one."""

from __future__ import annotations

from minikern_arm64.arch import Arm64
from minikern_x86_64.arch import X86_64

from minikern.arch import Arch, InstalledArches

BACKENDS: tuple[type[Arch], ...] = (X86_64, Arm64)


def test_nothing_is_missing() -> None:
    wanted = {name for name in (*vars(Arch), *Arch.__annotations__) if not name.startswith("_")}
    for backend in InstalledArches().values():
        given = set(dir(backend)) | {"cpu"}  # which is made with the backend
        assert wanted <= given, backend
