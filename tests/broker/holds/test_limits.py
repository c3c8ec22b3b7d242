"""Limits on a real server: who may start, who is parked, who is woken, and what is left when workers end in whatever way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest
import redis
import trio

from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.limits import GONE, PARKED, START, AdmissionKeys, Candidate, Round, Tended, admit, tend
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.limits import FleetLimits
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.departures import Permit, on_departure
from trioworkers.errors import BrokerError, Superseded
from trioworkers.outcome import Acknowledge, Outcome, Requeue
from trioworkers.wire.by_operator import decode_entry, encode_entry
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack, unpack

KEYS = Keys()


@attrs.define
class Fleet:
    """Some workers on one queue, as their admissions see them."""

    connection: Connection
    numbers: dict[str, int] = attrs.Factory(dict)
    groups: dict[str, int] = attrs.Factory(dict)
    declared: dict[str, LimitSpec] = attrs.Factory(lambda: {"crm": LimitSpec(2), "other": LimitSpec(9)})

    async def do(self, *words: Any) -> Any:
        return await self.connection.execute("test", *words)

    def broker(self, process: str = "w1") -> RedisBroker:
        return RedisBroker(self.connection, KEYS, Holder(process, f"lease of {process}", 30_000))

    async def fetched(self, process: str, *payloads: bytes) -> None:
        await self.connection.call("t", lambda c: c.set(KEYS.lease(process), f"lease of {process}"))
        for payload in payloads:
            await self.connection.call("t", lambda c, p=payload: c.lpush(KEYS.in_progress("q", process), [p]))

    async def admit(
        self, process: str, *payloads: bytes, limits: Sequence[str] = ("crm",), number: int = 0, **options: Any
    ) -> list[int | str]:
        self.numbers[process] = number or self.numbers.get(process, 0) + 1
        number = self.numbers[process]
        batch = [
            Candidate(payload, f"{process} q {number}-{index}", payload.decode(), tuple(limits), **options)
            for index, payload in enumerate(payloads)
        ]
        return await admit(self.connection, self.at(process), number, self.declared, batch)

    def at(self, process: str) -> AdmissionKeys:
        return AdmissionKeys(
            KEYS.lease(process),
            f"lease of {process}",
            KEYS.in_progress("q", process),
            KEYS.holds("q", process),
            KEYS.last_admission("q", process),
            KEYS.own,
            "q",
            KEYS.queue("q"),
            "RPUSH",
        )

    async def tend(self, **options: Any) -> Tended:
        return await tend(self.connection, KEYS, Round(**options))

    async def declare(self, concurrency: int, since: str = "") -> str:
        return (await self.tend(declared={"crm": LimitSpec(concurrency)}, since=since)).since

    async def settle(self, process: str, payload: bytes, member: str, outcome: Outcome | None = None) -> dict[int, str]:
        outcome = Acknowledge() if outcome is None else outcome
        self.groups[process] = self.groups.get(process, 0) + 1
        effects = on_departure(outcome, Permit(member, ("crm",), payload.decode(), KEYS.holds("q", process)))
        settlement = Settlement("q", payload, outcome, effects)
        return await self.broker(process).settle(self.groups[process], [settlement])

    async def queue(self) -> list[bytes]:
        return list(await self.connection.call("t", lambda c: c.lrange(KEYS.queue("q"), 0, -1)))[::-1]

    async def permits(self) -> set[str]:
        return {m.decode() for m in await self.connection.call("t", lambda c: c.smembers(f"{KEYS.own}permits:crm"))}

    async def parked(self) -> list[bytes]:
        return list(await self.connection.call("t", lambda c: c.zrange(KEYS.parked, 0, -1)))

    async def waiting(self) -> int:
        return int(await self.connection.call("t", lambda c: c.zcard(f"{KEYS.own}waiting:crm")))

    async def reserved(self) -> set[bytes]:
        return set(await self.connection.call("t", lambda c: c.zrange(f"{KEYS.own}reserved:crm", 0, -1)))

    async def let_pass(self, seconds: float) -> None:
        """What the limit has written down happened so much earlier. By the real clock, a slow machine would pass the next moment too."""
        gate = [each and each - seconds for each in unpack(await self.do("GET", f"{KEYS.own}gate:crm"))]
        await self.do("SET", f"{KEYS.own}gate:crm", pack(gate))
        await self.do("ZADD", f"{KEYS.own}waits", "XX", "INCR", -seconds, "crm")


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield Fleet(connection)


async def test_as_many_start_as_have_a_permit_and_the_others_are_parked_in_order(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    assert await fleet.admit("w1", b"a", b"b", b"c", b"d") == [START, START, PARKED, PARKED]
    assert await fleet.parked() == [b"c", b"d"]
    assert await fleet.permits() == {"w1 q 1-0", "w1 q 1-1"}


async def test_who_settles_hands_the_permit_to_the_one_parked_longest(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    assert await fleet.settle("w1", b"a", "w1 q 1-0") == {}
    assert await fleet.queue() == [b"c"]
    assert await fleet.parked() == [b"d"]
    assert await fleet.reserved() == {b"c"}
    assert await fleet.permits() == {"w1 q 1-1"}


async def test_who_was_woken_starts_though_others_wait_and_newcomers_park(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    await fleet.settle("w1", b"a", "w1 q 1-0")
    await fleet.fetched("w2", b"new", b"c")
    assert await fleet.admit("w2", b"new", b"c") == [PARKED, START]
    assert await fleet.parked() == [b"d", b"new"]
    assert await fleet.reserved() == set()


async def test_repeated_admission_has_the_same_answer_and_a_late_copy_none(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    first = await fleet.admit("w1", b"a", b"b", b"c")
    assert await fleet.admit("w1", b"a", b"b", b"c", number=1) == first
    await fleet.fetched("w1", b"e")
    assert await fleet.admit("w1", b"e", number=2) == [PARKED]
    with pytest.raises(BrokerError, match="LATE"):
        await fleet.admit("w1", b"a", b"b", b"c", number=1)
    assert await fleet.permits() == {"w1 q 1-0", "w1 q 1-1"}


async def test_without_our_lease_nobody_is_admitted(fleet: Fleet):
    await fleet.fetched("w1", b"a")
    await fleet.connection.call("t", lambda c: c.delete([KEYS.lease("w1")]))
    with pytest.raises(BrokerError, match="UNLEASED"):
        await fleet.admit("w1", b"a")
    await fleet.connection.call("t", lambda c: c.set(KEYS.lease("w1"), "somebody else"))
    with pytest.raises(Superseded):
        await fleet.admit("w1", b"a")


async def test_what_was_taken_over_meanwhile_is_not_parked(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b")
    assert await fleet.admit("w1", b"a", b"b", b"c", b"d") == [START, START, GONE, GONE]
    assert await fleet.parked() == []
    assert await fleet.waiting() == 0


async def test_job_that_was_put_back_keeps_its_permit_for_itself(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.settle("w1", b"a", "w1 q 1-0", Requeue())
    assert await fleet.queue() == [b"a"]
    assert await fleet.reserved() == {b"a"}
    assert await fleet.parked() == [b"c"]


async def test_permit_of_a_job_that_is_ours_no_more_is_let_go_all_the_same(fleet: Fleet):
    await fleet.fetched("w1", b"a")
    await fleet.admit("w1", b"a")
    await fleet.connection.call("t", lambda c: c.delete([KEYS.in_progress("q", "w1")]))
    assert await fleet.settle("w1", b"a", "w1 q 1-0") == {0: "gone"}
    assert await fleet.permits() == set()


async def test_identical_jobs_are_parked_apart(fleet: Fleet):
    await fleet.fetched("w1", *[b"same"] * 5)
    assert (await fleet.admit("w1", *[b"same"] * 5)).count(PARKED) == 3
    assert len(await fleet.parked()) == 3
    assert await fleet.waiting() == 3


async def test_expired_jobs_are_dropped_instead_of_woken_and_say_so(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    result = ("result", "c", b'{"how":"expired"}', 60)
    await fleet.admit("w1", b"a", b"b")
    await fleet.admit("w1", b"c", expires_s=1.0, on_expiry=(result,))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == []
    assert await fleet.parked() == []
    assert await fleet.connection.call("t", lambda c: c.get(KEYS.result("c"))) == b'{"how":"expired"}'


async def test_jobs_of_a_paused_queue_are_passed_over(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.sadd(KEYS.paused, ["q"]))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.parked() == [b"c"]


async def test_job_deleted_where_it_was_parked_holds_nobody_up(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    await fleet.connection.call("t", lambda c: c.zrem(KEYS.parked, [b"c"]))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"d"]


async def test_key_of_the_wrong_type_is_told_and_stops_nobody_else(fleet: Fleet):
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}permits:crm", "garbage"))
    await fleet.fetched("w1", b"a", b"b")
    problem, *_ = await fleet.admit("w1", b"a")
    assert "WRONGTYPE" in str(problem)
    assert await fleet.admit("w1", b"b", limits=("other",)) == [START]


@pytest.mark.parametrize("is_there", [True, False])
async def test_where_somebody_waits_is_known_again_when_that_key_was_lost(fleet: Fleet, is_there: bool):
    """Of the wrong type it would stop all upkeep."""
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.declare(2)
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}waits"]))
    if is_there:
        await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}waits", "garbage"))
    await fleet.declare(3)
    assert (await fleet.tend()).next_in_s is None or await fleet.parked() == []
    assert (await fleet.parked(), await fleet.queue()) == ([], [b"c"])


async def test_limit_whose_keys_are_broken_is_looked_at_again_later(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.declare(2)
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}reserved:crm", "garbage"))
    await fleet.connection.call("t", lambda c: c.zadd(f"{KEYS.own}waits", {"crm": 1.0}))
    assert (await fleet.tend(only_due=True)).next_in_s > 5
    assert await fleet.parked() == [b"c"]


@pytest.mark.parametrize("garbage", [b"", b"\xff\xff", b"\x93\x01", b"null"])
async def test_garbage_among_those_who_wait_is_thrown_away(fleet: Fleet, garbage: bytes):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.zadd(f"{KEYS.own}waiting:crm", {garbage: 1.0}))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"c"]


async def test_effect_that_can_not_be_written_is_repaired_later(fleet: Fleet):
    await fleet.fetched("w1", b"a")
    await fleet.admit("w1", b"a")
    await fleet.connection.call("t", lambda c: c.rename(f"{KEYS.own}permits:crm", "kept"))
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}permits:crm", "garbage"))
    assert await fleet.settle("w1", b"a", "w1 q 1-0") == {}
    tended = await fleet.tend()
    assert tended.repairs == 1
    await fleet.connection.call("t", lambda c: c.rename("kept", f"{KEYS.own}permits:crm"))
    tended = await fleet.tend()
    assert tended.repairs == 0
    assert await fleet.permits() == set()


async def test_newest_start_says_how_many_and_upkeep_hands_out_what_became_free(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    old = await fleet.declare(2)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    assert (await fleet.tend(declared={"crm": LimitSpec(3)})).woken == 1
    await fleet.declare(2, old)  # the old version is still heard of
    assert await fleet.queue() == [b"c"]


async def test_limit_that_nobody_declares_any_more_holds_nobody_back(fleet: Fleet):
    await fleet.fetched("w1", *(b"%d" % n for n in range(300)))
    await fleet.declare(1, "1.0")
    await fleet.admit("w1", *(b"%d" % n for n in range(300)))
    await fleet.connection.call("t", lambda c: c.hset(KEYS.limits, {"crm": pack([1, 1.0, 1.0])}))
    assert (await fleet.tend()).forgotten == []  # Redis may have been away for long: it is in doubt
    assert await fleet.queue() == []
    await fleet.connection.call("t", lambda c: c.hset(KEYS.limits, {"crm": pack([1, 1.0, 1.0, 0, 1, 1.0, 0])}))
    tended = [await fleet.tend() for _ in range(4)]
    assert [name for each in tended for name in each.forgotten] == ["crm"]
    assert not await fleet.connection.call("t", lambda c: c.hexists(KEYS.limits, "crm"))
    assert sorted(await fleet.queue()) == sorted(b"%d" % n for n in range(1, 300))


async def test_limit_of_which_redis_has_forgotten_everything_holds_nobody_back_for_ever(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.declare(2)
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.hdel(KEYS.limits, ["crm"]))
    assert (await fleet.tend()).woken == 0
    doubted = unpack(await fleet.connection.call("t", lambda c: c.hget(KEYS.limits, "crm")))
    assert (doubted[2], doubted[5] > 0, doubted[6]) == (0, True, 0)
    await fleet.connection.call("t", lambda c: c.hset(KEYS.limits, {"crm": pack([*doubted[:5], 1.0, 0])}))
    assert (await fleet.tend()).forgotten == ["crm"]
    assert await fleet.queue() == [b"c"]


async def test_parked_job_that_is_exported_comes_back_into_its_queue():
    payload = b'{"class":"A","args":[],"queue":"q","jid":"j"}'
    line = encode_entry(Entry("parked", payload, score=5.0))
    assert decode_entry(line) == Entry("queue", payload, "q", came_from="parked")


async def test_parked_job_whose_time_is_over_is_forgotten_though_no_permit_comes_to_it(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"over", b"waits")
    await fleet.declare(2)
    result = ("result", "over", b'{"how":"expired"}', 60)
    await fleet.admit("w1", b"a", b"b")
    await fleet.admit("w1", b"over", expires_s=1.0, on_expiry=(result,))
    await fleet.admit("w1", b"waits", expires_s=4e9)
    assert (await fleet.tend()).woken == 0
    assert await fleet.parked() == [b"waits"]
    assert await fleet.waiting() == 1
    assert await fleet.connection.call("t", lambda c: c.get(KEYS.result("over"))) == b'{"how":"expired"}'


async def test_all_whose_time_is_over_are_forgotten_however_many_are_parked_before_them(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", *(b"%d" % n for n in range(700)), b"over")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", *(b"%d" % n for n in range(700)))
    await fleet.admit("w1", b"over", expires_s=1.0)
    await fleet.tend(only_due=True)
    assert b"over" not in await fleet.parked()
    assert len(await fleet.parked()) == 700
    assert await fleet.connection.call("t", lambda c: c.exists([f"{KEYS.own}expiring"])) == 0


# ── keys that somebody deleted ─────────────────────────────────────────────────────────────────────────────────────────


async def test_parked_job_that_stands_at_no_limit_any_more_stands_there_again(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}waiting:crm", f"{KEYS.own}waits"]))
    assert (await fleet.tend()).lost == []
    assert await fleet.waiting() == 2
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"c"]


async def test_parked_job_of_which_nothing_is_known_goes_back_into_its_queue(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}parked_jobs"]))
    lost = (await fleet.tend()).lost
    assert lost == [b"c", b"d"]
    back = [(payload, KEYS.queue("q"), "RPUSH") for payload in lost]
    for _ in range(2):  # a lost reply
        await fleet.tend(lost=back)
    assert (await fleet.parked(), sorted(await fleet.queue())) == ([], [b"c", b"d"])
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.waiting() == 0


async def test_record_of_a_parked_job_that_is_none_of_ours_keeps_it_from_no_queue(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    [_, moment] = await fleet.connection.call("t", lambda c: c.zrange(f"{KEYS.own}waiting:crm", 0, -1))
    await fleet.connection.call("t", lambda c: c.hset(f"{KEYS.own}parked_jobs", {moment: b"garbage"}))
    back = [(payload, KEYS.queue("q"), "RPUSH") for payload in (await fleet.tend()).lost]
    assert [(await fleet.tend(lost=back)).put_back for _ in range(2)] == [1, 0]
    assert (await fleet.parked(), await fleet.queue()) == ([b"c"], [b"d"])
    assert await fleet.connection.call("t", lambda c: c.hlen(f"{KEYS.own}parked_jobs")) == 1


async def test_when_a_parked_job_expires_is_known_again_when_somebody_deleted_that(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"over")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b")
    await fleet.admit("w1", b"over", expires_s=1.0)
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}expiring"]))
    await fleet.tend()
    assert await fleet.parked() == []
    assert await fleet.waiting() == 0


async def test_parked_job_whose_deadline_has_come_stays_as_long_as_its_queue_is_none(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"late")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b")
    await fleet.connection.call("t", lambda c: c.set(KEYS.queue("q"), "no queue"))
    await fleet.admit("w1", b"late", expires_s=1.0, goes_back=True)
    await fleet.tend()
    assert await fleet.parked() == [b"late"]
    await fleet.connection.call("t", lambda c: c.delete([KEYS.queue("q")]))
    [moment] = await fleet.connection.call("t", lambda c: c.zrange(f"{KEYS.own}expiring", 0, -1))
    await fleet.connection.call("t", lambda c: c.zadd(f"{KEYS.own}expiring", {moment: 1.0}))
    await fleet.tend()
    assert (await fleet.parked(), await fleet.queue()) == ([], [b"late"])
    assert await fleet.waiting() == 0


async def test_without_the_numbers_of_a_limit_nobody_is_woken_until_they_are_declared_again(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    await fleet.connection.call("t", lambda c: c.delete([KEYS.limits]))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == []
    await fleet.tend()
    assert await fleet.queue() == []
    await fleet.tend(declared=fleet.declared)
    assert await fleet.queue() == [b"c"]


async def test_permits_that_somebody_deleted_are_there_again_with_the_next_audit(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.admit("w1", b"a", b"b", b"c")
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}permits:crm", KEYS.holds("q", "w1")]))
    running = [Permit(f"w1 q 1-{n}", ("crm",), "ab"[n], KEYS.holds("q", "w1")) for n in range(2)]
    await fleet.broker().put_back("q", [], running)
    assert await fleet.permits() == {"w1 q 1-0", "w1 q 1-1"}
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.permits() == {"w1 q 1-1"}


async def test_permits_of_which_no_record_knows_hold_nobody_back(fleet: Fleet):
    await fleet.fetched("w1", b"a")
    await fleet.tend(declared=fleet.declared)
    await fleet.connection.call("t", lambda c: c.sadd(f"{KEYS.own}permits:crm", ["gone q 7-1", "", "forged"]))
    assert await fleet.admit("w1", b"a") == [PARKED]
    assert (await fleet.tend()).woken == 1
    assert await fleet.permits() == set()


async def test_permit_that_its_record_does_not_name_holds_nobody_back(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", limits=("other",))
    await fleet.connection.call("t", lambda c: c.sadd(f"{KEYS.own}permits:crm", ["w1 q 1-0", "w1 q 9-9"]))
    assert await fleet.admit("w1", b"b") == [PARKED]
    assert (await fleet.tend()).woken == 1
    assert await fleet.permits() == set()


# ── rates ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def gate(fleet: Fleet) -> bytes | None:
    return await fleet.connection.call("t", lambda c: c.get(f"{KEYS.own}gate:crm"))


async def test_starts_are_spaced_and_the_rest_is_woken_one_by_one(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 1000.0, 2)}
    await fleet.fetched("w1", *(b"%d" % n for n in range(5)))
    await fleet.tend(declared=fleet.declared)
    assert await fleet.admit("w1", *(b"%d" % n for n in range(5))) == [START, START, PARKED, PARKED, PARKED]
    soon = (await fleet.tend(only_due=True)).next_in_s
    assert soon is not None
    assert 0 < soon <= 1000
    for passed_s, woken in ((500, []), (600, [b"2"]), (1000, [b"2", b"3"])):
        await fleet.let_pass(passed_s)
        await fleet.tend(only_due=True)
        assert sorted(await fleet.queue()) == woken
        assert (await fleet.tend(only_due=True)).woken == 0


async def test_who_is_woken_by_a_release_has_used_up_a_turn(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(1, 100.0, 2)}
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.tend(declared=fleet.declared)
    assert await fleet.admit("w1", b"a", b"b", b"c") == [START, PARKED, PARKED]
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"b"]
    await fleet.fetched("w1", b"b")
    assert await fleet.admit("w1", b"b") == [START]
    await fleet.settle("w1", b"b", "w1 q 2-0")
    assert await fleet.parked() == [b"c"]  # its permit is free, its turn is a hundred seconds later


async def test_look_that_comes_late_makes_up_for_a_second_and_no_more(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 0.1)}
    await fleet.fetched("w1", *(b"%d" % n for n in range(50)))
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", *(b"%d" % n for n in range(50)))
    long_ago = time.time() - 3
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}gate:crm", pack([long_ago, 0, long_ago])))
    assert (await fleet.tend()).woken in (11, 12)


async def test_what_a_rate_has_used_up_is_not_given_back(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 60.0)}
    await fleet.fetched("w1", b"a", b"b")
    assert await fleet.admit("w1", b"a") == [START]
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.admit("w1", b"b") == [PARKED]


async def test_who_was_put_back_starts_again_without_another_turn(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 60.0)}
    await fleet.fetched("w1", b"a")
    await fleet.admit("w1", b"a")
    before = await gate(fleet)
    await fleet.settle("w1", b"a", "w1 q 1-0", Requeue())
    await fleet.fetched("w1", b"a")
    assert await fleet.admit("w1", b"a") == [START]
    assert await gate(fleet) == before


async def test_of_several_limits_none_is_used_up_by_one_that_does_not_start(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 60.0), "other": LimitSpec(1)}
    await fleet.fetched("w1", b"a", b"b", b"c")
    assert await fleet.admit("w1", b"a", limits=("other",)) == [START]
    assert await fleet.admit("w1", b"b", limits=("crm", "other")) == [PARKED]
    assert await gate(fleet) is None
    assert await fleet.admit("w1", b"c", limits=("crm",)) == [START]


@pytest.mark.parametrize(
    "forged", [[9e17, 9e17, 9e17], [-5, -5, -5], ["x", {}, None], [float("nan")] * 3, [float("inf")] * 3, []]
)
async def test_gate_that_somebody_forged_does_not_close_the_limit_for_ever(fleet: Fleet, forged: list[Any]):
    fleet.declared = {"crm": LimitSpec(0, 0.05)}
    await fleet.tend(declared=fleet.declared)
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}gate:crm", pack(forged)))
    await fleet.fetched("w1", b"a")
    await fleet.admit("w1", b"a")
    await trio.sleep(0.11)
    await fleet.tend(only_due=True)
    assert await fleet.parked() == []


@pytest.mark.parametrize(
    "forged", [b"", b"\xc1", b"null", pack([0, 0, 0]), pack([-1, "x"]), pack([{}, {}, {}, {}, {}]), pack({"a": 1})]
)
async def test_numbers_that_somebody_forged_count_as_not_said(fleet: Fleet, forged: bytes):
    await fleet.connection.call("t", lambda c: c.hset(KEYS.limits, {"crm": forged}))
    await fleet.connection.call("t", lambda c: c.hset(f"{KEYS.own}overrides", {"crm": forged}))
    await fleet.fetched("w1", b"a", b"b", b"c")
    assert await fleet.admit("w1", b"a", b"b", b"c") == [START, START, PARKED]
    await fleet.tend(declared=fleet.declared)
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"c"]


# ── closed, and what people want ───────────────────────────────────────────────────────────────────────────────────────


async def test_closed_limit_lets_nobody_start_and_who_closed_it_is_first(fleet: Fleet):
    await fleet.fetched("w1", b"a", b"b", b"c")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c")
    effects = (
        ("close", ("crm",), 300.0),
        *on_departure(Requeue(), Permit("w1 q 1-0", ("crm",), "a", KEYS.holds("q", "w1"))),
    )
    await fleet.broker().settle(1, [Settlement("q", b"a", Requeue(), effects)])
    assert await fleet.queue() == [b"a"]
    await fleet.fetched("w1", b"a", b"new")
    assert await fleet.admit("w1", b"new", b"a") == [PARKED, PARKED]
    assert await fleet.parked() == [b"a", b"c", b"new"]
    assert (await fleet.tend(only_due=True)).woken == 0
    await fleet.let_pass(301)
    assert (await fleet.tend(only_due=True)).woken == 1
    assert await fleet.reserved() == {b"a"}


@pytest.mark.parametrize("name", ["crm", "crm:7"])
async def test_numbers_that_people_want_beat_those_of_the_code(fleet: Fleet, name: str):
    await fleet.tend(declared=fleet.declared)
    await fleet.connection.call("t", lambda c: c.hset(f"{KEYS.own}overrides", {name: pack([1, False, False, 0])}))
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    assert await fleet.admit("w1", b"a", b"b", limits=("crm:7",)) == [START, PARKED]
    assert await fleet.admit("w1", b"c", b"d", limits=("crm:8",)) == [START, PARKED if name == "crm" else START]


async def test_jobs_of_a_paused_queue_let_others_pass_however_many_they_are(fleet: Fleet):
    await fleet.tend(declared=fleet.declared)
    await fleet.connection.call("t", lambda c: c.sadd(KEYS.paused, ["q"]))
    await fleet.fetched("w1", b"a", b"b", *(b"%d" % n for n in range(600)))
    await fleet.admit("w1", b"a", b"b", *(b"%d" % n for n in range(600)))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    await fleet.tend()
    await fleet.tend()
    assert await fleet.waiting() == 0
    await fleet.fetched("w1", b"new")
    assert await fleet.admit("w1", b"new") == [START]
    await fleet.settle("w1", b"b", "w1 q 1-1")
    await fleet.connection.call("t", lambda c: c.srem(KEYS.paused, ["q"]))
    assert (await fleet.tend()).woken == 1
    assert await fleet.queue() == [b"0"]


# ── what strangers may write ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "forged",
    [
        pack(["b", "q", "queue:q", "FLUSHALL", ["crm"], False, []]),
        pack(["b", "q", "queue:q", "RPUSH", ["crm"], "soon", []]),
        pack(["b", "q", 7, "RPUSH", ["crm"], False, []]),
        pack(["b", "q", "queue:q", "RPUSH", [{}], False, []]),
        pack(["b", "q", "queue:q", "RPUSH", "crm", False, []]),
        pack([{}, [], None, 1, [], 2, 3]),
        b"\xc1garbage",
    ],
)
async def test_what_somebody_forged_of_a_parked_job_loses_nobody(fleet: Fleet, forged: bytes):
    await fleet.fetched("w1", b"a", b"b", b"c", b"d")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", b"c", b"d")
    [moment, _] = await fleet.connection.call("t", lambda c: c.zrange(f"{KEYS.own}waiting:crm", 0, -1))
    await fleet.connection.call("t", lambda c: c.hset(f"{KEYS.own}parked_jobs", {moment: forged}))
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"d"]
    assert await fleet.parked() == [b"c"]  # found by the walk, and put back
    assert (await fleet.tend()).lost == [b"c"]


@pytest.mark.parametrize(
    "effects", [["result"], [[]], [["result", {}, [], "x"]], [["permit", 1, 2, 3, 4]], [["nobody", 1]]]
)
async def test_forged_effects_of_an_expiry_stop_nobody(fleet: Fleet, effects: list[Any]):
    await fleet.fetched("w1", b"a", b"b", b"over", b"c")
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b")
    await fleet.admit("w1", b"over", expires_s=1.0, on_expiry=effects)
    await fleet.admit("w1", b"c")
    await fleet.tend()
    assert await fleet.parked() == [b"c"]
    await fleet.settle("w1", b"a", "w1 q 1-0")
    assert await fleet.queue() == [b"c"]


@pytest.mark.parametrize("until_s", [1e18, float("inf"), 4e9, 1.0])
async def test_reservation_that_lasts_too_long_or_is_over_counts_nothing(fleet: Fleet, until_s: float):
    """Forged, or Redis's clock was set back by an hour."""
    await fleet.connection.call(
        "t", lambda c: c.zadd(f"{KEYS.own}reserved:crm", {"x": until_s, "y": until_s, "a": until_s})
    )
    await fleet.fetched("w1", b"a", b"b", b"c")
    assert await fleet.admit("w1", b"a", b"b", b"c") == [START, START, PARKED]


