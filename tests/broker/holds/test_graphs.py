"""Members that wait for others: pushed by the end of the last of them, on a real server and on the fake the same."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from servers import Server
from test_batches import Bench, again, bench, callbacks

from trioworkers import Batch, Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, OperatorActions, ToDead
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.errors import BadJob, Refused
from trioworkers.jobs.batch import Members, members_of
from trioworkers.jobs.client import Client
from trioworkers.jobs.open_batch import JobBatch
from trioworkers.outcome import Acknowledge, Bury, Discard, Send
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location

here = partial(Job, runs_here=True)

__all__ = ["bench"]


def job(jid: str, **options: Any) -> Job:
    return here("q", "A", jid=jid, **options)


async def sent(bench: Bench, batch: Batch) -> None:
    await bench.client.enqueue(batch)


async def test_successor_is_pushed_when_all_that_it_waits_for_have_succeeded(bench: Bench):
    batch = Batch(**callbacks())
    a, b = batch.add(job("a")), batch.add(job("b"))
    c = batch.add(job("c"), after=[a, b])
    batch.add(job("d"), after=[c])
    await sent(bench, batch)
    assert await bench.fetch() == ["a", "b"]
    await bench.end("a")
    assert await bench.fetch() == []
    await bench.end("b")
    assert await bench.fetch() == ["c"]
    await bench.end("c")
    assert await bench.fetch() == ["d"]
    assert await bench.called() == []
    await bench.end("d")
    assert await bench.called() == ["finished", "success"]


async def test_what_waits_for_a_dead_one_goes_on_when_that_is_retried(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(job("b"), after=[batch.add(job("a"))])
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("a", Bury(bench.payloads["a"]))
    assert await bench.called() == ["death"]
    assert await bench.fetch() == []
    await again(bench, "a")
    assert await bench.fetch() == ["b"]
    await bench.end("b")
    assert await bench.called() == ["finished", "success"]


async def test_what_is_to_be_cancelled_is_skipped_with_all_that_waits_for_it(bench: Bench):
    batch = Batch(**callbacks())
    a = batch.add(job("a"))
    b = batch.add(job("b"), after=[a], on_failure="cancel")
    c = batch.add(job("c"), after=[b])
    batch.add(job("d"), after=[c], on_failure="run")
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("a", Bury(bench.payloads["a"]))
    assert await bench.fetch() == ["d"]
    assert await bench.called() == ["death"]
    await bench.end("d")
    assert await bench.called() == ["finished"]


async def test_nobody_waits_for_what_can_never_succeed(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(job("b"), after=[batch.add(job("a"))])
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("a", Discard())
    assert await bench.called() == ["finished"]
    assert await bench.fetch() == []


async def test_skipped_member_says_so_to_who_waits_for_its_result(bench: Bench):
    batch = Batch()
    batch.add(job("b", keep_result=60), after=[batch.add(job("a"))], on_failure="cancel")
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("a", Discard())
    ended = await bench.broker.ended("b")
    assert ended is not None
    assert ended.how == "skipped"


def test_what_can_not_be_waited_for_is_refused():
    batch, other = Batch(), Batch()
    elsewhere = other.add(job("x"))
    with pytest.raises(BadJob, match="another batch"):
        batch.add(job("a"), after=[elsewhere])
    for bad in ("x", job("y"), ["x"]):
        with pytest.raises(BadJob, match=r"batch\.add"):
            batch.add(job("a"), after=[bad])  # type: ignore[list-item] - that is tried
    with pytest.raises(BadJob, match="on_failure"):
        batch.add(job("a"), on_failure="never")  # type: ignore[arg-type] - as above
    assert len(batch) == 0


async def test_successor_has_no_time_of_its_own(bench: Bench):
    batch = Batch()
    batch.add(job("b"), after=[batch.add(job("a"))])
    with pytest.raises(BadJob, match="can't wait for a time"):
        await bench.client.schedule(60, batch)


@pytest.mark.parametrize("seed", range(6))
async def test_graph_at_random_does_what_a_model_says(bench: Bench, seed: int):
    chance = random.Random(seed)
    batch, names, before, policy = Batch(**callbacks()), [f"j{number}" for number in range(60)], {}, {}
    added: dict[str, Members] = {}
    for name in names:
        before[name] = set(chance.sample(list(added), min(len(added), chance.choice([0, 0, 1, 2, 3]))))
        policy[name] = chance.choice(["wait", "cancel", "run"])
        added[name] = batch.add(job(name), after=[added[each] for each in before[name]], on_failure=policy[name])
    await sent(bench, batch)
    ended: dict[str, str] = {}
    running: set[str] = set()
    while True:
        fetched = set(await bench.fetch())
        assert fetched == {
            name for name in names if name not in ended and name not in running and may_run(name, before, policy, ended)
        }
        running |= fetched
        if not running:
            break
        for name in chance.sample(sorted(running), chance.randint(1, len(running))):
            how = chance.choice(["succeeded", "succeeded", "succeeded", "discarded", "dead"])
            outcome = {"succeeded": Acknowledge(), "discarded": Discard(), "dead": Bury(bench.payloads[name])}[how]
            await bench.end(name, outcome)
            running.discard(name)
            ended[name] = how
            skip(names, before, policy, ended, running)
    waiting = [name for name in names if name not in ended]
    called = await bench.called()
    assert called.count("death") == ("dead" in ended.values())
    assert called.count("finished") == (not waiting)
    assert called.count("success") == (set(ended.values()) == {"succeeded"} and not waiting)
    for name in [name for name, how in ended.items() if how == "dead"]:  # an operator has all of them tried again
        await again(bench, name)
        ended[name] = "succeeded"
        running |= set(await bench.fetch())
    while running:
        for name in sorted(running):
            await bench.end(name)
            ended[name] = "succeeded"
        running = set(await bench.fetch())
    assert set(ended) == set(names)
    assert (called + await bench.called()).count("finished") == 1


def may_run(name: str, before: dict[str, set[str]], policy: dict[str, str], ended: dict[str, str]) -> bool:
    done = {"succeeded"} if policy[name] != "run" else {"succeeded", "dead", "discarded", "skipped"}
    return all(ended.get(each) in done for each in before[name])


def skip(
    names: list[str], before: dict[str, set[str]], policy: dict[str, str], ended: dict[str, str], running: set[str]
) -> None:
    """Those that can't run any more are skipped, and so on."""
    changed = True
    while changed:
        changed = False
        for name in names:
            if name in ended or name in running or policy[name] == "run":
                continue
            never = {"discarded", "skipped"} | ({"dead"} if policy[name] == "cancel" else set())
            if any(ended.get(each) in never for each in before[name]):
                ended[name] = "skipped"
                changed = True


