"""The search for members of batches that others deleted, on a real server: what ends, and what never does."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from test_search import Bench, bench

from trioworkers import Batch, Job
from trioworkers.broker.contract import Settlement
from trioworkers.broker.holds.search import HoldsSearch
from trioworkers.broker.intake import open_intake
from trioworkers.broker.people.operator_actions import OperatorActions, ToDead
from trioworkers.departures import Held, on_outcome
from trioworkers.engine.search import Search
from trioworkers.outcome import Retry
from trioworkers.send import Send
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location

here = partial(Job, runs_here=True)

__all__ = ["bench"]


@pytest.fixture
async def members(bench: Bench) -> Bench:
    bench.evidence = HoldsSearch(bench.broker.connection, bench.broker.keys, [bench.broker.keys])
    bench.search = Search(bench.broker, bench.broker.connection.link, bench.evidence)
    return bench


async def sent(bench: Bench, *jids: str, delay_s: float | None = None) -> str:
    batch = Batch(on_finished=here("c", "Finished"))
    first = batch.add(*(here("q", "A", jid=jid) for jid in jids))
    if delay_s is None:
        batch.add(here("q", "A", jid="waits"), after=[first])
    await bench.broker.send([Send(job, delay_s) for job in batch.members()])
    return batch.id


def pending(bench: Bench, batch: str) -> set[str]:
    return {jid.decode() for jid in bench.cmd("SMEMBERS", f"tw:batch:{batch}:jids")}


async def test_member_that_was_deleted_ends_and_is_told_of_in_one_line(
    members: Bench, caplog: pytest.LogCaptureFixture
):
    batch = await sent(members, "a", "b", "c")
    members.cmd("LREM", "queue:q", 1, members.cmd("LRANGE", "queue:q", -1, -1)[0])
    await members.search.search()
    assert pending(members, batch) == {"b", "c"}  # what waited for it is skipped
    assert members.cmd("HMGET", f"tw:batch:{batch}", "lost", "skipped") == [b"1", b"1"]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("1 member given back, because the job is in no place any more")
    members.cmd("DEL", "queue:q")
    await members.search.search()
    assert pending(members, batch) == set()
    assert members.cmd("LLEN", "queue:c") == 1


async def test_members_are_seen_wherever_they_are(members: Bench):
    batches = [await sent(members, "a", "b"), await sent(members, "later", delay_s=600)]
    [payload] = members.cmd("LRANGE", "queue:q", -1, -1)
    members.cmd("LREM", "queue:q", 1, payload)
    members.cmd("ZADD", "retry", 5e9, payload)
    async with open_intake(members.broker, members.url, 1.0, "q") as intake:
        assert (await intake.fetch(1)).payloads
    members.cmd("HSET", "tw:inprogress", "queue:q:w:inprogress", "w q")  # as a heartbeat does
    await members.search.search()
    assert [len(pending(members, batch)) for batch in batches] == [3, 1]


async def test_batch_that_moves_meanwhile_is_left_alone(members: Bench, monkeypatch: pytest.MonkeyPatch):
    batch = await sent(members, "a", "b")
    members.cmd("DEL", "queue:q")
    look, looks = Search._missing, 0

    async def looked(search: Search, wanted: Any) -> Any:
        nonlocal looks
        looks += 1
        found = await look(search, wanted)
        if looks == 1:  # between the two looks
            assert found
            members.cmd("ZADD", "tw:batches", 5e9, batch)
        return found

    monkeypatch.setattr(Search, "_missing", looked)
    await members.search.search()
    assert looks == 2
    assert pending(members, batch) == {"a", "b", "waits"}


@pytest.mark.parametrize("jid", ['odd"jid', "ünlaut", "with blank"])
async def test_member_whose_jid_may_be_spelled_otherwise_is_taken_for_granted(members: Bench, jid: str):
    batch = await sent(members, jid)
    members.cmd("DEL", "queue:q")
    await members.search.search()
    assert jid in pending(members, batch)


async def test_garbage_under_our_keys_ends_nothing(members: Bench):
    batch = await sent(members, "a")
    members.cmd("ZADD", "tw:batches", 1, "odd", 2, "none")
    members.cmd("SET", "tw:batch:odd:jids", "text")
    await members.search.search()
    assert pending(members, batch) == {"a", "waits"}


async def test_retry_is_a_move(members: Bench):
    batch = await sent(members, "a")
    before: Any = members.cmd("ZSCORE", "tw:batches", batch)
    async with open_intake(members.broker, members.url, 1.0, "q") as intake:
        [payload] = (await intake.fetch(1)).payloads
        outcome = Retry(payload, 60)
        effects = on_outcome(outcome, Held("a", batch=batch))
        await members.broker.settle(1, [Settlement("q", payload, outcome, effects)])
    assert members.cmd("ZSCORE", "tw:batches", batch) > before


async def test_dead_member_that_was_deleted_is_waited_for_no_more(members: Bench):
    batch, other = await sent(members, "a", "b"), await sent(members, "c", "d")
    for payload in members.cmd("LRANGE", "queue:q", 0, -1):
        await OperatorActions(members.broker.connection, members.broker.keys).move(
            Location("queue", "q"), Entry("queue", payload, "q"), ToDead()
        )
    await members.search.search()
    assert members.cmd("ZCARD", "tw:successors") == 2  # all are there, and may be retried
    for payload in members.cmd("ZRANGE", "dead", 0, -1):
        if b'"a"' in payload or b'"b"' in payload:
            members.cmd("ZREM", "dead", payload)
    await members.search.search()
    assert members.cmd("HMGET", f"tw:batch:{batch}", "lost", "skipped", "dead") == [b"2", b"1", b"0"]
    assert members.cmd("ZCARD", "tw:successors") == 1
    assert pending(members, other) == {"waits"}
    assert members.cmd("LLEN", "queue:c") == 1
