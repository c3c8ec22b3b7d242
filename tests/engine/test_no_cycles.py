"""Jobs leave nothing behind that only Python's collector could find: a thousand of them a second would keep it at work, for a third of all CPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from trioworkers import App, Client, Context, sources
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.recorder import Recorder
from trioworkers.jobs.progress import Progress
from trioworkers.jobs.recording import Record

JOBS = 30
LARGE = 30_000
"""What a step returns that lies beside the payload."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def text(size: int) -> str:
    return "x" * size


@pytest.mark.parametrize("kind", ["plain", "waits", "step", "large step", "rows", "fan-out"])
async def test_ended_jobs_are_gone_without_the_collector(redis_url: str, no_collector: None, kind: str):
    # One at once: what was fetched last is still in the hands of the fetch that stopping cut off.
    app, ended, all_ended = App(redis_url), [], trio.Event()
    app.queue("q", concurrency=1)

    @app.handler("q", "Job")
    async def job(ctx: Context) -> None:
        match kind:
            case "waits":
                await trio.sleep(0.001)
            case "step":
                await ctx.step("one", text, 1)
            case "large step":
                await ctx.step("one", text, LARGE)
            case "rows":
                async for _ in ctx.iterate("rows", sources.numbers(5), every=2):
                    pass
            case "fan-out":
                async with ctx.fan_out() as fan_out:
                    fan_out.start("one", text, 1)
        ended.append(ctx.job.jid)
        if len(ended) == JOBS:
            all_ended.set()

    async with Client(redis_url) as client:
        await client.enqueue(*(job.job() for _ in range(JOBS)))
    before = left()
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        await all_ended.wait()
        worker.stop()
    assert left() - before < JOBS / 2  # the last one may be in some frame's hands
    assert len(ended) == JOBS


def left() -> int:
    kinds: tuple[type[Any], ...] = (Delivery, Recorder, Progress, Record)
    return sum(type(each) in kinds for each in gc.get_objects())
