"""Our own worker and client under measurement: one measurement per process, its figures as a line of JSON.

`python ours.py --redis URL MEASUREMENT [--jobs N] [--concurrency N] [--queues N]`. Everything is on: a middleware, a timeout,
the context, statistics. CPU is this process's own, from the moment when the worker has started.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from trioworkers import App, Client, Context, Job

ACROSS_PROCESSES = time.CLOCK_MONOTONIC
started_ns: list[int] = []


def cpu_s() -> float:
    """CPU time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_mb() -> float:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def make_app(url: str, concurrency: int, queues: int = 1) -> App:
    """Handlers for all that is measured, on queue `bench` (and `bench1`, …)."""
    app = App(url, shutdown_timeout=0.001)
    for number in range(queues):
        queue = f"bench{number or ''}"
        app.queue(queue, concurrency=concurrency)
        app.handler(queue, "Empty", timeout=30)(empty)
        app.handler(queue, "Wait", timeout=30)(wait)
        app.handler(queue, "Stamp", timeout=30)(stamp)
        app.handler(queue, "Forever", timeout=3600)(forever)
    app.middleware(pass_on)
    return app


async def empty(ctx: Context, *args: Any) -> None: ...


async def wait(ctx: Context, seconds: float) -> None:
    await trio.sleep(seconds)


async def stamp(ctx: Context) -> None:
    started_ns.append(time.clock_gettime_ns(ACROSS_PROCESSES))


async def forever(ctx: Context) -> None:
    await trio.sleep_forever()


async def pass_on(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


async def until(condition: Callable[[], bool], step_s: float = 0.005) -> None:
    while not condition():
        await trio.sleep(step_s)


# ── measurements ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def throughput(options: argparse.Namespace) -> dict[str, float]:
    """Jobs that wait in the queue when we start."""
    async with trio.open_nursery() as nursery:
        began, used = time.perf_counter(), cpu_s()
        worker = await nursery.start(make_app(options.redis, options.concurrency).serve)
        await until(lambda: worker.stats().settled >= options.jobs)
        figures = {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}
        worker.stop()
    return figures


async def running(options: argparse.Namespace) -> dict[str, float]:
    """Memory with so many running jobs, and how long it takes to stop with them."""
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(options.redis, options.jobs).serve)
        await until(lambda: sum(worker.stats().running.values()) >= options.jobs)
        await trio.sleep(0.5)
        memory, used, began = memory_mb(), cpu_s(), time.perf_counter()
        worker.stop()
    return {"memory_mb": memory, "stop_s": time.perf_counter() - began, "stop_cpu_s": cpu_s() - used}


async def idle(options: argparse.Namespace) -> dict[str, float]:
    """CPU of a worker that has nothing to do."""
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(options.redis, 10, options.queues).serve)
        await trio.sleep(2)
        used, began = cpu_s(), time.perf_counter()
        await trio.sleep(options.seconds)
        percent = (cpu_s() - used) / (time.perf_counter() - began) * 100
        worker.stop()
    return {"percent": percent}


async def latency(options: argparse.Namespace) -> dict[str, list[float]]:
    """Serve `Stamp` jobs that come now and then; the moments at which they started, in ns."""
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(options.redis, 10).serve)
        await trio.sleep(0.5)
        print("ready", flush=True)
        await until(lambda: worker.stats().settled >= options.jobs)
        worker.stop()
    return {"started_ns": started_ns}


async def one_by_one(options: argparse.Namespace) -> dict[str, float]:
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


async def in_bulk(options: argparse.Namespace) -> dict[str, float]:
    """Enqueue ten thousand at a time; making the jobs counts, too."""
    async with Client(options.redis) as client:
        await client.enqueue(Job("other", "Empty"))
        began, used = time.perf_counter(), cpu_s()
        for _ in range(options.jobs // 10_000):
            await client.enqueue(*(Job("other", "Empty", [n, "two"]) for n in range(10_000)))
        return {"jobs": options.jobs, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - used}


MEASUREMENTS = {f.__name__: f for f in (throughput, running, idle, latency, one_by_one, in_bulk)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=[*MEASUREMENTS])
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=1000)
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # a server without persistence is worth a warning, but not here
    print(json.dumps(trio.run(MEASUREMENTS[options.measurement], options)))


if __name__ == "__main__":
    main()
