"""How a job ended, as it is kept for whoever asks: values in, text out, and back."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trioworkers.errors import BadJob, BadResult
from trioworkers.wire.depth import MAX_DEPTH, is_nested_deeper
from trioworkers.wire.plain import plain, why_unwritten

Exit = Literal["succeeded", "dead", "discarded", "expired", "deleted", "purged", "replaced", "skipped"]
"""How a job ends for good."""

MAX_RESULT_BYTES = 64 * 1024
_MAX_TEXT = 1000


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """`value`: what it returned, in JSON, if it succeeded. `error_class`, `error_message`: why it is dead."""

    how: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error_class: str = ""
    error_message: str = ""


_decode = msgspec.json.Decoder(Ended).decode


def encode_ended(how: Exit, value: bytes | None = None, error: tuple[object, object] = ("", "")) -> bytes:
    """How a job ended. `error`: the class and message of its last failure, whatever its payload has there."""
    if how != "dead":
        error = ("", "")
    error_class, error_message = (text[:_MAX_TEXT] if isinstance(text, str) else "" for text in error)
    raw = msgspec.UNSET if value is None else msgspec.Raw(value)
    return msgspec.json.encode(Ended(how, raw, error_class, error_message))


def encode_result(value: Any) -> bytes:
    """What a handler returned, as it is kept. Raises BadResult."""
    try:
        text = msgspec.json.encode(plain(value))
    except (BadJob, TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"what it returned can't be kept as its result: {why_unwritten(error)}") from None
    if len(text) > MAX_RESULT_BYTES:
        raise BadResult(
            f"what it returned can't be kept as its result: {len(text):,} bytes, more than {MAX_RESULT_BYTES:,}"
        )
    return text


def decode_ended(text: bytes) -> Ended | None:
    """What was kept; None for what anybody else may have written there."""
    if is_nested_deeper(text, MAX_DEPTH):
        return None
    try:
        ended = _decode(text)
        value_of(ended)
    except (ValueError, RecursionError, MemoryError):
        return None
    return ended


def decode_value(text: bytes) -> Any:
    """A value that was kept in JSON. Raises ValueError or RecursionError for what is none."""
    return msgspec.json.decode(text)


def value_of(ended: Ended) -> Any:
    """What the job returned."""
    return None if ended.value is msgspec.UNSET else msgspec.json.decode(ended.value)
