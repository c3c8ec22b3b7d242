"""However large payloads are, neither a reply nor a script holds more than some MB of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from servers import Server

from trioworkers import Client, Job, Superseded, Unavailable
from trioworkers.broker.contract import Holder, Listed
from trioworkers.broker.digest import Digest, digest_of, resolved
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.owner import PAGE_BYTES
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.pace import MOST_BYTES, ONE_BREAK_S
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


LIGHT = [b"%02d" % number + b"x" * 50_000 for number in range(20)]


@pytest.fixture
async def breaking(scale: Scale) -> RedisBroker:
    """Over a link that broke twice within a minute: it carries what is asked for at once."""
    pace = scale.link.pace
    pace._broke_at = trio.current_time() - ONE_BREAK_S
    pace.broke(MOST_BYTES)
    assert (pace.breaks_again, pace.carries) == (True, MOST_BYTES // 4)
    return RedisBroker(scale, Keys(), HOLDER)


async def test_link_that_breaks_again_isn_t_loaded_with_what_lies_in_our_list(breaking: RedisBroker, scale: Scale):
    """Each lost fetch leaves strays. To read them, count them and put them back would cost three times what the fetch did."""
    runs, strays = LIGHT[:10], LIGHT[10:]
    key = breaking.in_progress("q")
    await scale.call(
        "push", lambda client: client.lpush(key, [*LIGHT, LIGHT[0]])
    )  # one more with the bytes of one that runs
    listed = await breaking.audit("q", 10, 100, runs)
    assert listed is not None
    assert listed.at_once
    assert {type(payload) for payload in listed.payloads} == {Digest}
    told = [digest_of(payload) for payload in strays]
    assert resolved(listed.payloads, runs) == Counter([*runs, *told, LIGHT[0]])
    absent = b"no such job"
    assert await breaking.count("q", [*runs, *told, absent]) == Counter([*runs, *told, LIGHT[0]])
    assert await breaking.put_back("q", [LIGHT[0], *reversed(told), digest_of(absent)]) == 11
    assert scale.heaviest < 5_000
    assert await scale.call("look", lambda client: client.lrange(key, 0, -1)) == runs[::-1]
    waiting = await scale.call("look", lambda client: client.lrange("queue:q", 0, -1))
    assert list(waiting) == [LIGHT[0], *reversed(strays)]


async def test_what_such_a_link_may_not_carry_comes_as_it_is_until_one_came_through(
    breaking: RedisBroker, scale: Scale
):
    """Whether it carries that shows when it is tried: told by its digest it would never be put out of the way."""
    heavy = [b"%02d" % number + b"x" * 3 * MB for number in range(2)]
    await scale.call("push", lambda client: client.lpush(breaking.in_progress("q"), [LIGHT[0], *heavy, LIGHT[1]]))
    listed = await breaking.audit("q", 0, 100)
    told = [digest_of(payload) for payload in (LIGHT[0], heavy[0], LIGHT[1])]
    assert listed == Listed(Counter([*told, heavy[1]]), at_once=False)
    assert scale.heaviest < 4 * MB
    scale.weigh()
    assert await breaking.count("q", listed.payloads) == listed.payloads
    assert await breaking.put_back("q", [*listed.payloads]) == 4
    assert scale.heaviest < 5_000


async def test_payload_that_looks_like_the_digest_of_another_isn_t_taken_for_it(breaking: RedisBroker, scale: Scale):
    forged = bytes(digest_of(LIGHT[0]))
    assert forged != digest_of(LIGHT[0])
    await scale.call("push", lambda client: client.lpush(breaking.in_progress("q"), [LIGHT[0], forged]))
    listed = await breaking.audit("q", 1, 100, [forged])
    assert listed == Listed(Counter([digest_of(LIGHT[0]), digest_of(forged)]))
    assert resolved(listed.payloads, [forged]) == Counter([digest_of(LIGHT[0]), forged])
    assert await breaking.put_back("q", [digest_of(LIGHT[0])]) == 1
    assert await scale.call("look", lambda client: client.lrange(breaking.in_progress("q"), 0, -1)) == [forged]


async def test_connection_that_broke_once_changes_nothing_about_how_our_list_is_read(scale: Scale):
    owner = RedisBroker(scale, Keys(), HOLDER)
    scale.link.pace.broke(MOST_BYTES)
    await scale.call("push", lambda client: client.lpush(owner.in_progress("q"), LIGHT[:2]))
    listed = await owner.audit("q", 0, 100)
    assert listed is not None
    assert {type(payload) for payload in listed.payloads} == {bytes}


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
