"""What only the real broker has: leases, reclaiming, fences, and what the scripts do on a bad day."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from servers import Server

from trioworkers import Client, Job, Refused, Superseded, Unavailable
from trioworkers.broker.contract import LARGE_BYTES, DueSet, Holder, LeaseGone, Settlement
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect, retrying
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.scripts import Script
from trioworkers.errors import BrokerError
from trioworkers.identity import current_identity, is_certainly_dead
from trioworkers.outcome import Acknowledge, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.keys import Keys
from trioworkers.wire.own_record import Identity, Record, decode_lease, encode_lease


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield opened


def broker(connection: Connection, name: str, lease: str = "", lease_ms: int = 30_000) -> RedisBroker:
    return RedisBroker(connection, Keys(), Holder(name, lease or f"lease of {name}", lease_ms))


def record(identity: Identity) -> Record:
    return Record(identity, "p", 1.5, {"q": 10}, 0, False, 2.5, 100, 1000)


async def redis(connection: Connection, *command: str) -> object:
    return await connection.run(_Raw(), [], list(command))


class _Raw:
    name, sha = "raw", "0" * 40
    text = "return redis.call(unpack(ARGV))"


async def fill(connection: Connection, url: str, owner: RedisBroker, count: int) -> list[bytes]:
    await owner.send([Send(Job("q", "A", [n], jid=f"jid{n}")) for n in range(count)])
    async with open_intake(owner, url, 1.0, "q") as intake:
        return (await intake.fetch(count)).payloads


async def test_handshake_that_nobody_answers_is_given_up_however_long_a_fetch_may_block():
    async def listen_in_silence(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    async def ask() -> None:
        with pytest.raises(Unavailable):
            await redis(opened, "PING")

    async def fetch() -> None:
        with pytest.raises(Unavailable):
            async with open_intake(broker(opened, "w"), url, 30.0, "q") as intake:
                await intake.wait()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, listen_in_silence, 0, host="127.0.0.1"))
        url = f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with trio.CancelScope(
            deadline=trio.current_time() + 20
        ) as patience:  # no call is cut short by it: they are shielded
            async with connect(url, Link(url)) as opened, trio.open_nursery() as callers:
                callers.start_soon(ask)
                callers.start_soon(fetch)
            assert not patience.cancel_called
        nursery.cancel_scope.cancel()


async def test_dead_workers_payloads_come_back_in_order_and_are_charged(connection: Connection, redis_url: str):
    dead, alive = broker(connection, "dead"), broker(connection, "alive")
    p = await fill(connection, redis_url, dead, 3)
    await redis(connection, "DEL", "tw:lease:dead")
    entries = [(payload, f"jid{n}", 1, None) for n, payload in reversed(list(enumerate(p)))]
    assert await alive.reclaim("dead", "q", entries) == (3, "")
    assert await alive.peek("dead", "q", 10) == []
    assert await alive.crashes(["jid0", "jid1", "other"]) == {"jid0": 1, "jid1": 1}
    async with open_intake(alive, redis_url, 1.0, "q") as intake:
        fetched = await intake.fetch(10)
        assert (fetched.payloads, fetched.suspects) == (p, True)


async def test_worker_that_is_alive_is_not_reclaimed(connection: Connection, redis_url: str):
    owner, other = broker(connection, "owner"), broker(connection, "other")
    p = await fill(connection, redis_url, owner, 1)
    assert await other.reclaim("owner", "q", [(p[0], "jid0", 1, None)]) == (-1, "")
    assert await owner.peek("owner", "q", 10) == p


async def test_fetch_tells_that_our_lease_was_gone(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    async with open_intake(owner, redis_url, 1.0, "q") as intake:
        assert (await intake.fetch(1)).lease_gone is LeaseGone.FORGOTTEN  # nothing of ours was there
        assert (await intake.fetch(1)).lease_gone is LeaseGone.NO
        await redis(connection, "DEL", "tw:lease:owner")
        assert (await intake.fetch(1)).lease_gone is LeaseGone.EXPIRED


async def test_whoever_lost_the_process_id_neither_fetches_nor_settles(connection: Connection, redis_url: str):
    old, new = broker(connection, "same", "old"), broker(connection, "same", "new")
    p = await fill(connection, redis_url, old, 1)
    await redis(connection, "SET", "tw:lease:same", "new")
    async with open_intake(old, redis_url, 1.0, "q") as intake:
        with pytest.raises(Superseded):
            await intake.fetch(1)
    with pytest.raises(Superseded):
        await old.settle(1, [Settlement("q", p[0], Acknowledge())])
    assert await new.settle(1, [Settlement("q", p[0], Acknowledge())]) == {}


async def test_outcome_that_cannot_be_written_leaves_the_payload_ours(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    p = await fill(connection, redis_url, owner, 2)
    await redis(connection, "SET", "retry", "no sorted set")
    problems = await owner.settle(1, [Settlement("q", p[0], Retry(b"{}", 1)), Settlement("q", p[1], Acknowledge())])
    assert list(problems) == [0]
    assert "WRONGTYPE" in problems[0]
    assert await owner.peek("owner", "q", 10) == [p[0]]
    await redis(connection, "DEL", "retry")
    assert await owner.settle(2, [Settlement("q", p[0], Retry(b"{}", 1))]) == {}


async def test_queue_of_the_wrong_type_is_refused_not_lost(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    p = await fill(connection, redis_url, owner, 1)
    await redis(connection, "SET", "queue:q", "no list")
    assert "WRONGTYPE" in (await owner.settle(1, [Settlement("q", p[0], Requeue())]))[0]
    async with open_intake(owner, redis_url, 1.0, "q") as intake:
        with pytest.raises(Refused):
            await intake.fetch(1)


async def test_sends_that_are_refused_in_part_are_not_sent_at_all(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    p = await fill(connection, redis_url, owner, 1)
    await redis(connection, "SET", "queue:bad", "no list")
    await redis(connection, "SET", "schedule", "no sorted set")
    good, bad, later = Send(Job("good", "A", [])), Send(Job("bad", "A", [])), Send(Job("good", "A", []), delay_s=1.0)
    for number, sends in enumerate(
        [(good, bad), (good, later), (good, bad)], 1
    ):  # each is tried again, for as long as it takes
        problems = await owner.settle(number, [Settlement("q", p[0], Acknowledge(sends))])
        assert "WRONGTYPE" in problems[0]
    assert await redis(connection, "LLEN", "queue:good") == 0
    assert await owner.peek("owner", "q", 10) == p
    with pytest.raises(Refused):
        await owner.send([good, bad])
    assert await redis(connection, "LLEN", "queue:good") == 0


async def test_ten_thousand_suspects_that_came_through_are_cleared_at_once(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    p = await fill(connection, redis_url, owner, 1)
    jids = [f"jid{n}" for n in range(10_000)]
    await redis(connection, "HSET", owner.keys.crashes, "jid0", "2", "jid9999", "2", "other", "1")
    await redis(
        connection, "HSET", owner.keys.suspects("owner"), "jid0", "alone", "jid9999", "alone", "other", "together"
    )
    assert await owner.settle(1, [Settlement("q", p[0], Acknowledge())], jids) == {}
    assert await redis(connection, "HKEYS", owner.keys.crashes) == [b"other"]
    assert await owner.started("owner") == {"other": False}
    assert await redis(connection, "GET", "stat:processed") == b"1"


async def test_thousands_of_the_same_bytes_that_wait_cost_a_command_or_two_each(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    same = b'{"class":"A","args":[]}'
    await redis(connection, "LPUSH", owner.in_progress("q"), *[same] * 2000)
    await connection.call("config", lambda client: client.config_resetstat())
    for part in (1, 2):
        group = [Settlement("q", same, Snooze(same, 5))] * 500 + [Settlement("q", same, Retry(same, 5))] * 500
        assert await owner.settle(part, group) == {}
    stats = await connection.call("info", lambda client: client.info("commandstats"))
    assert stats["cmdstat_zadd"]["calls"] <= 2 * 2000  # type: ignore[index,call-overload]
    for key in ("schedule", "retry"):
        waiting = await redis(connection, "ZRANGE", key, "0", "-1")
        assert isinstance(waiting, list)
        assert len(waiting) == 1000
        assert all(json.loads(payload) == json.loads(same) for payload in waiting)


@pytest.mark.parametrize("place", [0, 1, 20, 39])
async def test_what_is_large_is_fetched_alone(connection: Connection, redis_url: str, place: int):
    """Who dies of it takes nobody along; and the order stays."""
    owner = broker(connection, "owner")
    payloads = [b"%d" % n for n in range(40)]
    payloads[place] = large = b"x" * (LARGE_BYTES + 1)
    await redis(connection, "LPUSH", "queue:q", *payloads)
    async with open_intake(owner, redis_url, 1.0, "q") as intake:
        fetched: list[list[bytes]] = []
        while page := [*(await intake.fetch(40)).payloads]:
            fetched.append(page)
    assert [payload for page in fetched for payload in page] == payloads
    assert [large] in fetched
    assert await owner.held_by("owner", "q") == 40


async def test_fetch_stops_soon_after_its_bytes_are_full(
    connection: Connection, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection.link.pace, "took", lambda *_: None)  # whatever a busy machine makes of it
    owner = broker(connection, "owner")
    heavy, small = b"x" * 1_000_000, b"y"
    await redis(connection, "LPUSH", "queue:q", *[small] * 20, *[heavy] * 16)
    async with open_intake(owner, redis_url, 1.0, "q") as intake:
        assert (await intake.fetch(20)).payloads == [small] * 20
        assert [len((await intake.fetch(20)).payloads) for _ in range(3)] == [8, 8, 0]
        for _ in range(5):
            await redis(connection, "LPUSH", "queue:q", *[small * 10_000] * 1000)
        assert 800 <= len((await intake.fetch(5000)).payloads) <= 900


async def test_settling_counts_as_sidekiq_does(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    p = await fill(connection, redis_url, owner, 2)
    await owner.settle(1, [Settlement("q", p[0], Acknowledge()), Settlement("q", p[1], Retry(b"{}", 1))])
    assert [await redis(connection, "GET", f"stat:{name}") for name in ("processed", "failed")] == [b"2", b"1"]


async def test_dead_set_keeps_sidekiqs_limits(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    await redis(connection, "ZADD", "dead", "1", "from 1970")
    await owner.send([Send(Job("q", "A", [], jid="j"), delay_s=0.0)])
    (payload,) = (await owner.due(1)).schedule
    await owner.promote("schedule", [(payload, None, payload)])
    assert await redis(connection, "ZRANGE", "dead", "0", "-1") == [payload]


@pytest.mark.parametrize("source", ["schedule", "retry"])
async def test_due_job_is_not_pushed_again_and_again_when_its_queues_name_cannot_be_noted(
    connection: Connection, redis_url: str, source: DueSet
):
    owner = broker(connection, "owner")
    await redis(connection, "ZADD", source, "1", "payload")
    await redis(connection, "SET", "queues", "no set")
    for _ in range(3):
        moved, errors = await owner.promote(source, [(b"payload", "q", b"payload")])
        assert (moved, len(errors)) == (0, 1)
    assert await redis(connection, "LLEN", "queue:q") == 0
    await redis(connection, "DEL", "queues")
    assert await owner.promote(source, [(b"payload", "q", b"payload")]) == (1, [])
    assert await redis(connection, "LRANGE", "queue:q", "0", "-1") == [b"payload"]
    assert await redis(connection, "EXISTS", source) == 0


async def test_process_id_is_claimed_by_one_at_a_time(connection: Connection):
    first, second = current_identity(), current_identity()
    one = Presence(broker(connection, "same", encode_lease(first), 600), str(first), ["q"])
    two = Presence(broker(connection, "same", encode_lease(second), 600), str(second), ["q"])
    await one.claim()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_beating, one, first, nursery.cancel_scope)
        with pytest.raises(Superseded, match="in use by process"):
            await two.claim()
        nursery.cancel_scope.cancel()
    assert await one.deregister() == 0
    await two.claim()


async def test_twin_is_told_with_the_first_beat_that_it_sees(connection: Connection, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    first, second = current_identity(), current_identity()
    one = Presence(broker(connection, "same", encode_lease(first), 30_000), str(first), ["q"])
    two = Presence(broker(connection, "same", encode_lease(second), 30_000), str(second), ["q"])
    await one.claim()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat_once_watched, one, first, caplog)
        with trio.fail_after(one.beat_interval_s * 2.4), pytest.raises(Superseded, match="in use by process"):
            await two.claim()


async def _beat_once_watched(presence: Presence, identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    while "process id 'same' is held by process" not in caplog.text:
        await trio.sleep(0.01)
    await trio.sleep(presence.beat_interval_s / 4)
    await presence.beat(record(identity), [])


async def _keep_beating(presence: Presence, identity: Identity, scope: trio.CancelScope) -> None:
    while not scope.cancel_called:
        await presence.beat(record(identity), [])
        await trio.sleep(presence.beat_interval_s)


async def test_lease_of_a_process_that_is_gone_is_taken_at_once(connection: Connection):
    gone = Identity(
        **{name: getattr(current_identity(), name) for name in ("hostname", "nonce", "boot", "pid_space")},
        pid=2**22 + 1,
        started="1",
    )
    assert is_certainly_dead(gone)
    await redis(connection, "SET", "tw:lease:same", encode_lease(gone))
    me = current_identity()
    with trio.fail_after(60):  # a lease without expiry: watching it would find it silent only after a while
        await Presence(broker(connection, "same", encode_lease(me), 60_000), str(me), ["q"]).claim()


async def test_beat_tells_which_lists_have_no_worker(connection: Connection, redis_url: str):
    me = current_identity()
    mine = broker(connection, "me", encode_lease(me))
    presence = Presence(mine, str(me), ["q"])
    await fill(connection, redis_url, broker(connection, "dead"), 1)
    await redis(connection, "DEL", "tw:lease:dead")
    beat = await presence.beat(record(me), [("t1", b"{}")])
    assert beat.orphans == [("dead", "q")]
    assert await redis(connection, "HGET", f"{me}:work", "t1") == b"{}"
    info = json.loads(str((await redis(connection, "HGET", str(me), "info")).decode()))  # type: ignore[attr-defined]
    assert (info["identity"], info["queues"], info["concurrency"]) == (str(me), ["q"], 10)
    await redis(connection, "LPUSH", f"{me}-signals", "TSTP")
    assert (await presence.beat(record(me), [])).signal == "TSTP"
    await mine.forget("dead", "q", strike=True)
    assert (await presence.beat(record(me), [])).orphans == [("dead", "q")]  # it still holds something
    await redis(connection, "DEL", "queue:q:dead:inprogress")
    await mine.forget("dead", "q", strike=False)
    assert (await presence.beat(record(me), [])).orphans == [("dead", "q")]
    await redis(connection, "EXPIRE", "tw:drained:dead", 3600)
    await mine.forget("dead", "q", strike=True)
    assert (await presence.beat(record(me), [])).orphans == []


async def test_list_of_a_dead_worker_that_others_fill_again_is_theirs(connection: Connection, redis_url: str):
    """go-workers takes its queue and process id back, and writes no lease."""
    mine, dead = broker(connection, "me"), broker(connection, "1")
    await fill(connection, redis_url, dead, 2)
    await redis(connection, "DEL", "tw:lease:1")
    payloads = await mine.peek("1", "q", 10)
    entries = [(payload, f"jid{n}", 1, None) for n, payload in enumerate(payloads)]
    assert await mine.reclaim("1", "q", entries[:1]) == (1, "")
    assert await mine.reclaim("1", "q", entries[1:]) == (1, "")
    await redis(connection, "LMOVE", "queue:q", "queue:q:1:inprogress", "RIGHT", "LEFT")
    before = await redis(connection, "HGETALL", "tw:crashes")
    theirs = await mine.peek("1", "q", 10)
    assert len(theirs) == 1
    assert (await mine.reclaim("1", "q", [(theirs[0], "jid0", 1, None)]))[0] == -2
    assert await redis(connection, "LLEN", "queue:q:1:inprogress") == 1
    assert await redis(connection, "HGETALL", "tw:crashes") == before
    await mine.forget("1", "q", strike=True)
    assert (
        await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 1
    )  # nobody can tell yet whose it is
    await redis(connection, "LMOVE", "queue:q", "queue:q:1:inprogress", "RIGHT", "LEFT")
    await mine.forget("1", "q", strike=True)
    assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 1
    await redis(connection, "LREM", "queue:q:1:inprogress", 1, theirs[0])  # done
    await mine.forget("1", "q", strike=True)
    assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 0
    assert await redis(connection, "LLEN", "queue:q:1:inprogress") == 1


async def test_named_list_stays_registered_as_long_as_a_job_may_come_there_late(connection: Connection, redis_url: str):
    mine, dead = broker(connection, "me"), broker(connection, "1")
    await fill(connection, redis_url, dead, 1)
    await redis(connection, "DEL", "tw:lease:1", "queue:q:1:inprogress")
    for strike in (False, True, True):
        await mine.forget("1", "q", strike=strike)
        assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 1
    await redis(connection, "EXPIRE", "tw:drained:1", 3600)  # an hour later
    await mine.forget("1", "q", strike=False)
    assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 1
    await mine.forget("1", "q", strike=True)
    assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 0


async def test_two_who_reclaim_one_list_take_each_other_for_no_other_program(connection: Connection, redis_url: str):
    first, second, dead = (broker(connection, name) for name in ("first", "second", "web-1"))
    await fill(connection, redis_url, dead, 2)
    await redis(connection, "DEL", "tw:lease:web-1")
    seen = [
        [(payload, f"jid{n}", 1, None) for n, payload in enumerate(await each.peek("web-1", "q", 10))]
        for each in (first, second)
    ]
    assert await first.reclaim("web-1", "q", seen[0]) == (2, "")
    assert await second.reclaim("web-1", "q", seen[1]) == (0, "")


@pytest.mark.parametrize("call", ["put back", "reclaim"])
async def test_late_copy_of_a_call_that_took_a_job_back_does_not_take_it_again(
    connection: Connection, redis_url: str, monkeypatch: pytest.MonkeyPatch, call: str
):
    """It was sent over a connection that broke; Redis carries it out when the job has been fetched anew and runs."""
    me = broker(connection, "me")
    (payload,) = await fill(connection, redis_url, me, 1)
    sent: list[tuple[Script, Any, Any]] = []
    run = connection.run

    async def noted(script: Script, keys: Any, args: Any, *more: Any) -> Any:
        sent.append((script, keys, args))
        return await run(script, keys, args, *more)

    async def take_back() -> object:
        if call == "put back":
            return await me.put_back("q", [payload])
        return (await me.reclaim("me", "q", [(payload, "jid0", 1, None)]))[0]

    with monkeypatch.context() as patched:
        patched.setattr(connection, "run", noted)
        assert await take_back() == 1
    async with open_intake(me, redis_url, 1.0, "q") as intake:
        assert (await intake.fetch(1)).payloads == [payload]
        assert await take_back() == 1  # once more, and a newer one
        assert (await intake.fetch(1)).payloads == [payload]
    crashes = await redis(connection, "HGETALL", "tw:crashes")
    for script, keys, args in sent:
        await run(script, keys, args)
    assert await redis(connection, "LLEN", "queue:q:me:inprogress") == 1
    assert await redis(connection, "LLEN", "queue:q") == 0
    assert await redis(connection, "HGETALL", "tw:crashes") == crashes


@pytest.mark.parametrize("way", ["claim", "beat", "fetch"])
async def test_worker_of_ours_that_is_back_has_its_lists_again(connection: Connection, redis_url: str, way: str):
    me = current_identity()
    back, other = broker(connection, "1", encode_lease(me)), broker(connection, "other")
    presence = Presence(back, str(me), ["q"])
    await presence.beat(record(me), [])
    await redis(connection, "DEL", "tw:lease:1")
    await other.forget("1", "q", strike=way == "fetch")  # while it was away
    assert await redis(connection, "EXISTS", "tw:drained:1") == 1
    if way == "claim":
        await presence.claim()
    elif way == "beat":
        await presence.beat(record(me), [])
    await fill(connection, redis_url, back, 1)
    assert await redis(connection, "EXISTS", "tw:drained:1") == 0
    assert await redis(connection, "HEXISTS", "tw:inprogress", "queue:q:1:inprogress") == 1
    await redis(connection, "DEL", "tw:lease:1")
    (payload,) = await other.peek("1", "q", 10)
    assert await other.reclaim("1", "q", [(payload, "jid0", 1, None)]) == (1, "")


@pytest.mark.parametrize("reclaimed", [True, False])
@pytest.mark.parametrize("is_named", [True, False])
async def test_what_a_dead_worker_had_waited_for_and_what_came_late_to_its_list_is_not_lost(
    connection: Connection, redis_url: str, is_named: bool, reclaimed: bool
):
    """A wait is a plain command without a fence: over a connection that hung it may reach Redis when its worker is long dead, and its list was emptied."""
    me = current_identity()
    name = "1" if is_named else str(me)
    dies, other = broker(connection, name, encode_lease(me)), broker(connection, "other")
    await Presence(dies, str(me), ["q"]).beat(record(me), [])
    await fill(connection, redis_url, dies, 1)
    await redis(connection, "DEL", f"tw:lease:{name}")
    (payload,) = await other.peek(name, "q", 10)
    if reclaimed:
        assert await other.reclaim(name, "q", [(payload, "jid0", 1, None)]) == (1, "")
    else:
        await redis(connection, "RPOPLPUSH", f"queue:q:{name}:inprogress", "queue:q")
        await other.forget(name, "q", strike=False)
    await redis(connection, "LMOVE", "queue:q", f"queue:q:{name}:inprogress", "RIGHT", "LEFT")
    await other.forget(name, "q", strike=True)  # a list that holds something is not forgotten
    assert await redis(connection, "HEXISTS", "tw:inprogress", f"queue:q:{name}:inprogress") == 1
    (late,) = await other.peek(name, "q", 10)
    if is_named:  # another program may have such an id; what lies there still for an hour is none of its jobs
        assert await other.reclaim(name, "q", [(late, "jid0", 1, None)]) == (-2, "")
        await other.forget(name, "q", strike=True)
        assert await redis(connection, "LLEN", "queue:q") == 0
        await redis(connection, "EXPIRE", f"tw:drained:{name}", 3600)
    assert await other.reclaim(name, "q", [(late, "jid0", 1, None)]) == (1, "")
    assert await redis(connection, "LLEN", "queue:q") == 1
    await other.forget(name, "q", strike=True)
    assert await redis(connection, "HEXISTS", "tw:inprogress", f"queue:q:{name}:inprogress") == 0


async def test_nothing_is_waited_for_when_others_may_think_us_dead(connection: Connection, redis_url: str):
    me = broker(connection, "me", lease_ms=4000)
    async with open_intake(me, redis_url, 60.0, "q") as intake:
        assert not intake.may_wait  # nobody has seen our lease yet
        await intake.fetch(1)
        assert intake.may_wait
        with trio.fail_after(30):  # a wait may last for a minute
            while intake.may_wait:  # Redis counts from when its round began: on a busy machine a wait ends too early
                assert await intake.wait() is None
        await redis(connection, "SET", "tw:lease:me", "lease of me", "PX", 1000)
        await intake.fetch(1)  # or it would be asked again and again until the lease has run out
        assert intake.may_wait
        assert await connection.execute("pttl", "PTTL", "tw:lease:me") > 1000


def test_lease_is_read_back():
    me = current_identity()
    assert decode_lease(encode_lease(me)) == me
    assert decode_lease("somebody else's words") is None


async def test_client_sends_ten_thousand_in_one_call(redis_url: str, connection: Connection):
    async with Client(redis_url) as client:
        jids = await client.enqueue(*[Job("q", "A", [n]) for n in range(10_000)])
        assert len(set(jids)) == 10_000
    assert await redis(connection, "LLEN", "queue:q") == 10_000
    assert await redis(connection, "SMEMBERS", "queues") == [b"q"]


async def test_scripts_survive_being_flushed(connection: Connection):
    owner = broker(connection, "owner")
    for _ in range(20):
        await connection.call("flush", lambda client: client.script_flush())
        await owner.due(1)
    assert connection.link.is_up


async def test_pool_is_whole_after_many_cancelled_waits(connection: Connection, redis_url: str):
    owner = broker(connection, "owner")
    async with open_intake(owner, redis_url, 5.0, "q") as intake:
        for number in range(100):
            with trio.move_on_after(0.001 * (number % 5)):
                await intake.wait()
        await owner.send([Send(Job("q", "A", [], jid="j"))])
        with trio.fail_after(60):
            payload = await intake.wait()
        assert payload is not None
        pool = intake._connection._current_epoch().client.connection_pool
        assert len(pool._available_connections) == pool.max_connections
    assert await owner.peek("owner", "q", 10) == [payload]


async def test_connection_survives_a_thousand_faults(connection: Connection, shared_server: Server):
    """Killed, timed out and given up under forty tasks: each call ends with its reply or an error of ours."""
    chance = random.Random(7)
    faults = 0

    async def call_again_and_again() -> None:
        while faults < 1000:
            with suppress(BrokerError):
                assert await connection.call("ping", lambda client: client.ping()) in (b"PONG", "PONG")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(call_again_and_again)
        while faults < 1000:
            faults += 1
            if chance.random() < 0.1:
                shared_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            else:
                connection._current_epoch().retired.set()
            await trio.sleep(chance.choice([0, 0, 0.001]))
    await retrying(lambda: connection.call("ping", lambda client: client.ping()))
    pool = connection._current_epoch().client.connection_pool
    assert len(pool._available_connections) == pool.max_connections
