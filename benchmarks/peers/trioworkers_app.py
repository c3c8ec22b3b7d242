"""Ourselves: `trioworkers run trioworkers_app:app`, with everything on: middleware, time limit, context, statistics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from common import (
    AT_ONCE,
    CALLS,
    CONCURRENCY,
    HOLD_S,
    PUZZLE,
    QUEUES,
    REDIS_URL,
    SINK,
    WAIT_S,
    arguments,
    command_line,
    count,
    pauses,
    solve,
    stamped,
    timed,
)

from trioworkers import App, Client, Context, Job

app = App(REDIS_URL, cpu_processes=2)
for queue in QUEUES:
    app.queue(queue, concurrency=CONCURRENCY)


@app.middleware
async def hook(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


def handler(function: Any) -> Any:
    return app.handler("bench", timeout=3600)(function)


@handler
async def empty(ctx: Context, n: int, text: str) -> None:
    count()


@handler
async def wait(ctx: Context, n: int, text: str) -> None:
    await trio.sleep(WAIT_S)
    count()


@handler
async def fan_out(ctx: Context, n: int, text: str) -> None:
    async with ctx.fan_out() as fan:
        for name in CALLS:
            fan.post(name, f"{SINK}/{name}", json={"id": n})
    count()


@handler
async def sudoku(ctx: Context, n: int, text: str) -> None:
    await ctx.run_cpu(solve, PUZZLE)
    count()


@handler
async def hold(ctx: Context, n: int, text: str) -> None:
    count()
    await trio.sleep(HOLD_S)


@handler
async def stamp(ctx: Context, n: int, text: str) -> None:
    stamped(n)


for queue in QUEUES[1:]:
    app.handler(queue, "empty")(empty)


def _job(name: str, args: tuple[int, str]) -> Job:
    return empty.job(*args) if name == "handler" else Job("bench", name, args)


AT_A_TIME = 10_000_000
"""Bytes of text given to one call of `Client.enqueue`."""


async def _fill(job: str, count_: int, size: int) -> None:
    async with Client(REDIS_URL) as client:
        given = arguments(count_, size)
        chunk = max(1, min(10_000, AT_A_TIME // max(1, size)))
        with timed():
            for first in range(0, count_, chunk):
                await client.enqueue(*(_job(job, args) for args in given[first : first + chunk]))


async def _one(job: str, count_: int, size: int) -> None:
    waiting = iter(arguments(count_, size))

    async def share(client: Client) -> None:
        for args in waiting:
            await client.enqueue(_job(job, args))

    async with Client(REDIS_URL) as client:
        with timed():
            async with trio.open_nursery() as nursery:
                for _ in range(1 if job == "handler" else AT_ONCE):
                    nursery.start_soon(share, client)


async def _stamps(count_: int, pause_s: float) -> None:
    async with Client(REDIS_URL) as client:
        for pause in pauses(count_, pause_s):
            await trio.sleep(pause)
            await client.enqueue(Job("bench", "stamp", [time.monotonic_ns(), ""]))


if __name__ == "__main__":
    command_line(
        lambda *given: trio.run(_fill, *given),
        lambda *given: trio.run(_one, *given),
        lambda *given: trio.run(_stamps, *given),
    )
