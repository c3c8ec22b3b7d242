"""What becomes of batches, on a real server and on the fake: the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from trioworkers import Batch, Job
from trioworkers.broker.contract import Holder, Intake, Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.departures import Held, on_outcome
from trioworkers.errors import BadJob, Refused
from trioworkers.jobs.client import Client
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.decode import decode
from trioworkers.wire.keys import Keys

here = partial(Job, runs_here=True)


def callbacks() -> dict[str, Job]:
    return {f"on_{event}": here("c", event) for event in ("success", "finished", "death")}


def batch_of(*jids: str, **options: Any) -> Batch:
    batch = Batch("some", **{**callbacks(), **options})
    batch.add(*(here("q", "A", jid=jid) for jid in jids))
    return batch


@attrs.define
class Bench:
    broker: RedisBroker
    intake: Intake
    told: Intake
    group: int = 0
    payloads: dict[str, bytes] = attrs.field(factory=dict)

    @property
    def client(self) -> Client:
        return Client.around(self.broker)

    async def fetch(self) -> list[str]:
        fetched = {decode(payload, "q").jid: payload for payload in (await self.intake.fetch(1000)).payloads}
        self.payloads |= fetched
        return list(fetched)

    async def end(self, jid: str, outcome: Outcome | None = None, *, again: bool = False) -> dict[int, str]:
        """The attempt of a fetched job ends so."""
        payload = self.payloads[jid]
        membership = decode(payload, "q").batch
        held = Held(jid, batch="" if membership is None else membership.batch)
        outcome = Acknowledge() if outcome is None else outcome
        self.group += not again
        problems = await self.broker.settle(self.group, [Settlement("q", payload, outcome, on_outcome(outcome, held))])
        while await self.broker.move_on():
            pass
        return problems

    async def called(self) -> list[str]:
        """The callbacks that have been sent since this was asked last."""
        payloads = (await self.told.fetch(1000)).payloads
        jobs = [decode(payload, "c") for payload in payloads]
        assert all(job.jid.endswith(f"-{job.job_class}") for job in jobs)
        assert all(job.enqueued_at_s is not None and job.enqueued_at_s < 4e9 for job in jobs)
        return [job.job_class for job in jobs]


@pytest.fixture(params=["real", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        fake = FakeBroker(["q"], process_id="w")
        async with fake.open_intake("q") as intake, fake.open_intake("c") as told:
            yield Bench(fake, intake, told)
        return
    url = request.getfixturevalue("redis_url")
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q", "c"]).claim()
        async with open_intake(broker, url, 1.0, "q") as intake, open_intake(broker, url, 1.0, "c") as told:
            yield Bench(broker, intake, told)


async def test_callbacks_come_when_the_last_member_has_succeeded(bench: Bench):
    await bench.client.enqueue(batch_of("a", "b"))
    assert await bench.fetch() == ["a", "b"]
    await bench.end("a")
    assert await bench.called() == []
    await bench.end("b")
    assert await bench.called() == ["finished", "success"]


@pytest.mark.parametrize("outcome", [Requeue(), Retry(b"{}", 60), Snooze(b"{}", 60)])
async def test_what_is_no_end_of_a_member_counts_as_nothing(bench: Bench, outcome: Outcome):
    await bench.client.enqueue(batch_of("a"))
    await bench.fetch()
    await bench.end("a", outcome)
    assert await bench.called() == []


@pytest.mark.parametrize("end", [Discard, Expire])
async def test_member_that_ends_otherwise_lets_the_batch_finish_without_success(
    bench: Bench, end: Callable[[], Outcome]
):
    await bench.client.enqueue(batch_of("a", "b"))
    await bench.fetch()
    await bench.end("a", end())
    await bench.end("b")
    assert await bench.called() == ["finished"]


async def test_dead_member_is_told_of_once_and_its_retry_may_yet_make_it_a_success(bench: Bench):
    await bench.client.enqueue(batch_of("a", "b", "c"))
    await bench.fetch()
    await bench.end("a", Bury(bench.payloads["a"]))
    assert await bench.called() == ["death"]
    await bench.end("b", Bury(bench.payloads["b"]))
    await bench.end("c")
    assert await bench.called() == ["finished"]
    for jid in ("a", "b"):  # an operator has them tried again
        assert await bench.called() == []
        await bench.broker.send([Send(here("q", "A", jid="plain"))])
        [plain] = await bench.fetch()
        await bench.end(plain, Acknowledge())
        await again(bench, jid)
    assert await bench.called() == ["success"]


async def again(bench: Bench, jid: str) -> None:
    """A dead job comes back as it was, and succeeds: its payload, not its membership, is what is pushed."""
    job = decode(bench.payloads[jid], "q")
    await bench.broker.send([Send(attrs.evolve(job, batch=None, extra={"tw_batch": job.batch.batch}))])
    assert await bench.fetch() == [jid]
    await bench.end(jid)


async def test_repeated_group_counts_nothing_twice(bench: Bench):
    await bench.client.enqueue(batch_of("a", "b"))
    await bench.fetch()
    await bench.end("a")
    await bench.end("a", again=True)
    await bench.end("a")  # gone: it is ours no more
    assert await bench.called() == []
    await bench.end("b")
    assert await bench.called() == ["finished", "success"]


async def test_member_adds_members_with_its_own_end(bench: Bench):
    batch = batch_of("a")
    await bench.client.enqueue(batch)
    await bench.fetch()
    more = attrs.evolve(here("q", "A", jid="b"), batch=attrs.evolve(decode(bench.payloads["a"], "q").batch))
    await bench.end("a", Acknowledge((Send(more),)))
    assert await bench.called() == []
    assert await bench.fetch() == ["b"]
    await bench.end("b")
    assert await bench.called() == ["finished", "success"]


async def test_open_batch_is_over_when_it_is_sealed_and_all_have_ended(bench: Bench):
    async with bench.client.batch("many", **callbacks()) as batch:
        await batch.add(here("q", "A", jid="a"))
        await bench.fetch()
        await bench.end("a")
        assert await bench.called() == []
        await batch.add(here("q", "A", jid="b"), here("q", "A", jid="c"))
    assert await bench.called() == []
    await bench.fetch()
    await bench.end("b")
    await bench.end("c")
    assert await bench.called() == ["finished", "success"]
    with pytest.raises(RuntimeError, match="inside the block"):
        await batch.add(here("q", "A"))


async def test_open_batch_without_members_is_over_when_it_is_sealed(bench: Bench):
    async with bench.client.batch(**callbacks()):
        assert await bench.called() == []
    assert await bench.called() == ["finished", "success"]


async def test_batch_of_nothing_is_over_at_once(bench: Bench):
    await bench.client.enqueue(Batch(on_success=here("c", "success", jid="x-success")))
    assert await bench.called() == ["success"]


async def test_exception_in_the_block_cancels_the_batch(bench: Bench):
    with pytest.raises(KeyError):
        async with bench.client.batch(**callbacks()) as batch:
            await batch.add(here("q", "A", jid="a"))
            raise KeyError
    await bench.fetch()
    await bench.end("a")
    assert await bench.called() == ["finished"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, trio.Cancelled])
async def test_however_the_block_is_left_its_batch_is_cancelled(bench: Bench, error: type[BaseException]):
    with trio.CancelScope() as scope:
        try:
            async with bench.client.batch(**callbacks()) as batch:
                await batch.add(here("q", "A", jid="a"))
                if error is trio.Cancelled:
                    scope.cancel()
                    await trio.sleep_forever()
                raise error
        except (KeyError, KeyboardInterrupt):
            pass
    assert await bench.broker.cancelled([batch.id, "never"]) == {batch.id}
    await bench.fetch()
    await bench.end("a", Expire("deleted"))
    assert await bench.called() == ["finished"]
    assert await bench.broker.cancelled([batch.id]) == set()


async def test_what_lies_in_a_cancelled_batch_is_cancelled(bench: Bench):
    outer, inner = batch_of("a"), batch_of("b")
    await bench.client.enqueue(outer)
    await bench.broker.send(map(Send, inner.members(parent=outer.id)))
    assert await bench.broker.cancelled([outer.id, inner.id]) == set()
    assert (await bench.intake.fetch(1)).suspects is False
    await bench.broker.cancel_batch(outer.id)
    assert await bench.broker.cancelled([outer.id, inner.id]) == {outer.id, inner.id}
    assert (await bench.intake.fetch(1)).suspects is True


async def test_nothing_is_added_to_what_is_over_cancelled_or_was_never(bench: Bench):
    batch = batch_of("a")
    await bench.client.enqueue(batch)
    await bench.fetch()
    with pytest.raises(Refused, match="is there already"):
        await bench.client.enqueue(batch)
    await bench.end("a")
    for batch_id in (batch.id, "never"):
        member = attrs.evolve(
            here("q", "A"), batch=attrs.evolve(decode(bench.payloads["a"], "q").batch, batch=batch_id)
        )
        with pytest.raises(Refused, match="over, or never was"):
            await bench.broker.send([Send(member)])
    async with bench.client.batch() as open_batch:
        await open_batch.add(here("q", "A", jid="b"))
        with pytest.raises(Refused, match="already"):
            await open_batch.add(here("q", "A", jid="b"))
        assert await bench.broker.cancel_batch(open_batch.id)
        with pytest.raises(Refused, match="cancelled"):
            await open_batch.add(here("q", "A"))
    assert not await bench.broker.cancel_batch("never")
    assert await bench.fetch() == ["b"]


@pytest.mark.parametrize("adds_batch", [False, True])
async def test_dead_member_that_is_retried_still_adds_members(bench: Bench, adds_batch: bool):
    """Its batch is over by then, as far as `on_finished` goes; but it waits for this one, and then for what this one adds."""
    outer = batch_of("a", "b")
    await bench.client.enqueue(outer)
    await bench.fetch()
    await bench.end("a", Bury(bench.payloads["a"]))
    await bench.end("b")
    assert await bench.called() == ["death", "finished"]
    inner = Batch()
    inner.add(here("q", "A", jid="c"))
    member = attrs.evolve(here("q", "A", jid="c"), batch=decode(bench.payloads["a"], "q").batch)
    more = inner.members(parent=outer.id) if adds_batch else [member]
    assert await bench.end("a", Acknowledge(tuple(map(Send, more)))) == {0: "gone"}  # it lies among the dead
    await bench.broker.send([Send(attrs.evolve(here("q", "A", jid="a"), extra={"tw_batch": outer.id}))])
    await bench.fetch()
    assert await bench.end("a", Acknowledge(tuple(map(Send, more)))) == {}
    assert await bench.called() == []
    await bench.fetch()
    await bench.end("c")
    assert await bench.called() == ["success"]


async def test_batch_is_put_into_none_that_is_over_or_cancelled(bench: Bench):
    over = batch_of("a")
    await bench.client.enqueue(over)
    await bench.fetch()
    await bench.end("a")
    cancelled = batch_of("b")
    await bench.client.enqueue(cancelled)
    await bench.broker.cancel_batch(cancelled.id)
    for parent, why in ((over.id, "over, or never was"), ("never", "over, or never was"), (cancelled.id, "cancelled")):
        inner = Batch()
        inner.add(here("q", "A"))
        with pytest.raises(Refused, match=why):
            await bench.broker.send(map(Send, inner.members(parent=parent)))


async def test_batch_in_a_batch_counts_as_one_member(bench: Bench):
    outer = batch_of("a")
    await bench.client.enqueue(outer)
    await bench.fetch()
    inner = Batch("inner", on_success=here("c", "success"))
    inner.add(here("q", "A", jid="b"), here("q", "A", jid="c"))
    await bench.end("a", Acknowledge(tuple(map(Send, inner.members(parent=outer.id)))))
    await bench.fetch()
    await bench.end("b")
    assert await bench.called() == []
    await bench.end("c", Bury(bench.payloads["c"]))
    assert await bench.called() == ["death", "finished"]  # of the outer one
    await again(bench, "c")
    assert await bench.called() == ["success", "success"]


async def test_batches_lie_in_one_another_16_deep(bench: Bench):
    parent = None
    for depth in range(17):
        batch = Batch(str(depth))
        batch.add(here("q", "A"))
        if depth == 16:
            with pytest.raises(Refused, match="16 deep"):
                await bench.broker.send(map(Send, batch.members(parent=parent)))
        else:
            await bench.broker.send(map(Send, batch.members(parent=parent)))
        parent = batch.id


def test_what_can_be_no_member_or_callback_is_refused():
    batch = batch_of("a")
    with pytest.raises(BadJob, match="already"):
        batch.add(here("q", "A", jid="a"))
    with pytest.raises(BadJob, match=r"handler\.job"):
        batch.add("a")  # type: ignore[arg-type] - that is tried
    with pytest.raises(BadJob, match="in batch"):
        batch.add(batch_of("b").members()[0])
    with pytest.raises(BadJob, match="1,000 jobs at most"):
        batch.add(*(here("q", "A") for _ in range(1000)))
    for bad in (7, "x" * 201):
        with pytest.raises(BadJob, match="description"):
            Batch(bad)  # type: ignore[arg-type] - as above
    with pytest.raises(BadJob, match="on_death"):
        Batch(on_death=batch)  # type: ignore[arg-type] - as above


async def test_batch_that_is_too_large_for_one_step_is_refused(bench: Bench):
    batch = Batch()
    batch.add(*(here("q", "A", ["x" * 600_000]) for _ in range(2)))
    with pytest.raises(BadJob, match="1,000,000 bytes"):
        await bench.client.enqueue(batch)
    assert await bench.fetch() == []
