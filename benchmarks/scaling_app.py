"""The app of `scaling.py`: empty jobs, waits and fan-outs, as many at once as CONCURRENCY says."""

from __future__ import annotations

import os
from typing import Any

import trio

from trioworkers import App, Context

WAIT_S = 0.05
CALLS = [f"call{number}" for number in range(4)]
SINK = f"http://127.0.0.1:{os.environ.get('SINK', '')}"

app = App()
app.queue("bench", concurrency=int(os.environ.get("CONCURRENCY", "1000")))


@app.handler("bench", "Empty", timeout=30)
async def empty(ctx: Context, *args: Any) -> None: ...


@app.handler("bench", "Wait", timeout=30)
async def wait(ctx: Context, *args: Any) -> None:
    await trio.sleep(WAIT_S)


@app.handler("bench", "FanOut", timeout=30)
async def fan_out(ctx: Context, *args: Any) -> None:
    async with ctx.fan_out() as fan:
        for name in CALLS:
            fan.post(name, f"{SINK}/{name}", json={"id": 1})
