"""The broker's contract, kept by the real one and by the fake in every dialect: seed, move, compare everything."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

import attrs
import pytest
import trio
import trio.testing

from trioworkers import Job
from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import Holder, Intake, Listed, Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.outcome import Acknowledge, Bury, Checkpoint, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.own_record import Identity

LONG_S = 100_000.0
"""A wait ends at a multiple of this on Trio's clock: at none that a test meets."""


@attrs.frozen
class Bench:
    """A broker on the bench: how to reach its intake, and how to see all that it holds."""

    broker: RedisBroker
    open_intake: Any

    def intake(self, queue: str = "q") -> AbstractAsyncContextManager[Intake]:
        return self.open_intake(queue)

    async def waits(self) -> None:
        """Until somebody waits for an empty queue."""
        while isinstance(self.broker, RedisBroker):
            clients = await self.broker.connection.call("clients", lambda c: c.info("clients"))
            if clients["blocked_clients"]:
                return
        await trio.testing.wait_all_tasks_blocked()

    async def state(self) -> dict[str, Any]:
        if isinstance(self.broker, FakeBroker):
            return self._fake_state(self.broker)
        call = self.broker.connection.call
        state: dict[str, Any] = {}
        for key in sorted(await call("keys", lambda c: c.keys("*"))):
            name = key.decode().removeprefix("resque:").replace(":me:inprogress", ":inprogress")
            if key.startswith((b"tw:", b"stat:", b"resque:stat:", b"resque:timestamps:")) or name.endswith(
                ("queues", "_schedule")
            ):
                continue
            kind = (await call("type", lambda c, k=key: c.type(k))).decode()
            if kind == "list":
                found = list(await call("lrange", lambda c, k=key: c.lrange(k, 0, -1)))
                self._add_list(state, name, found)
            else:
                found = list(await call("zrange", lambda c, k=key: c.zrange(k, 0, -1)))
                state[{"tw:retry": "retry", "tw:schedule": "schedule", "goretry": "retry"}.get(name, name)] = found
        return state

    def _add_list(self, state: dict[str, Any], name: str, found: list[bytes]) -> None:
        if name == "failed":
            state["dead"] = [in_record(record) for record in found]
        elif name.startswith("delayed:"):
            state.setdefault("delayed", []).extend(found)
        else:  # as Sidekiq has queues: newest first
            turned = self.broker.dialect.fetched_from == "LEFT" and not name.endswith(":inprogress")
            state[name] = found[::-1] if turned else found

    @staticmethod
    def _fake_state(broker: FakeBroker) -> dict[str, Any]:
        state: dict[str, Any] = {
            f"queue:{queue}": list(payloads) for queue, payloads in broker.queues.items() if payloads
        }
        state |= {f"queue:{queue}:inprogress": list(held) for (queue, _), held in broker.lists.items() if held}
        return state | {name: list(members) for name, members in broker.sets.items() if len(members)}

    @property
    def waiting(self) -> Literal["schedule", "delayed"]:
        """Where what is scheduled waits."""
        return "delayed" if self.broker.dialect.family == "resque" else "schedule"

    async def due(self) -> tuple[Sequence[bytes], float | None]:
        """What was scheduled and is due, and when more will be."""
        due = await self.broker.due(10)
        return getattr(due, self.waiting), due.next_in_s


def in_record(record: bytes) -> bytes:
    """What a record of a failure tells of; these tests' payloads are all unreadable to Resque."""
    text = json.loads(record)["payload"]["args"][0]
    assert isinstance(text, str)
    return text.encode()


@asynccontextmanager
async def real_bench(url: str, dialect: Dialect) -> AsyncIterator[Bench]:
    async with connect(url, Link(url)) as connection:
        holder = Holder("me", "lease of me", 30_000)
        holder.renewed_at = math.inf  # a wait is as long as it is meant to be
        broker = Brokers(
            connection, "", holder, Identity("host", 1, "nonce"), SizeGuard(), dialect, {"q": dialect}
        ).main
        yield Bench(broker, partial(open_intake, broker, url, LONG_S))


