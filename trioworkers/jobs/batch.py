"""Batches: jobs that belong together, and jobs that follow when they have ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Self, get_args

import attrs

from trioworkers.errors import BadJob, BrokerError
from trioworkers.seconds import MAX_SECONDS
from trioworkers.sending import NO_DUPLICATES, Met
from trioworkers.wire.job import Job, new_jid
from trioworkers.wire.lifetime import checked_seconds
from trioworkers.wire.membership import MAX_BEFORE, MAX_NAME, Membership, OnFailure, Opening

MAX_JOBS = 1000
"""Of a batch that is sent in one step."""
MAX_DESCRIPTION = 200
TAKE_OVER = ("replace", "latest", "debounce")
"""What becomes of a unique job that takes the place of another one, or follows it."""


class Members(tuple[str, ...]):  # noqa: SLOT001 - a tuple can have none, and this is one that says more
    """Some members of a batch: the jids that `batch.add` returns, and that `after` takes. `batch`: its id.

    `duplicates`: where they were sent at once, for each unique one that met another job its jid, and that of the other job. See `Sent.duplicates`.
    """

    batch = ""
    duplicates = NO_DUPLICATES

    @classmethod
    def of(cls, batch: str, jobs: Sequence[Job], there: Met | None = None) -> Self:
        """Those that these jobs are. `there`: by their number, whom they met."""
        members = cls(job.jid for job in jobs)
        members.batch = batch
        if there:
            members.duplicates = {jobs[number].jid: jid for number, jid in there.items()}
        return members


class Batch:
    """Up to 1,000 jobs that are sent in one step, and jobs that follow when they have ended.

    - `on_success`: sent once when all members have succeeded.
    - `on_finished`: sent once when all members have ended in any way (succeeded, dead, discarded, expired, deleted).
    - `on_death`: sent once when the first member is dead.
    - `description`: a text for people.

    If an operator retries a dead member and it succeeds, it counts as succeeded. Then `on_success` may still be sent. Members and callbacks must be jobs of handlers of
    trioworkers, because others don't tell us how a job ended. Raises BadJob.

    ```python
    batch = Batch("import 42", on_success=report.job(42))
    for page in range(10):
        batch.add(fetch.job(42, page))
    await client.enqueue(batch)
    ```
    """

    def __init__(
        self,
        description: str = "",
        *,
        on_success: Job | None = None,
        on_finished: Job | None = None,
        on_death: Job | None = None,
    ) -> None:
        self.id = new_jid()
        self._opening = opening(description, on_success, on_finished, on_death)
        self._jobs: dict[str, Job] = {}
        self._names: dict[str, str] = {}
        self._after: dict[str, tuple[tuple[str, ...], OnFailure]] = {}

    def __repr__(self) -> str:
        return f"<Batch {self.id} {self._opening.description!r}: {len(self._jobs)} jobs>"

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def description(self) -> str:
        """What it is, for people."""
        return self._opening.description

    def add(self, *jobs: Job, name: str = "", after: Iterable[Members] = (), on_failure: OnFailure = "wait") -> Members:
        """Add members. Other members can wait for what this returns.

        - `after`: members that must end first. The jobs are sent in the step in which the last of these ends.
        - `on_failure`: what happens if one of those is dead. "wait": wait until it is retried and succeeds. "cancel": skip these jobs, and all that wait for them. "run": run
          them all the same. A job that was discarded, expired or deleted can't succeed any more, so "wait" cancels then.
        - `name`: a name for a single job. Jobs that come after it get its result by `await ctx.result(name)`.

        Raises BadJob for an impossible job, for more than 1,000, for a name or a job that is there already, and for an `after` that is not in this batch.
        """
        before = waited_for(self.id, after, on_failure)
        if name:
            check_name(name, len(jobs), self._names)
        for job in jobs:
            check_member(job, waits=bool(before))
            if job.jid in self._jobs:
                raise BadJob(f"{job.job_class} {job.jid} is in this batch already: each member is a job of its own")
            if len(self._jobs) >= MAX_JOBS:
                raise BadJob(
                    f"a batch that is sent in one step has {MAX_JOBS:,} jobs at most: use client.batch(…) for more"
                )
            self._jobs[job.jid] = job
            if before:
                self._after[job.jid] = before, on_failure
            if name:
                self._names[name] = job.jid
        return Members.of(self.id, jobs)

    def members(self, parent: str | None = None) -> list[Job]:
        """Its jobs as they are sent; the first one brings the batch with it. Without members, its callbacks, because the batch is over at once."""
        whole = attrs.evolve(self._opening, parent=parent)
        names = {jid: name for name, jid in self._names.items()}
        jobs = [
            attrs.evolve(
                job,
                batch=Membership(
                    self.id, None if number else whole, *self._after.get(job.jid, ()), name=names.get(job.jid, "")
                ),
            )
            for number, job in enumerate(self._jobs.values())
        ]
        return jobs or [job for event, job in self._opening.callbacks.items() if event != "death"]


def chain(*jobs: Job, description: str = "", on_failure: OnFailure = "wait", **callbacks: Job) -> Batch:
    """A batch of jobs that run one after the other. Each runs when the previous one has succeeded. `callbacks` and `on_failure` as for `Batch`. Raises BadJob."""
    batch = Batch(description, **callbacks)
    last: list[Members] = []
    for job in jobs:
        last = [batch.add(job, after=last, on_failure=on_failure)]
    return batch


@attrs.frozen
class Group:
    """Some jobs side by side: see `group`."""

    jobs: tuple[Job, ...]

    def then(self, *jobs: Job, description: str = "", on_failure: OnFailure = "wait", **callbacks: Job) -> Batch:
        """A batch of these, and of `jobs`, which wait for all of them; `callbacks` and `on_failure` as for `Batch`. Raises BadJob."""
        batch = Batch(description, **callbacks)
        batch.add(*jobs, after=[batch.add(*self.jobs)], on_failure=on_failure)
        return batch


def group(*jobs: Job) -> Group:
    """Jobs that run side by side, and jobs that run after them: `group(a, b).then(c)`. If nothing runs after them, a `Batch` is enough."""
    return Group(jobs)


def opening(description: str, on_success: Job | None, on_finished: Job | None, on_death: Job | None) -> Opening:
    """What a batch is. Raises BadJob."""
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION:
        raise BadJob(
            f"a batch's description is a text of at most {MAX_DESCRIPTION} characters, not {description!r:.80}"
        )
    callbacks = {"success": on_success, "finished": on_finished, "death": on_death}
    for event, job in callbacks.items():
        if job is None:
            continue
        if not isinstance(job, Job):
            raise BadJob(f"on_{event} is a job, as handler.job(…) makes it, not {job!r:.80}")
        if job.lock is not None or job.batch is not None:
            raise BadJob(f"on_{event}: {job.job_class} is unique or in a batch: a callback must be neither")
    return Opening(description, {event: job for event, job in callbacks.items() if job is not None})


ABANDONED_AFTER_S = 86_400.0


def streamed(opening: Opening, abandoned_after: float | None) -> Opening:
    """The same, of a batch whose members are streamed. Raises BadJob."""
    try:
        seconds = None if abandoned_after is None else checked_seconds("abandoned_after", abandoned_after, MAX_SECONDS)
    except ValueError as error:
        raise BadJob(str(error)) from None
    return attrs.evolve(opening, sealed=False, abandoned_after_s=seconds)


def check_name(name: object, count: int, known: Collection[str]) -> None:
    """Raise BadJob for a name that `count` members of a batch with these names can't have."""
    if not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
        raise BadJob(f"a member's name is a printable text of at most {MAX_NAME} characters, not {name!r:.80}")
    if count != 1:
        raise BadJob(f"name={name!r} is for one job, not for {count}")
    if name in known:
        raise BadJob(f"this batch has a member named {name!r} already")


