"""One contestant of `fan_out.py`, in a process of its own: runs jobs of four HTTP calls each and says what that took.

`ours` is the whole worker with consumer, runner and settler, only that Redis is a fake; the others do the four calls and nothing else.
Needs only what it measures: the peers' environment doesn't have our package.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

CALLS = ("generic", "google", "mixpanel", "segment")
BODY = {"id": 7, "name": "Zoë", "email": "zoe@example.org", "url": "https://example.org/7", "ip_address": "192.0.2.7"}
LAG_STEP_S = 0.01


class Meter:
    """Counts, and takes the time of the measured part."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.errors: Counter[str] = Counter()
        self.worst_lag_s = self.longest_round_s = 0.0
        self.start()

    def start(self) -> None:
        self.succeeded, self.worst_lag_s, self.longest_round_s = 0, 0.0, 0.0
        self._looked_at_s = time.process_time()
        self.errors.clear()
        self._cpu_s, self._started_at = time.process_time(), time.perf_counter()

    def lagged(self, seconds: float) -> None:
        """The event loop came back `seconds` too late. Lag is made of its own work and of what the machine did else."""
        self.worst_lag_s = max(self.worst_lag_s, seconds)
        now_s = time.process_time()
        self.longest_round_s = max(self.longest_round_s, now_s - self._looked_at_s)
        self._looked_at_s = now_s

    def failed(self, error: BaseException) -> None:
        for leaf in error.exceptions if isinstance(error, BaseExceptionGroup) else [error]:
            self.errors[type(leaf).__name__] += 1

    def result(self) -> dict[str, Any]:
        cpu_s, wall_s = time.process_time() - self._cpu_s, time.perf_counter() - self._started_at
        return {
            "succeeded": self.succeeded,
            "errors": dict(self.errors),
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "worst_lag_s": self.worst_lag_s,
            "longest_round_s": self.longest_round_s,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


Job = Callable[[], Awaitable[None]]


async def on_trio(meter: Meter, jobs: Callable[[int], Awaitable[None]], options: argparse.Namespace) -> None:
    """Runs jobs by the number, to warm up and to be measured, and looks meanwhile how late the event loop is."""
    import trio

    async def lag() -> None:
        while True:
            due = trio.current_time() + LAG_STEP_S
            await trio.sleep_until(due)
            meter.lagged(trio.current_time() - due)

    with trio.move_on_after(options.time_limit):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag)
            await jobs(options.warm_up)
            meter.start()
            await jobs(options.jobs)
            nursery.cancel_scope.cancel()


async def on_asyncio(meter: Meter, job: Job, options: argparse.Namespace) -> None:
    async def lag() -> None:
        while True:
            due = time.perf_counter() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            meter.lagged(time.perf_counter() - due)

    async def slot(left: list[int]) -> None:
        while left[0] > 0:
            left[0] -= 1
            await job()

    async def jobs(count: int) -> None:
        left = [count]
        await asyncio.gather(*(slot(left) for _ in range(min(options.at_once, count))))

    async def all_jobs() -> None:
        await jobs(options.warm_up)
        meter.start()
        await jobs(options.jobs)

    watch = asyncio.create_task(lag())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(all_jobs(), options.time_limit)
    watch.cancel()


async def ours(meter: Meter, options: argparse.Namespace) -> None:
    import trio

    from trioworkers import App, Context, Http, testing

    app = App(http=Http(max_connections=max(1000, len(CALLS) * options.at_once)))
    app.queue("track", concurrency=options.at_once)
    wanted, finished = 0, trio.Event()

    @app.handler("track", "TrackUserJob", timeout=30)
    async def track(ctx: Context, body: dict[str, Any]) -> None:
        async with ctx.fan_out() as fan:
            for name in CALLS:
                fan.post(name, options.url, json=body)
        meter.succeeded += len(CALLS)
        if meter.succeeded >= wanted:
            finished.set()

    async with testing.run(app) as test:
        stock = [track.job(BODY) for _ in range(options.warm_up + options.jobs)]

        async def jobs(count: int) -> None:
            nonlocal wanted, finished
            if not count:
                return
            wanted, finished = meter.succeeded + count * len(CALLS), trio.Event()
            left = count
            while left:
                some = min(left, 100)
                await test.enqueue(*[stock.pop() for _ in range(some)])
                left -= some
            await finished.wait()
            await test.drain()

        await on_trio(meter, jobs, options)
        if test.retries:
            meter.errors["retry"] += len(test.retries)


