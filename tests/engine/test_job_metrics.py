"""What Sidekiq's metrics page (7.0 on) reads of us: how jobs ended, how long they took; written once, off the hot path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import trio
from servers import Server

from trioworkers import App, Discard, Job, RetryAfter, Unavailable, testing
from trioworkers.broker import statistics
from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine import job_metrics as tally_module
from trioworkers.engine.job_metrics import MAX_CLASSES, PAGE, JobMetrics, Reporter
from trioworkers.wire.keys import Keys
from trioworkers.wire.metrics import LIMITS_MS, fields

AT = datetime(2026, 11, 3, 9, 5, 59, tzinfo=UTC)


class _Clock(Clock):
    def now_s(self) -> float:
        return AT.timestamp()


@pytest.fixture
async def broker(redis_url: str) -> AsyncIterator[RedisBroker]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield RedisBroker(opened, Keys(), Holder("w1", "lease", 30_000), _Clock())


def hash_at(server: Server, key: str) -> dict[str, int]:
    found = server.command("HGETALL", key)
    assert isinstance(found, list)
    return {name: int(number) for name, number in zip(found[::2], found[1::2], strict=True)}


def histogram_at(server: Server, key: str) -> list[object]:
    gets = [word for number in range(26) for word in ("GET", "u16", f"#{number}")]
    found = server.command("BITFIELD", key, *gets)
    assert isinstance(found, list)
    return found


def test_keys_are_spelled_as_each_version_spells_them():
    assert Keys().job_counts(AT) == ("j|20261103|9:5", "j|261103|9:05", "j|261103|9:0")
    assert Keys().job_times("A", AT) == ("A-03-09:5", "h|A-3-9:5")
    late = datetime(2026, 1, 23, 14, 37, tzinfo=UTC)
    assert Keys().job_counts(late) == ("j|20260123|14:37", "j|260123|14:37", "j|260123|14:3")
    assert Keys("ns").job_times("A::B", late) == ("ns:A::B-23-14:37", "ns:h|A::B-23-14:37")


async def test_a_report_is_what_the_page_reads(broker: RedisBroker, shared_server: Server):
    metrics = JobMetrics()
    for ms in (0, 19.9, 20, 334, 335_000, 10_000_000):
        metrics.count("A", ms / 1000, failed=False)
    metrics.count("A", 5.0, failed=True)
    metrics.count("Mod::B", 1.0, failed=True)
    reporter = Reporter(broker, metrics, 1.0)
    await reporter.report()
    expected = {"A|p": 7, "A|f": 1, "A|ms": 10_335_373, "Mod::B|p": 1, "Mod::B|f": 1}
    for key, expires_s in (("j|20261103|9:5", 8), ("j|261103|9:05", 8), ("j|261103|9:0", 72)):
        assert hash_at(shared_server, key) == expected
        assert expires_s * 3600 - 60 < int(str(shared_server.command("TTL", key))) <= expires_s * 3600
    counts = [0] * 26
    for bucket, number in ((0, 2), (1, 1), (7, 1), (25, 2)):
        counts[bucket] = number
    for key in ("A-03-09:5", "h|A-3-9:5"):
        assert histogram_at(shared_server, key) == counts
        assert 0 < int(str(shared_server.command("TTL", key))) <= 8 * 3600
    assert shared_server.command("EXISTS", "Mod::B-03-09:5", "h|Mod::B-3-9:5") == 0

    metrics.count("A", 0.0, failed=False)
    await reporter.report()
    assert hash_at(shared_server, "j|261103|9:05")["A|p"] == 8
    assert histogram_at(shared_server, "h|A-3-9:5")[0] == 3


async def test_a_histogram_saturates_and_does_not_wrap(broker: RedisBroker, shared_server: Server):
    counts: list[float] = [70_000, 0, 0, 70_000, *[0] * 25]
    await statistics.report(broker, 1, {"A": counts})
    assert histogram_at(shared_server, "h|A-3-9:5")[0] == 65_535


async def test_a_report_whose_reply_was_lost_counts_once(
    broker: RedisBroker, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    losses = [True]

    async def report(*args: object) -> None:
        await statistics.report(*args)  # type: ignore[arg-type]
        if losses and losses.pop():
            raise Unavailable("the reply was lost")

    monkeypatch.setattr(tally_module, "report", report)
    metrics = JobMetrics()
    reporter = Reporter(broker, metrics, 1.0)
    metrics.count("A", 0.0, failed=False)
    await reporter.report()
    metrics.count("A", 0.0, failed=False)  # after what was reported, and not part of it
    await reporter.report()
    assert hash_at(shared_server, "j|261103|9:05")["A|p"] == 2


async def test_what_cannot_be_written_is_dropped_and_no_worker_ends_of_it(
    broker: RedisBroker, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    class Name(str):
        __slots__ = ()

        def __format__(self, _: str) -> str:
            raise RuntimeError("looked at")

    metrics = JobMetrics()
    reporter = Reporter(broker, metrics, 1.0)
    metrics.count(Name("A"), 0.0, failed=False)
    await reporter.report()
    assert "some of it is dropped" in caplog.text
    metrics.count("B", 0.0, failed=False)
    await reporter.report()
    found = hash_at(shared_server, "j|261103|9:05")
    assert (found["B|p"], "A|p" in found) == (1, False)


async def test_a_late_copy_of_an_old_report_counts_nothing(broker: RedisBroker, shared_server: Server):
    """Redis reads on what came over a connection that broke."""
    counts: list[float] = [1, 0, 0, 1, *[0] * 25]
    for number in (1, 2, 1, 2, 3):
        await statistics.report(broker, number, {"A": counts})
    assert hash_at(shared_server, "j|261103|9:05")["A|p"] == 3


async def test_many_classes_go_in_pages_and_no_more_are_kept_than_can_be(broker: RedisBroker, shared_server: Server):
    metrics = JobMetrics()
    for number in range(MAX_CLASSES + 5):
        metrics.count(f"C{number}", 0.0, failed=False)
    metrics.count("with|bar", 0.0, failed=False)
    reporter = Reporter(broker, metrics, 1.0)
    await reporter.report()
    assert reporter._reports == MAX_CLASSES // PAGE + 1
    assert len(hash_at(shared_server, "j|261103|9:05")) == MAX_CLASSES


async def test_a_key_of_the_wrong_type_costs_this_report_and_nothing_else(broker: RedisBroker, shared_server: Server):
    shared_server.command("SET", "j|20261103|9:5", "x")
    metrics = JobMetrics()
    reporter = Reporter(broker, metrics, 1.0)
    metrics.count("A", 0.0, failed=False)
    await reporter.report()
    shared_server.command("DEL", "j|20261103|9:5")
    metrics.count("B", 0.0, failed=False)
    await reporter.report()
    assert hash_at(shared_server, "j|20261103|9:5") == {"B|p": 1}


async def test_attempts_count_and_what_is_put_back_does_not(autojump_clock: object, monkeypatch: pytest.MonkeyPatch):
    counted: list[tuple[str, float, bool]] = []
    monkeypatch.setattr(JobMetrics, "count", lambda _, name, seconds, failed: counted.append((name, seconds, failed)))
    app = App(unknown="leave")

    @app.handler("q", "Good")
    async def good() -> None:
        await trio.sleep(2)

    @app.handler("q", "Bad")
    async def bad(how: str) -> None:
        raise {"retry": RetryAfter(60), "discard": Discard("no"), "fail": ValueError("no")}[how]

    async with testing.run(app) as test:
        await test.enqueue(
            Job("q", "Good"), Job("q", "Stranger"), *[Job("q", "Bad", [how]) for how in ("retry", "discard", "fail")]
        )
        await test.drain()
    assert sorted(name for name, _, failed in counted if failed) == ["Bad"] * 3
    assert [(name, round(seconds, 3)) for name, seconds, failed in counted if not failed] == [("Good", 2.0)]


async def test_a_worker_writes_what_ended_at_the_latest_when_it_goes(redis_url: str, shared_server: Server):
    app = App(redis_url, lease=60)
    ran = trio.Event()

    @app.handler("q", "A")
    async def handle() -> None:
        ran.set()

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        shared_server.command("LPUSH", "queue:q", '{"class":"A","args":[],"jid":"1"}')
        with trio.fail_after(60):
            await ran.wait()
        worker.stop()
    (key,) = shared_server.command("KEYS", "h|A-*")  # type: ignore[misc]
    assert sum(histogram_at(shared_server, str(key))) == 1  # type: ignore[arg-type]


def test_classes_and_counts_become_fields():
    assert fields("A", [3, 0, 1.9, *[0] * (len(LIMITS_MS) + 1)]) == ["A|p", 3, "A|ms", 1]
