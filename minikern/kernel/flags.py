"""Flags as cheap, and as exact, as numbers.

``~`` of an ``IntFlag`` forgets the bits that have no name, so ``flags & ~KNOWN`` does not find the unknown ones. And it
builds an object for every ``&``, which costs ten times as much as the rest of a flag test: 1.4 µs against 0.1 µs with
CPython 3.11. A class decorated with `fast_flags` keeps its members, names and types, but computes with them as with the
numbers that they are; what comes out is a plain ``int``, equal to the flag and as good a key.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TypeVar

_F = TypeVar("_F", bound=type[IntFlag])
_OPERATORS = ("__and__", "__rand__", "__or__", "__ror__", "__xor__", "__rxor__", "__invert__", "__hash__")


def fast_flags(cls: _F) -> _F:
    """Give a flag class the operators of ``int``."""
    for name in _OPERATORS:
        setattr(cls, name, getattr(int, name))
    return cls