async def test_thousand_successors_of_one_job(bench: Bench):
    batch = Batch(**callbacks())
    first = batch.add(job("first"))
    batch.add(*(job(f"n{number}") for number in range(998)), after=[first])
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("first")
    assert len(await bench.fetch()) == 998


async def test_chain_of_a_thousand_that_is_cancelled(bench: Bench):
    batch = Batch(**callbacks())
    last = batch.add(job("n0"))
    for number in range(1, 1000):
        last = batch.add(job(f"n{number}"), after=[last], on_failure="cancel")
    await sent(bench, batch)
    await bench.fetch()
    await bench.end("n0", Bury(bench.payloads["n0"]))
    assert await bench.called() == ["death", "finished"]


# ── members that come later ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("end", "on_failure", "runs"),
    [
        (None, "wait", True),
        (None, "cancel", True),
        (Discard(), "wait", False),
        (Discard(), "cancel", False),
        (Discard(), "run", True),
        ("bury", "wait", False),
        ("bury", "cancel", False),
        ("bury", "run", True),
    ],
)
async def test_who_comes_later_can_wait_for_what_has_ended(bench: Bench, end: Any, on_failure: Any, runs: bool):
    async with bench.client.batch(**callbacks()) as batch:
        a = await batch.add(job("a"))
        await bench.fetch()
        await bench.end("a", Bury(bench.payloads["a"]) if end == "bury" else end)
        b = await batch.add(job("b"), after=[a], on_failure=on_failure)
        await batch.add(job("c"), after=[b], on_failure="run")
        first = "b" if runs else "" if on_failure == "wait" and end == "bury" else "c"
        assert await bench.fetch() == [first] * bool(first)
    if first == "b":
        await bench.end("b")
        assert await bench.fetch() == ["c"]
    if first:
        await bench.end("c")
        assert (await bench.called())[-1] == ("success" if end is None else "finished")


async def test_streamed_successor_goes_on_when_the_dead_one_is_retried(bench: Bench):
    async with bench.client.batch(**callbacks()) as batch:
        a = await batch.add(job("a"))
        await bench.fetch()
        await bench.end("a", Bury(bench.payloads["a"]))
        await batch.add(job("b"), after=[a])
    assert await bench.fetch() == []
    await again(bench, "a")
    assert await bench.fetch() == ["b"]
    await bench.end("b")
    assert await bench.called() == ["death", "finished", "success"]


