"""Locks against what must always be true of them: random moves, lost replies, late copies, dead workers, operators, replays; looked at after each.

Of each key one job waits or runs, and it has the lock; nobody else has one. What is to take a lock over lies in `next`, one for each. Each job is in
one place or has ended, and every end is told.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
from anyio.from_thread import start_blocking_portal

from trioworkers import Job
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.locks import Claim
from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, OperatorActions, Push, ToDead
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.departures import Held, on_outcome
from trioworkers.errors import BrokerError
from trioworkers.exits import on_exit
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.encode import amend
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock
from trioworkers.wire.places import Location

WORKERS = ("w0", "w1", "w2")
KEEP_S = 3600
POLICIES = ("skip", "replace", "latest", "latest")
KEYS = 3


class Locks:
    """`running`: what each worker knows that it runs."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("trio"))
        context = connect(url, Link(url))
        self.connection: Connection = self.stack.enter_context(self.portal.wrap_async_context_manager(context))
        self.redis(lambda client: client.flushall())
        self.keys, self.count = Keys(), 0
        self.lives = dict.fromkeys(WORKERS, 0)
        self.brokers: dict[str, RedisBroker] = {}
        self.running: dict[str, dict[str, bytes]] = {}
        self.claims: dict[str, tuple[int, list[Claim]]] = {}
        self.groups: dict[str, tuple[int, list[Settlement]]] = {}
        self.jids: set[str] = set()
        self.actions = OperatorActions(self.connection, self.keys)
        for name in WORKERS:
            self.start(name)

    def do(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(function)

    def redis(self, command: Callable[[Any], Any]) -> Any:
        async def call() -> Any:
            return await self.connection.call("test", command)

        return self.do(call)

    def start(self, name: str) -> None:
        self.lives[name] += 1
        holder = Holder(name, f"{name} {self.lives[name]}", 600_000)
        self.brokers[name] = RedisBroker(self.connection, self.keys, holder)
        self.do(Presence(self.brokers[name], name, ["q"]).claim)
        self.running[name], self.claims[name], self.groups[name] = {}, (0, []), (0, [])

    def step(self) -> None:
        moves = {
            self.send: 8,
            self.send_from_inside: 3,
            self.fetch_and_claim: 12,
            self.settle: 14,
            self.late_copies_come: 2,
            self.promote: 4,
            self.put_back_strays: 2,
            self.release: 1,
            self.dies_and_is_reclaimed: 2,
            self.operator_deletes: 2,
            self.operator_replays: 2,
            self.operator_purges: 1,
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        move(self.chance.choice(WORKERS))

    # ── the moves ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def jobs(self, number: int) -> list[Job]:
        made = []
        for _ in range(number):
            lock = Lock(f"A:{self.chance.randrange(KEYS)}", on_conflict=self.chance.choice(POLICIES))  # type: ignore[arg-type]
            made.append(Job("q", "A", jid=f"j{self.count}.", keep_result=KEEP_S, lock=lock))
            self.count += 1
        return made

    def send(self, name: str) -> None:
        jobs = self.jobs(self.chance.randint(1, 3))
        delay_s = self.chance.choice([None, None, -1.0, 600.0])
        met = self.do(lambda: self.brokers[name].send([Send(job, delay_s) for job in jobs]))
        for number, job in enumerate(jobs):
            if number not in met or job.lock.on_conflict != "skip":  # type: ignore[union-attr]
                self.jids.add(job.jid)

    def send_from_inside(self, name: str) -> None:
        """With the end of a job: who was there isn't told, so what is to be found is asked of Redis."""
        if self.running[name]:
            jid = self.chance.choice(sorted(self.running[name]))
            jobs = self.jobs(2)
            self.settle_one(name, jid, Acknowledge(tuple(Send(job) for job in jobs), value=b"1"))
            there = self.places()
            self.jids |= {job.jid for job in jobs if job.jid in there or self.how(job.jid) is not None}

    def fetch_and_claim(self, name: str) -> None:
        broker, lost = self.brokers[name], self.chance.choice([0, 0, 0, 0, 1, 2, 3])
        intake = RedisIntake(broker, self.connection, "q", 1.0)
        payloads = self.do(lambda: intake.fetch(self.chance.randint(1, 4))).payloads
        if lost == 3:
            return
        while payloads:
            number = self.claims[name][0] + 1
            batch = [self.claim(payload) for payload in payloads]
            self.claims[name] = number, batch
            answers = [self.do(lambda n=number, b=batch: broker.claim("q", n, b)) for _ in range(1 + (lost == 1))]
            assert answers[0] == answers[-1]
            if lost == 2:
                return
            payloads = []
            for claim, answer in zip(batch, answers[0], strict=True):
                if answer.how == "start":
                    self.running[name][claim.jid] = claim.payload
                elif answer.how == "swapped":
                    payloads.append(answer.payload)
                elif answer.how == "other":
                    self.running[name][claim.jid] = claim.payload
                    self.settle_one(name, claim.jid, Bury(claim.payload))

    def claim(self, payload: bytes) -> Claim:
        fields = json.loads(payload)
        return Claim(payload, fields["jid"], fields["tw_lock"], "held", None, on_exit(payload, "replaced"))

    def settle(self, name: str) -> None:
        if self.running[name]:
            jid = self.chance.choice(sorted(self.running[name]))
            payload = self.running[name][jid]
            outcomes: list[Outcome] = [Acknowledge(value=b"1"), Bury(payload), Discard(), Expire(), Requeue()]
            outcomes += [Retry(payload, -1.0), Snooze(payload, -1.0)]
            self.settle_one(name, jid, self.chance.choice(outcomes))

    def settle_one(self, name: str, jid: str, outcome: Outcome) -> None:
        payload = self.running[name].pop(jid)
        effects = on_outcome(outcome, Held(jid, None, KEEP_S, json.loads(payload)["tw_lock"]))
        number, group = self.groups[name][0] + 1, [Settlement("q", payload, outcome, effects)]
        self.groups[name] = number, group
        for _ in range(self.chance.choice([1, 1, 2])):
            self.do(lambda: self.brokers[name].settle(number, group))

    def late_copies_come(self, name: str) -> None:
        broker = self.brokers[name]
        for number, call in (
            (self.groups[name][0] - 1, lambda n: broker.settle(n, self.groups[name][1])),
            (self.claims[name][0] - 1, lambda n: broker.claim("q", n, self.claims[name][1])),
        ):
            if number > 0:
                with pytest.raises(BrokerError):
                    self.do(lambda call=call, number=number: call(number))

    def promote(self, name: str) -> None:
        for place in ("retry", "schedule"):
            entries = [(payload, "q", payload) for payload in self.members(getattr(self.keys, place))]
            if entries:
                self.do(lambda e=entries, p=place: self.brokers[name].promote(p, e))

    def put_back_strays(self, name: str) -> None:
        known = Counter(self.running[name].values())
        strays = Counter(self.strings(self.keys.in_progress("q", name))) - known
        self.do(lambda: self.brokers[name].put_back("q", list(strays.elements())))

    def release(self, name: str) -> None:
        self.do(lambda: self.brokers[name].release("q", limit=2))
        self.running[name] = {}

    def dies_and_is_reclaimed(self, name: str) -> None:
        self.redis(lambda client: client.delete([self.keys.lease(name)]))
        other = next(each for each in WORKERS if each != name)
        found, bury = self.do(lambda: self.brokers[other].peek(name, "q", 3)), self.chance.random() < 0.2
        entries = [(payload, json.loads(payload)["jid"], 1, payload if bury else None) for payload in found]
        self.do(lambda: self.brokers[other].reclaim(name, "q", entries))
        self.start(name)

    def one_of(self, place: str) -> tuple[Location, Entry] | None:
        location = Location(place)
        found = self.members(location.key(self.keys))
        return (location, Entry(place, self.chance.choice(found), score=1.0)) if found else None

    def operator_deletes(self, name: str) -> None:
        del name
        found = self.one_of(self.chance.choice(["retry", "scheduled", "next"]))
        if found:
            act = self.chance.choice([Delete(), ToDead()])
            assert self.do(lambda: self.actions.move(*found, act)).moved == 1

    def operator_replays(self, name: str) -> None:
        """As Ruby does, too: the job names a lock that it hasn't any more."""
        del name
        found = self.one_of("dead")
        if found:
            again = amend(found[1].payload, {"retry_count": 0})
            self.do(lambda: self.actions.move(*found, Push("q", again)))

    def operator_purges(self, name: str) -> None:
        del name
        self.do(lambda: self.actions.purge("q"))

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────────

    def strings(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.lrange(key, 0, -1)))

    def members(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.zrange(key, 0, -1)))

    def payloads(self) -> dict[str, list[bytes]]:
        lists = ["queue:q", *(self.keys.in_progress("q", name) for name in WORKERS)]
        sets = (self.keys.retry, self.keys.schedule, self.keys.dead, self.keys.next)
        return {**{key: self.strings(key) for key in lists}, **{key: self.members(key) for key in sets}}

    def places(self) -> Counter[str]:
        return Counter(json.loads(payload)["jid"] for found in self.payloads().values() for payload in found)

    def how(self, jid: str) -> str | None:
        text = self.redis(lambda client: client.get(self.keys.result(jid)))
        return None if text is None else json.loads(text)["how"]

    def check(self) -> None:
        found = self.payloads()
        places = Counter(json.loads(payload)["jid"] for payloads in found.values() for payload in payloads)
        assert set(places.values()) <= {1}
        assert places.keys() <= self.jids
        for jid in self.jids - places.keys():
            assert self.how(jid) is not None, f"{jid} is nowhere, and nobody says how it ended"
        locks = {
            key.decode(): msgpack.unpackb(packed)
            for key, packed in self.redis(lambda client: client.hgetall(self.keys.unique)).items()
        }
        holders = {lock[0] for lock in locks.values()}
        live: dict[str, set[str]] = {}
        for key, payloads in found.items():
            if key not in (self.keys.dead, self.keys.next):
                for payload in payloads:
                    fields = json.loads(payload)
                    if "retry_count" not in fields or fields["jid"] in holders:  # else replayed, and not yet fetched
                        live.setdefault(fields["tw_lock"], set()).add(fields["jid"])
        assert {key: {lock[0]} for key, lock in locks.items()} == live
        waiting = Counter(json.loads(payload)["tw_lock"] for payload in found[self.keys.next])
        assert set(waiting.values()) <= {1}
        assert waiting.keys() <= locks.keys()

    def end(self) -> None:
        """All that is left runs, and nothing is held any more."""
        for name in WORKERS:
            self.release(name)
        for _ in range(500):
            due = dict.fromkeys(self.members(self.keys.schedule), 0.0)
            if due:
                self.redis(lambda client, due=due: client.zadd(self.keys.schedule, due))
            self.put_back_strays("w0")
            self.promote("w0")
            self.fetch_and_claim("w0")
            for jid in list(self.running["w0"]):
                self.settle_one("w0", jid, Acknowledge(value=b"1"))
            if not any(found for key, found in self.payloads().items() if key != self.keys.dead):
                break
        else:
            raise AssertionError("something never ends")


SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("EXAMPLES", "6")))


@pytest.mark.parametrize("seed", SEEDS)
def test_locks_are_always_right(redis_url: str, seed: int):
    machine = Locks(redis_url, seed)
    with machine.stack:
        for _ in range(150):
            machine.step()
            machine.check()
        machine.end()
