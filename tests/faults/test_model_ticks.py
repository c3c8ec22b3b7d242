"""Ticks against what must always be true of them: random moves, lost replies, late copies, two versions, dead workers, operators; looked at after each.

Each tick of an entry is sent once and none is left out, also over a pause; its run is in the history, which says of the newest twenty how each ended.
An entry is as the process has it that began last. Of one whose runs may not overlap no two wait or run at once.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from typing import Any

import attrs
import msgpack
import pytest
from anyio.from_thread import start_blocking_portal

from trioworkers import Job
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.cron_entries import Edit
from trioworkers.broker.holds.ticks import Declaration, DueEntry, Take, edit, packed_take
from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, OperatorActions
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.departures import Held, on_outcome
from trioworkers.errors import Superseded, Unavailable
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry
from trioworkers.send import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock
from trioworkers.wire.periodic import KEPT_RUNS, Run
from trioworkers.wire.places import Location

WORKERS = ("w0", "w1", "w2")
CODE = {"q/A": "", "q/B": "skip", "q/C": "latest"}
DYNAMIC = {"d": "", "e": "latest"}
POLICIES = {**CODE, **DYNAMIC}
VERSIONS = {"one": ("q/A", "q/B", "q/C"), "two": ("q/A", "q/C"), "three": ("q/A", "q/B")}
"""By schedule the entries that a version of the code declares; each has its own definition of q/A."""
HOW = {Acknowledge: "succeeded", Bury: "dead", Discard: "discarded", Expire: "expired"}


@attrs.define
class Known:
    """What an entry must be. `next`: its next tick, also while it is paused; ticks are 1, 2, 3, …, all of them long past."""

    definition: bytes
    since_s: float
    origin: str
    next: int
    paused: bool = False


class Ticks:
    """`sent`: by entry all ticks that were asked for since it is there; `ended`: by jid how; `runs`: by entry its jids, in order."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("trio"))
        context = connect(url, Link(url))
        self.connection: Connection = self.stack.enter_context(self.portal.wrap_async_context_manager(context))
        self.redis(lambda client: client.flushall())
        self.keys = Keys()
        self.actions = OperatorActions(self.connection, self.keys)
        self.lives = dict.fromkeys(WORKERS, 0)
        self.clock_s = 1000.0
        self.brokers: dict[str, RedisBroker] = {}
        self.code: dict[str, tuple[str, float]] = {}
        """By worker the version that it runs, and when it began."""
        self.running: dict[str, dict[str, bytes]] = {}
        self.groups = dict.fromkeys(WORKERS, 0)
        self.known: dict[str, Known] = {}
        self.runs: dict[str, list[str]] = {}
        self.ended: dict[str, str] = {}
        self.late_takes: list[Take] = []
        self.late_registrations: list[tuple[RedisBroker, str, float]] = []
        self.count = 0
        for name in WORKERS:
            self.start(name)

    def do(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(function)

    def redis(self, command: Callable[[Any], Any]) -> Any:
        async def call() -> Any:
            return await self.connection.call("test", command)

        return self.do(call)

    def start(self, name: str) -> None:
        """A life begins: with one of the versions, some time after all others."""
        self.lives[name] += 1
        holder = Holder(name, f"{name} {self.lives[name]}", 600_000)
        self.brokers[name] = RedisBroker(self.connection, self.keys, holder)
        self.do(Presence(self.brokers[name], name, ["q"]).claim)
        self.clock_s += 10
        self.code[name] = self.chance.choice([*VERSIONS]), self.clock_s
        self.running[name], self.groups[name] = {}, 0
        self.register(name)

    def step(self) -> None:
        moves = {
            self.take: 14,
            self.two_take_the_same: 4,
            self.late_copies_come: 5,
            self.register: 3,
            self.dies_and_another_version_starts: 3,
            self.nobody_declares: 1,
            self.put: 2,
            self.delete: 1,
            self.pause: 2,
            self.resume: 4,
            self.run_now: 2,
            self.fetch: 10,
            self.settle: 14,
            self.promote: 3,
            self.operator_deletes: 1,
            self.operator_purges: 1,
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        name = self.chance.choice(WORKERS)
        move(name)

    # ── declare ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def definition(self, name: str, version: str) -> bytes:
        return f"{name} of {version if name == 'q/A' else 'all'}".encode()

    def register(self, name: str) -> None:
        """Perhaps twice, as after a lost reply."""
        version, since_s = self.code[name]
        for _ in range(self.chance.choice([1, 1, 2])):
            self.do(self.registering(self.brokers[name], version, since_s))
        self.late_registrations.append((self.brokers[name], version, since_s))
        for entry in VERSIONS[version]:
            definition, known = self.definition(entry, version), self.known.get(entry)
            if known is None:
                self.known[entry] = Known(definition, since_s, "code", 1)
            elif known.definition == definition or since_s > known.since_s:
                known.definition, known.since_s = definition, max(since_s, known.since_s)

    def registering(
        self, broker: RedisBroker, version: str, since_s: float, *, sweep: bool = False
    ) -> Callable[[], Coroutine[Any, Any, Any]]:
        declared = [Declaration(entry, self.definition(entry, version), "timing", 1.0) for entry in VERSIONS[version]]
        return lambda: broker.register_cron(version, declared, since_s, sweep=sweep)

    def dies_and_another_version_starts(self, name: str) -> None:
        self.redis(lambda client: client.delete([self.keys.lease(name)]))
        other = next(each for each in WORKERS if each != name)
        found = self.do(lambda: self.brokers[other].peek(name, "q", 100))
        entries = [(payload, json.loads(payload)["jid"], 1, None) for payload in found]
        self.do(lambda: self.brokers[other].reclaim(name, "q", entries))
        self.start(name)

    def nobody_declares(self, name: str) -> None:
        """For so long that what no other version declares leaves: with the next registration, or its next tick."""
        version, since_s = self.code[name]
        declared = self.redis(lambda client: client.hgetall(self.keys.cron_declared))
        others = {schedule: b"1" for schedule in declared if schedule.decode() != version}
        if others:
            self.redis(lambda client: client.hset(self.keys.cron_declared, others))
        gone = [e for e, known in self.known.items() if known.origin == "code" and e not in VERSIONS[version]]
        if self.chance.random() < 0.5 or any(self.known[entry].paused for entry in gone):
            left = self.do(self.registering(self.brokers[name], version, since_s, sweep=True)).left
            assert set(left) == set(gone)
            self.register(name)
        else:
            for take in [take for entry in gone if (take := self.taking(entry)) is not None]:
                assert self.do(lambda take=take: self.brokers[name].take_ticks([take]))[0].how == "forgotten"
        for entry in gone:
            self.forget(entry)
        for each in WORKERS:  # all that live are heard of again
            self.register(each)

    def forget(self, entry: str) -> None:
        del self.known[entry]
        # It may come again as it was, which in earnest can't be: ticks are moments.
        self.late_takes = [take for take in self.late_takes if take.entry.name != entry.encode()]
        for jid in self.runs.pop(entry, []):
            if self.ended.setdefault(jid, "unknown") == "sent":
                self.ended[jid] = "unknown"

    # ── ticks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def job(self, entry: str, tick: int, jid: str) -> Job:
        policy = POLICIES[entry]
        lock = Lock(f"lock-{entry.replace('/', '-')}", "done", policy) if policy else None  # type: ignore[arg-type]
        return Job("q", "A", jid=jid, lock=lock, extra={"tw_tick": f"{tick} UTC {entry}"})

    def taking(self, entry: str) -> Take | None:
        """What a worker asks for that sees the entry now: one tick or several, of which some were missed."""
        known = self.known[entry]
        if known.paused:
            return None
        ticks = range(known.next, known.next + self.chance.choice([1, 1, 1, 2, 5]))
        pushed = ticks[self.chance.choice([0, 0, 0, 1]) :]
        self.count += 1
        sends = [Send(self.job(entry, tick, f"{entry}-{tick}-{self.count}")) for tick in pushed]
        runs = [Run(send.job.jid, tick) for send, tick in zip(sends, pushed, strict=True)]
        runs += [Run(f"{entry}-{tick}-{self.count}", tick, how="missed") for tick in ticks[: len(ticks) - len(pushed)]]
        due = DueEntry(entry.encode(), str(known.next).encode(), known.definition)
        return Take(due, float(ticks[-1] + 1), sends, runs, skips=POLICIES[entry] == "skip")

    def took(self, take: Take, skipped: dict[int, str]) -> None:
        entry = take.entry.name.decode()
        self.known[entry].next = int(take.next_s)
        self.runs.setdefault(entry, []).extend(run.jid for run in take.runs)
        for number, run in enumerate(take.runs):
            self.ended[run.jid] = "skipped" if take.skips and number in skipped else run.how
        if POLICIES[entry] == "latest":  # what waited in `next` is replaced by each that comes after it
            self.look_who_was_replaced()

    def look_who_was_replaced(self) -> None:
        there = self.places()
        for jid, how in self.ended.items():
            if how == "sent" and jid not in there:
                assert POLICIES[jid.rpartition("-")[0].rpartition("-")[0]] == "latest", jid
                self.ended[jid] = "replaced"

    def take(self, name: str) -> None:
        """All that is due, as a look brings it; with the reply lost, it is asked for again."""
        due = self.do(lambda: self.brokers[name].due(10, 50))
        wanted = {entry for entry, known in self.known.items() if not known.paused}
        assert {entry.name.decode() for entry in due.entries} == wanted
        assert all(self.known[entry.name.decode()].definition == entry.definition for entry in due.entries)
        takes = [take for entry in sorted(wanted) if (take := self.taking(entry)) is not None]
        takes = self.chance.sample(takes, self.chance.randint(0, len(takes)))
        if not takes:
            return
        answers = self.do(lambda: self.brokers[name].take_ticks(takes))
        if self.chance.random() < 0.3:
            again = self.do(lambda: self.brokers[name].take_ticks(takes))
            assert {taken.how for taken in again} == {"late"}
        for take, taken in zip(takes, answers, strict=True):
            assert taken.how == "taken", taken
            self.took(take, taken.skipped)
        self.late_takes += takes

    def two_take_the_same(self, name: str) -> None:
        """Who comes second, with other jids and perhaps with fewer ticks, finds it done."""
        entries = [entry for entry, known in self.known.items() if not known.paused]
        if not entries:
            return
        entry = self.chance.choice(sorted(entries))
        first, second = self.taking(entry), self.taking(entry)
        other = next(each for each in WORKERS if each != name)
        assert first is not None
        assert second is not None
        [taken] = self.do(lambda: self.brokers[name].take_ticks([first]))
        assert taken.how == "taken"
        assert self.do(lambda: self.brokers[other].take_ticks([second]))[0].how == "late"
        self.took(first, taken.skipped)

    def late_copies_come(self, name: str) -> None:
        """A connection broke, and Redis still reads what was sent over it; or a worker was frozen meanwhile."""
        if self.late_takes:
            take = self.chance.choice(self.late_takes)
            [taken] = self.do(lambda: self.brokers[name].take_ticks([take]))
            assert taken.how in ("late", "changed"), taken
        broker, version, since_s = self.chance.choice(self.late_registrations)
        with suppress(Superseded, Unavailable):  # of a life that is over
            self.do(self.registering(broker, version, since_s))
            assert broker in self.brokers.values()
            assert (version, since_s) in self.code.values()
            self.register(
                next(each for each in WORKERS if self.brokers[each] is broker)
            )  # it may have brought back what had left

    # ── what people want ───────────────────────────────────────────────────────────────────────────────────────────────

    def edit(self, entry: str, action: Any, **options: Any) -> str:
        answer: str = self.do(lambda: edit(self.connection, Edit(self.keys, entry, action, **options)))
        return answer

    def put(self, name: str) -> None:
        del name
        entry, text = self.chance.choice([*DYNAMIC, "q/A"]), b"dynamic %d" % self.chance.randrange(3)
        known = self.known.get(entry)
        if known is not None and known.origin == "code":
            assert self.edit(entry, "put", definition=text, timing="timing", next_s=1.0) == "CODE"
        elif entry in DYNAMIC:
            assert self.edit(entry, "put", definition=text, timing="timing", next_s=1.0) == "OK"
            if known is None:
                self.known[entry] = Known(text, 0.0, "dynamic", 1)
            known = self.known[entry]
            known.definition = text

    def delete(self, name: str) -> None:
        del name
        entry = self.chance.choice(sorted(POLICIES))
        known = self.known.get(entry)
        wanted = "NONE" if known is None else "CODE" if known.origin == "code" else "OK"
        assert self.edit(entry, "delete") == wanted
        if wanted == "OK":
            self.forget(entry)

    def pause(self, name: str) -> None:
        del name
        if self.known:
            entry = self.chance.choice(sorted(self.known))
            assert self.edit(entry, "pause") == "OK"
            self.known[entry].paused = True

    def resume(self, name: str) -> None:
        del name
        paused = sorted(entry for entry, known in self.known.items() if known.paused)
        if paused:
            known = self.known[entry := self.chance.choice(paused)]
            assert self.edit(entry, "resume", definition=b"another", next_s=float(known.next)) == "CHANGED"
            assert self.edit(entry, "resume", definition=known.definition, next_s=float(known.next)) == "OK"
            known.paused = False

    def run_now(self, name: str) -> None:
        del name
        if not self.known:
            return
        known = self.known[entry := self.chance.choice(sorted(self.known))]
        self.count += 1
        jid, tick = f"{entry}-{known.next}-{self.count}", known.next
        take = Take(DueEntry(entry.encode(), b"", known.definition), sends=[Send(self.job(entry, tick, jid))])
        *_, push, later, locked, _ = packed_take(take, self.keys, SizeGuard(), 0.0)
        answer = self.edit(
            entry,
            "run",
            definition=known.definition,
            work=(push, later, locked, jid, tick, int(POLICIES[entry] == "skip")),
        )
        self.runs.setdefault(entry, []).append(jid)
        self.ended[jid] = "sent"
        if answer != "OK" and POLICIES[entry] == "skip":
            self.ended[jid] = "skipped"
        self.look_who_was_replaced()

    # ── how runs end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, name: str) -> None:
        intake = RedisIntake(self.brokers[name], self.connection, "q", 1.0)
        payloads = self.do(lambda: intake.fetch(self.chance.randint(1, 4))).payloads
        self.running[name].update((json.loads(payload)["jid"], payload) for payload in payloads)

    def settle(self, name: str) -> None:
        if not self.running[name]:
            return
        jid = self.chance.choice(sorted(self.running[name]))
        payload = self.running[name].pop(jid)
        outcomes: list[Outcome] = [Acknowledge(), Bury(payload), Discard(), Expire(), Requeue(), Retry(payload, -1.0)]
        outcome, fields = self.chance.choice(outcomes), json.loads(payload)
        entry = fields["tw_tick"].split(" ", 2)[2]
        held = Held(jid, lock=fields.get("tw_lock", ""), entry=entry)
        self.groups[name] += 1
        group = [Settlement("q", payload, outcome, on_outcome(outcome, held))]
        for _ in range(self.chance.choice([1, 1, 2])):
            self.do(lambda: self.brokers[name].settle(self.groups[name], group))
        if type(outcome) in HOW:
            self.end(jid, HOW[type(outcome)])

    def end(self, jid: str, how: str) -> None:
        if self.ended[jid] != "unknown":  # its entry has left meanwhile
            self.ended[jid] = how

    def promote(self, name: str) -> None:
        entries = [(payload, "q", payload) for payload in self.members(self.keys.retry)]
        if entries:
            self.do(lambda: self.brokers[name].promote("retry", entries))

    def operator_deletes(self, name: str) -> None:
        del name
        location = Location(place := self.chance.choice(["retry", "next"]))
        found = self.members(location.key(self.keys))
        if found:
            entry = Entry(place, self.chance.choice(found), score=1.0)
            assert self.do(lambda: self.actions.move(location, entry, Delete())).moved == 1
            self.end(json.loads(entry.payload)["jid"], "deleted")

    def operator_purges(self, name: str) -> None:
        del name
        jids = [json.loads(payload)["jid"] for payload in self.strings("queue:q")]
        self.do(lambda: self.actions.purge("q"))
        for jid in jids:
            self.end(jid, "purged")

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────────

    def strings(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.lrange(key, 0, -1)))

    def members(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.zrange(key, 0, -1)))

    def live(self) -> list[bytes]:
        lists = ["queue:q", *(self.keys.in_progress("q", name) for name in WORKERS)]
        return [*(payload for key in lists for payload in self.strings(key)), *self.members(self.keys.retry)]

    def places(self) -> Counter[str]:
        payloads = [*self.live(), *self.members(self.keys.next)]
        return Counter(json.loads(payload)["jid"] for payload in payloads)

    def check(self) -> None:
        self.entries_are_as_they_must_be()
        self.each_run_is_in_one_place_or_has_ended()
        self.history_says_of_the_last_runs_how_they_ended()
        locks = Counter(lock for payload in self.live() if (lock := json.loads(payload).get("tw_lock")))
        assert set(locks.values()) <= {1}
        assert locks.keys() == {key.decode() for key in self.redis(lambda client: client.hkeys(self.keys.unique))}

    def entries_are_as_they_must_be(self) -> None:
        scores = dict(self.redis(lambda client: client.zrange(self.keys.cron, 0, -1, withscores=True)))
        wanted = {entry.encode(): math.inf if known.paused else known.next for entry, known in self.known.items()}
        assert scores == wanted
        hashes = self.redis(lambda client: client.keys("tw:cron:*"))
        assert {key.decode().removeprefix("tw:cron:") for key in hashes} == self.known.keys()
        for entry, known in self.known.items():
            fields = self.redis(lambda client, entry=entry: client.hgetall(self.keys.cron_entry(entry)))
            found = fields[b"definition"], fields[b"origin"].decode(), b"paused" in fields
            assert found == (known.definition, known.origin, known.paused)

    def each_run_is_in_one_place_or_has_ended(self) -> None:
        places = self.places()
        assert set(places.values()) <= {1}
        assert {jid for jid, how in self.ended.items() if how == "sent"} == {
            jid for jid in places if self.ended[jid] != "unknown"
        }

    def history_says_of_the_last_runs_how_they_ended(self) -> None:
        histories = self.redis(lambda client: client.keys("tw:runs:*"))
        assert {key.decode().removeprefix("tw:runs:") for key in histories} == {
            e for e, runs in self.runs.items() if runs
        }
        for entry, runs in self.runs.items():
            found = self.redis(lambda client, entry=entry: client.hgetall(self.keys.runs(entry)))
            told = {jid.decode(): msgpack.unpackb(packed)[2] for jid, packed in found.items()}
            assert told == {jid: self.ended[jid] for jid in runs[-KEPT_RUNS:]}


SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("EXAMPLES", "4")))


@pytest.mark.parametrize("seed", SEEDS)
def test_ticks_are_always_right(redis_url: str, seed: int):
    machine = Ticks(redis_url, seed)
    with machine.stack:
        for _ in range(150):
            machine.step()
            machine.check()
