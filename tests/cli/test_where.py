"""The filter of all commands: what each field means, and a clear word for what makes no sense."""

from __future__ import annotations

import json

import pytest

from trioworkers import ConfigurationError
from trioworkers.cli.where import parse_where
from trioworkers.wire.entry import Entry

NOW_S = 1_700_000_100.0
PAYLOAD = json.dumps(
    {
        "class": "TrackUserJob",
        "args": [7, "Zoë"],
        "jid": "abc",
        "queue": "track",
        "tags": ["vip"],
        "created_at": NOW_S - 7200,
        "enqueued_at": int((NOW_S - 90) * 1000),
        "error_class": "httpx.ReadTimeout",
        "error_message": "Timeout after 3 s",
        "retry_count": 2,
        "failed_at": NOW_S - 60,
        "retried_at": NOW_S - 30,
    },
    ensure_ascii=False,
).encode()
RETRY = Entry("retry", PAYLOAD, score=NOW_S + 45)


@pytest.mark.parametrize(
    "text",
    [
        "class=TrackUserJob",
        "class != Other",
        "class~^track",
        "queue=track",
        "jid=abc",
        "error~timeout",
        "error=httpx.ReadTimeout",
        "error~3 s$",
        "error!~refused",
        "args~zoë",
        "tag=vip",
        "attempt=3",
        "attempt>2",
        "attempt<=3",
        "size>100",
        "size<1k",
        "age=30s",
        "age<1m",
        "due>=45s",
        "due<0.5h",
    ],
)
def test_what_is_so_matches(text: str):
    assert parse_where([text]).matches(RETRY, NOW_S)


@pytest.mark.parametrize(
    "text",
    [
        "class=Track",
        "class!=TrackUserJob",
        "error!~timeout",
        "tag=other",
        "attempt>3",
        "age>31s",
        "size<10",
        "process=w1",
    ],
)
def test_what_is_not_so_does_not(text: str):
    assert not parse_where([text]).matches(RETRY, NOW_S)


def test_all_must_hold():
    assert parse_where(["class=TrackUserJob", "attempt=3"]).matches(RETRY, NOW_S)
    assert not parse_where(["class=TrackUserJob", "attempt=4"]).matches(RETRY, NOW_S)
    assert parse_where([]).matches(RETRY, NOW_S)


@pytest.mark.parametrize(
    ("entry", "age_s"),
    [
        (Entry("queue", PAYLOAD, "track"), 90),
        (Entry("scheduled", PAYLOAD, score=NOW_S + 1), 7200),
        (Entry("dead", PAYLOAD, score=NOW_S - 5), 5),
        (RETRY, 30),
    ],
)
def test_age_is_how_long_a_job_has_been_where_it_is(entry: Entry, age_s: int):
    assert parse_where([f"age={age_s}s"]).matches(entry, NOW_S)


def test_class_of_an_active_job_is_the_one_inside_the_wrapper_or_the_wrapper():
    payload = b'{"class":"Sidekiq::ActiveJob::Wrapper","wrapped":"Mail","args":[{}]}'
    for name in ("Mail", "Sidekiq::ActiveJob::Wrapper"):
        assert parse_where([f"class={name}"]).matches(Entry("queue", payload), NOW_S)


@pytest.mark.parametrize(
    "payload", [b"\xff\xfe", b"[]", b'{"class":7,"tags":3,"retry_count":"x","enqueued_at":"soon"}', b""]
)
def test_odd_payloads_match_nothing_but_raise_nothing(payload: bytes):
    for place in ("queue", "retry", "scheduled", "dead", "running"):
        entry = Entry(place, payload)  # type: ignore[arg-type]
        assert not parse_where(["class=A"]).matches(entry, NOW_S)
        assert not parse_where(["age>0s"]).matches(entry, NOW_S)
        assert parse_where(["class!=A"]).matches(entry, NOW_S)
        assert entry.backtrace == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TrackUserJob", "not FIELD OP VALUE"),
        ("klass=A", "no field 'klass'; there are class, queue"),
        ("error~(", "no regular expression"),
        ("error>3", "error is a text"),
        ("age~3", "age is a number"),
        ("age>3 parsecs", "is not a time, like 30s"),
        ("attempt>x", "is not a number, like 3"),
        ("size>1h", "is not bytes"),
        ("", "not FIELD OP VALUE"),
    ],
)
def test_what_makes_no_sense_is_told_with_what_would(text: str, words: str):
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        parse_where([text])
