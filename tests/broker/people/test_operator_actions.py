"""Operator actions on a real Redis: everything that is wanted moves, once, while others push, fetch and remove between two pages."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from servers import Server

from trioworkers import Refused
from trioworkers.broker.people import contents, operator_actions, walk
from trioworkers.broker.people.contents import PAGE_BYTES, is_last
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.people.operator_actions import Decide, Delete, OperatorActions, Push, Swept, ToDead
from trioworkers.broker.people.search import FIND_BYTES
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location

QUEUE = Location("queue", "q")


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield opened


class Bench:
    """Redis from both sides."""

    def __init__(self, connection: Connection) -> None:
        self.moves = OperatorActions(connection, Keys())
        self._connection = connection

    async def redis(self, *command: object) -> object:
        script = type("Raw", (), {"name": "raw", "sha": "0" * 40, "text": "return redis.call(unpack(ARGV))"})()
        return await self._connection.run(script, [], list(command))

    async def queue(self, name: str = "q") -> list[bytes]:
        """Next to be fetched first."""
        found = await self.redis("LRANGE", f"queue:{name}", 0, -1)
        assert isinstance(found, list)
        return found[::-1]

    async def fill_queue(self, count: int) -> list[bytes]:
        payloads = [b"%d" % n for n in range(count)]
        await self.redis("LPUSH", "queue:q", *payloads)
        return payloads

    async def sweep(self, source: Location, decide: Decide) -> Counter[str]:
        total: Counter[str] = Counter()
        async for swept in self.moves.sweep(source, decide):
            total.update(seen=swept.seen, moved=swept.moved, errors=len(swept.errors))
        return total


@pytest.fixture
def bench(connection: Connection) -> Bench:
    return Bench(connection)


def odd(entry: Entry) -> bool:
    return int(entry.payload) % 2 == 1


async def test_chosen_ones_leave_the_middle_of_a_queue_and_the_others_keep_their_order(bench: Bench):
    payloads = await bench.fill_queue(1001)
    total = await bench.sweep(QUEUE, lambda entry: Delete() if odd(entry) else None)
    assert total == Counter(seen=1001, moved=500, errors=0)
    assert await bench.queue() == payloads[::2]


async def test_queue_is_emptied_into_another_in_order_and_ahead_of_what_waits_there(bench: Bench):
    payloads = await bench.fill_queue(777)
    await bench.redis("LPUSH", "queue:other", "waits")
    await bench.sweep(QUEUE, lambda entry: Push("other", entry.payload))
    assert await bench.queue("other") == [*payloads, b"waits"]
    assert await bench.queue() == []
    assert await bench.redis("SMEMBERS", "queues") == [b"other"]


async def test_queue_into_itself_is_no_move(bench: Bench):
    payloads = await bench.fill_queue(10)
    assert (await bench.sweep(QUEUE, lambda entry: Push("q", entry.payload)))["moved"] == 0
    assert await bench.queue() == payloads


@pytest.mark.parametrize("seed", range(4))
async def test_while_others_push_and_fetch_nothing_is_lost_doubled_or_passed_over(bench: Bench, seed: int):
    chance = random.Random(seed)
    payloads = await bench.fill_queue(1500)
    pushed, fetched = [], []
    async for _ in bench.moves.sweep(QUEUE, lambda entry: ToDead() if odd(entry) else None):
        fresh = [b"%d" % n for n in range(10_000 + len(pushed), 10_000 + len(pushed) + chance.randrange(60))]
        if fresh:
            await bench.redis("LPUSH", "queue:q", *fresh)
            pushed += fresh
        fetched += [await bench.redis("RPOP", "queue:q") for _ in range(chance.randrange(60))]
    dead = await bench.redis("ZRANGE", "dead", 0, -1)
    assert isinstance(dead, list)
    left = await bench.queue()
    assert Counter([*dead, *left, *fetched]) == Counter([*payloads, *pushed])
    assert all(int(payload) % 2 for payload in dead)
    assert not [payload for payload in left if payload in set(payloads) and int(payload) % 2]


async def test_what_was_read_may_have_been_fetched_or_shifted_before_the_move(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    payloads = await bench.fill_queue(300)
    real_move = bench.moves._move

    async def late_move(source: Location, page: list[Entry], decide: Decide, start: int | None = None) -> Swept:
        await bench.redis("LPUSH", "queue:q", "8000", "8002", "8004")
        await bench.redis("RPOP", "queue:q")
        return await real_move(source, page, decide, start)

    monkeypatch.setattr(bench.moves, "_move", late_move)
    await bench.sweep(QUEUE, lambda entry: Delete() if odd(entry) else None)
    left = [payload for payload in await bench.queue() if int(payload) < 8000]
    fetched = len(payloads[::2]) - len(left)
    assert left == payloads[fetched * 2 :: 2]
    assert 0 < fetched <= 4


async def test_identical_payloads_are_moved_one_by_one(bench: Bench):
    await bench.redis("LPUSH", "queue:q", *["7"] * 500, "8")
    assert (await bench.sweep(QUEUE, lambda entry: Push("other", entry.payload) if odd(entry) else None))[
        "moved"
    ] == 500
    assert await bench.queue() == [b"8"]
    assert len(await bench.queue("other")) == 500
    entry = Entry("queue", b"7", "other")
    assert await bench.moves.move(Location("queue", "other"), entry, Delete()) == Swept(1, 1, 1, [])
    assert len(await bench.queue("other")) == 499


async def test_what_fills_redis_can_be_deleted(server: Server):
    async with connect(server.url, Link(server.url)) as connection:
        bench = Bench(connection)
        payloads = await bench.fill_queue(20)
        server.command("CONFIG", "SET", "maxmemory", "1")
        total = await bench.sweep(QUEUE, lambda entry: Delete() if odd(entry) else None)
        assert total == Counter(seen=20, moved=10, errors=0)
        assert await bench.queue() == payloads[::2]


@pytest.mark.parametrize("same_score", [True, False])
async def test_sets_are_swept_lowest_score_first_whatever_stays(bench: Bench, same_score: bool):
    count = 1001
    scored = [word for n in range(count) for word in (1.5 if same_score else n / 7, f"{n:05}")]
    await bench.redis("ZADD", "retry", *scored)
    total = await bench.sweep(Location("retry"), lambda entry: Push("q", entry.payload) if odd(entry) else None)
    assert (total["moved"], total["errors"]) == (500, 0)
    assert await bench.queue() == [b"%05d" % n for n in range(1, count, 2)]
    assert await bench.redis("ZRANGE", "retry", 0, -1) == [b"%05d" % n for n in range(0, count, 2)]


async def test_among_those_of_one_score_none_is_passed_over_though_others_remove_some(bench: Bench):
    """A thousand jobs for the same moment, from which workers take while a filter is applied."""
    count = 3000
    await bench.redis("ZADD", "schedule", *(word for n in range(count) for word in (1.5, f"{n:05}")))
    seen: Counter[bytes] = Counter()
    async for _ in bench.moves.sweep(Location("scheduled"), lambda entry: seen.update([entry.payload])):
        if 0 < len(seen) < count - 300:
            read = sorted(seen)
            await bench.redis("ZREM", "schedule", read[-1], *read[-105:-5])
    assert (len(seen), set(seen.values())) == (count, {1})


@pytest.mark.parametrize("apart_s", [0, 1])
async def test_a_listing_passes_over_nothing_that_stays_though_others_take_some(connection: Connection, apart_s: int):
    """`export scheduled`, while jobs become due."""
    bench, count = Bench(connection), 3000
    await bench.redis("ZADD", "schedule", *(word for n in range(count) for word in (1.5 + n * apart_s, f"{n:05}")))
    seen: Counter[bytes] = Counter()
    async for page in Inspector(connection, Keys()).pages(Location("scheduled")):
        seen.update(entry.payload for entry in page)
        await bench.redis("ZREMRANGEBYRANK", "schedule", 0, 60)
    assert set(seen.values()) == {1}
    left = await bench.redis("ZRANGE", "schedule", 0, -1)
    assert isinstance(left, list)
    assert left
    assert set(left) <= seen.keys()


@pytest.mark.parametrize("size", [1, walk.LANDMARK_BYTES])
async def test_those_of_one_score_that_stay_or_can_not_be_moved_are_seen_once(bench: Bench, size: int):
    count = 300 if size == 1 else 12
    await bench.redis("ZADD", "retry", *(word for n in range(count) for word in (1.5, f"{n:05}" + "x" * size)))
    await bench.redis("SET", "queue:broken", "no list")
    total = await bench.sweep(
        Location("retry"), lambda entry: Push("broken", b"x") if int(entry.payload[:5]) % 3 else None
    )
    assert (total["seen"], total["moved"], total["errors"]) == (count, 0, count - len(range(0, count, 3)))


async def test_what_its_next_place_cannot_take_stays(bench: Bench):
    await bench.fill_queue(3)
    await bench.redis("ZADD", "retry", 1, "1", 2, "2")
    await bench.redis("SET", "queue:broken", "no list")
    await bench.redis("SET", "dead", "no set")
    for source in (QUEUE, Location("retry")):
        for to in (Push("broken", b"x"), ToDead()):
            total = await bench.sweep(source, lambda _, to=to: to)
            assert (total["moved"], total["errors"]) == (0, total["seen"])
    assert len(await bench.queue()) == 3
    assert await bench.redis("ZRANGE", "retry", 0, -1) == [b"1", b"2"]


async def test_nothing_is_pushed_where_the_set_of_queues_cannot_take_its_name(bench: Bench):
    """Else who tries again pushes the same job again."""
    await bench.fill_queue(3)
    await bench.redis("ZADD", "retry", 1, "1", 2, "2")
    await bench.redis("SET", "queues", "no set")
    for source in (QUEUE, Location("retry")):
        total = await bench.sweep(source, lambda entry: Push("other", entry.payload))
        assert (total["moved"], total["errors"]) == (0, total["seen"])
    with pytest.raises(Refused):
        await bench.moves.restore(Location("queue", "other"), [Entry("queue", b"1", "other")], "1")
    assert await bench.queue("other") == []
    await bench.redis("DEL", "queues")
    assert (await bench.sweep(Location("retry"), lambda entry: Push("other", entry.payload)))["moved"] == 2
    assert await bench.queue("other") == [b"1", b"2"]


async def test_restored_twice_is_there_once(bench: Bench):
    dead = [Entry("dead", b"\xff\x00%d" % n, score=1.7e9 + n / 3) for n in range(5)]
    assert [(await bench.moves.restore(Location("dead"), dead, "1")).added for _ in range(2)] == [5, 0]
    members = await bench.redis("ZRANGE", "dead", 0, -1, "WITHSCORES")
    assert isinstance(members, list)
    assert members[::2] == [entry.payload for entry in dead]
    assert [float(score) for score in members[1::2]] == [entry.score for entry in dead]
    queued = [Entry("queue", b"%d" % n, "q") for n in range(5)]
    assert [(await bench.moves.restore(QUEUE, queued, group)).added for group in ("1", "1", "6")] == [5, 0, 5]
    assert await bench.queue() == [entry.payload for entry in queued] * 2


@pytest.mark.parametrize("place", ["queue", "retry"])
async def test_no_page_of_heavy_payloads_is_read_at_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, place: str
):
    """What they weigh shows with the first one; of fifty, two gigabytes might come."""
    bench, heavy = Bench(connection), 2_000_000
    source = QUEUE if place == "queue" else Location("retry")
    for number in range(12):
        payload = b'{"jid":"%02d","queue":"q","args":["%s"]}' % (number, b"x" * heavy)
        await bench.redis(*(("LPUSH", "queue:q") if place == "queue" else ("ZADD", "retry", 1)), payload)
    pages: list[int] = []
    inspector = Inspector(connection, Keys())
    for each in (inspector, bench.moves._inspector):
        for name in ("page", "page_from_the_newest", "page_from_score"):

            async def weighed(*args: Any, ask: Any = getattr(each, name)) -> Any:
                found = await ask(*args)
                pages.append(sum(len(entry.payload) for entry in found))
                return found

            monkeypatch.setattr(each, name, weighed)
    seen = [entry.jid async for page in inspector.pages(source) for entry in page]
    assert sorted(seen) == [f"{number:02}" for number in range(12)]
    moved = [swept.moved async for swept in bench.moves.sweep(source, lambda _: Delete())]
    assert sum(moved) == 12
    assert max(pages) <= PAGE_BYTES + heavy


async def test_job_is_found_among_heavy_ones_in_parts(connection: Connection, monkeypatch: pytest.MonkeyPatch):
    """Redis serves nobody else while it looks."""
    bench, heavy = Bench(connection), 3_000_000
    for number in range(8):
        payload = b'{"jid":"jid-%02d","queue":"q","args":["%s"]}' % (number, b"x" * heavy)
        await bench.redis("LPUSH", "queue:q", payload)
        await bench.redis("ZADD", "retry", 1, payload)
    await bench.redis("SADD", "queues", "q")
    inspector, asked = Inspector(connection, Keys()), Counter[str]()
    run = connection.run

    async def noted(script: Any, keys: Any, args: Any, *more: Any) -> Any:
        if script.name == "find":
            asked[keys[0]] += 1
        return await run(script, keys, args, *more)

    monkeypatch.setattr(connection, "run", noted)
    async with aclosing(inspector._holding("jid-07")) as entries:
        found = [(entry.place, entry.jid) async for entry in entries]
    assert sorted(found) == [("queue", "jid-07"), ("retry", "jid-07")]
    assert asked["queue:q"] >= 8 * heavy / (FIND_BYTES + heavy)
    assert asked["retry"] >= 8 * heavy / (FIND_BYTES + 2 * heavy)


@pytest.mark.parametrize("to", [Delete(), ToDead(), Push("other", b"")], ids=lambda to: type(to).__name__)
@pytest.mark.parametrize("place", ["queue", "retry"])
async def test_nothing_heavy_goes_along_with_what_is_moved(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, place: str, to: Delete | ToDead | Push
):
    """Small ones before them don't say what comes; Redis serves nobody else while a script runs."""
    monkeypatch.setattr(contents, "PAGE_BYTES", 40_000)
    monkeypatch.setattr(operator_actions, "MOVE_BYTES", 10_000)
    bench, heavy = Bench(connection), 15_000
    source = QUEUE if place == "queue" else Location("retry")
    payloads = [b'{"jid":"%02d","queue":"q","tw_keep":1}' % number for number in range(25)]
    payloads += [b'{"jid":"%02d","queue":"q","args":["%s"]}' % (number, b"x" * heavy) for number in range(25, 35)]
    for payload in payloads if place == "retry" else reversed(payloads):
        await bench.redis(*(("LPUSH", "queue:q") if place == "queue" else ("ZADD", "retry", 1)), payload)
    sent, read = [0], [0]
    run = connection.run

    async def weighed(script: Any, keys: Any, args: Any, *more: Any) -> Any:
        reply = await run(script, keys, args, *more)
        weights = sent if script.name in ("pick", "relocate") else read
        weights.append(sum(len(each) for each in (args if weights is sent else reply) if isinstance(each, bytes)))
        return reply

    monkeypatch.setattr(connection, "run", weighed)

    def decide(entry: Entry) -> Any:
        return Push("other", entry.payload) if isinstance(to, Push) else to

    total = await bench.sweep(source, decide)
    assert (total["moved"], total["errors"]) == (35, 0)
    assert max(sent) < heavy + 2000
    assert max(read) < 40_000 + heavy + 2000
    monkeypatch.undo()
    if isinstance(to, Push):
        assert sorted(await bench.queue("other")) == sorted(payloads)
    elif isinstance(to, ToDead):
        dead = await bench.redis("ZRANGE", "dead", 0, -1)
        assert isinstance(dead, list)
        assert sorted(dead) == sorted(payloads)
    assert await bench.redis("EXISTS", "queue:q", "retry") == 0


