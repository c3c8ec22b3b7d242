"""Numbers and texts that are not quite JSON's, as others write them: moved as they came, and read as Ruby reads them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import BadPayload
from trioworkers.wire.decode import decode, destination, jid_of, raw_fields
from trioworkers.wire.dialect import SIDEKIQ
from trioworkers.wire.encode import amend
from trioworkers.wire.entry import Entry
from trioworkers.wire.goworkers import GoWorkers
from trioworkers.wire.lenient import split

INFINITE = ["1e400", "1.0e400", "1e+400", "9" * 400 + ".5", '{"a":[1e400]}']
REFUSED_BY_RUBY = [
    "NaN",
    "Infinity",
    "-Infinity",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "01",
    "1.",
    "+1",
    ".5",
    "[1,]",
    "'a'",
    '"a\tb"',
]
SAME = {
    "-1e400": -math.inf,
    "1e400": math.inf,
    "-0": 0,
    "-0.0": -0.0,
    "1e-400": 0.0,
    "9" * 4300: int("9" * 4300),
    '{"a":1,"a":2}': {"a": 2},
    "1E5": 100000.0,
    "12345678901234567890123": 12345678901234567890123,
}


def payload(arg: str, **fields: str) -> bytes:
    more = "".join(f',"{name}":{value}' for name, value in fields.items())
    return f'{{"class":"A","queue":"low prio","args":[{arg}],"jid":"j","retry":true{more}}}'.encode()


@pytest.mark.parametrize(("spelled", "value"), SAME.items(), ids=lambda each: str(each)[:20])
def test_what_ruby_reads_is_read_alike(spelled: str, value: Any):
    assert decode(payload(spelled), "q").args == (value,)
    assert str(decode(payload(spelled), "q").args[0])[:9] == str(value)[:9]  # -0.0 is not 0


@pytest.mark.parametrize(
    "name", ["created_at", "enqueued_at", "failed_at", "retry_for", "retry_count", "tw_expires", "mine", "at"]
)
@pytest.mark.parametrize("spelled", ["1e400", "-1e400", "9" * 4000])
def test_number_in_a_field_spoils_no_job(name: str, spelled: str):
    assert decode(payload("1", **{name: spelled}), "q").args == (1,)


@pytest.mark.parametrize("spelled", REFUSED_BY_RUBY)
def test_what_ruby_refuses_is_refused(spelled: str):
    with pytest.raises(BadPayload):
        decode(payload(spelled), "q")


def test_longer_integer_than_python_writes_is_said():
    with pytest.raises(BadPayload, match="5000 digits"):
        decode(payload("9" * 5000), "q")


@pytest.mark.parametrize("spelled", ["1e400", "NaN", '"\\ud800"', "9" * 5000, '"a\tb"'], ids=lambda each: each[:20])
def test_people_find_and_see_what_is_not_quite_json(spelled: str):
    entry = Entry("dead", payload(spelled, created_at=spelled, error_message='"boom"', retry_count="2"), score=1.0)
    assert (jid_of(entry.payload), entry.jid, entry.job_class, entry.queue) == ("j", "j", "A", "low prio")
    assert (entry.args, entry.error_message, entry.attempts_made) == (f"[{spelled}]".encode(), "boom", 3)
    assert entry.readable
    assert entry.is_strict == (spelled in ("1e400", "9" * 5000))
    assert entry.times == {}


@pytest.mark.parametrize(
    "spelled",
    [*INFINITE, *SAME, "NaN", "-Infinity", '"\\ud800"', '"a\tb"', "9" * 5000, '"é\\\\"', '"}, \\" {"'],
    ids=lambda each: each[:20],
)
def test_what_is_not_for_us_is_moved_as_it_came(spelled: str):
    for dialect in (SIDEKIQ, GoWorkers()):
        assert dialect.destination(payload(spelled)) == "low prio"
        moved = dialect.promoted(payload(spelled), 1.5)
        assert spelled.encode() in moved
        assert raw_fields(moved).keys() >= {"class", "queue", "args", "jid", "retry"}


def test_mark_at_the_beginning_hides_no_queue():
    assert destination(b"\xef\xbb\xbf" + payload("1")) == "low prio"
    with pytest.raises(BadPayload):  # Ruby reads none
        decode(b"\xef\xbb\xbf" + payload("1"), "q")


def test_a_retry_keeps_the_spelling():
    amended = amend(payload("1e400"), {"retry_count": 0})
    assert b"[1e400]" in amended
    assert decode(amended, "q").args == (math.inf,)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1]",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1} x',
        b"{1:2}",
        b'{"a":1 "b":2}',
        b'\xff{"a":1}',
        b"nul",
    ],
)
def test_what_is_no_object_is_none(text: bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - its words are not ours
        split(text)
    with pytest.raises(BadPayload):
        raw_fields(text)


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), max_size=5)
)
def test_splits_as_the_strict_reader_does(fields: dict[str, Any]):
    text = json.dumps(fields).encode()
    assert {name: json.dumps(json.loads(bytes(raw))) for name, raw in split(text).items()} == {
        name: json.dumps(value) for name, value in fields.items()
    }
    try:
        strictly = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return
    assert {name: bytes(raw) for name, raw in strictly.items()} == {
        name: bytes(raw) for name, raw in split(text).items()
    }


@pytest.mark.skipif(shutil.which("ruby") is None, reason="needs Ruby")
def test_ruby_says_so():
    """The lists above, asked of Ruby itself."""
    code = "require 'json'; STDIN.each_line { |l| r = begin; JSON.parse(l.chomp.force_encoding('UTF-8')); 'reads'; rescue JSON::ParserError; 'refuses'; end; puts r }"
    lines = [*INFINITE, *SAME, *REFUSED_BY_RUBY]
    told = subprocess.run(["ruby", "-e", code], input="\n".join(lines), capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["reads"] * len([*INFINITE, *SAME]) + ["refuses"] * len(REFUSED_BY_RUBY)
