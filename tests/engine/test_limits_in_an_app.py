"""Limits as handlers meet them: an app without Redis, on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trioworkers import App, ConfigurationError, Context, FleetLimit, Job, RateLimited
from trioworkers.testing import run


def app_with(starts: list[tuple[float, Any]], seconds: float = 0.0, **options: Any) -> App:
    app = App()
    app.queue("q", concurrency=50, limit=options.pop("queue_limit", None))

    @app.handler("q", "A", **options)
    async def handler(number: Any) -> None:
        starts.append((trio.current_time(), number))
        await trio.sleep(seconds)

    return app


async def test_starts_are_evenly_spaced_after_a_burst(autojump_clock: Any):
    starts: list[tuple[float, Any]] = []
    async with run(app_with(starts, limit=FleetLimit("crm", rate="2/s", burst=3))) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(9)))
        while len(starts) < 9:
            await trio.sleep(0.1)
    first = starts[0][0]
    assert [number for _, number in starts[3:]] == list(range(3, 9))
    assert [at - first for at, _ in starts] == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2, 2.5, 3], abs=0.06)


@pytest.mark.parametrize("queue_limit", [False, True])
async def test_over_a_minute_as_many_start_as_may(autojump_clock: Any, queue_limit: bool):
    starts: list[tuple[float, Any]] = []
    limit = FleetLimit("crm", rate="50/s")
    async with run(app_with(starts, **({"queue_limit": limit} if queue_limit else {"limit": limit}))) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(3500)))
        await trio.sleep(60)
        assert len(starts) == pytest.approx(3000, rel=0.02)


async def test_each_value_of_an_argument_has_a_limit_of_its_own(autojump_clock: Any):
    starts: list[tuple[float, Any]] = []
    async with run(app_with(starts, 1.0, limit=FleetLimit("crm", concurrency=1, by="number"))) as test:
        await test.enqueue(*(Job("q", "A", [n % 3]) for n in range(9)))
        await test.drain()
        assert test.completed == 9
    first = starts[0][0]
    assert [(round(at - first), n) for at, n in sorted(starts)] == [(t, n) for t in range(3) for n in range(3)]


async def test_job_without_the_argument_is_buried_with_its_name(autojump_clock: Any):
    starts: list[tuple[float, Any]] = []
    async with run(app_with(starts, limit=FleetLimit("crm", concurrency=1, by="number"))) as test:
        await test.enqueue(Job("q", "A", []), Job("q", "A", [[1]]), Job("q", "A", [1]))
        await test.drain()
        assert sorted(job.extra["error_message"] for job in test.dead) == [
            "A: argument number, by which limit 'crm' goes: an array is no key",
            "A: argument number, by which limit 'crm' goes: it is missing",
        ]
    assert [number for _, number in starts] == [1]


async def test_queue_limit_leaves_the_rest_where_it_is(autojump_clock: Any):
    starts: list[tuple[float, Any]] = []
    async with run(app_with(starts, 1.0, queue_limit=FleetLimit(concurrency=2))) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(6)))
        await trio.sleep(0.5)
        assert [job.args for job in test.jobs("q")] == [(2,), (3,), (4,), (5,)]
        await test.drain()
    first = starts[0][0]
    assert [round(at - first) for at, _ in starts] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("limit", [3, FleetLimit("crm", concurrency=1, by="x"), [FleetLimit(concurrency=1)]])
def test_limit_that_a_queue_can_not_have_is_refused(limit: Any):
    with pytest.raises(ConfigurationError, match="limit"):
        App().queue("q", limit=limit)


def test_queues_that_share_a_limit_agree_on_it():
    app = App()
    app.queue("q", limit=FleetLimit("mail", concurrency=1))
    app.queue("r", limit=FleetLimit("mail", concurrency=1))
    with pytest.raises(ConfigurationError, match="1 at once elsewhere"):
        app.queue("s", limit=FleetLimit("mail", concurrency=2))


# ── RateLimited ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on", ["class", "queue"])
async def test_rate_limited_closes_the_limit_and_its_job_is_the_first_when_it_opens(autojump_clock: Any, on: str):
    starts: list[tuple[float, Any]] = []
    app = App()
    limit = FleetLimit("crm", concurrency=1)
    app.queue("q", concurrency=5, limit=limit if on == "queue" else None)

    @app.handler("q", "A", limit=limit if on == "class" else None)
    async def handler(ctx: Context, number: int) -> None:
        starts.append((trio.current_time(), number))
        assert ctx.attempt == 1
        if len(starts) == 1:
            raise RateLimited(retry_after=30)

    async with run(app) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(3)))
        await trio.sleep(29)
        assert [number for _, number in starts] == [0]
        await trio.sleep(5)
        assert (test.retries, test.scheduled, test.dead) == ([], [], [])
    assert [number for _, number in starts] == [0, 0, 1, 2]
    assert starts[1][0] - starts[0][0] == pytest.approx(30, abs=1.1)


async def test_rate_limited_without_a_limit_puts_off_its_job_alone(autojump_clock: Any):
    starts: list[tuple[float, Any]] = []
    app = App()

    @app.handler("q", "A")
    async def handler(number: int) -> None:
        starts.append((trio.current_time(), number))
        if len(starts) == 1:
            raise RateLimited(retry_after=30)

    async with run(app) as test:
        await test.enqueue(Job("q", "A", [1]))
        await test.drain()
        [job] = test.scheduled
        assert job.retry_count is None
        await trio.sleep(31)
    assert [round(at - starts[0][0]) for at, _ in starts] == [0, 30]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 86_401, True, "3"])
def test_rate_limited_takes_seconds_up_to_a_day(seconds: Any):
    with pytest.raises(ValueError, match="up to a day"):
        RateLimited(retry_after=seconds)


async def test_job_whose_limits_are_free_in_turn_and_never_at_once_begins_all_the_same(autojump_clock: Any):
    app, began = App(), []
    app.queue("q", concurrency=50)
    a, b = FleetLimit("a", concurrency=1), FleetLimit("b", concurrency=1)

    @app.handler("q", "OnlyA", limit=a)
    async def only_a(number: int) -> None:
        await trio.sleep(7)

    @app.handler("q", "OnlyB", limit=b)
    async def only_b(number: int) -> None:
        await trio.sleep(11.3)

    @app.handler("q", "Both", limit=[a, b])
    async def both(number: int) -> None:
        began.append(trio.current_time())

    async with run(app) as test:
        await test.enqueue(only_a.job(0), only_b.job(0))
        await trio.sleep(1)
        begin = trio.current_time()
        await test.enqueue(both.job(1), *(job(n) for n in range(400) for job in (only_a.job, only_b.job)))
        while not began:
            await trio.sleep(1)
        assert began[0] - begin < 400  # those behind it would keep both busy for 2,800
