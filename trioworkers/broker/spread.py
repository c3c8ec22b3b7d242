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


class Near:
    """Decides where each job goes that a job at the shard `here` enqueues: it stays here if it may."""

    def __init__(self, here: str, places: Places) -> None:
        self._here = here
        self._places = places

    def sorted(self, sends: Iterable[Send]) -> tuple[list[Send], dict[tuple[str, str], list[Send]]]:
        """What stays here; and what goes elsewhere, by shard and batch: a batch goes as a whole. Raises BadJob."""
        ours: list[Send] = []
        away: dict[tuple[str, str], list[Send]] = {}
        listed = list(sends)
        batches = self._batches([send.job for send in listed])
        for send in listed:
            batch = "" if send.job.batch is None else send.job.batch.batch
            target = batches[batch] if batch else self._places.place(send.job, self._here)
            if target == self._here:
                ours.append(send)
            else:
                away.setdefault((target, batch), []).append(send)
        return ours, away

    def _batches(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Where the batches lie whose members these are: here, if they can. One that is there already, or lies in one that is, is here. Raises BadJob."""
        members: dict[str, list[Job]] = {}
        must_be_here: dict[str, bool] = {}
        for job in jobs:
            if job.batch is not None:
                opening = job.batch.opening
                callbacks = () if opening is None else opening.callbacks.values()
                members.setdefault(job.batch.batch, []).extend((job, *callbacks))
                must_be_here.setdefault(job.batch.batch, opening is None or bool(opening.parent))
        found: dict[str, str] = {}
        for batch, its in members.items():
            common = self._places.together(its, self._here if must_be_here[batch] else None)
            found[batch] = self._here if self._here in common else chosen(common, batch)
        return found
