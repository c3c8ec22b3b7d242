"""The Job value, and Sidekiq's JSON: decode a payload, encode a new job, amend a payload without touching the rest of it.

Three rules keep foreign bytes alive (P9). A payload that moves is never re-encoded: its bytes travel. A payload that must
change (a retry, a promotion) is amended: only the named fields are written, every other field keeps its spelling, so that
`1.10`, integers of any size and fields we have never heard of come out as they went in. And what we send ourselves is
what Ruby's `json` would have written: compact, UTF-8 unescaped, no NaN.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadJob, BadPayload
from trioworkers.wire import active_job, lifetime, numbers
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.numbers import epoch_s
from trioworkers.wire.options import check_option

MAX_JID = 64
"""Of jobs that we send."""
MAX_FOREIGN_JID = 255
"""Sidekiq has no limit; what is longer is known here by its fingerprint, and keeps its spelling in the payload."""
MAX_BACKTRACE_LINES = 10_000
MAX_DEPTH = 100
"""Ruby's JSON parser refuses what is nested deeper."""

DEFAULT_QUEUE = "default"
"""Of a payload that names none."""

PROGRESS_FIELD = "tw_done"
FAILED_FIELD = "tw_failed"
"""Our fields in the payload: names of fan-out calls that need not be sent again, and reasons of those that failed for good.
Absent without such progress."""
HELD_FIELD = "tw_held"
"""Ours: true while the job is held: in the schedule set only because its class is paused."""
SNOOZED_FIELD = "tw_snoozed"
"""Ours: since when (epoch seconds) the job is put off again and again without an attempt being counted. Gone with the next that counts."""

_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _as_plain(value: Any) -> Any:
    """What msgspec doesn't know: strings and numbers of a class of their own, like the `Sent` of an earlier job."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise NotImplementedError(f"objects of type {type(value).__name__} have no form in JSON")


_encode = msgspec.json.Encoder(enc_hook=_as_plain).encode


def new_jid() -> str:
    """A fresh job id as Sidekiq makes them: 12 random bytes in hex. The one piece of chance on this floor."""
    return os.urandom(12).hex()


def _tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes)):
        raise BadJob(f"a job's arguments are a list, not {values!r}")
    return tuple(values)


class _Nothing(dict[str, Any]):
    """The empty mapping that all jobs share which have none of their own: so it can't be written to."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a Job is not changed: attrs.evolve makes another one")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse


_NOTHING = _Nothing()


