"""How an argument of a job becomes part of a name, the same in every worker: canonical JSON, or its digest where that is long."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

MAX_BYTES = 1024
_WHOLE_BYTES = 64


def argument_key(value: Any) -> str:
    """The key of `value`; equal for equal values only. Raises ValueError, which says what is wrong with it, for what is none: arrays, objects, long texts."""
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{'an array' if isinstance(value, list | tuple) else 'an object'} is no key")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it can't be written as JSON")
    try:
        text = msgspec.json.encode(value)
    except (ValueError, OverflowError) as error:  # half a character, a number beyond bounds
        raise ValueError(f"it can't be written as JSON ({error})") from None
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text):,} bytes are no key, at most {MAX_BYTES:,} are")
    if len(text) <= _WHOLE_BYTES:
        return text.decode()
    return f"#{hashlib.blake2b(text, digest_size=16).hexdigest()}"