async def test_streamed_batch_has_names_and_refuses_the_same_twice(bench: Bench):
    async with bench.client.batch() as batch:
        named = await batch.add(job("a"), name="first")
        assert isinstance(named, Members)
        with pytest.raises(BadJob, match="named 'first' already"):
            await batch.add(job("b"), name="first")
        with pytest.raises(BadJob, match="another batch"):
            await batch.add(job("b"), after=[Batch().add(job("z"))])
        with pytest.raises(BadJob, match="5,000 others at most"):
            await batch.add(job("b"), after=[Members.of(batch.id, [job(str(n)) for n in range(5001)])])


async def test_graph_of_too_many_edges_is_refused(bench: Bench):
    batch = Batch()
    many = batch.add(*(job(f"a{number}") for number in range(101)))
    batch.add(*(job(f"b{number}") for number in range(100)), after=[many])
    with pytest.raises(BadJob, match="10,000 others at most"):
        await sent(bench, batch)


async def test_streams_of_edges_go_in_several_steps(bench: Bench):
    async with bench.client.batch() as batch:
        many = await batch.add(*(job(f"a{number}") for number in range(300)))
        await batch.add(*(job(f"b{number}") for number in range(100)), after=[many])
    assert len(await bench.fetch()) == 300
    for number in range(300):
        await bench.end(f"a{number}")
    assert len(await bench.fetch()) == 100


async def test_members_that_are_added_from_inside_wait_for_one_another(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(job("a"))
    await sent(bench, batch)
    await bench.fetch()
    sends: list[Job] = []
    inside = JobBatch(batch.id, sends.extend)
    inside.add(job("c"), after=[inside.add(job("b"))], on_failure="cancel")
    with pytest.raises(BadJob, match="waits for nothing"):
        inside.add(Batch(), after=[inside.add(job("x"))])
    await bench.end("a", Acknowledge(tuple(Send(each) for each in sends if each.jid != "x")))
    assert await bench.fetch() == ["b"]
    await bench.end("b")
    assert await bench.fetch() == ["c"]
    await bench.end("c")
    assert await bench.called() == ["finished", "success"]


async def test_members_that_are_added_from_inside_have_names_of_their_own(bench: Bench):
    batch = Batch(**callbacks())
    batch.add(job("a"), name="first")
    batch.add(job("b"))
    await sent(bench, batch)
    await bench.fetch()

    def adding(*jids: str, name: str) -> Acknowledge:
        sends: list[Send] = []
        inside = JobBatch(batch.id, lambda jobs: sends.extend(map(Send, jobs)), sends)
        for jid in jids:
            inside.add(job(jid), name=name)
        return Acknowledge(tuple(sends))

    with pytest.raises(BadJob, match="named 'twice' already"):
        adding("c", "d", name="twice")
    with pytest.raises(BadJob, match="not for a batch"):
        JobBatch(batch.id, print).add(Batch(), name="page")
    problems = await bench.end("a", adding("c", name="first"))
    assert "has a member named first already" in problems[0]
    await bench.end("a", adding("c", name="page 1"))
    assert await bench.fetch() == ["c"]
    problems = await bench.end("b", adding("d", name="page 1"))
    assert "has a member named page 1 already" in problems[0]
    assert await bench.fetch() == []
    await bench.end("b", adding("d", name="page 2"))
    assert await bench.fetch() == ["d"]
    with pytest.raises(Refused, match="named page 2 already"):
        await bench.client.enqueue(*members_of([job("e")], batch.id, name="page 2"))
    for jid in ("c", "d"):
        assert await bench.called() == []
        await bench.end(jid)
    assert await bench.called() == ["finished", "success"]


async def test_deleted_dead_member_is_waited_for_no_more(redis_url: str, shared_server: Server):
    async with connect(redis_url, Link(redis_url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
        batch = Batch(on_finished=here("c", "finished"))
        batch.add(job("b"), after=[batch.add(job("a"))])
        await Client.around(broker).enqueue(batch)
        actions = OperatorActions(connection, broker.keys)
        payload = (await connection.execute("test", "LINDEX", "queue:q", 0)) or b""
        await actions.move(Location("queue", "q"), Entry("queue", payload, "q"), ToDead())
        assert shared_server.command("ZCARD", "tw:successors") == 1
        assert shared_server.command("LLEN", "queue:c") == 0
        await actions.move(Location("dead"), Entry("dead", payload, score=1.0), Delete())
    assert shared_server.command("ZCARD", "tw:successors") == 0
    assert shared_server.command("LLEN", "queue:c") == 1
    assert shared_server.command("HMGET", f"tw:batch:{batch.id}", "deleted", "skipped", "dead") == ["1", "1", "0"]
