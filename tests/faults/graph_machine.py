"""The machine of `flow_machine.py` with large graphs: up to 500 members, batches in batches, members that add members and batches, workers that die with what they run, deletions that nobody tells of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flow_machine import WORKERS, Flows, Graph
from graph_shapes import random_graph

from trioworkers import Batch, Job
from trioworkers.broker.contract import Settlement
from trioworkers.broker.holds.search import LET_MEMBERS_GO
from trioworkers.departures import Held, on_outcome
from trioworkers.jobs.batch import Members, members_of, waited_for
from trioworkers.outcome import Acknowledge, Bury, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.membership import MAX_DEPTH
from trioworkers.wire.packing import pack

MOST = 500
TO_FETCH = "for _ = 1, ARGV[1] do redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') end"
SCORE = "return redis.call('ZSCORE', KEYS[1], ARGV[1])"


class LargeGraphs(Flows):
    """See the module. `worst`: how many of a hundred members end badly."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url, seed)
        self.worst = self.chance.choice([0, 1, 5, 20])
        self.is_ending = False

    def step(self) -> None:
        moves: dict[Callable[[], None], int] = {
            self.send: 1 if sum(map(len, (each.members for each in self.graphs.values()))) < 2 * MOST else 0,
            self.stream: 3,
            self.seal: 1,
            self.fetch: 12,
            self.settle: 20,
            self.late_copy: 1,
            self.take_over: 1,
            self.crash: 1,
            self.operator: 5,
            self.foreign_deletion: 2,
            self.purge: 0.1,  # type: ignore[dict-item]
            self.cancel: 0.3,  # type: ignore[dict-item]
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        move()
        self.move_on()

    def move_on(self) -> None:
        """And what has ended by the end of others: batches in batches first, for they came later."""
        super().move_on()
        for graph in reversed([*self.graphs.values()]):
            self.skip(graph)
            if graph.parent and graph.is_over:
                dead = "dead" in graph.ends.values()
                outer = self.graphs[graph.parent]
                outer.ends[f"B:{graph.id}"] = "dead" if dead else "succeeded" if graph.is_whole else "discarded"
                outer.was_dead = outer.was_dead or dead

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self, most: int, parent: str = "") -> Batch:
        batch = Batch(**self.callbacks())
        graph = self.graphs[batch.id] = Graph(batch.id, parent=parent)
        if parent:
            self.graphs[parent].members[f"B:{batch.id}"] = frozenset(), "wait"

        def add(jobs: list[Job], before: list[Members], policy: Any) -> Members:
            return batch.add(*jobs, after=before, on_failure=policy)

        graph.added += self.in_layers(graph, most, add)
        return batch

    def in_layers(
        self, graph: Graph, most: int, add: Callable[[list[Job], list[Members], Any], Members]
    ) -> list[Members]:
        """Members of a random graph, as `add` adds them."""
        added: list[Members] = []
        for layer in random_graph(self.chance, most):
            self.count += 1
            jobs = [Job("q", "A", jid=f"j{self.count}-{n}", runs_here=True) for n in range(layer.count)]
            before = [added[number] for number in layer.after]
            added.append(add(jobs, before, layer.on_failure))
            self.note(graph, jobs, before, layer.on_failure)
        return added

    def send(self) -> None:
        """All of it in one step, whose reply may be lost."""
        batch = self.build(self.chance.choice([1, 20, MOST, MOST]))
        for _ in range(self.chance.choice([1, 1, 2])):
            assert not self.do(lambda: self.brokers["w0"].send(map(Send, batch.members()), batch.id))

    def jobs(self, most: int) -> list[Job]:
        return super().jobs(self.chance.choice([most, most, 100]))

    # ── working ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def fetch(self) -> None:
        count = 60 if self.is_ending else self.chance.choice([1, 10, 60])
        self.redis("EVAL", TO_FETCH, 2, "queue:q", self.list_of(self.chance.choice(WORKERS)), count)

    def settle(self) -> None:
        for name in WORKERS if self.is_ending else [self.chance.choice(WORKERS)]:
            self.settle_of(name)

    def settle_of(self, name: str) -> None:
        payloads = self.redis("LRANGE", self.list_of(name), 0, -1)
        group = [self.end_of(payload) for payload in self.chance.sample(payloads, min(len(payloads), 50))]
        if not group:
            return
        number = self.groups[name][0] + 1
        self.groups[name] = number, group
        for _ in range(self.chance.choice([1, 1, 2])):  # its reply may be lost
            assert self.do(lambda: self.brokers[name].settle(number, group)) == {}

    def end_of(self, payload: bytes) -> Settlement:
        batch = json.loads(payload)["tw_batch"]
        ends: list[tuple[Outcome, str, float]] = [
            (Bury(payload), "dead", self.worst),
            (Discard(), "discarded", self.worst / 5),
            (Retry(payload, 60), "", 5),
            (Requeue(), "", 3),
            (Snooze(payload, 60), "", 3),
            (Acknowledge(), "succeeded", 90),
        ]
        [(outcome, how, _)] = ends[-1:] if self.is_ending else self.chance.choices(ends, [each[2] for each in ends])
        if how == "succeeded" and not self.is_ending and self.chance.random() < 0.03:
            outcome = Acknowledge(tuple(map(Send, self.grow(self.graphs[batch]))))
        jid = self.over(payload, how)
        return Settlement("q", payload, outcome, on_outcome(outcome, Held(jid, batch=batch)))

    def grow(self, graph: Graph) -> list[Job]:
        """What a member adds from inside, which goes out with its success."""
        if graph.cancelled or len(graph.members) > 2 * MOST:
            return []
        if self.chance.random() < 0.3 and self.depth(graph) < MAX_DEPTH:
            return self.build(self.chance.choice([1, 5, 50]), graph.id).members(parent=graph.id)
        sent: list[Job] = []

        def add(jobs: list[Job], before: list[Members], policy: Any) -> Members:
            members = members_of(jobs, graph.id, waited_for(graph.id, before, policy), policy)
            sent.extend(members)
            return Members.of(graph.id, members)

        self.in_layers(graph, self.chance.choice([1, 5, 60]), add)
        return sent

    def depth(self, graph: Graph) -> int:
        return 1 + self.depth(self.graphs[graph.parent]) if graph.parent else 1

    def crash(self) -> None:
        """A worker dies; what it had is taken over, or is dead, as it died with it too often."""
        name = self.chance.choice(WORKERS)
        found = self.do(lambda: self.brokers[name].peek(name, "q", 1000))
        bury = self.chance.random() < self.worst / 100
        if found:
            entries = [(payload, json.loads(payload)["jid"], 1, payload if bury else None) for payload in found]
            assert self.do(lambda: self.brokers[name].reclaim(name, "q", entries))[0] == len(found)
            for payload in found if bury else ():
                self.over(payload, "dead")

    def foreign_deletion(self) -> None:
        """Somebody deletes, and tells nobody; the search finds that out."""
        place = self.chance.choice(["queue:q", "retry", "schedule", "dead", "tw:successors"])
        found = self.redis(*(("LRANGE", place, 0, -1) if place == "queue:q" else ("ZRANGE", place, 0, -1)))
        if not found or self.chance.random() > self.worst / 5:
            return
        payload = self.chance.choice(found)
        assert self.redis(*(("LREM", place, 1, payload) if place == "queue:q" else ("ZREM", place, payload))) == 1
        fields = json.loads(payload)
        touched = self.redis("EVAL", SCORE, 1, "tw:batches", fields["tw_batch"])
        work = pack([(fields["tw_batch"], touched, [fields["jid"]])])
        assert self.do(lambda: self.connection.run(LET_MEMBERS_GO, [], [self.keys.own, work])) == 1
        self.over(payload, "lost")

    def finish(self) -> None:
        """Let all come to its end, without growing: then nothing is open."""
        self.is_ending = True
        super().finish()
