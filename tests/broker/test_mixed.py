"""One worker's queues in several dialects: each outcome goes to its own family's places, what a job sends to its queue's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trioworkers import Job
from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.outcome import Acknowledge, Bury, Retry
from trioworkers.send import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.own_record import Identity

QUEUES = {"new": dialect_named("sidekiq"), "old": dialect_named("resque"), "go": dialect_named("goworkers:prod")}


@asynccontextmanager
async def brokers(url: str) -> AsyncIterator[Brokers]:
    async with connect(url, Link(url)) as connection:
        holder = Holder("me", "lease of me", 30_000)
        yield Brokers(connection, "", holder, Identity("host", 1, "x"), SizeGuard(), QUEUES["new"], QUEUES)


async def found(broker: RedisBroker, key: str) -> list[Any]:
    payloads = await broker.connection.call("lrange", lambda client: client.lrange(key, 0, -1))
    return [json.loads(payload) for payload in payloads]


async def in_progress(broker: RedisBroker, queue: str, payload: bytes) -> None:
    await broker.connection.call("lpush", lambda client: client.lpush(broker.in_progress(queue), [payload]))


async def test_what_a_job_sends_goes_to_each_queue_in_its_own_dialect_with_its_outcome(redis_url: str):
    async with brokers(redis_url) as ours:
        sends = (Send(Job("old", "A", [1])), Send(Job("old", "B", [2])), Send(Job("go", "C", [3])), Send(Job("x", "D")))
        for number, broker in enumerate(ours.in_use):
            queue = list(QUEUES)[number]
            await in_progress(broker, queue, b"payload")
            await broker.settle(1, [Settlement(queue, b"payload", Acknowledge((*sends, Send(Job("old", "E"), 60))))])
        main = ours.main
        assert await found(main, "resque:queue:old") == [{"class": "A", "args": [1]}, {"class": "B", "args": [2]}] * 3
        assert [job["class"] for job in await found(main, "prod:queue:go")] == ["C"] * 3
        delayed = await main.connection.call("zcard", lambda client: client.zcard("resque:delayed_queue_schedule"))
        assert delayed >= 1
        # To a queue that nobody has declared, each speaks its own.
        assert len(await found(main, "queue:x")) == len(await found(main, "resque:queue:x")) == 1


async def test_each_family_keeps_its_failures_and_counts_in_its_own_places(redis_url: str):
    async with brokers(redis_url) as ours:
        for queue, broker in ours.by_queue.items():
            await in_progress(broker, queue, b"one")
            await in_progress(broker, queue, b"two")
            group = [Settlement(queue, b"one", Bury(b"dead")), Settlement(queue, b"two", Retry(b"again", 60))]
            assert await broker.settle(1, group) == {}
            assert await broker.settle(1, group) == {}
        call = ours.main.connection.call
        keys = {key.decode() for key in await call("keys", lambda client: client.keys("*"))}
        assert {"dead", "retry", "resque:failed", "resque:tw:retry", "prod:dead", "prod:goretry"} <= keys
        counted = [
            await call("get", lambda client, name=name: client.get(name))
            for prefix in ("", "resque:", "prod:")
            for name in (f"{prefix}stat:processed", f"{prefix}stat:failed")
        ]
        assert counted == [b"2", b"2", b"2", b"2", None, b"2"]  # go-workers counts as processed what succeeded