async def test_clock_that_was_set_back_holds_up_no_rate(fleet: Fleet):
    fleet.declared = {"crm": LimitSpec(0, 0.05)}
    ahead = time.time() + 3600
    await fleet.tend(declared=fleet.declared)
    await fleet.connection.call("t", lambda c: c.hset(KEYS.limits, {"crm": pack([0, ahead, ahead, 0.05, 1])}))
    await fleet.connection.call("t", lambda c: c.set(f"{KEYS.own}gate:crm", pack([ahead, 0, ahead])))
    await fleet.connection.call("t", lambda c: c.zadd(f"{KEYS.own}waits", {"crm": ahead}))
    await fleet.tend(declared={"crm": LimitSpec(0, 0.02)})  # a start that is still to come counts for no newer one
    await fleet.fetched("w1", b"a", b"b")
    await fleet.admit("w1", b"a", b"b")
    for _ in range(3):
        await trio.sleep(0.06)
        await fleet.tend()
    assert await fleet.parked() == []


async def test_thousands_of_values_leave_nothing_behind(fleet: Fleet):
    """A limit by an argument that is another for each job, and doesn't wait."""
    fleet.declared = {"crm": LimitSpec(1)}
    await fleet.tend(declared=fleet.declared)
    for page in range(4):
        names = [b"%d-%d" % (page, number) for number in range(500)]
        await fleet.fetched("w1", *names)
        batch = [
            Candidate(each, f"w1 q {page}-{number}", each.decode(), (f"crm:{each.decode()}",))
            for number, each in enumerate(names)
        ]
        assert set(await admit(fleet.connection, fleet.at("w1"), page + 1, fleet.declared, batch)) == {START}
        settlements = [
            Settlement(
                "q",
                c.payload,
                Acknowledge(),
                on_departure(Acknowledge(), Permit(c.member, c.limits, c.jid, KEYS.holds("q", "w1"))),
            )
            for c in batch
        ]
        await fleet.broker().settle(page + 1, settlements)
    left = await fleet.connection.call("t", lambda c: c.keys("tw:*"))
    assert sorted(left) == [b"tw:admitted:w1 q", b"tw:lease:w1", b"tw:limits", b"tw:settled:w1"]


