"""The broker's contract, kept by the real one and by the fake: seed, move, compare everything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from trioworkers import Job
from trioworkers.broker.connection import Link, connect
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.intake import Intake, open_intake
from trioworkers.broker.moves import Broker, Holder, Settlement
from trioworkers.outcome import Acknowledge, Bury, Checkpoint, Discard, Outcome, Requeue, RetryAt, Send
from trioworkers.wire.keys import Keys


@attrs.frozen
class Bench:
    """A broker on the bench: how to reach its intake, and how to see all that it holds."""

    broker: Broker
    open_intake: Any

    def intake(self, queue: str = "q") -> AbstractAsyncContextManager[Intake]:
        return self.open_intake(queue)

    async def state(self) -> dict[str, Any]:
        if isinstance(self.broker, FakeBroker):
            return self._fake_state(self.broker)
        call = self.broker.connection.call
        state: dict[str, Any] = {}
        for key in sorted(await call("keys", lambda c: c.keys("*"))):
            name = key.decode()
            if name.startswith(("tw:", "stat:")) or name == "queues":
                continue
            kind = (await call("type", lambda c, k=key: c.type(k))).decode()
            if kind == "list":
                state[name.replace(":me:inprogress", ":inprogress")] = list(
                    await call("lrange", lambda c, k=key: c.lrange(k, 0, -1))
                )
            else:
                state[name] = list(await call("zrange", lambda c, k=key: c.zrange(k, 0, -1)))
        return state

    @staticmethod
    def _fake_state(broker: FakeBroker) -> dict[str, Any]:
        state: dict[str, Any] = {
            f"queue:{queue}": list(payloads) for queue, payloads in broker.queues.items() if payloads
        }
        state |= {f"queue:{queue}:inprogress": list(held) for (queue, _), held in broker.lists.items() if held}
        return state | {name: list(members) for name, members in broker.sets.items() if len(members)}


@asynccontextmanager
async def real_bench(url: str) -> AsyncIterator[Bench]:
    async with connect(url, Link(url)) as connection:
        broker = Broker(connection, Keys(), Holder("me", "lease of me", 30_000))
        yield Bench(broker, partial(open_intake, broker, url, 1.0))


@pytest.fixture(params=["real", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        fake = FakeBroker(["q"], "me")
        yield Bench(fake, fake.open_intake)
    else:
        async with real_bench(request.getfixturevalue("redis_url")) as real:
            yield real


def job(n: int, queue: str = "q") -> Job:
    return Job(queue, "A", [n], jid=f"jid{n}")


async def seeded(bench: Bench, count: int) -> list[bytes]:
    """So many payloads in progress, oldest first."""
    await bench.broker.send([Send(job(n)) for n in range(count)])
    async with bench.intake() as intake:
        return (await intake.fetch(count)).payloads


async def settle(bench: Bench, payload: bytes, outcome: Outcome | Checkpoint, token: str = "t1") -> dict[int, str]:
    return await bench.broker.settle(token, [Settlement("q", payload, outcome)])


async def test_jobs_are_fetched_in_the_order_in_which_they_were_sent(bench: Bench):
    await bench.broker.send([Send(job(n)) for n in range(5)])
    async with bench.intake() as intake:
        first = (await intake.fetch(3)).payloads
        rest = (await intake.fetch(10)).payloads
        assert [json.loads(p)["args"] for p in first + rest] == [[n] for n in range(5)]
        assert (await intake.fetch(10)).payloads == []
    assert await bench.state() == {"queue:q:inprogress": list(reversed(first + rest))}


async def test_waiting_takes_a_job_as_soon_as_it_comes(bench: Bench):
    async with bench.intake() as intake, trio.open_nursery() as nursery:
        nursery.start_soon(bench.broker.send, [Send(job(1))])
        payload = await intake.wait()
    assert await bench.state() == {"queue:q:inprogress": [payload]}


async def test_cancelled_wait_takes_nothing_afterwards(bench: Bench):
    async with bench.intake() as intake:
        with trio.move_on_after(0.1) as scope:
            await intake.wait()
        assert scope.cancelled_caught
        await bench.broker.send([Send(job(1))])
        assert list(await bench.state()) == ["queue:q"]


async def test_acknowledged_job_is_gone_and_its_sends_are_there(bench: Bench):
    (payload,) = await seeded(bench, 1)
    assert await settle(bench, payload, Acknowledge((Send(job(7, "out")), Send(job(8), delay_s=60)))) == {}
    state = await bench.state()
    assert sorted(state) == ["queue:out", "schedule"]
    assert json.loads(state["queue:out"][0])["jid"] == "jid7"


async def test_retry_burial_discard_and_requeue_have_one_place_each(bench: Bench):
    p = await seeded(bench, 5)
    group = [
        Settlement("q", p[0], RetryAt(b'{"r":1}', 60)),
        Settlement("q", p[1], Bury(b'{"d":1}')),
        Settlement("q", p[2], Discard()),
        Settlement("q", p[3], Requeue()),
        Settlement("q", p[4], Requeue(b'{"later":1}', 5)),
    ]
    assert await bench.broker.settle("t1", group) == {}
    assert await bench.state() == {
        "retry": [b'{"r":1}'],
        "dead": [b'{"d":1}'],
        "queue:q": [p[3]],
        "schedule": [b'{"later":1}'],
    }


async def test_outcome_of_what_is_ours_no_more_changes_nothing(bench: Bench):
    p = await seeded(bench, 2)
    await settle(bench, p[0], Discard(), "t1")
    before = await bench.state()
    for number, outcome in enumerate(
        (Acknowledge(), RetryAt(b"{}", 1), Bury(b"{}"), Requeue(), Acknowledge((Send(job(9)),)))
    ):
        assert await settle(bench, p[0], outcome, f"again{number}") == {0: "gone"}
    assert await bench.state() == before


async def test_checkpoint_takes_the_payloads_place_and_is_what_is_settled_from_then_on(bench: Bench):
    p = await seeded(bench, 3)
    assert await settle(bench, p[1], Checkpoint(b'{"done":1}'), "t1") == {}
    assert await bench.state() == {"queue:q:inprogress": [p[2], p[0], b'{"done":1}']}
    assert await settle(bench, p[1], Acknowledge(), "t2") == {0: "gone"}
    assert await settle(bench, p[1], Checkpoint(b'{"done":2}'), "t3") == {0: "gone"}
    assert await settle(bench, b'{"done":1}', Checkpoint(b'{"done":2}'), "t4") == {}
    assert await bench.broker.release("q") == 3
    assert await bench.state() == {"queue:q": [p[2], p[0], b'{"done":2}']}  # what has begun is fetched next


@pytest.mark.parametrize(
    "outcome",
    [Acknowledge(), RetryAt(b"{}", 60), Bury(b"{}"), Discard(), Requeue(), Checkpoint(b"{}")],
    ids=repr,
)
async def test_settling_again_after_a_lost_reply_does_nothing_twice(bench: Bench, outcome: Outcome | Checkpoint):
    await seeded(bench, 1)
    async with bench.intake() as intake:
        await bench.broker.send([Send(job(0))] * 2)
        same = (await intake.fetch(2)).payloads
    assert same[0] == same[1]
    assert await settle(bench, same[0], outcome, "t1") == {}
    after_once = await bench.state()
    assert await settle(bench, same[0], outcome, "t1") == {}
    assert await bench.state() == after_once


async def test_identical_payloads_are_settled_one_by_one(bench: Bench):
    await bench.broker.send([Send(job(1))] * 1)
    async with bench.intake() as intake:
        (payload,) = (await intake.fetch(1)).payloads
        assert await settle(bench, payload, Requeue(), "t1") == {}
        await bench.broker.send([Send(job(2))])
        assert (await intake.fetch(1)).payloads == [payload]  # requeued to the end that is fetched next


async def test_due_payloads_move_to_their_queues_once(bench: Bench):
    await bench.broker.send([Send(job(1), delay_s=0.0), Send(job(2), delay_s=900.0)])
    due = await bench.broker.due(10)
    assert [json.loads(p)["args"] for p in due.schedule] == [[1]]
    assert due.next_in_s is not None
    assert 890 < due.next_in_s <= 900
    entry = (due.schedule[0], "other", b'{"renewed":1}')
    assert await bench.broker.promote("schedule", [entry]) == (1, [])
    assert await bench.broker.promote("schedule", [entry]) == (0, [])
    state = await bench.state()
    assert state["queue:other"] == [b'{"renewed":1}']
    assert len(state["schedule"]) == 1


async def test_unreadable_due_payload_goes_to_dead_as_it_is(bench: Bench):
    await bench.broker.send([Send(job(1), delay_s=0.0)])
    (payload,) = (await bench.broker.due(10)).schedule
    assert await bench.broker.promote("schedule", [(payload, None, payload)]) == (1, [])
    assert await bench.state() == {"dead": [payload]}


async def test_audit_tells_strays_and_put_back_returns_them(bench: Bench):
    p = await seeded(bench, 3)
    async with bench.intake() as intake:
        assert await intake.audit(3, 10) is None
        found = await intake.audit(1, 10)
        assert found == Counter(p)
    assert await bench.broker.put_back("q", [p[2], p[1]]) == 2
    assert await bench.broker.put_back("q", [p[2]]) == 0
    assert await bench.state() == {"queue:q:inprogress": [p[0]], "queue:q": [p[2], p[1]]}


async def test_release_moves_everything_back_in_order(bench: Bench):
    p = await seeded(bench, 4)
    assert await bench.broker.release("q") == 4
    assert await bench.state() == {"queue:q": list(reversed(p))}
