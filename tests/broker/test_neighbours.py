"""Who else is on our queues, on a real Redis: records as each version writes them, and lists as go-workers leaves them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from servers import Server

from trioworkers.broker.contract import Holder
from trioworkers.broker.goworkers_broker import GoWorkersBroker
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.neighbours import MAX_WATCHED, STEP, ResqueNeighbours, SidekiqNeighbours
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.keys import Keys
from trioworkers.wire.own_record import Identity, Record, decode_info
from trioworkers.wire.resque import ResqueKeys, slot_id, worker_id

INFO = {"hostname": "h", "started_at": 1.5, "pid": 7, "tag": "trioworkers", "labels": [], "identity": "h:7:n"}
CAPSULE = {"concurrency": 5, "mode": "weighted", "weights": {"q": 2, "other": 0}}
RECORDS: dict[str, dict[str, Any]] = {
    "Ruby Sidekiq": {**INFO, "concurrency": 10, "queues": ["q", "other"]},  # 6.4
    "Ruby Sidekiq 7.0.2": {**INFO, "concurrency": 5, "weights": [{"q": 1, "other": 0}], "version": "7.0.2"},
    "Ruby Sidekiq 8.1.7": {**INFO, "capsules": {"default": CAPSULE}, "version": "8.1.7", "embedded": False},
    "go-workers2": {**INFO, "Pid": 7, "queues": ["q"], "concurrency": 5},
}


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    async with connect(redis_url, Link(redis_url)) as opened:
        yield opened


def neighbours(connection: Connection, *queues: str, namespace: str = "") -> SidekiqNeighbours:
    return SidekiqNeighbours(connection, Keys(namespace), queues or ("q",))


def enter(server: Server, info: Mapping[str, Any] | str, *, key: str = "h:7:n", **fields: object) -> None:
    server.command("SADD", "processes", key)
    text = info if isinstance(info, str) else json.dumps(info)
    values = {"info": text, "busy": 0, "beat": time.time(), "quiet": "false", **fields}
    server.command("HSET", key, *(word for pair in values.items() for word in pair))


@pytest.mark.parametrize("kind", RECORDS)
async def test_a_process_of_another_kind_is_known_by_its_record(
    connection: Connection, shared_server: Server, kind: str
):
    enter(shared_server, RECORDS[kind])
    found = await neighbours(connection, "q", "mine").check()
    assert [(each.kind, each.name, each.queues) for each in found.values()] == [(kind, "h:7:n", ("q",))]
    assert await neighbours(connection, "mine").check() == {}


async def test_who_does_not_fetch_is_no_neighbour(connection: Connection, shared_server: Server):
    enter(shared_server, RECORDS["Ruby Sidekiq"], key="quiet", quiet="true")
    enter(shared_server, RECORDS["go-workers2"], key="quiet2", quiet="1")
    enter(shared_server, RECORDS["go-workers2"], key="dead", beat=int(time.time()) - 600)  # keeps its record for ever
    enter(shared_server, "no json", key="broken")
    enter(shared_server, '{"queues":7,"weights":{"q":1},"capsules":[[]]}', key="odd")
    shared_server.command("SADD", "processes", "gone", "a string")
    shared_server.command("SET", "a string", "x")
    assert await neighbours(connection).check() == {}
    enter(shared_server, RECORDS["Ruby Sidekiq"], key="old clock", beat=1)
    shared_server.command("EXPIRE", "old clock", 30)  # Redis's clock says that it lives
    assert set(await neighbours(connection).check()) == {"old clock"}


async def test_our_own_workers_are_no_neighbours(connection: Connection, shared_server: Server):
    identity = Identity("h", 1, "n")
    ours = RedisBroker(connection, Keys(), Holder("w1", "lease", 30_000))
    await Presence(ours, str(identity), ["q"]).beat(Record(identity, "w1", 1.5, {"q": 10}, 0, False, 2.5, 1, 1), [])
    shared_server.command("LPUSH", "queue:q:w1:inprogress", "x")
    neighbour_check = neighbours(connection)
    assert await neighbour_check.check() == {}
    shared_server.command("DEL", "queue:q:w1:inprogress")
    assert await neighbour_check.check() == {}


async def test_records_are_pruned_when_they_are_old_and_never_deleted(connection: Connection, shared_server: Server):
    """go-workers2 reads who is there and then each one's record, and beats no more if one is missing. Its clock may be another than ours."""
    ours, now = {**INFO, "labels": ["trioworkers"]}, int(time.time())
    for key, info, ago_s, lists in [
        ("ours:young", ours, 0, "[]"),
        ("ours:old", ours, 90, "[]"),
        ("go:old", RECORDS["go-workers2"], 4000, "[]"),
        ("go:slow clock", RECORDS["go-workers2"], 90, "[]"),
        ("go:holds", RECORDS["go-workers2"], 4000, "[{}]"),
    ]:
        text = json.dumps(info, separators=(",", ":"))
        enter(shared_server, text, key=key, beat=now - ago_s, worker_heartbeats=lists)
    enter(shared_server, RECORDS["Ruby Sidekiq"], key="ruby", beat=1)
    shared_server.command("SADD", "processes", "gone")
    broker = GoWorkersBroker(connection, Keys(), Holder("w1", "lease", 30_000))
    broker.record_lasts = True
    await broker.neighbours(["q"]).check()
    pruned = {"ours:old", "go:old"}
    left = {"ours:young", "go:slow clock", "go:holds", "ruby"}
    assert set(shared_server.command("SMEMBERS", "processes")) == left  # type: ignore[call-overload]
    for key in pruned | left:
        assert (int(str(shared_server.command("TTL", key))) > 0) is (key in pruned)


