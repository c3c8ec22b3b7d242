"""The app whose costs are counted: a middleware, a timeout, the context, statistics, as in use."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from trioworkers import App, Context

AT_ONCE = 100
waiting: list[str] = []
"""The jobs that do."""

app = App(lease=3600, shutdown_timeout=0)
app.queue("q", concurrency=AT_ONCE)


@app.middleware
async def pass_on(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


async def do_nothing(ctx: Context, number: int, text: str) -> None: ...


empty = app.handler("q", "Empty", timeout=30)(do_nothing)


@app.handler("q", "Wait", timeout=30)
async def wait(ctx: Context) -> None:
    waiting.append(ctx.job.jid)
    await trio.sleep_forever()


@app.handler("q", "FanOut", timeout=3600)  # more than a call may wait
async def fan_out(ctx: Context) -> None:
    async with ctx.fan_out() as fan:
        for name in "abcd":
            fan.post(name, os.environ["SINK"], json={"name": name})


def app_with_a_capsule(queues: Sequence[str]) -> App:
    """The same, but that these queues share its slots, each with a weight of its own."""
    app = App(lease=3600, shutdown_timeout=0)
    app.capsule("c", concurrency=AT_ONCE, queues={queue: weight for weight, queue in enumerate(queues, 1)})
    app.middleware(pass_on)
    for queue in queues:
        app.handler(queue, "Empty", timeout=30)(do_nothing)
    return app
