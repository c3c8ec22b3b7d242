"""What is too large to be moved is buried by Redis itself, unread, and the queue goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
from servers import Server

from trioworkers import Unavailable
from trioworkers.broker import too_slow
from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY, Holder
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.pace import LEAST_BYTES, MOST_BYTES, Pace
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.engine.maintenance import Reclaimer
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.own_record import Identity

SMALL = SizeGuard(Settings(max_payload_bytes=1000))
HUGE = SMALL.huge_bytes + 1


@attrs.frozen
class Bench:
    broker: RedisBroker
    server: Server
    url: str

    def push(self, *payloads: bytes) -> None:
        keys = self.broker.keys
        self.server.command("RPUSH" if self.broker.dialect.family == "resque" else "LPUSH", keys.queue("q"), *payloads)

    def dead(self) -> list[str]:
        resque = self.broker.dialect.family == "resque"
        found = self.server.command("LRANGE" if resque else "ZRANGE", self.broker.keys.dead, 0, -1)
        assert isinstance(found, list)
        return found

    def in_progress(self) -> int:
        return int(str(self.server.command("LLEN", self.broker.in_progress("q"))))


@pytest.fixture(params=["sidekiq", "resque", "goworkers"])
async def bench(request: pytest.FixtureRequest, redis_url: str, shared_server: Server) -> AsyncIterator[Bench]:
    dialect = dialect_named(request.param)
    identity = Identity("h", 1, "n")
    async with connect(redis_url, Link(redis_url)) as connection:
        holder = Holder("me", "lease", 30_000)
        brokers = Brokers(connection, "", holder, identity, SMALL, dialect, {})
        shared_server.command("SET", brokers.main.keys.lease("me"), "lease")
        holder.renewed_at = trio.current_time()
        yield Bench(brokers.main, shared_server, redis_url)


def huge(mark: str) -> bytes:
    return json.dumps({"class": "A", "args": [mark * HUGE], "jid": mark, "queue": "q"}).encode()


def small(jid: str) -> bytes:
    return json.dumps({"class": "A", "args": [], "jid": jid, "queue": "q"}).encode()


def kept(bench: Bench, payload: bytes) -> bool:
    """Whether the dead are this payload alone, as it came."""
    (found,) = bench.dead()
    if bench.broker.dialect.family != "resque":
        return found.encode() == payload
    record = json.loads(found)
    assert (record["queue"], record["exception"]) == ("q", "trioworkers.BadPayload")
    return record["payload"]["args"] == [payload.decode()]


async def test_fetch_buries_it_and_brings_the_others(bench: Bench, caplog: pytest.LogCaptureFixture):
    bench.push(small("a"), huge("x"), small("b"))
    async with open_intake(bench.broker, bench.url, 1.0, "q") as intake:
        with caplog.at_level(logging.ERROR):
            payloads = (await intake.fetch(10)).payloads + (await intake.fetch(10)).payloads
    assert (sorted(payloads), bench.in_progress()) == ([small("a"), small("b")], 2)
    assert kept(bench, huge("x"))
    assert f"a payload of {len(huge('x'))} bytes on queue q goes to the dead set unread" in caplog.text


async def test_what_comes_while_we_wait_is_buried_in_our_list(bench: Bench):
    bench.push(huge("x"))
    async with open_intake(bench.broker, bench.url, 1.0, "q") as intake:
        assert await intake.wait() is None
    assert (kept(bench, huge("x")), bench.in_progress()) == (True, 0)


async def test_what_was_cut_off_on_its_way_is_buried_before_the_next_look(bench: Bench):
    bench.server.command("LPUSH", bench.broker.in_progress("q"), small("a"), huge("x"), small("b"))
    bench.broker.cut_off.add("q")
    async with open_intake(bench.broker, bench.url, 1.0, "q"):
        pass
    assert (kept(bench, huge("x")), bench.in_progress(), bench.broker.cut_off) == (True, 2, set())


async def test_it_is_fetched_like_others_where_nothing_can_be_buried(bench: Bench):
    """Nothing is lost: it was taken from its queue already."""
    bench.server.command("SET", bench.broker.keys.dead, "of the wrong type")
    bench.push(huge("x"))
    async with open_intake(bench.broker, bench.url, 1.0, "q") as intake:
        assert (await intake.fetch(10)).payloads == [huge("x")]
    assert bench.in_progress() == 1


@pytest.mark.parametrize("place", ["retry", "schedule"])
async def test_what_comes_due_goes_to_its_queue_without_being_read(bench: Bench, place: str):
    """Whosever it is: it is moved as it came."""
    if bench.broker.dialect.family == "resque":
        return  # only we write there
    head = b'{"retry":"\\"queue\\":\\"no\\"","queue":"theirs","class":"A","args":["'
    theirs, nobodys = head + b"x" * HUGE + b'"]}', b'{"args":[{"queue":"no"},"' + b"x" * HUGE + b'"],"jid":"a"}'
    key = bench.broker.keys.retry if place == "retry" else bench.broker.keys.schedule
    bench.server.command("ZADD", key, 1, theirs, 2, nobodys, 3, small("a"))
    found: list[bytes] = []
    for _ in range(3):
        due = await bench.broker.due(10)
        found = [*(due.retry if place == "retry" else due.schedule)]
    assert found == [small("a")]
    queued = bench.server.command("LRANGE", bench.broker.keys.queue("theirs"), 0, -1)
    assert (queued, bench.dead()) == ([theirs.decode()], [nobodys.decode()])
    assert bench.server.command("ZCARD", key) == 1


@pytest.mark.parametrize("at_its_end", [True, False])
async def test_what_a_dead_worker_had_goes_back_unread_and_is_charged(
    bench: Bench, at_its_end: bool, caplog: pytest.LogCaptureFixture
):
    head, tail = (b"", b',"jid":"heavy"') if at_its_end else (b'"jid":"heavy",', b"")
    theirs = b'{"class":"A",' + head + b'"args":["' + b"x" * HUGE + b'"]' + tail + b"}"
    key = bench.broker.keys.in_progress("q", "dead")
    link = Link("here")
    reclaimer = Reclaimer(bench.broker, link, lease_s=1, beat_s=1)
    for life in range(1, MAX_CRASHES_IN_COMPANY + 1):
        bench.server.command("DEL", bench.broker.keys.queue("q"), bench.broker.keys.drained("dead"))
        bench.server.command("LPUSH", key, small("a"), theirs, small("b"))
        with caplog.at_level(logging.WARNING):
            assert await reclaimer.reclaim("dead", "q") == 2
        queued = bench.server.command("LLEN", bench.broker.keys.queue("q"))
        is_buried = life == MAX_CRASHES_IN_COMPANY
        assert (queued, bool(bench.dead()), bench.server.command("LLEN", key)) == (2 if is_buried else 3, is_buried, 0)
        assert bench.server.command("HGET", bench.broker.keys.crashes, "heavy") == str(life)
        bench.server.command("HDEL", bench.broker.keys.crashes, "a", "b")
    assert kept(bench, theirs)
    assert f"a payload of {len(theirs)} bytes that worker dead, which died, had from q" in caplog.text


async def test_living_worker_keeps_what_is_huge(bench: Bench):
    key = bench.broker.keys.in_progress("q", "other")
    bench.server.command("LPUSH", key, huge("x"))
    bench.server.command("SET", bench.broker.keys.lease("other"), "its")
    assert await bench.broker.peek("other", "q", 10) == []
    assert bench.server.command("LLEN", key) == 1


PAD = b"x" * HUGE


@pytest.mark.parametrize(
    "payload",
    [
        b'{"queue":"theirs","args":["' + PAD + b'"]}',
        b'{ "class" : "A",\n "queue" : "theirs", "args":["' + PAD + b'"]}',
        b'{"args":[{"queue":"no"},"' + PAD + b'"],"queue":"theirs"}',
        b'{"args":[{"queue":"no"},"'
        + PAD
        + b'"],"queue":"theirs","jid":"a","error_message":"no \\"args\\", \\"queue\\":\\"no\\""} \n',
        b'{"args":["' + PAD + b'"], "at":[1], "queue" : "theirs" , "retry":true, "retry_count":3}',
        b'{"args":["' + PAD + b'"],"a\\"queue":"no","queue":"theirs","failed_at":1.5}',
        b'{"a\\"queue":"no","queue":"theirs","args":["' + PAD + b'"]}',
        b'{"args":["' + PAD + b'"],"class":"brackets ]} in a text","queue":"theirs","jid":"queue"}',
        b'{"args":"' + PAD + b'","class":"[","queue":"theirs"}',
    ],
    ids=range(9),
)
async def test_queue_is_read_at_the_beginning_and_at_the_end_of_what_comes_due(bench: Bench, payload: bytes):
    if bench.broker.dialect.family == "resque":
        return  # as above
    assert json.loads(payload)["queue"] == "theirs"
    bench.server.command("ZADD", bench.broker.keys.schedule, 1, payload)
    assert [*(await bench.broker.due(10)).schedule] == []
    assert bench.server.command("LRANGE", bench.broker.keys.queue("theirs"), 0, -1) == [payload.decode()]
    assert (bench.dead(), bench.server.command("ZCARD", bench.broker.keys.schedule)) == ([], 0)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"args":["' + PAD + b'",{"queue":"no"}]}',
        b'{"args":["' + PAD + b'"],"wrapped":{"queue":"no"}}',
        b'{"args":["' + PAD + b'"],"wrapped":{"queue":"no"},"jid":"a"}',
        b'{"args":["' + PAD + b'"],"jid":", \\"queue\\":\\"no\\""}',
        b'{"args":["' + PAD + b'"],"a\\"queue":"no"}',
        b'{"args":["' + PAD + b'"],"class":"queue","jid":"no"}',
        b'{"args":["' + PAD + b'"],"queue":"q:w1:inprogress"}',
        b'{"args":["' + PAD + b'"],"queue":""}',
        b'{"args":["' + PAD + b'"],"queue":7}',
        b'{"args":["' + PAD + b'"],"queue":"no',
    ],
    ids=range(10),
)
async def test_what_is_no_queue_of_its_own_is_not_taken_for_one(
    bench: Bench, payload: bytes, caplog: pytest.LogCaptureFixture
):
    if bench.broker.dialect.family == "resque":
        return  # as above
    bench.server.command("ZADD", bench.broker.keys.schedule, 1, payload)
    assert [*(await bench.broker.due(10)).schedule] == []
    assert (bench.dead(), bench.server.command("KEYS", "queue:*")) == ([payload.decode()], [])
    assert "it went to dead: it names no queue at its beginning or end" in caplog.text


async def test_what_resque_scheduler_delayed_goes_to_its_queue_without_being_read(bench: Bench):
    if not isinstance(bench.broker, ResqueBroker):
        return
    seconds, second_prefix, payload_prefix = bench.broker.keys.waiting
    last = b'{"class":"A","args":["\\"queue\\":\\"no\\"}' + b"x" * HUGE + b'"],"queue":"theirs"}'
    first = b'{"class":"A","queue":"theirs","args":["' + b"x" * HUGE + b'"]}'
    nobodys = b'{"class":"A","args":["' + b"x" * HUGE + b'",{"queue":"no"}]}'
    little = b'{"class":"A","args":[],"queue":"theirs"}'
    bench.server.command("ZADD", seconds, 100, 100)
    bench.server.command("RPUSH", f"{second_prefix}100", first, little, nobodys, last)
    for payload in (first, little, nobodys, last):
        bench.server.command("SADD", payload_prefix.encode() + payload, "delayed:100")
    found: list[bytes] = []
    for _ in range(4):
        found = [*(await bench.broker.due(10)).delayed]
    assert found == [little]
    assert bench.server.command("LRANGE", bench.broker.keys.queue("theirs"), 0, -1) == [first.decode(), last.decode()]
    (record,) = map(json.loads, bench.dead())
    assert record["payload"]["args"] == [nobodys.decode()]
    assert bench.server.command("LRANGE", f"{second_prefix}100", 0, -1) == [little.decode()]
    assert [bench.server.command("EXISTS", payload_prefix.encode() + each) for each in (first, little, last)] == [
        0,
        1,
        0,
    ]


async def test_what_the_link_can_not_carry_is_put_out_of_the_way_after_the_second_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A legal payload: what runs of that size stays."""
    monkeypatch.setattr(too_slow, "ALL_THE_TIME_S", 0.0)
    runs, stuck = (b'{"class":"A","args":["' + letter * LEAST_BYTES + b'"],"queue":"q"}' for letter in (b"r", b"s"))
    bench.server.command("LPUSH", bench.broker.in_progress("q"), runs, stuck, small("a"))
    bench.broker.connection.link.pace.bytes = LEAST_BYTES
    run = bench.broker.connection.run

    async def slow(script: Script, *rest: Any, **more: Any) -> Any:
        if script.name == "page" and int(str(bench.server.command("LLEN", bench.broker.in_progress("q")))) == 3:
            raise Unavailable("it takes too long")
        return await run(script, *rest, **more)

    monkeypatch.setattr(bench.broker.connection, "run", slow)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await bench.broker.audit("q", 1, 10, [runs])
        assert bench.dead() == []
    listed = await bench.broker.audit("q", 1, 10, [runs])
    assert listed is not None
    assert sorted(listed.payloads) == sorted([runs, small("a")])
    assert kept(bench, stuck)
    assert "the way to Redis doesn't carry it" in caplog.text
    assert bench.broker.in_progress("q") not in bench.broker.too_slow


