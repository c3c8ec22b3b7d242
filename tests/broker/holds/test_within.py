"""Permits within slots, on a real server and on the fake: the same; and what only Redis can show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from trioworkers.broker.contract import Holder
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.holds.within import GOES_ON, UNLEASED, Granted, Part, Wants
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.departures import Permit
from trioworkers.errors import Superseded
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import unpack

KEYS = Keys()


def part(number: int, name: str = "crm", process: str = "w", spec: LimitSpec = LimitSpec(2)) -> Part:
    return Part(KEYS.holds("q", process), f"{process} q within-{number}", f"j{number}", "q", name, spec)


@attrs.define
class Desk:
    broker: Any

    async def enter(self, *parts: Part) -> Granted:
        granted = await self.broker.within(Wants(parts))
        for each, moment in zip(parts, granted.moments, strict=True):
            each.moment = moment
        return granted

    async def leave(self, *parts: Part, asking: tuple[Part, ...] = ()) -> frozenset[str]:
        return (await self.broker.within(Wants(leaving=parts, asking=asking))).members


@pytest.fixture(params=["real", "fake"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    if request.param == "fake":
        yield Desk(FakeBroker(["q"], process_id="w"))
        return
    url = request.getfixturevalue("redis_url")
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, KEYS, Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        yield Desk(broker)


async def test_some_go_on_and_the_others_in_their_order(desk: Desk):
    parts = [part(number) for number in range(5)]
    await desk.enter(*parts)
    assert [each.moment == GOES_ON for each in parts] == [True, True, False, False, False]
    waiting = tuple(parts[2:])
    assert await desk.leave(asking=waiting) == frozenset()
    assert await desk.leave(parts[0], asking=waiting) == {parts[2].member}
    assert await desk.leave(parts[1], parts[2], asking=waiting[1:]) == {parts[3].member, parts[4].member}


async def test_who_gives_up_holds_nobody_up(desk: Desk):
    parts = [part(number) for number in range(4)]
    await desk.enter(*parts)
    await desk.leave(parts[2])
    assert await desk.leave(parts[0], asking=(parts[3],)) == {parts[3].member}


async def test_repeated_round_gives_nothing_twice(desk: Desk):
    parts = [part(number) for number in range(3)]
    first, again = await desk.enter(*parts), await desk.enter(*parts)
    assert again.moments == first.moments
    for _ in range(2):
        assert await desk.leave(parts[0], asking=(parts[2],)) == {parts[2].member}
    late = part(9)
    await desk.enter(late)
    assert late.moment != GOES_ON


# ── on a real server ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def real(redis_url: str) -> AsyncIterator[Desk]:
    async with connect(redis_url, Link(redis_url)) as connection:
        broker = RedisBroker(connection, KEYS, Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        yield Desk(broker)


async def do(desk: Desk, command: Any) -> Any:
    connection: Connection = desk.broker.connection
    return await connection.call("test", command)


async def test_without_our_lease_nobody_gets_anything(real: Desk):
    await do(real, lambda c: c.delete([KEYS.lease("w")]))
    assert (await real.enter(part(1))).moments == [UNLEASED]
    await do(real, lambda c: c.set(KEYS.lease("w"), "another"))
    with pytest.raises(Superseded):
        await real.enter(part(1))


async def test_what_a_dead_worker_held_and_waited_for_goes_with_its_list(real: Desk):
    held, waits = [part(1), part(2)], part(3)
    await real.enter(*held, waits)
    other = RedisBroker(real.broker.connection, KEYS, Holder("w2", "lease 2", 30_000))
    await Presence(other, "w2", ["q"]).claim()
    theirs = part(7, process="w2")
    await Desk(other).enter(theirs)
    await do(real, lambda c: c.delete([KEYS.lease("w")]))
    await other.forget("w", "q", strike=True)
    assert await Desk(other).leave(asking=(theirs,)) == {theirs.member}
    permits = await do(real, lambda c: c.smembers(f"{KEYS.own}permits:crm"))
    assert permits == {theirs.member.encode()}


async def test_what_redis_forgot_of_who_waits_is_told_again(real: Desk):
    parts = [part(number) for number in range(3)]
    await real.enter(*parts)
    await do(real, lambda c: c.delete([f"{KEYS.own}waiting:crm", f"{KEYS.own}parked_jobs", f"{KEYS.own}waits"]))
    await real.leave(asking=(parts[2],))
    assert await real.leave(parts[0], asking=(parts[2],)) == {parts[2].member}


async def test_who_stands_there_again_is_given_what_is_free_in_the_same_round(real: Desk):
    parts = [part(number) for number in range(3)]
    await real.enter(*parts)
    await do(real, lambda c: c.delete([f"{KEYS.own}waiting:crm", f"{KEYS.own}parked_jobs", f"{KEYS.own}waits"]))
    assert await real.leave(parts[0]) == frozenset()
    assert await real.leave(asking=(parts[2],)) == {parts[2].member}


async def test_who_comes_behind_what_somebody_forged_goes_on_in_the_same_round(real: Desk):
    await do(real, lambda c: c.zadd(f"{KEYS.own}waiting:crm", {"forged": 1.0}))
    entering = part(0)
    assert (await real.enter(entering)).members == {entering.member}


async def test_who_was_given_a_permit_does_not_wait_for_it_when_somebody_deletes_the_record_of_it(real: Desk):
    holder, other = part(0, "one", spec=LimitSpec(1)), part(1, "one", spec=LimitSpec(1))
    await real.enter(holder, other)
    await real.broker.within(Wants(leaving=[holder]))  # the other one has it, and hasn't heard of it
    await do(real, lambda c: c.delete([other.record]))
    assert await real.leave(asking=(other,)) == {other.member}
    record = await do(real, lambda c: c.hgetall(other.record))
    assert unpack(record[other.member.encode()])[:2] == ["j1", ["one"]]


async def test_audit_lets_go_what_was_given_to_nobody_and_keeps_what_runs(real: Desk):
    parts = [part(number) for number in range(2)]
    await real.enter(*parts)
    running = Permit(parts[0].member, (), "j0", parts[0].record, within=True)
    await real.broker.put_back("q", [], [running])
    assert await do(real, lambda c: c.smembers(f"{KEYS.own}permits:crm")) == {parts[0].member.encode()}


async def test_parked_jobs_and_parts_stand_in_one_line(real: Desk):
    """Who waits within its slot is in nobody's way, and isn't passed by."""
    parts = [part(number) for number in range(3)]
    await real.enter(*parts)
    assert (await real.broker.tend(Round({"crm": LimitSpec(2)}))).woken == 0
    await do(real, lambda c: c.zadd(f"{KEYS.own}waiting:crm", {"forged": 1.0}))
    assert await real.leave(parts[0], asking=(parts[2],)) == {parts[2].member}


async def test_broken_key_is_one_limits_trouble(real: Desk):
    await do(real, lambda c: c.set(f"{KEYS.own}permits:crm", "garbage"))
    good, bad = part(1, "other"), part(2)
    await real.enter(bad, good)
    assert good.moment == GOES_ON
    assert bad.moment.startswith("error ")


async def test_part_of_a_job_that_is_taken_over_is_kept_for_nobody(real: Desk):
    """While other jobs of that worker are still to be taken over."""
    payloads = [b'{"class":"A","args":[],"jid":"j%d"}' % number for number in (1, 2)]
    await do(real, lambda c: c.lpush(KEYS.in_progress("q", "w"), payloads))
    await real.enter(part(1), part(2))
    await do(real, lambda c: c.delete([KEYS.lease("w")]))
    other = RedisBroker(real.broker.connection, KEYS, Holder("w2", "lease 2", 30_000))
    await Presence(other, "w2", ["q"]).claim()
    assert await other.reclaim("w", "q", [(payloads[0], "j1", 1, None)]) == (1, "")
    assert await do(real, lambda c: c.smembers(f"{KEYS.own}permits:crm")) == {part(2).member.encode()}
    assert await do(real, lambda c: c.exists([f"{KEYS.own}reserved:crm"])) == 0
