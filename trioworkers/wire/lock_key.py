"""The key of a unique job's lock: equal for equal values of a class, in every worker and client."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

MAX_KEY_BYTES = 64 * 1024
"""Of what a key is made from: to hash more would hold up the event loop, and nobody means a document by a key."""
_MAX_CLASS = 60
_encode = msgspec.json.Encoder(order="sorted").encode


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
