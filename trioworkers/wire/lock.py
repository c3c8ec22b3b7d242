"""The lock of a unique job: its key, made from arguments, and the field that names it in a payload. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

import attrs
import msgspec

from trioworkers.wire.packing import unpack_bytes

LOCK_FIELD = "tw_lock"
"""The key of the lock that the job holds; behind a space, if that isn't until it ends: until what."""

Until = Literal["done", "started", "spell"]
"""What a lock is kept until: the job's end, its start, or (of a throttled one) the end of the spell in which it is the only one."""
Conflict = Literal["skip", "raise", "replace", "latest", "debounce", "throttle"]

MAX_KEY_BYTES = 64 * 1024
"""Of what a key is made from: to hash more would hold up the event loop, and nobody means a document by a key."""
_MAX_CLASS = 60
_FIELD = re.compile(r"([A-Za-z0-9_.:-]{1,128})(?: (started|spell))?")
_encode = msgspec.json.Encoder(order="sorted").encode


@attrs.frozen
class Lock:
    """The lock that a job takes when it is sent. `key`: equal for all jobs of which there shall be one.

    For the sending side alone, and not in the payload: `on_conflict`; `wait_s` and `max_wait_s` of a debounced job, `every_s` of a throttled one.
    """

    key: str
    until: Until = "done"
    on_conflict: Conflict = attrs.field(default="skip", eq=False)
    wait_s: float = attrs.field(default=0.0, eq=False)
    max_wait_s: float = attrs.field(default=0.0, eq=False)
    every_s: float = attrs.field(default=0.0, eq=False)

    @property
    def field(self) -> str:
        """What the payload says of it."""
        return self.key if self.until == "done" else f"{self.key} {self.until}"


def lock_in(value: object) -> Lock | None:
    """The lock that a payload's field names; None for what is none."""
    found = _FIELD.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else Lock(found[1], found[2] or "done")  # type: ignore[arg-type]


class _Named(msgspec.Struct, rename={"lock": LOCK_FIELD}):
    lock: Any = None


_decode_named = msgspec.json.Decoder(_Named).decode


def lock_named(payload: bytes) -> Lock | None:
    """The lock that a payload names; None for one that can't be read."""
    if b'"' + LOCK_FIELD.encode() not in payload:
        return None
    try:
        return lock_in(_decode_named(payload).lock)
    except (ValueError, RecursionError, MemoryError):
        return None


def key_of(job_class: str, values: Any) -> str:
    """The key for these values, in JSON's types, of a class; its beginning is for people. Raises ValueError for what can't be one."""
    try:
        text = _encode([job_class, values])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"it has no form that is the same everywhere ({error})") from None
    if len(text) > MAX_KEY_BYTES:
        raise ValueError(f"{len(text):,} bytes are too many for a key: at most {MAX_KEY_BYTES:,}")
    named = re.sub(r"[^A-Za-z0-9_.:]", "_", job_class[:_MAX_CLASS])
    return f"{named}:{hashlib.blake2b(text, digest_size=16).hexdigest()}"


@attrs.frozen
class LockState:
    """A lock as Redis has it. `next_jid`: of the job that is to replace or follow `jid`, its holder. `problem`: why it can't be read; then nobody has it."""

    key: str
    jid: str = ""
    since_s: float | None = None
    touched_s: float | None = None
    next_jid: str = ""
    problem: str = ""


def decode_lock(key: str, packed: bytes) -> LockState:
    """A lock's state: see `LOCK` in `unique.lua`."""
    try:
        jid, since_s, touched_s, following, *_ = unpack_bytes(packed)
        next_jid = following[1].decode(errors="replace") if following else ""
        return LockState(key, jid.decode(errors="replace"), float(since_s), float(touched_s), next_jid)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as error:
        return LockState(key, problem=f"not written by us: {type(error).__name__}")
