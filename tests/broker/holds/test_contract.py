"""What admission and effects do, on a real server and on the fake: the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from trioworkers import Job
from trioworkers.broker.contract import Holder, Intake, Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.limits import PARKED, START, Candidate, Round
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.departures import Permit, on_departure
from trioworkers.errors import BrokerError
from trioworkers.outcome import Acknowledge, Outcome, Requeue, Retry
from trioworkers.send import Send
from trioworkers.wire.decode import jid_of
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec


@attrs.define
class Bench:
    broker: RedisBroker
    intake: Intake
    number: int = 0
    group: int = 0

    async def fetched(self, *jids: str) -> list[bytes]:
        await self.broker.send([Send(Job("q", "A", jid=jid)) for jid in jids])
        return (await self.intake.fetch(len(jids))).payloads

    async def admit(self, payloads: Sequence[bytes], *limits: str, number: int = 0, **options: Any) -> list[int | str]:
        self.number = number or self.number + 1
        batch = [
            Candidate(payload, member(self.number, index), jid_of(payload), limits or ("crm",), **options)
            for index, payload in enumerate(payloads)
        ]
        return await self.broker.admit("q", self.number, {"crm": LimitSpec(2), "other": LimitSpec(1)}, batch)

    async def settle(self, payload: bytes, member: str, outcome: Outcome | None = None) -> dict[int, str]:
        outcome, self.group = outcome or Acknowledge(), self.group + 1
        effects = on_departure(outcome, Permit(member, ("crm",), jid_of(payload), self.broker.holds("q")))
        return await self.broker.settle(self.group, [Settlement("q", payload, outcome, effects)])

    async def next_in_turn(self) -> list[str]:
        return [jid_of(payload) for payload in (await self.intake.fetch(10)).payloads]


def member(number: int, index: int) -> str:
    return f"w q {number}-{index}"


@pytest.fixture(params=["real", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        fake = FakeBroker(["q"], process_id="w")
        async with fake.open_intake("q") as intake:
            yield Bench(fake, intake)
        return
    url = request.getfixturevalue("redis_url")
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        async with open_intake(broker, url, 1.0, "q") as intake:
            yield Bench(broker, intake)


async def test_some_start_the_rest_is_parked_and_woken_in_order(bench: Bench):
    p = await bench.fetched("a", "b", "c", "d", "e")
    assert await bench.admit(p) == [START, START, PARKED, PARKED, PARKED]
    await bench.settle(p[0], member(1, 0))
    await bench.settle(p[1], member(1, 1), Retry(p[1], 60))
    assert await bench.next_in_turn() == ["d", "c"]  # each woken goes to the front


async def test_one_that_was_put_back_is_before_those_parked(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    await bench.admit(p)
    await bench.settle(p[0], member(1, 0), Requeue())
    [again] = (await bench.intake.fetch(10)).payloads
    assert jid_of(again) == "a"
    assert await bench.admit([again]) == [START]


async def test_release_keeps_the_permits_for_the_jobs_that_were_put_back(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    await bench.admit(p)
    assert await bench.broker.release("q") == 2
    again = (await bench.intake.fetch(10)).payloads
    assert sorted(jid_of(payload) for payload in again) == ["a", "b"]
    assert await bench.admit(again) == [START, START]


async def test_what_is_put_back_as_a_stray_lets_its_permit_go_and_what_runs_keeps_it(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    await bench.admit(p)
    permit = Permit(member(1, 1), ("crm",), "b", bench.broker.holds("q"))
    assert await bench.broker.put_back("q", [p[0]], [permit]) == 1
    assert await bench.next_in_turn() == ["a"]
    late = await bench.fetched("late")
    assert await bench.admit(late) == [PARKED]  # a's permit is a's, b still runs


async def test_repeated_admission_has_the_same_answer_and_a_late_one_none(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    first = await bench.admit(p)
    assert await bench.admit(p, number=1) == first
    await bench.admit(await bench.fetched("d"), number=2)
    with pytest.raises(BrokerError, match="LATE"):
        await bench.admit(p, number=1)


async def test_all_limits_or_none(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    assert await bench.admit(p[:1], "crm", "other") == [START]
    assert await bench.admit(p[1:2], "crm", "other") == [PARKED]
    assert await bench.admit(p[2:], "crm") == [START]  # the one that waits for `other` holds nothing of `crm`


async def test_upkeep_wakes_who_waits_when_there_may_be_more(bench: Bench):
    p = await bench.fetched("a", "b", "c")
    await bench.admit(p)
    await bench.broker.tend(Round({"crm": LimitSpec(3)}))
    assert await bench.next_in_turn() == ["c"]


async def test_upkeep_forgets_parked_jobs_whose_time_is_over(bench: Bench):
    p = await bench.fetched("a", "b", "over")
    await bench.admit(p[:2])
    result = ("result", "over", b'{"how":"expired"}', 60)
    assert await bench.admit(p[2:], expires_s=1.0, on_expiry=(result,)) == [PARKED]
    await bench.broker.tend(Round({"crm": LimitSpec(2)}))
    ended = await bench.broker.ended("over")
    assert ended is not None
    assert ended.how == "expired"


async def test_upkeep_sends_parked_jobs_back_whose_deadline_has_come(bench: Bench):
    p = await bench.fetched("a", "b", "late", "later")
    assert await bench.admit(p[:2]) == [START, START]
    assert await bench.admit(p[2:3], expires_s=1.0, goes_back=True) == [PARKED]
    assert await bench.admit(p[3:], expires_s=4e9, goes_back=True) == [PARKED]
    await bench.broker.tend(Round({"crm": LimitSpec(2)}))
    assert await bench.next_in_turn() == ["late"]
