"""What is noted of queues minute by minute: once, by whoever comes first, whatever lies there."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from servers import Server
from visiting import payload

from trioworkers import App, Context
from trioworkers.broker.history import SHOWN_QUEUES, sample
from trioworkers.broker.people.history import History
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine import history
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack

KEYS = Keys("ns")


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link("here"), namespace="ns") as found:
        yield found


@pytest.fixture
def command(shared_server: Server) -> Callable[..., Any]:
    return shared_server.command


async def noted(connection: Connection, queue: str = "") -> list[tuple[int, int]]:
    """What was noted in the last hour or two, oldest first."""
    hour = int(time.time() // 3600)
    hours = await History(connection, KEYS).hours([hour - 1, hour], queue)
    return [found[minute] for found in hours for minute in sorted(found)]


async def test_sizes_and_ages_of_all_queues_and_of_each(connection: Connection, command: Callable[..., Any]):
    now_s = time.time()
    ages = {"seconds": now_s - 100, "of8": int((now_s - 700) * 1000), "none": None, "fields": now_s - 50}
    for name, at in ages.items():
        job = json.loads(payload(1, args=[{"enqueued_at": 5}], enqueued_at=at))
        job["z"] = "x" * 10_000  # far from both ends, for one of them
        job = {**job, "enqueued_at": at} if name != "fields" else {"enqueued_at": at, **job}
        command(
            "LPUSH", f"ns:queue:{name}", json.dumps({key: value for key, value in job.items() if value is not None})
        )
        command("SADD", "ns:queues", name)
    command("LPUSH", "ns:queue:of8", "newer")
    command("SADD", "ns:queues", "empty", "odd", "n" * 5000)
    command("SET", "ns:queue:odd", "no list")
    command("LPUSH", "ns:queue:" + "n" * 5000, b"\xff" * 9000)
    assert await sample(connection, KEYS)
    ((size, age_s),) = await noted(connection)
    assert size == 6
    assert age_s == pytest.approx(700, abs=5)
    assert (await noted(connection, "of8"))[0] == (2, pytest.approx(700, abs=5))
    assert (await noted(connection, "seconds"))[0] == (1, pytest.approx(100, abs=5))
    assert await noted(connection, "none") == [(1, 0)]
    assert await noted(connection, "n" * 5000) == [(1, 0)]
    assert await noted(connection, "empty") == []
    assert await noted(connection, "odd") == []


async def test_once_a_minute_however_many_workers_come(connection: Connection, command: Callable[..., Any]):
    command("SADD", "ns:queues", "q")
    command("LPUSH", "ns:queue:q", payload(1))
    won: list[bool] = []
    before = int(time.time() // 60)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lambda: _note(won, connection))
    assert 1 <= sum(won) <= int(time.time() // 60) - before + 1
    assert len(await noted(connection)) == sum(won)
    kept_s = command("TTL", command("KEYS", "ns:tw:history:*")[0])
    assert 75 * 3600 < kept_s <= 76 * 3600


async def _note(won: list[bool], connection: Connection) -> None:
    won.append(await sample(connection, KEYS))


async def test_what_is_noted_is_bounded(connection: Connection, command: Callable[..., Any]):
    for number in range(3 * SHOWN_QUEUES):
        command("SADD", "ns:queues", f"q{number}")
        command("LPUSH", f"ns:queue:q{number}", payload(1, enqueued_at=time.time() - number))
    await sample(connection, KEYS)
    names = [f"q{number}" for number in range(3 * SHOWN_QUEUES)]
    assert [len(await noted(connection, name)) for name in names] == [0] * 2 * SHOWN_QUEUES + [1] * SHOWN_QUEUES


@pytest.mark.parametrize(
    "text",
    [b"", b"x y", b"-1 2", b"1", b"1 " + b"9" * 100, b"\xc1\x93", b"\x91\x01", pack([["q", math.inf, 1]])],
)
async def test_what_others_wrote_there_is_nothing(text: bytes, connection: Connection, command: Callable[..., Any]):
    hour = int(time.time() // 3600)
    for key in (f"ns:tw:history:{hour}", f"ns:tw:history:{hour}:queues"):
        command("HSET", key, "5", text, text + b"x", "1 1", "999", "1 1")
    assert await noted(connection) == []
    assert await noted(connection, "q") == []


async def test_a_worker_does_it(redis_url: str, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "EVERY_S", 0.05)
    app = App(redis_url, namespace="ns")
    app.queue("q")

    @app.handler("q", "Never")
    async def never(_: Context) -> None: ...

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        with trio.fail_after(30):
            while not command("KEYS", "ns:tw:history:*"):
                await trio.sleep(0.02)
        worker.stop()
