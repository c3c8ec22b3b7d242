"""Large payloads: warned of once in a while, refused where they would not be run."""

from __future__ import annotations

import logging

import pytest
from servers import Server

from trioworkers import App, BadJob, Client, Context, Job, testing
from trioworkers.settings import settings
from trioworkers.size_guard import MAX_CLASSES, SizeGuard

SECRET = "s3cret" * 20_000


class Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "large payload" in record.getMessage()]


def test_class_is_warned_of_once_in_a_while_and_for_each_of_sending_and_running(caplog: pytest.LogCaptureFixture):
    time = Time()
    guard = SizeGuard(settings({"large_payload_bytes": 100}, {}), clock=time)
    job = Job("q", "Big")
    for size in (100, 101, 102):
        guard.notice(job, size, "runs")
    guard.check(job, b"x" * 101)
    guard.notice(Job("q", "Other"), 101, "runs")
    assert [(line.split()[2], line.split()[3]) for line in warnings(caplog)] == [
        ("runs:", "class=Big"),
        ("enqueued:", "class=Big"),
        ("runs:", "class=Other"),
    ]
    time.now_s = 600.0
    guard.notice(job, 101, "runs")
    assert len(warnings(caplog)) == 4


def test_what_is_remembered_of_foreign_class_names_has_a_bound(caplog: pytest.LogCaptureFixture):
    guard = SizeGuard(settings({"large_payload_bytes": 1}, {}))
    with caplog.at_level(logging.ERROR):
        for number in range(2 * MAX_CLASSES + 1):
            guard.notice(Job("q", f"C{number}"), 2, "runs")
    assert len(guard._said) <= MAX_CLASSES


async def test_large_job_is_warned_of_when_enqueued_and_when_run_without_its_arguments(
    redis_url: str, caplog: pytest.LogCaptureFixture
):
    async with Client(redis_url) as client:
        await client.enqueue(Job("q", "Small", ["x" * 100_000]), Job("q", "Big", [SECRET]), Job("q", "Big", [SECRET]))
    (line,) = warnings(caplog)
    assert "enqueued: class=Big" in line
    assert "s3cret" not in line
    async with Client(redis_url, large_payload_bytes=1 << 20) as client:
        await client.enqueue(Job("q", "Big", [SECRET]))
    assert len(warnings(caplog)) == 1


async def test_too_large_job_is_refused_and_nothing_of_the_call_is_sent(redis_url: str, shared_server: Server):
    async with Client(redis_url, max_payload_bytes=1000) as client:
        jobs = [Job("q", "Fine", [n]) for n in range(2500)] + [Job("q", "Huge", ["s3cret" * 200])]
        with pytest.raises(BadJob, match=r"Huge: 1,\d{3} bytes, more than max_payload_bytes=1,000") as caught:
            await client.enqueue(*jobs)
        assert "s3cret" not in str(caught.value)
    assert shared_server.command("EXISTS", "queue:q") == 0


async def test_in_a_worker_large_jobs_are_warned_of_and_too_large_ones_fail_their_parent(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    app = App(large_payload_bytes=1000, max_payload_bytes=5000)

    @app.handler("q")
    async def big(ctx: Context, text: str) -> None: ...

    @app.handler("q")
    async def parent(ctx: Context) -> None:
        ctx.enqueue(Job("q", "big", ["s3cret" * 1000]))

    async with testing.run(app) as test:
        await test.enqueue(big.job("x" * 1000), parent.job())
        with pytest.raises(BadJob):
            await test.enqueue(big.job("x" * 5000))
        await test.drain()
        (failed,) = test.retries
    assert [line.split(":")[0] for line in warnings(caplog)] == ["large payload enqueued", "large payload runs"]
    assert failed.job_class == "parent"
    assert "enqueued by this job: big: 6,1" in failed.extra["error_message"]
