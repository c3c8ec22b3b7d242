"""Handlers for the tests with Sidekiq's web interface: they note that they ran, fail oddly, or wait to be released."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from trioworkers import App, Context

FOLDER = Path(os.environ["FOLDER"])
app = App()
app.queue("web", concurrency=20)
app.queue("narrow", concurrency=1)


def _note(text: str) -> None:
    with (FOLDER / "ran").open("a") as ran:
        ran.write(f"{text}\n")


@app.handler("web")
@app.handler("narrow", "note")
async def note(text: str) -> None:
    _note(text)


@app.handler("web")
async def flaky(text: str) -> None:
    if not (FOLDER / "mended").exists():
        raise RuntimeError(f"broken: {text}")
    _note(text)


@app.handler("web")
async def odd(kind: str) -> None:
    def inner() -> None:
        messages = {"html": "<b>&amp;", "long": "é" * 20_000, "surrogate": "a\udcffz", "nul": "\0\x1b[1m☃\u2028"}
        raise ValueError(messages[kind])

    inner()


@app.handler("web")
async def group() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odd.function, "html")


@app.handler("web", "*")
async def anything(ctx: Context, *args: object, **more: object) -> None:
    del args, more
    if ctx.job.job_class.startswith("hold"):
        await hold.function(ctx, ctx.job.jid)
    elif not (FOLDER / "mended").exists():
        odd_words = "\u202e\x1b[1m\0<b>&\u200b" + ctx.job.job_class
        raise type(ctx.job.job_class, (Exception,), {})(odd_words)
    else:
        _note(ctx.job.jid)


@app.handler("narrow")
@app.handler("web", "hold")
async def hold(ctx: Context, text: str) -> None:
    while not any((FOLDER / f"released-{name}").exists() for name in (text, "all")):
        await trio.sleep(0.02)
    _note(text)