async def our_client(meter: Meter, options: argparse.Namespace) -> None:
    """The client as fan-outs use it, without a worker around it."""
    import httpx

    from trioworkers import Http
    from trioworkers.http import open_client

    url, headers = httpx.URL(options.url), {"Idempotency-Key": "0123456789abcdef01234567:google"}
    async with open_client(Http(max_connections=len(CALLS) * options.at_once)) as client:

        async def post() -> httpx.Response:
            return await client.exchange("POST", url, headers, {"json": BODY})

        await with_nurseries(meter, options, post)


async def with_nurseries(meter: Meter, options: argparse.Namespace, post: Callable[[], Awaitable[Any]]) -> None:
    import trio

    async def call() -> None:
        try:
            (await post()).raise_for_status()
            meter.succeeded += 1
        except Exception as error:  # noqa: BLE001 - counted
            meter.failed(error)

    async def slot(left: list[int]) -> None:
        while left[0] > 0:
            left[0] -= 1
            async with trio.open_nursery() as nursery:
                for _ in CALLS:
                    nursery.start_soon(call)

    async def jobs(count: int) -> None:
        left = [count]
        async with trio.open_nursery() as nursery:
            for _ in range(min(options.at_once, count)):
                nursery.start_soon(slot, left)

    await on_trio(meter, jobs, options)


async def with_httpx(meter: Meter, options: argparse.Namespace, httpx: Any, **settings: Any) -> None:
    async with httpx.AsyncClient(**settings) as client:
        await with_nurseries(meter, options, lambda: client.post(options.url, json=BODY))


async def httpx_default(meter: Meter, options: argparse.Namespace) -> None:
    import httpx

    await with_httpx(meter, options, httpx)


async def httpx_tuned(meter: Meter, options: argparse.Namespace) -> None:
    import httpx

    size = len(CALLS) * options.at_once
    limits = httpx.Limits(max_connections=size, max_keepalive_connections=size)
    await with_httpx(meter, options, httpx, limits=limits, timeout=60)


async def httpx2_default(meter: Meter, options: argparse.Namespace) -> None:
    import httpx2

    await with_httpx(meter, options, httpx2)


async def httpx2_tuned(meter: Meter, options: argparse.Namespace) -> None:
    import httpx2

    size = len(CALLS) * options.at_once
    limits = httpx2.Limits(max_connections=size, max_keepalive_connections=size)
    await with_httpx(meter, options, httpx2, limits=limits, timeout=60)


async def aiohttp_tuned(meter: Meter, options: argparse.Namespace) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=len(CALLS) * options.at_once)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:

        async def call() -> None:
            try:
                async with session.post(options.url, json=BODY) as response:
                    response.raise_for_status()
                    await response.read()
                meter.succeeded += 1
            except Exception as error:  # noqa: BLE001 - counted
                meter.failed(error)

        async def job() -> None:
            await asyncio.gather(*(call() for _ in CALLS))

        await on_asyncio(meter, job, options)


CONTESTANTS = {
    "ours": ours,
    "our client": our_client,
    "httpx": httpx_default,
    "httpx, tuned": httpx_tuned,
    "httpx2": httpx2_default,
    "httpx2, tuned": httpx2_tuned,
    "aiohttp": aiohttp_tuned,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--at-once", type=int, required=True, help="jobs at once")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--warm-up", type=int, default=0, help="jobs before the measured ones")
    parser.add_argument("--time-limit", type=float, default=20.0)
    parser.add_argument("--profile")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    meter = Meter()
    run = CONTESTANTS[options.contestant]
    if options.contestant == "aiohttp":
        asyncio.run(run(meter, options))
    else:
        import trio

        if options.profile:
            import cProfile

            profile = cProfile.Profile()
            profile.runcall(trio.run, run, meter, options)
            profile.dump_stats(options.profile)
        else:
            trio.run(run, meter, options)
    print(json.dumps(meter.result()))


if __name__ == "__main__":
    main()