async def test_purge_meets_one_heavy_payload_at_a_time(connection: Connection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operator_actions, "PURGE_PAGE_BYTES", 20_000)
    bench, heavy = Bench(connection), b"x" * 21_000
    await bench.redis("LPUSH", "queue:q", *[b"small"] * 30)
    for _ in range(6):
        await bench.redis("LPUSH", "queue:q", heavy)
    run, gone = connection.run, []

    async def noted(*args: Any) -> Any:
        reply = await run(*args)
        gone.append(reply[0])
        return reply

    monkeypatch.setattr(connection, "run", noted)
    assert await bench.moves.purge("q") == 36
    assert gone == [31, 1, 1, 1, 1, 1]


async def test_page_ends_with_what_makes_it_heavy_and_the_next_begins_there(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(contents, "PAGE_BYTES", 40_000)
    bench = Bench(connection)
    payloads = [b"%02d" % n + b"x" * (30_000 if n % 3 == 2 else 1) for n in range(12)]
    for n, payload in enumerate(payloads):
        await bench.redis("LPUSH", "queue:q", payload)
        await bench.redis("ZADD", "retry", n // 4, payload)
    inspector = Inspector(connection, Keys())
    for source in (QUEUE, Location("retry")):
        first = await inspector.page(source, 0, 50)
        assert [entry.payload for entry in first] == payloads[:6]
        assert not is_last(first, 50)
        rest = await inspector.page(source, 6, 50)
        assert [entry.payload for entry in rest] == payloads[6:]
        assert [entry.payload async for page in inspector.pages(source) for entry in page] == payloads
    newest = await inspector.page_from_the_newest(QUEUE, 1, 4)
    assert [entry.payload for entry in newest] == payloads[10:6:-1]
    for score, passed, found in ((-math.inf, 0, payloads[:4]), (1.0, 3, payloads[7:11]), (2.0, 3, payloads[11:])):
        page = await inspector.page_from_score(Location("retry"), score, passed, 4)
        assert [entry.payload for entry in page] == found
        assert [entry.score for entry in page] == [payloads.index(each) // 4 for each in found]
    await bench.redis("ZADD", "dead", 1, "a", 2, "b", 3, "c")
    assert [entry.payload for entry in await inspector.page(Location("dead"), 1, 5)] == [b"b", b"a"]
