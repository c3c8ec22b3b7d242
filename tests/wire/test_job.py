"""Payloads as Sidekiq 6.4 to 8, go-workers and foreign programs write them; and what must become of the bad ones."""

from __future__ import annotations

import copy
import json
import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import BadJob, BadPayload
from trioworkers.wire.decode import _SELDOM, decode, destination, jid_of
from trioworkers.wire.encode import addressed, amend, encode
from trioworkers.wire.job import _SAID_BY_MOST, Job
from trioworkers.wire.numbers import epoch_s

SIDEKIQ_7 = (
    b'{"retry":true,"queue":"default","class":"HardJob","args":[1,"two",{"three":[3.0,null,true]}],'
    b'"jid":"b4a577edbccf1d805744efa9","created_at":1700000000.123456,"enqueued_at":1700000000.123789}'
)
SIDEKIQ_8 = (
    '{"retry":5,"queue":"critical","tags":["eu","billing"],"args":[12345678901234567890,"naïve ☃ </b>"],'
    '"class":"Billing::ChargeJob","jid":"0f1e2d3c4b5a69788796a5b4","created_at":1700000000123,"enqueued_at":1700000000124}'
).encode()
RETRIED_8 = (
    '{"retry":10,"queue":"slow","retry_queue":"slow","backtrace":2,"class":"HardJob","args":[1],'
    '"jid":"c0ffee00c0ffee00c0ffee00","created_at":1700000000123,"enqueued_at":1700000300123,'
    '"error_message":"timeout: é","error_class":"Net::ReadTimeout","failed_at":1700000010123,"retry_count":2,'
    '"retried_at":1700000301123}'
).encode()
PRO = (
    b'{"retry":true,"queue":"default","class":"HardJob","args":[],"jid":"777777777777777777777777",'
    b'"created_at":1700000000.1,"bid":"VWYf44jVYsZARw","unique_for":600,"x-trace":{"id":"t-1","s":[1,2]},"f":1.10}'
)
FOREIGN = b'{ "class" : "HardJob" , "args" : [ "\\u00e9" ] }'
GO = (
    b'{"args":["x"],"big":12345678901234567890123,"class":"Add","enqueued_at":1700000300.5,"f":1.10,'
    b'"failed_at":"2023-11-14 22:13:20 UTC","jid":"aaaaaaaaaaaaaaaaaaaaaaaa","queue":"prod:myq","retry":5,"retry_count":3}'
)


def test_sidekiq_7_payload_is_read():
    job = decode(SIDEKIQ_7, "default")
    assert (job.job_class, job.args) == ("HardJob", (1, "two", {"three": [3.0, None, True]}))
    assert (job.jid, job.retry, job.attempt) == ("b4a577edbccf1d805744efa9", True, 1)
    assert (job.created_at_s, job.enqueued_at_s) == (1700000000.123456, 1700000000.123789)


def test_sidekiq_8_payload_has_milliseconds_big_integers_and_tags():
    job = decode(SIDEKIQ_8, "critical")
    assert job.args == (12345678901234567890, "naïve ☃ </b>")
    assert (job.created_at_s, job.tags, job.retry) == (1700000000.123, ("eu", "billing"), 5)


def test_retried_payload_tells_its_attempt():
    job = decode(RETRIED_8, "slow")
    assert (job.retry_count, job.attempt, job.failed_at_s) == (2, 4, 1700000010.123)
    assert (job.backtrace, job.retry_queue) == (2, "slow")
    assert job.extra["error_class"] == "Net::ReadTimeout"


def test_queue_is_the_list_it_lay_in_not_the_field():
    assert decode(SIDEKIQ_7, "elsewhere").queue == "elsewhere"


def test_payload_without_jid_gets_the_same_one_every_time():
    assert decode(FOREIGN, "q").jid == decode(FOREIGN, "q").jid == jid_of(FOREIGN)
    assert decode(FOREIGN, "q").retry is None


def test_go_workers_payload_with_text_times_is_read():
    job = decode(GO, "myq")
    assert (job.failed_at_s, job.retry, job.retry_count) == (None, 5, 3)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b'{"class":"HardJob","args":[1',
        b"[]",
        b"null",
        b'{"args":[]}',
        b'{"class":["A"],"args":[]}',
        b'{"class":"","args":[]}',
        b'{"class":"A","args":["\xff"]}',
        b'{"class":"A","args":["\\ud800"]}',
        b'{"class":"A","args":[NaN]}',
        b'{"class":"A","args":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b"[" * 1_000_000,
        b'\x80\x04\x95\x00{"class":"A","args":[]}',
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_bad_payload_is_told_from_a_job(payload: bytes):
    with pytest.raises(BadPayload):
        decode(payload, "q")
    assert jid_of(payload)


