"""The broker's moves against a simple model: random moves, lost replies and dead workers; after each, Redis holds what the model says.

P1 and P2: every payload is in exactly one place, or settled. P5: what a worker doesn't hold, it can't settle.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from trioworkers import Job, Superseded
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine.quarantine import MAX_CRASHES
from trioworkers.outcome import Acknowledge, Bury, Checkpoint, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire import places
from trioworkers.wire.keys import Keys

WORKERS = ("w0", "w1", "w2")
workers = st.sampled_from(WORKERS)
outcomes = st.sampled_from(["acknowledge", "sends", "retry", "dead", "discard", "requeue", "snooze", "checkpoint"])


class Moves(RuleBasedStateMachine):
    """`queue` ends with what is fetched next; `held` is what lies in a worker's list, `known` what it knows of that."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("trio"))
        context = connect(self.url, Link(self.url))
        self.connection: Connection = self.stack.enter_context(self.portal.wrap_async_context_manager(context))
        self.do(lambda: self.call(lambda client: client.flushall()))
        self.count = 0
        self.brokers: dict[str, RedisBroker] = {}
        self.lives = dict.fromkeys(WORKERS, 0)
        self.queue: list[bytes] = []
        self.held: dict[str, list[bytes]] = {name: [] for name in WORKERS}
        self.known: dict[str, list[bytes]] = {name: [] for name in WORKERS}
        self.alive = dict.fromkeys(WORKERS, False)
        self.sets: dict[str, set[bytes]] = {place.key: set() for place in places.sets()}
        self.deaths: Counter[str] = Counter()
        self.drained: set[str] = set()
        self.ended: set[bytes] = set()
        self.all: set[bytes] = set()
        self.groups = 0
        self.processed = self.failed = 0
        for name in WORKERS:
            self.start(name)

    def teardown(self) -> None:
        self.stack.close()

    def do(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(function)

    async def call(self, command: Callable[[Any], Any]) -> Any:
        return await self.connection.call("test", command)

    def start(self, name: str) -> None:
        self.lives[name] += 1
        lease = f"{name} in life {self.lives[name]}"
        self.brokers[name] = RedisBroker(self.connection, Keys(), Holder(name, lease, 600_000))
        self.do(Presence(self.brokers[name], name, ["q"]).claim)
        self.alive[name], self.known[name] = True, []
        self.drained.discard(name)

    def fresh(self, number: int) -> list[Job]:
        jobs = [Job("q", "A", [], jid=f"j{self.count + n}") for n in range(number)]
        self.count += number
        return jobs

    def arrived(self, place: str, jobs: list[Job]) -> None:
        """Take over into the model what Redis has new of these jobs: their payloads carry times that we don't know."""
        state = self.state()[place]
        by_jid = {json.loads(payload)["jid"]: payload for payload in state}
        for job in jobs:
            assert job.jid in by_jid, f"{job.jid} is not in {place}"
            payload = by_jid[job.jid]
            self.all.add(payload)
            if place == "queue":
                self.queue.insert(0, payload)
            else:
                self.sets[place].add(payload)

    def state(self) -> dict[str, list[bytes]]:
        async def look() -> dict[str, list[bytes]]:
            found = {"queue": await self.call(lambda client: client.lrange("queue:q", 0, -1))}
            for name in WORKERS:
                found[name] = await self.call(lambda client, n=name: client.lrange(f"queue:q:{n}:inprogress", 0, -1))
            for name in self.sets:
                key = getattr(Keys(), name)
                found[name] = await self.call(lambda client, k=key: client.zrange(k, 0, -1))
            return {name: list(payloads) for name, payloads in found.items()}

        return self.do(look)  # type: ignore[no-any-return]

    # ── the moves ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(name=workers, number=st.integers(1, 4), again=st.booleans())
    def enqueue(self, name: str, number: int, again: bool) -> None:
        jobs = self.fresh(number)
        for _ in range(1 + again):
            self.do(lambda: self.brokers[name].send([Send(job) for job in jobs], f"token {self.count}"))
        self.arrived("queue", jobs)

    @rule(name=workers, number=st.integers(1, 3), again=st.booleans())
    def schedule(self, name: str, number: int, again: bool) -> None:
        jobs = self.fresh(number)
        for _ in range(1 + again):
            self.do(lambda: self.brokers[name].send([Send(job, at_s=1.0) for job in jobs], f"token {self.count}"))
        self.arrived("schedule", jobs)

    @rule(name=workers, limit=st.integers(1, 5), reply_lost=st.booleans())
    def fetch(self, name: str, limit: int, reply_lost: bool) -> None:
        from trioworkers.broker.intake import RedisIntake  # noqa: PLC0415 - beside the only use

        intake = RedisIntake(self.brokers[name], self.connection, "q", 1.0)
        fetched = self.do(lambda: intake.fetch(limit))
        self.alive[name] = True
        self.drained.discard(name)
        expected = [self.queue.pop() for _ in range(min(limit, len(self.queue)))]
        assert fetched.payloads == expected
        self.held[name] = expected[::-1] + self.held[name]
        if not reply_lost:
            self.known[name] += expected

    @rule(
        name=workers, kinds=st.lists(outcomes, min_size=1, max_size=5), replies_lost=st.integers(0, 2), data=st.data()
    )
    def settle(self, name: str, kinds: list[str], replies_lost: int, data: st.DataObject) -> None:
        """A worker settles what it knows, whether it still has it or not, and repeats itself when it hears nothing."""
        known = self.known[name]
        picked = [known.pop(data.draw(st.integers(0, len(known) - 1))) for _ in kinds if known]
        sent: list[list[Job]] = []
        group = [
            Settlement("q", payload, self.outcome(kind, payload, sent))
            for kind, payload in zip(kinds, picked, strict=False)
        ]
        self.groups += 1
        number = self.groups
        problems = [self.do(lambda: self.brokers[name].settle(number, group)) for _ in range(1 + replies_lost)]
        assert all(problem == problems[0] for problem in problems)
        # Plain acknowledgements go first, as one list.
        for place, settlement in sorted(enumerate(group), key=lambda item: item[1].outcome != Acknowledge(())):
            is_ours = settlement.payload in self.held[name]
            assert (problems[0].get(place) == "gone") is not is_ours, (place, problems)
            if is_ours:
                self.held[name].remove(settlement.payload)
                self.settled(name, settlement)

    def outcome(self, kind: str, payload: bytes, sent: list[list[Job]]) -> Outcome | Checkpoint:
        amended = payload.replace(b'"A"', b'"A" ')
        if kind == "sends":
            sent.append(self.fresh(2))
            return Acknowledge(tuple(Send(job) for job in sent[-1]))
        plain: dict[str, Outcome | Checkpoint] = {
            "checkpoint": Checkpoint(amended),
            "acknowledge": Acknowledge(()),
            "retry": Retry(amended, -1.0),
            "dead": Bury(amended),
            "discard": Discard(),
            "requeue": Requeue(),
            "snooze": Snooze(amended, -1.0),
        }
        return plain[kind]

    def settled(self, name: str, settlement: Settlement) -> None:
        payload = settlement.payload
        match settlement.outcome:
            case Checkpoint(amended):
                self.all = self.all - {payload} | {amended}
                self.held[name].append(amended)
                self.known[name].append(amended)
            case Acknowledge(sends):
                self.ended.add(payload)
                self.processed += 1
                self.arrived("queue", [send.job for send in sends])
            case Retry(amended, _):
                self.became("retry", payload, amended)
                self.processed, self.failed = self.processed + 1, self.failed + 1
            case Bury(amended):
                self.became("dead", payload, amended)
                self.processed, self.failed = self.processed + 1, self.failed + 1
            case Discard():
                self.ended.add(payload)
                self.processed, self.failed = self.processed + 1, self.failed + 1
            case Requeue(None):
                self.queue.append(payload)
            case Snooze(amended, _):
                self.became("schedule", payload, amended)

    def became(self, place: str, payload: bytes, amended: bytes) -> None:
        self.all = self.all - {payload} | {amended}
        self.sets[place].add(amended)

    @rule(name=workers, other=workers)
    @precondition(lambda self: any(self.held.values()))
    def settle_what_is_not_ours(self, name: str, other: str) -> None:
        foreign = [payload for payload in self.held[other] if payload not in self.held[name]]
        self.groups += 1
        group = [Settlement("q", payload, Retry(b"never", 0.0)) for payload in foreign]
        problems = self.do(lambda: self.brokers[name].settle(self.groups, group))
        assert problems == dict.fromkeys(range(len(foreign)), "gone")

    @rule(name=workers, again=st.booleans())
    def promote(self, name: str, again: bool) -> None:
        for source in ("retry", "schedule"):
            entries = [(payload, "q", payload + b" ") for payload in sorted(self.sets[source])]
            moved = [self.do(lambda e=entries, s=source: self.brokers[name].promote(s, e)) for _ in range(1 + again)]
            assert moved[0] == (len(entries), [])
            assert all(later == (0, []) for later in moved[1:])
            for payload, _, renewed in entries:
                self.sets[source].remove(payload)
                self.all = self.all - {payload} | {renewed}
                self.queue.insert(0, renewed)

    @rule(name=workers)
    def lease_runs_out(self, name: str) -> None:
        self.do(lambda: self.call(lambda client: client.delete([Keys().lease(name)])))
        self.alive[name] = False

    @rule(name=workers)
    @precondition(lambda self: not all(self.alive.values()))
    def restart(self, name: str) -> None:
        if self.alive[name]:
            return
        before = self.brokers[name]
        self.start(name)
        try:
            self.do(lambda: before.settle(self.groups + 1, [Settlement("q", b"any", Discard())]))
        except Superseded:
            return
        raise AssertionError("two lives at once")

    @rule(name=workers, other=workers, again=st.booleans())
    def reclaim(self, name: str, other: str, again: bool) -> None:
        """Of another that may be dead, or of our own last life."""
        if name == other and self.known[name]:
            return  # only done before the first fetch
        found = self.do(lambda: self.brokers[name].peek(other, "q", 100))
        entries: list[tuple[bytes, str, int, bytes | None]] = []
        for payload in found:
            jid = json.loads(payload)["jid"]
            entries.append((payload, jid, 1, payload if self.deaths[jid] + 1 >= MAX_CRASHES else None))
        moved = [self.do(lambda: self.brokers[name].reclaim(other, "q", entries)) for _ in range(1 + again)]
        may = self.alive[name] if name == other else not self.alive[other]
        if may and name != other:  # once all was taken, what lies there is another program's, until the worker is back
            first, later = -2 if found and other in self.drained else len(found), 0
            self.drained.add(other)
        else:
            first, later = (len(found), 0) if may else (-1, -1)
        assert moved == [(first, ""), *[(later, "")] * again]
        if may:
            self.held[other] = []
            for payload, jid, _, buried in entries:
                if buried is None:
                    self.queue.append(payload)
                    self.deaths[jid] += 1
                else:
                    self.sets["dead"].add(payload)
                    del self.deaths[jid]

    @rule(name=workers)
    def put_back_strays(self, name: str) -> None:
        strays = Counter(self.held[name]) - Counter(self.known[name])
        ordered = [payload for payload in self.held[name] if payload in strays]
        if ordered:
            assert self.do(lambda: self.brokers[name].put_back("q", ordered)) == len(ordered)
            self.held[name] = [payload for payload in self.held[name] if payload not in strays]
            self.queue += ordered

    @rule(name=workers)
    def release(self, name: str) -> None:
        assert self.do(lambda: self.brokers[name].release("q", limit=2)) == len(self.held[name])
        self.queue += self.held[name]
        self.held[name], self.known[name] = [], []

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def redis_holds_what_the_model_says(self) -> None:
        state = self.state()
        assert state["queue"] == self.queue
        for name in WORKERS:
            assert state[name] == self.held[name]
        for name, members in self.sets.items():
            assert set(state[name]) == members

    @invariant()
    def every_payload_is_in_one_place_or_settled(self) -> None:
        places = Counter(payload for payloads in self.state().values() for payload in payloads)
        assert set(places.values()) <= {1}
        assert places.keys() | self.ended == self.all
        assert not places.keys() & self.ended

    @invariant()
    def each_outcome_is_counted_once(self) -> None:
        async def look() -> list[bytes | None]:
            return list(await self.call(lambda client: client.mget(["stat:processed", "stat:failed"])))

        assert [int(value or 0) for value in self.do(look)] == [self.processed, self.failed]


def test_moves_do_what_the_model_says(redis_url: str):
    machine = type("MovesHere", (Moves,), {"url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("EXAMPLES", "60")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
