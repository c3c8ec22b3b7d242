"""taskiq with taskiq-redis: `taskiq worker taskiq_app:broker`.

BENCH_VARIANT=list: ListQueueBroker, a BRPOP for each job and no acknowledgement; else RedisStreamBroker, batches of 100, acknowledged.
"""

from __future__ import annotations

import os
from typing import Any

import jobs_asyncio
from common import REDIS_URL
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker, RedisStreamBroker

if os.environ.get("BENCH_VARIANT") == "list":
    broker: Any = ListQueueBroker(REDIS_URL, queue_name="bench")
else:
    broker = RedisStreamBroker(REDIS_URL, queue_name="bench", consumer_id="0")
broker = broker.with_serializer(ORJSONSerializer())
TASKS = {job.__name__: broker.task(job.__name__)(job) for job in jobs_asyncio.JOBS}


async def _connect() -> Any:
    await broker.startup()

    async def send(job: str, n: int, text: str) -> None:
        await TASKS[job].kiq(n, text)

    return send


if __name__ == "__main__":
    import asyncio_client
    import uvloop

    uvloop.install()
    asyncio_client.run(_connect)
