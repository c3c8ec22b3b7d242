"""streaQ: `streaq run streaq_app:worker`, on Trio (BENCH_VARIANT=trio) or asyncio with uvloop."""

from __future__ import annotations

import os
import time
from typing import Any

import anyio
import httpx
from common import (
    AT_ONCE,
    CALLS,
    CONCURRENCY,
    HOLD_S,
    PUZZLE,
    QUEUES,
    REDIS_URL,
    SINK,
    WAIT_S,
    arguments,
    command_line,
    count,
    pauses,
    solve,
    stamped,
    timed,
)
from streaq import Worker

CHUNK = 1000
ON_TRIO = os.environ.get("BENCH_VARIANT") == "trio"
worker: Any = Worker(
    REDIS_URL,
    concurrency=CONCURRENCY,
    priorities=QUEUES,
    anyio_backend="trio" if ON_TRIO else "asyncio",
    anyio_kwargs={} if ON_TRIO else {"use_uvloop": True},
)
_clients: list[httpx.AsyncClient] = []


async def empty(n: int, text: str) -> None:
    count()


async def wait(n: int, text: str) -> None:
    await anyio.sleep(WAIT_S)
    count()


async def fan_out(n: int, text: str) -> None:
    if not _clients:
        # httpx scans all its connections for each request: more than its default of 100 make it slower.
        _clients.append(httpx.AsyncClient(timeout=None))
    async with anyio.create_task_group() as group:
        for name in CALLS:
            group.start_soon(_call, name, n)
    count()


async def _call(name: str, n: int) -> None:
    (await _clients[0].post(f"{SINK}/{name}", json={"id": n})).raise_for_status()


async def sudoku(n: int, text: str) -> None:
    solve(PUZZLE)
    count()


async def hold(n: int, text: str) -> None:
    count()
    await anyio.sleep(HOLD_S)


async def stamp(n: int, text: str) -> None:
    stamped(n)


# ttl=0: results are not kept; silent: no log line for each task
TASKS = {job.__name__: worker.task(silent=True, ttl=0)(job) for job in (empty, wait, fan_out, sudoku, hold, stamp)}


async def _fill(job: str, count_: int, size: int) -> None:
    async with worker:
        with timed():
            for first in range(0, count_, CHUNK):
                given = arguments(min(CHUNK, count_ - first), size)
                await worker.enqueue_many([TASKS[job].enqueue(n, text) for n, text in given])


async def _one(job: str, count_: int, size: int) -> None:
    waiting = iter(arguments(count_, size))

    async def share() -> None:
        for n, text in waiting:
            await TASKS[job].enqueue(n, text)

    async with worker:
        with timed():
            async with anyio.create_task_group() as group:
                for _ in range(AT_ONCE):
                    group.start_soon(share)


async def _stamps(count_: int, pause_s: float) -> None:
    async with worker:
        for pause in pauses(count_, pause_s):
            await anyio.sleep(pause)
            await TASKS["stamp"].enqueue(time.monotonic_ns(), "")


def _run(function: Any, *given: Any) -> None:
    anyio.run(function, *given, backend=worker.anyio_backend, backend_options=worker.anyio_kwargs)


if __name__ == "__main__":
    command_line(
        lambda *given: _run(_fill, *given), lambda *given: _run(_one, *given), lambda *given: _run(_stamps, *given)
    )
