"""Periodic jobs from declaration to run, on the virtual clock: what users see, and what becomes of what strangers write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioworkers import App, Bury, ConfigurationError, Context, Discard, Job, Symbol, Unique
from trioworkers.broker.contract import Due
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.fake_ticks import FakeEntry
from trioworkers.cron import schedule
from trioworkers.engine.maintenance import Promoter
from trioworkers.engine.periodic import Ticker
from trioworkers.errors import Refused, Unavailable
from trioworkers.send import Send
from trioworkers.testing import run
from trioworkers.wire.decode import decode, jid_of
from trioworkers.wire.periodic import Periodic, Tick, decode_entry, encode_entry, entry_name, tick_in

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=BERLIN)


def app_with(*expressions: str, **options: object) -> tuple[App, list[datetime]]:
    app, seen = App(), []

    async def report(ctx: Context) -> None:
        assert ctx.tick is not None
        seen.append(ctx.tick)

    handler = app.handler("reports", "Report")(report)
    for number, expression in enumerate(expressions):
        app.periodic(expression, **{"name": f"n{number}" if number else None, **options})(handler)
    return app, seen


async def test_year_of_ticks_runs_in_seconds_with_both_days_on_which_clocks_change(autojump_clock: MockClock):
    app, seen = app_with("30 2 * * *", "0 */6 * * *", tz="Europe/Berlin")
    async with run(app, now=NEW_YEAR):
        await trio.sleep(365 * 86_400 + 1)
    daily, often = schedule("30 2 * * *", "Europe/Berlin"), schedule("0 */6 * * *", "Europe/Berlin")
    wanted = sorted(tick for when in (daily, often) for tick in ticks_of(when, NEW_YEAR, timedelta(days=365)))
    assert sorted(tick.timestamp() for tick in seen) == wanted
    shown = {f"{tick:%m-%d %H:%M %z}" for tick in seen}
    assert {"03-29 03:00 +0200", "03-28 02:30 +0100", "10-25 02:30 +0200", "10-26 02:30 +0100"} <= shown
    assert len(seen) == 365 + 4 * 365


def ticks_of(when: object, since: datetime, length: timedelta) -> list[int]:
    found, moment = [], int(since.timestamp())
    while (moment := when.after(moment)) <= (since + length).timestamp():  # type: ignore[attr-defined]
        found.append(moment)
    return found


async def test_tick_is_known_to_the_job_in_its_zone_and_to_no_other_job(autojump_clock: MockClock):
    app, seen = app_with("0 4 * * *", tz="Europe/Berlin")
    plain: list[object] = []

    @app.handler("reports", "Plain")
    async def other(ctx: Context) -> None:
        plain.append(ctx.tick)

    async with run(app, now=NEW_YEAR) as test:
        await test.enqueue(other.job())
        await trio.sleep(86_400)
    assert seen == [datetime(2026, 1, 1, 4, tzinfo=BERLIN)]
    assert seen[0].tzinfo is BERLIN
    assert plain == [None]


async def test_entry_with_arguments_and_jitter_is_sent_a_little_later(autojump_clock: MockClock):
    app, seen = App(), []

    @app.periodic("@every 1m", args=["eu", 3], jitter=20)
    @app.handler("q", "Sync")
    async def sync(ctx: Context, region: str, number: int) -> None:
        assert ctx.tick is not None
        seen.append((region, number, round(trio.current_time() + start - ctx.tick.timestamp(), 2)))

    now = datetime(2026, 1, 1, tzinfo=UTC)
    start = now.timestamp() - trio.current_time()
    async with run(app, now=now):
        await trio.sleep(605)
    assert {(region, number) for region, number, _ in seen} == {("eu", 3)}
    late = [late_s for *_, late_s in seen]
    assert len(late) >= 9
    assert len(set(late)) > 5
    assert 0 <= min(late) <= max(late) <= 20.1


async def test_overlapping_runs_are_skipped_or_one_waits(autojump_clock: MockClock):
    for overlap, most, runs in (("allow", 5, 30), ("skip", 1, 6), ("wait", 1, 6)):
        app, running, seen = App(), [0], []

        @app.periodic("@every 10s", overlap=overlap)
        @app.handler("q", "Slow")
        async def slow(running: list[int] = running, seen: list[int] = seen) -> None:
            running[0] += 1
            seen.append(running[0])
            await trio.sleep(45)
            running[0] -= 1

        async with run(app, now=datetime(2026, 1, 1, tzinfo=UTC)) as test:
            await trio.sleep(305)
            how = [run.how for run in test._broker.ticks.runs["q/Slow"].values()]
        assert max(seen) == most
        assert abs(len(seen) - runs) <= 1
        assert ("skipped" in how) is (overlap == "skip")
        assert ("replaced" in how) is (overlap == "wait")


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "options", "why"),
    [
        ("* * * *", {}, "has 4 fields"),
        ("0 0 31 2 *", {}, "can't be read"),
        ("0 4 * * *", {"tz": "Mars/Base"}, "a zone is a name like"),
        ("0 4 * * *", {"missed": "some"}, "missed is one of"),
        ("0 4 * * *", {"overlap": "queue"}, "overlap is one of"),
        ("0 4 * * *", {"jitter": -1}, "jitter is a number of seconds"),
        ("0 4 * * *", {"jitter": float("nan")}, "jitter is a number of seconds"),
        ("0 4 * * *", {"within": "1h"}, "within is a number of seconds"),
        ("0 4 * * *", {"args": "abc"}, "args is a list"),
        ("0 4 * * *", {"args": [1]}, "expected at most 0 arguments"),
        ("0 4 * * *", {"name": "a b"}, "a name has at most 128"),
        ("0 4 * * *", {"name": "a/b"}, "a name has at most 128"),
        (None, {}, "takes an expression"),
        ("0 4 * * *", {"tz": "right/UTC"}, "a zone is a name like"),
    ],
)
def test_what_cannot_be_is_refused_at_the_decorator_with_its_line(
    expression: str, options: dict[str, object], why: str
):
    with pytest.raises(ConfigurationError, match=why) as refused:
        app_with(expression, **options)
    assert "test_periodic.py:" in str(refused.value)


def test_decorator_without_brackets_is_refused():
    """It would swallow the handler, and nothing would ever be due."""
    with pytest.raises(ConfigurationError, match=r"test_periodic\.py:\d+\): @app\.periodic takes an expression"):

        @App().periodic  # type: ignore[arg-type]
        async def report() -> None: ...


def test_second_time_on_one_handler_needs_a_name_and_two_apps_may_have_handlers_of_one_name():
    app, _ = app_with("0 4 * * *", "0 5 * * *")
    assert [entry.name for entry in app.periodic_jobs] == ["reports/Report", "reports/Report/n1"]
    handler = app.find("reports", "Report")
    with pytest.raises(ConfigurationError, match="a second time it needs name="):
        app.periodic("@daily")(handler)
    with pytest.raises(ConfigurationError, match="already"):
        app.periodic("@daily", name="n1")(handler)
    other = App()
    other.periodic("@daily")(other.handler("others", "Report")(handler.function))
    assert other.periodic_jobs[0].name == "others/Report"


def test_decorators_in_the_wrong_order_and_two_locks_are_refused():
    app = App()

    async def function() -> None: ...

    with pytest.raises(ConfigurationError, match="stands above"):
        app.periodic("@daily")(function)
    with pytest.raises(ConfigurationError, match="two locks"):
        app.periodic("@daily", overlap="skip")(app.handler("q", "A", unique=Unique())(function))
    with pytest.raises(ConfigurationError, match="takes every class"):
        app.periodic("@daily")(app.handler("q", "*")(function))


def test_class_with_a_slash_is_no_name():
    assert entry_name("q", "A", "b") != entry_name("q", "A/b")


# ── what is in Redis ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_definition_is_the_same_read_again():
    lock = Unique(by="a", on_conflict="latest").lock("KEY")
    job = Job(
        "q", "A", [1, "x", {"y": None}], retry=3, retry_for=5.0, tags=("t",), dead=False, expires_in=9.0, lock=lock
    )
    entry = Periodic("n", "*/5 * * * *", job, "Asia/Kathmandu", "all", 60.0, "allow", 2.0, "resque:resque")
    again = decode_entry("n", encode_entry(entry))
    assert encode_entry(again) == encode_entry(entry)
    assert (again.job.lock, again.job.lock.on_conflict) == (lock, "latest")


@pytest.mark.parametrize(
    "definition",
    [
        b"",
        b"junk",
        b"[]",
        b"{}",
        b'{"v":1}',
        b'{"v":"x"}',
        b'{"v":1,"expression":"* * * * *","job":{}}',
        b"[" * 5000,
        b'{"v":1,"expression":"* * * *","job":{"queue":"q","class":"A","args":[]}}',
        b'{"v":1,"expression":"@daily","job":{"queue":"","class":"A","args":[]}}',
        b'{"v":1,"expression":"@daily","job":{"queue":"q","class":"","args":[]}}',
        b'{"v":1,"expression":"@daily","missed":"x","job":{"queue":"q","class":"A","args":[]}}',
        b'{"v":1,"expression":"@daily","jitter":1e300,"job":{"queue":"q","class":"A","args":[]}}',
        b'{"v":1,"expression":"@daily","job":{"queue":"q","class":"A","args":[],"retry":-7}}',
        b'{"v":1,"expression":"@daily","job":{"queue":"q","class":"A","args":[],"lock":["k","x","y","z",1,1]}}',
    ],
)
def test_forged_definition_is_no_entry(definition: bytes):
    with pytest.raises(ValueError, match=r"\w"):
        decode_entry("n", definition)


@pytest.mark.parametrize("value", [None, 7, "", "1 UTC", "x UTC q/A", "1", "999999999999 UTC q/A", "-1 UTC q/A"])
def test_what_strangers_write_into_the_field_is_no_tick(value: object):
    assert tick_in(value) is None


def test_tick_in_a_zone_that_this_machine_does_not_know_is_told_in_utc():
    tick = tick_in("1700000000 Mars/Base q/A")
    assert tick == Tick(1_700_000_000, "Mars/Base", "q/A")
    assert tick.moment == datetime.fromtimestamp(1_700_000_000, UTC)


def ticker(broker: FakeBroker, entries: Sequence[Periodic] = ()) -> tuple[Ticker, Promoter]:
    made = Ticker(broker, entries)
    return made, Promoter(broker, ticker=made)


async def test_broken_entries_are_told_once_and_keep_nothing_else_waiting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
):
    broker = FakeBroker(["q"])
    declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"))])
    await declared.register()
    for number in range(60):
        name = b"forged%d" % number
        broker.ticks.next[name] = -1.0
        broker.ticks.entries[name] = FakeEntry(b"junk", "", 0.0, "dynamic")
    newer = b'{"v":9,"new":true}'
    broker.ticks.next[b"newer"], broker.ticks.entries[b"newer"] = 5.0, FakeEntry(newer, "", 0.0, "dynamic")
    with caplog.at_level(logging.INFO, logger="trioworkers"):
        with trio.move_on_after(35):
            await promoter.run()
    lines = [record.getMessage() for record in caplog.records]
    assert sum("forged7 " in line for line in lines) == 1
    assert [line for line in lines if "newer" in line] == [
        "periodic job newer is left to other workers: a newer version of trioworkers wrote it"
    ]
    assert len(broker.queues["q"]) == 3
    assert broker.ticks.next[b"newer"] == 5.0


def test_active_jobs_entry_keeps_rubys_types_and_is_left_alone_by_versions_that_would_send_another_job():
    job = Job("q", "A", [date(2026, 1, 2), {Symbol("a"): 1}], kwargs={"at": 1}, active_job=True)
    entry = Periodic("e", "@daily", attrs.evolve(job, active_job_fields={"locale": "de"}))
    definition = encode_entry(entry)
    found = decode_entry("e", definition)
    assert (found.job.active_job, found.job.active_job_fields) == (True, {"locale": "de"})
    assert found.shown_args == entry.shown_args
    assert encode_entry(found) == definition
    assert b'"v":2' in definition
    assert b'"v":1' in encode_entry(Periodic("e", "@daily", Job("q", "A")))
    with pytest.raises(ValueError, match="a job_id is one job's"):
        encode_entry(Periodic("e", "@daily", attrs.evolve(job, active_job_fields={"job_id": "1"})))


@pytest.mark.parametrize("after", [False, True])
async def test_tick_is_sent_once_though_a_call_fails_or_its_reply_is_lost(autojump_clock: MockClock, after: bool):
    broker = FakeBroker(["q"])
    declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"))])
    await declared.register()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(promoter.run)
        for _ in range(5):
            await trio.sleep(10)
            broker.fail_next(Unavailable("lost"), after=after, times=2)
        await trio.sleep(15)
        nursery.cancel_scope.cancel()
    jids = [jid_of(payload) for payload in broker.queues["q"]]
    assert len(jids) == len(set(jids)) == 6


@pytest.mark.parametrize("count", [60, 200])
async def test_more_entries_for_others_than_a_page_holds_keep_none_of_ours_waiting(
    autojump_clock: MockClock, count: int
):
    broker = FakeBroker(["q"])
    declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"))])
    await declared.register()
    unknown = b'{"v":1,"expression":"@daily","zone":"Mars/Base","job":{"queue":"q","class":"A","args":[]}}'
    for number in range(count):
        name = b"mars%d" % number
        broker.ticks.next[name], broker.ticks.entries[name] = 1.0, FakeEntry(unknown, "", 0.0, "dynamic")
    looks, due = [0], broker.due

    async def counted(limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        looks[0] += 1
        return await due(limit, ticks, look=look)

    broker.due = counted  # type: ignore[method-assign]
    with trio.move_on_after(61):
        await promoter.run()
    assert len(broker.queues["q"]) >= 5
    assert looks[0] < 100
    assert broker.ticks.next[b"mars7"] == 1.0


async def test_redis_that_refuses_ticks_keeps_other_due_jobs_going(autojump_clock: MockClock):
    broker = FakeBroker(["q"])
    declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"))])
    await declared.register()
    await broker.send([Send(Job("q", "B"), delay_s=5)])
    await trio.sleep(12)
    take = broker.take_ticks

    async def full(takes: Sequence[object]) -> list[object]:
        raise Refused("OOM")

    broker.take_ticks = full  # type: ignore[assignment, method-assign]
    assert await promoter.promote() == float("inf")
    assert [decode(payload, "q").job_class for payload in broker.queues["q"]] == ["B"]
    broker.take_ticks = take  # type: ignore[method-assign]
    await promoter.promote()
    assert len(broker.queues["q"]) == 2


async def test_redis_that_lost_everything_is_told_again_and_starts_from_now(autojump_clock: MockClock):
    broker = FakeBroker(["q"])
    declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"))])
    await declared.register()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(promoter.run)
        nursery.start_soon(declared.run)
        await trio.sleep(15)
        broker.ticks.next.clear(), broker.ticks.entries.clear(), broker.ticks.declared.clear()
        await trio.sleep(30)
        declared.beat(is_unknown=True)
        await trio.sleep(25)
        nursery.cancel_scope.cancel()
    assert len(broker.queues["q"]) in (3, 4)


async def test_missed_ticks_are_made_up_for_as_the_entry_says(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
):
    for missed, wanted in (("one", 1), ("all", 6), ("skip", 1)):
        broker = FakeBroker(["q"])
        declared, promoter = ticker(broker, [Periodic("q/A", "@every 10s", Job("q", "A"), missed=missed)])
        await declared.register()
        await trio.sleep(60)
        await promoter.promote()
        ticks = [tick_in(decoded(payload)).moment_s for payload in broker.queues["q"]]
        assert len(ticks) == wanted
        assert max(ticks) == broker.clock.now_s() // 10 * 10
        await promoter.promote()
        assert len(broker.queues["q"]) == wanted
    hourly = FakeBroker(["q"])
    declared, promoter = ticker(hourly, [Periodic("q/H", "@every 1h", Job("q", "A"), missed="skip")])
    await declared.register()
    await trio.sleep(3600 + 3599)
    await promoter.promote()
    assert "q" not in hourly.queues
    assert [run.how for run in hourly.ticks.runs["q/H"].values()] == ["missed"]
    assert "was missed" in caplog.text


def decoded(payload: bytes) -> object:
    return decode(payload, "q").extra["tw_tick"]


async def test_history_says_how_each_run_ended(autojump_clock: MockClock):
    app = App()
    ends: list[Exception | None] = [None, Discard("not wanted"), Bury("never again"), None]

    @app.periodic("@every 10s")
    @app.handler("q", "Ends")
    async def end(ctx: Context) -> None:
        assert ctx.tick is not None
        how = ends[int(ctx.tick.timestamp()) // 10 % 4]
        if how is not None:
            raise how

    async with run(app, now=datetime(2026, 1, 1, tzinfo=UTC)) as test:
        await trio.sleep(45)
        assert sorted(run.how for run in test._broker.ticks.runs["q/Ends"].values()) == [
            *("dead", "discarded", "succeeded", "succeeded")
        ]
