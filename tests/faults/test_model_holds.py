"""What is held against what must always be true of it: random moves, lost replies, late copies, dead workers, operators; looked at after each.

P2 and P10: each job is in exactly one place, parked ones too; a permit belongs to a job in its worker's list, or is kept for one that is
next; no more than may hold one, and as many as may while somebody waits; every job that ended for good says how, once.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import attrs
import msgpack
import pytest
from anyio.from_thread import start_blocking_portal

from trioworkers import Job
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.holds.limits import START, Candidate, Round
from trioworkers.broker.holds.within import GOES_ON, UNLEASED, Part, Wants
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.limits import FleetLimits
from trioworkers.broker.people.operator_actions import Delete, OperatorActions, Push, ToDead
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.departures import Held, Permit, on_outcome
from trioworkers.errors import BrokerError
from trioworkers.exits import on_exit
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.places import Location

WORKERS = ("w0", "w1", "w2")
CONCURRENCY = {"crm": 2, "slow": 1, "part": 1}
PACED = LimitSpec(0, 0.005, 2)
DECLARED = {**{name: LimitSpec(count) for name, count in CONCURRENCY.items()}, "paced": PACED}
KEEP_S = 3600


def limits_of(jid: str) -> tuple[str, ...]:
    number = int(jid[1:])
    return [("crm",), ("slow",), ("crm", "slow"), (f"paced:{number % 3}", "crm")][number % 4]


SNAPSHOT = """
local read = {
  string = {'GET'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, hash = {'HGETALL'},
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local type = redis.call('TYPE', key).ok
  local words = read[type]
  found[#found + 1] = {key, type, redis.call(words[1], key, unpack(words, 2))}
end
return found
"""

KINDS = ("acknowledge", "retry", "dead", "discard", "expired", "requeue", "snooze", "rate limited")


def in_pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Holds:
    """`running`: what each worker knows that it runs, with its permit. Chance chooses, by weight: Hypothesis would seldom leave anything running."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("trio"))
        context = connect(url, Link(url))
        self.connection: Connection = self.stack.enter_context(self.portal.wrap_async_context_manager(context))
        self.redis(lambda client: client.flushall())
        self.count = 0
        self.lives = dict.fromkeys(WORKERS, 0)
        self.alive = dict.fromkeys(WORKERS, False)
        self.brokers: dict[str, RedisBroker] = {}
        self.running: dict[str, dict[str, tuple[bytes, Permit]]] = {name: {} for name in WORKERS}
        self.admissions: dict[str, tuple[int, list[Candidate]]] = {}
        self.groups: dict[str, tuple[int, list[Settlement]]] = {}
        self.parts: dict[str, dict[str, Part]] = {name: {} for name in WORKERS}
        """By jid, of each worker: which of its jobs want a permit within their slots, or have one."""
        self.jids: set[str] = set()
        self.ended: dict[str, str] = {}
        self.expires: dict[str, float] = {}
        """By jid; not every job does."""
        self.seen: dict[str, Any] = {}
        """All that Redis has, as it was read by the last check."""
        self.used_before: dict[str, int] = {}
        self.keys = Keys()
        self.actions = OperatorActions(self.connection, self.keys)
        self.limits = FleetLimits(self.connection, self.keys)
        self.count_of_parts = 0
        for name in WORKERS:
            self.start(name)

    def step(self) -> None:
        name = self.chance.choice(WORKERS)
        moves: dict[Callable[[str], None], int] = {
            self.enqueue: 6,
            self.fetch_and_admit: 12,
            self.settle: 16,
            self.enter_part: 6,
            self.leave_part: 4,
            self.ask_for_parts: 2,
            self.operator_changes_a_limit: 1,
            self.late_copies_come: 2,
            self.promote: 3,
            self.put_back_strays: 2,
            self.release: 1,
            self.lease_runs_out: 1,
            self.restart: 2,
            self.reclaim: 3,
            self.operator_deletes: 2,
            self.operator_moves: 2,
            self.operator_pauses_or_resumes: 1,
            self.another_version_declares: 1,
            self.operator_purges: 1,
            self.tend: 1,
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        move(name)

    def snapshot(self) -> dict[str, Any]:
        kinds: dict[bytes, Callable[[Any], Any]] = {
            b"string": bytes,
            b"list": list,
            b"set": set,
            b"hash": in_pairs,
            b"zset": lambda flat: {member: float(score) for member, score in in_pairs(flat).items()},
        }
        found = self.redis(lambda client: client.eval(SNAPSHOT))
        return {key.decode(): kinds[kind](value) for key, kind, value in found}

    def own(self, name: str, nothing: Any) -> Any:
        """What a key of ours has."""
        return self.seen.get(f"{self.keys.own}{name}", nothing)

    def check(self) -> None:
        self.seen = self.snapshot()
        self.each_job_is_in_one_place_or_has_ended()
        self.permits_are_what_records_say_and_belong_to_jobs_in_their_list()
        self.no_more_than_may_and_as_many_as_may_while_somebody_waits()
        self.every_end_is_told()
        self.who_waits_is_known_and_looked_at()
        self.no_rate_is_ahead_of_its_time()

    def do(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(function)

    def redis(self, command: Callable[[Any], Any]) -> Any:
        async def call() -> Any:
            return await self.connection.call("test", command)

        return self.do(call)

    def start(self, name: str) -> None:
        self.lives[name] += 1
        self.brokers[name] = RedisBroker(
            self.connection, self.keys, Holder(name, f"{name} {self.lives[name]}", 600_000)
        )
        self.do(Presence(self.brokers[name], name, ["q"]).claim)
        self.tend(name)
        self.alive[name], self.running[name], self.parts[name] = True, {}, {}
        self.admissions[name], self.groups[name] = (0, []), (0, [])

    def strings(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.lrange(key, 0, -1)))

    def members(self, key: str) -> list[bytes]:
        return list(self.redis(lambda client: client.zrange(key, 0, -1)))

    # ── the moves ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def enqueue(self, name: str) -> None:
        number = self.chance.randint(1, 6)
        jobs = [Job("q", "A", jid=f"j{self.count + n}", keep_result=KEEP_S) for n in range(number)]
        self.count += number
        self.jids |= {job.jid for job in jobs}
        soon = [job.jid for job in jobs if int(job.jid[1:]) % 5 == 0]
        self.expires |= {jid: time.time() + self.chance.uniform(0, 0.4) for jid in soon}
        self.do(lambda: self.brokers[name].send([Send(job) for job in jobs]))

    def fetch_and_admit(self, name: str) -> None:
        """`lost`: which replies are: 1 the first, and it is asked again; 2 all, and the worker gives up; 3 that of the fetch."""
        limit, lost = self.chance.randint(1, 5), self.chance.choice([0, 0, 0, 0, 0, 0, 1, 2, 3])
        from trioworkers.broker.intake import RedisIntake  # noqa: PLC0415 - beside the only use

        broker = self.brokers[name]
        intake = RedisIntake(broker, self.connection, "q", 1.0)
        payloads = self.do(lambda: intake.fetch(limit)).payloads
        self.alive[name] = True
        if lost == 3 or not payloads:
            return
        number = self.admissions[name][0] + 1
        batch = [
            self.candidate(payload, f"{name} q {number}-{index}", json.loads(payload)["jid"])
            for index, payload in enumerate(payloads)
        ]
        self.admissions[name] = number, batch
        answers = [self.do(lambda: broker.admit("q", number, DECLARED, batch)) for _ in range(1 + (lost == 1))]
        assert answers[0] == answers[-1]
        if lost != 2:
            for candidate, answer in zip(batch, answers[0], strict=True):
                if answer == START:
                    permit = Permit(candidate.member, candidate.limits, candidate.jid, broker.holds("q"))
                    self.running[name][candidate.jid] = candidate.payload, permit

    def candidate(self, payload: bytes, member: str, jid: str) -> Candidate:
        expires_s = self.expires.get(jid)
        on_expiry = () if expires_s is None else on_exit(payload, "expired")
        return Candidate(payload, member, jid, limits_of(jid), expires_s, on_expiry)

    def settle(self, name: str) -> None:
        """What it believes to run, whether it still has it or not."""
        held = set(self.jids_in(self.keys.in_progress("q", name)))
        group = []
        for _ in range(self.chance.randint(1, 4)):
            if self.running[name]:
                jid, kind = self.chance.choice(sorted(self.running[name])), self.chance.choice(KINDS)
                payload, permit = self.running[name].pop(jid)
                outcome = self.outcome(kind, payload)
                closes = (permit.limits, 0.02) if kind == "rate limited" else None
                held_now = Held(jid, permit, KEEP_S, closes=closes, within=self.within(name, jid))
                self.parts[name].pop(jid, None)
                group.append(Settlement("q", payload, outcome, on_outcome(outcome, held_now)))
                if jid in held and isinstance(outcome, Acknowledge | Bury | Discard | Expire):
                    how = {Acknowledge: "succeeded", Bury: "dead", Discard: "discarded", Expire: "expired"}
                    self.ended[jid] = how[type(outcome)]  # type: ignore[index]
        number = self.groups[name][0] + 1
        self.groups[name] = number, group
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            self.do(lambda: self.brokers[name].settle(number, group))

    # ── permits within slots ───────────────────────────────────────────────────────────────────────────────────────────

    def within(self, name: str, jid: str) -> tuple[Permit, ...]:
        """As an audit and an outcome know it: what Redis has given by now they don't."""
        part = self.parts[name].get(jid)
        return () if part is None else (Permit(part.member, ("part",), jid, part.record, within=True),)

    def enter_part(self, name: str) -> None:
        held = set(self.jids_in(self.keys.in_progress("q", name)))
        mine = sorted(set(self.running[name]) & held - set(self.parts[name]))
        if not mine:
            return
        jid = self.chance.choice(mine)
        self.count_of_parts += 1
        record = self.keys.holds("q", name)
        part = Part(record, f"{name} q within-{self.count_of_parts}", jid, "q", "part", DECLARED["part"])
        self.parts[name][jid] = part
        moments = [
            self.do(lambda: self.brokers[name].within(Wants([part]))).moments[0]
            for _ in range(self.chance.choice([1, 1, 2]))
        ]
        part.moment = GOES_ON if moments[-1] == UNLEASED else moments[-1]

    def leave_part(self, name: str) -> None:
        if self.parts[name]:
            part = self.parts[name].pop(self.chance.choice(sorted(self.parts[name])))
            for _ in range(self.chance.choice([1, 1, 2])):
                self.do(lambda: self.brokers[name].within(Wants(leaving=[part])))

    def ask_for_parts(self, name: str) -> None:
        held = set(self.jids_in(self.keys.in_progress("q", name)))
        asking = [part for jid, part in self.parts[name].items() if part.moment != GOES_ON and jid in held]
        granted = self.do(lambda: self.brokers[name].within(Wants(asking=asking)))
        for part in asking:
            if part.member in granted.members:
                part.moment = GOES_ON

    def operator_changes_a_limit(self, name: str) -> None:
        del name
        limit = self.chance.choice(["slow", "paced:1", "crm"])
        how = self.chance.choice(["set", "reset"] if limit == "crm" else ["set", "close", "open", "reset"])
        most = self.chance.randint(1, 3) if limit == "crm" and how == "set" else None
        change = self.limits.override(limit, how, concurrency=most, burst=2 if how == "set" else None, close_s=0.01)
        self.do(lambda: change)

    def outcome(self, kind: str, payload: bytes) -> Outcome:
        outcomes: dict[str, Outcome] = {
            "acknowledge": Acknowledge(value=b"1"),
            "retry": Retry(payload, -1.0),
            "dead": Bury(payload),
            "discard": Discard(),
            "expired": Expire(),
            "requeue": Requeue(),
            "rate limited": Requeue(),
            "snooze": Snooze(payload, -1.0),
        }
        return outcomes[kind]

    def late_copies_come(self, name: str) -> None:
        """Of the last but one group and admission: a connection broke, and Redis still reads what was sent over it."""
        for number, call in (
            (self.groups[name][0] - 1, lambda n: self.brokers[name].settle(n, self.groups[name][1])),
            (
                self.admissions[name][0] - 1,
                lambda n: self.brokers[name].admit("q", n, DECLARED, self.admissions[name][1]),
            ),
        ):
            if number > 0:
                try:
                    self.do(lambda call=call, number=number: call(number))
                except BrokerError:
                    continue
                raise AssertionError("a late copy found something to do")

    def promote(self, name: str) -> None:
        for place in ("retry", "schedule"):
            entries = [(payload, "q", payload) for payload in self.members(getattr(self.keys, place))]
            if entries:
                self.do(lambda e=entries, p=place: self.brokers[name].promote(p, e))

    def put_back_strays(self, name: str) -> None:
        known = Counter(payload for payload, _ in self.running[name].values())
        strays = Counter(self.strings(self.keys.in_progress("q", name))) - known
        members = [permit for _, permit in self.running[name].values()]
        # Of parts an audit doesn't know whether they have their permit yet: it says only that they are not over.
        members += [attrs.evolve(permit, limits=()) for jid in self.parts[name] for permit in self.within(name, jid)]
        self.do(lambda: self.brokers[name].put_back("q", list(strays.elements()), members))

    def release(self, name: str) -> None:
        self.do(lambda: self.brokers[name].release("q", limit=2))
        self.running[name], self.parts[name] = {}, {}

    def lease_runs_out(self, name: str) -> None:
        self.redis(lambda client: client.delete([self.keys.lease(name)]))
        self.alive[name] = False

    def restart(self, name: str) -> None:
        if not self.alive[name]:
            self.start(name)

    def reclaim(self, name: str) -> None:
        """Of another that may be dead, or of our own last life."""
        other, page = self.chance.choice(WORKERS), self.chance.randint(1, 5)
        bury, strike = self.chance.random() < 0.2, self.chance.random() < 0.3
        if name == other and self.running[name]:
            return
        found = self.do(lambda: self.brokers[name].peek(other, "q", page))
        entries = [(payload, json.loads(payload)["jid"], 1, payload if bury else None) for payload in found]
        moved, _ = self.do(lambda: self.brokers[name].reclaim(other, "q", entries))
        if bury and moved > 0:
            self.ended.update((jid, "dead") for _, jid, _, _ in entries)
        if name != other:
            self.do(lambda: self.brokers[name].forget(other, "q", strike=strike))

    def operator_deletes(self, name: str) -> None:
        del name
        place = self.chance.choice(["parked", "retry", "scheduled"])
        location = Location(place)
        found = self.members(location.key(self.keys))
        if found:
            payload = self.chance.choice(found)
            assert self.do(lambda: self.actions.move(location, Entry(place, payload, score=1.0), Delete())).moved == 1
            self.ended[json.loads(payload)["jid"]] = "deleted"

    def operator_moves(self, name: str) -> None:
        """To the dead set, or back into the queue, whose end then comes again."""
        del name
        place = self.chance.choice(["parked", "retry", "scheduled", "dead"])
        location = Location(place)
        found = self.members(location.key(self.keys))
        if found:
            payload = self.chance.choice(found)
            to = Push("q", payload) if place == "dead" or self.chance.random() < 0.5 else ToDead()
            assert self.do(lambda: self.actions.move(location, Entry(place, payload, score=1.0), to)).moved == 1
            if isinstance(to, ToDead):
                self.ended[json.loads(payload)["jid"]] = "dead"

    def operator_pauses_or_resumes(self, name: str) -> None:
        if not self.redis(lambda client: client.srem(self.keys.paused, ["q"])):
            self.redis(lambda client: client.sadd(self.keys.paused, ["q"]))
        self.tend(name)

    def another_version_declares(self, name: str) -> None:
        most = self.chance.randint(1, 3)
        self.do(lambda: self.brokers[name].tend(Round({"crm": LimitSpec(most)})))

    def operator_purges(self, name: str) -> None:
        del name
        jids = self.jids_in("queue:q")
        assert self.do(lambda: self.actions.purge("q")) == len(jids)
        self.ended.update(dict.fromkeys(jids, "purged"))

    def tend(self, name: str) -> None:
        self.do(lambda: self.brokers[name].tend(Round(DECLARED)))

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────────

    def jids_in(self, key: str) -> list[str]:
        return [json.loads(payload)["jid"] for payload in self.strings(key)]

    def each_job_is_in_one_place_or_has_ended(self) -> None:
        lists = ["queue:q", *(self.keys.in_progress("q", name) for name in WORKERS)]
        sets = (self.keys.retry, self.keys.schedule, self.keys.dead, self.keys.parked)
        found = Counter(json.loads(payload)["jid"] for key in (*lists, *sets) for payload in self.seen.get(key, ()))
        assert set(found.values()) <= {1}
        gone = {jid for jid, how in self.ended.items() if how != "dead" and jid not in found}
        for jid in self.jids - found.keys() - gone:  # parked, its time was over
            assert self.expires.get(jid, math.inf) <= self.now_s(), f"{jid} is nowhere"
            self.ended[jid] = "expired"
        again = {jid for jid, how in self.ended.items() if how != "dead"} & found.keys()
        assert not again, f"{again} had ended"

    def permits_are_what_records_say_and_belong_to_jobs_in_their_list(self) -> None:
        permits: dict[str, set[str]] = {limit: set() for limit in CONCURRENCY}
        for name in WORKERS:
            here = {json.loads(payload)["jid"] for payload in self.seen.get(self.keys.in_progress("q", name), ())}
            for member, packed in self.seen.get(self.keys.holds("q", name), {}).items():
                jid, limits, *_ = msgpack.unpackb(packed)
                assert jid in here, f"{name} holds a permit for {jid}, which isn't there"
                for limit in limits:
                    permits.setdefault(limit, set()).add(member.decode())
        prefix = f"{self.keys.own}permits:"
        names = {key.removeprefix(prefix) for key in self.seen if key.startswith(prefix)}
        for limit in names | permits.keys():
            found = {member.decode() for member in self.own(f"permits:{limit}", set())}
            assert found == permits.get(limit, set())

    def who_waits(self) -> dict[str, list[bytes]]:
        prefix = f"{self.keys.own}waiting:"
        return {key.removeprefix(prefix): [*found] for key, found in self.seen.items() if key.startswith(prefix)}

    def most(self, limit: str) -> int:
        """How many may: what people want, or else the version that started last."""
        wanted = self.own("overrides", {}).get(limit.encode())
        stored = self.own("limits", {})[limit.encode()]
        return int((wanted and msgpack.unpackb(wanted)[0]) or msgpack.unpackb(stored)[0])

    def no_more_than_may_and_as_many_as_may_while_somebody_waits(self) -> None:
        waits = self.who_waits()
        standing = [moment for moments in waits.values() for moment in moments]
        known, parked = self.own("parked_jobs", {}), self.own("parked", {})
        somebody_was_taken_away = len(parked) < sum(1 for packed in known.values() if len(msgpack.unpackb(packed)) < 9)
        now_s = self.now_s()
        for limit in CONCURRENCY:
            kept = [score for score in self.own(f"reserved:{limit}", {}).values() if score > now_s]
            used, most = len(self.own(f"permits:{limit}", ())) + len(kept), self.most(limit)
            # A number that is lowered ends nothing that runs.
            assert used <= max(most, self.used_before.get(limit, 0))
            self.used_before[limit] = used
            if not somebody_was_taken_away and limit in waits and used < most:
                assert self.is_closed_or_due(limit), f"{waits[limit]} wait for {limit} in vain"
        assert len(standing) == len(set(standing))

    def is_closed_or_due(self, limit: str) -> bool:
        """Closed, and upkeep looks as soon as it isn't; or it should have looked by now."""
        override = self.own("overrides", {}).get(limit.encode())
        if override is not None and msgpack.unpackb(override)[3] == 1:
            return True
        gate = self.own(f"gate:{limit}", None)
        closed_until_s = 0.0 if gate is None else msgpack.unpackb(gate)[1]
        return closed_until_s > 0 and self.own("waits", {})[limit.encode()] <= closed_until_s + 0.01

    def now_s(self) -> float:
        return time.time() + 0.001  # its clock is ours

    def who_waits_is_known_and_looked_at(self) -> None:
        """Each parked job stands at one of its limits, or is passed by for its queue is paused; and upkeep knows when to look there, and when it expires."""
        waits, passed = self.who_waits(), {float(moment) for moment in self.own("passed:q", {})}
        known = {float(moment): msgpack.unpackb(packed) for moment, packed in self.own("parked_jobs", {}).items()}
        standing = {float(moment): limit for limit, moments in waits.items() for moment in moments}
        assert not passed & standing.keys()
        for payload, moment in self.own("parked", {}).items():
            assert moment in passed or standing[moment] in limits_of(json.loads(payload)["jid"])
            assert moment in known
        expiring = {float(moment): at for moment, at in self.own("expiring", {}).items()}
        assert expiring == {moment: job[5] for moment, job in known.items() if job[5]}
        soonest, looks = self.now_s() + 10.5, self.own("waits", {})
        for limit in waits:
            assert looks[limit.encode()] <= soonest

    def no_rate_is_ahead_of_its_time(self) -> None:
        for key, gate in self.seen.items():
            if key.startswith(f"{self.keys.own}gate:paced:"):
                assert msgpack.unpackb(gate)[0] <= self.now_s() + PACED.burst * PACED.interval_s

    def every_end_is_told(self) -> None:
        for jid, how in self.ended.items():
            told = self.seen.get(self.keys.result(jid))
            assert told is not None, f"nobody says how {jid} ended: {how}"
            assert json.loads(told)["how"] == how

    def end(self) -> None:
        """All that is left runs, and nothing is held any more."""
        for name in WORKERS:
            if not self.alive[name]:
                self.start(name)
            self.release(name)
        reserved = self.redis(lambda client: client.keys(f"{self.keys.own}reserved:*"))
        if reserved:
            self.redis(lambda client: client.delete(reserved))  # half a minute later
        self.redis(lambda client: client.delete([self.keys.paused]))
        for limit in ("slow", "paced:1"):
            self.do(lambda limit=limit: self.limits.override(limit, "open"))
        for _ in range(2000):
            self.promote("w0")
            self.tend("w0")
            self.fetch_and_admit("w0")
            for jid, (payload, permit) in list(self.running["w0"].items()):
                del self.running["w0"][jid]
                self.groups["w0"] = (number := self.groups["w0"][0] + 1), []
                effects = on_outcome(Acknowledge(), Held(jid, permit, KEEP_S))
                self.do(
                    lambda p=payload, e=effects, n=number: self.brokers["w0"].settle(
                        n, [Settlement("q", p, Acknowledge(), e)]
                    )
                )
                self.ended[jid] = "succeeded"
            self.put_back_strays("w0")
            if not any(self.redis(lambda client, k=key: client.exists([k])) for key in ("queue:q", self.keys.parked)):
                break
        assert self.members(self.keys.parked) == []
        assert not self.redis(lambda client: client.exists([f"{self.keys.own}expiring", f"{self.keys.own}parked_jobs"]))
        for limit in CONCURRENCY:
            assert not self.redis(lambda client, limit=limit: client.exists([f"{self.keys.own}permits:{limit}"]))


SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("EXAMPLES", "10")))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_held_is_always_right(redis_url: str, seed: int):
    machine = Holds(redis_url, seed)
    with machine.stack:
        for _ in range(150):
            machine.step()
            machine.check()
        machine.end()
        machine.check()
