"""Whatever strangers write into a field: nothing that reads payloads and records raises but what it says, and all that comes out is finite."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioworkers.cli.rows import columns_of, row_of
from trioworkers.cli.tables import duration, moment
from trioworkers.cli.where import parse_where
from trioworkers.errors import BadPayload, CallFailed, RetryAfter
from trioworkers.outcome import Bury, Discard, Outcome, Retry, Snooze
from trioworkers.retry import MAX_DELAY_S, buried, decide
from trioworkers.wire import places
from trioworkers.wire.by_operator import enqueued, retried
from trioworkers.wire.decode import jid_of
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure
from trioworkers.wire.encode import addressed
from trioworkers.wire.ended import decode_ended, encode_ended, encode_result, value_of
from trioworkers.wire.entry import Entry
from trioworkers.wire.goworkers import GoWorkers
from trioworkers.wire.own_record import decode_info, decode_lease, encode_running
from trioworkers.wire.process_records import decode_process, decode_running
from trioworkers.wire.resque import Resque
from trioworkers.wire.resque_registry import read_entry

NOW_S = 1_700_000_000.0
DIALECTS = [SIDEKIQ, Resque("resque"), GoWorkers("prod")]
FIELDS = [
    "class",
    "args",
    "jid",
    "queue",
    "retry",
    "retry_count",
    "retry_for",
    "retry_queue",
    "retry_max",
    "backtrace",
    "dead",
    "tags",
    "at",
    "created_at",
    "enqueued_at",
    "failed_at",
    "retried_at",
    "error_class",
    "error_message",
    "error_backtrace",
    "wrapped",
    "expiry",
    "tw_done",
    "tw_failed",
    "tw_expires",
    "tw_snoozed",
    "tw_deadline",
    "tw_keep",
    "tw_held",
]
NUMBERS = [
    "1" * 310,
    "-" + "9" * 400,
    "9" * 4300,
    "9" * 5000,
    str(2**31),
    str(2**53 + 1),
    str(2**63),
    str(-(2**63) - 1),
    str(2**64),
    "1e308",
    "-1e308",
    "1e400",
    "5e-324",
    "-0.0",
    "0",
    "-1",
    "253402300800",
    "253402300800000",
    "1.0e10",
    "2.0",
]
OTHERS = [
    "null",
    "true",
    "false",
    '""',
    '"2"',
    '"\\ud800"',
    '"' + "x" * 70000 + '"',
    '"é\\u0000\\n"',
    "[]",
    "{}",
    "[[1]]",
    '{"a":{}}',
    '[null,"a",1e300]',
    "[" * 150 + "]" * 150,
]
spelled = (
    st.sampled_from(NUMBERS + OTHERS)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
WRAPPER = '"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"'
PLAIN = {"class": '"A"', "args": "[1]", "jid": '"' + "a" * 24 + '"', "queue": '"q"', "retry": "true"}


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A job that would be a good one, but for some fields."""
    inner = draw(
        st.dictionaries(st.sampled_from(["job_class", "arguments", "executions", "job_id"]), spelled, max_size=2)
    )
    wrapped = {"job_class": '"B"', "arguments": "[1]"} | inner
    base = PLAIN | ({"class": WRAPPER, "args": f"[{as_json(wrapped)}]"} if draw(st.booleans()) else {})
    return as_json(base | draw(st.dictionaries(st.sampled_from(FIELDS), spelled, max_size=4))).encode()


def as_json(fields: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"


def of(**fields: str) -> bytes:
    return as_json(PLAIN | fields).encode()


def check(payload: bytes, dialect: Dialect, error: Exception) -> None:
    assert jid_of(payload)
    promote(payload, dialect)
    assert buried(payload, "q", Failure("E", "m"), NOW_S, dialect)
    assert json.loads(Resque("resque").record(payload, "q", Failure("E", "m"), NOW_S, "w"))
    try:
        job = dialect.decode(payload, "q")
    except BadPayload:
        return
    assert job.jid
    assert job.attempt >= 1
    outcome = decide(
        job, payload, error, now_s=NOW_S, jitter=0.9, default=3, progress={"tw_done": ["a"]}, dialect=dialect
    )
    check_outcome(outcome, dialect)


def check_outcome(outcome: Outcome, dialect: Dialect) -> None:
    match outcome:
        case Retry(amended, delay_s):
            assert 0 <= delay_s <= MAX_DELAY_S
        case Snooze(amended, delay_s):
            assert amended is not None
            assert delay_s is None or 0 <= delay_s <= MAX_DELAY_S
        case Bury(amended):
            pass
        case Discard():
            return
        case _:
            raise AssertionError(outcome)
    assert dialect.decode(amended, "q")  # what could be read stays so
    promote(amended, dialect)


def promote(payload: bytes, dialect: Dialect) -> None:
    try:
        queue = dialect.destination(payload)
    except BadPayload:
        return
    assert queue
    promoted = dialect.promoted(payload, NOW_S)
    assert isinstance(promoted, bytes)
    jid = jid_of(payload)
    assert jid_of(addressed(payload, queue, jid))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.family)
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), RetryAfter(999_999_999), CallFailed("h", "r", permanent=False, retry_after_s=1e300)],
    ids=repr,
)
@given(payload=payloads())
@example(of(created_at="1" * 310))
@example(of(enqueued_at="1" * 310))
@example(of(failed_at="1" * 310, retry_for="60"))
@example(of(retry_for="1" * 310))
@example(of(retry="9" * 400, retry_count="9" * 400))
@example(of(retry="1e300", retry_count="1e300"))
@example(of(retry_count='"' + "9" * 4000 + '"'))
@example(of(backtrace="9" * 400))
@example(of(retry_max="9" * 400))
@example(of(jid="9" * 4000))
def test_any_field_may_hold_anything(dialect: Dialect, error: Exception, payload: bytes):
    check(payload, dialect, error)


