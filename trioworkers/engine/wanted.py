"""How long a job is wanted, where it runs: what has expired doesn't begin, what has a deadline ends by it, what keeps its result leaves it behind.

Ruby's jobs say nothing of this; for those that our handlers run the handler's own word counts.
"""

from __future__ import annotations

import attrs
import msgspec
import trio

from trioworkers.departures import Held, Kept, Permit
from trioworkers.errors import DeadlinePassed
from trioworkers.jobs.handler import AnyHandler
from trioworkers.wire.job import Job
from trioworkers.wire.lifetime import kept_s
from trioworkers.wire.periodic import tick_of
from trioworkers.wire.reported import Finished


def has_expired(job: Job, handler: AnyHandler | None, now_s: float) -> bool:
    """Whether nobody wants it any more. `now_s`: epoch seconds. Of one that doesn't say: since it came into its queue, for its first attempt."""
    if job.expires_at_s is not None:
        return job.expires_at_s <= now_s
    lasts_s = None if handler is None else handler.expires_in_s
    if lasts_s is None or job.retry_count is not None or job.enqueued_at_s is None:
        return False
    return job.enqueued_at_s + lasts_s <= now_s


def held_by(job: Job, handler: AnyHandler | None, permit: Permit | None) -> Held | None:
    """What it and its attempt hold; None for most."""
    wanted = job.keep_result if job.keep_result is not None or handler is None else handler.keep_result_s
    keep_s = None if wanted is None else kept_s(wanted)
    key = "" if job.lock is None or job.lock.until == "spell" else job.lock.key
    record = Kept() if job.recorded is not None and job.recorded.beside else None
    batch, name = ("", "") if job.batch is None else (job.batch.batch, job.batch.name)
    tick = tick_of(job.extra) if job.extra else None
    count = None if handler is None else handler.keep_finished
    if (
        keep_s is None
        and permit is None
        and not key
        and record is None
        and not batch
        and tick is None
        and count is None
    ):
        return None
    finished = None if count is None else (job.job_class, count, Finished(job.jid, "", job.queue))
    entry = "" if tick is None else tick.entry
    return Held(job.jid, permit, keep_s, key, record, batch=batch, name=name, entry=entry, finished=finished)


def timed(held: Held, took_s: float) -> Held:
    """The same, with how long the attempt took, for what is kept of how it ended."""
    if held.finished is None:
        return held
    job_class, count, finished = held.finished
    return attrs.evolve(held, finished=(job_class, count, msgspec.structs.replace(finished, took_s=round(took_s, 3))))


def seconds_left(job: Job, now_s: float) -> float | None:
    """Seconds until its deadline, which may be past; None without one."""
    return None if job.deadline is None else job.deadline.timestamp() - now_s


def too_late(job: Job, *, ran: bool) -> DeadlinePassed:
    """The failure of a job whose deadline is past."""
    moment = "" if job.deadline is None else job.deadline.isoformat(timespec="seconds")
    return DeadlinePassed(f"its deadline {moment} passed {'while it ran' if ran else 'before it began'}")


def time_of(job: Job, timeout_s: float | None, now_s: float) -> float:
    """When its attempt ends at the latest, on `trio.current_time()`'s clock: by its handler's timeout, or by its own deadline."""
    limits = [limit for limit in (timeout_s, seconds_left(job, now_s)) if limit is not None]
    return trio.current_time() + min(limits, default=float("inf"))
