"""The app of the tests beside go-workers: queue QUEUE in its dialect, and `own` in Sidekiq's."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from trioworkers import App, Context

DIALECT = os.environ.get("DIALECT", "goworkers")
QUEUE = os.environ.get("QUEUE", "track")
app = App(dialect=DIALECT)
app.queue(QUEUE, dialect=os.environ.get("GO_DIALECT", "goworkers"), concurrency=5)
app.queue("own", dialect="sidekiq", concurrency=1)


@app.handler(QUEUE, "Sleep")
@app.handler("own", "Sleep")
async def sleep(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    note("end", ctx)


def note(event: str, ctx: Context) -> None:
    with Path(os.environ["RUNS"]).open("a") as runs:
        runs.write(f"{event} {ctx.job.jid} {os.getpid()}\n")
