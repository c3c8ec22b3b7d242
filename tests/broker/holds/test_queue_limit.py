"""A queue's limit, on a real server: how many a fetch takes, what stays, who is woken, what counts as running."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest
import trio

from trioworkers import Job
from trioworkers.broker.contract import Fetched, Holder, Settlement
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.holds.queue_limit import LimitedIntake, open_limited_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.outcome import Acknowledge
from trioworkers.send import Send
from trioworkers.wire.decode import jid_of
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack, unpack

KEYS = Keys()


@attrs.define
class Fleet:
    """Two workers on two queues under one limit."""

    connection: Connection
    brokers: dict[str, RedisBroker]
    intakes: dict[tuple[str, str], LimitedIntake]

    def limit(self, spec: LimitSpec) -> None:
        for intake in self.intakes.values():
            intake.more_args = [KEYS.own, "@mail", pack(spec.stored())]

    async def fetch(self, process: str, limit: int = 10, queue: str = "q") -> Fetched:
        return await self.intakes[process, queue].fetch(limit)

    async def push(self, *jids: str, queue: str = "q") -> None:
        await self.brokers["w1"].send([Send(Job(queue, "A", jid=jid)) for jid in jids])

    async def do(self, command: Any) -> Any:
        return await self.connection.call("test", command)

    async def let_pass(self, seconds: float) -> None:
        """What the limit has written down happened so much earlier. By the real clock, a slow machine would pass the next moment too."""
        key = f"{KEYS.own}gate:@mail"
        gate = [each and each - seconds for each in unpack(await self.do(lambda c: c.get(key)))]
        await self.do(lambda c: c.set(key, pack(gate)))


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with connect(redis_url, Link(redis_url)) as connection, AsyncExitStack() as stack:
        brokers = {name: RedisBroker(connection, KEYS, Holder(name, name, 30_000)) for name in ("w1", "w2")}
        intakes = {}
        for name, broker in brokers.items():
            await Presence(broker, name, ["q", "r"]).claim()
            for queue in ("q", "r"):
                opened = open_limited_intake(broker, redis_url, 1.0, "@mail", LimitSpec(3), queue)
                intakes[name, queue] = await stack.enter_async_context(opened)
        yield Fleet(connection, brokers, intakes)


def jids(fetched: Fetched) -> list[str]:
    return [jid_of(payload) for payload in fetched.payloads]


async def test_no_more_are_taken_than_may_run_and_the_rest_stays_in_its_order(fleet: Fleet):
    await fleet.push("a", "b", "c", "d", "e")
    assert jids(await fleet.fetch("w1", 2)) == ["a", "b"]
    other = await fleet.fetch("w2")
    assert (jids(other), other.again_in_s) == (["c"], 1.0)
    assert jids(await fleet.fetch("w1")) == []
    assert [jid_of(p) for p in await fleet.do(lambda c: c.lrange("queue:q", 0, -1))] == ["e", "d"]


@pytest.mark.parametrize("way", ["settled", "put back", "released", "reclaimed"])
async def test_whatever_takes_a_job_out_of_its_list_frees_its_permit(fleet: Fleet, way: str):
    await fleet.push("a", "b", "c", "d")
    payloads = (await fleet.fetch("w1")).payloads
    broker = fleet.brokers["w1"]
    if way == "settled":
        await broker.settle(1, [Settlement("q", payloads[0], Acknowledge())])
    elif way == "put back":
        await broker.put_back("q", payloads[:1])
    elif way == "released":
        await broker.release("q")
    else:
        await fleet.do(lambda c: c.delete([KEYS.lease("w1")]))
        await fleet.brokers["w2"].reclaim("w1", "q", [(payloads[0], "a", 0, None)])
    count = {"settled": 1, "put back": 1, "released": 3, "reclaimed": 1}[way]
    assert len((await fleet.fetch("w2")).payloads) == count


async def test_permit_of_a_dead_worker_is_free_only_when_its_jobs_are_taken_over(fleet: Fleet):
    await fleet.push("a", "b", "c", "d")
    await fleet.fetch("w1")
    await fleet.do(lambda c: c.delete([KEYS.lease("w1")]))
    assert jids(await fleet.fetch("w2")) == []


async def test_queues_whose_limits_have_one_name_share_it(fleet: Fleet):
    await fleet.push("a", "b")
    await fleet.push("x", "y", "z", queue="r")
    assert jids(await fleet.fetch("w1")) == ["a", "b"]
    assert jids(await fleet.fetch("w1", queue="r")) == ["x"]


async def test_who_waits_takes_nothing_and_holds_no_permit(fleet: Fleet):
    got: list[Any] = []

    async def wait(process: str) -> None:
        got.append(await fleet.intakes[process, "q"].wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "w1")
        nursery.start_soon(wait, "w2")
        await trio.sleep(0.1)
        await fleet.push("a")
    assert got == [None, None]
    assert await fleet.do(lambda c: c.llen("queue:q")) == 1
    assert jids(await fleet.fetch("w2")) == ["a"]


async def test_rate_of_a_queue(fleet: Fleet):
    fleet.limit(LimitSpec(0, 1000.0, 2))
    await fleet.push("a", "b", "c", "d", "e")
    first = await fleet.fetch("w1")
    assert (jids(first), first.again_in_s) == (["a", "b"], 1.0)
    for passed_s, taken in ((500, []), (600, ["c"]), (1000, ["d"])):
        await fleet.let_pass(passed_s)
        assert jids(await fleet.fetch("w2")) == taken
        assert jids(await fleet.fetch("w1")) == []


async def test_who_may_take_soon_comes_again_then(fleet: Fleet):
    fleet.limit(LimitSpec(0, 0.2, 2))
    await fleet.push("a", "b", "c")
    first = await fleet.fetch("w1")
    assert jids(first) == ["a", "b"]
    assert first.again_in_s is not None
    assert 0 < first.again_in_s <= 0.2


async def test_empty_queue_saves_up_no_more_than_its_burst(fleet: Fleet):
    fleet.limit(LimitSpec(0, 0.05, 2))
    await fleet.push("a")
    await fleet.fetch("w1")
    await trio.sleep(0.4)
    await fleet.push("b", "c", "d", "e", "f")
    assert len((await fleet.fetch("w1")).payloads) == 2


async def test_what_people_want_beats_the_code_and_a_closed_queue_is_closed(fleet: Fleet):
    await fleet.push("a", "b", "c")
    await fleet.do(lambda c: c.hset(f"{KEYS.own}overrides", {"@mail": pack([1, False, False, 0])}))
    assert jids(await fleet.fetch("w1")) == ["a"]
    await fleet.do(lambda c: c.hset(f"{KEYS.own}overrides", {"@mail": pack([False, False, False, 1])}))
    assert jids(await fleet.fetch("w1")) == []
    await fleet.do(lambda c: c.delete([f"{KEYS.own}overrides"]))
    assert jids(await fleet.fetch("w1")) == ["b", "c"]


async def test_newest_start_says_how_many(fleet: Fleet):
    await fleet.push("a", "b", "c", "d", "e")
    await fleet.brokers["w1"].tend(Round({"@mail": LimitSpec(4)}))
    assert len((await fleet.fetch("w1")).payloads) == 4


async def test_garbage_among_the_lists_counts_nothing(fleet: Fleet):
    await fleet.push("a", "b", "c", "d")
    await fleet.do(lambda c: c.set("garbage", "x"))
    await fleet.do(lambda c: c.sadd(f"{KEYS.own}lists:@mail", ["garbage", "gone", ""]))
    assert len((await fleet.fetch("w1")).payloads) == 3


async def test_what_somebody_forged_of_its_permits_counts_nothing(fleet: Fleet):
    """It has none: what its workers have fetched is what runs."""
    await fleet.push("a", "b", "c", "d")
    await fleet.do(lambda c: c.sadd(f"{KEYS.own}permits:@mail", ["x", "y", "z"]))
    await fleet.do(lambda c: c.zadd(f"{KEYS.own}reserved:@mail", {"a": time.time() + 20}))
    await fleet.do(lambda c: c.set(f"{KEYS.own}waiting:@mail", "garbage"))
    assert len((await fleet.fetch("w1")).payloads) == 3
