"""How deep payloads may be nested: the same on every Python, and from however deep in the program they are read."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import BadPayload
from trioworkers.wire import depth as depth_module
from trioworkers.wire.decode import decode, destination, jid_of
from trioworkers.wire.depth import MAX_DEPTH, MAX_DEPTH_FOR_RUBY, is_nested_deeper
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.encode import amend
from trioworkers.wire.entry import Entry
from trioworkers.wire.wrappers import WRAPPER


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + closing * levels


def payload(levels: int) -> bytes:
    """So many levels deep in all; its `args` are the second of them."""
    return b'{"queue":"q","class":"A","jid":"j","args":%b}' % nested(levels - 1).encode()


def from_deep_down(call: Callable[[], object], frames: int = 300) -> object:
    return call() if frames == 0 else from_deep_down(call, frames - 1)


@pytest.mark.parametrize("dialect", ["sidekiq", "resque", "goworkers"])
def test_payload_of_the_greatest_depth_is_read_by_everybody(dialect: str):
    deepest = payload(MAX_DEPTH)
    job = dialect_named(dialect).decode(deepest, "q")
    assert list(job.args) == json.loads(nested(MAX_DEPTH - 1))
    assert dialect_named(dialect).destination(deepest) == "q"
    assert from_deep_down(lambda: decode(deepest, "q")) == decode(deepest, "q")
    assert Entry("queue", deepest).readable
    assert b'"error":"e"' in amend(deepest, {"error": "e"})


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 1100, 100_000])
def test_payload_that_is_deeper_is_unreadable_to_everybody(levels: int):
    for read in (lambda each: decode(each, "q"), destination, lambda each: amend(each, {"error": "e"})):
        with pytest.raises(BadPayload, match=f"deeper than {MAX_DEPTH} levels"):
            read(payload(levels))
    assert not Entry("queue", payload(levels)).readable
    assert jid_of(payload(levels)) not in ("", "j")  # made from its bytes


def active_job(levels: int) -> bytes:
    """So many levels deep in all."""
    arguments = nested(levels - 3)
    return b'{"class":"%b","args":[{"job_class":"A","arguments":%b}]}' % (WRAPPER.encode(), arguments.encode())


def test_active_job_may_be_as_deep_as_ruby_can_read():
    assert list(decode(active_job(MAX_DEPTH_FOR_RUBY), "q").args) == json.loads(nested(MAX_DEPTH_FOR_RUBY - 3))
    with pytest.raises(BadPayload, match=f"deeper than {MAX_DEPTH_FOR_RUBY} levels"):
        decode(active_job(MAX_DEPTH_FOR_RUBY + 1), "q")


texts = st.text(st.sampled_from('[]{}"\\x\n☺'), max_size=8)
values = st.recursive(
    texts | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def depth_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)


@given(value=values, escaped=st.booleans())
def test_depth_is_told_from_the_bytes_whatever_the_strings_hold(value: Any, escaped: bool):
    text = json.dumps(value, ensure_ascii=escaped).encode()
    depth = depth_of(value)
    assert not is_nested_deeper(text, depth)
    assert depth == 0 or is_nested_deeper(text, depth - 1)


@pytest.mark.parametrize(
    "text", [b'"', b'["', b'"\\', b"]" * 9 + b"[" * 9, b'["]]]]]]]]]]', b"[" * 3 + b'"' + b"[" * 9], ids=repr
)
def test_what_is_no_json_is_looked_through_as_well(text: bytes):
    is_nested_deeper(text, 2)
    with pytest.raises(BadPayload):
        decode(text, "q")


def test_looking_takes_little_more_memory_than_the_text():
    text = b"[" * 3 + b'"a' * 1_000_000  # one piece after the other, each as small as may be
    tracemalloc.start()
    try:
        assert not is_nested_deeper(text, 3)
        assert not is_nested_deeper(b"[" + text[1:] + b'"["', 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(text)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_depth_is_the_same_however_large_the_pieces_are(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depth_module, "_PIECE", size)
    for text, depth in ((b'["[[[", {"a": ["]]"]}]', 3), (b'{"\\"[[": [[], [[1, "]"]]]}', 4), (b'["\\\\", [[]]]', 3)):
        assert not is_nested_deeper(text, depth)
        assert is_nested_deeper(text, depth - 1)
