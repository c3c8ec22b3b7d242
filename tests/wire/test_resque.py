"""Resque's dialect, byte for byte: what Ruby's Resque, resque-scheduler, node-resque and goworker write, and what we write."""

from __future__ import annotations

import json

import pytest

from trioworkers.errors import BadPayload, Bury, RetryAfter
from trioworkers.outcome import Bury as Buried
from trioworkers.outcome import Retry
from trioworkers.retry import decide
from trioworkers.wire.dialect import Failure
from trioworkers.wire.job import Job
from trioworkers.wire.resque import Resque, encode_running, iso_time, ruby_time, slot_id, worker_id

RESQUE = Resque("resque")
NOW_S = 1_700_000_000.0
ARCHIVE = b'{"class":"Archive","args":[35]}'


@pytest.mark.parametrize(
    ("payload", "job_class", "args"),
    [
        (b'{"class":"Archive","args":[35,"tar",{"deep":[1.5,null]}]}', "Archive", (35, "tar", {"deep": [1.5, None]})),
        (b'{"class":"Nightly"}', "Nightly", ()),
        (b'{"class":"Nightly","args":null}', "Nightly", ()),
        (b'{"class":"add","queue":"math","args":[1,2]}', "add", (1, 2)),
        (b'{"class":"job-name","args":[]}', "JobName", ()),
    ],
)
def test_what_others_enqueue_is_read(payload: bytes, job_class: str, args: tuple[object, ...]):
    job = RESQUE.decode(payload, "low")
    assert (job.job_class, job.args, job.queue, job.attempt, job.retry) == (job_class, args, "low", 1, None)


def test_equal_jobs_have_ids_of_their_own_and_keep_them_through_a_retry():
    one, other = RESQUE.decode(ARCHIVE, "low"), RESQUE.decode(ARCHIVE, "low")
    assert one.jid != other.jid
    outcome = decide(one, ARCHIVE, ValueError("x"), now_s=NOW_S, jitter=0.0, default=5, dialect=RESQUE)
    assert isinstance(outcome, Retry)
    again = RESQUE.decode(outcome.payload, "low")
    assert (again.jid, again.attempt) == (one.jid, 2)


def test_active_job_on_resque_is_unwrapped_and_has_its_own_id():
    inner = {"job_class": "WelcomeJob", "job_id": "cb70534e-2cc2-44dc-b1f0-151643e86e45", "arguments": [7]}
    wrapper = "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"
    job = RESQUE.decode(json.dumps({"class": wrapper, "args": [inner]}).encode(), "low")
    assert (job.job_class, job.args, job.jid) == ("WelcomeJob", (7,), inner["job_id"])
    sent = json.loads(RESQUE.encode(Job("low", "WelcomeJob", [7], active_job=True), NOW_S))
    assert list(sent) == ["class", "args"]
    assert sent["class"] == wrapper
    assert sent["args"][0]["arguments"] == [7]


@pytest.mark.parametrize("payload", [b"{}", b"[]", b'{"class":5}', b"\xff", b""])
def test_what_is_no_job_is_refused(payload: bytes):
    with pytest.raises(BadPayload):
        RESQUE.decode(payload, "low")


def test_we_enqueue_what_ruby_would_have_written():
    job = Job("low", "Archive", [35, "é"])
    assert RESQUE.encode(job, NOW_S).decode() == '{"class":"Archive","args":[35,"é"]}'
    assert RESQUE.encode(job, NOW_S, enqueued=False).decode() == '{"class":"Archive","args":[35,"é"],"queue":"low"}'


def test_a_number_of_retries_goes_along_and_is_read_again():
    payload = RESQUE.encode(Job("low", "Archive", [35], retry=5), NOW_S)
    assert payload == b'{"class":"Archive","args":[35],"retry":5}'
    assert RESQUE.decode(payload, "low").retry == 5


@pytest.mark.parametrize(
    ("delayed", "queued"),
    [
        (b'{"class":"Archive","args":[1.10],"queue":"low"}', b'{"class":"Archive","args":[1.10]}'),
        (b'{"class":"Archive","queue":"low","args":[1.10]}', b'{"class":"Archive","queue":"low","args":[1.10]}'),
    ],
    ids=["Ruby", "node-resque"],
)
def test_delayed_job_goes_to_its_queue_as_its_own_scheduler_would_put_it_there(delayed: bytes, queued: bytes):
    assert RESQUE.destination(delayed) == "low"
    assert RESQUE.promoted(delayed, NOW_S) == queued


