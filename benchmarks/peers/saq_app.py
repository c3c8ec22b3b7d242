"""SAQ: `saq saq_app.settings`."""

from __future__ import annotations

import functools
from typing import Any

import jobs_asyncio
import uvloop
from common import CONCURRENCY, REDIS_URL
from saq import Queue

uvloop.install()
queue = Queue.from_url(REDIS_URL, max_concurrent_ops=100)


def _with_context(job: Any) -> Any:
    @functools.wraps(job)
    async def run(_: object, *, n: int, text: str) -> None:
        await job(n, text)

    return run


settings = {
    "queue": queue,
    "functions": [(job.__name__, _with_context(job)) for job in jobs_asyncio.JOBS],
    "concurrency": CONCURRENCY,
}


async def _connect() -> Any:
    await queue.connect()

    async def send(job: str, n: int, text: str) -> None:
        # ttl=-1: the result is not kept; a timeout, since only jobs with one are swept when their worker is gone
        await queue.enqueue(job, n=n, text=text, ttl=-1, timeout=3600)

    return send


if __name__ == "__main__":
    import asyncio_client

    asyncio_client.run(_connect)
