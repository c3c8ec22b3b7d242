"""A batch whose keys are broken is refused before anything is sent; what can only fail when all is sent is done by the upkeep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from servers import Server

from trioworkers import Batch, Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.holds import batches as module
from trioworkers.broker.holds.batches import cancel_abandoned
from trioworkers.broker.holds.limits import Round
from trioworkers.broker.holds.search import HoldsSearch
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import OperatorActions
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.broker.redis.scripts import Script
from trioworkers.errors import Refused, Unavailable
from trioworkers.jobs.client import Client
from trioworkers.send import Send
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack

here = partial(Job, runs_here=True)


@pytest.fixture
async def broker(redis_url: str) -> AsyncIterator[RedisBroker]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))


def everything(server: Server) -> dict[str, Any]:
    names = server.command("KEYS", "*")
    assert isinstance(names, list)
    return {name: server.command("DUMP", name) for name in sorted(names)}


def graph() -> Batch:
    batch = Batch("some", on_finished=here("c", "finished"))
    batch.add(here("q", "B", jid="b"), after=[batch.add(here("q", "A", jid="a"))])
    return batch


@pytest.mark.parametrize(
    "key",
    [
        "tw:batch:ID",
        "tw:batch:ID:jids",
        "tw:batch:ID:graph",
        "tw:batches",
        "tw:successors",
        "queue:q",
        "tw:batch:OUTER:jids",
    ],
)
async def test_nothing_is_sent_if_a_key_is_broken(broker: RedisBroker, shared_server: Server, key: str):
    outer, inner = graph(), graph()
    await Client.around(broker).enqueue(outer)
    broken = key.replace("ID", inner.id).replace("OUTER", outer.id)
    shared_server.command("DEL", broken)
    shared_server.command("SET", broken, "of another kind")
    before = everything(shared_server)
    with pytest.raises(Refused, match="wrong kind"):
        await broker.send(map(Send, inner.members(parent=outer.id)))
    assert everything(shared_server) == before


@pytest.mark.parametrize("key", ["tw:batch:ID:jids", "tw:batch:ID:graph", "tw:batches", "queue:q"])
async def test_nothing_is_added_if_a_key_is_broken(broker: RedisBroker, shared_server: Server, key: str):
    async with Client.around(broker).batch() as batch:
        broken = key.replace("ID", batch.id)
        shared_server.command("DEL", broken)
        shared_server.command("SET", broken, "of another kind")
        before = everything(shared_server)
        with pytest.raises(Refused, match="wrong kind"):
            await batch.add(here("q", "A", jid="a"))
        assert everything(shared_server) == before
        shared_server.command("DEL", broken)


async def test_callback_for_a_broken_queue_comes_when_that_is_mended(broker: RedisBroker, shared_server: Server):
    shared_server.command("SET", "queue:c", "of another kind")
    async with Client.around(broker).batch(on_finished=here("c", "finished")) as batch:
        pass
    assert shared_server.command("LLEN", "tw:repairs") == 1
    shared_server.command("DEL", "queue:c")
    await broker.tend(Round())
    assert shared_server.command("LLEN", "queue:c") == 1
    assert shared_server.command("HGET", f"tw:batch:{batch.id}", "fired_finished")


async def test_batch_that_nobody_streams_into_any_more_is_cancelled(broker: RedisBroker, shared_server: Server):
    client, finished = Client.around(broker), here("c", "finished")
    short, long, never = (client.batch(on_finished=finished, abandoned_after=after) for after in (0.001, 3600, None))
    for batch in (short, long, never):
        await batch.__aenter__()
        await batch.add(here("q", "A"))
    ended: list[str] = []
    while not ended:
        ended = [each async for each in cancel_abandoned(broker.connection, broker.keys)]
    assert ended == [short.id]
    assert [each async for each in cancel_abandoned(broker.connection, broker.keys)] == []
    assert await broker.cancelled([short.id, long.id, never.id]) == {short.id}
    with pytest.raises(Refused, match="is cancelled"):
        await short.add(here("q", "A"))
    await long.__aexit__(None, None, None)
    assert [each async for each in cancel_abandoned(broker.connection, broker.keys)] == []


async def test_clock_that_is_set_ahead_makes_nobody_late(broker: RedisBroker, shared_server: Server):
    """Time counts from look to look. Whether the clock jumps between two looks or since the last member, it counts ten minutes at most."""
    batch = Client.around(broker).batch(abandoned_after=3600)
    await batch.__aenter__()
    await batch.add(here("q", "A"))
    key = broker.keys.batch(batch.id)

    async def looked() -> list[str]:
        return [each async for each in cancel_abandoned(broker.connection, broker.keys)]

    def counted() -> float:
        return float(str(shared_server.command("HGET", key, "quiet")))

    def ahead(field: str) -> None:
        """As if the clock had been set ahead since then."""
        was = float(str(shared_server.command("HGET", key, field)))
        shared_server.command("HSET", key, field, f"{was - 90_000:.6f}")

    ahead("added")
    assert await looked() == []
    assert counted() == 600
    for _ in range(4):
        ahead("quiet_at")
        assert await looked() == []
    assert counted() == 3000
    await batch.add(here("q", "A"))
    assert await looked() == []
    assert counted() < 60
    for _ in range(5):
        ahead("quiet_at")
        assert await looked() == []
    ahead("quiet_at")
    assert await looked() == [batch.id]


async def test_cancelled_ones_are_told_of_though_the_look_breaks_off(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """They are cancelled by then, so the next look doesn't find them."""
    batch = Client.around(broker).batch(abandoned_after=0.001)
    await batch.__aenter__()
    connection, run = broker.connection, broker.connection.run
    monkeypatch.setattr(module, "PAGE", 1)
    pages = 0

    async def one_page(script: Script, *words: Any) -> Any:
        nonlocal pages
        pages += script is module.ABANDONED
        if pages > 1:
            raise Unavailable("no answer in time")
        return await run(script, *words)

    search = HoldsSearch(connection, broker.keys, [broker.keys])
    monkeypatch.setattr(type(connection), "run", lambda _, *words: one_page(*words))
    while f"batch {batch.id} is cancelled" not in caplog.text:  # it takes a few looks
        pages = 0
        with pytest.raises(Unavailable):
            await search.untouched(60.0)


