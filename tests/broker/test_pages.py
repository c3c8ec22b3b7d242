"""However large payloads are, neither a reply nor a script holds more than some MB of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from servers import Server

from trioworkers import Client, Job, Superseded, Unavailable
from trioworkers.broker.contract import Holder, Listed
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.owner import PAGE_BYTES
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.sending import PARCEL_BYTES
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys

MB = 1_000_000
HUGE = [b"%02d" % number + b"x" * MB for number in range(20)]
HOLDER = Holder("owner", "lease of owner", 30_000)


class Scale(Connection):
    """A connection that weighs what scripts get and reply."""

    def weigh(self) -> None:
        self.heaviest = 0

    async def run(self, script: Script, keys: list[str], args: list[Any], operation: str = "") -> Any:
        reply = await super().run(script, keys, args, operation)
        self.heaviest = max(self.heaviest, weight(args), weight(reply))
        return reply


def weight(value: object) -> int:
    if isinstance(value, list | tuple):
        return sum(map(weight, value))
    return len(value) if isinstance(value, bytes | str) else 8


@pytest.fixture
async def scale(redis_url: str) -> AsyncIterator[Scale]:
    async with connect(redis_url, Link(redis_url)) as connection:
        connection.__class__ = Scale
        assert isinstance(connection, Scale)
        connection.weigh()
        yield connection


async def fill(scale: Scale, key: str) -> None:
    """Twenty MB, oldest first."""
    for payload in HUGE:
        await scale.call("push", lambda client, payload=payload: client.lpush(key, [payload]))


async def test_audit_reads_a_heavy_list_in_several_steps(scale: Scale):
    owner = RedisBroker(scale, Keys(), HOLDER)
    await fill(scale, owner.in_progress("q"))
    assert await owner.audit("q", 20, 100) is None
    assert scale.heaviest < 100
    listed = await owner.audit("q", 19, 100, HUGE)
    assert listed == Listed(Counter(HUGE), at_once=False)
    assert {id(payload) for payload in listed.payloads} == {id(payload) for payload in HUGE}
    assert await owner.count("q", HUGE) == Counter(HUGE)
    assert scale.heaviest <= PAGE_BYTES + 2 * MB


async def test_heavy_strays_and_what_is_left_go_back_in_order(scale: Scale):
    owner = RedisBroker(scale, Keys(), HOLDER)
    await fill(scale, owner.in_progress("q"))
    assert await owner.put_back("q", HUGE[:4:-1]) == 15
    assert await owner.release("q") == 5
    assert scale.heaviest <= PAGE_BYTES + 2 * MB
    waiting = await scale.call("look", lambda client: client.lrange("queue:q", 0, -1))
    assert list(waiting) == HUGE[::-1]


async def test_ten_thousand_jobs_are_released_in_two_round_trips(scale: Scale, monkeypatch: pytest.MonkeyPatch):
    """On a busy machine each takes long, and who is told to stop has half a second for all."""
    owner = RedisBroker(scale, Keys(), HOLDER)
    jobs = [b"%d" % number for number in range(10_000)]
    await scale.call("push", lambda client: client.lpush(owner.in_progress("q"), jobs))
    ask, asked = scale._ask, []

    async def counted(operation: str, *rest: Any, **more: Any) -> Any:
        asked.append(operation)
        return await ask(operation, *rest, **more)

    monkeypatch.setattr(scale, "_ask", counted)
    assert await owner.release("q") == len(jobs)
    assert asked == ["release", "release"]
    monkeypatch.undo()
    assert await scale.call("look", lambda client: client.lrange("queue:q", 0, -1)) == jobs[::-1]


async def test_release_ends_where_another_has_our_process_id(scale: Scale, monkeypatch: pytest.MonkeyPatch):
    """It took it after the first page: what is left is its own."""
    owner = RedisBroker(scale, Keys(), HOLDER)
    jobs = [b"%d" % number for number in range(1200)]
    await scale.call("push", lambda client: client.lpush(owner.in_progress("q"), jobs))
    run = scale.run

    async def then_another_claims(*args: Any) -> Any:
        reply = await run(*args)
        await scale.call("claim", lambda client: client.set(owner.keys.lease("owner"), "another"))
        return reply

    monkeypatch.setattr(scale, "run", then_another_claims)
    with pytest.raises(Superseded):
        await owner.release("q")
    assert await scale.call("look", lambda client: client.llen(owner.in_progress("q"))) == 700


@pytest.mark.parametrize("is_carried_out", [True, False], ids=["the reply is lost", "the request is lost"])
async def test_strays_go_back_once_although_the_connection_breaks_under_each_part(
    scale: Scale, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
):
    """As a whole they would have to go back again, and over a link that breaks again and again never would. One with the same bytes runs."""
    owner = RedisBroker(scale, Keys(), HOLDER)
    await scale.call("push", lambda client: client.lpush(owner.in_progress("q"), [HUGE[0]]))
    await fill(scale, owner.in_progress("q"))
    run, tried = scale.run, set()

    async def breaks(script: Script, keys: list[str], args: list[Any], operation: str = "") -> Any:
        is_first = script.name == "put back" and args[4] not in tried
        tried.add(args[4])
        if is_first and not is_carried_out:
            raise Unavailable("the connection was lost")
        reply = await run(script, keys, args, operation)
        if is_first:
            raise Unavailable("the connection was lost")
        return reply

    monkeypatch.setattr(scale, "run", breaks)
    assert await owner.put_back("q", HUGE[::-1]) == 20
    waiting = await scale.call("look", lambda client: client.lrange("queue:q", 0, -1))
    assert list(waiting) == HUGE[::-1]
    assert await scale.call("look", lambda client: client.lrange(owner.in_progress("q"), 0, -1)) == [HUGE[0]]


async def test_what_is_counted_again_after_a_break_goes_in_smaller_parts(scale: Scale, monkeypatch: pytest.MonkeyPatch):
    owner = RedisBroker(scale, Keys(), HOLDER)
    await fill(scale, owner.in_progress("q"))
    run = scale.run

    async def breaks(script: Script, keys: list[str], args: list[Any], operation: str = "") -> Any:
        if weight(args) > 2 * MB:
            raise Unavailable("the connection was lost")
        return await run(script, keys, args, operation)

    monkeypatch.setattr(scale, "run", breaks)
    assert await owner.count("q", HUGE) == Counter(HUGE)


async def test_heavy_list_of_a_dead_worker_is_looked_at_in_parts(scale: Scale):
    owner, alive = (
        RedisBroker(scale, Keys(), HOLDER),
        RedisBroker(scale, Keys(), Holder("alive", "lease of alive", 30_000)),
    )
    await fill(scale, owner.in_progress("q"))
    total = 0
    while payloads := await alive.peek("owner", "q", 100):
        moved, error = await alive.reclaim("owner", "q", [(payload, "", 0, None) for payload in payloads])
        assert (moved, error) == (len(payloads), "")
        total += moved
    assert total == 20
    assert scale.heaviest <= PAGE_BYTES + 2 * MB


async def test_heavy_due_payloads_come_in_parts_and_the_rest_at_once(scale: Scale):
    dialect = dialect_named("resque", "")
    broker = ResqueBroker(scale, dialect.keys(""), HOLDER, dialect=dialect)
    for payload in HUGE:
        await scale.call("add", lambda client, payload=payload: client.zadd(broker.keys.retry, {payload: 1.0}))
    seconds, before, _ = broker.keys.waiting
    await fill(scale, before + "1")
    await scale.call("add", lambda client: client.zadd(seconds, {"1": 1.0}))
    due = await broker.due(200)
    for found in (due.retry, due.delayed):
        assert 4 <= len(found) <= 6
        assert set(found) < set(HUGE)
    assert due.next_in_s == 0
    assert scale.heaviest <= PAGE_BYTES + 2 * MB


async def test_all_that_is_due_is_found_at_once_if_it_is_light(scale: Scale):
    owner = RedisBroker(scale, Keys(), HOLDER)
    scores: dict[str | bytes, float] = {f"{number}": number for number in range(1, 301)}
    await scale.call("add", lambda client: client.zadd("retry", scores))
    for limit, rest in ((200, 0.0), (300, 0.0), (301, None)):
        due = await owner.due(limit)
        assert due.retry == [b"%d" % number for number in range(1, min(limit, 300) + 1)]
        assert due.next_in_s == rest


async def test_client_sends_heavy_jobs_in_parts_and_in_order(redis_url: str, shared_server: Server):
    async with Client(redis_url, large_payload_bytes=2 * MB) as client:
        await client.enqueue(Job("q", "A"))
        shared_server.command("CONFIG", "RESETSTAT")
        jids = await client.enqueue(*(Job("q", "A", ["x" * MB], jid=f"{number:024}") for number in range(20)))
        stats = str(shared_server.command("INFO", "commandstats"))
    assert f"cmdstat_evalsha:calls={-(-20 * MB // PARCEL_BYTES)}," in stats
    assert shared_server.command("LLEN", "queue:q") == 21
    assert jids[0] in str(shared_server.command("LINDEX", "queue:q", 19))
