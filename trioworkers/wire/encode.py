"""Sidekiq's JSON, written: a new job, or a payload with some fields changed and no other touched.

Three rules keep foreign bytes alive (P9). A payload that moves is never re-encoded: its bytes travel. A payload that must
change (a retry, a promotion) is amended: only the named fields are written, every other field keeps its spelling, so that
`1.10`, integers of any size and fields we have never heard of come out as they went in. And what we send ourselves is
what Ruby's `json` would have written: compact, UTF-8 unescaped, no NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from trioworkers.errors import BadJob
from trioworkers.wire import lifetime
from trioworkers.wire.decode import own_jid, raw_fields
from trioworkers.wire.job import MAX_JID, Job
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.lock import LOCK_FIELD
from trioworkers.wire.membership import BATCH_FIELD
from trioworkers.wire.options import check_option
from trioworkers.wire.plain import plain, shown, why_unwritten
from trioworkers.wire.wrappers import WRAPPER


def _as_plain(value: Any) -> Any:
    """What msgspec doesn't know: strings and numbers of a class of their own, like the `Sent` of an earlier job."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise NotImplementedError(f"objects of type {type(value).__name__} can't be written as JSON")


_encode = msgspec.json.Encoder(enc_hook=_as_plain).encode


def encode(job: Job, now_s: float, *, enqueued: bool = True, due_s: float | None = None) -> bytes:
    """The payload of a job that we send at `now_s` (epoch seconds); `enqueued=False` for the schedule set, until `due_s`.

    Times are floats, which every Sidekiq from 6 to 8 reads rightly. Raises BadJob for what Sidekiq could not take.
    """
    check(job)
    fields: dict[str, Any] = {"queue": job.queue} if job.retry is None else {"retry": job.retry, "queue": job.queue}
    if job.extra:
        fields.update(plain(job.extra))
    if job.has_options:
        add_options(fields, job)
    if job.has_lifetime:
        fields.update(lifetime_fields(job, now_s, due_s))
    if job.lock is not None:
        fields[LOCK_FIELD] = job.lock.field
    if job.batch is not None:
        fields[BATCH_FIELD] = job.batch.field
    if job.active_job:
        fields.update(wrapped(job, now_s))
    else:
        fields["class"], fields["args"] = job.job_class, plain(job.args)
    fields["jid"] = job.jid
    fields["created_at"] = now_s if job.created_at_s is None else job.created_at_s
    if enqueued:
        fields["enqueued_at"] = now_s
    try:
        return _encode(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadJob(f"{job.job_class}: {why_unwritten(error)}") from error


def amend(payload: bytes, changes: Mapping[str, Any], *, jid: str | None = None) -> bytes:
    """`payload` with some fields set, or removed where the change is None; all others keep their bytes.

    `jid`: goes along where the payload has none of its own. Raises BadPayload if `payload` is no JSON object.
    """
    fields: dict[str, Any] = dict(raw_fields(payload))
    for name, value in changes.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    if jid is not None and own_jid(spelled_value(fields.get("jid"))) is None:
        fields["jid"] = jid
    return _encode(fields)


def spelled_value(raw: Any) -> object:
    """The value of a field as `raw_fields` gives it; None where there is none, or none that Python could hold."""
    if not isinstance(raw, msgspec.Raw):
        return raw
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError, MemoryError):
        return None


def wrapped(job: Job, now_s: float, wrapper: str = WRAPPER) -> dict[str, Any]:
    """The fields that an ActiveJob has instead of its class and arguments. Raises BadJob."""
    from trioworkers.wire.active_job import wrap  # noqa: PLC0415 - a program that only sends need not import it

    inner = wrap(job.job_class, job.queue, job.jid, job.args, job.kwargs, job.active_job_fields, now_s)
    return {"wrapped": job.job_class, "class": wrapper, "args": plain([inner])}


def addressed(payload: bytes, queue: str, jid: str) -> bytes:
    """`payload`, fetched from `queue`, as it may wait in a sorted set. The same bytes where nothing is amiss.

    It says its queue, to which it goes back, and has a jid (this one, if it had none): two of the same bytes would be one there.
    Raises BadPayload if `payload` is no JSON object.
    """
    fields = raw_fields(payload)
    named, has_jid = spelled_value(fields.get("queue")) == queue, own_jid(spelled_value(fields.get("jid"))) is not None
    return payload if named and has_jid else amend(payload, {"queue": queue}, jid=jid)


def lifetime_fields(job: Job, now_s: float, due_s: float | None) -> dict[str, Any]:
    """What a job says of how long it is wanted. Raises BadJob for what can't be."""
    due_s = now_s if due_s is None else due_s
    return lifetime.fields_of(due_s, job.expires_in, job.expires_at_s, job.deadline, job.keep_result)


def add_options(fields: dict[str, Any], job: Job) -> None:
    """Add what a job says otherwise than most, but for `retry`, which is only checked. Raises BadJob."""
    _check_options(job)
    if job.retry_for is not None:
        fields["retry_for"] = math.ceil(job.retry_for)
    if job.retry_queue is not None:
        fields["retry_queue"] = job.retry_queue
    if job.backtrace:
        fields["backtrace"] = job.backtrace
    if not job.dead:
        fields["dead"] = False
    if job.tags:
        fields["tags"] = job.tags


def check(job: Job) -> None:
    """Raise BadJob if a job's names can't be sent. (Its options and arguments show when it is encoded.)"""
    if problem := check_sent_to(job.queue):
        raise BadJob(f"{job.job_class}: {problem}")
    if not isinstance(job.job_class, str) or not job.job_class:
        raise BadJob(f"a job's class is a name, not {job.job_class!r}")
    if not isinstance(job.jid, str) or not 0 < len(job.jid) <= MAX_JID:
        raise BadJob(f"{job.job_class}: a jid is a string of at most {MAX_JID} characters, not {job.jid!r}")
    if job.kwargs or job.active_job_fields or job.extra:
        check_mappings(job)


_SAID_BY_JOBS = frozenset({"queue", "class", "args", "jid", "retry", "created_at", "enqueued_at"})
"""Fields that each payload has, from the job itself: others of these names would stand in their place, or be lost."""


def check_mappings(job: Job) -> None:
    """Raise BadJob if what a job says by names can't be sent."""
    for name in ("kwargs", "active_job_fields", "extra"):
        value = getattr(job, name)
        if not isinstance(value, Mapping):
            raise BadJob(f"{job.job_class}: {name} is a dict, not {shown(value)}")
    if job.kwargs and not job.active_job:
        raise BadJob(f"{job.job_class}: only ActiveJob's jobs have keyword arguments; build it with active_job=True")
    if job.active_job_fields and not job.active_job:
        raise BadJob(f"{job.job_class}: only ActiveJob's jobs have active_job_fields; build it with active_job=True")
    if twice := sorted(_SAID_BY_JOBS.intersection(job.extra)):
        raise BadJob(f"{job.job_class}: {twice[0]} is said by the job itself, and can't stand in extra")


def _check_options(job: Job) -> None:
    try:
        for name in ("retry", "retry_for", "retry_queue", "backtrace", "dead", "tags"):
            value = getattr(job, name)
            if value is not None or name in ("backtrace", "dead", "tags"):
                check_option(name, value)
    except ValueError as error:
        raise BadJob(f"{job.job_class}: {error}") from None
