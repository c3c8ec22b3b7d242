"""The app of the tests with real processes. Each job notes its jid in the file RUNS when it starts and when it ends."""

from __future__ import annotations

import os
import time

import trio

if "CLOCK_AHEAD_S" in os.environ:
    right_time, ahead_s = time.time, float(os.environ["CLOCK_AHEAD_S"])
    time.time = lambda: right_time() + ahead_s

from trioworkers import App, Context

app = App()
app.queue("q", concurrency=int(os.environ.get("CONCURRENCY", "100")))


def note(event: str, ctx: Context) -> None:
    line = f"{event} {ctx.job.jid} {os.getpid()}\n".encode()
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


@app.handler("q", "Sleep")
async def sleep(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    note("end", ctx)


@app.handler("q", "Block")
async def block(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    time.sleep(seconds)  # noqa: ASYNC251 - this is the fault
    note("end", ctx)


@app.handler("q", "Stubborn")
async def stubborn(ctx: Context) -> None:
    note("start", ctx)
    while True:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


@app.handler("q", "Die")
async def die(ctx: Context) -> None:
    note("start", ctx)
    os._exit(7)


def spin() -> None:
    while True:
        pass


@app.handler("q", "Compute")
async def compute(ctx: Context) -> None:
    note("start", ctx)
    await ctx.run_cpu(spin)


@app.handler("q", "FailAfter")
async def fail_after(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    raise ValueError("as asked")


@app.handler("other", "Sleep")
async def sleep_elsewhere(ctx: Context, seconds: float) -> None:
    await sleep(ctx, seconds)
