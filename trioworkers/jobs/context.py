"""What a running job may borrow: its job, its time, and the worker's means of talking to the world."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from trioworkers.errors import BadJob, JobGone
from trioworkers.jobs.batch import Batch, JobBatch
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


@attrs.define(eq=False)
class Context:
    """A running job's view of the world. `deadline`: when it is cancelled, on `trio.current_time()`'s clock; inf for never."""

    job: Job
    deadline: float
    _resources: Resources = attrs.field(repr=False)
    _open_progress: Callable[[], Progress] = attrs.field(repr=False)
    _progress: Progress | None = attrs.field(default=None, init=False, repr=False)
    _sends: list[Send] = attrs.field(factory=list, init=False, repr=False)
    _sends_bytes: int = attrs.field(default=0, init=False, repr=False)
    _log: JobLog | None = attrs.field(default=None, init=False, repr=False)

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 for the first retry, …"""
        return self.job.attempt

    @property
    def tick(self) -> datetime | None:
        """Of a periodic job the moment at which this run was due, in the entry's zone, however late it is; of any other None."""
        from trioworkers.wire.periodic import tick_of  # noqa: PLC0415 - few jobs are periodic

        tick = tick_of(self.job.extra)
        return None if tick is None else tick.moment

    @property
    def http(self) -> httpx.AsyncClient:
        """The worker's shared `httpx.AsyncClient`. Don't close it."""
        return self._resources.http

    @property
    def client(self) -> Client:
        """The worker's client: sends at once, whatever becomes of this job."""
        return self._resources.client

    @property
    def state(self) -> Any:
        """What the app's lifespan yielded; None without one."""
        return self._resources.state

    @property
    def log(self) -> JobLog:
        """A logger that carries jid, class, queue and attempt."""
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

        `timeout`: seconds that a call may take to connect, for each read and for each write. `checkpoint`: record in Redis at once what
        is done, so that not even `kill -9` makes these calls again; calls that end at about the same time share one write. `client`: one of
        your own instead of the shared one, or whatever has the same interface.
        The block ends when all calls have. Raises FanOutError at its end if some failed. Cancelled, it cancels the calls.
        Raises ValueError for a limit or a timeout that can't be.
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
            self._progress = self._open_progress()
        return self._progress

    async def step(self, name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await `function(*args)` once for this job, whatever becomes of the attempt; returns what it returned.

        That is recorded in Redis under `name` before this returns. A later attempt gets the recorded value without a call: after a retry, a stop, a
        takeover, `kill -9`. Only between the function's end and the record is a gap, in which a crash has it called once more; so all
        requests of `ctx.http` inside carry `Idempotency-Key: JID:NAME`. What is returned goes through JSON, up to 64 KiB, in the first attempt as well, and
        becomes what the function's annotation says.

        Raises what the function raises, when nothing is recorded; ValueError for a name that this attempt has had already; BadResult for what JSON
        can't hold, or if the record is not what the function says by now; NotRecorded if Redis refuses the record; RecordsLost. An outage of
        Redis is waited out. Cancelled: what is done goes with the job's outcome.
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
        """The values of `source(cursor)`, an async iterable of `(cursor, value)`, from after the last row that this job has done, in any attempt.

        `source` is called with None at first, later with the cursor of the last row that is done: it begins after that. A row is done when the next one is
        asked for. Where the iteration is goes with every outcome, and is recorded in Redis besides after so many rows, or so much time: `every`; a `kill -9`
        repeats what came after the last record. A worker that stops puts the job back between two rows, no attempt counted. `max_run`: seconds after which the job goes
        behind the others that wait, and comes back. `reset_retries`: failures are counted anew when at least one row was done.

        Within the loop the calls of a fan-out are remembered only for the row they belong to: name them by it.
        Raises ValueError for a name that this attempt has had already, and for options that can't be; in the loop what the source raises, NotRecorded,
        BadResult for a cursor that JSON can't hold in 4 KiB. See `trioworkers.sources` for ready-made ones.
        """
        from trioworkers.jobs.iteration import Iteration  # noqa: PLC0415 - as above

        return Iteration(self._opened(), name, source, every=every, max_run=max_run, reset_retries=reset_retries)

    def progress(self, at: float, total: float | None = None, message: str = "") -> None:
        """Have people see how far this job is: `trioworkers watch JID`. `message`: up to 200 characters of it.

        Kept in memory, and written once a second at most for all jobs of a worker together: call it as often as you like. Raises ValueError for numbers
        that can't be.
        """
        from trioworkers.wire.reported import reported  # noqa: PLC0415 - few jobs tell

        attempt, told = self._opened().attempt, reported(at, total, message)
        if attempt is not None:
            attempt.report(told)

    @property
    def idempotency_key(self) -> str:
        """`JID:NAME` inside a step of that name, which requests of `ctx.http` carry by themselves; elsewhere the jid. The same in every attempt."""
        from trioworkers.http.idempotency import current_key  # noqa: PLC0415 - as above

        return current_key() or self.job.jid

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in another process and return its result; both have to be picklable.

        Raises what the function raises, CPUWorkerDied if the process ends under it, or at once TypeError if no other process could find
        the function. Cancelled, the process is killed.
        """
        _check_importable(function)
        return await self._resources.run_cpu(function, *args)

    def limit(self, limit: str | FleetLimit, key: Any = None) -> AbstractAsyncContextManager[None]:
        """A limit over the fleet around part of the job: `async with ctx.limit("crm"):` waits, in its slot, until it has a permit, first come first served.

        `limit`: the name of one that a handler of the app declares, or one with its numbers; `key`: of one that holds for each value by itself, which. The
        wait ends with the attempt: its deadline or timeout, or when it is cancelled; then, and at the end of the block, the permit is another's.
        Raises ConfigurationError for a limit that nobody declares, BadArguments for a key that is none, RuntimeError if the
        job is under that limit already, Refused if its keys in Redis are broken. `RateLimited`, raised inside, closes it, too.
        """
        return self._resources.limit(self.job, limit, key)

    @property
    def batch(self) -> JobBatch | None:
        """The batch whose member this job is; None for most."""
        membership = self.job.batch
        return None if membership is None else JobBatch(membership.batch, self._send_members)

    async def result(self, name: str) -> Any:
        """What the member with this name in the job's batch returned: `batch.add(job, name="fetch")`, and `after=` it. In JSON's types.

        Raises JobGone if it has not succeeded (yet), or there is none of this name; RuntimeError in a job that is in no batch; Unavailable or Refused if
        Redis fails. Cancelled: nothing has happened.
        """
        if self.job.batch is None:
            raise RuntimeError("ctx.result is for members of a batch: this job is in none")
        text = await self._resources.client.member_result(self.job.batch.batch, name)
        if text is None:
            raise JobGone(name, "not in this batch, or has not succeeded")
        return decode_value(text)

    def _send_members(self, jobs: Sequence[Job]) -> None:
        self._sends.extend(Send(self._inheriting(job)) for job in jobs)

    def enqueue(self, *jobs: Job | Batch) -> None:
        """Send jobs together with this job's success, in one atomic step. If the attempt fails, nothing is sent.

        A unique one that meets another one then is as its `on_conflict` says; one that only meets this very job follows it.
        Raises BadJob for `on_conflict="raise"`.
        """
        for job in jobs:
            members = job.members() if isinstance(job, Batch) else (job,)
            self._sends.extend(Send(self._inheriting(each)) for each in members)

    def schedule(self, when: datetime | timedelta | float, *jobs: Job) -> None:
        """Like `enqueue`, for a later time: a datetime, a timedelta or seconds from the moment of this job's success."""
        delay_s, at_s = moment(when)
        self._sends.extend(Send(self._inheriting(job), delay_s=delay_s, at_s=at_s) for job in jobs)

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