async def test_walk_over_heavy_jobs_reads_a_few_at_a_time_and_gets_round(fleet: Fleet):
    heavy = [b"%d" % number + b"x" * 400_000 for number in range(12)]
    await fleet.fetched("w1", b"a", b"b", *heavy)
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", *heavy)
    await fleet.connection.call("t", lambda c: c.delete([f"{KEYS.own}parked_jobs"]))
    found, cursor = set(), 0
    for _ in range(12):
        tended = await fleet.tend(cursor=cursor)
        assert sum(map(len, tended.lost)) < 1_500_000
        found |= set(tended.lost)
        cursor = tended.cursor
        if not cursor:
            break
    assert found == set(heavy)


async def test_heavy_jobs_are_woken_a_few_at_a_time_and_all_in_the_end(fleet: Fleet):
    heavy = [b"%d" % number + b"x" * 900_000 for number in range(8)]
    await fleet.fetched("w1", b"a", b"b", *heavy)
    await fleet.tend(declared=fleet.declared)
    await fleet.admit("w1", b"a", b"b", *heavy)
    raised = await fleet.tend(declared={"crm": LimitSpec(100)})
    assert (raised.woken, raised.next_in_s) == (3, 0)
    assert [(await fleet.tend(only_due=True)).woken for _ in range(3)] == [3, 2, 0]
    assert await fleet.queue() == [*heavy[6:], *heavy[3:6], *heavy[:3]]


