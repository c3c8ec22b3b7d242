"""What a running job may borrow: its job, its time, and the worker's means of talking to the world."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from trioworkers.errors import BadJob, JobGone
from trioworkers.jobs.batch import Batch
from trioworkers.jobs.open_batch import JobBatch
from trioworkers.seconds import MAX_SECONDS
from trioworkers.send import Send, moment
from trioworkers.wire.ended import decode_value
from trioworkers.wire.job import Job
from trioworkers.wire.lifetime import checked_seconds

if TYPE_CHECKING:
    import httpx

    from trioworkers.jobs.client import Client
    from trioworkers.jobs.fan_out import FanOut
    from trioworkers.jobs.iteration import Source
    from trioworkers.jobs.limits import FleetLimit
    from trioworkers.jobs.progress import Progress

logger = logging.getLogger("trioworkers.job")
T = TypeVar("T")


class Resources(Protocol):
    """What all jobs of a worker share."""

    @property
    def http(self) -> httpx.AsyncClient:
        """The shared HTTP client."""

    @property
    def client(self) -> Client:
        """The shared sending client."""

    @property
    def state(self) -> Any:
        """What the app's lifespan yielded."""

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """Compute in another process."""

    def limit(self, job: Job, limit: str | FleetLimit, key: Any) -> AbstractAsyncContextManager[None]:
        """See `Context.limit`."""


def _check_importable(function: Callable[..., Any]) -> None:
    """Raise TypeError for what can't be imported by name elsewhere; pickle would say so, too, but not what to do about it.

    Cloudpickle, where it happens to be installed, could send some of it. A handler should not need it by accident.
    """
    while isinstance(function, partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    if "<lambda>" in name or "<locals>" in name:
        what = "a lambda" if name.endswith("<lambda>") else f"{name.rpartition('.')[2]}, defined in another function"
        raise TypeError(
            f"run_cpu takes a function that another process can import by its name, not {what}: "
            "define it at the top of a module, and give what it needs as arguments"
        )
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"run_cpu takes a plain function, not {name}, which is async: await it here")


class JobLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry jid, class, queue and attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the job's fields to what the caller gives."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


OpenProgress = Callable[[Any, Job], "Progress"]
"""Opens the progress of a delivery's job."""