async def test_batch_whose_key_is_no_hash_keeps_no_other_from_being_cancelled(
    broker: RedisBroker, shared_server: Server
):
    client = Client.around(broker)
    shared_server.command("SET", "tw:batch:forged", "no hash")
    shared_server.command("ZADD", "tw:batches", 0, "forged")
    short = client.batch(abandoned_after=0.001)
    await short.__aenter__()
    ended: list[str] = []
    while not ended:
        ended = [each async for each in cancel_abandoned(broker.connection, broker.keys)]
    assert ended == [short.id]


async def test_batch_whose_key_is_no_hash_is_not_cancelled(broker: RedisBroker, shared_server: Server):
    shared_server.command("SET", "tw:batch:forged", "no hash")
    shared_server.command("SADD", "tw:cancelled", "forged")
    assert await broker.cancelled(["forged", "never"]) == set()
    shared_server.command("DEL", "tw:cancelled")
    shared_server.command("SET", "tw:cancelled", "no set")
    assert await broker.cancelled(["forged", "never"]) == set()


@pytest.mark.parametrize("after", [0, -1, "1", float("nan"), True], ids=repr)
async def test_time_that_is_none_is_refused(broker: RedisBroker, after: Any):
    with pytest.raises(Exception, match="abandoned_after is a number of seconds"):
        Client.around(broker).batch(abandoned_after=after)


async def test_list_of_those_cancelled_forgets_what_somebody_deleted(broker: RedisBroker, shared_server: Server):
    async with Client.around(broker).batch() as batch:
        await batch.add(here("q", "A"))
        await broker.cancel_batch(batch.id)
    shared_server.command("DEL", f"tw:batch:{batch.id}")
    assert await broker.cancelled([batch.id]) == set()
    assert shared_server.command("EXISTS", "tw:cancelled") == 0