@pytest.mark.parametrize(
    ("field", "attribute", "value"),
    [
        (b'"retry":"5"', "retry", True),
        (b'"retry":"false"', "retry", True),
        (b'"retry":2.0', "retry", True),
        (b'"retry":[]', "retry", True),
        (b'"retry":-3', "retry", 0),
        (b'"retry":null', "retry", None),
        (b'"retry_count":"2"', "retry_count", 2),
        (b'"retry_count":2.0', "retry_count", 2),
        (b'"retry_count":"two"', "retry_count", None),
        (b'"retry_count":-7', "retry_count", -1),
        (b'"retry_queue":"low prio"', "retry_queue", "low prio"),
        (b'"retry_queue":""', "retry_queue", None),
        (b'"retry_queue":7', "retry_queue", "7"),
        (b'"retry_queue":true', "retry_queue", "true"),
        (b'"retry_queue":false', "retry_queue", None),
        (b'"retry_queue":[7]', "retry_queue", None),
        (b'"jid":42', "jid", "42"),
        (b'"jid":"' + b"x" * 255 + b'"', "jid", "x" * 255),
        (b'"failed_at":"yesterday"', "failed_at_s", None),
        (b'"retry_for":"5"', "retry_for", None),
    ],
)
def test_what_is_odd_means_what_it_means_to_sidekiq(field: bytes, attribute: str, value: object):
    job = decode(b'{"class":"A","args":[],' + field + b"}", "q")
    assert getattr(job, attribute) == value
    assert type(getattr(job, attribute)) is type(value)


@pytest.mark.parametrize(
    ("args", "splat"),
    [(b"null", ()), (b'"abc"', ("abc",)), (b"7", (7,)), (b'{"a":1,"b":[2]}', (["a", 1], ["b", [2]])), (b"{}", ())],
)
def test_arguments_that_are_no_list_are_splatted_as_ruby_does(args: bytes, splat: tuple[object, ...]):
    assert decode(b'{"class":"A","args":' + args + b"}", "q").args == splat


def test_job_without_arguments_runs_with_none():
    assert decode(b'{"class":"A"}', "q").args == ()


@pytest.mark.parametrize("jid", [b'""', b"null", b"true", b"1.5", b"[1]", b'{"a":1}'])
def test_what_is_no_jid_gives_way_to_one_that_stays(jid: bytes):
    payload = b'{"class":"A","args":[1],"jid":' + jid + b"}"
    job = decode(payload, "q")
    assert len(job.jid) == 24
    assert decode(addressed(payload, "q", job.jid), "q").jid == job.jid
    assert decode(amend(payload, {"retry_count": 1}, jid=job.jid), "q").jid == job.jid
    assert decode(b'{"class":"A","args":[2],"jid":' + jid + b"}", "q").jid != job.jid


@pytest.mark.parametrize("jid", [b"42", b'"' + b"x" * 5000 + b'"', b'"same"'])
def test_a_jid_of_any_kind_keeps_its_spelling_and_the_job_its_name(jid: bytes):
    payload = b'{"class":"A","args":[],"queue":"q","jid":' + jid + b"}"
    job = decode(payload, "q")
    assert 0 < len(job.jid) <= 255
    assert addressed(payload, "q", job.jid) == payload
    amended = amend(payload, {"retry_count": 1}, jid=job.jid)
    assert b'"jid":' + jid in amended
    assert decode(amended, "q").jid == jid_of(amended) == job.jid


def test_amending_leaves_every_other_byte_alone():
    amended = amend(GO, {"retry_count": 4, "failed_at": None})
    assert b'"f":1.10' in amended
    assert b'"big":12345678901234567890123' in amended
    assert b"failed_at" not in amended
    assert json.loads(amended)["retry_count"] == 4


def test_amending_nothing_keeps_compact_payloads_byte_for_byte():
    for payload in (SIDEKIQ_7, SIDEKIQ_8, RETRIED_8, PRO, GO):
        assert amend(payload, {}) == payload


def test_encoded_job_is_what_ruby_would_write():
    job = Job("solved", "SolvedPuzzleJob", ["é☃\u2028</b>", 10**30], jid="a" * 24, tags=("x",))
    assert encode(job, 1700000000.5).decode() == (
        '{"retry":true,"queue":"solved","tags":["x"],"class":"SolvedPuzzleJob","args":["é☃\u2028</b>",'
        + str(10**30)
        + '],"jid":"aaaaaaaaaaaaaaaaaaaaaaaa","created_at":1700000000.5,"enqueued_at":1700000000.5}'
    )


def test_scheduled_job_has_no_enqueued_at():
    assert b"enqueued_at" not in encode(Job("q", "A", []), 1.5, enqueued=False)


@pytest.mark.parametrize("args", [[float("nan")], [float("inf")], [{1: 2}], [object], [{3.5: 1}]], ids=repr)
def test_arguments_without_a_form_in_json_are_refused(args: list[object]):
    with pytest.raises(BadJob):
        encode(Job("q", "A", args), 1.0)


def test_arguments_too_deep_for_ruby_are_refused():
    nested: list[object] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(BadJob, match="100 levels"):
        encode(Job("q", "A", nested), 1.0)


