"""A payload as people look at it: whatever its bytes are, something can be said of it."""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import cached_property
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadPayload
from trioworkers.wire import numbers
from trioworkers.wire.decode import jid_of, own_jid, raw_fields
from trioworkers.wire.depth import MAX_DEPTH, is_nested_deeper
from trioworkers.wire.encode import spelled_value
from trioworkers.wire.job import HELD_FIELD
from trioworkers.wire.membership import BATCH_FIELD, batch_in
from trioworkers.wire.numbers import epoch_s
from trioworkers.wire.places import place

MAX_BACKTRACE_BYTES = 4_000_000


class _Fields(msgspec.Struct, rename={"job_class": "class", "held": HELD_FIELD, "batch": BATCH_FIELD}):
    """What is shown or filtered by. Nothing is checked but that it is a JSON object; the rest is not even built."""

    jid: Any = None
    job_class: Any = None
    wrapped: Any = None
    args: msgspec.Raw = msgspec.Raw(b"null")
    queue: Any = None
    tags: Any = None
    retry: Any = None
    retry_count: Any = None
    created_at: Any = None
    enqueued_at: Any = None
    failed_at: Any = None
    retried_at: Any = None
    error_class: Any = None
    error_message: Any = None
    error_backtrace: Any = None
    held: Any = None
    batch: Any = None


class _ActiveJob(msgspec.Struct):
    """What an ActiveJob tells within its wrapper's only argument."""

    job_id: Any = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Fields).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_active_job = msgspec.json.Decoder(tuple[_ActiveJob]).decode


@attrs.frozen
class Entry:
    """One payload where it lies; `place` by its name (see `places.py`). `score`: of the sorted sets, epoch seconds. `process_id`: who runs it. `list_queue`: of lists.

    `came_from`: of an import, where it lay if it doesn't go back there.
    """

    place: str
    payload: bytes = attrs.field(repr=False)
    list_queue: str = ""
    score: float | None = None
    process_id: str = ""
    came_from: str = ""

    @cached_property
    def _fields(self) -> _Fields | None:
        if is_nested_deeper(self.payload, MAX_DEPTH):
            return None
        try:
            return _decode(self.payload)
        except (ValueError, RecursionError, MemoryError):
            return _leniently(self.payload)

    def _field(self, name: str) -> Any:
        return getattr(self._fields, name, None)

    def _text(self, name: str) -> str:
        value = self._field(name)
        return value if isinstance(value, str) else ""

    @property
    def readable(self) -> bool:
        """Whether it is a JSON object at all."""
        return self._fields is not None

    @property
    def jid(self) -> str:
        """The job's id, or one made from the bytes, as everywhere."""
        return own_jid(self._field("jid")) or jid_of(self.payload)

    @property
    def job_class(self) -> str:
        """The class as people know it: of an ActiveJob, the class inside the wrapper. "" if unreadable."""
        return self._text("wrapped") or self._text("job_class")

    @property
    def classes(self) -> tuple[str, str]:
        """The class as people know it, and as it stands in the payload."""
        return self.job_class, self._text("job_class")

    @property
    def batch(self) -> str:
        """The id of the batch whose member it is; "" for most."""
        membership = batch_in(self._field("batch"))
        return "" if membership is None else membership.batch

    @property
    def queue(self) -> str:
        """The list it lies in or came from; of the sets, where it would go."""
        return self.list_queue or self._text("queue") or "default"

    @property
    def args(self) -> bytes:
        """Its arguments as they are spelled in the payload."""
        return bytes(self._fields.args) if self._fields is not None else b""

    @property
    def is_strict(self) -> bool:
        """Whether its arguments are JSON by the letter, which may stand in other JSON."""
        try:
            _decode_raw(self.args)
        except (ValueError, RecursionError, MemoryError):
            return False
        return True

    @cached_property
    def _active_job(self) -> _ActiveJob | None:
        if not self._text("wrapped"):
            return None
        try:
            return _decode_active_job(self.args)[0]
        except (ValueError, RecursionError):
            return None

    @property
    def active_job_id(self) -> str:
        """The id by which Rails and its log know an ActiveJob; "" for others."""
        job_id = self._active_job.job_id if self._active_job is not None else None
        return job_id if isinstance(job_id, str) else ""

    @property
    def ids(self) -> tuple[str, ...]:
        """By what people may call it."""
        return (self.jid, self.active_job_id) if self.active_job_id else (self.jid,)

    @property
    def arguments(self) -> bytes:
        """What the class is called with: `args`, or an ActiveJob's own arguments within them."""
        return self.args if self._active_job is None else bytes(self._active_job.arguments)

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        value = self._field("tags")
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    @property
    def attempts_made(self) -> int:
        """How many attempts have ended, as far as it tells: in failure, that is, or it would be gone."""
        count = numbers.count(self._field("retry_count"))
        return 0 if count is None else count + 1

    @property
    def attempt(self) -> int:
        """How many attempts there were; where the next one may come at any moment (in a queue, say, or running), with that one."""
        kind = place(self.place)
        return self.attempts_made if kind.failed or kind.is_due else self.attempts_made + 1

    @property
    def error_class(self) -> str:
        """Of its last failure; "" without one."""
        return self._text("error_class")

    @property
    def error_message(self) -> str:
        """Of its last failure; "" without one."""
        return self._text("error_message")

    @property
    def is_held(self) -> bool:
        """Whether it is held: scheduled only because its class is paused."""
        return self._field("held") is True

    @property
    def times(self) -> dict[str, float]:
        """What it tells of its life, in epoch seconds: `created_at`, `enqueued_at`, `failed_at`, `retried_at`."""
        names = ("created_at", "enqueued_at", "failed_at", "retried_at")
        found = {name: epoch_s(self._field(name)) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def since_s(self) -> float | None:
        """Since when it has been where it is, as far as it tells; epoch seconds."""
        times, kind = self.times, place(self.place)
        if kind.score and not kind.is_due:
            return self.score
        if kind.failed:
            return times.get("retried_at", times.get("failed_at"))
        created = times.get("created_at")
        return created if kind.is_due else times.get("enqueued_at", created)

    @property
    def due_s(self) -> float | None:
        """When it comes due, of retries and what is scheduled; epoch seconds."""
        return self.score if place(self.place).is_due else None

    @property
    def backtrace(self) -> list[str]:
        """The stored backtrace of its last failure, innermost call first; empty if there is none or it can't be read."""
        return decode_backtrace(self._text("error_backtrace"))


def _leniently(payload: bytes) -> _Fields | None:
    """What can be told of what our reader refuses: people look for it, and see it, by the fields that are sound."""
    try:
        spelled = raw_fields(payload)
    except BadPayload:
        return None
    names = dict(zip(_Fields.__struct_fields__, _Fields.__struct_encode_fields__, strict=True))
    found: dict[str, Any] = {name: spelled_value(spelled[field]) for name, field in names.items() if field in spelled}
    found["args"] = spelled.get("args", msgspec.Raw(b"null"))
    return _Fields(**found)


def decode_backtrace(text: str) -> list[str]:
    """Sidekiq's form of a backtrace: base64 of zlib of a JSON array of lines. Empty if it is something else."""
    try:
        packed = base64.b64decode("".join(text.split()), validate=True)  # Sidekiq before 7 breaks it into lines
        plain = zlib.decompressobj().decompress(packed, MAX_BACKTRACE_BYTES)
        return msgspec.json.decode(plain, type=list[str])
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return []
