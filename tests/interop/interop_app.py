"""Handlers for the interop tests that the examples don't have."""

from __future__ import annotations

import trio

from trioworkers import App, Context

app = App()


@app.handler("q")
async def fail(ctx: Context) -> None:
    raise ValueError("boom é")


@app.handler("q")
async def add(ctx: Context, a: int, b: int) -> None:
    """Adds, and says nothing."""


@app.handler("q")
async def wait(ctx: Context, seconds: float) -> None:
    await trio.sleep(seconds)