@attrs.frozen(slots=False)  # without slots a frozen one is made in half the time, and needs no more memory
class Job:
    """A unit of work.

    `args` is what the handler's parameters are bound to, in JSON's types or anything msgspec can encode (attrs classes,
    dataclasses, datetimes, …). `retry`: True (25 times), a number, 0 (no retry, but kept in the dead set), False (neither);
    None says nothing, which leaves it to the handler, or to Ruby's class. `retry_for`: seconds since the first failure, instead of a number of retries.
    `retry_queue`: where retries go. `backtrace`: store the failure's traceback, True or a number of lines. `dead=False`:
    not kept when retries are exhausted. `extra`: fields of the payload that we don't know, carried on.

    `active_job`: a job of Rails' ActiveJob, its class and arguments inside a wrapper; `kwargs`: its keyword arguments, which only such
    a job has. `active_job_fields`: ActiveJob's own, such as job_id, executions, locale, timezone.

    `expires_in`: seconds from when it is due after which it is not begun any more; `deadline`: when it must be over, a datetime that
    what it enqueues inherits; `keep_result`: seconds for which `Client.result` can tell how it ended, 30 days at most.

    What a worker sees besides: `expires_at_s`, `created_at_s`, `enqueued_at_s`, `failed_at_s` (epoch seconds), `retry_count` (0 after the first
    failure; None before), `progress` (names of fan-out calls done in earlier attempts), `failed_calls` (those that failed for good, with the reason),
    `snoozed_at_s` (since when it is put off without an attempt being counted: its host is paused, say).
    """

    queue: str
    job_class: str
    args: tuple[Any, ...] = attrs.field(default=(), converter=_tuple)
    jid: str = attrs.field(factory=new_jid, kw_only=True)
    retry: bool | int | None = attrs.field(default=True, kw_only=True)
    retry_for: float | None = attrs.field(default=None, kw_only=True)
    retry_queue: str | None = attrs.field(default=None, kw_only=True)
    backtrace: bool | int = attrs.field(default=False, kw_only=True)
    dead: bool = attrs.field(default=True, kw_only=True)
    tags: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    expires_in: float | None = attrs.field(default=None, kw_only=True)
    deadline: datetime | None = attrs.field(default=None, kw_only=True)
    keep_result: float | None = attrs.field(default=None, kw_only=True)
    expires_at_s: float | None = attrs.field(default=None, kw_only=True)
    created_at_s: float | None = attrs.field(default=None, kw_only=True)
    enqueued_at_s: float | None = attrs.field(default=None, kw_only=True)
    failed_at_s: float | None = attrs.field(default=None, kw_only=True)
    retry_count: int | None = attrs.field(default=None, kw_only=True)
    progress: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    failed_calls: Mapping[str, str] = attrs.field(default=_NOTHING, kw_only=True)
    snoozed_at_s: float | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    kwargs: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    active_job: bool = attrs.field(default=False, kw_only=True)
    active_job_fields: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)

    @property
    def has_options(self) -> bool:
        """Whether it says anything of retries, of its end or for people that most jobs don't."""
        return (
            self.retry is not True
            or self.dead is not True
            or bool(self.backtrace or self.tags)
            or self.retry_for is not None
            or self.retry_queue is not None
        )

    @property
    def has_lifetime(self) -> bool:
        """Whether it says anything of how long it is wanted."""
        return (
            self.expires_in is not None
            or self.deadline is not None
            or self.keep_result is not None
            or self.expires_at_s is not None
        )

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 for the first retry, …"""
        return 1 if self.retry_count is None else max(1, self.retry_count + 2)


# ── decode ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        raise BadPayload(f"class must be a string, not {_shown(job_class)}")
    if not isinstance(args, list):
        args = _splat(args)
    take("queue", None)
    seldom: dict[str, Any] = {}
    if job_class in active_job.WRAPPERS and (inner := active_job.unwrap(args)) is not None:
        take("wrapped", None)
        job_class, args = inner.job_class, inner.args
        seldom.update(kwargs=inner.kwargs, active_job=True, active_job_fields=inner.fields)
    jid, retry = _jid(take("jid", None), payload), _retry(take("retry", None))
    created_at_s, enqueued_at_s = epoch_s(take("created_at", None)), epoch_s(take("enqueued_at", None))
    if fields:  # most jobs are new and without options
        for name in fields.keys() & _SELDOM.keys():
            attribute, read = _SELDOM[name]
            seldom[attribute] = read(take(name))
        seldom["extra"] = fields
    return Job(
        queue,
        job_class,
        args,
        jid=jid,
        retry=retry,
        created_at_s=created_at_s,
        enqueued_at_s=enqueued_at_s,
        **seldom,
    )


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
        raise BadPayload(f"queue must be a name, not {_shown(name)}")
    return name


def raw_fields(payload: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a payload as they are spelled there. Raises BadPayload if it is no JSON object."""
    try:
        return _decode_raw_fields(payload)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadPayload(f"not a JSON object: {error}") from None


def jid_of(payload: bytes) -> str:
    """The job id of any bytes: the job's own, or one made from the bytes where they hold none."""
    try:
        return _jid(readable(payload).get("jid"), payload)
    except BadPayload:
        return _fingerprint(payload)


def readable(payload: bytes) -> dict[str, Any]:
    """The fields of a payload. Raises BadPayload if it is no JSON object."""
    try:
        return _decode_fields(payload)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadPayload(f"not a JSON object: {error}") from None


