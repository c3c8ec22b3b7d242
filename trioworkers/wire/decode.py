"""Sidekiq's JSON, read: a payload to a job, as tolerantly as Sidekiq is; or just what is to be known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import TYPE_CHECKING, Any

import msgspec

from trioworkers.errors import BadPayload
from trioworkers.wire import lifetime, numbers
from trioworkers.wire.depth import MAX_DEPTH, MAX_DEPTH_FOR_RUBY, is_nested_deeper
from trioworkers.wire.job import (
    DONE_PACKED_FIELD,
    FAILED_FIELD,
    FAILED_PACKED_FIELD,
    PROGRESS_FIELD,
    SNOOZED_FIELD,
    Job,
    job_that_says,
)
from trioworkers.wire.lock import LOCK_FIELD, lock_in
from trioworkers.wire.membership import BATCH_FIELD, batch_in
from trioworkers.wire.numbers import epoch_s
from trioworkers.wire.plain import shown
from trioworkers.wire.record import RECORD_FIELD, read_record
from trioworkers.wire.wrappers import WRAPPERS, is_encrypted

if TYPE_CHECKING:
    from trioworkers.wire.active_job import Unwrapped

MAX_FOREIGN_JID = 255
"""Sidekiq has no limit; what is longer is known here by its fingerprint, and keeps its spelling in the payload."""
MAX_BACKTRACE_LINES = 10_000
DEFAULT_QUEUE = "default"
"""Of a payload that names none."""
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode(payload: bytes, queue: str) -> Job:
    """Read `payload`, fetched from `queue`. The list it lay in decides the queue, not the payload's own field.

    Raises BadPayload if Sidekiq's rules or ours say that this is no job.
    """
    return job_of(readable(payload), payload, queue)


def job_of(fields: dict[str, Any], payload: bytes, queue: str) -> Job:
    """The job that the fields of `payload` tell of; `fields` is used up. Raises BadPayload for what no Sidekiq could run.

    As lenient as Sidekiq: odd options mean there what their absence means, or what they spell.
    """
    take = fields.pop
    job_class, args = take("class", None), take("args", None)
    if not isinstance(job_class, str) or not job_class:
        raise BadPayload(f"class must be a string, not {shown(job_class)}")
    if not isinstance(args, list):
        args = _splat(args)
    take("queue", None)
    seldom: dict[str, Any] = {}
    if job_class in WRAPPERS:
        wrapped = take("wrapped", None)
        if is_encrypted(fields):  # there is nothing in it for us to read; who is asked to run it says so
            job_class = wrapped if isinstance(wrapped, str) and wrapped else job_class
        else:
            inner = _unwrapped(args, payload)
            job_class, args = inner.job_class, inner.args
            seldom.update(kwargs=inner.kwargs, active_job=True, active_job_fields=inner.fields)
    jid, retry = _jid(take("jid", None), payload), _retry(take("retry", None))
    created_at_s, enqueued_at_s = epoch_s(take("created_at", None)), epoch_s(take("enqueued_at", None))
    if fields:  # most jobs are new and without options
        for name in fields.keys() & _SELDOM.keys():
            attribute, read = _SELDOM[name]
            seldom[attribute] = read(take(name))
        seldom["extra"] = fields
    return job_that_says(
        queue=queue,
        job_class=intern(job_class),  # ten thousand running jobs have a few classes
        args=tuple(args),
        jid=jid,
        retry=retry,
        created_at_s=created_at_s,
        enqueued_at_s=enqueued_at_s,
        **seldom,
    )


def _unwrapped(args: list[Any], payload: bytes) -> Unwrapped:
    from trioworkers.wire.active_job import unwrap  # noqa: PLC0415 - a program that only sends need not import it

    _check_depth(payload, MAX_DEPTH_FOR_RUBY)  # only Ruby writes these; they are read by functions that call themselves
    return unwrap(args)


def destination(payload: bytes) -> str:
    """The queue of a payload that comes due: the one moment at which the payload's own `queue` field decides.

    Nothing else is looked at, for the job may be none of ours, and what it must be is then for others to say. Any name will do, as in
    Sidekiq: what is no text is spelled as one. Raises BadPayload if it names none.
    """
    return queue_in(raw_fields(payload)) or DEFAULT_QUEUE


def queue_in(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """The queue that these fields name; None if they have no such field. Raises BadPayload if it can't be a name."""
    spelled = bytes(fields.get("queue", b"null"))
    if spelled == b"null":
        return None
    try:
        name = msgspec.json.decode(spelled)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadPayload(f"queue is no text: {error}") from None
    if isinstance(name, bool | int | float):
        name = spelled.decode()
    if not isinstance(name, str) or not name:
        raise BadPayload(f"queue must be a name, not {shown(name)}")
    return name


