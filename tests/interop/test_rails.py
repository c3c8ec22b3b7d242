"""Against Rails' real ActiveJob under a real Sidekiq: what it enqueues runs here, what we enqueue runs there."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
from servers import wait_for
from shop import Shop, ruby_has

from trioworkers import Client, GlobalID, Job, Range, Symbol

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not ruby_has("sidekiq", "active_job"),
        reason="Ruby's ActiveJob is missing (Debian: ruby-activejob, ruby-sidekiq)",
    ),
]


def enqueue(shop: Shop, job: Job) -> str:
    async def send() -> None:
        async with Client(shop.server.url) as client:
            await client.enqueue(job)

    trio.run(send)
    return job.jid


def retry_of(shop: Shop, jid: str) -> dict[str, Any]:
    """The job's payload in the retry set; waits until it is there."""
    found: dict[str, Any] = {}

    def is_there() -> bool:
        members = shop.server.command("ZRANGE", "retry", 0, -1)
        assert isinstance(members, list)
        found.update({job["jid"]: job for job in map(json.loads, members)})
        return jid in found

    wait_for(is_there, "it is in the retry set")
    job = found[jid]
    assert isinstance(job, dict)
    return job


def retry_now(shop: Shop, jid: str) -> None:
    shop.ruby(f"Sidekiq::RetrySet.new.find_job('{jid}').retry")


# ── from Ruby ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ruby", "python"),
    [
        ("nil, true, 2**70, 2.5, 'é☃'", "None, True, 1180591620717411303424, 2.5, 'é☃'"),
        (":now, [:a, [:b]]", "'now', ['a', ['b']]"),
        ("Date.new(2024, 1, 2)", "datetime.date(2024, 1, 2)"),
        (
            "Time.utc(2024, 1, 2, 3, 4, 5, 678901.5r)",
            "datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)",
        ),
        (
            "Time.new(2024, 1, 2, 3, 4, 5, '+05:30')",
            "datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(seconds=19800)))",
        ),
        ("DateTime.new(2024, 1, 2)", "datetime.datetime(2024, 1, 2, 0, 0, tzinfo=datetime.timezone.utc)"),
        ("1.day + 2.hours, 0.seconds", "datetime.timedelta(days=1, seconds=7200), datetime.timedelta(0)"),
        ("1.month", "datetime.timedelta(days=30, seconds=37746)"),
        ("String, ActiveJob::Base", "'String', 'ActiveJob::Base'"),
        ("User.new(7)", "GlobalID(uri='gid://shop/User/7')"),
        ("{'a' => 1, b: {c: [:d]}}, 0", "{'a': 1, 'b': {'c': ['d']}}, 0"),
        ("{x: 1}.with_indifferent_access", "{'x': 1}"),
    ],
)
def test_argument_of_perform_later_arrives_as_pythons_value(shop: Shop, ruby: str, python: str):
    jid = shop.ruby(f"AnythingJob.perform_later({ruby}).provider_job_id")
    ran = shop.ran_in_python(jid)
    assert (ran["class"], ran["args"], ran["kwargs"]) == ("AnythingJob", f"[{python}]", "{}")


@pytest.mark.parametrize(
    ("ruby", "since", "python", "before"),
    [
        (
            "Time.zone.local(2024, 7, 1)",
            "7.0",
            "datetime.datetime(2024, 7, 1, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='America/New_York'))",
            "datetime.datetime(2024, 7, 1, 0, 0, tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=72000)))",
        ),
        ("1..3", "7.0", "Range(begin=1, end=3, exclude_end=False)", None),
        ("(Date.new(2024)...nil)", "7.0", "Range(begin=datetime.date(2024, 1, 1), end=None, exclude_end=True)", None),
        ("BigDecimal('1.5')", "7.2", "Decimal('1.5')", "'0.15e1'"),
    ],
)
def test_argument_that_only_newer_rails_knows(shop: Shop, ruby: str, since: str, python: str, before: str | None):
    expected = python if shop.ruby(f"ActiveJob.version >= Gem::Version.new('{since}')") else before
    if expected is None:
        with pytest.raises(AssertionError, match="Unsupported argument type"):
            shop.ruby(f"AnythingJob.perform_later({ruby})")
        return
    assert (
        shop.ran_in_python(shop.ruby(f"AnythingJob.perform_later({ruby}).provider_job_id"))["args"] == f"[{expected}]"
    )


