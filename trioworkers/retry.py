"""What becomes of a failed attempt: Sidekiq's rules as plain arithmetic. Time and chance come in as arguments.

Sources: Sidekiq's `job_retry.rb` from 6.4 to 8.1; where versions differ we follow 8.1 (`retry_for` instead of a number of
retries, jitter from 0 to 10 × (count + 1) seconds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trioworkers import errors
from trioworkers.failures import encode_backtrace, leaves, summary, trace
from trioworkers.outcome import Bury, Discard, Retry, Snooze
from trioworkers.wire import numbers
from trioworkers.wire.active_job import count_execution
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure
from trioworkers.wire.encode import addressed, amend
from trioworkers.wire.fitting import fitted
from trioworkers.wire.job import FAILED_FIELD, FAILED_PACKED_FIELD, SNOOZED_FIELD, Job

MAX_RETRIES = 25
LONGEST_SNOOZE_S = 24 * 3600.0
"""What is put off for longer without an attempt has failed once: so no job is put off for ever."""
SHORTEST_LEAVE_OFF_S = 0.01
"""Whoever is told that no more is wanted, for no time or less, would try again for ever without a pause."""
MAX_DELAY_S = numbers.MAX_S


def backoff_s(count: int) -> float:
    """Seconds before retry number `count` (from 0), without jitter: `count⁴ + 15`; 25 retries take about 20 days. At most thirty years."""
    return min(float(count**4 + 15), MAX_DELAY_S)


def decide(
    job: Job,
    payload: bytes,
    error: BaseException,
    *,
    now_s: float,
    jitter: float,
    default: bool | int | None = None,
    progress: Mapping[str, Any] | None = None,
    dialect: Dialect = SIDEKIQ,
    max_bytes: float = math.inf,
) -> Retry | Bury | Discard | Snooze:
    """The outcome of an attempt that ended with `error`.

    `now_s`: epoch seconds. `jitter`: a number in [0, 1). `default`: what counts where the payload says nothing of retries;
    None: the dialect's rule. `progress`: fields of the payload that tell the next attempt how far this one came. `max_bytes`: no payload gets larger than that by what we add.
    """
    count = 0 if job.retry_count is None else job.retry_count + 1
    steer = steering(error)
    retry = _wanted(job, default, steer, dialect)
    changes = _bookkeeping(job, error, count, retry, now_s)
    changes.update(progress or {})
    if job.active_job and not isinstance(error, errors.UnknownClass):  # of that nothing was performed
        changes.update(count_execution(payload))
    calls = [] if steer else _failed_calls(error)
    temporary = [call for call in calls if not call.permanent]
    if isinstance(steer, errors.Discard):
        return Discard()
    leave_off_s = rate_limited_s(error)
    if leave_off_s is not None:
        snoozed = snooze(job, payload, leave_off_s, now_s, progress, max_bytes)
        if snoozed is not None:
            return snoozed
    if temporary and all(call.paused for call in temporary):  # never sent: waits for its host, which is no attempt
        snoozed = snooze(job, payload, _asked_delay_s(temporary) or 0.0, now_s, progress, max_bytes)
        if snoozed is not None:
            return snoozed
    unknown = error if isinstance(error, errors.UnknownClass) else None
    hopeless = isinstance(steer, errors.Bury | errors.BadArguments) or (calls and not temporary)
    hopeless = hopeless or isinstance(error, errors.DeadlinePassed)
    if hopeless or (unknown and unknown.hopeless) or _exhausted(job, retry, count, now_s, dialect):
        return _give_up(job, payload, error, changes, retry, dialect, max_bytes)
    delay_s = numbers.seconds(_delay_s(steer, temporary, count, jitter))
    delay_s = backoff_s(count) if delay_s is None else max(delay_s, 0.0)
    if job.deadline is not None and now_s + delay_s >= job.deadline.timestamp():  # it would be over before it began
        return _give_up(job, payload, error, changes, retry, dialect, max_bytes)
    return Retry(fitted(payload, dialect.spelled(job, changes), max_bytes, jid=job.jid), delay_s)


def snooze(
    job: Job,
    payload: bytes,
    delay_s: float,
    now_s: float,
    progress: Mapping[str, Any] | None = None,
    max_bytes: float = math.inf,
) -> Snooze | None:
    """Put a job off for `delay_s` seconds, no attempt counted; None if it was put off for as long as it may be.

    That is a day since it was first put off, which travels in its payload, and its `retry_for` since then or since it first failed: it comes back by then. One whose
    deadline would pass meanwhile isn't put off.
    """
    if job.snoozed_at_s is not None and now_s - job.snoozed_at_s >= LONGEST_SNOOZE_S:
        return None
    if job.retry_for is not None:
        left_s = _in_trouble_since(job, now_s) + job.retry_for - now_s
        if left_s <= 0.0:
            return None
        delay_s = min(delay_s, left_s)
    delay_s = max(delay_s, 1.0)
    if job.deadline is not None and now_s + delay_s >= job.deadline.timestamp():
        return None
    changes = dict(progress or {})
    if job.snoozed_at_s is None:
        changes[SNOOZED_FIELD] = now_s
    changed = fitted(payload, {**changes, "queue": job.queue}, max_bytes, jid=job.jid) if changes else payload
    return Snooze(addressed(changed, job.queue, job.jid), delay_s)


def _in_trouble_since(job: Job, now_s: float) -> float:
    """When a job first failed, or was first put off; now, if neither."""
    return min([now_s, *(at_s for at_s in (job.failed_at_s, job.snoozed_at_s) if at_s is not None)])


def _give_up(
    job: Job,
    payload: bytes,
    error: BaseException,
    changes: dict[str, Any],
    retry: bool | int | None,
    dialect: Dialect,
    max_bytes: float,
) -> Bury | Discard:
    steer = steering(error)
    # Never run, for want of a handler or of fitting arguments: kept, whatever it says of failures of its own.
    wanted = retry is not False or isinstance(error, errors.UnknownClass) or isinstance(steer, errors.BadArguments)
    if not (isinstance(steer, errors.Bury) or (job.dead and wanted)):
        return Discard()
    # Its error tells which calls failed for good; who retries it by hand has mended something, and wants them made.
    changes = {**changes, FAILED_FIELD: None, FAILED_PACKED_FIELD: None}
    failure = Failure(*summary(error), trace(error)) if dialect.keeps_records else None
    return Bury(fitted(payload, dialect.spelled(job, changes, dead=True), max_bytes, jid=job.jid), failure=failure)


def _delay_s(
    steer: errors.Steer | errors.BadArguments | None, temporary: Sequence[errors.CallFailed], count: int, jitter: float
) -> float:
    """Seconds before the next attempt: what the handler asked for, or the services, or the curve."""
    if isinstance(steer, errors.RetryAfter):
        return steer.delay_s
    asked_s = _asked_delay_s(temporary)
    if asked_s is None:
        return backoff_s(count) + jitter * 10 * (count + 1)
    # A service that asks for next to nothing again and again is believed less each time.
    return max(asked_s, float(count * count)) + jitter


def steering(error: BaseException) -> errors.Steer | errors.BadArguments | None:
    """What a handler asked for with RetryAfter, Bury or Discard, also from inside a nursery's group; the firmest wins."""
    found = [leaf for leaf in leaves(error) if isinstance(leaf, errors.Steer | errors.BadArguments)]
    for kind in (errors.Bury, errors.BadArguments, errors.Discard):
        for leaf in found:
            if isinstance(leaf, kind):
                return leaf
    waits = [leaf for leaf in found if isinstance(leaf, errors.RetryAfter)]
    return max(waits, key=lambda leaf: leaf.delay_s, default=None)


