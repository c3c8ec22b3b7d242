"""arq: `arq arq_app.Settings`."""

from __future__ import annotations

import functools
from typing import Any

import jobs_asyncio
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func
from common import CONCURRENCY, REDIS_URL

uvloop.install()


def _with_context(job: Any) -> Any:
    @functools.wraps(job)
    async def run(_: object, n: int, text: str) -> None:
        await job(n, text)

    return run


class Settings:
    """Results are not kept, and the queue is polled every 10 ms instead of every 500."""

    functions = [func(_with_context(job), name=job.__name__, keep_result=0) for job in jobs_asyncio.JOBS]  # noqa: RUF012
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    max_jobs = CONCURRENCY
    poll_delay = 0.01
    job_timeout = 3600
    log_results = False


async def _connect() -> Any:
    return (await create_pool(RedisSettings.from_dsn(REDIS_URL))).enqueue_job


if __name__ == "__main__":
    import asyncio_client

    asyncio_client.run(_connect)
