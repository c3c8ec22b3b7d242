"""One delivery, one attempt: decode, look up, middleware, handler → an outcome. Knows neither the worker nor Redis."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, Protocol

import trio

from trioworkers.departures import held_unread
from trioworkers.engine import joblog, wanted
from trioworkers.engine.concludes import STOPPED, SUCCEEDED, Concludes, End, Failed, Succeeded
from trioworkers.engine.containment import comes_from_outside, own_part
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.foreign_fields import ForeignFields
from trioworkers.engine.hook_calls import HookCalls
from trioworkers.engine.quarantine import WORKER_DIED
from trioworkers.engine.recorder import close_sources, open_progress
from trioworkers.engine.skipped import SkippedJobs
from trioworkers.errors import BadJob, BadPayload, UnknownClass, WorkerDied
from trioworkers.failures import summary
from trioworkers.http.time_left import telling_until
from trioworkers.jobs.context import Context, OpenProgress, Resources
from trioworkers.jobs.handler import AnyHandler
from trioworkers.jobs.hooks import Hooks
from trioworkers.jobs.limits import FleetLimit
from trioworkers.jobs.middleware import CallNext, Middleware
from trioworkers.jobs.progress import Progress
from trioworkers.outcome import Bury, Expire, Outcome, Snooze
from trioworkers.settings import Unknown
from trioworkers.size_guard import SizeGuard
from trioworkers.tracebacks import last_place
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.encode import addressed, amend, encode
from trioworkers.wire.ended import encode_result
from trioworkers.wire.job import HELD_FIELD, Job, new_jid
from trioworkers.wire.limit_spec import queue_limit_name
from trioworkers.wire.periodic import TICK_FIELD

HELD_S = 300.0

WHAT_WE_ADD_BYTES = 1 << 19
"""A job that was just small enough to be sent must not be too large for its retries: message, backtrace and progress come to it, but no more than that."""
WHAT_A_WAIT_ADDS_BYTES = 4096
"""Of that, what comes to a job that was held or left for others before its first attempt: a queue, a jid."""


MAX_SENDS_BYTES = 1 << 28
"""What a job sends goes out with its success, in one command; Redis hangs up on one of 512 MB."""


class Handlers(Protocol):
    """Where a runner looks handlers up."""

    def find(self, queue: str, job_class: str) -> AnyHandler | None:
        """The handler for a class on a queue."""

    def classes(self, queue: str) -> Sequence[str]:
        """The classes that have a handler on a queue."""

    def unknown_on(self, queue: str) -> Unknown:
        """What becomes of jobs on a queue whose class has no handler."""


class Attempt:
    """What an attempt needs; called, it starts the handler: what the innermost middleware awaits.

    A `partial` for that, and a pair of the two, would be 270 bytes more for each job that runs.
    """

    __slots__ = ("ctx", "handler")

    def __init__(self, handler: AnyHandler | None, ctx: Context) -> None:
        self.handler = handler
        self.ctx = ctx

    def __call__(self) -> Awaitable[Any]:
        """Call the handler."""
        return self.handler.start(self.ctx.job, self.ctx)  # type: ignore[union-attr] # without a handler nobody calls it


class Runner(Concludes):
    """Runs deliveries of one worker. `now_s` tells Redis's time in epoch seconds. `is_stopping`: whether the worker was told to stop."""

    def __init__(
        self,
        handlers: Handlers,
        middleware: Sequence[Middleware],
        resources: Resources,
        now_s: Callable[[], float],
        guard: SizeGuard,
        dialects: Mapping[str, Dialect] | None = None,
        hooks: Hooks | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        queue_limits: Mapping[str, FleetLimit] | None = None,
    ) -> None:
        limits = {queue: queue_limit_name(each.name) for queue, each in (queue_limits or {}).items()}
        super().__init__(
            now_s, guard.max_bytes + WHAT_WE_ADD_BYTES, dialects or {}, HookCalls(hooks or Hooks()), limits
        )
        self.is_stopping = is_stopping
        self._handlers = handlers
        self._middleware = middleware[::-1]  # innermost first
        self._resources = resources
        self._guard = guard
        self.paused_classes: frozenset[str] = frozenset()
        self.skipped = SkippedJobs()
        self._foreign = ForeignFields()
        self.report: Callable[[Delivery], None] = _ignore

    async def run(self, delivery: Delivery, open_progress: OpenProgress) -> Outcome:
        """One attempt. Always returns an outcome; a cancellation of the delivery's scope is one: requeue. `open_progress`: of `progress_saved_by`.

        Whatever a handler raises is its job's failure, be it a panic in a Rust extension or GeneratorExit; see `containment`. All of it is
        one coroutine, and what it keeps while its job waits is as little as it can be: ten thousand jobs wait here.
        """
        try:
            attempt = self._prepare(delivery, open_progress)
        except Exception as error:  # noqa: BLE001 - a hole in how we read strangers' bytes is one job's trouble
            return _unreadable(delivery, error)
        if not isinstance(attempt, Attempt):
            return attempt
        ctx = attempt.ctx
        if ctx.job.deadline is not None and ctx.deadline <= trio.current_time():
            return await self._ended(delivery, attempt, Failed(wanted.too_late(ctx.job, ran=False)))
        joblog.log_start(ctx.job)
        end: End | None = None
        waited_at = ""
        try:
            with delivery.start(ctx.deadline):
                try:
                    value = await self._call(attempt)
                    end = (
                        self._returned(delivery, ctx, value)
                        if ctx._sends or delivery.held is not None  # noqa: SLF001 - the handler's side has no business with it
                        else SUCCEEDED
                    )
                except BaseException as error:
                    if comes_from_outside(error, delivery):
                        if delivery.cancellation is None:  # where each of ten thousand stopped jobs waited is no news
                            waited_at = last_place(error)
                        raise
                    end = Failed(error)
        except RuntimeError as error:  # by the scope: the handler left one of its own open, and Trio has closed that
            end = Failed(error)
        if end is SUCCEEDED and delivery.checkpoints is None:  # nearly all: nothing to close, nobody to tell
            return self.conclude(delivery, attempt.handler, ctx, end)
        try:
            return await self._ended(delivery, attempt, end, waited_at)
        finally:
            del end  # a failure's traceback holds this frame: if that held the failure, only Python's collector would free them

    def progress_saved_by(self, save: Callable[[Delivery], trio.Event]) -> OpenProgress:
        """What opens the progress of a job that asks for it. `save`: makes what `delivery.checkpoints` has to say durable at once.

        One for all jobs of a queue: something for each would be 280 bytes more for each that runs, and few jobs ask.
        """
        return lambda delivery, job: open_progress(delivery, job, save, self._most_bytes, self.is_stopping, self.report)

    def killed(self, queue: str, payload: bytes) -> None:
        """A job was buried since workers died under it: whoever wants to hear of deaths is told, in a while. For those that can be read."""
        if not self.hooks:
            return
        try:
            job = self._dialects.get(queue, SIDEKIQ).decode(payload, queue)
        except Exception:  # noqa: BLE001 - a payload that is no job has no context; the log has told of it
            return
        ctx = Context(job, math.inf, self._resources, lambda delivery, job: Progress())  # noqa: ARG005 - nothing runs
        self.hooks.tell_later(ctx, WorkerDied(WORKER_DIED.message), Bury(payload))

    # ── prepare ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, delivery: Delivery, open_progress: OpenProgress) -> Attempt | Outcome:
        """What an attempt needs; or the outcome of what isn't attempted. Raises BadPayload, and whatever we have not thought of."""
        delivery.job = job = self._decode(delivery, self._dialects.get(delivery.queue, SIDEKIQ))
        handler = self._handlers.find(job.queue, job.job_class)
        if job.job_class in self.paused_classes or handler is None:
            put_off = self._put_off(job, handler, delivery)
            if put_off is not None:
                return put_off
        timeout_s = None if handler is None else handler.timeout_s
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        if _is_wanted_for_a_time(job, handler):
            now_s = self._now_s()
            permit = None if delivery.held is None else delivery.held.permit
            delivery.held = wanted.held_by(job, handler, permit)
            if wanted.has_expired(job, handler, now_s):
                joblog.log_expired(job)
                return Expire()
            deadline = wanted.time_of(job, timeout_s, now_s)
        return Attempt(handler, Context(job, deadline, self._resources, open_progress, delivery))

    def _put_off(self, job: Job, handler: AnyHandler | None, delivery: Delivery) -> Snooze | None:
        """For a job that can't run here and now, for no fault of its own: later. None for one that isn't wanted any more, or whose time is over."""
        now_s = self._now_s()
        left_s = wanted.seconds_left(job, now_s)
        if wanted.has_expired(job, handler, now_s) or (left_s is not None and left_s <= 0.0):
            return None
        # By people, who will resume it: that is no trying, which `retry_for` would bound.
        if job.job_class in self.paused_classes:
            expires_s = math.inf if job.expires_at_s is None else job.expires_at_s - now_s
            return hold(delivery.payload, delivery.queue, min(expires_s, math.inf if left_s is None else left_s))
        if self._handlers.unknown_on(job.queue) == "leave":
            return self.skipped.skip(job, delivery.payload, now_s, self._most_bytes)
        return None

    def _decode(self, delivery: Delivery, dialect: Dialect) -> Job:
        size = len(delivery.payload)
        if size <= self._guard.small_bytes:  # nearly all
            return delivery.job or dialect.decode(delivery.payload, delivery.queue)
        most = self._guard.max_bytes
        job = None
        if size <= self._most_bytes:
            job = delivery.job or dialect.decode(delivery.payload, delivery.queue)
        if job is None or (size > most + WHAT_A_WAIT_ADDS_BYTES and not job.was_here):
            raise BadPayload(f"{size} bytes, more than max_payload_bytes={most}")
        self._guard.notice(job, size, "runs")
        return job

    # ── attempt ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _returned(self, delivery: Delivery, ctx: Context, value: object) -> Succeeded:
        """The handler returned `value`. Raises what is wrong with that, or with what the job enqueued."""
        if ctx._sends:  # noqa: SLF001 - the handler's side has no business with it
            self._check_sends(ctx)
        if delivery.held is not None and delivery.held.wants_value:
            return Succeeded(encode_result(value))
        return SUCCEEDED

    async def _ended(self, delivery: Delivery, attempt: Attempt, end: End | None, waited_at: str = "") -> Outcome:
        """The outcome of what ended so, when everything is closed and everybody told. `end`: None for a cancellation, be it by us or by its deadline."""
        ctx = attempt.ctx
        if end is None:
            end = STOPPED if delivery.cancellation is not None else Failed(self._too_slow(attempt, waited_at))
        if delivery.checkpoints is not None:
            await close_sources(ctx._progress)  # noqa: SLF001 - the handler's side has no business with it
        if delivery.cancellation is not None and not isinstance(end, Succeeded):
            end = STOPPED  # when it is cancelled, what else goes wrong is only clean-up going wrong
        outcome = self.conclude(delivery, attempt.handler, ctx, end)
        if isinstance(end, Failed) and self.hooks:
            await self.hooks.tell(delivery, ctx, own_part(end.error), outcome)
        return outcome

    def _too_slow(self, attempt: Attempt, waited_at: str) -> Exception:
        handler, ctx = attempt.handler, attempt.ctx
        if ctx.job.deadline is not None and (wanted.seconds_left(ctx.job, self._now_s()) or 0.0) <= 0.0:
            return wanted.too_late(ctx.job, ran=True)
        seconds = handler.timeout_s if handler is not None else None
        where = f"; it waited at {waited_at}" if waited_at else ""
        return trio.TooSlowError(f"the attempt took longer than its timeout of {seconds:g} s{where}")

    def _call(self, attempt: Attempt) -> Awaitable[Any]:
        ctx = attempt.ctx
        if ctx.job.extra and attempt.handler is not None:
            self._foreign.check(ctx.job, attempt.handler, self._now_s())
        call: CallNext = attempt if attempt.handler is not None else partial(self._refuse, ctx.job)
        for middleware in self._middleware:
            call = partial(middleware, ctx, call)
        return call() if ctx.job.deadline is None else telling_until(ctx.deadline, call)

    async def _refuse(self, job: Job) -> NoReturn:
        """Inside all middleware, like any failure: who counts or reports failures there wants to hear of these, too."""
        known = ", ".join(sorted(self._handlers.classes(job.queue))) or "none"
        text = f"no handler for class {job.job_class!r} on queue {job.queue!r}; known: {known}"
        raise UnknownClass(text, hopeless=self._handlers.unknown_on(job.queue) == "dead")

    def _check_sends(self, ctx: Context) -> None:
        """What was enqueued must have a form in JSON, and not be too large; found out here, it is the job's failure, not the settler's."""
        size = 0
        for send in ctx._sends:  # noqa: SLF001 - as above
            try:
                payload = encode(send.job, self._now_s())
                self._guard.check(send.job, payload)
            except BadJob as error:
                raise BadJob(f"enqueued by this job: {error}") from error
            size += len(payload)
        if size > MAX_SENDS_BYTES:
            raise BadJob(f"enqueued by this job: {size:,} bytes in all, more than {MAX_SENDS_BYTES:,} in one step")
        ctx._sends_bytes = size  # noqa: SLF001 - as above


