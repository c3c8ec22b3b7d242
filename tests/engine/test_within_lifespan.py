"""A lifespan that fails, or cancels what is in it, stops its worker in good order: nothing stays in progress, and whoever runs it hears of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.lowlevel
from servers import Server

from trioworkers import App, ConfigurationError, Context, Job, Shard
from trioworkers.engine.within_lifespan import run_within
from trioworkers.failures import leaves


@pytest.fixture(params=[False, True], ids=["one Redis", "shards"])
def make(request: pytest.FixtureRequest, redis_url: str) -> Callable[..., App]:
    if request.param:
        return lambda **options: App(redis_url, shards={"a": Shard(redis_url, namespace="a")}, **options)
    return lambda **options: App(redis_url, **options)


def push(server: Server) -> None:
    server.command("LPUSH", "queue:q", json.dumps({"class": "Stay", "args": [], "jid": "jid0", "queue": "q"}))


@pytest.mark.parametrize("fails", [True, False])
async def test_lifespan_whose_task_fails_stops_its_worker(
    make: Callable[..., App], shared_server: Server, fails: bool, caplog: pytest.LogCaptureFixture
):
    runs = trio.Event()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async def fail() -> None:
            await runs.wait()
            if fails:
                raise ValueError("of the lifespan's own")
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield

    app = make(lifespan=lifespan, shutdown_timeout=0.1)

    @app.handler("q", "Stay")
    async def stay(ctx: Context) -> None:
        runs.set()
        await trio.sleep_forever()

    push(shared_server)
    with pytest.raises(ExceptionGroup if fails else ConfigurationError) as raised:
        await app.serve()
    kinds = {type(leaf) for leaf in leaves(raised.value)}
    assert kinds == ({ValueError, ConfigurationError} if fails else {ConfigurationError})
    assert shared_server.command("LLEN", "queue:q") == 1  # put back
    assert "lifespan cancelled what ran within it" in caplog.text
    assert shared_server.command("EXISTS", "tw:crashes") == 0  # no job had a part in it


@pytest.mark.parametrize("fails", [True, False])
async def test_job_that_ends_its_apps_lifespan_is_charged(make: Callable[..., App], shared_server: Server, fails: bool):
    nurseries: list[trio.Nursery] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nurseries.append(nursery)
            yield

    app = make(lifespan=lifespan, shutdown_timeout=0.1)

    async def fail() -> None:
        raise ValueError("of the job's making")

    @app.handler("q", "Stay")
    async def stay(ctx: Context) -> None:
        if fails:
            nurseries[0].start_soon(fail)
        else:
            nurseries[0].cancel_scope.cancel()
        await trio.sleep_forever()

    push(shared_server)
    with pytest.raises(ExceptionGroup if fails else ConfigurationError):
        await app.serve()
    assert shared_server.command("HGET", "tw:crashes", "jid0") == "1"


async def test_lifespan_that_ends_well_says_nothing(
    make: Callable[..., App], shared_server: Server, caplog: pytest.LogCaptureFixture
):
    left: list[bool] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield
            nursery.cancel_scope.cancel()
        left.append(True)

    app = make(lifespan=lifespan, shutdown_timeout=0.1)

    @app.handler("q", "Stay")
    async def stay(ctx: Context) -> None:
        await ctx.client.enqueue(Job("other", "Done"))

    push(shared_server)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        while not shared_server.command("LLEN", "queue:other"):
            await trio.sleep(0.01)
        worker.stop()
    assert left == [True]
    assert "lifespan cancelled" not in caplog.text


@attrs.define
class Stopped:
    """A worker that notes that it was told to stop."""

    told: trio.Event = attrs.field(factory=trio.Event)

    @property
    def stopping(self) -> bool:
        return self.told.is_set()

    def stop(self) -> None:
        self.told.set()


async def test_start_that_is_given_up_in_the_moment_of_starting_is_no_fault_of_the_lifespan(
    caplog: pytest.LogCaptureFixture,
):
    worker, started, ended = Stopped(), trio.Event(), trio.Event()

    async def run() -> None:
        await trio.lowlevel.checkpoint()  # what waits for its end does so now
        session.cancel()  # as whoever starts it does, who doesn't know yet that …
        started.set()
        await worker.told.wait()
        await trio.lowlevel.checkpoint()  # jobs are put back
        ended.set()

    with trio.CancelScope() as session:
        await run_within(worker, run, started, session)
    assert ended.is_set()
    assert "lifespan" not in caplog.text


async def test_cancelled_start_is_given_up(make: Callable[..., App]):
    entered = trio.Event()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        entered.set()
        await trio.sleep_forever()
        yield

    app = make(lifespan=lifespan)

    @app.handler("q", "Stay")
    async def stay(ctx: Context) -> None: ...

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.serve)
            await entered.wait()
            nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