@pytest.mark.parametrize("payload", [ARCHIVE, b'{"class":"A","args":[],"queue":""}'])
def test_delayed_job_without_a_queue_is_refused(payload: bytes):
    with pytest.raises(BadPayload):
        RESQUE.destination(payload)


def test_failure_is_recorded_as_ruby_does():
    record = RESQUE.record(ARCHIVE, "low", Failure("ArgumentError", "bad é", ["a.rb:5"]), NOW_S, "web1:42:low,high")
    assert record.decode() == (
        '{"failed_at":"2023/11/14 22:13:20 UTC","payload":{"class":"Archive","args":[35]},"exception":"ArgumentError",'
        '"error":"bad é","backtrace":["a.rb:5"],"worker":"web1:42:low,high","queue":"low"}'
    )


def test_record_shows_the_job_as_it_was_enqueued_after_retries_too_with_what_is_done():
    payload = b'{"class":"Archive","args":[1.10],"big":12345678901234567890123,"retry":1}'
    job = RESQUE.decode(payload, "low")
    first = decide(job, payload, ValueError("x"), now_s=NOW_S, jitter=0.0, progress={"tw_done": ["a"]}, dialect=RESQUE)
    assert isinstance(first, Retry)
    assert RESQUE.destination(first.payload) == "low"
    promoted = RESQUE.promoted(first.payload, NOW_S)
    again = RESQUE.decode(promoted, "low")
    assert again.progress == ("a",)
    last = decide(
        again, promoted, ValueError("y"), now_s=NOW_S, jitter=0.0, progress={"tw_done": ["a"]}, dialect=RESQUE
    )
    assert isinstance(last, Buried)
    assert last.failure is not None
    record = RESQUE.record(last.payload, "low", last.failure, NOW_S, "w")
    kept = b'"payload":{"class":"Archive","args":[1.10],"big":12345678901234567890123,"retry":1,"tw_done":["a"]}'
    assert kept in record
    assert json.loads(record)["error"] == "y"


@pytest.mark.parametrize("payload", [b"[1]", b"\xff\x00", b'{"class":5}'])
def test_record_of_an_unreadable_payload_loses_no_byte(payload: bytes):
    import base64  # noqa: PLC0415 - only here

    shown = json.loads(RESQUE.record(payload, "low", Failure("x", "y"), NOW_S, "w"))["payload"]
    kept = base64.b64decode(shown["tw_bytes"]) if "tw_bytes" in shown else shown["args"][0].encode()
    assert kept == payload


@pytest.mark.parametrize(
    ("default", "error", "retried"),
    [
        (None, ValueError("x"), False),
        (True, ValueError("x"), True),
        (3, ValueError("x"), True),
        (None, RetryAfter(5), True),
        (0, RetryAfter(5), False),
        (5, Bury("no"), False),
    ],
)
def test_there_are_no_retries_unless_somebody_asks(default: int | None, error: Exception, retried: bool):
    job = RESQUE.decode(ARCHIVE, "low")
    outcome = decide(job, ARCHIVE, error, now_s=NOW_S, jitter=0.0, default=default, dialect=RESQUE)
    assert type(outcome) is (Retry if retried else Buried)


def test_what_resque_pages_read_of_a_worker():
    name = worker_id("web1", 4242, ["low", "high"])
    assert name == "web1-trioworkers:4242:low,high"
    assert [slot_id(name, number) for number in range(2)] == [name, "web1-trioworkers:4242-2:low,high"]
    assert json.loads(encode_running(name, "low", ARCHIVE, NOW_S)) == {
        "queue": "low",
        "run_at": "2023-11-14T22:13:20Z",
        "worker": "web1-trioworkers:4242",
        "payload": {"class": "Archive", "args": [35]},
    }
    assert (ruby_time(NOW_S), iso_time(NOW_S)) == ("2023-11-14 22:13:20 +0000", "2023-11-14T22:13:20+00:00")
