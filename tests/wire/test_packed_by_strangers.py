"""What people and upkeep read of packed records: whoever has write access may have put anything there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioworkers.exits import on_unread_exit
from trioworkers.wire.lock_state import decode_lock
from trioworkers.wire.outbox_entry import ID_LENGTH, decode_outbox_entry
from trioworkers.wire.packing import pack

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner), max_leaves=20
)
LIKE_AN_ENTRY = st.lists(st.lists(st.lists(VALUES, min_size=3, max_size=5), max_size=2), min_size=2, max_size=3)
READERS: dict[str, Callable[[bytes], object]] = {
    "outbox": lambda packed: decode_outbox_entry(b"i" * ID_LENGTH + packed),
    "lock": lambda packed: decode_lock("A:1", packed),
    "unread": lambda packed: on_unread_exit(packed, "dead"),
}


@pytest.mark.parametrize("name", READERS)
@given(value=VALUES | LIKE_AN_ENTRY)
@example(value=[[1], [2]])
@example(value=[[[7, 1, [b"{}"]]], []])
def test_any_value_is_read_without_an_error(name: str, value: object):
    assert READERS[name](pack(value)) is not None


@pytest.mark.parametrize("name", READERS)
@given(packed=st.binary(max_size=64))
def test_any_bytes_are_read_without_an_error(name: str, packed: bytes):
    assert READERS[name](packed) is not None


def test_entry_whose_queue_is_no_text_is_told_as_none_of_ours():
    entry = decode_outbox_entry(b"i" * ID_LENGTH + pack([[[7, 1, [b"{}"]]], []]))
    assert (entry.is_readable, entry.jobs) == (False, ())
