"""What a worker says about its jobs: `start`, `done`, `fail`, `stop`, one line each, with jid, class, queue and attempt.

Each record also carries the same as fields (`event`, `jid`, `job_class`, `queue`, `attempt`, and `elapsed`, `error`, `next`),
for formatters that write objects. Arguments are never logged: they are the user's data.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from trioworkers import errors
from trioworkers.errors import TrioworkersError
from trioworkers.failures import harmless, is_a, leaves, summary
from trioworkers.outcome import Acknowledge, Bury, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.wire.decode import jid_of
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers.job")

MAX_MESSAGE = 500


def log_start(job: Job) -> None:
    """An attempt begins. Costs next to nothing if nobody listens."""
    # Of a job that is put off again and again the first time is told, and the end.
    level = logging.INFO if job.snoozed_at_s is None else logging.DEBUG
    if logger.isEnabledFor(level):
        text = "start class=%s jid=%s queue=%s attempt=%d"
        _say(level, text, job.job_class, job.jid, job.queue, job.attempt, extra=_fields(job, "start"))


def log_end(job: Job, outcome: Outcome, failure: BaseException | None, elapsed_s: float) -> None:
    """It ended: well, by its own failure, or stopped by us or by somebody's hand."""
    if failure is not None:
        _log_failed(job, failure, outcome, elapsed_s)
    elif logger.isEnabledFor(logging.INFO):
        done = isinstance(outcome, Acknowledge)
        fields = _fields(job, "done" if done else "stop") | {"elapsed": round(elapsed_s, 6)}
        text = "%s class=%s jid=%s queue=%s attempt=%d elapsed=%.3f"
        values = [fields["event"], job.job_class, job.jid, job.queue, job.attempt, elapsed_s]
        if not done:
            fields["next"] = (
                "back in its queue" if isinstance(outcome, Requeue) else _consequence(outcome, steered=False)[1]
            )
            text += " next=%s"
            values.append(fields["next"])
        _say(logging.INFO, text, *values, extra=fields)


def _log_failed(job: Job, error: BaseException, outcome: Outcome, elapsed_s: float) -> None:
    """What comes of a failure; with a traceback unless the error is one of ours, which explain themselves."""
    name, message = summary(error)
    message = message.replace("\n", "; ")[:MAX_MESSAGE]
    level, what_next = _consequence(outcome, steered=is_a(error, errors.Discard))
    if isinstance(outcome, Snooze) and job.snoozed_at_s is not None:
        level = logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    fields = _fields(job, "fail") | {
        "elapsed": round(elapsed_s, 6),
        "error": f"{name}: {message}",
        "next": what_next,
    }
    text = "fail class=%s jid=%s queue=%s attempt=%d elapsed=%.3f error=%s: %s next=%s"
    values = (job.job_class, job.jid, job.queue, job.attempt, elapsed_s, name, message, what_next)
    _say(level, text, *values, extra=fields, exc_info=harmless(error) if _wants_traceback(error) else None)


def log_expired(job: Job) -> None:
    """It was not begun, as nobody wants it any more."""
    text = "expired class=%s jid=%s queue=%s attempt=%d"
    _say(logging.INFO, text, job.job_class, job.jid, job.queue, job.attempt, extra=_fields(job, "expired"))


def log_skipped(job: Job, other: str) -> None:
    """It was not begun, as another job like it waits or runs."""
    text = "skipped class=%s jid=%s queue=%s duplicate_of=%s"
    fields = _fields(job, "skipped") | {"duplicate_of": other}
    _say(logging.INFO, text, job.job_class, job.jid, job.queue, other, extra=fields)


def log_buried(queue: str, payload: bytes, reason: str) -> None:
    """A payload that is no job."""
    extra = {"jid": "", "queue": queue}
    if len(payload) < 1 << 20:
        with suppress(Exception):  # if reading it is what went wrong, so does this
            extra["jid"] = jid_of(payload)
    _say(
        logging.ERROR,
        "unreadable payload on queue=%s, %d bytes, goes to dead: %s",
        queue,
        len(payload),
        reason,
        extra=extra,
    )


def _say(level: int, text: str, *values: object, **options: Any) -> None:
    with suppress(
        Exception
    ):  # a filter of the user's raised: a job's outcome depends on no log line, and where to say so?
        logger.log(level, text, *values, **options)


def _fields(job: Job, event: str) -> dict[str, Any]:
    return {
        "event": event,
        "jid": job.jid,
        "job_class": job.job_class,
        "queue": job.queue,
        "attempt": job.attempt,
    }


def _consequence(outcome: Outcome, *, steered: bool) -> tuple[int, str]:
    match outcome:
        case Retry(_, delay_s):
            return logging.WARNING, f"retry in {delay_s:.0f} s"
        case Snooze():
            return logging.INFO, "waits for its host"
        case Bury():
            return logging.ERROR, "dead"
        case Discard() | _:
            return (logging.INFO if steered else logging.ERROR), "discarded"


def _wants_traceback(error: BaseException) -> bool:
    if logger.isEnabledFor(logging.DEBUG):
        return True
    return not all(is_a(leaf, TrioworkersError) for leaf in leaves(error))
