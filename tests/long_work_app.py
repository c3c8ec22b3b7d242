"""The app of the tests in which a sink's log tells how often steps and rows of long work were done."""

from __future__ import annotations

import os

import trio

from trioworkers import App, Context, sources

URL = os.environ["SINK"]
ROWS = int(os.environ.get("ROWS", "5"))
app = App()
app.queue("q", concurrency=50)


async def post(ctx: Context, name: str, size: int) -> str:
    response = await ctx.http.post(URL, json={"name": name})
    response.raise_for_status()
    return "x" * size


@app.handler("q", "Steps")
async def steps(ctx: Context, size: int) -> None:
    for name in ("a", "b", "c"):
        await ctx.step(name, post, ctx, name, size)


@app.handler("q", "Rows")
async def rows(ctx: Context) -> None:
    async for row in ctx.iterate("rows", sources.numbers(ROWS), every=1):
        async with ctx.fan_out() as fan:
            for name in ("a", "b"):
                fan.post(f"{name}{row}", URL, json={})
        await trio.sleep(0.02)
