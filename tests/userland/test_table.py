"""The table of programs in ``userland/README.md`` is what the sources say, and each source says what is needed."""

from __future__ import annotations

from userland.build import catalogue
from userland.table import README, updated


def test_readme_is_up_to_date() -> None:
    text = README.read_text()
    assert updated(text) == text, "run python userland/table.py"


def test_every_program_says_what_it_proves() -> None:
    assert [guest.name for guest in catalogue().values() if not guest.summary] == []
