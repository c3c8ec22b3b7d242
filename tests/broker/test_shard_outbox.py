"""The outbox between two shards: each of its steps repeated, late, cut short before and after, and a Redis that was set back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import msgspec
import pytest
import trio

from trioworkers import App, Job, Unavailable
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.sender import Sender
from trioworkers.broker.shard_outbox import BEYOND, DONE, PAGE, RECEIVE, OutboxPage, ShardOutbox
from trioworkers.engine import forwarding
from trioworkers.engine.forwarding import Forwarder
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.shards import Shard
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack


class Two:
    """Shards `a` and `b` in one Redis. What jobs in `a` enqueue on queue `q` is for `b`."""

    def __init__(self, connection: Connection) -> None:
        app = App(shards={name: Shard("redis://h", namespace=f"{{{name}}}") for name in "ab"})
        app.queue("p", shards=["a"])
        app.queue("q", shards=["b"])
        layout = app.layout
        assert layout is not None
        self.connection = connection
        self.keys = {name: Keys(f"{{{name}}}") for name in "ab"}
        self.senders = {name: Sender.of(connection, Sending(keys)) for name, keys in self.keys.items()}
        self.outboxes = {name: ShardOutbox(name, self.senders, layout) for name in "ab"}
        self.source, self.target = self.outboxes["a"], self.outboxes["b"]

    async def execute(self, *words: Any) -> Any:
        return await self.connection.execute("test", *words)

    async def enqueue(self, *numbers: int) -> None:
        """As the settle script does, each number with an outcome of its own."""
        await self._put(*(Send(Job("q", "X", [number])) for number in numbers))

    async def schedule(self, number: int) -> None:
        """As `enqueue`, for later."""
        await self._put(Send(Job("q", "X", [number]), at_s=2e9))

    async def _put(self, *sends: Send) -> None:
        for send in sends:
            push, later = self.source.work(self.senders["a"].sending, [send], 1e9)
            assert not later
            [(name, key, entries, command, names)] = push
            await self.execute(command, key, *entries)
            await self.execute("SADD", names, name)

    async def page(self) -> OutboxPage:
        page = await self.source.page("b")
        assert page is not None
        return page

    async def come(self) -> list[int]:
        """What has come, in its order."""
        payloads = await self.execute("LRANGE", self.keys["b"].queue("q"), 0, -1)
        return [msgspec.json.decode(payload)["args"][0] for payload in reversed(payloads)]

    async def left(self) -> int:
        return int(await self.execute("LLEN", self.keys["a"].outbox("b")))

    async def forward(self) -> None:
        """Until nothing is left."""
        while (page := await self.source.page("b")) is not None:
            received = await self.target.receive(page)
            if not await self.source.done("b", page.epoch, received):
                await self.source.page("b", page.epoch)


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[Two]:
    async with connect(redis_url, Link("the test's")) as connection:
        yield Two(connection)


async def test_all_come_in_their_order_and_nothing_is_left(two: Two):
    await two.enqueue(*range(250))
    assert await two.source.waiting() == {"b"}
    await two.forward()
    assert await two.come() == [*range(250)]
    assert await two.source.waiting() == set()
    assert await two.source.page("b") is None


async def test_repeated_and_late_pages_find_nothing_to_do(two: Two):
    await two.enqueue(1, 2, 3)
    first = await two.page()
    await two.target.receive(first)
    again = await two.target.receive(first)
    assert (again.last, again.problem) == (3, "")
    await two.source.done("b", first.epoch, again)
    await two.enqueue(4, 5)
    second = await two.page()
    assert (second.first, len(second.entries)) == (4, 2)
    await two.target.receive(second)
    for late in (first, second, first):
        assert (await two.target.receive(late)).last == 5
    assert await two.come() == [1, 2, 3, 4, 5]


async def test_old_page_of_a_slow_worker_numbers_nothing_anew(two: Two):
    await two.enqueue(1, 2, 3)
    old = await two.page()
    await two.forward()
    await two.enqueue(4, 5, 6)
    await two.target.receive(await two.page())  # not taken from the outbox yet
    received = await two.target.receive(old)
    assert (received.last, received.problem) == (6, BEYOND)
    assert await two.source.done("b", old.epoch, received)
    await two.forward()
    assert await two.come() == [1, 2, 3, 4, 5, 6]


async def test_page_that_begins_with_what_came_already_brings_only_the_rest(two: Two):
    await two.enqueue(1, 2)
    await two.target.receive(await two.page())  # its reply is lost, so nothing is done with the outbox
    await two.enqueue(3)
    await two.target.receive(await two.page())
    assert await two.come() == [1, 2, 3]


async def test_repeated_and_late_ends_take_nothing_away(two: Two):
    await two.enqueue(1, 2, 3)
    page = await two.page()
    received = await two.target.receive(page)
    parts = [attrs.evolve(received, last=last, last_id=page.entries[last - 1][:24]) for last in (2, 1)]
    for part in (*parts, *parts, attrs.evolve(received, last=0, last_id=b"")):
        assert await two.source.done("b", page.epoch, part)
    assert await two.left() == 1
    assert await two.source.done("b", b"another numbering", received)
    assert await two.left() == 1
    await two.forward()
    assert await two.come() == [1, 2, 3]


async def test_source_that_was_set_back_loses_nothing_new(two: Two):
    """Its failover lost the last writes: what is enqueued since then has numbers that others had before."""
    await two.enqueue(1, 2)
    await two.forward()
    before = await two.execute("DUMP", two.keys["a"].outbox_numbers)
    await two.enqueue(3, 4)
    await two.forward()
    await two.execute("RESTORE", two.keys["a"].outbox_numbers, 0, before, "REPLACE")
    await two.enqueue(13, 14, 15)
    await two.forward()
    assert await two.come() == [1, 2, 3, 4, 13, 14, 15]


async def test_source_that_was_set_back_to_before_the_end_of_what_came(two: Two):
    await two.enqueue(1, 2, 3)
    page = await two.page()
    await two.target.receive(page)
    await two.execute("RPOP", two.keys["a"].outbox("b"))  # the third was lost, and another one comes in its place
    await two.enqueue(13, 14)
    await two.forward()
    come = await two.come()
    assert {13, 14} <= {*come}
    assert Counter(come)[13] == Counter(come)[14] == 1


async def test_source_that_is_set_back_under_a_worker_keeps_what_that_one_never_saw(two: Two):
    """What it calls done are numbers that others have by now."""
    await two.enqueue(1, 2)
    page = await two.page()
    received = await two.target.receive(page)
    await two.execute("DEL", two.keys["a"].outbox("b"))
    await two.enqueue(11, 12, 13)
    assert not await two.source.done("b", page.epoch, received)
    assert await two.left() == 3
    await two.forward()
    assert await two.come() == [1, 2, 11, 12, 13]


async def test_source_that_is_set_back_by_more_than_a_page_goes_on(two: Two):
    """What its receiver knows is further on than a page, and the outbox is longer than that: others have those numbers."""
    await two.enqueue(*range(300))
    first = await two.execute("LRANGE", two.keys["a"].outbox("b"), 0, -1)
    await two.page()
    numbers = await two.execute("DUMP", two.keys["a"].outbox_numbers)
    await two.forward()
    await two.execute("RESTORE", two.keys["a"].outbox_numbers, 0, numbers, "REPLACE")
    await two.execute("RPUSH", two.keys["a"].outbox("b"), *first[:150])
    await two.enqueue(*range(300, 600))
    with trio.fail_after(30):
        await two.forward()
    assert {*await two.come()} == {*range(600)}
    assert [number for number in await two.come() if number >= 300] == [*range(300, 600)]


async def test_target_that_lost_its_data_goes_on_from_what_comes(two: Two):
    await two.enqueue(1, 2)
    await two.forward()
    await two.execute("DEL", two.keys["b"].received, two.keys["b"].queue("q"))
    await two.enqueue(3)
    await two.forward()
    assert await two.come() == [3]


FORGED = (
    b"garbage",
    pack({}),
    pack([]),
    pack([None, None, None]),
    pack([True, 1, "x" * 24]),
    pack([["nested"], 1, "x" * 24]),
    pack(["x" * 24, "one", "x" * 24]),
    pack(["x" * 24, 1, ["nested"]]),
    pack(["x" * 24, 1.5, "x" * 24]),
    pack(["x" * 24, -7, "x" * 24]),
    pack(["x" * 24, 1e300, "x" * 24]),
    pack(["x" * 24, float("inf"), "x" * 24]),
    pack(["x" * 24, float("nan"), "x" * 24]),
    pack(["x" * 24, 2**53, "x" * 24]),
    pack([{"a": 1}, 1, 1]),
    pack([1, "x" * 24, 1.0]),
    pack([1.5, "x" * 24, 1.0]),
    pack(["1", "x" * 24, 1.0]),
    pack([True, True, True]),
    pack([1e300, "x" * 24, 1.0]),
    pack([float("nan"), "x" * 24, 1.0]),
    pack([float("inf"), "x" * 24, 1.0]),
    pack([-7, "x" * 24, 1.0]),
    pack([2, ["nested"], 1.0]),
)


@pytest.mark.parametrize("forged", FORGED, ids=map(str, range(len(FORGED))))
async def test_garbage_in_our_keys_keeps_nothing_from_coming(two: Two, forged: bytes):
    await two.execute("HSET", two.keys["a"].outbox_numbers, "b", forged)
    await two.enqueue(1)
    page = await two.page()
    await two.execute("HSET", two.keys["b"].received, page.epoch, forged)
    with trio.fail_after(60):
        await two.forward()
        await two.enqueue(2, 3)
        await two.forward()
    assert await two.come() == [1, 2, 3]


async def test_keys_of_ours_that_are_no_hashes_keep_nothing_from_coming(two: Two):
    for key in (two.keys["a"].outbox_numbers, two.keys["b"].received):
        await two.execute("SET", key, "garbage")
    await two.enqueue(1)
    with trio.fail_after(60):
        await two.forward()
    assert await two.come() == [1]
    assert await two.left() == 0


WAY = ["q", "{b}:queue:q", "LPUSH", "{b}:queues"]
OPENING = ["", False, {"success": ["q", "{b}:tw:inprogress", "LPUSH", "{b}:queues", "{}", False]}, False]
ITEM = ["{}", "jid", "lock", "skip", 0, 0, [], 0]
FORGED_ENTRIES = {
    "another list": [[["q", "{b}:tw:repairs", ["{}"], "RPUSH", "{b}:queues"]], []],
    "another set of names": [[["q", "{b}:queue:q", ["{}"], "LPUSH", "{b}:tw:batches"]], []],
    "a queue of another name": [[["p", "{b}:queue:q", ["{}"], "LPUSH", "{b}:queues"]], []],
    "no payload": [[["q", "{b}:queue:q", [7], "LPUSH", "{b}:queues"]], []],
    "another sorted set": [[], [["{}", 1, False, "{b}:tw:limits"]]],
    "other lists of seconds": [[], [["{}", 1, False, ["{b}:delayed_queue_schedule", "{b}:queue:", "{b}:timestamps:"]]]],
    "somebody else's locks": [[], [], "{a}:tw:"],
    "a lock's job for another list": [
        [[*WAY[:2], [[*ITEM, ["q", "x", "LPUSH", "{b}:queues"]]], *WAY[2:]]],
        [],
        "{b}:tw:",
    ],
    "a member for another list": [
        [],
        [],
        "{b}:tw:",
        [["B", [], False, 0, [["j", "{}", ["q", "x", "LPUSH", "queues"], [], "wait", []]]]],
    ],
    "a callback for another list": [[], [], "{b}:tw:", [["B", [], OPENING, 1, []]]],
}


@pytest.mark.parametrize("forged", FORGED_ENTRIES.values(), ids=FORGED_ENTRIES)
async def test_entry_can_name_no_key_but_those_of_jobs(two: Two, forged: Any):
    """Whoever may write in one Redis of ours has no word in the others but jobs."""
    await two.execute("RPUSH", two.keys["a"].outbox("b"), b"x" * 24 + pack(forged))
    await two.execute("SADD", two.keys["a"].outboxes, "b")
    before = await two.execute("KEYS", "{b}*")
    received = await two.target.receive(await two.page())
    assert "no entry of an outbox" in received.problem
    assert await two.execute("KEYS", "{b}*") == before


@pytest.mark.parametrize(
    "forged",
    [b"", b"garbage", pack([]), pack([[], 1]), pack([[[]], []]), pack([[["q", "q", ["x"], "SET", "queues"]], []])],
    ids=repr,
)
async def test_entry_that_is_none_holds_up_what_comes_after_it_and_says_why(two: Two, forged: bytes):
    await two.enqueue(1)
    await two.execute("RPUSH", two.keys["a"].outbox("b"), b"x" * 24 + forged)
    await two.enqueue(2)
    received = await two.target.receive(await two.page())
    assert received.last == 1
    assert "no entry of an outbox" in received.problem
    assert await two.come() == [1]


async def test_entry_that_is_refused_there_is_not_passed_by_what_comes_after_it(two: Two):
    schedule = two.keys["b"].schedule
    await two.execute("SET", schedule, "no sorted set")
    await two.enqueue(1)
    await two.schedule(2)
    await two.enqueue(3)
    received = await two.target.receive(await two.page())
    assert received.last == 1
    assert received.problem
    assert await two.come() == [1]
    await two.execute("DEL", schedule)
    await two.forward()
    assert await two.come() == [1, 3]
    assert await two.execute("ZCARD", schedule) == 1


@pytest.mark.parametrize("whose", ["names", "list"])
async def test_key_of_the_wrong_type_is_told_once_and_what_waits_goes_when_it_is_mended(
    two: Two, whose: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(forwarding, "LOOK_EVERY_S", 0.05)
    keys, seen = two.keys["a"], Counter[str]()
    key = keys.outboxes if whose == "names" else keys.outbox("b")
    waiting, page = ShardOutbox.waiting, ShardOutbox.page

    async def counted_waiting(outbox: ShardOutbox) -> set[str]:
        seen["names"] += 1
        return await waiting(outbox)

    async def counted_page(outbox: ShardOutbox, *args: Any) -> OutboxPage | None:
        seen["list"] += 1
        return await page(outbox, *args)

    monkeypatch.setattr(ShardOutbox, "waiting", counted_waiting)
    monkeypatch.setattr(ShardOutbox, "page", counted_page)
    if whose == "list":
        await two.execute("SADD", keys.outboxes, "b")
    await two.execute("SET", key, "garbage")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Forwarder("a", two.outboxes).run)
        with trio.fail_after(30):
            while seen[whose] < 4:
                await trio.sleep(0.02)
            await two.execute("DEL", key)
            await two.enqueue(1)
            while await two.left():
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert await two.come() == [1]
    [said] = [record.getMessage() for record in caplog.records if record.module == "forwarding"]
    assert key in said
    assert "shard 'a' refuses" in said


@pytest.mark.parametrize("what", ["lost before", "lost after", "killed before", "killed after"])
@pytest.mark.parametrize("script", [PAGE, RECEIVE, DONE], ids=lambda script: script.name)
async def test_every_step_is_cut_short(two: Two, monkeypatch: pytest.MonkeyPatch, script: Script, what: str):
    """A reply is lost, or its worker dies, before and after each step reaches Redis; another worker goes on. Each job comes once."""
    monkeypatch.setattr(forwarding, "LOOK_EVERY_S", 0.05)
    how, when = what.split()
    cut = 0
    worker = trio.CancelScope()
    run = Connection.run

    async def cut_short(connection: Connection, its: Script, *args: Any, **options: Any) -> Any:
        nonlocal cut
        if its is not script or cut >= 3:
            return await run(connection, its, *args, **options)
        cut += 1
        if when == "after":
            await run(connection, its, *args, **options)
        if how == "lost":
            raise Unavailable("the reply is lost")
        worker.cancel()
        return await trio.sleep_forever()

    monkeypatch.setattr(Connection, "run", cut_short)

    async def work(stopped: Callable[[], bool]) -> None:
        nonlocal worker
        while not stopped():
            with trio.CancelScope() as worker:
                await Forwarder("a", two.outboxes).run()

    over = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, lambda: over)
        with trio.fail_after(120):
            for number in range(10):
                await two.enqueue(*range(number * 30, number * 30 + 30))
            while await two.left() or cut < 3:
                await trio.sleep(0.02)
                if cut < 3:
                    await two.enqueue(1000 + cut)
        over = True
        nursery.cancel_scope.cancel()
    come = Counter(await two.come())
    assert {*range(300)} <= come.keys()
    assert max(count for number, count in come.items() if number < 1000) == 1