WHERE = parse_where(
    [
        "attempt>=0",
        "age!=1s",
        "due<1000000s",
        "size>0",
        "class!=Z",
        "queue!=z",
        "jid!=z",
        "error!~z",
        "args!~z",
        "tag!=z",
        "process!=z",
    ]
)


@given(
    payload=payloads() | st.binary(max_size=40),
    place=st.sampled_from(["queue", "running", "retry", "scheduled", "dead"]),
    score=st.floats(allow_nan=False) | st.none(),
)
@example(of(retry_count="9" * 400, created_at="9" * 400), "retry", math.inf)
@example(of(retried_at="9" * 400), "retry", 1e308)
def test_people_can_look_at_any_payload(payload: bytes, place: str, score: float | None):
    entry = Entry(place, payload, "q", score=score)  # type: ignore[arg-type]
    row = row_of(entry, NOW_S)
    assert msgspec.json.encode(row)
    for column in columns_of(places.place(place)):
        assert isinstance(column.show(row | {"due": row.get("due")}), str)
    WHERE.matches(entry, NOW_S)
    assert entry.attempts_made >= 0
    assert entry.backtrace is not None
    for when in entry.times.values():
        assert moment(when) != "?"
        assert duration(NOW_S - when)


@given(payload=payloads() | st.binary(max_size=40), queue=st.none() | st.just("low prio"))
@example(of(retry_count="9" * 400), None)
@example(of(retry_count="-1e308"), "low prio")
@example(of(args="9" * 5000, retry_count="2"), None)
def test_any_payload_can_be_moved_by_people_or_is_said_to_be_none(payload: bytes, queue: str | None):
    for renew in (enqueued, retried):
        try:
            target, renewed = renew(payload, NOW_S, queue=queue)
        except BadPayload:
            continue
        assert target
        assert isinstance(renewed, bytes)


@given(
    info=st.dictionaries(
        st.sampled_from(
            [
                "hostname",
                "pid",
                "queues",
                "capsules",
                "weights",
                "started_at",
                "concurrency",
                "tag",
                "labels",
                "version",
                "time",
            ]
        ),
        spelled,
    ),
    value=spelled,
)
def test_any_record_of_a_process_can_be_read(info: dict[str, str], value: str):
    text = as_json(info).encode()
    decode_info(text)
    decode_lease(text.decode())
    record = {b"info": text} | {
        name: value.encode() for name in (b"busy", b"beat", b"rss", b"concurrency", b"tw_rates", b"quiet")
    }
    process = decode_process("host:1:x", record)
    assert all(math.isfinite(number) for number in (process.busy, process.beat_s, process.started_at_s, process.rss_kb))
    read_entry(b"host:1:q", b"", text)
    read_entry(b"host:1:q", value.encode(), b"")
    running = decode_running(process, as_json({"queue": '"q"', "payload": '"{}"', "run_at": value}).encode())
    assert running is None or math.isfinite(running.run_at_s)
    assert encode_running("q", text, NOW_S)


@pytest.mark.parametrize("value", ["1" * 5000, "1e400", '"\\ud800"', "[" * 501 + "]" * 501, "\xff", "[1", "NaN"])
def test_result_that_cannot_be_read_is_none(value: str):
    """However it is hidden: a value is only looked at when somebody wants it."""
    assert decode_ended(f'{{"how":"succeeded","value":{value}}}'.encode("latin-1")) is None


def test_result_is_read_whatever_its_size():
    ended = decode_ended(encode_ended("succeeded", encode_result([10**4000, "x", None])))
    assert ended is not None
    assert value_of(ended) == [10**4000, "x", None]
