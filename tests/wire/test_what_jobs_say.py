"""Whatever a `Job` says reaches its payload, in every dialect and by every way, or is refused: an option that there will be is asked, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from trioworkers import BadJob, BadResult, Job
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.encode import encode
from trioworkers.wire.ended import encode_result
from trioworkers.wire.periodic import Periodic, decode_entry, encode_entry
from trioworkers.wire.record import encode_cursor, encode_step

DIALECTS = ["sidekiq", "goworkers", "resque"]
NAMED = {"queue", "job_class", "jid"}
SEEN_BY_WORKERS = {
    *("expires_at_s", "created_at_s", "enqueued_at_s", "failed_at_s", "snoozed_at_s", "retry_count", "progress"),
    *("failed_calls", "done_packed", "failed_packed", "recorded"),
}
GIVEN_BY_HANDLERS_AND_BATCHES = {"lock", "batch", "runs_here"}
SAID: dict[str, dict[str, Any]] = {
    "args": {"args": [7]},
    "retry": {"retry": 3},
    "retry_for": {"retry_for": 60},
    "retry_queue": {"retry_queue": "slow"},
    "backtrace": {"backtrace": 5},
    "dead": {"dead": False},
    "tags": {"tags": ["eu"]},
    "expires_in": {"expires_in": 60},
    "deadline": {"deadline": datetime(2030, 1, 1, tzinfo=UTC)},
    "keep_result": {"keep_result": 60},
    "extra": {"extra": {"cattr": {"user": 7}}},
    "kwargs": {"kwargs": {"plan": "pro"}, "active_job": True},
    "active_job": {"active_job": True},
    "active_job_fields": {"active_job_fields": {"locale": "de"}, "active_job": True},
}
"""By each attribute that people say: how."""


def test_every_attribute_is_asked():
    names = {field.name for field in attrs.fields(Job)}
    assert names == NAMED | SEEN_BY_WORKERS | GIVEN_BY_HANDLERS_AND_BATCHES | SAID.keys()


def written(dialect: str, *, enqueued: bool = True, **said: Any) -> dict[str, Any]:
    return json.loads(dialect_named(dialect).encode(Job("q", "A", jid="a" * 24, **said), 1.5e9, enqueued=enqueued))


@pytest.mark.parametrize("enqueued", [True, False], ids=["enqueued", "scheduled"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", SAID)
def test_what_a_job_says_reaches_its_payload_and_who_reads_it(name: str, dialect: str, enqueued: bool):
    said = SAID[name]
    without = {key: value for key, value in said.items() if key != name}
    fields = written(dialect, enqueued=enqueued, **said)
    assert fields != written(dialect, enqueued=enqueued, **without)
    again = dialect_named(dialect).decode(json.dumps(fields).encode(), "q")
    read = again.expires_at_s if name == "expires_in" else getattr(again, name)
    usual = next(field.default for field in attrs.fields(Job) if field.name == name)
    assert read not in (None, usual)


def test_deadline_of_a_periodic_job_is_refused():
    with pytest.raises(ValueError, match="deadline"):
        encode_entry(Periodic("nightly", "@every 10s", Job("q", "A", **SAID["deadline"])))


@pytest.mark.parametrize("name", [name for name in SAID if name != "deadline"])
def test_what_a_periodic_job_says_is_said_by_each_of_its_runs(name: str):
    entry = Periodic("nightly", "@every 10s", Job("q", "A", jid="a" * 24, **SAID[name]))
    definition = encode_entry(entry)
    run, meant = (each.job_at(1_500_000_000, "b" * 24) for each in (decode_entry("nightly", definition), entry))
    now_s = 1.5e9
    sent, wanted = (json.loads(dialect_named("sidekiq").encode(job, now_s)) for job in (run, meant))
    for fields in (sent, wanted):
        if name in ("kwargs", "active_job", "active_job_fields"):
            del fields["args"][0]["job_id"]
    assert sent == wanted


def test_entry_that_says_more_than_older_versions_know_is_left_alone_by_them():
    plain = json.loads(encode_entry(Periodic("n", "@daily", Job("q", "A"))))
    more = json.loads(encode_entry(Periodic("n", "@daily", Job("q", "A", extra={"x": 1}))))
    assert (plain["v"], more["v"]) == (1, 3)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "said",
    [
        {"extra": {"x": float("nan")}},
        {"extra": {"x": [float("inf")]}},
        {"extra": {"x": object()}},
        {"extra": {"x": {1: 2}}},
        {"extra": {7: "x"}},
        {"extra": ["x"]},
        {"extra": 5},
        *({"extra": {field: "x"}} for field in ("queue", "class", "args", "jid", "retry", "created_at", "enqueued_at")),
        {"kwargs": ["x"], "active_job": True},
        {"kwargs": {7: "x"}, "active_job": True},
        {"active_job_fields": 5, "active_job": True},
    ],
    ids=lambda value: None if isinstance(value, str) else str(value).partition(" at 0x")[0],
)
def test_what_no_payload_could_say_is_refused_in_words(said: dict[str, Any], dialect: str):
    with pytest.raises(BadJob):
        written(dialect, **said)
    with pytest.raises(BadJob):
        encode_entry(Periodic("nightly", "@every 10s", Job("q", "A", **said)))


@pytest.mark.parametrize(
    "args", [{"id": 7}, {1, 2}, frozenset({1}), "ab", b"ab", bytearray(b"ab"), None, 7, 1.5], ids=repr
)
def test_arguments_that_are_no_list_are_refused(args: Any):
    """Of a dict only its keys were sent."""
    with pytest.raises(BadJob, match="arguments are a list, not"):
        Job("q", "A", args)


@pytest.mark.parametrize(
    ("value", "why"),
    [("a\ud800", "half a character"), ({"\ud800": 1}, "half a character"), ([10**5000], "more than 4,300 digits")],
    ids=["text", "key", "number"],
)
@pytest.mark.parametrize(
    "write",
    [
        lambda value: encode(Job("q", "A", [value]), 1.0),
        encode_result,
        lambda value: encode_step("s", value),
        lambda value: encode_cursor("i", value),
    ],
    ids=["job", "result", "step", "cursor"],
)
def test_what_json_has_no_form_for_is_refused_in_words_that_help(value: Any, why: str, write: Callable[[Any], bytes]):
    with pytest.raises((BadJob, BadResult), match=why) as refused:
        write(value)
    assert "\\ud800" not in str(refused.value)
    assert "sys." not in str(refused.value)