async def test_who_was_pruned_and_lives_comes_back_and_stays(connection: Connection, shared_server: Server):
    identity = Identity("h", 1, "n")
    broker = GoWorkersBroker(connection, Keys(), Holder("w1", "lease", 30_000))
    broker.record_lasts = True
    presence, record = Presence(broker, str(identity), ["q"]), Record(identity, "w1", 1, {"q": 1}, 0, False, 2.5, 1, 1)
    await presence.beat(record, [])  # its beat is of long ago
    assert shared_server.command("TTL", str(identity)) == -1
    await broker.neighbours(["q"]).check()
    assert shared_server.command("SMEMBERS", "processes") == []
    await presence.beat(record, [])
    assert shared_server.command("SMEMBERS", "processes") == [str(identity)]
    assert shared_server.command("TTL", str(identity)) == -1


async def test_queues_are_compared_within_the_namespace(connection: Connection, shared_server: Server):
    enter(shared_server, {**INFO, "Pid": 7, "queues": ["prod:q"]}, key="prod:h:7:n")
    shared_server.command("DEL", "processes")
    shared_server.command("SADD", "prod:processes", "h:7:n")
    assert await neighbours(connection).check() == {}
    assert set(await neighbours(connection, namespace="prod").check()) == {"h:7:n"}


async def test_a_list_that_moves_and_is_not_ours_betrays_go_workers(connection: Connection, shared_server: Server):
    shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a")
    shared_server.command("LPUSH", "queue:q:dead:inprogress", "b")
    shared_server.command("LPUSH", "queue:elsewhere:shop-1:inprogress", "c")
    neighbour_check = neighbours(connection)
    assert await neighbour_check.check() == {}
    assert neighbour_check.undecided
    shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a2")
    (found,) = (await neighbour_check.check()).values()
    assert (found.kind, found.name, found.queues) == ("go-workers", "shop-1", ("q",))
    shared_server.command("DEL", "queue:q:shop-1:inprogress")  # between two jobs
    assert len(await neighbour_check.check()) == 1


async def test_a_list_that_has_not_moved_for_long_is_nobodys(connection: Connection, shared_server: Server):
    shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a")
    neighbour_check = neighbours(connection)
    await neighbour_check.check()
    shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a2")
    assert len(await neighbour_check.check()) == 1
    (watched,) = neighbour_check._lists.values()
    watched.movement.moved_at = -1e9
    assert await neighbour_check.check() == {}


async def test_a_list_of_a_queue_whose_name_begins_like_ours_is_not_on_ours(
    connection: Connection, shared_server: Server
):
    shared_server.command("SADD", "queues", "q", "q:high")
    shared_server.command("LPUSH", "queue:q:high:shop-1:inprogress", "a")
    neighbour_check = neighbours(connection, "q")
    await neighbour_check.check()
    shared_server.command("LPUSH", "queue:q:high:shop-1:inprogress", "b")
    assert await neighbour_check.check() == {}
    both = neighbours(connection, "q", "q:high")
    await both.check()
    shared_server.command("LPUSH", "queue:q:high:shop-1:inprogress", "c")
    assert [each.queues for each in (await both.check()).values()] == [("q:high",)]


