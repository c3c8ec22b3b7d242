"""ActiveJob's payloads as Rails 5.2 to 8.1 write them, and ours as they read them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import BadJob, GlobalID, Job, Range, Symbol
from trioworkers.errors import BadPayload
from trioworkers.wire.active_job import count_execution
from trioworkers.wire.decode import decode, jid_of
from trioworkers.wire.encode import amend, encode
from trioworkers.wire.ruby_values import from_ruby, to_ruby
from trioworkers.wire.wrappers import WRAPPER

SERIALIZER = "ActiveJob::Serializers::"
NEW_YORK = ZoneInfo("America/New_York")
TOO_LATE = datetime.max.replace(tzinfo=timezone(timedelta(seconds=-30)))

RAILS_5_2 = (
    b'{"retry":true,"queue":"default","class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper","wrapped":"ExportJob",'
    b'"args":[{"job_class":"ExportJob","job_id":"9ed89dfb-43c1-4f2f-93d9-0f8aef88f44f","provider_job_id":null,'
    b'"queue_name":"default","priority":null,"arguments":[1,{"limit":2,"_aj_symbol_keys":["limit"]}],"executions":0,'
    b'"locale":"en"}],"jid":"e8d935c61525a56ea6735bd2","created_at":1700000000.35,"enqueued_at":1700000000.351}'
)
RAILS_6_1 = (
    b'{"retry":true,"queue":"mailers","class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper","wrapped":"WelcomeJob",'
    b'"args":[{"job_class":"WelcomeJob","job_id":"cb70534e-2cc2-44dc-b1f0-151643e86e45","provider_job_id":null,'
    b'"queue_name":"mailers","priority":null,"arguments":[7,{"_aj_serialized":"ActiveJob::Serializers::SymbolSerializer",'
    b'"value":"now"},{"_aj_globalid":"gid://shop/User/7"}],"executions":0,"exception_executions":{},"locale":"en",'
    b'"timezone":"America/New_York","enqueued_at":"2023-11-14T22:13:20Z"}],"jid":"e8d935c61525a56ea6735bd2",'
    b'"created_at":1700000000.35,"enqueued_at":1700000000.351}'
)
RAILS_7_2_SIDEKIQ_8 = (
    b'{"retry":true,"queue":"default","wrapped":"ExportJob","args":[{"job_class":"ExportJob",'
    b'"job_id":"9ed89dfb-43c1-4f2f-93d9-0f8aef88f44f","provider_job_id":null,"queue_name":"default","priority":3,'
    b'"arguments":[{"since":{"_aj_serialized":"ActiveJob::Serializers::TimeWithZoneSerializer",'
    b'"value":"2023-11-01T00:00:00.000000000-04:00","time_zone":"America/New_York"},"limit":100,'
    b'"_aj_ruby2_keywords":["since","limit"]}],"executions":0,"exception_executions":{},"locale":"de","timezone":null,'
    b'"enqueued_at":"2023-11-14T22:13:20.247789959Z","scheduled_at":"2023-11-14T23:13:20.000000000Z"}],'
    b'"class":"Sidekiq::ActiveJob::Wrapper","jid":"4ebf34de7bde848c52130ab8","created_at":1700000000247}'
)
RAILS_7_1_SECOND_EXECUTION = (
    b'{"retry":true,"queue":"default","wrapped":"ExportJob","args":[{"job_class":"ExportJob",'
    b'"job_id":"9ed89dfb-43c1-4f2f-93d9-0f8aef88f44f","provider_job_id":"4ebf34de7bde848c52130ab8","queue_name":"default",'
    b'"priority":null,"arguments":[1.10],"executions":1,"exception_executions":{"[ArgumentError]":1},"locale":"en",'
    b'"timezone":null,"enqueued_at":"2023-11-14T22:13:50.786122994Z","scheduled_at":"2023-11-14T22:13:57.785999620Z"}],'
    b'"class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper","jid":"0c155b1430c910e4f0d41ca9","created_at":1700000030.786}'
)
RAILS_8_1_CONTINUABLE = (
    b'{"retry":5,"queue":"imports","wrapped":"ImportJob","args":[{"job_class":"ImportJob","job_id":"1","arguments":[],'
    b'"executions":0,"exception_executions":{},"continuation":{"completed":["a"],"current":["b",7]},"resumptions":1}],'
    b'"class":"Sidekiq::ActiveJob::Wrapper","jid":"4ebf34de7bde848c52130ab8","created_at":1700000000247}'
)
MINIMAL = (
    b'{"class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper","wrapped":"MyJob","queue":"default","retry":true,'
    b'"jid":"abcdefabcdefabcdefabcdef","args":[{"job_class":"MyJob","queue_name":"default","arguments":[1]}]}'
)
MAILER = (
    b'{"retry":true,"queue":"mailers","class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper",'
    b'"wrapped":"ActionMailer::MailDeliveryJob","args":[{"job_class":"ActionMailer::MailDeliveryJob","arguments":["UserMailer",'
    b'"welcome","deliver_now",{"args":[{"_aj_globalid":"gid://shop/User/7"}],"_aj_ruby2_keywords":["args"]}]}],"jid":"j"}'
)


@pytest.mark.parametrize(
    ("payload", "job_class", "args", "kwargs"),
    [
        (RAILS_5_2, "ExportJob", (1, {"limit": 2}), {}),
        (RAILS_6_1, "WelcomeJob", (7, "now", GlobalID("gid://shop/User/7")), {}),
        (
            RAILS_7_2_SIDEKIQ_8,
            "ExportJob",
            (),
            {"since": datetime(2023, 11, 1, tzinfo=NEW_YORK), "limit": 100},
        ),
        (RAILS_7_1_SECOND_EXECUTION, "ExportJob", (1.1,), {}),
        (RAILS_8_1_CONTINUABLE, "ImportJob", (), {}),
        (MINIMAL, "MyJob", (1,), {}),
        (
            MAILER,
            "ActionMailer::MailDeliveryJob",
            ("UserMailer", "welcome", "deliver_now"),
            {"args": [GlobalID("gid://shop/User/7")]},
        ),
    ],
    ids=["5.2", "6.1", "7.2 Sidekiq 8", "7.1 second execution", "8.1", "minimal", "mailer"],
)
def test_wrapped_job_is_read_as_what_it_is(
    payload: bytes, job_class: str, args: tuple[Any, ...], kwargs: dict[str, Any]
):
    job = decode(payload, "q")
    assert (job.job_class, job.args, job.kwargs, job.active_job) == (job_class, args, kwargs, True)
    assert job.jid == json.loads(payload)["jid"] == jid_of(payload)
    assert "wrapped" not in job.extra


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ({"_aj_serialized": f"{SERIALIZER}DateSerializer", "value": "2024-01-02"}, date(2024, 1, 2)),
        (
            {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-01-02T03:04:05.678901999Z"},
            datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        ),
        (
            {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-01-02T03:04:05+02:00"},
            datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        ),
        (
            {"_aj_serialized": f"{SERIALIZER}DateTimeSerializer", "value": "2024-01-02T03:04:05.000000000+00:00"},
            datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        (
            {"_aj_serialized": f"{SERIALIZER}TimeWithZoneSerializer", "value": "2024-07-01T00:00:00-04:00"},
            datetime(2024, 7, 1, 4, tzinfo=UTC),
        ),
        (
            {
                "_aj_serialized": f"{SERIALIZER}DurationSerializer",
                "value": 93600,
                "parts": [[{"_aj_serialized": f"{SERIALIZER}SymbolSerializer", "value": "days"}, 1]],
            },
            timedelta(days=1, hours=2),
        ),
        ({"_aj_serialized": f"{SERIALIZER}DurationSerializer", "value": 0.25, "parts": []}, timedelta(seconds=0.25)),
        ({"_aj_serialized": f"{SERIALIZER}ModuleSerializer", "value": "Shop::User"}, "Shop::User"),
        (
            {"_aj_serialized": f"{SERIALIZER}RangeSerializer", "begin": 1, "end": None, "exclude_end": False},
            Range(1, None),
        ),
        (
            {
                "_aj_serialized": f"{SERIALIZER}RangeSerializer",
                "begin": {"_aj_serialized": f"{SERIALIZER}DateSerializer", "value": "2024-01-02"},
                "end": {"_aj_serialized": f"{SERIALIZER}DateSerializer", "value": "2024-01-03"},
                "exclude_end": True,
            },
            Range(date(2024, 1, 2), date(2024, 1, 3), exclude_end=True),
        ),
        ({"_aj_serialized": f"{SERIALIZER}BigDecimalSerializer", "value": "1.50"}, Decimal("1.50")),
        ({"x": 1, "_aj_hash_with_indifferent_access": True}, {"x": 1}),
        (
            {"a": 1, "b": {"c": [2], "_aj_symbol_keys": ["c"]}, "_aj_symbol_keys": ["b"]},
            {"a": 1, "b": {"c": [2]}},
        ),
        ({"_aj_globalid": "gid://shop/User/7", "more": 1}, {"_aj_globalid": "gid://shop/User/7", "more": 1}),
        ([None, True, 2.5, [1, [2]]], [None, True, 2.5, [1, [2]]]),
    ],
    ids=repr,
)
def test_rubys_value_becomes_pythons(encoded: Any, value: Any):
    assert from_ruby(encoded) == value
    assert type(from_ruby(encoded)) is type(value)


def test_moment_of_a_zone_keeps_its_zone():
    (since,) = (decode(RAILS_7_2_SIDEKIQ_8, "q").kwargs["since"],)
    assert since.tzinfo.key == "America/New_York"
    assert since + timedelta(days=10) == datetime(2023, 11, 11, tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    "encoded",
    [
        {"_aj_serialized": "MoneySerializer", "cents": 100, "currency": "EUR"},
        {"_aj_serialized": f"{SERIALIZER}DateSerializer", "value": "12000-01-01"},
        {"_aj_serialized": f"{SERIALIZER}DateSerializer"},
        {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-01-02"},
        {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": 7},
        {"_aj_serialized": f"{SERIALIZER}DurationSerializer", "value": 1e300},
        {"_aj_serialized": f"{SERIALIZER}DurationSerializer", "value": [1]},
        {"_aj_serialized": f"{SERIALIZER}SymbolSerializer", "value": 7},
        {"_aj_serialized": f"{SERIALIZER}BigDecimalSerializer", "value": "much"},
        {"_aj_serialized": ["x"]},
        {"_aj_serialized": {"x": 1}, "a": 1},
    ],
    ids=repr,
)
def test_what_python_has_no_value_for_stays_a_dict_and_goes_back_as_it_came(encoded: dict[str, Any]):
    assert from_ruby(encoded) == encoded
    assert to_ruby(from_ruby(encoded)) == encoded


@pytest.mark.parametrize(
    "uri", ["", "gid://", "gid://shop", "gid://shop/User", "http://shop/User/7", 7, None, "gid://[/a/b"]
)
def test_global_id_that_is_none_is_refused_and_arrives_as_it_came(uri: Any):
    with pytest.raises(ValueError, match=r"."):
        GlobalID(uri)
    assert from_ruby({"_aj_globalid": uri}) == {"_aj_globalid": uri}


def test_global_id_tells_app_model_and_id():
    gid = GlobalID("gid://shop/Billing::Invoice/a%2Fb+c?x=1")
    assert (gid.app, gid.model, gid.id) == ("shop", "Billing::Invoice", "a/b c")
    assert GlobalID("gid://shop/Row/1/2").id == "1/2"
    assert GlobalID.of("shop", "User", 7) == GlobalID("gid://shop/User/7")
    assert GlobalID.of("shop", "User", "a/b c").id == "a/b c"


@pytest.mark.parametrize(
    "args",
    [
        [],
        [1],
        ["x"],
        [{"job_class": 7, "arguments": []}],
        [{"arguments": []}],
        [{"job_class": "A", "arguments": {"a": 1}}],
        [{"job_class": "A", "arguments": []}, 2],
    ],
    ids=repr,
)
def test_wrapper_around_no_job_is_told_from_a_job(args: list[Any]):
    payload = json.dumps({"class": WRAPPER, "args": args, "jid": "j"}).encode()
    with pytest.raises(BadPayload, match="ActiveJob"):
        decode(payload, "q")


def test_arguments_nested_too_deep_are_told_from_a_job():
    deep = b'{"class":"%b","args":[{"job_class":"A","arguments":[%b]}]}' % (WRAPPER.encode(), b"[" * 900 + b"]" * 900)
    with pytest.raises(BadPayload):
        decode(deep, "q")


# ── what we write ──────────────────────────────────────────────────────────────────────────────────────────────────────


def written(*args: Any, **kwargs: Any) -> dict[str, Any]:
    job = Job("rails", "EchoJob", args, kwargs=kwargs, active_job=True, jid="a" * 24)
    return json.loads(encode(job, 1700000000.5))


def test_written_job_has_all_that_any_rails_asks_for():
    outer = written(1)
    inner = outer["args"][0]
    assert (outer["class"], outer["wrapped"], outer["retry"], outer["jid"]) == (WRAPPER, "EchoJob", True, "a" * 24)
    assert {
        key: inner[key] for key in ("job_class", "queue_name", "arguments", "executions", "exception_executions")
    } == {
        "job_class": "EchoJob",
        "queue_name": "rails",
        "arguments": [1],
        "executions": 0,
        "exception_executions": {},
    }
    assert inner["enqueued_at"] == "2023-11-14T22:13:20.500000000Z"
    assert (inner["locale"], inner["timezone"], inner["provider_job_id"], inner["priority"]) == (None, None, None, None)


def test_written_job_has_one_uuid_however_often_it_is_encoded():
    first, second = written(1)["args"][0]["job_id"], written(1)["args"][0]["job_id"]
    assert first == second
    assert first[14] == "4"
    other = encode(Job("q", "A", active_job=True), 1.0)
    assert json.loads(other)["args"][0]["job_id"] != first


def test_active_jobs_own_fields_can_be_given():
    job = Job("q", "A", [1], active_job=True, active_job_fields={"locale": "de", "priority": 3, "job_id": "x"})
    inner = json.loads(encode(job, 1.0))["args"][0]
    assert (inner["locale"], inner["priority"], inner["job_id"], inner["arguments"]) == ("de", 3, "x", [1])


def test_keyword_arguments_travel_as_rubys():
    arguments = written(1, limit=2, since=date(2024, 1, 2))["args"][0]["arguments"]
    encoded_date = {"_aj_serialized": f"{SERIALIZER}DateSerializer", "value": "2024-01-02"}
    assert arguments == [1, {"limit": 2, "since": encoded_date, "_aj_ruby2_keywords": ["limit", "since"]}]


def test_keyword_arguments_need_active_job():
    with pytest.raises(BadJob, match="active_job=True"):
        encode(Job("q", "A", kwargs={"a": 1}), 1.0)


@attrs.frozen
class Point:
    at: datetime
    who: GlobalID


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (Symbol("now"), {"_aj_serialized": f"{SERIALIZER}SymbolSerializer", "value": "now"}),
        ({"a": 1, Symbol("b"): 2}, {"a": 1, "b": 2, "_aj_symbol_keys": ["b"]}),
        (
            datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-01-02T03:04:05.000006000Z"},
        ),
        (
            datetime(2024, 7, 1, tzinfo=NEW_YORK),
            {
                "_aj_serialized": f"{SERIALIZER}TimeWithZoneSerializer",
                "value": "2024-07-01T00:00:00.000000000-04:00",
                "time_zone": "America/New_York",
            },
        ),
        (
            datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-07-01T00:00:00.000000000+05:30"},
        ),
        (
            datetime(2024, 7, 1, tzinfo=timezone(timedelta(seconds=90))),
            {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-06-30T23:58:30.000000000+00:00"},
        ),
        (
            timedelta(minutes=5),
            {
                "_aj_serialized": f"{SERIALIZER}DurationSerializer",
                "value": 300,
                "parts": [[{"_aj_serialized": f"{SERIALIZER}SymbolSerializer", "value": "seconds"}, 300]],
            },
        ),
        (timedelta(), {"_aj_serialized": f"{SERIALIZER}DurationSerializer", "value": 0, "parts": []}),
        (Decimal("1.50"), "1.50"),
        (
            Point(datetime(2024, 1, 2, tzinfo=UTC), GlobalID("gid://a/B/1")),
            {
                "at": {"_aj_serialized": f"{SERIALIZER}TimeSerializer", "value": "2024-01-02T00:00:00.000000000Z"},
                "who": {"_aj_globalid": "gid://a/B/1"},
                "_aj_symbol_keys": [],
            },
        ),
        ((1, [2]), [1, [2]]),
    ],
    ids=repr,
)
def test_pythons_value_is_written_as_active_job_does(value: Any, encoded: Any):
    assert written(value)["args"][0]["arguments"] == [encoded]


def test_moment_without_a_zone_is_local_time():
    moment = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - it is the point
    assert from_ruby(to_ruby(moment)) == moment.astimezone()


@pytest.mark.parametrize(
    "value",
    [float("nan"), Decimal("NaN"), {1: 2}, {"_aj_symbol_keys": []}, {"_aj_globalid": "x"}, object(), TOO_LATE],
    ids=lambda value: type(value).__name__,
)
def test_value_without_a_form_in_active_job_is_refused(value: Any):
    with pytest.raises(BadJob):
        written(value)


def test_endless_argument_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadJob, match="deep"):
        written(endless)


# ── round trips ────────────────────────────────────────────────────────────────────────────────────────────────────────

names = st.text(min_size=1).filter(lambda name: not name.startswith("_aj_"))
zones = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), NEW_YORK, ZoneInfo("Asia/Kathmandu")])
moments = st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1), timezones=zones, allow_imaginary=False)  # noqa: DTZ001
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | moments
    | st.dates()
    | st.timedeltas(timedelta(days=-9999), timedelta(days=9999))
    | st.builds(GlobalID.of, st.just("shop"), st.just("A::B"), st.text(min_size=1))
    | st.builds(Range, moments | st.integers() | st.none(), moments | st.integers() | st.none(), st.booleans())
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=15
)


@given(args=st.lists(values, max_size=4), kwargs=st.dictionaries(names, values, max_size=3))
def test_what_was_written_is_read_again(args: list[Any], kwargs: dict[str, Any]):
    job = Job("q", "A", args, kwargs=kwargs, active_job=True)
    back = decode(encode(job, 1700000000.5), "q")
    assert (back.args, back.kwargs, back.job_class, back.jid) == (job.args, kwargs, "A", job.jid)
    again = decode(encode(back, 1700000000.5), "q")
    assert attrs.evolve(again, enqueued_at_s=None) == attrs.evolve(back, enqueued_at_s=None)


# ── executions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "payload", [RAILS_5_2, RAILS_6_1, RAILS_7_2_SIDEKIQ_8, RAILS_7_1_SECOND_EXECUTION, RAILS_8_1_CONTINUABLE]
)
def test_one_more_execution_changes_that_number_and_no_other_byte(payload: bytes):
    before = json.loads(payload)["args"][0]["executions"]
    counted = amend(payload, count_execution(payload))
    assert counted == payload.replace(b'"executions":%d' % before, b'"executions":%d' % (before + 1))


def test_execution_of_a_minimal_job_is_counted_from_nothing():
    counted = amend(MINIMAL, count_execution(MINIMAL))
    assert json.loads(counted)["args"][0] == {
        "job_class": "MyJob",
        "queue_name": "default",
        "arguments": [1],
        "executions": 1,
    }


@pytest.mark.parametrize("executions", [b'"many"', b"1.5", b"[]"])
def test_count_that_is_no_number_is_left_alone(executions: bytes):
    payload = RAILS_6_1.replace(b'"executions":0', b'"executions":' + executions)
    assert amend(payload, count_execution(payload)) == payload


@pytest.mark.parametrize("wrapped", ["ExportJob", None, 7])
@pytest.mark.parametrize("args", [["BAhJIg=="], [{"job_class": "ExportJob", "arguments": [1]}], [], ["a", "b"]])
def test_wrapper_with_an_encrypted_argument_is_a_job_of_the_class_that_it_names(wrapped: object, args: list[object]):
    payload = json.dumps({"class": WRAPPER, "wrapped": wrapped, "args": args, "jid": "j", "encrypt": True}).encode()
    job = decode(payload, "q")
    assert job.job_class == (wrapped if wrapped == "ExportJob" else WRAPPER)
    assert job.extra["encrypt"] is True
    assert not job.active_job
