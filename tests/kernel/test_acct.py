"""Numbers as accounting records write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikern.kernel.acct import encode_comp_t


def decode(value: int) -> int:
    return (value & 0x1FFF) << 3 * (value >> 13)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, 0), (8191, 8191), (8192, 0x2000 | 1024), (8196, 0x2000 | 1025), (65535, 0x4000 | 1024), (1 << 60, 0xFFFF)],
)
def test_known_values(value: int, encoded: int) -> None:
    assert encode_comp_t(value) == encoded


@given(st.integers(0, 8191 << 21))
def test_the_error_is_at_most_half_of_the_last_place(value: int) -> None:
    encoded = encode_comp_t(value)
    assert abs(decode(encoded) - value) <= (1 << 3 * (encoded >> 13)) / 2 + 4 ** (encoded >> 13)
