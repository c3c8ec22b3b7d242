"""What a worker says about its jobs: `start`, `done`, `fail`, `stop`, one line each, with jid, class, queue and attempt.

Each record also carries the same as fields (`event`, `jid`, `job_class`, `queue`, `attempt`, and `elapsed`, `error`, `next`),
for formatters that write objects. Arguments are never logged: they are the user's data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from trioworkers import errors
from trioworkers.engine.containment import is_ctrl_c
from trioworkers.errors import TrioworkersError
from trioworkers.failures import harmless, is_a, leaves, summary
from trioworkers.log_records import OF_ALL, RecordMaker
from trioworkers.outcome import Acknowledge, Bury, Discard, Outcome, Requeue, Retry, Snooze
from trioworkers.printable import on_one_line
from trioworkers.wire.decode import jid_of
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers.job")

MAX_MESSAGE = 500
_OF_ALL = "%s class=%s jid=%s queue=%s attempt=%d"
_OF_ENDS = f"{_OF_ALL} elapsed=%.3f"


def log_start(job: Job) -> None:
    """An attempt begins. Costs next to nothing if nobody listens."""
    # Of a job that is put off again and again the first time is told, and the end.
    level = logging.INFO if job.snoozed_at_s is None else logging.DEBUG
    if logger.isEnabledFor(level):
        _say(level, "start", job, _OF_ALL)


def log_end(job: Job, outcome: Outcome, failure: BaseException | None, elapsed_s: float) -> None:
    """It ended: well, by its own failure, or stopped by us or by somebody's hand."""
    if failure is not None:
        _log_failed(job, failure, outcome, elapsed_s)
    elif logger.isEnabledFor(logging.INFO):
        if isinstance(outcome, Acknowledge):
            _say(logging.INFO, "done", job, _OF_ENDS, {"elapsed": _rounded(elapsed_s)})
            return
        what_next = "back in its queue" if isinstance(outcome, Requeue) else _consequence(outcome, steered=False)[1]
        _say(logging.INFO, "stop", job, f"{_OF_ENDS} next=%s", {"elapsed": _rounded(elapsed_s), "next": what_next})


def _log_failed(job: Job, error: BaseException, outcome: Outcome, elapsed_s: float) -> None:
    """What comes of a failure; with a traceback unless the error is one of ours, which explain themselves."""
    name, message = summary(error)
    message = message.replace("\n", "; ")[:MAX_MESSAGE]
    level, what_next = _consequence(outcome, steered=is_a(error, errors.Discard))
    if isinstance(outcome, Snooze) and job.snoozed_at_s is not None:
        level = logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    more: dict[str, float | str]
    more = {"elapsed": _rounded(elapsed_s), "error": on_one_line(f"{name}: {message}"), "next": what_next}
    shown = harmless(error) if _wants_traceback(error) else None
    _say(level, "fail", job, f"{_OF_ENDS} error=%s next=%s", more, shown)


def _rounded(elapsed_s: float) -> float:
    # To microseconds. `round` finds the nearest decimal number to the last bit, which takes as long as to write the line.
    return int(elapsed_s * 1_000_000 + 0.5) / 1_000_000


def log_expired(job: Job) -> None:
    """It was not begun, as nobody wants it any more."""
    if logger.isEnabledFor(logging.INFO):
        _say(logging.INFO, "expired", job, _OF_ALL)


def log_cancelled(job: Job) -> None:
    """It was not begun, as its batch is cancelled."""
    if logger.isEnabledFor(logging.INFO):
        _say(logging.INFO, "cancelled", job, _OF_ALL)


def log_skipped(job: Job, other: str) -> None:
    """It was not begun, as another job like it waits or runs."""
    if logger.isEnabledFor(logging.INFO):
        _say(logging.INFO, "skipped", job, f"{_OF_ALL} duplicate_of=%s", {"duplicate_of": on_one_line(other)})


def log_buried(queue: str, payload: bytes, reason: str) -> None:
    """A payload that is no job."""
    extra = {"jid": "", "queue": queue}
    if len(payload) < 1 << 20:
        with suppress(Exception):  # if reading it is what went wrong, so does this
            extra["jid"] = jid_of(payload)
    with suppress(Exception):  # as in `_say`
        text = "unreadable payload on queue=%s, %d bytes, goes to dead: %s"
        logger.error(text, queue, len(payload), reason, extra=extra)


def _say(
    level: int,
    event: str,
    job: Job,
    text: str,
    more: Mapping[str, float | str] = MappingProxyType({}),
    raised: BaseException | None = None,
) -> None:
    """Log a line about `job`. `more`: what it says at its end, in the order of `text`. Texts in it are printable."""
    try:
        job_class, jid, queue = job.job_class, job.jid, job.queue
        if not f"{job_class}{jid}{queue}".isprintable():
            job_class, jid, queue = on_one_line(job_class), on_one_line(jid), on_one_line(queue)
        args = (event, job_class, jid, queue, job.attempt, *more.values())
        writer = _records.only_writer(level) if raised is None else None
        if writer is not None and writer.write_line((level, logger.name, text, args, more)):
            return
        info = None if raised is None else (type(raised), raised, raised.__traceback__)
        fields = dict(zip((*OF_ALL, *more), args, strict=True))
        logger.handle(_records.make(level, text, args, fields, info))
    except (
        BaseException
    ) as error:  # a filter of the user's raised: a job's outcome depends on no log line, and where to say so?
        if is_ctrl_c(error):
            raise


_records = RecordMaker(logger, (__file__, _say.__code__.co_firstlineno, _say.__name__))


def _consequence(outcome: Outcome, *, steered: bool) -> tuple[int, str]:
    match outcome:
        case Retry(_, delay_s):
            return logging.WARNING, f"retry in {delay_s:.0f} s"
        case Snooze():
            return logging.INFO, "waits for its host"
        case Requeue():
            return logging.INFO, "first when its limits open"
        case Bury():
            return logging.ERROR, "dead"
        case Discard() | _:
            return (logging.INFO if steered else logging.ERROR), "discarded"


def _wants_traceback(error: BaseException) -> bool:
    if logger.isEnabledFor(logging.DEBUG):
        return True
    return not all(is_a(leaf, TrioworkersError) for leaf in leaves(error))
