"""What doctor says of locks, permits and ticks that nobody sees to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from trioworkers import Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.holds.limits import START, Candidate, Round
from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people import hold_findings
from trioworkers.broker.people.hold_findings import late_findings, lock_findings
from trioworkers.broker.people.limit_findings import limit_findings
from trioworkers.broker.people.locks import LockDesk
from trioworkers.broker.people.periodic import PeriodicJobs
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.outcome import Send
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.lock import Lock
from trioworkers.wire.periodic import Periodic

KEYS = Keys()


@attrs.define
class Bench:
    connection: Connection
    broker: RedisBroker

    async def redis(self, command: Any) -> Any:
        return await self.connection.call("test", command)

    async def send(self, *jids: str) -> None:
        await self.broker.send([Send(Job("q", "A", jid=jid, lock=Lock(f"A:{jid}"))) for jid in jids])


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    async with connect(redis_url, Link(redis_url)) as connection:
        broker = RedisBroker(connection, KEYS, Holder("w", "w", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        yield Bench(connection, broker)


async def test_lock_whose_job_is_nowhere_is_told_when_workers_should_have_found_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    await bench.send("here", "gone")
    await bench.redis(lambda client: client.rpop("queue:q"))  # the first
    await bench.redis(lambda client: client.hset(KEYS.unique, {"broken": "junk"}))
    assert await told_of_locks(bench) == ["warning: 1 lock can't be read"]
    monkeypatch.setattr(hold_findings, "FOUND_WITHIN_S", 0.0)
    assert await told_of_locks(bench) == [
        "warning: 1 lock whose job is in no place for ten minutes: A:here (job here)",
        "warning: 1 lock can't be read",
    ]


async def told_of_locks(bench: Bench) -> list[str]:
    return [f"{each.level}: {each.text}" for each in await lock_findings(bench.connection, KEYS)]


async def test_look_that_takes_too_long_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    await bench.send("here")
    monkeypatch.setattr(hold_findings, "FOUND_WITHIN_S", 0.0)
    monkeypatch.setattr(hold_findings, "PATIENCE_S", 0.0)
    assert await told_of_locks(bench) == ["note: there is too much to look at all of it within 0 s"]


async def test_permits_that_no_record_knows(bench: Bench):
    await bench.broker.tend(Round({"crm": LimitSpec(3)}))
    payload = b'{"jid":"a"}'
    await bench.redis(lambda client: client.lpush(KEYS.in_progress("q", "w"), [payload]))
    candidate = Candidate(payload, "w q 1-0", "a", ("crm",))
    assert await bench.broker.admit("q", 1, {"crm": LimitSpec(3)}, [candidate]) == [START]
    assert [each.level for each in await limit_findings(bench.connection, KEYS)] == ["ok"]
    await bench.redis(lambda client: client.sadd("tw:permits:crm", {"w q 7-7", "junk"}))
    [found] = await limit_findings(bench.connection, KEYS)
    assert (found.level, found.text) == ("warning", "2 permits of crm are nobody's")


async def test_ticks_that_nobody_takes(bench: Bench):
    jobs = PeriodicJobs(bench.connection, KEYS)
    for name in ("late", "paused", "soon"):
        await jobs.put(Periodic(name, "@daily", Job("q", "A")))
    await jobs.pause("paused")
    await bench.redis(lambda client: client.zadd(KEYS.cron, {"late": 1000.0}))
    [found] = late_findings(await jobs.entries(), 1100.0)
    assert found.text == "late has been due for 100 s, and nobody sends it"
    assert late_findings(await jobs.entries(), 1050.0) == []


async def test_parked_job_that_is_woken_keeps_its_lock_and_notes_that_it_moved(bench: Bench):
    """Else one that goes to and fro between its queue and where it is parked could be missed by the search in both."""
    limit = {"crm": LimitSpec(1)}
    await bench.broker.tend(Round(limit))
    await bench.send("a", "b")
    payloads = (await RedisIntake(bench.broker, bench.connection, "q", 1.0).fetch(2)).payloads
    batch = [
        Candidate(payload, f"w q 1-{n}", jid, ("crm",))
        for n, (payload, jid) in enumerate(zip(payloads, "ab", strict=True))
    ]
    assert await bench.broker.admit("q", 1, limit, batch) == [1, 0]
    before = {lock.key: lock.touched_s for lock in await locks(bench)}
    assert before.keys() == {"A:a", "A:b"}
    await bench.broker.release("q")
    await bench.redis(lambda client: client.delete(["tw:reserved:crm"]))  # half a minute later
    woken = (await bench.broker.tend(Round(limit))).woken
    assert woken == 1
    after = {lock.key: lock.touched_s for lock in await locks(bench)}
    assert after.keys() == before.keys()
    assert after["A:b"] > before["A:b"]


async def locks(bench: Bench) -> list[Any]:
    [page] = [page async for page in LockDesk(bench.connection, KEYS).pages()]
    return page