def test_keyword_arguments_of_perform_later_are_bound_by_name_and_converted(shop: Shop):
    code = (
        "TrackUserJob.perform_later(User.new(7), email: 'z@x', born: Date.new(1970, 1, 2), balance: BigDecimal('1.50'))"
    )
    ran = shop.ran_in_python(shop.ruby(f"{code}.provider_job_id"))
    assert ran["args"] == "[GlobalID(uri='gid://shop/User/7'), 'z@x']"
    assert ran["kwargs"] == "{'born': datetime.date(1970, 1, 2), 'balance': Decimal('1.5')}"


def test_job_that_waits_is_run_when_it_is_due(shop: Shop):
    jid = shop.ruby("AnythingJob.set(wait: 0.2.seconds).perform_later(1).provider_job_id")
    assert shop.ran_in_python(jid)["args"] == "[1]"


def test_wrong_keyword_argument_is_told_on_the_dead_job(shop: Shop):
    jid = shop.ruby("TrackUserJob.perform_later(User.new(7), email: 'z@x', born: 7).provider_job_id")
    wait_for(lambda: shop.ruby(f"!Sidekiq::DeadSet.new.find_job('{jid}').nil?"), "it is dead")
    dead = shop.ruby(f"Sidekiq::DeadSet.new.find_job('{jid}').item")
    assert "TrackUserJob: keyword argument born: expected date | null, got int" in dead["error_message"]
    assert shop.ruby(f"Sidekiq::DeadSet.new.find_job('{jid}').display_class") == "TrackUserJob"


@pytest.mark.parametrize(
    "code",
    [
        "SecretJob.perform_later({'card' => '4711'}).provider_job_id",
        "SecretJob.set(wait: 0.2.seconds).perform_later(1).provider_job_id",
        "Sidekiq::Client.push('class' => 'Any', 'queue' => 'python', 'encrypt' => true, 'args' => [1, {'card' => '4711'}])",
    ],
)
def test_encrypted_job_is_put_where_it_is_not_run_and_says_why_as_often_as_it_is_tried(shop: Shop, code: str):
    jid = shop.ruby(code)
    find, died_at = f"Sidekiq::DeadSet.new.find_job('{jid}')", None
    for _ in range(2):
        wait_for(lambda: shop.ruby(f"{find}&.score") not in (None, died_at), "it is dead")  # noqa: B023 - called at once
        died_at, dead = shop.ruby(f"{find}.score"), shop.ruby(f"{find}.item")
        assert "encrypted by Sidekiq Enterprise" in dead["error_message"]
        assert dead["args"][-1] == "BHNlY3JldA=="
        shop.ruby(f"{find}.retry")
    wait_for(lambda: shop.ruby(f"{find}&.score") not in (None, died_at), "it is dead again")


# ── to Ruby ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, ["NilClass", "nil"]),
        (2**70, ["Integer", str(2**70)]),
        ("é☃", ["String", '"é☃"']),
        (Symbol("now"), ["Symbol", ":now"]),
        ([1, (Symbol("a"),)], [["Integer", "1"], [["Symbol", ":a"]]]),
        ({"a": 1, Symbol("b"): 2}, [[["String", '"a"'], ["Integer", "1"]], [["Symbol", ":b"], ["Integer", "2"]]]),
        (date(2024, 1, 2), ["Date", "Tue, 02 Jan 2024"]),
        (datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), ["Time", "2024-01-02T03:04:05.678901Z"]),
        (
            datetime(2024, 7, 1, tzinfo=ZoneInfo("America/New_York")),
            ["TimeWithZone", "2024-07-01T00:00:00.000000-04:00"],
        ),
        (timedelta(days=1, hours=2), ["Duration", "93600"]),
        (timedelta(milliseconds=-1500), ["Duration", "-1.5"]),
        (timedelta(), ["Duration", "0"]),
        (Decimal("1.50"), ["String", '"1.50"']),
        (GlobalID("gid://shop/User/7"), ["User", "7"]),
    ],
    ids=repr,
)
def test_our_argument_arrives_as_rubys_value(shop: Shop, value: Any, got: Any):
    ran = shop.ran_in_ruby(enqueue(shop, Job("rails", "EchoJob", [value], active_job=True)))
    assert (ran["class"], ran["args"], ran["kwargs"]) == ("EchoJob", [got], [])


def test_periodic_job_of_ours_is_run_by_ruby(shop: Shop):
    async def send() -> None:
        async with Client(shop.server.url) as client:
            job = Job("rails", "EchoJob", [date(2024, 1, 2)], kwargs={"who": Symbol("me")}, active_job=True)
            await client.periodic("echo", "@every 1s", job)

    trio.run(send)
    wait_for(lambda: shop.server.command("HLEN", "tw:runs:echo") >= 2, "a worker sends it")  # type: ignore[operator]
    shop.server.command("ZREM", "tw:cron", "echo")
    runs = [shop.ran_in_ruby(str(jid)) for jid in shop.server.command("HKEYS", "tw:runs:echo")]  # type: ignore[union-attr]
    for ran in runs:
        assert ran["args"] == [["Date", "Tue, 02 Jan 2024"]]
        assert ran["kwargs"] == [[["Symbol", ":who"], ["Symbol", ":me"]]]
    assert len({ran["job_id"] for ran in runs}) == len(runs)