@pytest.fixture(params=["real", "fake"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sidekiq", "resque", "goworkers"])
async def bench(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[Bench]:
    dialect = dialect_named(request.param)
    if kind == "fake":
        fake = FakeBroker(["q"], "me", dialect=dialect)
        yield Bench(fake, fake.open_intake)
    else:
        async with real_bench(request.getfixturevalue("redis_url"), dialect) as real:
            yield real


def job(n: int, queue: str = "q") -> Job:
    return Job(queue, "A", [n], jid=f"jid{n}")


async def seeded(bench: Bench, count: int) -> list[bytes]:
    """So many payloads in progress, oldest first."""
    await bench.broker.send([Send(job(n)) for n in range(count)])
    async with bench.intake() as intake:
        return (await intake.fetch(count)).payloads


async def settle(bench: Bench, payload: bytes, outcome: Outcome | Checkpoint, number: int = 1) -> dict[int, str]:
    return await bench.broker.settle(number, [Settlement("q", payload, outcome)])


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
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(intake.wait)
                await bench.waits()
                scope.cancel()
        assert scope.cancelled_caught
        await bench.broker.send([Send(job(1))])
        assert list(await bench.state()) == ["queue:q"]


async def test_acknowledged_job_is_gone_and_its_sends_are_there(bench: Bench):
    (payload,) = await seeded(bench, 1)
    assert await settle(bench, payload, Acknowledge((Send(job(7, "out")), Send(job(8), delay_s=60)))) == {}
    state = await bench.state()
    assert sorted(state) == sorted(["queue:out", bench.waiting])
    assert json.loads(state["queue:out"][0])["args"] == [7]


async def test_retry_burial_discard_snooze_and_requeue_have_one_place_each(bench: Bench):
    p = await seeded(bench, 5)
    group = [
        Settlement("q", p[0], Retry(b'{"r":1}', 60)),
        Settlement("q", p[1], Bury(b'{"d":1}')),
        Settlement("q", p[2], Discard()),
        Settlement("q", p[3], Requeue()),
        Settlement("q", p[4], Snooze(b'{"later":1}', 5)),
    ]
    assert await bench.broker.settle(1, group) == {}
    assert await bench.state() == {
        "retry": [b'{"r":1}'],
        "dead": [b'{"d":1}'],
        "queue:q": [p[3]],
        "schedule": [b'{"later":1}'],
    }


async def test_jobs_of_the_same_bytes_stay_two_where_they_wait_for_their_time(bench: Bench):
    p = await seeded(bench, 4)
    group = [
        Settlement("q", p[0], Retry(b'{"r":1}', 60)),
        Settlement("q", p[1], Retry(b'{"r":1}', 60)),
        Settlement("q", p[2], Snooze(b'{"later":1}', 5)),
        Settlement("q", p[3], Snooze(b'{"later":1}', 5)),
    ]
    assert await bench.broker.settle(1, group) == {}
    state = await bench.state()
    assert [json.loads(payload) for payload in state["retry"]] == [{"r": 1}, {"r": 1}]
    assert [json.loads(payload) for payload in state["schedule"]] == [{"later": 1}, {"later": 1}]


async def test_outcome_of_what_is_ours_no_more_changes_nothing(bench: Bench):
    p = await seeded(bench, 2)
    await settle(bench, p[0], Discard(), 1)
    before = await bench.state()
    for number, outcome in enumerate(
        (Acknowledge(), Retry(b"{}", 1), Bury(b"{}"), Requeue(), Snooze(b"{}", 1), Acknowledge((Send(job(9)),))), 2
    ):
        assert await settle(bench, p[0], outcome, number) == {0: "gone"}
    assert await bench.state() == before


async def test_checkpoint_takes_the_payloads_place_and_is_what_is_settled_from_then_on(bench: Bench):
    p = await seeded(bench, 3)
    assert await settle(bench, p[1], Checkpoint(b'{"done":1}'), 1) == {}
    assert await bench.state() == {"queue:q:inprogress": [p[2], p[0], b'{"done":1}']}
    assert await settle(bench, p[1], Acknowledge(), 2) == {0: "gone"}
    assert await settle(bench, p[1], Checkpoint(b'{"done":2}'), 3) == {0: "gone"}
    assert await settle(bench, b'{"done":1}', Checkpoint(b'{"done":2}'), 4) == {}
    assert await bench.broker.release("q") == 3
    assert await bench.state() == {"queue:q": [p[2], p[0], b'{"done":2}']}  # what has begun is fetched next


@pytest.mark.parametrize(
    "outcome",
    [Acknowledge(), Retry(b"{}", 60), Bury(b"{}"), Discard(), Requeue(), Snooze(b"{}", 60), Checkpoint(b"{}")],
    ids=repr,
)
async def test_settling_again_after_a_lost_reply_does_nothing_twice(bench: Bench, outcome: Outcome | Checkpoint):
    await seeded(bench, 1)
    async with bench.intake() as intake:
        await bench.broker.send([Send(job(0))] * 2)
        same = (await intake.fetch(2)).payloads
    assert same[0] == same[1]
    assert await settle(bench, same[0], outcome, 1) == {}
    after_once = await bench.state()
    assert await settle(bench, same[0], outcome, 1) == {}
    assert await bench.state() == after_once


async def test_identical_payloads_are_settled_one_by_one(bench: Bench):
    await bench.broker.send([Send(job(1))] * 1)
    async with bench.intake() as intake:
        (payload,) = (await intake.fetch(1)).payloads
        assert await settle(bench, payload, Requeue(), 1) == {}
        await bench.broker.send([Send(job(2))])
        assert (await intake.fetch(1)).payloads == [payload]  # requeued to the end that is fetched next


async def test_due_payloads_move_to_their_queues_once(bench: Bench):
    await bench.broker.send([Send(job(1), at_s=1.0), Send(job(2), delay_s=900.0)])
    due, next_in_s = await bench.due()
    assert [json.loads(p)["args"] for p in due] == [[1]]
    assert next_in_s is not None
    assert 890 < next_in_s <= 901
    entry = (due[0], "other", b'{"renewed":1}')
    assert await bench.broker.promote(bench.waiting, [entry]) == (1, [])
    assert await bench.broker.promote(bench.waiting, [entry]) == (0, [])
    state = await bench.state()
    assert state["queue:other"] == [b'{"renewed":1}']
    assert len(state[bench.waiting]) == 1


async def test_due_retries_and_what_was_put_off_move_to_their_queues(bench: Bench):
    p = await seeded(bench, 2)
    await settle(bench, p[0], Retry(b'{"r":1}', 0.0), 1)
    await settle(bench, p[1], Snooze(b'{"later":1}', 0.0), 2)
    due = await bench.broker.due(10)
    assert (due.retry, due.schedule) == ([b'{"r":1}'], [b'{"later":1}'])
    assert await bench.broker.promote("retry", [(b'{"r":1}', "q", b"first")]) == (1, [])
    assert await bench.broker.promote("schedule", [(b'{"later":1}', "q", b"second")]) == (1, [])
    async with bench.intake() as intake:
        assert (await intake.fetch(10)).payloads == [b"first", b"second"]


async def test_unreadable_due_payload_goes_to_dead_as_it_is(bench: Bench):
    await bench.broker.send([Send(job(1), at_s=1.0)])
    ((payload,), _) = await bench.due()
    dead = bench.broker.as_dead(b"unreadable", "", None)
    assert await bench.broker.promote(bench.waiting, [(payload, None, dead)]) == (1, [])
    assert await bench.state() == {"dead": [b"unreadable"]}


async def test_audit_tells_strays_and_put_back_returns_them(bench: Bench):
    p = await seeded(bench, 3)
    assert await bench.broker.audit("q", 3, 10) is None
    assert await bench.broker.audit("q", 1, 10) == Listed(Counter(p))
    assert await bench.broker.count("q", [p[1], b"other"]) == Counter({p[1]: 1, b"other": 0})
    assert await bench.broker.put_back("q", [p[2], p[1]]) == 2
    assert await bench.broker.put_back("q", [p[2]]) == 0
    assert await bench.state() == {"queue:q:inprogress": [p[0]], "queue:q": [p[2], p[1]]}


async def test_release_moves_everything_back_in_order(bench: Bench):
    p = await seeded(bench, 4)
    assert await bench.broker.release("q") == 4
    assert await bench.state() == {"queue:q": list(reversed(p))}
