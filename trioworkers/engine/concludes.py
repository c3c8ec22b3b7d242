"""How an attempt ended → what becomes of its job. Nothing is awaited in between."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from trioworkers import retry
from trioworkers.departures import Held
from trioworkers.engine import joblog, wanted
from trioworkers.engine.containment import is_ctrl_c, own_part
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.hook_calls import HookCalls
from trioworkers.engine.job_metrics import JobMetrics
from trioworkers.errors import BadJob
from trioworkers.failures import stand_in, summary
from trioworkers.jobs.context import Context
from trioworkers.jobs.handler import AnyHandler
from trioworkers.outcome import ACKNOWLEDGE, Acknowledge, Bury, Outcome, Requeue, Snooze
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure

logger = logging.getLogger("trioworkers")


@attrs.frozen
class Succeeded:
    """The handler returned. `value`: what, in JSON, if that is kept."""

    value: bytes | None = None


@attrs.frozen
class Failed:
    """The handler raised, took too long, or left something open that it should have closed."""

    error: BaseException


@attrs.frozen
class Stopped:
    """It was cancelled by us, and that ended it."""


End = Succeeded | Failed | Stopped
"""How an attempt ended. What becomes of its job then is an `Outcome`."""

SUCCEEDED, STOPPED = Succeeded(), Stopped()
_NO_ATTEMPT = (Requeue, Snooze)
"""Outcomes of what was put off: it is counted when it has been tried."""


class Concludes:
    """That of a runner. `queue_limits`: by queue, the name of its limit over the fleet."""

    def __init__(
        self,
        now_s: Callable[[], float],
        most_bytes: int,
        dialects: Mapping[str, Dialect],
        hooks: HookCalls,
        queue_limits: Mapping[str, str],
    ) -> None:
        self.hooks = hooks
        self.metrics = JobMetrics()
        self._now_s = now_s
        self._most_bytes = most_bytes
        self._dialects = dialects
        self._queue_limits = queue_limits

    def conclude(self, delivery: Delivery, handler: AnyHandler | None, ctx: Context, end: End) -> Outcome:
        """The outcome of an attempt, which is counted and logged here."""
        failure: BaseException | None = None
        outcome: Outcome = ACKNOWLEDGE
        if isinstance(end, Succeeded):
            if ctx._sends or end.value is not None:  # noqa: SLF001 - the handler's side has no business with it
                refused = partial(self._refused, delivery, handler, ctx)
                outcome = Acknowledge(tuple(ctx._sends), ctx._sends_bytes, end.value, refused)  # noqa: SLF001 - as above
        elif isinstance(end, Failed):
            failure, outcome = self._decide(delivery, handler, ctx, own_part(end.error))
        else:
            outcome = delivery.stopped()
        elapsed_s = trio.current_time() - delivery.started_at
        if handler is not None and not isinstance(outcome, _NO_ATTEMPT):
            self.metrics.count(ctx.job.job_class, elapsed_s, failed=not isinstance(outcome, Acknowledge))
        joblog.log_end(ctx.job, outcome, failure, elapsed_s)
        if delivery.held is not None and delivery.held.finished is not None:
            delivery.held = wanted.timed(delivery.held, elapsed_s)
        return outcome

    def _close_limits(self, delivery: Delivery, failure: BaseException, outcome: Outcome) -> Outcome:
        """Who is called wants no more: then nothing starts under the job's limits, and it is the first when they open."""
        leave_off_s = retry.rate_limited_s(failure)
        if leave_off_s is None:
            return outcome
        held = delivery.held or Held(delivery.jid)
        named = self._queue_limits.get(delivery.queue)
        outside = (() if held.permit is None else held.permit.limits) + (() if named is None else (named,))
        inside = () if held.closes is None else held.closes[0]
        if outside or inside:
            delivery.held = attrs.evolve(held, closes=(tuple({*outside, *inside}), leave_off_s))
        return Requeue(outcome.payload) if outside and isinstance(outcome, Snooze) else outcome

    def _refused(self, delivery: Delivery, handler: AnyHandler | None, ctx: Context, problem: str) -> Outcome:
        """It succeeded, but what it enqueued can't go out."""
        error = BadJob(f"enqueued by this job, and refused: {problem}")
        _, outcome = self._decide(delivery, handler, ctx, error)
        joblog.log_end(ctx.job, outcome, error, trio.current_time() - delivery.started_at)
        self.hooks.tell_later(ctx, error, outcome)
        return outcome

    def _decide(
        self, delivery: Delivery, handler: AnyHandler | None, ctx: Context, failure: BaseException
    ) -> tuple[BaseException, Outcome]:
        """What becomes of a failed attempt; and the failure, or its stand-in where it can't even be looked at."""
        for error in (failure, stand_in(failure)):
            try:
                return error, self._close_limits(delivery, error, self._decide_by(error, delivery, handler, ctx))
            except (
                BaseException
            ) as second:  # an attribute that raises, a delay that is no number: still one job's failure
                if is_ctrl_c(second):
                    raise
                logger.warning(
                    "job %s (%s) failed in a way that we can't handle: %s: %s",
                    ctx.job.jid,
                    ctx.job.job_class,
                    *summary(second),
                )
        return error, Bury(delivery.payload, failure=Failure(*summary(error)))

    def _decide_by(self, error: BaseException, delivery: Delivery, handler: AnyHandler | None, ctx: Context) -> Outcome:
        progress = ctx._progress  # noqa: SLF001 - the handler's side has no business with it
        job = ctx.job
        if progress is not None and progress.got_further:  # asked for: what it did meanwhile outweighs earlier failures
            job = attrs.evolve(job, retry_count=None, failed_at_s=None, snoozed_at_s=None)
        return retry.decide(
            job,
            delivery.payload,
            error,
            now_s=self._now_s(),
            jitter=random.random(),
            default=None if handler is None else handler.retry,
            dialect=self._dialects.get(delivery.queue, SIDEKIQ),
            progress=None if progress is None else progress.fields(),
            max_bytes=self._most_bytes,
        )
