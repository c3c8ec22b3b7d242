"""The app of the tests of batches with real processes. Each member and each callback notes in the file RUNS when it starts and when it ends."""

from __future__ import annotations

import trio
from process_app import note

from trioworkers import App, Bury, Context, Discard

app = App()
app.queue("q", concurrency=20)
app.queue("c", concurrency=5)
BURIES, DISCARDS = "buries", "discards"


@app.handler("q", "Member", retry=5)
async def member(ctx: Context, seconds: float, how: str = "", more: int = 0) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    if how == BURIES and ctx.job.retry_count is None:
        raise Bury("as it was told")
    if how == DISCARDS:
        raise Discard
    if more and ctx.batch is not None:
        ctx.batch.add(*(member.job(seconds) for _ in range(more)))
    note("end", ctx)


@app.handler("c", "Told")
async def told(ctx: Context, event: str) -> None:
    note(event, ctx)