async def test_successors_for_a_broken_queue_go_on_when_that_is_mended(broker: RedisBroker, shared_server: Server):
    batch = Batch()
    first = batch.add(here("q", "A", jid="a"))
    batch.add(*(here("other", "B") for _ in range(300)), after=[first])
    await Client.around(broker).enqueue(batch)
    shared_server.command("SET", "queue:other", "of another kind")
    actions = OperatorActions(broker.connection, broker.keys)
    await actions.purge("q")
    assert shared_server.command("ZCARD", "tw:successors") == 0  # it was deleted: they are skipped, and need no queue
    shared_server.command("DEL", "queue:other")
    batch = Batch()
    first = batch.add(here("q", "A", jid="a"))
    batch.add(*(here("other", "B") for _ in range(300)), after=[first], on_failure="run")
    await Client.around(broker).enqueue(batch)
    shared_server.command("SET", "queue:other", "of another kind")
    await actions.purge("q")
    assert shared_server.command("ZCARD", "tw:successors") == 300
    shared_server.command("DEL", "queue:other")
    await broker.tend(Round())
    while await broker.move_on():
        pass
    assert shared_server.command("LLEN", "queue:other") == 300
    assert shared_server.command("ZCARD", "tw:successors") == 0
    assert shared_server.command("HLEN", f"tw:batch:{batch.id}:graph") == 0


async def test_moves_that_others_wrote_there_are_passed_over(broker: RedisBroker, shared_server: Server):
    shared_server.command("RPUSH", "tw:moving", "garbage", "\xc1", "")
    while await broker.move_on():
        pass
    assert shared_server.command("EXISTS", "tw:moving") == 0


@pytest.mark.parametrize("field", ["succeeded", "discarded", "dead"])
async def test_counter_that_is_no_number_keeps_no_batch_from_ending(
    broker: RedisBroker, shared_server: Server, field: str
):
    batch = Batch(on_finished=here("c", "finished"))
    batch.add(*(here("q", "A", jid=jid) for jid in "abc"))
    await Client.around(broker).enqueue(batch)
    shared_server.command("HSET", f"tw:batch:{batch.id}", field, "no number")
    ends = [("member", batch.id, jid, how) for jid, how in zip("abc", ("succeeded", "discarded", "dead"), strict=True)]
    work = pack([*ends, ("member", batch.id, "a", "dead"), ("member", batch.id, "c", "succeeded")])
    await broker.connection.execute("test", "RPUSH", "tw:repairs", work)
    await broker.tend(Round())
    assert shared_server.command("LLEN", "queue:c") == 1
    assert shared_server.command("SCARD", f"tw:batch:{batch.id}:dead") == 0  # it has succeeded after all
    others = {"succeeded": 2, "discarded": 1, "dead": 0}
    del others[field]
    assert {how: int(shared_server.command("HGET", f"tw:batch:{batch.id}", how) or 0) for how in others} == others


@pytest.mark.parametrize(
    "forged",
    [b"\xc1", b"7", pack([]), pack(["c", "queue:c", "DEL", "queues", "{}", False]), pack([1, 2, "LPUSH", 4, 5])],
)
async def test_callback_that_somebody_wrote_over_keeps_no_batch_from_ending(
    broker: RedisBroker, shared_server: Server, forged: bytes
):
    outer, inner = Batch(on_finished=here("c", "finished")), Batch(on_finished=here("c", "lost"))
    outer.add(here("q", "A", jid="a"))
    inner.add(here("q", "A", jid="b"))
    await Client.around(broker).enqueue(outer)
    await broker.send(map(Send, inner.members(parent=outer.id)))
    await broker.connection.execute("test", "HSET", f"tw:batch:{inner.id}", "on_finished", forged)
    ends = [("member", outer.id, "a", "succeeded"), ("member", inner.id, "b", "succeeded")]
    await broker.connection.execute("test", "RPUSH", "tw:repairs", pack(ends))
    await broker.tend(Round())
    assert shared_server.command("LLEN", "queue:c") == 1
    assert shared_server.command("HGET", f"tw:batch:{outer.id}", "fired_success")
    assert shared_server.command("LLEN", "tw:repairs") == 0
