"""Who takes a tick, and what is declared: on a real server and on the fake, the same."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio

from trioworkers import Job
from trioworkers.broker.contract import Due, Holder
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.fake_ticks import FakeEntry, spelled
from trioworkers.broker.holds.ticks import Declaration, DueEntry, Take, Taken
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, Link, connect
from trioworkers.broker.redis.scripts import ENDS, Script, _prelude
from trioworkers.errors import Refused, Superseded, Unavailable
from trioworkers.exits import on_exit
from trioworkers.send import Send
from trioworkers.wire.dialect import SIDEKIQ
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock
from trioworkers.wire.packing import pack, unpack
from trioworkers.wire.periodic import KEPT_RUNS, Run

KEYS = Keys()
NEVER = math.inf


@attrs.define
class Bench:
    """What a test looks at, on either broker."""

    broker: Any
    connection: Connection | None = None

    async def now(self) -> float:
        await trio.lowlevel.checkpoint()
        now_s: float = self.broker.clock.now_s()
        return now_s

    async def due(self, ticks: int = 10, *, look: bool = True) -> Due:
        found: Due = await self.broker.due(10, ticks, look=look)
        return found

    async def news_are_over(self) -> None:
        if self.connection is None:
            self.broker.ticks.news_until_s = 0.0
        else:
            assert await self.connection.call("t", lambda client: client.delete([KEYS.cron_news])) == 1

    async def declare(self, name: str = "q/A", definition: bytes = b"{}", next_s: float = 1.0, **options: Any) -> Any:
        timing = options.pop("timing", "1")
        sweep, since_s = options.pop("sweep", False), options.pop("since_s", None)
        declared = [Declaration(name, definition, timing, next_s)]
        return await self.broker.register_cron(
            options.pop("schedule", "one"), declared, await self.now() if since_s is None else since_s, sweep=sweep
        )

    async def take(self, entry: DueEntry, next_s: float = NEVER, *jobs: Job, **options: Any) -> Taken:
        sends = [Send(job) for job in jobs]
        runs = [Run(job.jid, float(entry.tick)) for job in jobs]
        [taken] = await self.broker.take_ticks([Take(entry, next_s, sends, runs, **options)])
        return taken

    async def queued(self) -> list[str]:
        if self.connection is None:
            found = list(self.broker.queues.get("q", []))
        else:
            found = list(await self.connection.call("t", lambda client: client.lrange("queue:q", 0, -1)))
        return [SIDEKIQ.decode(payload, "q").jid for payload in reversed(found)]

    async def runs(self, name: str = "q/A") -> dict[str, str]:
        if self.connection is None:
            return {jid: run.how for jid, run in self.broker.ticks.runs.get(name, {}).items()}
        found = await self.connection.call("t", lambda client: client.hgetall(KEYS.runs(name)))
        return {jid.decode(): unpack(packed)[2] for jid, packed in found.items()}

    async def score(self, name: str = "q/A") -> float | None:
        if self.connection is None:
            return self.broker.ticks.next.get(name.encode())
        return await self.connection.call("t", lambda client: client.zscore(KEYS.cron, name))

    async def unheard(self, schedule: str = "one", since_s: float = 601.0) -> None:
        at_s = await self.now() - since_s
        if self.connection is None:
            self.broker.ticks.declared[schedule] = at_s
        else:
            await self.connection.call("t", lambda client: client.hset(KEYS.cron_declared, {schedule: str(at_s)}))

    async def forge(self, name: bytes, score: float, definition: bytes | None) -> None:
        if self.connection is None:
            self.broker.ticks.next[name] = score
            if definition is not None:
                self.broker.ticks.entries[name] = FakeEntry(definition, "", 0.0, "dynamic")
            return
        await self.connection.call("t", lambda client: client.zadd(KEYS.cron, {name: score}))
        if definition is not None:
            key = b"tw:cron:" + name
            fields = {"definition": definition, "origin": "dynamic"}
            await self.connection.call("t", lambda client: client.hset(key, fields))


@pytest.fixture(params=["real", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield Bench(FakeBroker(["q"]))
        return
    url = request.getfixturevalue("redis_url")
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, KEYS, Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        yield Bench(broker, connection)


async def test_whoever_comes_first_has_the_tick_and_the_others_change_nothing(bench: Bench):
    await bench.declare(next_s=1.0)
    due = await bench.due()
    [entry] = due.entries
    assert (entry.name, float(entry.tick), entry.definition) == (b"q/A", 1.0, b"{}")
    following = math.floor(due.now_s) + 100
    assert (await bench.take(entry, following, Job("q", "A", jid="first"))).how == "taken"
    assert (await bench.take(entry, following, Job("q", "A", jid="second"))).how == "late"
    assert await bench.queued() == ["first"]
    assert await bench.runs() == {"first": "sent"}
    assert await bench.score() == following
    after = await bench.due()
    assert not after.entries
    assert after.next_in_s == pytest.approx(following - await bench.now(), abs=5)


async def test_tick_is_not_taken_before_its_time_by_a_worker_whose_clock_is_wrong(bench: Bench):
    await bench.declare(next_s=math.floor(await bench.now()) + 100)
    entry = DueEntry(b"q/A", spelled(math.floor(await bench.now()) + 100), b"{}")
    assert (await bench.take(entry, NEVER, Job("q", "A", jid="a"))).how == "early"
    assert await bench.queued() == []


async def test_who_works_with_another_definition_than_is_there_takes_nothing(bench: Bench):
    await bench.declare()
    [entry] = (await bench.due()).entries
    await bench.declare(definition=b'{"new":1}')
    assert (await bench.take(entry, NEVER, Job("q", "A", jid="a"))).how == "changed"
    assert await bench.queued() == []


async def test_next_tick_that_is_not_after_this_one_is_refused(bench: Bench):
    await bench.declare()
    [entry] = (await bench.due()).entries
    assert (await bench.take(entry, 1.0, Job("q", "A", jid="a"))).how == "error"
    assert await bench.queued() == []


async def test_one_that_cannot_be_sent_keeps_no_other_waiting(bench: Bench):
    await bench.declare("q/A")
    await bench.declare("q/B")
    a, b = (await bench.due()).entries
    bad, good = Send(Job("q", "", jid="bad")), Send(Job("q", "B", jid="good"))
    answers = await bench.broker.take_ticks([Take(a, NEVER, [bad]), Take(b, NEVER, [good])])
    assert [taken.how for taken in answers] == ["error", "taken"]
    assert await bench.queued() == ["good"]
    assert await bench.score("q/A") == 1.0


# ── two versions ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_of_two_versions_the_latest_start_has_its_way(bench: Bench):
    since_s = await bench.now() - 10
    old = await bench.declare(definition=b"old", timing="old", next_s=2e9, since_s=since_s)
    new = await bench.declare(definition=b"new", timing="new", next_s=2e9 + 1, schedule="two", since_s=since_s + 5)
    assert (old.changed, new.changed) == (["q/A"], ["q/A"])
    # Redis lost it, say; or it is a copy that is carried out late
    again = await bench.declare(definition=b"old", timing="old", next_s=2e9, since_s=since_s)
    assert again.changed == []
    assert await bench.score() == 2e9 + 1
    # Who has the same, and began earlier, makes nobody else's way in between the latest one's.
    assert (await bench.declare(definition=b"new", timing="new", schedule="two", since_s=since_s + 1)).changed == []
    between = await bench.declare(definition=b"old", timing="old", next_s=2e9, since_s=since_s + 3)
    assert between.changed == []
    rolled_back = await bench.declare(definition=b"old", timing="old", next_s=2e9)
    assert rolled_back.changed == ["q/A"]
    assert await bench.score() == 2e9


async def test_registration_that_is_carried_out_when_its_process_is_no_more_declares_nothing(redis_url: str):
    async with connect(redis_url, Link(redis_url)) as connection:
        dead, alive = (RedisBroker(connection, KEYS, Holder("w", lease, 30_000)) for lease in ("last life", "lease"))
        for _ in range(2):
            with pytest.raises(Unavailable, match="lease is gone"):
                await Bench(dead, connection).declare()
            await Presence(alive, "w", ["q"]).claim()
            with pytest.raises(Superseded):
                await Bench(dead, connection).declare()
            assert not await connection.call("t", lambda client: client.exists([KEYS.cron, KEYS.cron_declared]))
            await connection.call("t", lambda client: client.delete([KEYS.lease("w")]))


async def test_second_worker_of_one_version_and_one_that_changed_only_the_job_leave_the_next_tick(bench: Bench):
    await bench.declare(next_s=2e9)
    assert (await bench.declare(next_s=2e9 + 5)).changed == []
    assert (await bench.declare(definition=b"other job", next_s=2e9 + 5)).changed == ["q/A"]
    assert await bench.score() == 2e9


async def test_entry_of_code_leaves_when_nobody_declares_it_and_a_dynamic_one_stays(bench: Bench):
    await bench.declare()
    await bench.forge(b"dynamic", 1.0, b"{}")
    await bench.unheard(since_s=590)
    assert (await bench.declare("q/B", next_s=2e9, schedule="two", sweep=True)).left == []
    await bench.unheard()
    assert (await bench.declare("q/B", next_s=2e9, schedule="two", sweep=True)).left == ["q/A"]
    assert (await bench.score(), await bench.score("dynamic")) == (None, 1.0)


async def test_what_nobody_declares_any_more_is_not_sent_either(bench: Bench):
    await bench.declare()
    await bench.unheard()
    [entry] = (await bench.due()).entries
    assert (await bench.take(entry, NEVER, Job("q", "A", jid="a"))).how == "forgotten"
    assert await bench.queued() == []
    assert await bench.score() is None


# ── history ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_history_has_the_last_runs_and_how_each_ended(bench: Bench):
    for number in range(1, KEPT_RUNS + 4):
        await bench.declare(definition=b"%d" % number, timing=str(number), next_s=float(number))
        [entry] = (await bench.due()).entries
        extra = {"tw_tick": f"{number} UTC q/A"}
        await bench.take(entry, NEVER, Job("q", "A", jid=f"j{number}", extra=extra))
    runs = await bench.runs()
    assert runs.keys() == {f"j{number}" for number in range(4, KEPT_RUNS + 4)}
    effects = [
        *on_exit(b'{"jid":"j9","tw_tick":"9 UTC q/A"}', "dead"),
        *on_exit(b'{"jid":"j1","tw_tick":"1 UTC q/A"}', "dead"),
    ]
    await apply(bench, effects)
    runs = await bench.runs()
    assert (runs["j9"], runs["j10"], "j1" in runs) == ("dead", "sent", False)


async def test_of_several_runs_in_one_step_the_history_says_which_replaced_which(bench: Bench):
    await bench.declare()
    [entry] = (await bench.due()).entries
    jobs = [Job("q", "A", jid=jid, lock=Lock("k", "done", "latest"), extra={"tw_tick": "1 UTC q/A"}) for jid in "abc"]
    assert (await bench.take(entry, NEVER, *jobs)).how == "taken"
    assert await bench.runs() == {"a": "sent", "b": "replaced", "c": "sent"}


async def apply(bench: Bench, effects: Any) -> None:
    if bench.connection is None:
        bench.broker.held.apply(effects)
    else:
        await bench.connection.run(APPLY, [], ["tw:", pack(effects)])


APPLY = Script(
    "apply",
    [*map(_prelude, ENDS), b"apply(ARGV[1], cmsgpack.unpack(ARGV[2])) return 1"],
    args=("own", "effects"),
)


async def test_overlapping_run_is_skipped_or_waits_for_the_end_of_the_one_before(bench: Bench):
    for number, (policy, how) in enumerate((("skip", "skipped"), ("latest", "sent")), 1):
        lock = Lock(f"lock{number}", "done", policy)
        for jid in (f"first{number}", f"second{number}"):
            await bench.declare(definition=jid.encode(), timing=jid, next_s=1.0)
            [entry] = (await bench.due()).entries
            job = Job("q", "A", jid=jid, lock=lock, extra={"tw_tick": "1 UTC q/A"})
            taken = await bench.take(entry, NEVER, job, skips=policy == "skip")
            assert taken.how == "taken"
        assert (await bench.runs())[f"second{number}"] == how
    assert await bench.queued() == ["first1", "first2"]
    for number in (1, 2):
        await apply(bench, [("unlock", f"lock{number}", f"first{number}")])
    assert await bench.queued() == ["first1", "first2", "second2"]


# ── what strangers write ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_broken_entry_is_put_aside_and_one_of_which_nothing_is_known_goes(bench: Bench):
    await bench.forge(b"nothing", -math.inf, None)
    await bench.forge(b"\xff\xfe", 0.5, b"junk")
    await bench.declare()
    due = await bench.due()
    assert {entry.name for entry in due.entries} == {b"nothing", b"\xff\xfe", b"q/A"}
    takes = [Take(entry, broken="why") for entry in due.entries if entry.name != b"q/A"]
    assert [taken.how for taken in await bench.broker.take_ticks(takes)] == ["taken", "taken"]
    again = await bench.due()
    assert [entry.name for entry in again.entries] == [b"q/A"]
    assert again.next_in_s is None


async def test_page_of_due_entries_is_followed_by_the_next_at_once(bench: Bench):
    for number in range(5):
        await bench.declare(f"q/{number}")
    due = await bench.due(ticks=3)
    assert (len(due.entries), due.next_in_s) == (3, 0.0)
    assert (await bench.due(ticks=0)).entries in ((), [])


async def test_who_knows_the_next_tick_is_told_only_of_one_that_is_sooner(bench: Bench):
    """Else entries that aren't due would cost each look of an idle worker a command."""
    assert (await bench.due()).tick_in_s == NEVER
    assert (await bench.due(look=False)).tick_in_s is None
    await bench.declare(next_s=2e9)
    news = await bench.due(look=False)
    assert news.tick_in_s == pytest.approx(2e9 - await bench.now(), abs=5)
    assert news.next_in_s == news.tick_in_s
    await bench.news_are_over()
    known = await bench.due(look=False)
    assert (known.tick_in_s, known.next_in_s, known.entries) == (None, None, [])
    await bench.declare(next_s=2e9 + 5)
    await bench.broker.send([Send(Job("q", "A"), 2.1e9)])
    assert (await bench.due(look=False)).tick_in_s is None  # a second worker's start is no news
    await bench.declare(next_s=1.0, timing="2")
    [entry] = (await bench.due(look=False)).entries
    assert entry.name == b"q/A"


@pytest.mark.parametrize("key", ["tw:cron", "tw:cron:q/A", "tw:runs:q/A", "tw:cron_declared", "tw:unique"])
@pytest.mark.parametrize("first", [True, False])
async def test_keys_of_the_wrong_type_are_overcome_or_told(redis_url: str, key: str, first: bool):
    async with connect(redis_url, Link(redis_url)) as connection:
        bench = Bench(RedisBroker(connection, KEYS, Holder("w", "lease", 30_000)), connection)
        await Presence(bench.broker, "w", ["q"]).claim()
        if not first:
            await bench.declare()
            await connection.call("t", lambda client: client.delete([key]))
        await connection.call("t", lambda client: client.set(key, "junk"))
        with trio.fail_after(60):
            with suppress(Refused):
                await bench.declare()
            due = await bench.due()
            for entry in due.entries:
                taken = await bench.take(entry, NEVER, Job("q", "A", jid="a"))
                assert taken.how == "taken" or "wrong kind" in taken.problem
                assert len(await bench.queued()) == (taken.how == "taken")
