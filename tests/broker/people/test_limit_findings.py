"""What doctor says of limits and of keys that somebody has written over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from trioworkers.broker.contract import Holder
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.limit_findings import limit_findings
from trioworkers.broker.people.limits import FleetLimits
from trioworkers.broker.people.permissions import forbidden
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec

KEYS = Keys()


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield opened


async def told(connection: Connection) -> list[str]:
    return [f"{each.level}: {each.text}" for each in await limit_findings(connection, KEYS)]


async def test_nothing_is_said_where_there_is_no_limit(connection: Connection):
    assert await told(connection) == []


async def test_what_is_closed_and_what_is_otherwise_than_the_code_says(connection: Connection):
    await RedisBroker(connection, KEYS, Holder("w", "w", 1000)).tend(
        Round({"crm": LimitSpec(2), "mail": LimitSpec(0, 0.1)})
    )
    assert await told(connection) == ["ok: 2 limits, at which 0 jobs wait"]
    await FleetLimits(connection, KEYS).override("crm", "close")
    await FleetLimits(connection, KEYS).override("mail", "set", concurrency=7)
    assert await told(connection) == [
        "warning: crm is closed until somebody opens it",
        "note: mail: 7 at once, 10/s, though the code says 10/s",
    ]


@pytest.mark.parametrize("name", ["limits", "parked", "parked_jobs", "waits", "expiring", "repairs", "permits:crm"])
async def test_key_of_the_wrong_type_is_named(connection: Connection, name: str):
    await RedisBroker(connection, KEYS, Holder("w", "w", 1000)).tend(Round({"crm": LimitSpec(2)}))
    await connection.call("t", lambda client: client.set(f"{KEYS.own}{name}", "garbage"))
    assert any(f"{KEYS.own}{name} is a string" in each for each in await told(connection))


async def test_jobs_that_wait_where_nobody_declares_anything(connection: Connection):
    await connection.call("t", lambda client: client.zadd(f"{KEYS.own}waiting:gone", {"1.5": 1.5}))
    await connection.call("t", lambda client: client.zadd(f"{KEYS.own}waits", {"gone": 1.5}))
    assert await told(connection) == ["warning: 1 job waits at gone, which no worker declares"]


async def test_keys_that_somebody_has_written_over_are_no_question_of_permissions(connection: Connection):
    await connection.call("t", lambda client: client.sadd(f"{KEYS.own}waits", ["garbage"]))
    assert await told(connection) == [
        "problem: tw:waits is a set, and should be a sorted set: somebody has written over it"
    ]
    assert await forbidden(connection, KEYS) == []