def rate_limited_s(error: BaseException) -> float | None:
    """For how many seconds who is called wants no more, if that is all that went wrong."""
    found = [leaf.retry_after_s for leaf in leaves(error) if isinstance(leaf, errors.RateLimited)]
    if not found or len(found) < len(list(leaves(error))):
        return None
    return min(max(*found, SHORTEST_LEAVE_OFF_S), LONGEST_SNOOZE_S)


def _failed_calls(error: BaseException) -> list[errors.CallFailed]:
    """The failures of fan-outs and the refusals of paused hosts, if nothing else went wrong."""
    calls = []
    for leaf in leaves(error):
        if isinstance(leaf, errors.CallFailed):
            calls.append(leaf)
        elif isinstance(leaf, errors.HostPaused):
            wait_s = leaf.retry_after
            calls.append(errors.CallFailed(leaf.host, str(leaf), permanent=False, retry_after_s=wait_s, paused=True))
        else:
            return []
    return calls


def _asked_delay_s(calls: Sequence[errors.CallFailed]) -> float | None:
    """The seconds that the services asked for, if each said something: then our own backoff isn't needed."""
    asked = [seconds for call in calls if (seconds := _sensible_s(call.retry_after_s)) is not None]
    return max(asked) if asked and len(asked) == len(calls) else None


def _sensible_s(seconds: object) -> float | None:
    """A wait that somebody asks for, between nothing and a day; None for what is no number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:  # noqa: PLR0124 - NaN
        return None
    return float(min(max(seconds, 0.0), LONGEST_SNOOZE_S))


def _wanted(job: Job, default: bool | int | None, steer: object, dialect: Dialect) -> bool | int:
    """How often to retry: the job's word, else the handler's, else the dialect's rule, unless RetryAfter asks for more."""
    said = default if job.retry is None else job.retry
    if said is not None:
        return said
    return True if isinstance(steer, errors.RetryAfter) else dialect.retry


def _exhausted(job: Job, retry: bool | int, count: int, now_s: float, dialect: Dialect) -> bool:
    if retry is False:
        return True
    if job.retry_for is not None:
        return now_s - _in_trouble_since(job, now_s) >= job.retry_for
    return dialect.is_exhausted(count, MAX_RETRIES if retry is True else retry)


def _bookkeeping(job: Job, error: BaseException, count: int, retry: bool | int, now_s: float) -> dict[str, Any]:
    name, message = summary(error)
    changes: dict[str, Any] = {
        "queue": job.retry_queue or job.queue,
        "error_message": message,
        "error_class": name,
        "retry_count": count,
    }
    if job.snoozed_at_s is not None:
        changes[SNOOZED_FIELD] = None
    if job.retry is None:  # what the payload says of it keeps its spelling
        changes["retry"] = retry
    # Sidekiq's pages want a number in failed_at, and in retried_at from the second failure on.
    if count == 0 or job.failed_at_s is None:
        changes["failed_at"] = now_s
    if count > 0:
        changes["retried_at"] = now_s
    if job.backtrace:
        changes["error_backtrace"] = encode_backtrace(error, None if job.backtrace is True else int(job.backtrace))
    return changes


def buried(payload: bytes, queue: str, failure: Failure, now_s: float, dialect: Dialect = SIDEKIQ) -> bytes:
    """`payload`, fetched from `queue`, for the dead set, where the reason is no failure of its handler. Unreadable: as it came."""
    try:
        job = dialect.decode(payload, queue)
    except errors.BadPayload:
        return payload
    return amend(
        payload,
        {
            "queue": queue,
            "error_class": failure.error_class,
            "error_message": failure.message,
            "retry_count": job.retry_count or 0,
            "failed_at": now_s if job.failed_at_s is None else job.failed_at_s,
            "retried_at": now_s if job.retry_count else None,
        },
        jid=job.jid,
    )
