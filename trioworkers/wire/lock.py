"""The lock of a unique job, and the field that names it in a payload. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal

import attrs
import msgspec

LOCK_FIELD = "tw_lock"
"""The key of the lock that the job holds; behind a space, if that isn't until it ends: until what."""

Until = Literal["done", "started", "spell"]
"""What a lock is kept until: the job's end, its start, or (of a throttled one) the end of the spell in which it is the only one."""
Conflict = Literal["skip", "raise", "replace", "latest", "debounce", "throttle"]

_FIELD = r"([A-Za-z0-9_.:-]{1,128})(?: (started|spell))?"


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
    found = re.fullmatch(_FIELD, value) if isinstance(value, str) else None
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
