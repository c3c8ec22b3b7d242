"""Our own worker and client under measurement: one measurement per process, its figures as a line of JSON.

`python ours.py --redis URL MEASUREMENT [--jobs N] [--concurrency N] [--queues N]`. Everything is on: a middleware, a timeout,
the context, statistics. CPU is this process's own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from trioworkers import App, Client, Context, FleetLimit, Job, Shard, Unique
from trioworkers.process.logs import configure_logging

ACROSS_PROCESSES = time.CLOCK_MONOTONIC


def cpu_s() -> float:
    """CPU time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_mb() -> float:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


class Bench:
    """One worker, run as users run it, with `control` beside it; it ends by the signal that ends all workers."""

    def __init__(self, options: argparse.Namespace, concurrency: int) -> None:
        self.options = options
        self.figures: dict[str, Any] = {}
        self.started = 0
        self.done = 0
        self.started_ns: list[int] = []
        self._began, self._used = 0.0, 0.0
        shards = {f"shard{number}": Shard(url) for number, url in enumerate(options.shard)}
        self._app = App(
            None if shards else options.redis, shards=shards or None, shutdown_timeout=0.001, lifespan=self._lifespan
        )
        for number in range(options.queues):
            queue = f"bench{number or ''}"
            if not options.capsule:
                self._app.queue(queue, concurrency=concurrency, shards=[*shards] or None)
            for job_class, handler in {"Empty": empty, "Wait": wait, "Stamp": self.stamp, "Forever": forever}.items():
                limit = FleetLimit("bench", concurrency=options.limit) if options.limit else None
                unique = Unique() if options.unique else None
                self._app.handler(queue, job_class, timeout=30, limit=limit, unique=unique)(handler)
        if options.capsule:
            names = [f"bench{number or ''}" for number in range(options.queues)]
            queues = names if options.capsule == "strict" else {name: 1 + n % 3 for n, name in enumerate(names)}
            self._app.capsule("bench", concurrency=concurrency, queues=queues)
        self._app.middleware(self.count)

    def run(self, control: Callable[[Bench], Awaitable[None]]) -> dict[str, Any]:
        """Run the worker until `control` returns; figures from `mark` on."""
        self._control = control
        self._app.run()
        self.figures |= {"seconds": time.perf_counter() - self._began, "cpu_s": cpu_s() - self._used}
        return self.figures

    def mark(self) -> None:
        """From here on CPU and seconds count."""
        self._began, self._used = time.perf_counter(), cpu_s()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, looking now and then: the jobs shall not pay for being watched."""
        while not condition():
            await trio.sleep(0.005)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async def control() -> None:
            await self._control(self)
            os.kill(os.getpid(), signal.SIGTERM)

        self.mark()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control)
            yield

    async def count(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        self.started += 1
        result = await call_next()
        self.done += 1
        return result

    async def stamp(self, ctx: Context) -> None:
        self.started_ns.append(time.clock_gettime_ns(ACROSS_PROCESSES))


async def empty(ctx: Context, *args: Any) -> None: ...


async def wait(ctx: Context, seconds: float) -> None:
    await trio.sleep(seconds)


async def forever(ctx: Context) -> None:
    await trio.sleep_forever()


# ── measurements ───────────────────────────────────────────────────────────────────────────────────────────────────────


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Jobs that wait in the queue when we start; the start and the stop count as well."""

    async def control(bench: Bench) -> None:
        await bench.until(lambda: bench.done >= options.jobs)

    return Bench(options, options.concurrency).run(control)


def running(options: argparse.Namespace) -> dict[str, Any]:
    """Memory with so many running jobs; then how long it takes to stop with them."""

    async def control(bench: Bench) -> None:
        await bench.until(lambda: bench.started >= options.jobs)
        await trio.sleep(0.5)
        bench.figures["memory_mb"] = memory_mb()
        bench.mark()

    return Bench(options, options.jobs).run(control)