# ── several limits that are free in turn ───────────────────────────────────────────────────────────────────────────────


@attrs.define
class InTurn:
    """Jobs under `a` alone and under `b` alone keep both busy; jobs under both wait among them."""

    fleet: Fleet
    url: str
    count: int = 0
    running: dict[str, tuple[bytes, str]] = attrs.Factory(dict)

    def cmd(self, *words: Any) -> Any:
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    async def come(self, *limits: str, jid: str = "") -> None:
        """One more is fetched, and starts or is parked."""
        self.count += 1
        await self.admit(jid.encode() or f"{'-'.join(limits)}{self.count}".encode(), *limits)

    async def admit(self, payload: bytes, *limits: str) -> None:
        await self.fleet.fetched("w1", payload)
        number = self.fleet.numbers.get("w1", 0) + 1
        if await self.fleet.admit("w1", payload, limits=limits) == [START]:
            self.running["-".join(limits)] = payload, f"w1 q {number}-0"

    async def end(self, limit: str) -> None:
        """What runs under it ends; who is woken starts."""
        payload, member = self.running.pop(limit)
        self.fleet.groups["w1"] = self.fleet.groups.get("w1", 0) + 1
        effects = on_departure(
            Acknowledge(), Permit(member, tuple(limit.split("-")), payload.decode(), KEYS.holds("q", "w1"))
        )
        settlement = Settlement("q", payload, Acknowledge(), effects)
        assert await self.fleet.broker("w1").settle(self.fleet.groups["w1"], [settlement]) == {}
        await self.start_woken()

    async def start_woken(self) -> None:
        for payload in await self.fleet.queue():
            self.cmd("LREM", KEYS.queue("q"), 1, payload)
            limits = ("a", "b") if payload.startswith(b"both") else (payload[:1].decode(),)
            await self.admit(payload, *limits)

    def has_waited(self, payload: bytes, seconds: float) -> None:
        score = float(self.cmd("ZSCORE", KEYS.parked, payload))
        old, new = f"{score:.17g}", f"{score - seconds:.17g}"
        packed = self.cmd("HGET", "tw:parked_jobs", old)
        self.cmd("HDEL", "tw:parked_jobs", old)
        self.cmd("HSET", "tw:parked_jobs", new, packed)
        self.cmd("ZADD", KEYS.parked, new, payload)
        for limit in ("a", "b"):
            if self.cmd("ZREM", f"tw:waiting:{limit}", old):
                self.cmd("ZADD", f"tw:waiting:{limit}", new, new)

    def kept(self, limit: str) -> list[bytes]:
        return list(self.cmd("ZRANGE", f"tw:reserved:{limit}", 0, -1))