def _ignore(delivery: Delivery) -> None:
    """Nobody writes what jobs tell of how far they are."""


def _unreadable(delivery: Delivery, error: Exception) -> Bury:
    name, message = summary(error)
    reason = message if isinstance(error, BadPayload) else f"{name}: {message}"
    joblog.log_buried(delivery.queue, delivery.payload, reason)
    delivery.held = held_unread(delivery.payload, delivery.held)
    return Bury.unreadable(delivery.payload, reason)


def _is_wanted_for_a_time(job: Job, handler: AnyHandler | None) -> bool:
    """Whether the job or its handler says anything of how long it is wanted, holds a lock, or has its end noted. Most don't, so this is all that it costs them."""
    if job.may_say_more and _says_more(job):
        return True
    return handler is not None and handler.says_more


def _says_more(job: Job) -> bool:
    if job.expires_at_s is not None or job.deadline is not None or job.keep_result is not None or job.lock is not None:
        return True
    if job.batch is not None or TICK_FIELD in job.extra:
        return True
    return job.recorded is not None and bool(job.recorded.beside)


def hold(payload: bytes, queue: str, left_s: float = math.inf) -> Snooze:
    """Where a job of a paused class waits: in the schedule set, marked, so that who resumes the class finds it.

    It comes back by itself after some minutes to look whether it may run: seldom enough for a hundred thousand of them. After `left_s` nobody wants it, or it must have ended.
    """
    delay_s = min(HELD_S * random.uniform(1.0, 1.5), max(left_s, 0.0))
    return Snooze(amend(addressed(payload, queue, new_jid()), {HELD_FIELD: True}), delay_s)
