"""Which of several Redises each job goes to that one client sends. Without I/O, for all clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from trioworkers.errors import BadJob
from trioworkers.send import Send
from trioworkers.shards import chosen
from trioworkers.wire.job import Job
from trioworkers.wire.membership import Opening


class Places(Protocol):
    """Where jobs lie: see `jobs/layout.py`."""

    def place(self, job: Job, near: str | None = None) -> str:
        """The shard into which a job is sent; `near`, if it may be there and belongs to no other. Raises BadJob."""

    def together(self, jobs: Iterable[Job], where: str | None = None) -> tuple[str, ...]:
        """The shards in which all these jobs can lie, with `where` those of them that is this one. Raises BadJob if there is none."""


class Spread:
    """Decides for one client where each job that it sends goes. `batches`: of those that are open, in which shard each is."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.batches: dict[str, str] = {}

    def sorted(self, sends: Iterable[Send]) -> dict[str, list[tuple[int, Send]]]:
        """By shard what goes there, each with its number among all. Raises BadJob."""
        found: dict[str, list[tuple[int, Send]]] = {}
        listed = list(sends)
        batches = self._batches([send.job for send in listed])
        for number, send in enumerate(listed):
            job = send.job
            place = self._places.place(job) if job.batch is None else batches[job.batch.batch]
            found.setdefault(place, []).append((number, send))
        return found

    def _batches(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Where the batches lie whose members are among these jobs."""
        members: dict[str, list[Job]] = {}
        openings: dict[str, Opening] = {}
        for job in jobs:
            if job.batch is not None:
                members.setdefault(job.batch.batch, []).append(job)
                if job.batch.opening is not None:
                    openings[job.batch.batch] = job.batch.opening
        found: dict[str, str] = {}
        for batch, its in members.items():
            if batch in openings:
                found[batch] = self.of_batch(batch, openings[batch], its)
                continue
            home = self.batches.get(batch)
            if home is None:
                raise BadJob(
                    f"batch {batch} was opened by somebody else: members are added by who opened it, or by its own jobs"
                )
            self._places.together(its, home)
            found[batch] = home
        return found

    def of_batch(self, batch: str, opening: Opening, members: Iterable[Job] = ()) -> str:
        """The shard in which a new batch lies. Raises BadJob if its jobs and callbacks can't lie in one."""
        if opening.parent and opening.parent in self.batches:
            return self._places.together([*members, *opening.callbacks.values()], self.batches[opening.parent])[0]
        return chosen(self._places.together([*members, *opening.callbacks.values()]), batch)
