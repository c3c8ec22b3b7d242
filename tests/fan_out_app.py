"""The app of the tests in which a sink's log tells what was sent: each job makes three calls, with or without checkpoints."""

from __future__ import annotations

import os

from trioworkers import App, Breaker, Context, Http

URL = os.environ["SINK"]
breaker = Breaker(failures=3, pause=1, longest_pause=1) if os.environ.get("BREAKER") else None
app = App(http=Http(breaker=breaker) if breaker is not None else Http())
app.queue("q", concurrency=50)


@app.handler("q", "Calls")
async def calls(ctx: Context) -> None:
    async with ctx.fan_out() as fan:
        for name in ("a", "b", "c"):
            fan.post(name, URL, json={"name": name})


@app.handler("q", "PaidCalls")
async def paid_calls(ctx: Context) -> None:
    async with ctx.fan_out(checkpoint=True) as fan:
        for name in ("a", "b", "c"):
            fan.post(name, URL, json={"name": name})
