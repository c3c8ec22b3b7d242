"""The search for what others deleted, on a real server: what is let go, and what never is."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import attrs
import msgpack
import pytest
import redis
import trio

from trioworkers import Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.holds.search import LockSearch
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, OperatorActions
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.engine import search as module
from trioworkers.engine.search import Search
from trioworkers.send import Send
from trioworkers.wire.decode import jid_of
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock
from trioworkers.wire.places import Location
from trioworkers.wire.resque import Resque

NOW = "tw:unique"


@attrs.define
class Bench:
    broker: RedisBroker
    evidence: LockSearch
    search: Search
    url: str

    async def send(self, *jids: str, delay_s: float | None = None, queue: str = "q", conflict: Any = "skip") -> None:
        jobs = [Job(queue, "A", jid=jid, lock=Lock(f"A:{jid[0]}", on_conflict=conflict)) for jid in jids]
        await self.broker.send([Send(job, delay_s) for job in jobs])

    def cmd(self, *words: Any) -> Any:
        """A command of somebody else's."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    def locks(self) -> dict[str, str]:
        return {key.decode(): msgpack.unpackb(value)[0] for key, value in self.cmd("HGETALL", NOW).items()}


@pytest.fixture
async def bench(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    for name, value in (("UNTOUCHED_S", 0.0), ("BETWEEN_S", 0.0), ("REST", 0.0)):
        monkeypatch.setattr(module, name, value)
    async with connect(redis_url, Link(redis_url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        evidence = LockSearch(connection, broker.keys, [broker.keys])
        yield Bench(broker, evidence, Search(broker, connection.link, evidence), redis_url)


async def test_lock_of_a_job_that_was_deleted_is_let_go_and_told_in_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    await bench.send("a", "b")
    await bench.send("c", delay_s=600)
    bench.cmd("LREM", "queue:q", 1, bench.cmd("LRANGE", "queue:q", -1, -1)[0])
    await bench.search.search()
    assert bench.locks() == {"A:b": "b", "A:c": "c"}
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(
        "1 lock given back, because the job is in no place any more (another program deleted it): A:a of job a"
    )
    await bench.search.search()
    assert len(caplog.records) == 1


async def test_wherever_its_job_lies_a_lock_is_kept(bench: Bench):
    await bench.send("a", "b", "c", "d", "e")
    await bench.send("f", delay_s=60)
    await bench.send("g", queue="other")
    async with open_intake(bench.broker, bench.url, 1.0, "q") as intake:
        in_progress, retry, parked, dead, orphan = (await intake.fetch(5)).payloads
    bench.cmd("HSET", "tw:inprogress", "queue:q:w:inprogress", "w q")  # as a heartbeat does
    bench.cmd("LREM", "queue:q:w:inprogress", 1, retry)
    bench.cmd("ZADD", "retry", 1e10, retry)
    bench.cmd("LREM", "queue:q:w:inprogress", 1, parked)
    bench.cmd("ZADD", "tw:parked", 1, parked)
    bench.cmd("LREM", "queue:q:w:inprogress", 1, orphan)
    bench.cmd("HSET", "tw:inprogress", "queue:q:gone:inprogress", "gone q")
    bench.cmd("LPUSH", "queue:q:gone:inprogress", orphan)
    bench.cmd("LREM", "queue:q:w:inprogress", 1, dead)
    bench.cmd("ZADD", "dead", 1, dead)
    await bench.search.search()
    assert bench.locks() == {f"A:{jid}": jid for jid in "abcefg"}  # in `dead` counts as ended
    assert jid_of(in_progress) == "a"


async def test_queues_and_lists_whose_names_are_no_text_are_looked_at(bench: Bench):
    await bench.send("a", "b", "c")
    bench.cmd("RENAME", "queue:q", b"queue:\xff")
    bench.cmd("SADD", "queues", b"\xff")
    bench.cmd("LMOVE", b"queue:\xff", b"queue:\xff:x:inprogress", "LEFT", "LEFT")
    bench.cmd("HSET", "tw:inprogress", b"queue:\xff:x:inprogress", b"x \xff")
    bench.cmd("RPOP", b"queue:\xff")
    await bench.search.search()
    assert bench.locks() == {"A:b": "b", "A:c": "c"}


async def test_other_dialects_and_namespaces_are_looked_at(bench: Bench):
    resque = Resque("resque").keys("")
    bench.cmd("HSET", "tw:inprogress", "resque:queue:r:x:inprogress", "x r resque:resque")
    payload = b'{"class":"A","args":[],"tw_lock":"A:r","jid":"r"}'
    bench.cmd("RPUSH", resque.queue("r"), payload)
    bench.cmd("HSET", NOW, "A:r", msgpack.packb(["r", 1.0, 1.0, False, False, []]))
    await bench.search.search()
    assert bench.locks() == {"A:r": "r"}


async def test_another_job_that_names_the_lock_does_not_keep_it(bench: Bench):
    await bench.send("a")
    [payload] = bench.cmd("LRANGE", "queue:q", 0, -1)
    bench.cmd("LSET", "queue:q", 0, payload.replace(b'"jid":"a"', b'"jid":"zz"'))
    await bench.search.search()
    assert bench.locks() == {}


async def test_what_moves_between_the_looks_is_not_let_go(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Both looks miss it: at each it is where they have been already."""
    await bench.send("a")
    [payload] = bench.cmd("LRANGE", "queue:q", 0, -1)
    looks = 0

    class Blind(LockSearch):
        async def walk(self) -> AsyncGenerator[list[str], None]:
            nonlocal looks
            looks += 1
            if looks == 2:
                bench.cmd("DEL", "queue:q")
                bench.cmd("ZADD", "retry", 1, payload)
                assert (await bench.broker.promote("retry", [(payload, "q", payload)]))[0] == 1
            yield []

    blind = Blind(bench.broker.connection, bench.broker.keys, [bench.broker.keys])
    await Search(bench.broker, bench.broker.connection.link, blind).search()
    assert looks == 2
    assert bench.locks() == {"A:a": "a"}


@pytest.mark.parametrize("move", ["release", "put_back", "reclaim", "operator"])
async def test_every_move_is_noted(bench: Bench, move: str):
    await bench.send("a")
    before = msgpack.unpackb(bench.cmd("HGET", NOW, "A:a"))[2]
    async with open_intake(bench.broker, bench.url, 1.0, "q") as intake:
        [payload] = (await intake.fetch(1)).payloads
    match move:
        case "release":
            await bench.broker.release("q")
        case "put_back":
            await bench.broker.put_back("q", [payload])
        case "reclaim":
            await bench.broker.reclaim("w", "q", [(payload, "a", 0, None)])
        case "operator":
            from trioworkers.broker.people.operator_actions import Push  # noqa: PLC0415 - beside its use

            await bench.broker.release("q")
            before = msgpack.unpackb(bench.cmd("HGET", NOW, "A:a"))[2]
            actions = OperatorActions(bench.broker.connection, Keys())
            await actions.move(Location("queue", "q"), Entry("queue", payload, "q"), Push("other", payload))
    assert msgpack.unpackb(bench.cmd("HGET", NOW, "A:a"))[2] > before


async def test_follower_of_a_deleted_job_runs(bench: Bench):
    await bench.send("a", conflict="latest")
    await bench.send("a2", conflict="latest")
    bench.cmd("DEL", "queue:q")
    await bench.search.search()
    assert bench.locks() == {"A:a": "a2"}
    assert [jid_of(p) for p in bench.cmd("LRANGE", "queue:q", 0, -1)] == ["a2"]


async def test_what_waits_for_a_lock_that_was_deleted_is_given_back(bench: Bench):
    await bench.send("a", conflict="latest")
    await bench.send("a2", conflict="latest")
    bench.cmd("DEL", NOW)
    await bench.search.search()
    assert [jid_of(p) for p in bench.cmd("LRANGE", "queue:q", 0, -1)] == ["a2", "a"]
    assert bench.cmd("EXISTS", "tw:next") == 0


@pytest.mark.parametrize("value", [b"", b"junk", b"\xc1", b"\x90", msgpack.packb([1, 2, 3]), msgpack.packb({"a": 1})])
async def test_lock_that_can_not_be_read_is_none_and_goes_with_one_line(
    bench: Bench, value: bytes, caplog: pytest.LogCaptureFixture
):
    await bench.send("b")
    bench.cmd("HSET", NOW, "A:a", value)
    await bench.search.search()
    await bench.search.search()
    assert bench.locks() == {"A:b": "b"}
    assert [record.getMessage() for record in caplog.records] == [
        "1 lock given back, because the job is in no place any more (another program deleted it): 1 that could not be read"
    ]
    await bench.send("a")
    assert bench.locks() == {"A:a": "a", "A:b": "b"}


async def test_half_a_look_concludes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    await bench.send("a")
    bench.cmd("DEL", "queue:q")
    bench.cmd("HSET", "tw:inprogress", "x", "w q newer:dialect")
    task = trio.CancelScope()
    with task:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.search.run)
            bench.search.beat(something_is_held=True)
            while not bench.search._told:
                await trio.sleep(0.01)
            task.cancel()
    assert "newer:dialect" in bench.search._told
    assert bench.locks() == {"A:a": "a"}


async def test_key_of_the_wrong_type_is_no_place(bench: Bench):
    await bench.send("a")
    bench.cmd("SET", "queue:odd", "x")
    bench.cmd("SADD", "queues", "odd")
    bench.cmd("SET", "retry", "x")
    await bench.search.search()
    assert bench.locks() == {"A:a": "a"}


async def test_only_one_of_the_fleet_searches(bench: Bench):
    assert await bench.evidence.begin("w", 60)
    assert not await bench.evidence.begin("w2", 60)


async def test_ten_thousand_jobs_large_ones_among_them_are_walked_completely(bench: Bench):
    jobs = [
        Job("q", "A", ["x" * (100_000 if n % 500 == 0 else 10)], jid=f"j{n}", lock=Lock(f"A:{n}")) for n in range(5000)
    ]
    await bench.broker.send([Send(job, None if n % 2 else 600.0) for n, job in enumerate(jobs)])
    actions = OperatorActions(bench.broker.connection, Keys())
    seen: set[str] = set()
    stop = trio.Event()

    async def disturb() -> None:
        for payload in bench.cmd("LRANGE", "queue:q", 0, 200)[::5]:
            await actions.move(Location("queue", "q"), Entry("queue", payload, "q"), Delete())
        stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb)
        async for page in bench.evidence.walk():
            seen.update(page)
        await stop.wait()
    assert seen >= bench.locks().keys()