def raw_fields(payload: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a payload as they are spelled there. Raises BadPayload if it is no JSON object, or nested deeper than `MAX_DEPTH`."""
    _check_depth(payload)
    try:
        return _decode_raw_fields(payload)
    except (ValueError, RecursionError, MemoryError) as error:
        return _leniently("split", payload, error)


def jid_of(payload: bytes) -> str:
    """The job id of any bytes: the job's own, or one made from the bytes where they hold none."""
    try:
        return _jid(readable(payload).get("jid"), payload)
    except BadPayload:
        return _spelled_jid(payload) or _fingerprint(payload)


def _spelled_jid(payload: bytes) -> str | None:
    """The id of what can't be read as a whole."""
    try:
        return own_jid(msgspec.json.decode(raw_fields(payload)["jid"]))
    except (BadPayload, KeyError, ValueError, RecursionError, MemoryError):
        return None


def readable(payload: bytes) -> dict[str, Any]:
    """The fields of a payload. Raises BadPayload if it is no JSON object, or nested deeper than `MAX_DEPTH`."""
    _check_depth(payload)
    try:
        return _decode_fields(payload)
    except msgspec.ValidationError as error:  # it is JSON: no object, or with a number out of our reader's range
        return _leniently("read_numbers", payload, error)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadPayload(f"not a JSON object: {error}") from None


def _leniently(how: str, payload: bytes, refused: BaseException) -> dict[str, Any]:
    """What our reader refuses, read as others read it. Raises BadPayload."""
    from trioworkers.wire import lenient  # noqa: PLC0415 - few payloads are like that

    try:
        found: dict[str, Any] = getattr(lenient, how)(payload)
    except (ValueError, RecursionError, MemoryError) as error:
        text = str(error) if "digits" in str(error) else str(refused)
        raise BadPayload(f"not a JSON object: {text[:200]}") from None
    return found


def _check_depth(payload: bytes, levels: int = MAX_DEPTH) -> None:
    if is_nested_deeper(payload, levels):
        raise BadPayload(f"nested deeper than {levels} levels")


def _fingerprint(payload: bytes) -> str:
    import hashlib  # noqa: PLC0415 - few payloads have a jid like that, and it brings in OpenSSL

    return hashlib.sha256(payload).hexdigest()[:24]


def own_jid(value: object) -> str | None:
    """The job id that a `jid` field gives; None if it is none, and the job needs another one."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    if isinstance(value, int):
        value = str(value)
    return value if len(value) <= MAX_FOREIGN_JID else _fingerprint(value.encode())


def _jid(value: object, payload: bytes) -> str:
    if type(value) is str and 0 < len(value) <= MAX_FOREIGN_JID:  # nearly all
        return value
    return own_jid(value) or _fingerprint(payload)  # the same in every attempt, and for every worker


def _splat(value: object) -> list[Any]:
    """What Ruby makes of `perform(*args)` where args is no list."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [[name, item] for name, item in value.items()]
    return [value]


def _retry(value: object) -> bool | int | None:
    """What is no whole number but true is `true` to Sidekiq: "5", 2.0, and "false" as well."""
    if value is None or isinstance(value, bool):
        return value
    return max(0, min(value, numbers.MAX_COUNT)) if isinstance(value, int) else True


def _retry_queue(value: object) -> str | None:
    """A number names a queue in Ruby, as it does in `queue_in`; and `true` does, but not `false`."""
    if isinstance(value, int) and value is not False:
        value = "true" if value is True else str(value)
    return value if isinstance(value, str) and value else None


def _backtrace(value: object) -> bool | int:
    if isinstance(value, bool):
        return value
    return max(0, min(value, MAX_BACKTRACE_LINES)) if isinstance(value, int) else False


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _texts(value: object) -> dict[str, str]:
    return {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}


def _digests(value: object) -> bytes:
    from trioworkers.wire.digests import unpack  # noqa: PLC0415 - only very wide fan-outs have some

    return unpack(value)


_SELDOM: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "retry_for": ("retry_for", numbers.seconds),
    "retry_queue": ("retry_queue", _retry_queue),
    "backtrace": ("backtrace", _backtrace),
    "dead": ("dead", lambda value: value is not False),
    "tags": ("tags", _strings),
    "failed_at": ("failed_at_s", epoch_s),
    "retry_count": ("retry_count", numbers.count),
    PROGRESS_FIELD: ("progress", _strings),
    FAILED_FIELD: ("failed_calls", _texts),
    DONE_PACKED_FIELD: ("done_packed", _digests),
    FAILED_PACKED_FIELD: ("failed_packed", _digests),
    lifetime.EXPIRES_FIELD: ("expires_at_s", lifetime.moment_s),
    lifetime.DEADLINE_FIELD: ("deadline", lifetime.moment),
    lifetime.KEEP_FIELD: ("keep_result", lifetime.kept_s),
    SNOOZED_FIELD: ("snoozed_at_s", epoch_s),
    LOCK_FIELD: ("lock", lock_in),
    BATCH_FIELD: ("batch", batch_in),
    RECORD_FIELD: ("recorded", read_record),
}
"""Fields that few payloads carry: the attribute of `Job`, and how its value is read."""