@pytest.fixture
async def in_turn(fleet: Fleet, redis_url: str) -> InTurn:
    fleet.declared = {"a": LimitSpec(1), "b": LimitSpec(1)}
    await fleet.tend(declared=fleet.declared)
    bench = InTurn(fleet, redis_url)
    await bench.come("a")
    await bench.come("b")
    await bench.come("a", "b", jid="both1")
    for _ in range(20):
        await bench.come("a")
        await bench.come("b")
    return bench


async def test_job_whose_limits_are_free_in_turn_and_never_at_once_gets_them_when_it_has_waited_long(in_turn: InTurn):
    for _ in range(5):
        await in_turn.end("a")
        await in_turn.end("b")
    assert in_turn.running.keys() == {"a", "b"}
    assert b"both1" in await in_turn.fleet.parked()
    in_turn.has_waited(b"both1", 100)
    await in_turn.end("a")
    assert in_turn.kept("a") == [b"both1"]
    assert in_turn.running.keys() == {"b"}
    await in_turn.fleet.tend(declared=in_turn.fleet.declared)
    await in_turn.start_woken()
    assert in_turn.running.keys() == {"b"}  # nobody else gets it meanwhile
    await in_turn.end("b")
    assert in_turn.running.keys() == {"a-b"}
    assert in_turn.kept("a") == in_turn.kept("b") == []
    await in_turn.end("a-b")
    assert in_turn.running.keys() == {"a", "b"}
    assert in_turn.cmd("PTTL", "tw:patient:a") > 50_000  # for a while nobody does so again
    await in_turn.come("a", "b", jid="both2")
    in_turn.has_waited(b"both2", 100)
    await in_turn.end("a")
    assert in_turn.kept("a") == []
    await in_turn.end("b")
    assert in_turn.kept("b") == [b"both2"]
    await in_turn.end("a")
    assert in_turn.running.keys() == {"a-b"}


async def test_permit_that_is_kept_so_is_free_again_when_its_time_is_over_or_its_job_is_gone(in_turn: InTurn):
    in_turn.has_waited(b"both1", 100)
    began_at = time.time()
    await in_turn.end("a")
    assert in_turn.kept("a") == [b"both1"]
    assert began_at + 9 < float(in_turn.cmd("ZSCORE", "tw:reserved:a", "both1")) < time.time() + 11
    in_turn.cmd("ZREM", KEYS.parked, b"both1")  # somebody deletes it
    in_turn.cmd("HDEL", "tw:parked_jobs", *in_turn.cmd("ZRANGE", "tw:waiting:b", 0, 0))
    await in_turn.fleet.tend(declared=in_turn.fleet.declared)
    await in_turn.start_woken()
    assert in_turn.running.keys() == {"a", "b"}


async def test_nothing_is_kept_for_a_job_that_waits_for_a_limit_that_is_closed(in_turn: InTurn):
    await FleetLimits(in_turn.fleet.connection, KEYS).override("b", "close")
    in_turn.has_waited(b"both1", 1000)
    await in_turn.end("a")
    assert in_turn.kept("a") == []
    assert in_turn.running.keys() == {"a", "b"}
