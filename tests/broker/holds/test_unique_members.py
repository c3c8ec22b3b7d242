"""Unique jobs as members of batches, on a real server and on the fake: those that aren't sent are no members, and no batch waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from test_batches import Bench, bench, callbacks

from trioworkers import App, Batch, Context, Job, Unique, chain
from trioworkers.broker.contract import Settlement
from trioworkers.broker.holds.locks import Claim
from trioworkers.departures import held_unread, on_outcome
from trioworkers.errors import BadJob, DuplicateJob
from trioworkers.exits import on_exit
from trioworkers.jobs.open_batch import JobBatch
from trioworkers.outcome import Acknowledge, Bury, Outcome
from trioworkers.send import Send
from trioworkers.testing import run
from trioworkers.wire.lock import Lock

__all__ = ["bench"]

here = partial(Job, runs_here=True)


def once(jid: str, key: str = "k", **options: Any) -> Job:
    return here("q", "A", jid=jid, lock=Lock(key, **options))


async def end(bench: Bench, jid: str, outcome: Outcome | None = None) -> None:
    """It ends with all that it holds."""
    payload, outcome = bench.payloads[jid], Acknowledge() if outcome is None else outcome
    bench.group += 1
    effects = on_outcome(outcome, held_unread(payload, None))
    assert await bench.broker.settle(bench.group, [Settlement("q", payload, outcome, effects)]) == {}


@pytest.mark.parametrize("options", [{}, {"on_conflict": "throttle", "until": "spell", "every_s": 60.0}])
async def test_double_is_no_member(bench: Bench, options: dict[str, Any]):
    await bench.client.enqueue(once("other", **options))
    batch = Batch(**callbacks())
    batch.add(once("a", **options), here("q", "A", jid="b"))
    await bench.client.enqueue(batch)
    assert await bench.fetch() == ["other", "b"]
    await end(bench, "b")
    assert await bench.called() == ["finished", "success"]
    await end(bench, "other")
    assert await bench.called() == []


async def test_batch_of_doubles_alone_is_over_at_once(bench: Bench):
    await bench.client.enqueue(once("other"))
    batch = Batch(**callbacks())
    batch.add(once("a"), once("b"))
    await bench.client.enqueue(batch)
    assert await bench.called() == ["finished", "success"]


async def test_of_doubles_in_one_batch_the_first_is_the_member(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(once("a"), once("b"), once("c", "another"))
    await bench.client.enqueue(batch)
    assert await bench.fetch() == ["a", "c"]
    await end(bench, "a")
    assert await bench.called() == []
    await end(bench, "c")
    assert await bench.called() == ["finished", "success"]
    await bench.client.enqueue(once("later"))
    assert await bench.fetch() == ["later"]


@pytest.mark.parametrize("policy", ["wait", "cancel", "run"])
async def test_who_waits_for_a_double_cannot_know_when_its_like_is_done(bench: Bench, policy: Any):
    """So it is skipped, unless it runs however that ended."""
    await bench.client.enqueue(once("other"))
    assert await bench.fetch() == ["other"]
    batch = Batch(**callbacks())
    batch.add(here("q", "A", jid="b"), after=[batch.add(once("a"))], on_failure=policy)
    await bench.client.enqueue(batch)
    if policy == "run":
        assert await bench.fetch() == ["b"]
        await end(bench, "b")
        assert await bench.called() == ["finished", "success"]
    else:
        assert await bench.fetch() == []
        assert await bench.called() == ["finished"]


@pytest.mark.parametrize("policy", ["wait", "run"])
async def test_who_is_streamed_after_a_double_is_treated_likewise(bench: Bench, policy: Any):
    await bench.client.enqueue(once("other"))
    assert await bench.fetch() == ["other"]
    async with bench.client.batch(**callbacks()) as batch:
        first = await batch.add(once("a"))
        await batch.add(here("q", "A", jid="b"), after=[first], on_failure=policy)
    assert await bench.fetch() == (["b"] if policy == "run" else [])


async def test_member_that_waits_has_its_lock_while_it_waits(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(once("b"), after=[batch.add(here("q", "A", jid="a"))])
    await bench.client.enqueue(batch)
    [double] = await bench.client.enqueue(once("c"))
    assert double.duplicate_of == "b"
    assert await bench.fetch() == ["a"]
    await end(bench, "a")
    assert await bench.fetch() == ["b"]
    await end(bench, "b")
    assert await bench.called() == ["finished", "success"]
    await bench.client.enqueue(once("c"))
    assert await bench.fetch() == ["c"]


async def test_member_that_is_skipped_lets_its_lock_go(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(once("b"), after=[batch.add(here("q", "A", jid="a"))], on_failure="cancel")
    await bench.client.enqueue(batch)
    await bench.fetch()
    await end(bench, "a", Bury(bench.payloads["a"]))
    assert await bench.called() == ["death", "finished"]
    [sent] = await bench.client.enqueue(once("c"))
    assert sent.duplicate_of is None


async def test_double_that_would_wait_is_no_member(bench: Bench):
    await bench.client.enqueue(once("other"))
    await bench.fetch()
    batch = Batch(**callbacks())
    late = batch.add(once("b"), after=[batch.add(here("q", "A", jid="a"))])
    batch.add(here("q", "A", jid="c"), after=[late], on_failure="run")
    await bench.client.enqueue(batch)
    assert sorted(await bench.fetch()) == ["a", "c"]
    await end(bench, "a")
    await end(bench, "c")
    assert await bench.called() == ["finished", "success"]


async def test_raising_double_has_nothing_of_its_batch_sent(bench: Bench):
    await bench.client.enqueue(once("other"))
    for waits in (False, True):
        batch = Batch(**callbacks())
        first = batch.add(here("q", "A", jid="a"))
        batch.add(once("b", on_conflict="raise"), after=[first] if waits else [])
        with pytest.raises(DuplicateJob) as raised:
            await bench.client.enqueue(batch)
        assert raised.value.duplicate_of == "other"
    assert await bench.fetch() == ["other"]
    assert await bench.called() == []
    async with bench.client.batch(**callbacks()) as streamed:
        with pytest.raises(DuplicateJob):
            await streamed.add(once("c", on_conflict="raise"))
    assert await bench.called() == ["finished", "success"]


@pytest.mark.parametrize("policy", ["replace", "latest"])
async def test_member_that_takes_over_counts_when_it_has_run_and_the_replaced_one_at_once(bench: Bench, policy: Any):
    older, newer = Batch(on_finished=here("c", "finished")), Batch(**callbacks())
    older.add(once("a"))
    newer.add(once("b", on_conflict=policy))
    await bench.client.enqueue(older)
    await bench.client.enqueue(newer)
    assert await bench.fetch() == ["a"]
    assert await bench.called() == []
    claim = Claim(bench.payloads["a"], "a", "k", "held", on_replaced=on_exit(bench.payloads["a"], "replaced"))
    [answer] = await bench.broker.claim("q", 1, [claim])
    assert answer.how == "swapped"
    assert await bench.called() == ["finished"]  # of the older one
    bench.payloads["b"] = answer.payload
    await end(bench, "b")
    assert await bench.called() == ["finished", "success"]


async def test_member_that_was_to_take_over_counts_when_it_is_forgotten(bench: Bench):
    """As the one that it was to replace has succeeded."""
    await bench.client.enqueue(once("other"))
    batch = Batch(**callbacks())
    batch.add(once("b", on_conflict="replace"))
    await bench.client.enqueue(batch)
    await bench.fetch()
    await end(bench, "other")
    assert await bench.called() == ["finished"]


async def test_debounced_member_that_is_moved_on_counts_at_once(bench: Bench):
    options: dict[str, Any] = {"on_conflict": "debounce", "wait_s": 60.0, "max_wait_s": 600.0}
    batch = Batch(**callbacks())
    batch.add(once("a", **options))
    await bench.client.enqueue(batch)
    assert await bench.called() == []
    await bench.client.enqueue(once("b", **options))
    assert await bench.called() == ["finished"]


async def test_member_adds_its_like_which_takes_the_lock_over(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(once("a"))
    await bench.client.enqueue(batch)
    await bench.fetch()
    added: list[Job] = []

    def send(jobs: Sequence[Job]) -> None:
        added.extend(jobs)

    JobBatch(batch.id, send).add(once("b"), once("c"))
    await end(bench, "a", Acknowledge(tuple(map(Send, added))))
    assert await bench.fetch() == ["b"]
    assert await bench.called() == []
    await end(bench, "b")
    assert await bench.called() == ["finished", "success"]


@pytest.mark.parametrize("policy", ["replace", "latest", "debounce"])
def test_who_waits_for_others_takes_nobodys_place(policy: Any):
    batch = Batch()
    first = batch.add(here("q", "A"))
    with pytest.raises(BadJob, match="take the place of its like"):
        batch.add(once("b", on_conflict=policy), after=[first])
    with pytest.raises(BadJob, match="neither"):
        Batch(on_success=once("c"))


async def test_unique_handlers_run_in_a_graph(autojump_clock: object):
    app, ran = App(), []

    @app.handler("q", "Sync", unique=Unique())
    async def sync(customer: int) -> None:
        ran.append(("sync", customer))

    @app.handler("q", "Report")
    async def report(ctx: Context, customer: int) -> None:
        if customer == 1 and ctx.batch is not None:
            with pytest.raises(BadJob, match="nobody could catch"):
                ctx.batch.add(loud.job())
            ctx.batch.add(sync.job(3), sync.job(3))
        ran.append(("report", customer))

    @app.handler("q", "Loud", unique=Unique(on_conflict="raise"))
    async def loud() -> None: ...

    @app.handler("q", "Done")
    async def done() -> None:
        ran.append(("done",))

    async with run(app) as test:
        await test.enqueue(chain(sync.job(1), report.job(1), on_success=done.job()))
        await test.drain()
    assert ran == [("sync", 1), ("report", 1), ("sync", 3), ("done",)]


async def test_who_has_the_locks_of_members_is_told(bench: Bench):
    await bench.client.enqueue(once("other"), once("another", "k2"), once("third", "k3"))
    batch = Batch(**callbacks())
    first = batch.add(here("q", "A", jid="a"), once("b"))
    batch.add(once("c", "k2"), after=[first])
    batch.add(once("d", "new"), once("e", "new"), once("f", "k3", on_conflict="replace"))
    (sent,) = await bench.client.enqueue(batch)
    assert (sent, sent.duplicate_of) == (batch.id, None)
    assert sent.duplicates == {"b": "other", "c": "another", "e": "d", "f": "third"}
    (alone,) = await bench.client.enqueue(Batch())
    assert alone.duplicates == {}
    async with bench.client.batch() as streamed:
        members = await streamed.add(here("q", "A", jid="g"), once("h", "k2"))
        assert (members, members.duplicates) == (("g", "h"), {"h": "another"})
        members = await streamed.add(once("i", "k2"), after=[await streamed.add(here("q", "A", jid="j"))])
        assert members.duplicates == {"i": "another"}
        assert (await streamed.add(here("q", "A"))).duplicates == {}
