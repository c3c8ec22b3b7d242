"""Batches in the soak: graphs of sleeping jobs, what must have become of them, and what they may not have done."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import attrs
from graph_shapes import random_graph

from trioworkers import Batch, Job, TrioworkersError
from trioworkers.jobs.batch import Members
from trioworkers.sync import Client

ONLY_RUN = (0, 0, 1)


@attrs.define
class SoakedBatches:
    """`command`: asks Redis. `acknowledged`: the batches that surely were sent, with who waits for whom in each."""

    url: str
    command: Callable[..., object]
    acknowledged: dict[str, Sequence[tuple[str, str]]] = attrs.field(factory=dict)

    def send(self, chance: random.Random) -> tuple[set[str], bool]:
        """Send one; what must run then, and whether that is sure. Whatever becomes of a member, those that wait for it run."""
        batch = Batch("soak", on_finished=sleeping(0.0))
        edges: list[tuple[str, str]] = []
        added: list[Members] = []
        for layer in random_graph(chance, chance.choice([3, 10, 10, 100]), ONLY_RUN):
            jobs = [sleeping(chance.uniform(0, 0.1)) for _ in range(layer.count)]
            before = [added[number] for number in layer.after]
            edges += [(jid, job.jid) for each in before for jid in each for job in jobs]
            added.append(batch.add(*jobs, after=before, on_failure="run"))
        jids = {job.jid for job in batch.members()} | {f"{batch.id}-finished"}
        try:
            with Client(self.url, retry_for=0) as client:
                client.enqueue(batch)
        except TrioworkersError:
            return jids, False
        self.acknowledged[batch.id] = edges
        return jids, True

    def left(self) -> dict[str, int]:
        """What of them is not over."""
        found = {
            "successors": int(str(self.command("ZCARD", "tw:successors"))),
            "moving": int(str(self.command("LLEN", "tw:moving"))),
            "repairs": int(str(self.command("LLEN", "tw:repairs"))),
        }
        if not any(found.values()):
            fired = (self.command("HGET", f"tw:batch:{batch}", "fired_finished") for batch in self.acknowledged)
            found["batches"] = sum(not each for each in fired)
        return found

    def too_early(self, lines: Sequence[str], buried: set[str]) -> Iterator[str]:
        """Who began before one had ended for which he waited."""
        began: dict[str, int] = {}
        ended: dict[str, int] = {}
        for number, line in enumerate(lines):
            event, jid = line.split()[:2]
            if event in ("start", "end"):
                (began if event == "start" else ended).setdefault(jid, number)
        for edges in self.acknowledged.values():
            for before, after in edges:
                if before not in buried and after in began and began[after] < ended.get(before, len(lines)):
                    yield f"{after} began before {before} had ended"


def sleeping(seconds: float) -> Job:
    return Job("q", "Sleep", [seconds], runs_here=True)
