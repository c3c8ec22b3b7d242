"""The app of the tests of fleet-wide limits with real processes. Each job notes in the file RUNS when it starts and when it ends."""

from __future__ import annotations

import trio
from process_app import note

from trioworkers import App, Context, FleetLimit

app = App()
app.queue("q", concurrency=20)


@app.handler("q", "Limited", limit=FleetLimit("crm", concurrency=4))
async def limited(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    try:
        await trio.sleep(seconds)
    finally:
        note("end", ctx)


@app.handler("q", "Free")
async def free(ctx: Context) -> None:
    note("free", ctx)
    note("end", ctx)