async def test_a_large_key_space_is_walked_in_steps_and_few_lists_are_watched(
    connection: Connection, shared_server: Server
):
    fill = "for i = 1, tonumber(ARGV[2]) do redis.call('LPUSH', ARGV[1] .. i .. ':inprogress', 'x') end"
    shared_server.command("EVAL", fill, 0, "queue:q:p", 3 * STEP)
    neighbour_check = neighbours(connection)
    await neighbour_check.check(1)
    assert neighbour_check._cursor
    assert 0 < len(neighbour_check._lists) <= MAX_WATCHED
    await neighbour_check.check(20)
    assert neighbour_check._cursor == 0
    assert len(neighbour_check._lists) == MAX_WATCHED


# ── Resque's ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def on_resque(connection: Connection, *queues: str, namespace: str = "resque") -> ResqueNeighbours:
    return ResqueNeighbours(connection, ResqueKeys(namespace, ""), queues or ("q",))


def beat(server: Server, worker: str, ago_s: float = 1.0, zone_h: int = 0) -> None:
    at = datetime.fromtimestamp(time.time() - ago_s, timezone(timedelta(hours=zone_h)))
    server.command("HSET", "resque:workers:heartbeat", worker, at.isoformat(timespec="seconds"))


async def test_rubys_resque_is_known_by_its_heartbeat_in_whatever_zone(connection: Connection, shared_server: Server):
    for worker in ("web-1:4711:mail,q", "web-2:7:*", "web-3:8:mail", "web-4:9:q", "web-5:10:pre*,x"):
        shared_server.command("SADD", "resque:workers", worker)
        beat(shared_server, worker, zone_h=2)
    beat(shared_server, "web-4:9:q", ago_s=290)  # Ruby would strike it a moment later
    found = await on_resque(connection, "q", "prefixed").check()
    assert sorted(map(str, found.values())) == [
        "Resque web-1:4711 on q",
        "Resque web-2:7 on prefixed, q",
        "Resque web-5:10 on prefixed",
    ]
    assert await on_resque(connection, namespace="other").check() == {}


async def test_node_resque_is_known_by_its_ping(connection: Connection, shared_server: Server):
    shared_server.command("SADD", "resque:workers", "vm:30450:q", "vm:dead:q", "vm:odd:q")
    for name, at in (("vm:30450", int(time.time())), ("vm:dead", int(time.time()) - 600), ("vm:odd", "[]")):
        shared_server.command("SET", f"resque:worker:ping:{name}", f'{{"time":{at},"name":"{name}","queues":"q"}}')
    assert [str(each) for each in (await on_resque(connection).check()).values()] == ["node-resque vm:30450 on q"]


async def test_a_worker_without_signs_of_life_is_known_by_what_it_does(connection: Connection, shared_server: Server):
    for worker in ("web1:4242-0:q", "web1:4242-poller:q", "dead:1-0:q"):
        shared_server.command("SADD", "resque:workers", worker)
        shared_server.command("SET", f"resque:stat:processed:{worker}", 7)
    neighbour_check = on_resque(connection)
    assert await neighbour_check.check() == {}
    assert neighbour_check.undecided
    shared_server.command("SET", "resque:worker:web1:4242-0:q", '{"queue":"q","run_at":"2026-11-23T16:32:09.3Z"}')
    assert [str(each) for each in (await neighbour_check.check()).values()] == ["Resque web1:4242 on q"]
    shared_server.command("DEL", "resque:worker:web1:4242-0:q")
    shared_server.command("INCR", "resque:stat:processed:web1:4242-0:q")
    assert len(await neighbour_check.check()) == 1
    shared_server.command("DEL", "resque:workers")
    assert await neighbour_check.check() == {}
    assert not neighbour_check.undecided


async def test_our_own_workers_and_what_is_no_worker_are_not_resques(connection: Connection, shared_server: Server):
    ours = worker_id("h", 1, ["q"])
    for worker in (ours, slot_id(ours, 1), "nonsense", "h:1:", b"\xff:1:q"):
        shared_server.command("SADD", "resque:workers", worker)
        shared_server.command("HSET", "resque:workers:heartbeat", worker, "yesterday")
    shared_server.command("SADD", "resque:workers", "h:2:q", "h:3:q")
    shared_server.command("LPUSH", "resque:worker:h:2:q", "no string")
    shared_server.command("HSET", "resque:workers:heartbeat", "h:3:q", b"\xff")
    neighbour_check = on_resque(connection)
    assert await neighbour_check.check() == await neighbour_check.check() == {}


def test_records_that_are_none_are_not_read():
    assert decode_info(b"[]") is None
    assert decode_info(b"\xff") is None
    info = decode_info(
        b'{"queues":["a",1],"weights":[{"b":1},7],"capsules":{"x":{"weights":{"c":0}},"y":{}},"version":1}'
    )
    assert info is not None
    assert (info.kind, info.queues) == ("Ruby Sidekiq", {"a", "b", "c"})
