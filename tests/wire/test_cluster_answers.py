"""Where a node of a cluster sends us, read without any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.wire.cluster import Elsewhere, read_whose, whose
from trioworkers.wire.resp import ErrorReply, encode_command


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("MOVED 3999 127.0.0.1:6381", Elsewhere("127.0.0.1", 6381)),
        ("MOVED 3999 :6381", Elsewhere("", 6381)),
        ("MOVED 3999 2001:db8::1:6381", Elsewhere("2001:db8::1", 6381)),
        ("MOVED 3999 h.example:6381@16381", Elsewhere("h.example", 6381)),
        ("ASK 3999 127.0.0.1:6381", None),
        ("NOAUTH Authentication required.", None),
    ],
)
def test_node_says_where_the_slot_is(said: str, means: Elsewhere | None):
    assert read_whose([ErrorReply(said)]) == means


def test_node_that_answers_has_it():
    assert read_whose([b"OK", 0]) is None


@pytest.mark.parametrize(
    "said", ["CLUSTERDOWN Hash slot not served", "MOVED 1 h:0", "MOVED 1 h:65536", "MOVED 1 h", "ERR x"]
)
def test_node_that_knows_nothing_says_why(said: str):
    with pytest.raises(ValueError, match=said.split(maxsplit=1)[0]):
        read_whose([ErrorReply(said)])


@given(st.text())
def test_any_error_is_read_or_refused(text: str):
    try:
        found = read_whose([ErrorReply(text)])
    except ValueError:
        return
    assert found is None or 0 < found.port < 65536


def test_login_goes_first():
    assert whose("k", "me", "pw").words == encode_command("AUTH", "me", "pw") + encode_command("EXISTS", "k")
