"""A worker with one feature on, of `prices.py`: `python priced_app.py FEATURE --redis URL [--second URL] [--jobs N | --seconds S]`.

Sends its jobs, then runs them, or stands by. Prints a line of JSON: CPU of this process per job between the first jobs and the last ones, or per second.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import trio

from trioworkers import App, Client, Context, FleetLimit, Shard, Unique, sources
from trioworkers.jobs.handler import AnyHandler

QUEUE = "bench"
ROWS = 10
AT_ONCE = 1000
HANDLERS: dict[str, Callable[[], dict[str, Any]]] = {
    "lock": lambda: {"unique": Unique()},
    "limit": lambda: {"limit": FleetLimit("all", concurrency=1_000_000)},
    "rate": lambda: {"limit": FleetLimit("all", rate="10000/s", burst=100_000)},
    "result": lambda: {"keep_result": 3600},
    "expiry": lambda: {"expires_in": 3600},
    "finished": lambda: {"keep_finished": 1000},
    "log": lambda: {"keep_log": 100},
}
"""Features that a handler asks for."""


def _app(options: argparse.Namespace, lifespan: Callable[[], AbstractAsyncContextManager[None]]) -> App:
    more: dict[str, Any] = {"lifespan": lifespan}
    if options.feature == "shards":
        more["shards"] = {"one": Shard(options.second), "two": Shard(options.second, namespace="two")}
    if options.feature == "tracing":
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - few need it

        from trioworkers.observe.tracing import OpenTelemetry  # noqa: PLC0415 - as above

        more["telemetry"] = OpenTelemetry(tracer_provider=TracerProvider())
    app = App(options.redis, shutdown_timeout=0.001, **more)
    if options.feature == "capsule":
        app.queue(QUEUE)
        app.queue("other")
        app.capsule("both", concurrency=AT_ONCE, queues={QUEUE: 2, "other": 1})
    elif options.feature == "shards":
        app.queue(QUEUE, concurrency=AT_ONCE, shards=["one", "two"])
    else:
        app.queue(QUEUE, concurrency=AT_ONCE)
    return app


class Bench:
    """The worker, and what it has done so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.done = 0
        self.figures: dict[str, float] = {}
        self.app = _app(options, self._lifespan)
        self.handler = self._handler()
        self.app.middleware(self._count)

    def _handler(self) -> AnyHandler:
        asked = HANDLERS.get(self.options.feature, dict)()
        function = {"step": _step, "iterate": _iterate, "log": _say, "said": _say}.get(self.options.feature, _empty)
        handler: AnyHandler = self.app.handler(QUEUE, "Empty", timeout=30, **asked)(function)
        if self.options.feature == "capsule":
            self.app.handler("other", "Empty")(_empty)
        if self.options.feature == "cron":
            self.app.queue("ticks")
            ticking = self.app.handler("ticks", "Tick")(_empty_tick)
            self.app.periodic("@every 1s")(ticking)
        return handler

    async def _count(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        value = await call_next()
        self.done += 1
        return value

    async def send(self) -> None:
        """What is to be done."""
        jobs = [self.handler.job(number, "two") for number in range(self.options.jobs)]
        async with self.app.client() as client:
            if self.options.feature == "batch":
                await self._in_a_batch(client, jobs)
            else:
                for first in range(0, len(jobs), 5000):
                    await client.enqueue(*jobs[first : first + 5000])

    async def _in_a_batch(self, client: Client, jobs: list[Any]) -> None:
        async with client.batch() as batch:
            for first in range(0, len(jobs), 1000):
                await batch.add(*jobs[first : first + 1000])

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._measure)
            yield

    async def _measure(self) -> None:
        if self.options.jobs:
            first, last = self.options.jobs // 5, self.options.jobs * 19 // 20
            await self._until(first)
            done, cpu_s = self.done, _cpu_s()
            await self._until(last)
            self.figures["cpu_us"] = (_cpu_s() - cpu_s) / (self.done - done) * 1e6
            await self._until(self.options.jobs)
        else:
            await trio.sleep(2)
            print("stands by", flush=True)
            began, cpu_s = time.perf_counter(), _cpu_s()
            await trio.sleep(self.options.seconds)
            self.figures["percent"] = (_cpu_s() - cpu_s) / (time.perf_counter() - began) * 100
        os.kill(os.getpid(), signal.SIGTERM)

    async def _until(self, count: int) -> None:
        while self.done < count:
            await trio.sleep(0.002)

    def beside(self) -> AbstractContextManager[object]:
        """What stands beside the worker."""
        if self.options.feature == "metrics":
            from trioworkers.observe.metrics import Metrics  # noqa: PLC0415 - few need it

            self.metrics = Metrics(self.app)
        if self.options.feature == "dashboard":
            from trioworkers.cli.dashboard import beside_worker, serving  # noqa: PLC0415 - as above

            return beside_worker(self.app, serving(self.options.bind, None, None, None, read_only=False))
        return nullcontext()

    def run(self) -> dict[str, float]:
        """Until measured."""
        if self.options.jobs:
            trio.run(self.send)
            print("sent", flush=True)
            sys.stdin.readline()
        if self.options.feature == "health":
            from trioworkers.process.health import Told, serving_health  # noqa: PLC0415 - few need it
            from trioworkers.process.run import run  # noqa: PLC0415 - as above

            told = Told()
            with serving_health(self.options.bind, told.health):
                run(self.app, told.tell)
        else:
            with self.beside():
                self.app.run()
        return self.figures


async def _empty(ctx: Context, number: int, text: str) -> None: ...


async def _say(ctx: Context, number: int, text: str) -> None:
    ctx.log.error("one line")


async def _empty_tick(ctx: Context) -> None: ...


async def _step(ctx: Context, number: int, text: str) -> None:
    await ctx.step("one", _nothing)


async def _iterate(ctx: Context, number: int, text: str) -> None:
    async for _ in ctx.iterate("rows", sources.numbers(ROWS)):
        pass


async def _nothing() -> None: ...


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("feature")
    parser.add_argument("--redis", required=True)
    parser.add_argument("--second", default="")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bind", default="")
    with Path(os.devnull).open("w") as nowhere:
        logging.basicConfig(level=logging.ERROR, stream=nowhere)
        print(json.dumps(Bench(parser.parse_args()).run()))


if __name__ == "__main__":
    main()