def test_our_range_and_tagged_decimal_arrive_where_rails_has_them(shop: Shop):
    tagged = {"_aj_serialized": "ActiveJob::Serializers::BigDecimalSerializer", "value": "1.5"}
    job = Job("rails", "EchoJob", [Range(1, 3), Range(date(2024, 1, 2), None), tagged], active_job=True)
    enqueue(shop, job)
    if shop.ruby("ActiveJob.version >= Gem::Version.new('7.1')"):
        ran = shop.ran_in_ruby(job.jid)["args"]
        assert ran == [["Range", "1..3"], ["Range", "Tue, 02 Jan 2024.."], ["BigDecimal", "0.15e1"]]
    else:
        payload = retry_of(shop, job.jid)
        assert "Serializer ActiveJob::Serializers::RangeSerializer is not known" in payload["error_message"]


def test_our_keyword_arguments_arrive_as_rubys(shop: Shop):
    kwargs = {"at": date(2024, 1, 2), "who": GlobalID("gid://shop/User/7"), "options": {"fast": True}}
    job = Job("rails", "EchoJob", [1], kwargs=kwargs, active_job=True)
    ran = shop.ran_in_ruby(enqueue(shop, job))
    assert ran["args"] == [["Integer", "1"]]
    assert ran["kwargs"] == [
        [["Symbol", ":at"], ["Date", "Tue, 02 Jan 2024"]],
        [["Symbol", ":who"], ["User", "7"]],
        [["Symbol", ":options"], [[["String", '"fast"'], ["TrueClass", "true"]]]],
    ]
    assert (ran["jid"], ran["executions"], ran["exception_executions"], ran["locale"]) == (job.jid, 1, {}, "en")


def test_active_jobs_own_retries_go_on_with_our_job(shop: Shop):
    job = Job("rails", "StubbornJob", [1], kwargs={"n": 2}, active_job=True)
    first = shop.ran_in_ruby(enqueue(shop, job))
    assert (first["executions"], first["exception_executions"]) == (1, {})

    def runs() -> list[dict[str, Any]]:
        shop.ruby("promote_what_is_due")
        records = shop.server.command("LRANGE", "ruby:performed", 0, -1)
        assert isinstance(records, list)
        return [run for run in map(json.loads, records) if run.get("job_id") == first["job_id"]]

    wait_for(lambda: len(runs()) == 3, "it ran three times")
    assert [run["executions"] for run in runs()] == [1, 2, 3]
    assert runs()[2]["exception_executions"] == {"[ArgumentError]": 2}
    assert [run["kwargs"] for run in runs()] == [[[["Symbol", ":n"], ["Integer", "2"]]]] * 3


# ── there and back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_job_that_failed_here_is_retried_in_ruby_which_knows_of_our_attempt(shop: Shop):
    jid = shop.ruby("MovingJob.perform_later(7, at: Date.new(2024, 1, 2)).provider_job_id")
    payload = retry_of(shop, jid)
    assert (payload["queue"], payload["wrapped"], payload["error_message"]) == ("rails", "MovingJob", "Python can't")
    assert (payload["args"][0]["executions"], payload["args"][0]["exception_executions"]) == (1, {})
    retry_now(shop, jid)
    ran = shop.ran_in_ruby(jid)
    assert (ran["executions"], ran["exception_executions"]) == (2, {})
    assert ran["args"] == [["Integer", "7"]]
    assert ran["kwargs"] == [[["Symbol", ":at"], ["Date", "Tue, 02 Jan 2024"]]]


def test_job_that_failed_in_ruby_is_retried_here(shop: Shop):
    jid = shop.ruby("ReturningJob.perform_later(7, at: Date.new(2024, 1, 2)).provider_job_id")
    payload = retry_of(shop, jid)
    assert payload["args"][0]["executions"] == 0  # Sidekiq's retry knows nothing of ActiveJob's count
    retry_now(shop, jid)
    ran = shop.ran_in_python(jid)
    assert (ran["class"], ran["args"], ran["kwargs"]) == ("ReturningJob", "[7]", "{'at': datetime.date(2024, 1, 2)}")
    assert ran["executions"] == 0
