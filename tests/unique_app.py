"""The app of the tests of unique jobs with real processes. Each job notes in the file RUNS when it starts and when it ends.

`python unique_app.py URL FILE COUNT KEYS SEED` pushes COUNT jobs with keys of 0 to KEYS, and notes in FILE which of `Once` were taken.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio
from process_app import note

from trioworkers import App, Client, Context, Job, RetryAfter, Unique
from trioworkers.engine import search

if "SEARCH_SOON" in os.environ:  # instead of every three minutes
    search.EVERY_S, search.UNTOUCHED_S, search.BETWEEN_S = 0.4, 0.0, 0.2

app = App()
app.queue("q", concurrency=20)


@app.handler("q", "Once", unique=Unique(by="key"), retry=9)
async def once(ctx: Context, key: int, seconds: float = 0.0) -> None:
    note("start", ctx)
    await trio.sleep(seconds)
    if random.random() < 0.05:
        raise RetryAfter(0.05, "one in twenty fails")
    note("end", ctx)


@app.handler("q", "Latest", unique=Unique(by="key", on_conflict="latest"), retry=2)
async def latest(ctx: Context, key: int, number: int) -> None:
    note("start", ctx)
    await trio.sleep(0.001)
    note("end", ctx)


@app.handler("q", "Chain", unique=Unique(by="key"))
async def chain(ctx: Context, key: int, left: int) -> None:
    note("start", ctx)
    if left:
        ctx.enqueue(chain.job(key, left - 1))
    note("end", ctx)


@app.handler("q", "Until", unique=Unique(by="key"))
async def until(ctx: Context, key: int, path: str) -> None:
    """Until there is a file of that name."""
    note("start", ctx)
    while not await trio.Path(path).exists():
        await trio.sleep(0.05)
    note("end", ctx)


@app.handler("q", "Free")
async def free(ctx: Context) -> None:
    note("end", ctx)


async def push(url: str, file: Path, count: int, keys: int, seed: int) -> None:
    chance = random.Random(seed)
    async with Client(url) as client:
        with file.open("ab", buffering=0) as taken:
            while count > 0:
                jobs: list[Job] = []
                for _ in range(min(count, chance.randint(1, 40))):
                    key = chance.randrange(keys)
                    jobs.append(once.job(key) if chance.random() < 0.7 else latest.job(key, count))
                count -= len(jobs)
                sent = await client.enqueue(*jobs)
                fresh = [
                    jid
                    for job, jid in zip(jobs, sent, strict=True)
                    if jid.duplicate_of is None and job.job_class == "Once"
                ]
                taken.write("".join(f"{jid}\n" for jid in fresh).encode())


if __name__ == "__main__":
    trio.run(push, sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
    os._exit(0)  # at once: nothing is left to be told
