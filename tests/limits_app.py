"""The app of the tests of fleet-wide limits with real processes. Each job notes in the file RUNS when it starts and when it ends."""

from __future__ import annotations

import os

import trio
from process_app import note

from trioworkers import App, Context, FleetLimit, RateLimited

CRM = FleetLimit("crm", concurrency=int(os.environ.get("CRM", "4")))
app = App()
app.queue("q", concurrency=20)


@app.handler("q", "Limited", limit=CRM)
async def limited(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    try:
        await trio.sleep(seconds)
    finally:
        note("end", ctx)


@app.handler("q", "Until", limit=CRM)
async def until(ctx: Context, path: str) -> None:
    """Until there is a file of that name: however long a command takes meanwhile."""
    note("start", ctx)
    try:
        while not await trio.Path(path).exists():
            await trio.sleep(0.05)
    finally:
        note("end", ctx)


@app.handler("q", "Free")
async def free(ctx: Context) -> None:
    note("free", ctx)
    note("end", ctx)


app.queue("limited", concurrency=20, limit=FleetLimit(concurrency=3))
app.queue("rated", concurrency=200, limit=FleetLimit(rate="20/s"))


async def run_for(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    try:
        await trio.sleep(seconds)
    finally:
        note("end", ctx)


@app.handler("limited", "Queued")
async def queued(ctx: Context, seconds: float) -> None:
    await run_for(ctx, seconds)


@app.handler("rated", "QueueRated")
async def queue_rated(ctx: Context) -> None:
    await run_for(ctx, 0)


@app.handler("q", "Rated", limit=FleetLimit("rated", rate="20/s"))
async def rated(ctx: Context) -> None:
    await run_for(ctx, 0)


@app.handler("q", "Tenant", limit=FleetLimit("tenant", concurrency=2, by="tenant"))
async def of_a_tenant(ctx: Context, seconds: float, tenant: str) -> None:
    await run_for(ctx, seconds)


@app.handler("q", "Both", limit=[CRM, FleetLimit("other", concurrency=2)])
async def both(ctx: Context, seconds: float) -> None:
    await run_for(ctx, seconds)


@app.handler("q", "Part")
async def part(ctx: Context, seconds: float) -> None:
    async with ctx.limit(FleetLimit("part", concurrency=3)):
        await run_for(ctx, seconds)


refused: list[str] = []


@app.handler("q", "Refused", limit=FleetLimit("refusing", concurrency=2))
async def refused_once(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    if not refused:  # in each worker
        refused.append(ctx.job.jid)
        note("refused", ctx)
        raise RateLimited(retry_after=seconds)
    note("end", ctx)
