"""The app of the tests with real processes. Each job notes its jid in the file RUNS when it starts and when it ends."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from coredis.pool import ConnectionPool

if "CLOCK_AHEAD_S" in os.environ:
    right_time, ahead_s = time.time, float(os.environ["CLOCK_AHEAD_S"])
    time.time = lambda: right_time() + ahead_s

from trioworkers import App, Context, Http, Job, RetryAfter, Shard


@asynccontextmanager
async def lag_is_noted() -> AsyncIterator[None]:
    async def watch() -> None:
        worst = 0.0
        while True:
            started_at = trio.current_time()
            await trio.sleep(0.05)
            lag = trio.current_time() - started_at - 0.05
            if lag > worst:
                worst = lag
                write(f"lag {lag:.3f}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        nursery.cancel_scope.cancel()


def tell_what_is_held(*_: object) -> None:
    """What must be at its baseline when nothing is left to do: tasks, slots of the Redis clients' pools, descriptors."""
    gc.collect()
    pools = [each for each in gc.get_objects() if isinstance(each, ConnectionPool) and each._online_connections]
    slots = sum(pool.max_connections - len(pool._available_connections) for pool in pools)
    tasks = trio.lowlevel.current_statistics().tasks_living
    write(f"held tasks={tasks} slots={slots} descriptors={len(list(Path('/proc/self/fd').iterdir()))}")


signal.signal(signal.SIGUSR1, tell_what_is_held)

SHARDS = {f"s{number}": Shard(url) for number, url in enumerate(os.environ.get("SHARDS", "").split(",")) if url}
app = App(
    shards=SHARDS or None,
    http=Http(max_connections=200),
    lifespan=lag_is_noted if "NOTE_LAG" in os.environ else None,
    max_payload_bytes=int(os.environ.get("MAX_PAYLOAD_BYTES", str(1 << 20))),
)
CONCURRENCY = int(os.environ.get("CONCURRENCY", "100"))
if "CAPSULE" in os.environ:
    app.capsule("shared", concurrency=CONCURRENCY, queues={"q": 3, "other": 1})
else:
    app.queue(
        "q", concurrency=CONCURRENCY, shards=os.environ.get("Q_SHARDS", ",".join(SHARDS)).split(",") if SHARDS else None
    )
if SHARDS:
    app.queue("other", shards=[os.environ.get("OTHER_SHARD", [*SHARDS][-1])])


def note(event: str, ctx: Context) -> None:
    write(f"{event} {ctx.job.jid}")


def write(what: str) -> None:
    line = f"{what} {os.getpid()} {time.time():.3f}\n".encode()
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


@app.handler("q", "Sleep")
async def sleep(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    note("end", ctx)


@app.handler("q", "Until")
async def until(ctx: Context, path: str) -> None:
    """There is a file of that name: however long what the test does meanwhile takes."""
    note("start", ctx)
    while not os.path.exists(path):  # noqa: PTH110 - a moment
        await trio.sleep(0.2)
    note("end", ctx)


@app.handler("q", "Block")
async def block(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    time.sleep(seconds)  # noqa: ASYNC251 - this is the fault
    note("end", ctx)


@app.handler("q", "Thread")
async def thread(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.to_thread.run_sync(time.sleep, seconds)
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
    match os.environ.get("DIE_BY"):
        case "segmentation fault":
            ctypes.string_at(0)
        case "kill":  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)


@app.handler("q", "Gorge")
async def gorge(ctx: Context) -> None:
    note("start", ctx)
    bytearray(1 << 46)


def spin(jid: str) -> None:
    write(f"start {jid}")  # noted where it computes: what looks for its process then finds it
    while True:
        pass


@app.handler("q", "Compute")
async def compute(ctx: Context) -> None:
    await ctx.run_cpu(spin, ctx.job.jid)


@app.handler("q", "Storm")
async def storm(ctx: Context, url: str) -> None:
    note("start", ctx)
    with trio.move_on_after(random.choice([math.inf, math.inf, random.uniform(0.0, 1.0)])):
        async with ctx.fan_out() as fan:
            for name in "abcd":
                fan.post(name, url, json={"name": name})
    note("end", ctx)


@app.handler("q", "FailAfter")
async def fail_after(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    raise ValueError("as asked")


@app.handler("q", "Again")
async def again(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    if ctx.attempt == 1:
        note("again", ctx)
        raise RetryAfter(0.2)
    note("end", ctx)


@app.handler("q", "Parent")
async def parent(ctx: Context, seconds: float) -> None:
    note("start", ctx)
    ctx.enqueue(Job("other" if SHARDS else "q", "Sleep", [seconds], jid=f"{ctx.job.jid}-child"))
    await trio.sleep(seconds)
    note("end", ctx)


@app.handler("other", "Sleep")
async def sleep_elsewhere(ctx: Context, seconds: float) -> None:
    await sleep(ctx, seconds)