@pytest.mark.parametrize(
    "job",
    [
        Job("a\nb", "A", []),
        Job("q" * 1025, "A", []),
        Job("", "A", []),
        Job("q", "", []),
        Job("q", "A", [], jid="x" * 65),
    ],
    ids=["control", "long", "empty", "class", "jid"],
)
def test_names_that_cannot_be_keys_are_refused(job: Job):
    with pytest.raises(BadJob):
        encode(job, 1.0)


def test_string_as_arguments_is_a_mistake():
    with pytest.raises(BadJob):
        Job("q", "A", "abc")


def test_destination_is_the_payloads_own_queue():
    assert destination(SIDEKIQ_8) == "critical"
    assert destination(FOREIGN) == "default"


@pytest.mark.parametrize(
    ("queue", "name"),
    [
        (b'"low prio"', "low prio"),
        ('"über"'.encode(), "über"),
        (b"42", "42"),
        (b"1.10", "1.10"),
        (b"true", "true"),
        (b"null", "default"),
    ],
)
def test_any_name_is_a_destination(queue: bytes, name: str):
    for rest in (b'"class":"A","args":[]', b'"class":7', b'"args":"x","jid":[]', b'"n":' + b"9" * 5000, b'"n":1e999'):
        assert destination(b'{"queue":' + queue + b"," + rest + b"}") == name


@pytest.mark.parametrize(
    "payload", [b'{"queue":""}', b'{"queue":[]}', b'{"queue":{}}', b'{"queue":"\\ud800"}', b"[]", b"x"]
)
def test_what_names_no_queue_has_no_destination(payload: bytes):
    with pytest.raises(BadPayload):
        destination(payload)


def test_epoch_tells_milliseconds_from_seconds():
    assert epoch_s(1700000000123) == 1700000000.123
    assert epoch_s(1700000000.5) == 1700000000.5
    assert epoch_s(1700000000) == 1700000000.0
    assert epoch_s("2023-11-14 22:13:20 UTC") is None
    assert epoch_s(True) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(args=st.lists(json_values, max_size=5), extra=st.dictionaries(st.text(min_size=1), json_values, max_size=4))
def test_decoding_what_was_encoded_gives_the_same_job(args: list[object], extra: dict[str, object]):
    taken = {"class", "args", "queue", "retry", "created_at", "enqueued_at", *_SELDOM}
    extra = {f"x{name}" if name in taken or name == "jid" else name: value for name, value in extra.items()}
    job = Job("q", "A", args, extra=extra)
    back = decode(encode(job, 1700000000.5), "q")
    assert (back.args, back.extra, back.jid) == (job.args, job.extra, job.jid)


@given(fields=st.dictionaries(st.text(), json_values, max_size=6))
def test_amending_keeps_fields_that_we_do_not_know(fields: dict[str, object]):
    payload = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        amended = amend(payload, {"retry_count": 1})
    except BadPayload:  # a lone surrogate has no UTF-8
        return
    assert json.loads(amended) == json.loads(payload) | {"retry_count": 1}


def test_what_jobs_share_when_they_have_none_of_it_cannot_be_written_to():
    first, second = Job("q", "A"), Job("q", "B")
    for name in ("extra", "kwargs", "failed_calls", "active_job_fields"):
        with pytest.raises(TypeError, match="evolve"):
            getattr(first, name)["x"] = 1
        with pytest.raises(TypeError, match="evolve"):
            getattr(first, name).update(x=1)
        assert getattr(second, name) == {}


def test_a_job_can_be_copied_and_pickled_and_is_frozen():
    job = Job("q", "A", [1], extra={"x": 1})
    assert copy.deepcopy(job) == pickle.loads(pickle.dumps(job)) == job
    with pytest.raises(AttributeError):
        job.queue = "other"  # type: ignore[misc]


def test_plain_job_says_no_more_than_most():
    """What is looked for in jobs that say more isn't looked for in it."""
    assert vars(decode(SIDEKIQ_7, "default")).keys() == _SAID_BY_MOST
    assert not decode(SIDEKIQ_7, "default").may_say_more
    for payload in (SIDEKIQ_8, RETRIED_8, PRO, GO):
        assert decode(payload, "q").may_say_more
    assert attrs.evolve(decode(SIDEKIQ_7, "q")).may_say_more


@pytest.mark.parametrize(
    "payload", [SIDEKIQ_7, SIDEKIQ_8, RETRIED_8, PRO, FOREIGN, GO], ids=["7", "8", "retry", "pro", "foreign", "go"]
)
def test_job_that_was_read_is_like_one_that_was_made(payload):
    """It has of its own only what the payload says, all else from its class."""
    read = decode(payload, "q")
    made = attrs.evolve(read)
    assert vars(read).keys() < vars(made).keys() == {field.name for field in attrs.fields(Job)}
    assert (read, repr(read)) == (made, repr(made))
    assert pickle.loads(pickle.dumps(read)) == copy.copy(read) == made
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read.retry = False
