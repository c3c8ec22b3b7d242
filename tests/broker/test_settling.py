"""`settle.lua` on a real server: whatever lies in the list and wherever, what was settled is out of it and the rest in order."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from typing import Any

import pytest
from coredis import PureToken
from servers import Server

from trioworkers import Job, Refused, Superseded
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.broker.settle import SETTLE_APART, SETTLE_NAME
from trioworkers.broker.too_slow import ENOUGH, CantPass
from trioworkers.outcome import (
    Acknowledge,
    Bury,
    Checkpoint,
    Discard,
    Outcome,
    Requeue,
    Retry,
    Snooze,
)
from trioworkers.send import Send
from trioworkers.wire.keys import Keys

NUMBERS = count(1)
LIST = "queue:q:owner:inprogress"


@pytest.fixture
async def owner(redis_url: str) -> AsyncIterator[RedisBroker]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))


async def run(owner: RedisBroker, payloads: Sequence[bytes], key: str = LIST) -> None:
    """Have payloads in progress, oldest first."""
    for first in range(0, len(payloads), 1000):
        page = list(payloads[first : first + 1000])
        await owner.connection.call("push", lambda client, page=page: client.lpush(key, page))


async def running(owner: RedisBroker, key: str = LIST) -> list[bytes]:
    """What is in progress, oldest first."""
    return list(await owner.connection.call("list", lambda client: client.lrange(key, 0, -1)))[::-1]


async def settle(owner: RedisBroker, payloads: Sequence[bytes], outcome: Outcome | None = None) -> dict[int, str]:
    outcome = Acknowledge() if outcome is None else outcome
    return await owner.settle(next(NUMBERS), [Settlement("q", payload, outcome) for payload in payloads])


async def executed(owner: RedisBroker) -> dict[str, int]:
    """How often Redis has executed each command since this was last asked."""
    stats = await owner.connection.call("info", lambda client: client.info("commandstats"))
    await owner.connection.call("config", lambda client: client.config_resetstat())
    calls = {name.removeprefix("cmdstat_"): int(figures["calls"]) for name, figures in stats.items()}  # type: ignore[index,call-overload]
    return {name: count for name, count in calls.items() if not name.startswith(("config", "info"))}


def payloads(count: int, size: int = 300) -> list[bytes]:
    return [b'{"jid":"%08d","args":"%s"}' % (number, b"x" * (size - 30)) for number in range(count)]


Choice = Callable[[list[bytes], random.Random], list[bytes]]
LAYOUTS: dict[str, tuple[int, Choice]] = {
    "the oldest": (1000, lambda p, _: p[:200]),
    "all": (300, lambda p, _: p),
    "all but one": (300, lambda p, _: p[:-1]),
    "most of the oldest": (1000, lambda p, chance: chance.sample(p[:220], 200)),
    "behind some that run long": (1000, lambda p, _: p[50:250]),
    "the newest": (1000, lambda p, _: p[-200:]),
    "anywhere": (1000, lambda p, chance: chance.sample(p, 200)),
    "anywhere in a long list": (6000, lambda p, chance: chance.sample(p, 150)),
    "few, anywhere": (1000, lambda p, chance: chance.sample(p, 12)),
    "fewer": (1000, lambda p, chance: chance.sample(p, 3)),
}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [60, 3000])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_group_is_taken_out_of_its_list_and_the_rest_keeps_its_order(
    owner: RedisBroker, shared_server: Server, layout: str, size: int, full: bool
):
    length, choose = LAYOUTS[layout]
    chance = random.Random(7)
    p = payloads(length, size)
    p[length // 3 : length // 3] = [b"twice", b"", b"twice", b"twice"]
    await run(owner, p)
    chosen = choose([payload for payload in p if payload not in (b"twice", b"")], chance)
    group = [*chosen, b"gone", b"twice", b"twice", b"gone"]
    chance.shuffle(group)
    if full:
        shared_server.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        problems = await settle(owner, group)
    finally:
        shared_server.command("CONFIG", "SET", "maxmemory", "0")
    assert problems == {place: "gone" for place, payload in enumerate(group) if payload == b"gone"}
    assert shared_server.command("GET", "stat:processed") == str(len(chosen) + 2)
    taken = set(chosen)
    twice = [place for place, payload in enumerate(p) if payload == b"twice"]
    left = [payload for payload in p if payload not in taken and payload != b"twice"]
    found = await running(owner)
    assert found.count(b"twice") == 1
    assert [payload for payload in found if payload != b"twice"] == left
    assert found.index(b"twice") <= twice[-1]
    assert await settle(owner, found) == {}
    assert await running(owner) == []


async def test_whole_groups_in_order_cost_a_few_commands(owner: RedisBroker):
    p = payloads(1000)
    await run(owner, p)
    await settle(owner, p[:5])  # Redis knows the script
    await executed(owner)
    assert await settle(owner, p[5:305]) == {}
    assert sum((await executed(owner)).values()) <= 15
    assert await settle(owner, [*p[335:345], *p[355:445]]) == {}  # behind some that go on
    calls = await executed(owner)
    assert sum(calls.values()) <= 20
    assert "lrem" not in calls
    assert await running(owner) == [*p[305:335], *p[345:355], *p[445:]]


async def test_outcomes_of_all_kinds_leave_their_list_together(owner: RedisBroker):
    p = payloads(400)
    await run(owner, p)
    await settle(owner, p[:1], Retry(p[0], 5))
    await executed(owner)
    sends = (Send(Job("other", "A", [])),)
    kinds: list[Callable[[bytes], Outcome]] = [
        lambda payload: Retry(payload, 5),
        lambda _: Requeue(),
        lambda _: Discard(),
        lambda _: Acknowledge(sends, 10),
    ]
    group = [Settlement("q", payload, kinds[place % 4](payload)) for place, payload in enumerate(p[1:201])]
    assert await owner.settle(next(NUMBERS), group) == {}
    calls = await executed(owner)
    assert "lrem" not in calls
    assert sum(calls.values()) <= 170  # one for each that goes elsewhere
    assert await running(owner) == p[201:]
    assert await running(owner, "queue:q") == p[198:1:-4]


async def test_list_of_the_wrong_type_costs_no_job_of_another_list(owner: RedisBroker):
    p = payloads(40)
    await run(owner, p)
    await owner.connection.call("set", lambda client: client.set("queue:bad:owner:inprogress", "no list"))
    group = [Settlement("q", payload, Retry(payload, 5)) for payload in p]
    group.insert(20, Settlement("bad", b"x", Acknowledge()))
    with pytest.raises(Refused):
        await owner.settle(next(NUMBERS), group)
    kept = await owner.connection.call("retry", lambda client: client.zcard("retry"))
    assert kept + len(await running(owner)) == 40


async def test_counters_of_the_wrong_type_keep_no_outcome_back(owner: RedisBroker, shared_server: Server):
    p = payloads(2)
    await run(owner, p)
    for key in ("stat:processed", "stat:failed", owner.keys.crashes, owner.keys.suspects("owner")):
        shared_server.command("SET", key, "no counter")
    group = [Settlement("q", p[0], Retry(p[0], 5)), Settlement("q", p[1], Acknowledge())]
    number = next(NUMBERS)
    for _ in range(2):  # the second time as after a lost reply
        assert await owner.settle(number, group, ["jid"]) == {}
    assert await running(owner) == []
    assert shared_server.command("ZCARD", "retry") == 1


@pytest.mark.parametrize("broken", ["tw:finished", "tw:finished:B"])
async def test_how_a_job_ended_is_kept_once_when_what_was_broken_is_mended(
    owner: RedisBroker, shared_server: Server, broken: str
):
    shared_server.command("SET", broken, "forged")
    ends = payloads(2)
    await run(owner, ends)
    effects = [(("finished", job_class, 10, b"{}"),) for job_class in "AB"]
    group = [Settlement("q", each, Acknowledge(), its) for each, its in zip(ends, effects, strict=True)]
    assert await owner.settle(next(NUMBERS), group) == {}
    for _ in range(3):
        await owner.tend(Round())
    shared_server.command("DEL", broken)
    await owner.tend(Round())
    assert [shared_server.command("LLEN", f"tw:finished:{job_class}") for job_class in "AB"] == [1, 1]
    assert shared_server.command("EXISTS", "tw:repairs") == 0


async def test_checkpoints_of_a_group_lie_where_they_are_put_back_first(owner: RedisBroker):
    p = payloads(100)
    await run(owner, p)
    group = [Settlement("q", payload, Checkpoint(payload + b" ")) for payload in p[:15]]
    assert await owner.settle(next(NUMBERS), group) == {}
    amended = [payload + b" " for payload in p[:15]]
    assert await running(owner) == [*amended[::-1], *p[15:]]
    assert await settle(owner, [*amended, *p[15:30]]) == {}
    assert await running(owner) == p[30:]


async def test_huge_payloads_among_small_ones_are_not_read(owner: RedisBroker):
    """A script that read them to find the small ones would hold a gigabyte."""
    huge = [b"%d" % number + b"x" * 1_000_000 for number in range(30)]
    small = payloads(300)
    await run(owner, [*huge, *small])
    await settle(owner, small[:1])
    before = await memory(owner)
    assert await settle(owner, small[1:]) == {}
    assert await memory(owner) < before + 10_000_000
    assert await running(owner) == huge


async def memory(owner: RedisBroker) -> int:
    """The most that Redis has used."""
    info = await owner.connection.call("info", lambda client: client.info("memory"))
    return int(info["used_memory_peak"])  # type: ignore[arg-type]


async def test_late_copy_of_an_old_group_finds_nothing_to_do(owner: RedisBroker):
    """What a broken connection still delivers: group 1 comes again after group 2, and meets the same bytes, which were put back and fetched again."""
    [p] = payloads(1)
    await run(owner, [p])
    old, newer = next(NUMBERS), next(NUMBERS)
    group = [Settlement("q", p, Requeue())]
    assert await owner.settle(old, group) == {}
    assert await owner.settle(newer, []) == {}
    await owner.connection.call("move", lambda client: client.lmove("queue:q", LIST, PureToken.RIGHT, PureToken.LEFT))
    with pytest.raises(Refused, match="LATE"):
        await owner.settle(old, group)
    assert await running(owner) == [p]


async def test_group_of_an_earlier_life_finds_nothing_to_do_even_while_nobody_has_the_lease(redis_url: str):
    async with connect(redis_url, Link(redis_url)) as connection:
        first, second = (RedisBroker(connection, Keys(), Holder("owner", f"life {n}", 30_000)) for n in (1, 2))
        await Presence(first, "first", ["q"]).claim()
        [p] = payloads(1)
        await run(first, [p])
        await connection.call("gone", lambda client: client.delete([Keys().lease("owner")]))
        await Presence(second, "second", ["q"]).claim()
        await connection.call("gone", lambda client: client.delete([Keys().lease("owner")]))
        with pytest.raises(Superseded):
            await first.settle(7, [Settlement("q", p, Discard())])
        assert await running(second) == [p]


def at_the_end(payload: bytes) -> bytes:
    return payload[:-1] + b',"retry_count":1}'


@pytest.mark.parametrize(
    "amend", [at_the_end, lambda payload: b'{"retry_count":1,' + payload[1:], lambda payload: payload]
)
@pytest.mark.parametrize("kind", ["retry", "dead", "requeue", "snooze", "checkpoint", "done", "discard"])
async def test_what_the_link_cannot_carry_is_settled_without_its_bytes(
    owner: RedisBroker, monkeypatch: pytest.MonkeyPatch, kind: str, amend: Callable[[bytes], bytes]
):
    """They lie in Redis already: what is sent is what tells the payload from the others, and what is other in its next form."""
    p = payloads(3, size=100_000)
    await run(owner, p)
    new = amend(p[1])
    outcome: Outcome | Checkpoint = {
        "retry": Retry(new, 5),
        "dead": Bury(new),
        "requeue": Requeue(new),
        "snooze": Snooze(new, 5),
        "checkpoint": Checkpoint(new),
        "done": Acknowledge([Send(Job("next", "B", []))]),
        "discard": Discard(),
    }[kind]
    sent: list[int] = []
    script = owner.connection.run

    async def weighed(asked: Any, keys: Any, args: Sequence[Any], *more: Any) -> Any:
        sent.append(sum(len(each) for each in args if isinstance(each, bytes)))
        return await script(asked, keys, args, *more)

    monkeypatch.setattr(owner.connection, "run", weighed)
    owner.too_slow._failed[SETTLE_NAME] = ENOUGH
    number = next(NUMBERS)
    for _ in range(2):  # the second time as after a lost reply
        owner.too_slow._failed[SETTLE_NAME] = ENOUGH
        assert await owner.settle(number, [Settlement("q", p[1], outcome)]) == {}
    assert max(sent) < 2000
    call = owner.connection.call
    left = {"checkpoint": [new, p[0], p[2]]}.get(kind, [p[0], p[2]])
    assert await running(owner) == left
    found = {
        "retry": await call("look", lambda client: client.zrange("retry", 0, -1)),
        "dead": await call("look", lambda client: client.zrange("dead", 0, -1)),
        "snooze": await call("look", lambda client: client.zrange("schedule", 0, -1)),
        "requeue": await call("look", lambda client: client.lrange("queue:q", 0, -1)),
    }
    assert {name: list(there) for name, there in found.items() if there} == ({kind: [new]} if kind in found else {})
    assert await call("look", lambda client: client.llen("queue:next")) == (kind == "done")
    assert SETTLE_NAME not in owner.too_slow


async def test_what_is_not_ours_any_more_is_gone_by_its_digest_too(owner: RedisBroker):
    p = payloads(2)
    await run(owner, p[:1])
    owner.too_slow._failed[SETTLE_NAME] = ENOUGH
    assert await owner.settle(next(NUMBERS), [Settlement("q", p[1], Acknowledge())]) == {0: "gone"}
    assert await running(owner) == p[:1]


async def test_several_that_cannot_pass_are_tried_one_by_one_and_one_is_given_up_in_the_end(owner: RedisBroker):
    p = payloads(2)
    await run(owner, p)
    group = [Settlement("q", payload, Acknowledge()) for payload in p]
    owner.too_slow._failed[SETTLE_NAME] = ENOUGH
    with pytest.raises(CantPass):
        await owner.settle(next(NUMBERS), group)
    owner.too_slow._failed[SETTLE_APART] = ENOUGH
    with pytest.raises(CantPass):
        await owner.settle(next(NUMBERS), group[:1])
    assert await owner.settle(next(NUMBERS), group) == {}  # and all begins anew
    assert await running(owner) == []
