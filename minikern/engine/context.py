"""The saved state of a processor, and words in it that no register number names.

Unicorn can save and restore everything but memory in 0.4 µs.  Some of what it saves has no name in its interface and
must be reset all the same, as hardware or Linux does it: the exclusive monitor at a task switch, the exception that a
second exception would be doubled with.  Where such a word lies is found by making it change; nothing is assumed.
"""

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Context:
    """The whole state of a processor that is not running: every register, but no memory.

    The bytes hold no pointers, so a copy is as good as the original, in another engine of the same kind too.
    """

    __slots__ = ("data", "view")

    def __init__(self, data: bytes) -> None:
        self.data = ctypes.create_string_buffer(data, len(data))  # what the library takes
        self.view = memoryview(self.data).cast("B")  # the same bytes

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __len__(self) -> int:
        return len(self.view)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.view == other.view

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Context":
        return Context(bytes(self.view))

    def __reduce__(self) -> tuple[Any, ...]:
        return Context, (bytes(self.view),)


@dataclass(frozen=True, slots=True)
class StateWord:
    """A word of the engine's state, by its place in a Context."""

    begin: int  # byte offset
    cleared: bytes  # its value when there is nothing in it

    def clear(self, context: Context) -> None:
        """Put the word of `context` to its cleared value."""
        context.view[self.begin : self.begin + len(self.cleared)] = self.cleared

    def value(self, context: Context) -> int:
        """The word of `context` as an unsigned number."""
        return int.from_bytes(context.view[self.begin : self.begin + len(self.cleared)], sys.byteorder)


def find_state_word(samples: Sequence[tuple[Context, bytes]]) -> StateWord | None:
    """The one word that has the given value in each of the contexts, the first of which shows it cleared.

    None when there is no such word or more than one.
    """
    context, cleared = samples[0]
    size = len(cleared)
    candidates: Sequence[int] = range(0, len(context) - size + 1, 4)
    for context, value in samples:
        candidates = [at for at in candidates if context.view[at : at + size] == value]
    return StateWord(candidates[0], cleared) if len(candidates) == 1 else None
