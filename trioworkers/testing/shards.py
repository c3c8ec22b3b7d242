"""In which shard each job of an App with several Redises would be: decided as its workers and clients do. The fake Redis of tests is one for all of them."""

from __future__ import annotations

from collections.abc import Iterable

from trioworkers.broker.spread import Near, Spread
from trioworkers.jobs.layout import Layout
from trioworkers.send import Send
from trioworkers.wire.job import Job
from trioworkers.wire.membership import Opening


class Homes:
    """Where the jobs of one test are, by shard; "" for the App's own Redis."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._spread = Spread(layout)
        self._known: dict[str, str] = {}

    def of(self, job: Job) -> str:
        """The shard of a job. Raises BadJob if it can lie in none."""
        known = self._known.get(job.jid)
        return self._layout.place(job) if known is None else known

    def sent(self, sends: Iterable[Send]) -> None:
        """By a client. Raises BadJob for what can lie nowhere, or not together."""
        for shard, numbered in self._spread.sorted(sends).items():
            self._known.update((send.job.jid, shard) for _, send in numbered)

    def sent_by(self, job: Job, sends: Iterable[Send]) -> None:
        """With the outcome of a job. Raises as `sent`."""
        here = self.of(job)
        ours, away = Near(here, self._layout).sorted(sends)
        self._known.update((send.job.jid, here) for send in ours)
        self._known.update((send.job.jid, shard) for (shard, _), its in away.items() for send in its)

    def open_batch(self, batch: str, opening: Opening) -> None:
        """A client opens it. Raises BadJob if its callbacks can't lie together."""
        self._spread.batches[batch] = self._spread.of_batch(batch, opening)