def waited_for(batch: str, after: Iterable[Members], on_failure: object) -> tuple[str, ...]:
    """The jids of all those before. Raises BadJob for what can't be waited for in that batch."""
    before: dict[str, None] = {}
    for each in after:
        if not isinstance(each, Members):
            raise BadJob(f"after is a list of what batch.add(…) returned, not {each!r:.80}")
        if each.batch != batch:
            raise BadJob("after names a job of another batch: only members of this one can be waited for")
        before.update(dict.fromkeys(each))
    if len(before) > MAX_BEFORE:
        raise BadJob(f"a job waits for {MAX_BEFORE:,} others at most: let other jobs wait for some of them each")
    if on_failure not in get_args(OnFailure):
        raise BadJob(f"on_failure is one of {', '.join(map(repr, get_args(OnFailure)))}, not {on_failure!r:.80}")
    return tuple(before)


def check_member(job: Job, *, waits: bool) -> None:
    """Raise BadJob for what can't be a member; `waits`: for others."""
    if not isinstance(job, Job):
        raise BadJob(f"a member of a batch is a job, as handler.job(…) makes it, not {job!r:.80}")
    if job.batch is not None:
        raise BadJob(f"{job.job_class} is in batch {job.batch.batch} already")
    if not job.runs_here:
        raise BadJob(
            f"{job.job_class}: a batch ends when its members tell how they ended, which only handlers of trioworkers do. Build it with handler.job(…), or say "
            "Job(…, runs_here=True) if another program of yours has the handler; a job for Ruby can be a callback: on_success=Job(…)"
        )
    if waits and job.lock is not None and job.lock.on_conflict in TAKE_OVER:
        raise BadJob(
            f"{job.job_class} waits for other jobs, and so can't take the place of its like, as on_conflict={job.lock.on_conflict!r} has it: use 'skip' or 'raise'"
        )


def members_of(
    jobs: Sequence[Job], batch: str, before: tuple[str, ...] = (), on_failure: OnFailure = "wait", name: str = ""
) -> list[Job]:
    """`jobs` as members of a batch that is there already. Raises BadJob."""
    for job in jobs:
        check_member(job, waits=bool(before))
    return [attrs.evolve(job, batch=Membership(batch, None, before, on_failure, name=name)) for job in jobs]


def not_cancelled(batch: str, error: BrokerError) -> str:
    """For the error by which a block ended whose batch can't even be cancelled."""
    return f"batch {batch} stays open, as it could not be cancelled: {error}; `trioworkers batch cancel {batch}`"
