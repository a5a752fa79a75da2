"""How architectures are found."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

import minikern.arch
from minikern.arch import ENTRY_POINT_GROUP, InstalledArches
from tests.support import ARCHES


def test_the_same_are_found_as_by_the_standard_library() -> None:
    found = minikern.arch.entry_points(ENTRY_POINT_GROUP)
    assert found == {each.name: each.value for each in entry_points(group=ENTRY_POINT_GROUP)}
    assert set(found) >= set(ARCHES)


def test_each_backend_is_what_its_name_says() -> None:
    for name, backend in InstalledArches().items():
        assert backend.name == name


def test_a_backend_of_another_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "other-1.0.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(
        "[console_scripts]\nother = other:main\n\n[minikern.arch]\n# a comment\nother64=other.arch:Other\n[more]\na = b\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert minikern.arch.entry_points(ENTRY_POINT_GROUP)["other64"] == "other.arch:Other"
    assert "a" not in minikern.arch.entry_points(ENTRY_POINT_GROUP)