def idle(options: argparse.Namespace) -> dict[str, Any]:
    """CPU of a worker that has nothing to do."""

    async def control(bench: Bench) -> None:
        await trio.sleep(2)
        used, began = cpu_s(), time.perf_counter()
        await trio.sleep(options.seconds)
        bench.figures["percent"] = (cpu_s() - used) / (time.perf_counter() - began) * 100

    return Bench(options, options.concurrency).run(control)


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Serve `Stamp` jobs that come now and then; the moments at which they started, in ns."""

    async def control(bench: Bench) -> None:
        await trio.sleep(1)
        print("ready", flush=True)
        await bench.until(lambda: bench.done >= options.jobs)
        bench.figures["started_ns"] = bench.started_ns

    return Bench(options, options.concurrency).run(control)


def one_by_one(options: argparse.Namespace) -> dict[str, Any]:
    """See below."""
    return trio.run(_one_by_one, options)


async def _one_by_one(options: argparse.Namespace) -> dict[str, float]:
    """Enqueue from a hundred tasks at once, each awaiting every push."""
    async with Client(options.redis) as client:

        async def push() -> None:
            for _ in range(options.jobs // 100):
                await client.enqueue(Job("other", "Empty", [1, "two"]))

        await client.enqueue(Job("other", "Empty"))
        began, used = time.perf_counter(), cpu_s()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(push)
        return {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}


def in_bulk(options: argparse.Namespace) -> dict[str, Any]:
    """See below."""
    return trio.run(_in_bulk, options)


async def _in_bulk(options: argparse.Namespace) -> dict[str, float]:
    """Enqueue ten thousand at a time; making the jobs counts, too."""
    async with Client(options.redis) as client:
        await client.enqueue(Job("other", "Empty"))
        began, used = time.perf_counter(), cpu_s()
        for _ in range(options.jobs // 10_000):
            await client.enqueue(*(Job("other", "Empty", [n, "two"]) for n in range(10_000)))
        return {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}


def unique(options: argparse.Namespace) -> dict[str, Any]:
    """See below."""
    return trio.run(_unique, options)


async def _unique(options: argparse.Namespace) -> dict[str, float]:
    """Enqueue as many unique jobs as `throughput --unique` is to run, ten thousand at a time; making the jobs counts, too."""
    handler = App(options.redis).handler("bench", "Empty", unique=Unique())(empty)
    async with Client(options.redis) as client:
        began, used = time.perf_counter(), cpu_s()
        for first in range(0, options.jobs, 10_000):
            numbers = range(first, min(first + 10_000, options.jobs))
            await client.enqueue(*(handler.job(number, "two") for number in numbers))
        return {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}


def handlers_one_by_one(options: argparse.Namespace) -> dict[str, Any]:
    """Enqueue from one task, jobs of a handler's own."""
    return trio.run(_of_handler, options, 1)


def handlers_in_bulk(options: argparse.Namespace) -> dict[str, Any]:
    """Ten thousand of a handler's own jobs at a time; making them counts, too."""
    return trio.run(_of_handler, options, 10_000)


async def _of_handler(options: argparse.Namespace, at_a_time: int) -> dict[str, float]:
    async def other(ctx: Context, number: int, text: str) -> None: ...

    handler = App(options.redis).handler("other", "Empty", timeout=30)(other)
    async with Client(options.redis) as client:
        await client.enqueue(handler.job(0, "two"))
        began, used = time.perf_counter(), cpu_s()
        for _ in range(options.jobs // at_a_time):
            await client.enqueue(*(handler.job(n, "two") for n in range(at_a_time)))
        return {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}


_ALL = (throughput, running, idle, latency, one_by_one, in_bulk, unique, handlers_one_by_one, handlers_in_bulk)
MEASUREMENTS = {f.__name__: f for f in _ALL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=[*MEASUREMENTS])
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--shard", action="append", default=[], help="spread the queue over these, instead of --redis")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=0, help="have all jobs under one limit of so many at once")
    parser.add_argument("--unique", action="store_true", help="have all jobs unique by their arguments")
    parser.add_argument("--log", type=argparse.FileType("w"), help="log as installed, to this file: two lines a job")
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--capsule", choices=("weighted", "strict"), help="have the queues share the slots")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    if options.log is None:
        logging.basicConfig(level=logging.ERROR)  # a server without persistence is worth a warning, but not here
    else:
        configure_logging("text", "info", options.log)
    print(json.dumps(MEASUREMENTS[options.measurement](options)))


if __name__ == "__main__":
    main()
