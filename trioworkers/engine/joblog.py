"""What a worker says about its jobs: one line for each that failed or was buried, at WARNING or ERROR; the rest at DEBUG.

Arguments are never logged: they are the user's data.
"""

from __future__ import annotations

import logging

from trioworkers.outcome import Bury, Discard, Outcome, Requeue, RetryAt
from trioworkers.retry import summary
from trioworkers.wire.job import Job, jid_of

logger = logging.getLogger("trioworkers.job")


def log_failed(job: Job, error: BaseException, outcome: Outcome) -> None:
    """A failed attempt and what comes of it; the traceback at DEBUG."""
    name, message = summary(error)
    match outcome:
        case RetryAt(_, delay_s):
            level, what_next = logging.WARNING, f"retry in {delay_s:.0f} s"
        case Requeue():
            level, what_next = logging.INFO, "waits for its host"
        case Bury():
            level, what_next = logging.ERROR, "dead"
        case Discard() | _:
            level, what_next = logging.ERROR, "discarded"
    fields = {"jid": job.jid, "job_class": job.job_class, "queue": job.queue, "attempt": job.attempt}
    detail = error if logger.isEnabledFor(logging.DEBUG) else None
    text = "fail class=%s jid=%s queue=%s attempt=%d error=%s: %s next=%s"
    logger.log(
        level,
        text,
        job.job_class,
        job.jid,
        job.queue,
        job.attempt,
        name,
        message.replace("\n", "; ")[:500],
        what_next,
        extra=fields,
        exc_info=detail,
    )


def log_buried(queue: str, payload: bytes, error: Exception) -> None:
    """A payload that is no job."""
    extra = {"jid": jid_of(payload) if len(payload) < 1 << 20 else "", "queue": queue}
    logger.error("unreadable payload on queue=%s, %d bytes, goes to dead: %s", queue, len(payload), error, extra=extra)
