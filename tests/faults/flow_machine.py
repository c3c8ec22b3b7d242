"""Batches and graphs against what must always be true of them: the machine that sends, ends, repeats, takes over and deletes, and knows what must have come of it.

No member is counted twice or lost; nobody leaves where he waits before all have ended for whom he waits, and nobody waits for what can't come; each callback comes once,
when it is due, and a batch whose members have all ended is over.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest
from anyio.from_thread import start_blocking_portal

from trioworkers import Batch, Job
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.operator_actions import Delete, Next, OperatorActions, Push
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.departures import Held, on_outcome
from trioworkers.errors import Refused
from trioworkers.jobs.batch import Members
from trioworkers.jobs.client import Client
from trioworkers.jobs.open_batch import OpenBatch
from trioworkers.outcome import Acknowledge, Bury, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.wire.decode import decode
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location

WORKERS = ("w0", "w1")
ROUNDS = 600
"""More than any chain is long."""
POLICIES = ("wait", "cancel", "run")
ENDED = ("succeeded", "discarded", "deleted", "purged", "skipped", "lost")


@attrs.define
class Graph:
    """What was sent. `open`: while members may come; `ends`: of members that have ended (or are dead), how; `parent`: in which batch it lies."""

    id: str
    open: OpenBatch | None = None
    members: dict[str, tuple[frozenset[str], str]] = attrs.field(factory=dict)
    added: list[Members] = attrs.field(factory=list)
    ends: dict[str, str] = attrs.field(factory=dict)
    cancelled: bool = False
    was_dead: bool = False
    parent: str = ""

    @property
    def is_over(self) -> bool:
        """Whether no member is left, nor comes."""
        return self.open is None and len(self.ends) == len(self.members)

    @property
    def is_whole(self) -> bool:
        """Whether nothing went wrong so far."""
        return not self.cancelled and set(self.ends.values()) <= {"succeeded"}


class Flows:
    """The machine. `running`: what each worker knows that it runs."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("trio"))
        context = connect(url, Link(url))
        self.connection: Connection = self.stack.enter_context(self.portal.wrap_async_context_manager(context))
        self.redis("FLUSHALL")
        self.keys = Keys()
        self.actions = OperatorActions(self.connection, self.keys)
        self.brokers = {name: RedisBroker(self.connection, self.keys, Holder(name, name, 600_000)) for name in WORKERS}
        for name, broker in self.brokers.items():
            self.do(Presence(broker, name, ["q"]).claim)
        self.client = Client.around(self.brokers["w0"])
        self.groups: dict[str, tuple[int, list[Settlement]]] = {name: (0, []) for name in WORKERS}
        self.graphs: dict[str, Graph] = {}
        self.count = 0
        self.let_go_on: set[str] = set()
        """Members that have left where they wait, or never were there."""

    def do(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(function)

    def redis(self, *words: str | bytes | int) -> Any:
        return self.do(lambda: self.connection.execute("test", *words))

    def step(self) -> None:
        moves: dict[Callable[[], None], int] = {
            self.send: 3,
            self.stream: 4,
            self.seal: 2,
            self.fetch: 12,
            self.settle: 18,
            self.late_copy: 2,
            self.take_over: 1,
            self.operator: 6,
            self.purge: 1,
            self.cancel: 1,
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        move()
        self.move_on()

    def move_on(self) -> None:
        """What the ends of members have others do."""
        while self.do(self.brokers["w0"].move_on):
            pass

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def jobs(self, most: int) -> list[Job]:
        self.count += 10
        return [Job("q", "A", jid=f"j{self.count}-{n}", runs_here=True) for n in range(self.chance.randrange(1, most))]

    def callbacks(self) -> dict[str, Job]:
        return {f"on_{event}": Job("c", event) for event in ("success", "finished", "death")}

    def choose_before(self, graph: Graph) -> list[Members]:
        return self.chance.sample(graph.added, min(len(graph.added), self.chance.choice([0, 1, 1, 2, 3])))

    def note(self, graph: Graph, jobs: list[Job], before: list[Members], policy: str) -> None:
        graph.members.update((job.jid, (frozenset(jid for each in before for jid in each), policy)) for job in jobs)

    def send(self) -> None:
        batch = Batch(**self.callbacks())
        graph = self.graphs[batch.id] = Graph(batch.id)
        for _ in range(self.chance.choice([1, 2, 4, 8])):
            jobs, before = self.jobs(6), self.choose_before(graph)
            policy: Any = self.chance.choice(POLICIES)
            graph.added.append(batch.add(*jobs, after=before, on_failure=policy))
            self.note(graph, jobs, before, policy)
        self.do(lambda: self.client.enqueue(batch))

    def stream(self) -> None:
        graph = self.chance.choice([None, *(each for each in self.graphs.values() if each.open is not None)])
        if graph is None:
            batch = self.client.batch(**self.callbacks())
            self.do(batch.__aenter__)
            self.graphs[batch.id] = Graph(batch.id, batch)
            return
        jobs, before = self.jobs(9), self.choose_before(graph)
        policy: Any = self.chance.choice(POLICIES)
        batch = graph.open
        assert batch is not None
        graph.added.append(self.do(lambda: batch.add(*jobs, after=before, on_failure=policy)))
        self.note(graph, jobs, before, policy)

    def seal(self) -> None:
        graph = next((each for each in self.graphs.values() if each.open is not None), None)
        if graph is not None and graph.open is not None:
            batch, graph.open = graph.open, None
            self.do(lambda: batch.__aexit__(None, None, None))

    def cancel(self) -> None:
        graph = next((each for each in self.graphs.values() if each.open is not None), None)
        if graph is not None:
            graph.open, graph.cancelled = None, True
            assert self.do(lambda: self.brokers["w0"].cancel_batch(graph.id))

    # ── working ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def list_of(self, name: str) -> str:
        return self.brokers[name].in_progress("q")

    def fetch(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            self.redis("LMOVE", "queue:q", self.list_of(self.chance.choice(WORKERS)), "RIGHT", "LEFT")

    def settle(self) -> None:
        name = self.chance.choice(WORKERS)
        payloads = self.redis("LRANGE", self.list_of(name), 0, -1)
        group = [self.end_of(payload) for payload in self.chance.sample(payloads, min(len(payloads), 3))]
        if not group:
            return
        number = self.groups[name][0] + 1
        self.groups[name] = number, group
        for _ in range(self.chance.choice([1, 1, 2])):  # its reply may be lost
            assert not self.do(lambda: self.brokers[name].settle(number, group))

    def end_of(self, payload: bytes) -> Settlement:
        ends: list[tuple[Outcome, str]] = [
            *[(Acknowledge(), "succeeded")] * 6,
            *[(Bury(payload), "dead")] * 2,
            (Discard(), "discarded"),
            (Retry(payload, 60), ""),
            (Requeue(), ""),
            (Snooze(payload, 60), ""),
        ]
        outcome, how = self.chance.choice(ends)
        jid = self.over(payload, how)
        batch = json.loads(payload)["tw_batch"]
        return Settlement("q", payload, outcome, on_outcome(outcome, Held(jid, batch=batch)))

    def over(self, payload: bytes, how: str) -> str:
        fields = json.loads(payload)
        jid, graph = fields["jid"], self.graphs[fields["tw_batch"]]
        if how:
            graph.ends[jid] = how
            graph.was_dead = graph.was_dead or how == "dead"
        return str(jid)

    def late_copy(self) -> None:
        name = self.chance.choice(WORKERS)
        number, group = self.groups[name]
        if number > 1:
            with pytest.raises(Refused, match="LATE"):
                self.do(lambda: self.brokers[name].settle(number - 1, group))

    def take_over(self) -> None:
        name = self.chance.choice(WORKERS)
        self.do(lambda: self.brokers[name].release("q"))

    def operator(self) -> None:
        place = self.chance.choice(["retry", "scheduled", "dead", "dead", "waiting"])
        location = Location(place)
        found = self.redis("ZRANGE", location.key(self.keys), 0, -1)
        if not found:
            return
        payload = self.chance.choice(found)
        next_: Next = Delete() if place == "waiting" or self.chance.random() < 0.3 else Push("q", payload)
        assert self.do(lambda: self.actions.move(location, Entry(place, payload, score=1.0), next_)).moved == 1
        if isinstance(next_, Delete):
            self.over(payload, "deleted")

    def purge(self) -> None:
        payloads = self.redis("LRANGE", "queue:q", 0, -1)
        self.do(lambda: self.actions.purge("q"))
        for payload in payloads:
            self.over(payload, "purged")

    # ── what must be true ──────────────────────────────────────────────────────────────────────────────────────────────

    def places(self) -> Iterator[tuple[str, bytes]]:
        for key in ("queue:q", *map(self.list_of, WORKERS)):
            yield from (("live", payload) for payload in self.redis("LRANGE", key, 0, -1))
        for key, kind in (("retry", "live"), ("schedule", "live"), ("dead", "dead"), ("tw:successors", "waiting")):
            yield from ((kind, payload) for payload in self.redis("ZRANGE", key, 0, -1))

    def check(self) -> None:
        lie: dict[str, list[str]] = {}
        for kind, payload in self.places():
            lie.setdefault(decode(payload, "q").jid, []).append(kind)
        assert all(len(kinds) == 1 for kinds in lie.values())
        assert self.redis("EXISTS", "tw:moving", "tw:repairs") == 0
        called = Counter(json.loads(payload)["jid"] for payload in self.redis("LRANGE", "queue:c", 0, -1))
        assert set(called.values()) <= {1}
        for graph in self.graphs.values():
            self.skip(graph)
            self.check_graph(graph, lie, set(called))

    def skip(self, graph: Graph) -> None:
        """Who waits for what can't succeed any more has ended; and so on: who waits was added after all for whom he waits."""
        for jid, (before, policy) in graph.members.items():
            if jid in graph.ends or policy == "run" or jid in self.let_go_on:
                continue
            if self.is_hopeless(graph, before, policy):
                graph.ends[jid] = "skipped"

    def is_hopeless(self, graph: Graph, before: frozenset[str], policy: str) -> bool:
        hows = {graph.ends.get(jid) for jid in before}
        return bool(hows & ({*ENDED} - {"succeeded"})) or (policy == "cancel" and "dead" in hows)

    def check_graph(self, graph: Graph, lie: dict[str, list[str]], called: set[str]) -> None:
        key = f"tw:batch:{graph.id}"
        pending = {jid.decode() for jid in self.redis("SMEMBERS", f"{key}:jids")}
        dead = {jid.decode() for jid in self.redis("SMEMBERS", f"{key}:dead")}
        assert pending == {jid for jid in graph.members if jid not in graph.ends}
        assert dead == {jid for jid, how in graph.ends.items() if how == "dead"}
        for jid, (before, policy) in graph.members.items():
            if jid.startswith("B:"):  # a batch that lies in it
                continue
            kinds = lie.get(jid, [])
            assert bool(kinds) == (jid in pending or jid in dead), (jid, kinds)
            if kinds == ["waiting"]:
                assert jid in pending
                ends = [graph.ends.get(each) for each in before]
                assert None in ends or (policy == "wait" and "dead" in ends), "nobody will let it go on"
            elif jid not in self.let_go_on and graph.ends.get(jid) != "skipped" and (kinds or jid in graph.ends):
                self.let_go_on.add(jid)
                if graph.ends.get(jid) not in ("deleted", "lost"):
                    ends = [graph.ends.get(each) for each in before]
                    assert None not in ends, f"{jid} before its time"
                    assert policy == "run" or set(ends) <= {"succeeded"}, f"{jid} in spite of {ends}"
        self.check_callbacks(graph, called)

    def check_callbacks(self, graph: Graph, called: set[str]) -> None:
        told = {event for event in ("success", "finished", "death") if f"{graph.id}-{event}" in called}
        assert ("death" in told) == graph.was_dead
        assert not graph.is_over or "finished" in told
        if "finished" in told:
            assert graph.open is None
        assert ("success" in told) == (graph.is_over and graph.is_whole)
        fields = self.redis("HGETALL", f"tw:batch:{graph.id}")
        told_of = {name.decode(): value for name, value in fields.items()}
        counts = Counter(graph.ends.values())
        assert int(told_of["total"]) == len(graph.members)
        assert {how: int(told_of.get(how, 0)) for how in (*ENDED, "dead")} == {
            how: counts[how] for how in (*ENDED, "dead")
        }

    def finish(self) -> None:
        """Let all come to its end: then nothing is open."""
        for _ in range(ROUNDS):
            self.seal()
            for payload in self.redis("ZRANGE", "dead", 0, -1):
                self.do(
                    lambda payload=payload: self.actions.move(
                        Location("dead"), Entry("dead", payload, score=1.0), Delete()
                    )
                )
                self.over(payload, "deleted")
            for place in ("retry", "scheduled"):
                for payload in self.redis("ZRANGE", Location(place).key(self.keys), 0, -1):
                    entry = Entry(place, payload, score=1.0)
                    self.do(
                        lambda entry=entry: self.actions.move(Location(entry.place), entry, Push("q", entry.payload))
                    )
            self.fetch()
            self.settle()
            self.move_on()
            if all(each.is_over for each in self.graphs.values()):
                return
