"""Limits around parts of jobs: an app without Redis, on the virtual clock; then on a real server with real workers' calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from trioworkers import App, ConfigurationError, Context, FleetLimit, Job, RateLimited
from trioworkers.errors import BadArguments
from trioworkers.testing import run

CRM = FleetLimit("crm", concurrency=2)


def app_with(function: Callable[..., Any], **options: Any) -> App:
    app = App()
    app.queue("q", concurrency=20)
    app.handler("q", "A", **options)(function)

    @app.handler("q", "Declares", limit=CRM)
    async def declares() -> None: ...

    return app


async def test_first_come_first_served_and_no_more_at_once_than_may(autojump_clock: Any):
    order: list[int] = []
    inside = most = 0

    async def handler(ctx: Context, number: int) -> None:
        nonlocal inside, most
        await trio.sleep(number / 100)
        async with ctx.limit("crm"):
            order.append(number)
            inside += 1
            most = max(most, inside)
            await trio.sleep(1)
            inside -= 1

    async with run(app_with(handler)) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(8)))
        await test.drain()
        assert test.completed == 8
    assert (order, most) == ([*range(8)], 2)


async def test_wait_is_bounded_by_the_attempt_and_gives_its_place_up(autojump_clock: Any):
    ran: list[int] = []

    async def handler(ctx: Context, number: int) -> None:
        async with ctx.limit(CRM):
            ran.append(number)
            await trio.sleep(6 if number < 2 else 0)

    async with run(app_with(handler, timeout=7)) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(2)))
        await trio.sleep(1)
        await test.enqueue(Job("q", "A", [2]), Job("q", "A", [3]))
        await test.drain()
        assert test.dead == []
    assert sorted(ran) == [0, 1, 2, 3]


async def test_cancelled_wait_leaves_nothing_behind(autojump_clock: Any):
    events: list[str] = []

    async def handler(ctx: Context, what: str) -> None:
        if what == "gives up":
            with trio.move_on_after(1):
                async with ctx.limit("crm"):
                    events.append("never")
            events.append("gave up")
        else:
            async with ctx.limit("crm"):
                await trio.sleep(5)
                events.append(what)

    async with run(app_with(handler)) as test:
        await test.enqueue(*(Job("q", "A", ["holds"]) for _ in range(2)))
        await trio.sleep(0.5)
        await test.enqueue(Job("q", "A", ["gives up"]))
        await trio.sleep(0.5)
        await test.enqueue(Job("q", "A", ["after"]))
        await test.drain()
    assert events == ["gave up", "holds", "holds", "after"]


async def test_attempt_that_fails_inside_keeps_nothing(autojump_clock: Any):
    ran: list[int] = []

    async def handler(ctx: Context, number: int) -> None:
        async with ctx.limit("crm"):
            ran.append(number)
            raise ValueError(number)

    async with run(app_with(handler)) as test:
        await test.enqueue(*(Job("q", "A", [n], retry=0) for n in range(6)))
        await test.drain()
        assert len(test.dead) == 6
    assert sorted(ran) == [*range(6)]


async def test_each_key_has_its_own(autojump_clock: Any):
    async def handler(ctx: Context, key: Any) -> None:
        async with ctx.limit(FleetLimit("one", concurrency=1), key):
            await trio.sleep(1)

    async with run(app_with(handler)) as test:
        began = trio.current_time()
        await test.enqueue(*(Job("q", "A", [n % 4]) for n in range(8)))
        await test.drain()
        assert trio.current_time() - began == pytest.approx(2, abs=0.3)


async def test_misuse_is_told(autojump_clock: Any):
    told: list[tuple[type, str]] = []

    async def handler(ctx: Context) -> None:
        async def attempt(*args: Any) -> None:
            try:
                async with ctx.limit("crm"), ctx.limit(*args):
                    raise AssertionError("got in")
            except (ConfigurationError, BadArguments, RuntimeError) as error:
                told.append((type(error), str(error)))

        await attempt("unknown")
        await attempt("crm")
        await attempt(FleetLimit("crm", concurrency=7))
        await attempt("crm", [1])

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A"))
        await test.drain()
    assert [kind for kind, _ in told] == [ConfigurationError, RuntimeError, ConfigurationError, BadArguments]
    assert "would wait for itself" in told[1][1]


async def test_job_under_a_limit_does_not_wait_for_itself(autojump_clock: Any):
    async def handler(ctx: Context) -> None:
        async with ctx.limit("one"):
            pass

    async with run(app_with(handler, limit=FleetLimit("one", concurrency=1))) as test:
        await test.enqueue(Job("q", "A", retry=0))
        await test.drain()
        [job] = test.dead
        assert "would wait for itself" in str(job.extra["error_message"])


async def test_rate_limited_inside_closes_it_for_all(autojump_clock: Any):
    times: list[float] = []

    async def handler(ctx: Context, number: int) -> None:
        async with ctx.limit("crm"):
            times.append(trio.current_time())
            if len(times) == 1:
                raise RateLimited(retry_after=20)

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", [0]))
        await trio.sleep(1)
        await test.enqueue(Job("q", "A", [1]))
        await test.drain(retries=True)
    assert [round(at - times[0]) for at in times] == [0, 20, 20]


async def test_rate_within(autojump_clock: Any):
    times: list[float] = []

    async def handler(ctx: Context, number: int) -> None:
        async with ctx.limit(FleetLimit("slow", rate="2/s")):
            times.append(trio.current_time())

    async with run(app_with(handler)) as test:
        await test.enqueue(*(Job("q", "A", [n]) for n in range(5)))
        await test.drain()
    assert [at - times[0] for at in times] == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.06)
