"""Late copies: a call is repeated over a new connection, since the one before broke, and Redis reads the bytes of the first one after that.

What each script does then stands in a table, which no script can miss. Here the calls of batches, outboxes and reclaims are carried out again after each
step that follows; what the others do is held where they are tested.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import all_scripts

from trioworkers import App, Batch, Job, Refused, Shard, broker
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.search import HoldsSearch
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.sender import Sender
from trioworkers.broker.shard_outbox import ShardOutbox
from trioworkers.departures import Held, on_outcome
from trioworkers.jobs.client import Client
from trioworkers.outcome import ACKNOWLEDGE
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.decode import decode
from trioworkers.wire.keys import Keys

SCRIPTS = {script.name: script for script in all_scripts().values()}

# ── what a copy of each does that is carried out after a newer call ────────────────────────────────────────────────────

READS = "reads"
HERE = "nothing: held here"
"""These find nothing to do."""
TABLE = {
    **dict.fromkeys(
        [
            *("count", "filled by others", "find", "foreign lists", "go records", "held locks", "held members"),
            *("lengths", "limits", "lost permits", "neighbours", "page", "read page"),
            *("resque registered", "search page"),
        ],
        READS,
    ),
    **dict.fromkeys(
        [
            *("cancel batch", "cancelled", "let members go", "move on"),
            *("outbox page", "outbox done", "receive"),
            *("reclaim", "reclaim huge", "forget", "put back", "put aside", "settle"),
        ],
        HERE,
    ),
    # nothing either: numbers, tokens, and names of what is to be moved tell that it was done
    "settle large": "LATE, as settle (tests/broker/test_settle_large.py)",
    "admit": "LATE (tests/broker/holds/test_limits.py)",
    "claim locks": "LATE (tests/broker/holds/test_locks.py)",
    "enqueue": "its token is known, or its time is over (tests/broker/test_sender.py); without one it is sent once",
    "report": "its number is known",
    "register cron": "an older process has no say; without a lease it has none either (tests/faults/test_model_ticks.py)",
    "ticks": "the tick is another one by now (tests/faults/test_model_ticks.py)",
    "edit cron": "what was asked for is so; what changed since is CHANGED (tests/faults/test_model_ticks.py)",
    "restore": "the group's token is known; in sets what is there stays",
    "restore steps": "what is there stays, and has its end",
    "let locks go": "the lock was touched since (tests/faults/test_model_locks.py)",
    "within": "who has it or waits for it is known (tests/faults/test_model_holds.py)",
    "renew": "a lease that is its own ends a little later",
    "promote": "what another moved isn't in the set",
    "promote delayed": "what another moved isn't in the list",
    "relocate": "what another moved isn't in the set",
    "pick": "what another moved isn't in the queue",
    "go disown": "the record has changed",
    "sample": "this minute is noted",
    # what such a call does if it is made now, which is right whenever it is
    "abandoned": "looks now, by the clock of now",
    "go prune": "looks now",
    "tend": "looks now; what the code declared is compared by when its process started",
    "due": "reads; takes messages that nobody hears then: a word to a process may be lost, as with its reply",
    "due delayed": "reads; what is too large is moved, once",
    "register resque": "shows a worker until its next call says otherwise, or its time is over",
    "beat": "renews a lease for who sent it, at most as long as that one asked for; takes a signal that nobody hears then",
    "claim": "takes a lease that nobody has, for as long as it lasts: its process id is free again after that",
    "deregister": "its own lease and record; of another holder nothing",
    "fetch": "LATE moves what its audit puts back; a dead worker's is reclaimed",
    "fetch capsule": "as fetch",
    "fetch large": "as fetch; its mark is another's",
    "bury huge": "what no worker reads is buried now",
    "release": "the list of a worker that stops; of another holder nothing",
    "charge": "it is noted that this end is charged; without its lease it does nothing",
    # people's: a command that failed is not repeated by us
    "send control": "the word is heard twice, and says the same",
    "override limit": "the older wish counts: the page shows it",
    "purge": "deletes a page of what waits then",
    "release lock": "lets the lock go that is held then",
}


WRITES = re.compile(
    r"'(SET|DEL|UNLINK|[HLSZ](SET|SETNX|DEL|PUSH|PUSHX|POP|REM|TRIM|MOVE|ADD|INCRBY)|R(PUSH|POP)|P?EXPIRE|RENAME|INCRBY|PERSIST|BITFIELD|ZREMRANGEBY\w+)'"
)


def test_every_script_says_what_a_late_copy_of_it_does():
    assert TABLE.keys() == SCRIPTS.keys(), "say here what it does, and number it, or compare, if that is any harm"


@pytest.mark.parametrize("name", [name for name, what in TABLE.items() if what == READS])
def test_those_that_read_only_write_nothing(name: str):
    file = f"{name.replace(' ', '_')}.lua"
    [path] = [path for path in Path(broker.__file__).parent.rglob(file) if path.parent.name != "preludes"]
    assert WRITES.findall(path.read_text()) == []


def test_one_that_writes_would_be_found():
    assert WRITES.search("redis.call('LREM', queue)")


# ── one Redis, and all that was sent to it ─────────────────────────────────────────────────────────────────────────────


class Copies:
    """Every call of the scripts that are held here, to be carried out once more, and again, after each that follows."""

    def __init__(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connection = connection
        self.calls: list[tuple[Any, list[Any], list[Any]]] = []
        self._run = run = Connection.run

        async def noted(its: Connection, script: Any, keys: list[Any], args: list[Any], *more: Any, **how: Any) -> Any:
            reply = await run(its, script, keys, args, *more, **how)
            if TABLE[script.name] == HERE:
                self.calls.append((script, [*keys], [*args]))
            return reply

        monkeypatch.setattr(Connection, "run", noted)

    async def all_come(self) -> None:
        """Each older call is carried out now: nothing changes but times at which something ends by itself."""
        for number, (script, keys, args) in enumerate([*self.calls]):
            before = await self.everything()
            try:
                await self._run(self.connection, script, keys, args)
            except Refused as error:
                assert "LATE" in str(error)  # noqa: PT017 - it may as well do nothing
            assert await self.everything() == before, f"call {number} of {len(self.calls)}, {script.name}"

    async def everything(self) -> dict[bytes, Any]:
        """Every key and what is there, but for when an outbox was last heard of."""
        found = {}
        for key in sorted(await self.execute("KEYS", "*")):
            kind = await self.execute("TYPE", key)
            words = {
                "string": ("GET", key),
                "list": ("LRANGE", key, 0, -1),
                "hash": ("HGETALL", key),
                "set": ("SMEMBERS", key),
                "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            }[kind if isinstance(kind, str) else kind.decode()]
            value = await self.execute(*words)
            if key.endswith(b":received"):
                value = {epoch: msgspec.msgpack.decode(packed)[:2] for epoch, packed in value.items()}
            found[key] = sorted(value) if words[0] == "SMEMBERS" else value
        return found

    async def execute(self, *words: Any) -> Any:
        return await self.connection.execute("test", *words)

    def seen(self) -> set[str]:
        return {script.name for script, *_ in self.calls}


@pytest.fixture
async def copies(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Copies]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield Copies(connection, monkeypatch)


def owner_of(copies: Copies, process_id: str = "w", guard: SizeGuard | None = None) -> RedisBroker:
    return RedisBroker(copies.connection, Keys(), Holder(process_id, f"lease of {process_id}", 30_000), guard=guard)


# ── batches ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_batches(copies: Copies):
    """Members end, wait for others and are skipped with them; a batch is cancelled, and a member of one is found nowhere."""
    owner, here, groups = owner_of(copies), partial(Job, runs_here=True), iter(range(1, 99))
    await Presence(owner, "w", ["q"]).claim()
    client = Client.around(owner)
    batch = Batch("graph", on_finished=here("c", "Told"))
    first = batch.add(here("q", "A", jid="first"))
    batch.add(here("q", "A", jid="second"), after=[first])
    await client.enqueue(batch)

    async def end(jid: str) -> None:
        payloads = await copies.execute("LRANGE", "queue:q", 0, -1)
        payload = next(each for each in payloads if decode(each, "q").jid == jid)
        await copies.execute("LREM", "queue:q", 1, payload)
        await copies.execute("LPUSH", owner.in_progress("q"), payload)
        membership = decode(payload, "q").batch
        assert membership is not None
        effects = on_outcome(ACKNOWLEDGE, Held(jid, batch=membership.batch))
        assert await owner.settle(next(groups), [Settlement("q", payload, ACKNOWLEDGE, effects)]) == {}
        while await owner.move_on():
            pass

    for jid in ("first", "second"):
        await end(jid)
        await copies.all_come()
    assert await copies.execute("LLEN", "queue:c") == 1
    for how in ("cancelled", "lost"):
        streamed = client.batch(how)
        await streamed.__aenter__()
        await streamed.add(here("q", "A", jid=f"of-{how}"), here("q", "A", jid=f"another-of-{how}"))
        if how == "cancelled":
            assert await owner.cancel_batch(streamed.id)
            await copies.all_come()
            assert await owner.cancelled([streamed.id]) == {streamed.id}
            await copies.all_come()
        await end(f"of-{how}")
        await copies.all_come()
    search = HoldsSearch(copies.connection, owner.keys, [owner.keys])
    held, _ = await search.untouched(0)
    lost = [each for each in held if each.jid == "another-of-lost"]
    assert await search.let_go(lost) == (1, 0)
    await copies.all_come()
    assert {"settle", "cancel batch", "cancelled", "let members go", "move on"} <= copies.seen()


# ── outboxes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_outboxes(copies: Copies):
    """Of one shard for another: page after page, and after it was numbered anew."""
    app = App(shards={name: Shard("redis://h", namespace=f"{{{name}}}") for name in "ab"})
    app.queue("q", shards=["b"])
    assert app.layout is not None
    keys = {name: Keys(f"{{{name}}}") for name in "ab"}
    senders = {name: Sender.of(copies.connection, Sending(its)) for name, its in keys.items()}
    source, target = (ShardOutbox(name, senders, app.layout) for name in "ab")
    for number in range(4):
        [(name, key, entries, command, names)] = source.work(
            senders["a"].sending, [Send(Job("q", "X", [number]))], 1e9
        )[0]
        await copies.execute(command, key, *entries)
        await copies.execute("SADD", names, name)
        page = await source.page("b")
        assert page is not None
        received = await target.receive(page)
        await copies.all_come()
        if number == 2:  # its receiver knows other entries by this name
            assert await source.page("b", page.epoch) is not None
            await copies.all_come()
            again = await source.page("b")
            assert again is not None
            assert again.epoch != page.epoch
            page, received = again, await target.receive(again)
            await copies.all_come()
        assert await source.done("b", page.epoch, received)
        await copies.all_come()
    payloads = await copies.execute("LRANGE", keys["b"].queue("q"), 0, -1)
    assert [msgspec.json.decode(payload)["args"][0] for payload in reversed(payloads)] == [0, 1, 2, 2, 3]
    assert {"outbox page", "receive", "outbox done"} <= copies.seen()


# ── what lies in lists ─────────────────────────────────────────────────────────────────────────────────────────────────


SMALL, LARGE = (
    b'{"queue":"q","jid":"s","class":"A","args":[]}',
    b'{"queue":"q","jid":"l","args":"' + b"x" * 9000 + b'"}',
)
"""The large one is legal, but the link of this worker is slow."""


async def test_reclaims_of_a_dead_workers_list(copies: Copies):
    """It may lie in the list of the same worker again, who lives again, and runs it."""
    alive, dead = owner_of(copies), owner_of(copies, "dead")
    await copies.execute("HSET", "tw:inprogress", dead.in_progress("q"), dead.registry_entry("q"))
    await copies.execute("RPUSH", dead.in_progress("q"), SMALL, LARGE)
    assert await alive._reclaim_huge("dead", "q", 5000)
    await copies.all_come()
    assert await alive.reclaim("dead", "q", [(SMALL, "s", 1, None)]) == (1, "")
    await copies.all_come()
    await alive.forget("dead", "q", strike=False)
    await copies.all_come()
    await Presence(dead, "dead", ["q"]).claim()
    await copies.execute("LMOVE", "queue:q", dead.in_progress("q"), "LEFT", "LEFT")
    await copies.execute("LMOVE", "queue:q", dead.in_progress("q"), "LEFT", "LEFT")
    await copies.all_come()
    assert {"reclaim", "reclaim huge", "forget"} <= copies.seen()


async def test_what_a_worker_takes_back_of_its_own_list_may_run_there_again(copies: Copies):
    owner = owner_of(copies)
    await Presence(owner, "w", ["q"]).claim()
    own = owner.in_progress("q")

    async def runs(payload: bytes) -> None:
        await copies.execute("LREM", "queue:q", 1, payload)
        await copies.execute("ZREM", "dead", payload)
        await copies.execute("LPUSH", own, payload)

    await runs(LARGE)
    assert await owner._reclaim_huge("w", "q", 5000)  # when it comes back under its process id
    await runs(SMALL)
    assert await owner.reclaim("w", "q", [(SMALL, "s", 0, None)]) == (1, "")
    await runs(SMALL)
    assert await owner.put_back("q", [SMALL]) == 1
    await runs(LARGE)
    owner.connection.link.pace.bytes = 5000
    await owner._put_aside("q", [])
    assert await copies.execute("ZCARD", "dead") == 1
    await runs(LARGE)
    await runs(SMALL)
    await copies.all_come()
    assert {*await copies.execute("LRANGE", own, 0, -1)} == {SMALL, LARGE}
    assert {"reclaim", "reclaim huge", "put back", "put aside"} <= copies.seen()