async def test_what_the_link_breaks_under_each_time_is_put_out_of_the_way_but_nothing_of_a_size_that_it_carries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """It is asked for again while less can be asked for, and six times more."""
    key = bench.broker.in_progress("q")
    passes, stuck = (b'{"class":"A","args":["%s"],"queue":"q"}' % (b"x" * size) for size in (200_000, 300_000))
    bench.server.command("LPUSH", key, stuck, small("a"), passes)
    run = bench.broker.connection.run
    broken = 0

    async def breaks_under_the_largest(script: Script, keys: Any, args: Any, *more: Any) -> Any:
        nonlocal broken
        reply = await run(script, keys, args, *more)
        if script.name == "page" and stuck in reply[1]:
            broken += 1
            raise Unavailable("the connection was lost")
        return reply

    monkeypatch.setattr(bench.broker.connection, "run", breaks_under_the_largest)
    listed = None
    while listed is None and broken < 30:
        with suppress(Unavailable):
            listed = await bench.broker.audit("q", 0, 10)
    assert listed is not None
    assert sorted(listed.payloads) == sorted([passes, small("a")])
    assert kept(bench, stuck)
    assert broken >= too_slow.ENOUGH
    assert key not in bench.broker.too_slow


async def test_chance_puts_nothing_out_of_the_way():
    """What broke so often elsewhere, or with something in between that came through, may come through."""
    pace = Pace("here")
    pace.bytes = LEAST_BYTES
    failing = too_slow.TooSlow(pace)

    def breaks(at: int) -> None:
        with pytest.raises(Unavailable), failing.watching("list", LEAST_BYTES, at):
            raise Unavailable("the connection was lost")

    for at in (0, 1) * too_slow.ENOUGH:
        breaks(at)
        assert "list" not in failing
    for _ in range(2):
        for _ in range(too_slow.ENOUGH - 1):
            breaks(0)
        with failing.watching("list", LEAST_BYTES, 0):
            pass
        assert "list" not in failing
    for _ in range(too_slow.ENOUGH):  # each time all before it comes through, also with a part of what may go at once
        breaks(1)
        pace.bytes = 2 * LEAST_BYTES
        with pytest.raises(Unavailable), failing.watching("list", pace.bytes, 0):
            raise Unavailable("the connection was lost")
        with failing.watching("list", LEAST_BYTES, 0):
            pass
    assert "list" in failing


def test_what_could_be_a_job_of_ours_is_never_huge():
    from trioworkers.engine.runner import WHAT_WE_ADD_BYTES  # noqa: PLC0415 - only here

    for most in (1, 1000, 1 << 20, 1 << 28):
        guard = SizeGuard(Settings(max_payload_bytes=most))
        assert guard.huge_bytes > most + WHAT_WE_ADD_BYTES


async def test_what_takes_all_the_time_is_taken_for_more_than_the_link_carries(monkeypatch: pytest.MonkeyPatch):
    """Where nothing is fetched that says how slow it is, a large payload that came due would stay in everybody's way."""
    monkeypatch.setattr(too_slow, "ALL_THE_TIME_S", 0.0)
    pace = Pace("here")
    failing = too_slow.TooSlow(pace)
    for _ in range(2):
        assert "due" not in failing
        failing.failed("due", 0.0, Unavailable("no answer"), 0)
    assert "due" in failing
    assert pace.bytes <= MOST_BYTES / 10