def _fingerprint(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()[:24]


def own_jid(value: object) -> str | None:
    """The job id that a `jid` field gives; None if it is none, and the job needs another one."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    if isinstance(value, int):
        value = str(value)
    return value if len(value) <= MAX_FOREIGN_JID else _fingerprint(value.encode())


def _jid(value: object, payload: bytes) -> str:
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
    return value if isinstance(value, str) and value else None


def _backtrace(value: object) -> bool | int:
    if isinstance(value, bool):
        return value
    return max(0, min(value, MAX_BACKTRACE_LINES)) if isinstance(value, int) else False


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _texts(value: object) -> dict[str, str]:
    return {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}


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
    lifetime.EXPIRES_FIELD: ("expires_at_s", lifetime.moment_s),
    lifetime.DEADLINE_FIELD: ("deadline", lifetime.moment),
    lifetime.KEEP_FIELD: ("keep_result", lifetime.kept_s),
    SNOOZED_FIELD: ("snoozed_at_s", epoch_s),
}
"""Fields that few payloads carry: the attribute of `Job`, and how its value is read."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


# ── encode ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(job: Job, now_s: float, *, enqueued: bool = True, due_s: float | None = None) -> bytes:
    """The payload of a job that we send at `now_s` (epoch seconds); `enqueued=False` for the schedule set, until `due_s`.

    Times are floats, which every Sidekiq from 6 to 8 reads rightly. Raises BadJob for what Sidekiq could not take.
    """
    check(job)
    fields: dict[str, Any] = {"queue": job.queue} if job.retry is None else {"retry": job.retry, "queue": job.queue}
    if job.extra:
        fields.update(job.extra)
    if job.has_options:
        add_options(fields, job)
    if job.has_lifetime:
        fields.update(lifetime_fields(job, now_s, due_s))
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
        raise BadJob(f"{job.job_class}: {error}") from error


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


def wrapped(job: Job, now_s: float, wrapper: str = active_job.WRAPPER) -> dict[str, Any]:
    """The fields that an ActiveJob has instead of its class and arguments. Raises BadJob."""
    inner = active_job.wrap(job.job_class, job.queue, job.jid, job.args, job.kwargs, job.active_job_fields, now_s)
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
    return lifetime.fields_of(now_s, due_s, job.expires_in, job.expires_at_s, job.deadline, job.keep_result)


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
    if job.kwargs and not job.active_job:
        raise BadJob(f"{job.job_class}: only ActiveJob's jobs have keyword arguments; build it with active_job=True")
    if job.active_job_fields and not job.active_job:
        raise BadJob(f"{job.job_class}: only ActiveJob's jobs have active_job_fields; build it with active_job=True")


def _check_options(job: Job) -> None:
    try:
        for name in ("retry", "retry_for", "retry_queue", "backtrace", "dead", "tags"):
            value = getattr(job, name)
            if value is not None or name in ("backtrace", "dead", "tags"):
                check_option(name, value)
    except ValueError as error:
        raise BadJob(f"{job.job_class}: {error}") from None


_PLAIN = frozenset({str, int, bool, type(None)})


def plain(value: Any, depth: int = 2, *, str_keys: bool = False) -> Any:
    """`value` as JSON's types, refusing what Ruby could not read: NaN, infinities, great depth, and keys that are no strings.

    `str_keys`: keys of numbers, dates and the like become their texts, as they do in classes with fields, whose readers know what they were.
    """
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise BadJob(f"{value} has no form in JSON")
    if depth > MAX_DEPTH:
        raise BadJob(f"arguments nested deeper than {MAX_DEPTH} levels: Ruby could not read them")
    if isinstance(value, (list, tuple)) and _PLAIN.issuperset(map(type, value)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1, str_keys=str_keys) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, depth + 1, str_keys=str_keys) for key, item in _with_text_keys(value, str_keys)}
    try:
        return plain(_taken_apart(value), depth, str_keys=True)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        # Without the error itself: what others' code says of a value may quote it.
        raise BadJob(f"{type(value).__name__} has no form in JSON ({type(error).__name__})") from None


def _with_text_keys(value: dict[Any, Any], str_keys: bool) -> Iterable[tuple[str, Any]]:
    if all(isinstance(key, str) for key in value):
        return value.items()
    if not str_keys:
        raise BadJob("keys of a JSON object are strings")
    try:
        keys = list(msgspec.to_builtins(dict.fromkeys(value), str_keys=True))
    except (TypeError, ValueError) as error:
        raise BadJob("keys of a JSON object are strings, which these can't become") from error
    if len(keys) < len(value):
        raise BadJob("two keys of a dict would be the same in JSON")
    return zip(keys, value.values(), strict=True)


def _taken_apart(value: Any) -> Any:
    """`value` one level nearer to JSON. By fields ourselves: msgspec leaves out those of attrs classes that begin with `_`."""
    kind: Any = type(value)
    names = _field_names(kind)
    if names is not None:
        return {name: item for name in names if (item := getattr(value, name)) is not msgspec.UNSET}
    dump = getattr(type(value), "model_dump", None)  # pydantic's models
    if dump is not None:
        return dump(value, mode="json", by_alias=True)
    return msgspec.to_builtins(value, str_keys=True)


@lru_cache(maxsize=1024)
def _field_names(kind: Any) -> tuple[str, ...] | None:
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None
