"""Handlers on Resque's queues, for the tests with node-resque and with real processes. Each job notes itself in the file RUNS."""

from __future__ import annotations

import json
import os
from pathlib import Path

import trio

from trioworkers import App, Context, Job

app = App(dialect="resque")
app.queue("py", concurrency=5)


def note(event: str, ctx: Context, *more: object) -> None:
    with Path(os.environ["RUNS"]).open("a") as file:
        file.write(json.dumps([event, ctx.job.job_class, *more]) + "\n")


@app.handler("py", "*")
async def echo(ctx: Context, *args: object) -> None:
    note("end", ctx, list(args))


@app.handler("py", "Boom")
async def boom(ctx: Context, *args: object) -> None:
    note("start", ctx, list(args))
    raise ValueError("bad é")


@app.handler("py", "Again")
async def again(ctx: Context, number: int) -> None:
    note("start", ctx, [number], ctx.attempt, ctx.job.jid)
    if ctx.attempt < 3:
        raise ValueError("not yet")


@app.handler("py", "Relay")
async def relay(ctx: Context, queue: str, job_class: str, args: list[object]) -> None:
    ctx.enqueue(Job(queue, job_class, args))


@app.handler("py", "Sleep")
async def sleep(ctx: Context, number: int, seconds: float) -> None:
    note("start", ctx, [number])
    await trio.sleep(seconds)
    note("end", ctx, [number])


@app.handler("py", "Die")
async def die(ctx: Context) -> None:
    note("start", ctx, [])
    os._exit(7)
