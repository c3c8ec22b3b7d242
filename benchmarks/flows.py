"""`make bench-flows`: what batches, steps and iterations cost beside plain jobs, in turn, in about a minute.

CPU time is that of this process, which sends and works. On a busy machine trust the ratios, whose runs take turns.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import trio
from store import private_store

from trioworkers import App, Client, Context, Discard, sources

JOBS = 20_000
SUCCESSORS = 100_000
NOTED_US = 1000
"""What takes Redis longer is noted: no script of ours may take more than ten times that. On a busy machine the longest is one that had to wait itself."""
ROWS = 1_000_000
ROUNDS = 3
WHAT = {
    "plain": "an empty job: its task takes the next one without a pause",
    "batch": "the same, members of one batch",
    "waits": "a job that waits once, for a millisecond: its task parks and is woken, as any job's that does something",
    "step": "a job with one step of an empty function: its task parks until that is written",
}
Send = Callable[[Client], Awaitable[None]]


async def _nothing() -> None:
    return None


class Bench:
    """One worker, and how long it takes until so many jobs have ended."""

    def __init__(self, url: str) -> None:
        self.app = app = App(url)
        app.queue("bench", concurrency=1000)
        self.ended = 0
        self.all_ended = trio.Event()
        self.wanted = 0
        self.rows = 0

        @app.handler("bench", "Empty")
        async def empty() -> None:
            self._end()

        @app.handler("bench", "Waits")
        async def waits() -> None:
            await trio.sleep(0.001)
            self._end()

        @app.handler("bench", "Step")
        async def step(ctx: Context) -> None:
            await ctx.step("one", _nothing)
            self._end()

        @app.handler("bench", "Ends")
        async def ends() -> None:
            self._end()
            raise Discard

        @app.handler("bench", "Rows")
        async def rows(ctx: Context) -> None:
            async for _ in ctx.iterate("rows", sources.numbers(ROWS), every=timedelta(seconds=1)):
                self.rows += 1
            self._end()

        self.empty, self.step, self.iterate, self.ends = empty, step, rows, ends
        self.waits = waits

    def _end(self) -> None:
        self.ended += 1
        if self.ended == self.wanted:
            self.all_ended.set()

    async def run(self, count: int, send: Send) -> tuple[float, float]:
        """Send, then work: seconds and CPU seconds of the work."""
        async with Client(self.app.settings.redis_url) as client:
            await send(client)
        self.ended, self.wanted, self.all_ended = 0, count, trio.Event()
        began, cpu = time.perf_counter(), _cpu_s()
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(self.app.serve)
            await self.all_ended.wait()
            took = time.perf_counter() - began, _cpu_s() - cpu
            worker.stop()
        return took


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _compare(bench: Bench) -> None:
    async def plain(client: Client) -> None:
        await client.enqueue(*(bench.empty.job() for _ in range(JOBS)))

    async def batch(client: Client) -> None:
        async with client.batch() as open_batch:
            for _ in range(JOBS // 1000):
                await open_batch.add(*(bench.empty.job() for _ in range(1000)))

    async def waits(client: Client) -> None:
        await client.enqueue(*(bench.waits.job() for _ in range(JOBS)))

    async def steps(client: Client) -> None:
        await client.enqueue(*(bench.step.job() for _ in range(JOBS)))

    async def rows(client: Client) -> None:
        await client.enqueue(bench.iterate.job())

    kinds: dict[str, Send] = {"plain": plain, "batch": batch, "waits": waits, "step": steps}
    seconds: dict[str, list[float]] = {what: [] for what in kinds}
    cpu: dict[str, list[float]] = {what: [] for what in kinds}
    for _ in range(ROUNDS):
        for what, send in kinds.items():
            took_s, cpu_s = await bench.run(JOBS, send)
            seconds[what].append(took_s)
            cpu[what].append(cpu_s / JOBS * 1e6)
    base_s, base_cpu = statistics.median(seconds["plain"]), statistics.median(cpu["plain"])
    for what in kinds:
        took_s, cpu_us = statistics.median(seconds[what]), statistics.median(cpu[what])
        print(
            f"{what:<8} {JOBS / took_s:8.0f} jobs/s, {base_s / took_s:.2f} of plain; {cpu_us:6.1f} µs CPU, {cpu_us - base_cpu:+.1f} ({WHAT[what]})"
        )
    await _follow(bench)
    took_s, _ = await bench.run(1, rows)
    print(f"rows     {ROWS / took_s:8.0f} rows/s, a record every second")


async def _follow(bench: Bench) -> None:
    """So many successors of one job, that succeeds, or ends so that all of them are skipped; and how long Redis was at the longest script."""
    for what, first, ended in (("follow", bench.empty, SUCCESSORS + 1), ("skip", bench.ends, 2)):

        async def successors(client: Client, first: Any = first) -> None:
            async with client.batch(on_finished=bench.empty.job()) as batch:
                before = await batch.add(first.job())
                for _ in range(SUCCESSORS // 1000):
                    await batch.add(*(bench.empty.job() for _ in range(1000)), after=[before])

        async with Client(bench.app.settings.redis_url) as client:
            slow = partial(client._opened().connection.execute, "bench")
            await slow("CONFIG", "SET", "slowlog-log-slower-than", NOTED_US, "slowlog-max-len", 1000)
            await slow("SLOWLOG", "RESET")
            took_s, _ = await bench.run(ended + (what == "follow"), successors)
            took = [int(entry[2]) / 1000 for entry in await slow("SLOWLOG", "GET", 1000)] or [0]
        print(
            f"{what:<8} {SUCCESSORS / took_s:8.0f} successors/s; of what took Redis 1 ms or more half took {statistics.median(took):.1f} ms at most, the longest {max(took):.1f} ms"
        )


def main() -> None:
    with private_store() as store:
        trio.run(_compare, Bench(store.url))


if __name__ == "__main__":
    main()
