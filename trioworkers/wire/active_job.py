"""ActiveJob over Sidekiq: not a format of its own but a job inside a job.

The payload's class is a wrapper's, and its one argument a hash: the real class, ActiveJob's own bookkeeping, and the arguments
in ActiveJob's encoding (`ruby_values.py`). Outside, all is Sidekiq's: jid, retries, dead set.

`executions` counts how often a job was performed. ActiveJob counts in memory and writes the number down when it enqueues a job
again itself; when Sidekiq retries, it is forgotten. We are both, so our retries write it down: a Ruby worker that gets
the job afterwards knows of our attempts. `exception_executions` counts per `retry_on` line of the Ruby class; an error of Python
belongs to none, so it travels as it is.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadJob, BadPayload
from trioworkers.wire import numbers
from trioworkers.wire.ruby_values import are_keywords, from_ruby, hash_from_ruby, keywords_to_ruby, moment_text, to_ruby

_decode_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@attrs.frozen
class Unwrapped:
    """What was in the wrapper. `fields`: ActiveJob's bookkeeping, all but class and arguments."""

    job_class: str
    args: list[Any]
    kwargs: dict[str, Any]
    fields: dict[str, Any]


def unwrap(args: Sequence[Any]) -> Unwrapped:
    """Read a wrapper's arguments, at most a hundred levels deep. Raises BadPayload if they are not ActiveJob's one hash."""
    if len(args) != 1 or not isinstance(args[0], dict):
        raise BadPayload("an ActiveJob wrapper has one argument, a hash")
    fields = dict(args[0])
    job_class, arguments = fields.pop("job_class", None), fields.pop("arguments", None)
    if not isinstance(job_class, str) or not job_class:
        raise BadPayload("ActiveJob's job_class must be a string")
    if not isinstance(arguments, list | None):
        raise BadPayload("ActiveJob's arguments must be a list")
    arguments = arguments or []
    kwargs: dict[str, Any] = {}
    if arguments and are_keywords(arguments[-1]):
        kwargs, arguments = hash_from_ruby(arguments[-1]), arguments[:-1]
    return Unwrapped(job_class, [from_ruby(item) for item in arguments], kwargs, fields)


def wrap(
    job_class: str,
    queue: str,
    jid: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    fields: Mapping[str, Any],
    now_s: float,
) -> dict[str, Any]:
    """The wrapper's one argument, as every Rails from 5.2 to 8 reads it. Raises BadJob for arguments without a form there."""
    arguments = encoded(job_class, args, kwargs)
    return {
        "job_class": job_class,
        "job_id": _job_id(jid),
        "provider_job_id": None,
        "queue_name": queue,
        "priority": None,
        "executions": 0,
        "exception_executions": {},
        "locale": None,  # the app's own: a locale that it doesn't have would be an error there
        "timezone": None,
        **fields,
        "arguments": arguments,
        "enqueued_at": moment_text(datetime.fromtimestamp(now_s, UTC)),
    }


def encoded(job_class: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Arguments as ActiveJob writes them. Raises BadJob for such as have no form there."""
    try:
        arguments = [to_ruby(item) for item in args]
        if kwargs:
            arguments.append(keywords_to_ruby(kwargs))
    except RecursionError:
        raise BadJob(f"{job_class}: arguments nested too deep for Ruby to read") from None
    return arguments


def count_execution(payload: bytes) -> dict[str, Any]:
    """The change to an ActiveJob `payload` (for `amend`) after it was performed once more; nothing if it doesn't count so."""
    try:
        outer = _decode_raw_fields(payload)
        inner: dict[str, Any] = dict(_decode_raw_fields(_decode_raw_list(outer["args"])[0]))
        count = msgspec.json.decode(inner.get("executions", b"0"), type=int | None) or 0
    except (ValueError, LookupError, RecursionError):
        return {}
    inner["executions"] = min(count, numbers.MAX_COUNT) + 1
    return {"args": [inner]}


def _job_id(jid: str) -> str:
    """A UUID, as ActiveJob wants it; the same whenever the same job is encoded."""
    return str(uuid.UUID(bytes=hashlib.sha256(jid.encode()).digest()[:16], version=4))
