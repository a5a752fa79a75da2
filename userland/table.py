"""Write the table of all programs into `userland/README.md`: `python userland/table.py [--check]`.

The table is made from the comments at the top of the sources; `--check` only says whether it is up to date.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from userland.build import USERLAND, Program, catalogue

README = USERLAND / "README.md"
BEGIN, END = "<!-- programs: begin -->\n", "<!-- programs: end -->\n"


def row(guest: Program) -> str:
    """One line of the table."""
    native = f"no: {guest.not_native}" if guest.not_native else "in a pid namespace" if guest.is_init else "yes"
    only = guest.arch or guest.libc
    cells = (f"[{guest.name}]({guest.folder}/{guest.source.name})", guest.summary, guest.concept, native, only)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def table() -> str:
    """All programs, a table for each folder."""
    parts = []
    for folder, guests in groupby(catalogue().values(), key=lambda guest: guest.folder):
        parts.append(
            f"### {folder}\n\n| program | what it proves | concept | native | only for |\n|---|---|---|---|---|\n"
        )
        parts.extend(row(guest) for guest in guests)
        parts.append("\n")
    return "".join(parts)


def updated(text: str) -> str:
    """The README's text with the present table in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def main() -> int:
    """The command."""
    text = README.read_text()
    fresh = updated(text)
    if "--check" in sys.argv[1:]:
        print("up to date" if fresh == text else "userland/README.md is out of date: run python userland/table.py")
        return fresh != text
    README.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
