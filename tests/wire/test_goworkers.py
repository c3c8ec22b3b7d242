"""The dialect of go-workers and go-workers2, by the bytes that they write and what they make of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trioworkers.errors import BadPayload
from trioworkers.outcome import Bury, Retry
from trioworkers.retry import decide
from trioworkers.wire.goworkers import GoWorkers
from trioworkers.wire.job import Job

GO = GoWorkers("prod")
NOW_S = 1_700_000_000.5
PLAIN = (
    b'{"queue":"myq","class":"Add","args":[1,2.5,"\\u003cb\\u003e \xc3\xa9"],"jid":"6a66bca974b4dd50ad42de9c",'
    b'"enqueued_at":1700000000.0699234,"at":1700000000.0699234}'
)
LATER = (
    b'{"args":["x"],"big":12345678901234567890123,"class":"Add","enqueued_at":1700000300.5,"error_message":"boom \\u003c",'
    b'"f":1.10,"failed_at":"2023-11-14 22:13:20 UTC","jid":"aaaaaaaaaaaaaaaaaaaaaaaa","queue":"prod:myq",'
    b'"retried_at":"2023-11-14 22:18:20 UTC","retry":5,"retry_count":3}'
)


def failed(payload: bytes, **options: Any) -> Any:
    job = GO.decode(payload, "myq")
    return decide(job, payload, ValueError("x"), now_s=NOW_S, jitter=0.0, dialect=GO, **options)


def test_enqueued_job_is_read():
    job = GO.decode(PLAIN, "myq")
    assert (job.jid, job.args, job.retry, job.attempt) == ("6a66bca974b4dd50ad42de9c", (1, 2.5, "<b> é"), None, 1)


def test_arguments_that_are_no_list_are_one_argument():
    assert GO.decode(b'{"class":"Add","args":{"a":1},"jid":"x","retry_count":3,"retry":true}', "q").args == ({"a": 1},)


@pytest.mark.parametrize(
    ("fields", "retry"),
    [
        ({}, None),
        ({"retry": True}, True),
        ({"retry": 5}, 5),
        ({"retry": True, "retry_max": 3}, 3),
        ({"retry": True, "retry_max": 0}, 0),
        ({"retry": False}, None),
        ({"retry": 0}, None),
        ({"retry": "yes"}, None),
    ],
)
def test_each_version_says_in_its_way_how_often_to_retry(fields: dict[str, object], retry: object):
    job = GO.decode(json.dumps({"class": "Add", "args": [], "jid": "x", **fields}).encode(), "q")
    assert (job.retry, type(job.retry)) == (retry, type(retry))


def test_retry_of_theirs_is_read_with_its_times_and_goes_to_its_queue_without_the_namespace():
    job = GO.decode(LATER, "myq")
    assert (job.retry_count, job.attempt, job.failed_at_s) == (3, 5, 1_700_000_000.0)
    assert GO.destination(LATER) == "myq"
    promoted = json.loads(GO.promoted(LATER, NOW_S))
    assert promoted["enqueued_at"] == NOW_S


def test_queue_of_another_namespace_keeps_its_name():
    assert GO.destination(LATER.replace(b"prod:", b"dev:")) == "dev:myq"
    with pytest.raises(BadPayload):
        GO.destination(b'{"class":"Add","args":[],"queue":"prod:"}')


def test_our_retry_is_one_that_go_workers_understands_and_keeps_its_numbers():
    outcome = failed(LATER)
    assert isinstance(outcome, Retry)
    assert b'"f":1.10' in outcome.payload
    assert b'"big":12345678901234567890123' in outcome.payload
    fields = json.loads(outcome.payload)
    assert (fields["retry"], fields["retry_count"], fields["queue"]) == (5, 4, "myq")
    assert (fields["failed_at"], fields["retried_at"]) == ("2023-11-14 22:13:20 UTC", "2023-11-14 22:13:20 UTC")


def test_handler_that_asks_for_retries_says_it_in_the_words_of_the_newer_version():
    fields = json.loads(failed(PLAIN, default=5).payload)
    assert (fields["retry"], fields["retry_max"], fields["failed_at"]) == (True, 5, "2023-11-14 22:13:20 UTC")


def test_job_that_says_nothing_is_not_retried_but_kept():
    assert isinstance(failed(PLAIN), Bury)


def test_dead_job_has_times_that_sidekiqs_page_can_read():
    dead = failed(LATER.replace(b'"retry_count":3', b'"retry_count":5'))
    assert isinstance(dead, Bury)
    fields = json.loads(dead.payload)
    assert (fields["failed_at"], fields["retried_at"]) == (1_700_000_000.0, NOW_S)


def test_a_job_has_one_attempt_more_than_in_sidekiq():
    payload, attempts = b'{"class":"Add","args":[],"jid":"x","retry":true}', 0
    while True:
        attempts += 1
        outcome = failed(payload)
        if isinstance(outcome, Bury):
            break
        payload = outcome.payload
    assert attempts == 27


@pytest.mark.parametrize(
    ("retry", "written"),
    [(True, {"retry": True}), (5, {"retry": True, "retry_max": 5}), (0, {"retry": 0}), (False, {"retry": False})],
)
def test_we_enqueue_what_each_version_understands(retry: bool | int, written: dict[str, object]):
    fields = json.loads(GO.encode(Job("myq", "Add", [1], retry=retry), NOW_S))
    assert {name: fields[name] for name in ("retry", "retry_max") if name in fields} == written
    assert (fields["queue"], fields["class"], fields["args"]) == ("myq", "Add", [1])
