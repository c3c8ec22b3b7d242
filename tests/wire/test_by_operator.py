"""Payloads that operators move, exported and looked at: to the byte, and whatever they are."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import BadPayload
from trioworkers.wire.by_operator import decode_entry, encode_entry, enqueued, retried
from trioworkers.wire.entry import Entry, decode_backtrace
from trioworkers.wire.process_records import decode_process, decode_running

SCORES = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("jid", "class", "wrapped", "args", "queue", "tags", "retry_count", "created_at", "enqueued_at", "failed_at"),
    *("retried_at", "error_class", "error_message", "error_backtrace", "tw_held"),
]


@given(st.binary(max_size=200), SCORES, st.sampled_from(["retry", "scheduled", "dead"]))
def test_entry_of_a_set_survives_its_export(payload: bytes, score: float, place: str):
    entry = Entry(place, payload, score=score)  # type: ignore[arg-type]
    line = encode_entry(entry)
    assert b"\n" not in line
    json.loads(line)
    assert decode_entry(line) == entry


@given(st.binary(max_size=200))
def test_entry_of_a_queue_survives_its_export(payload: bytes):
    entry = Entry("queue", payload, "track")
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        '{"in":"dead","score":1}',
        '{"in":"dead","payload":"x"}',
        '{"in":"queue","payload":"x"}',
        '{"in":"elsewhere","score":1,"payload":"x"}',
        '{"in":"dead","score":1,"payload_base64":"!"}',
        '{"in":"dead","score":"nan","payload":"x"}',
    ],
)
def test_what_is_no_line_of_an_export_is_refused(line: str):
    with pytest.raises(BadPayload, match="not a line of an export"):
        decode_entry(line.encode())


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(["queue", "running", "retry", "scheduled", "dead"])
)
def test_something_can_be_said_of_any_object(fields: dict[str, object], place: str):
    entry = Entry(place, json.dumps(fields).encode(), score=1.5)  # type: ignore[arg-type]
    assert entry.readable
    assert isinstance(entry.jid, str)
    assert isinstance(entry.job_class, str)
    assert isinstance(entry.attempt, int)
    assert all(isinstance(line, str) for line in entry.backtrace)
    assert entry.since_s is None or isinstance(entry.since_s, float)
    json.loads(entry.args)


@given(st.text(max_size=40))
def test_any_text_may_stand_where_a_backtrace_should(text: str):
    assert isinstance(decode_backtrace(text), list)


def test_attempt_is_given_back_in_the_spelling_that_it_had():
    payload = b'{"class":"A","args":[1.10],"retry_count":2.0,"big":12345678901234567890123}'
    queue, renewed = retried(payload, 1.7e9)
    assert queue == "default"
    assert (
        renewed
        == b'{"class":"A","args":[1.10],"retry_count":1.0,"big":12345678901234567890123,"enqueued_at":1700000000.0}'
    )
    assert b'"retry_count":2.0' in enqueued(payload, 1.7e9)[1]
    assert retried(payload, 1.7e9, queue="other")[0] == "other"


@given(
    st.dictionaries(
        st.sampled_from(["tag", "labels", "version", "queues", "capsules", "started_at", "concurrency"]), JSON
    )
)
def test_record_of_any_process_is_read(info: dict[str, object]):
    record = {b"info": json.dumps(info).encode(), b"busy": b"inf", b"beat": b"soon", b"tw_rates": b"\xff"}
    process = decode_process("h:1:x", record)
    assert (process.identity, process.busy, process.beat_s, process.rates) == ("h:1:x", 0, 0.0, {})
    assert decode_process("h:1:x", {b"info": b"\xff"}).queues == {}
    assert decode_running(process, b'{"queue":"q","payload":{"class":"Old"},"run_at":1}') is not None
    for odd in (b"", b"{}", b'{"queue":1,"payload":"","run_at":1}', b'{"queue":"q","payload":"","run_at":"x"}'):
        assert decode_running(process, odd) is None


@pytest.mark.parametrize("encode", [base64.encodebytes, base64.b64encode])
def test_a_backtrace_is_read_as_any_sidekiq_writes_it(encode: Callable[[bytes], bytes]):
    """Before 7 with line breaks, from then on without."""
    lines = [f"/srv/app/jobs/{number:040}.rb:7:in `perform'" for number in range(20)]
    text = encode(zlib.compress(json.dumps(lines).encode())).decode()
    assert decode_backtrace(text) == lines