@attrs.define(eq=False)
class Context:
    """Everything that a running job can use. `deadline`: when it is cancelled, on the clock of `trio.current_time()`; inf for never."""

    job: Job
    deadline: float
    _resources: Resources = attrs.field(repr=False)
    _open_progress: OpenProgress = attrs.field(repr=False)
    _delivery: Any = attrs.field(default=None, repr=False)
    """What `_open_progress` wants to know: the worker's side of this attempt, of which we know nothing."""
    _progress: Progress | None = attrs.field(default=None, init=False, repr=False)
    _sends: Sequence[Send] = attrs.field(default=(), init=False, repr=False)
    """A list once the job sends something, which most don't."""
    _sends_bytes: int = attrs.field(default=0, init=False, repr=False)
    _log: JobLog | None = attrs.field(default=None, init=False, repr=False)

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 for the first retry, …"""
        return self.job.attempt

    @property
    def tick(self) -> datetime | None:
        """For a periodic job: the moment at which this run was due, in the entry's zone, also if it runs later. For other jobs: None."""
        from trioworkers.wire.periodic import tick_of  # noqa: PLC0415 - few jobs are periodic

        tick = tick_of(self.job.extra)
        return None if tick is None else tick.moment

    @property
    def http(self) -> httpx.AsyncClient:
        """The worker's shared `httpx.AsyncClient`. Don't close it."""
        return self._resources.http

    @property
    def client(self) -> Client:
        """The worker's client. It sends at once, also if this job fails later."""
        return self._resources.client

    @property
    def state(self) -> Any:
        """The value that the app's lifespan yielded; None without a lifespan."""
        return self._resources.state

    @property
    def log(self) -> JobLog:
        """A logger. Its records have jid, class, queue and attempt."""
        if self._log is None:
            job = self.job
            fields: Mapping[str, object] = {
                "jid": job.jid,
                "job_class": job.job_class,
                "queue": job.queue,
                "attempt": job.attempt,
            }
            self._log = JobLog(logger, fields)
        return self._log

    def fan_out(
        self,
        *,
        limit: int | None = None,
        timeout: float | None = None,
        checkpoint: bool = False,
        client: httpx.AsyncClient | None = None,
    ) -> AbstractAsyncContextManager[FanOut]:
        """A nursery of named HTTP calls; see `FanOut`. `limit`: calls in flight.

        `timeout`: seconds that a call may take to connect, for each read and for each write. `checkpoint`: record in Redis at once which calls
        are done. Then they are not made again even after `kill -9`. Calls that end at about the same time share one write. `client`: a client of
        your own, or an object with the same interface, instead of the shared client.
        The block ends when all calls have ended. It raises FanOutError at its end if some failed. If the block is cancelled, so are the calls.
        Raises ValueError for an impossible limit or timeout.
        """
        from trioworkers.jobs.fan_out import open_fan_out  # noqa: PLC0415 - it needs Trio, which who only declares a handler hasn't

        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise ValueError(
                f"limit is a whole number from 1 on, not {limit!r:.80}"
            )  # with none nothing would ever be sent
        if timeout is not None:
            checked_seconds("timeout", timeout, MAX_SECONDS)
        return open_fan_out(
            self.http if client is None else client,
            self.job.jid,
            self._opened(),
            limit=limit,
            timeout_s=timeout,
            checkpoint=checkpoint,
        )

    def _opened(self) -> Progress:
        if self._progress is None:
            self._progress = self._open_progress(self._delivery, self.job)
        return self._progress

    async def step(self, name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await `function(*args)` once for this job, in all its attempts together. Returns what the function returned.

        The value is recorded in Redis under `name` before `step` returns. A later attempt gets the recorded value, and doesn't call the function: after a retry, a stop, a
        takeover, or `kill -9`. If the worker crashes between the end of the function and the record, the function is called once more. So all
        requests of `ctx.http` inside carry `Idempotency-Key: JID:NAME`. The value is written as JSON, up to 64 KiB, and read back as the function's annotation
        says, also in the first attempt.

        Raises what the function raises; then nothing is recorded. Raises ValueError for a name that this attempt has used already; BadResult for a value that JSON
        can't hold, or a record that doesn't fit the function's annotation; NotRecorded if Redis refuses the record; RecordsLost. In an outage it waits for
        Redis. If it is cancelled, the steps that are done are written with the job's outcome.
        """
        from trioworkers.jobs.steps import take_step  # noqa: PLC0415 - few jobs take steps

        look_up = self._resources.client.recorded
        result: T = await take_step(self.job.jid, self._opened(), look_up, name, function, args)
        return result

    def iterate(
        self,
        name: str,
        source: Source[T],
        *,
        every: int | timedelta = 100,
        max_run: float | None = None,
        reset_retries: bool = False,
    ) -> AsyncIterator[T]:
        """The values of `source(cursor)`, an async iterable of `(cursor, value)`. They begin after the last row that this job has done, in any attempt.

        In the first attempt `source` is called with None, later with the cursor of the last row that is done. It begins after that row. A row is done when the loop asks for the
        next one. The cursor is written with every outcome. It is also recorded in Redis after so many rows, or so much time: `every`. After `kill -9`, the rows
        after the last record are repeated. A worker that stops puts the job back between two rows, and no attempt is counted.

        `max_run`: after so many seconds the job goes behind the others that wait, and comes back. `reset_retries`: the count of failures begins again when at least one row was done.
        Within the loop the calls of a fan-out are remembered only for their row, so use the row in their names.

        Raises ValueError for a name that this attempt has used already, and for impossible options. In the loop it raises what the source raises, NotRecorded, and
        BadResult for a cursor of more than 4 KiB of JSON. `trioworkers.sources` has ready-made sources.
        """
        from trioworkers.jobs.iteration import Iteration  # noqa: PLC0415 - as above

        return Iteration(self._opened(), name, source, every=every, max_run=max_run, reset_retries=reset_retries)

    def progress(self, at: float, total: float | None = None, message: str = "") -> None:
        """Show people how far this job is: `trioworkers watch JID`. `message`: its first 200 characters are kept.

        Call it as often as you like. It is kept in memory, and written at most once a second for all jobs of a worker together. Raises ValueError for impossible
        numbers.
        """
        from trioworkers.wire.reported import reported  # noqa: PLC0415 - few jobs tell

        attempt, told = self._opened().attempt, reported(at, total, message)
        if attempt is not None:
            attempt.report(told)

    @property
    def idempotency_key(self) -> str:
        """Inside a step `JID:NAME`, elsewhere the jid. It is the same in every attempt. Requests of `ctx.http` inside a step carry it by themselves."""
        from trioworkers.http.idempotency import current_key  # noqa: PLC0415 - as above

        return current_key() or self.job.jid

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in another process and return its result. Arguments and result must be picklable.

        Raises what the function raises. Raises CPUWorkerDied if the process ends meanwhile. Raises TypeError at once if another process can't find
        the function. If the call is cancelled, the process is killed.
        """
        _check_importable(function)
        return await self._resources.run_cpu(function, *args)

    def limit(self, limit: str | FleetLimit, key: Any = None) -> AbstractAsyncContextManager[None]:
        """A limit over the fleet around part of the job. `async with ctx.limit("crm"):` waits in its slot until it has a permit: first come, first served.

        `limit`: the name of a limit that a handler of the app declares, or a `FleetLimit` with its numbers. `key`: the value, for a limit that holds for each value. The
        wait ends when the attempt ends: by its deadline or timeout, or because it is cancelled. At the end of the attempt or the block, the permit is given back.
        Raises ConfigurationError for a limit that nobody declares; BadArguments for an impossible key; RuntimeError if the
        job is under that limit already; Refused if its keys in Redis are broken. A `RateLimited` that is raised inside closes this limit, too.
        """
        return self._resources.limit(self.job, limit, key)

    @property
    def batch(self) -> JobBatch | None:
        """The batch that this job is a member of, or None."""
        membership = self.job.batch
        return None if membership is None else JobBatch(membership.batch, self._send_members, self._outgoing())

    async def result(self, name: str) -> Any:
        """The result of the member with this name in the job's batch: `batch.add(job, name="fetch")`, and `after=` it. It has JSON's types.

        Raises JobGone if that member has not succeeded (yet), or there is none of this name; RuntimeError in a job that is in no batch; Unavailable or Refused if
        Redis fails. Cancelled: nothing has happened.
        """
        if self.job.batch is None:
            raise RuntimeError("ctx.result is for members of a batch: this job is in none")
        text = await self._resources.client.member_result(self.job.batch.batch, name)
        if text is None:
            raise JobGone(name, "not in this batch, or has not succeeded")
        return decode_value(text)

    def _outgoing(self) -> list[Send]:
        if not isinstance(self._sends, list):
            self._sends = []
        return self._sends

    def _send_members(self, jobs: Sequence[Job]) -> None:
        self._send(Send(self._inheriting(job)) for job in jobs)

    def _send(self, sends: Iterable[Send]) -> None:
        if self._delivery is not None and self._delivery.is_decided:
            raise RuntimeError(
                "the attempt is over, and what it had to send has gone: `await ctx.client.enqueue(…)` sends at once"
            )
        self._outgoing().extend(sends)

    def enqueue(self, *jobs: Job | Batch) -> None:
        """Send jobs together with this job's success, in one atomic step. If the attempt fails, nothing is sent.

        If another job has the lock of a unique job, its `on_conflict` decides. If this job itself has the lock, the new job follows it.
        Raises BadJob for `on_conflict="raise"`; RuntimeError when the attempt is over, in a task or thread that it has left behind.
        """
        for job in jobs:
            members = job.members() if isinstance(job, Batch) else (job,)
            self._send(Send(self._inheriting(each)) for each in members)

    def schedule(self, when: datetime | timedelta | float, *jobs: Job) -> None:
        """Like `enqueue`, for a later time: a datetime, a timedelta or seconds from the moment of this job's success."""
        delay_s, at_s = moment(when)
        self._send(Send(self._inheriting(job), delay_s=delay_s, at_s=at_s) for job in jobs)

    def _inheriting(self, job: Job) -> Job:
        """`job`, which must be over when this one must be. Raises BadJob for one that would raise when nobody could catch it."""
        if job.lock is not None and job.lock.on_conflict == "raise":
            raise BadJob(
                f"{job.job_class}: it is unique with on_conflict='raise', and goes out when this job has ended: nobody could catch what it raises. "
                "Use ctx.client.enqueue, which sends at once, or another on_conflict"
            )
        ours, its = self.job.deadline, job.deadline
        return job if ours is None or (its is not None and its <= ours) else attrs.evolve(job, deadline=ours)

    def remaining(self) -> float:
        """Seconds until the deadline; inf without one."""
        import trio  # noqa: PLC0415 - as in `fan_out`

        return self.deadline - trio.current_time()
