"""What a payload remembers of long work: results of steps, and how far iterations are. Ours; Ruby carries it along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadJob, BadResult
from trioworkers.wire.plain import plain, why_unwritten

RECORD_FIELD = "tw_record"
"""An object: `steps`, results by name; `beside`, how many more lie in Redis beside the payload and their bytes; `at`, cursors by name."""
MAX_STEP_BYTES = 64 * 1024
"""What one step may return, in JSON."""
MAX_CURSOR_BYTES = 4 * 1024
_JSON_NULL = msgspec.Raw(b"null")


@attrs.frozen
class Recorded:
    """What a payload brought. `steps`, `cursors`: JSON by name; a cursor is `[where]`, or `[where, true]` for one that is through.

    `beside`: how many results lie beside it. `beside_bytes`: how large these are.
    """

    steps: Mapping[str, msgspec.Raw] = attrs.field(factory=dict)
    cursors: Mapping[str, tuple[Any, bool]] = attrs.field(factory=dict)
    beside: int = 0
    beside_bytes: int = 0

    @property
    def texts(self) -> Mapping[str, tuple[bytes, bool]]:
        """The cursors in JSON, for people, and whether each is through."""
        return {name: (bytes(_raw(where)), over) for name, (where, over) in self.cursors.items()}


def read_record(value: object) -> Recorded | None:
    """The record in a payload's field, whatever strangers wrote there; None for nothing of use."""
    if not isinstance(value, dict):
        return None
    steps = {name: _raw(result) for name, result in _object(value.get("steps")).items()}
    cursors = {
        name: (where[0], len(where) > 1)
        for name, where in _object(value.get("at")).items()
        if isinstance(where, list) and where
    }
    count, size = beside(value)
    return Recorded(steps, cursors, count, size) if steps or cursors or count else None


class _Of(msgspec.Struct, rename={"record": RECORD_FIELD}):
    record: Any = None


_decode_of = msgspec.json.Decoder(_Of).decode


def record_in(payload: bytes) -> Recorded | None:
    """That of a payload, whoever wrote it."""
    if RECORD_FIELD.encode() not in payload:
        return None
    try:
        return read_record(_decode_of(payload).record)
    except (ValueError, RecursionError, MemoryError):
        return None


def beside(value: object) -> tuple[int, int]:
    """How many results lie beside the payload with this field, and how many bytes they have."""
    both = value.get("beside") if isinstance(value, dict) else None
    if isinstance(both, list) and len(both) == 2 and all(type(one) is int and one > 0 for one in both):
        return both[0], both[1]
    return 0, 0


def written_record(record: Recorded) -> dict[str, Any] | None:
    """The field for a payload; None, which removes it, for nothing."""
    fields: dict[str, Any] = {}
    if record.steps:
        fields["steps"] = record.steps
    if record.cursors:
        fields["at"] = {name: [where, True] if over else [where] for name, (where, over) in record.cursors.items()}
    if record.beside:
        fields["beside"] = [record.beside, record.beside_bytes]
    return fields or None


def encode_step(name: str, value: Any) -> msgspec.Raw:
    """What a step returned, as it is recorded. Raises BadResult."""
    try:
        text = msgspec.json.encode(plain(value))
    except (BadJob, TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"what step {name!r} returned can't be recorded: {why_unwritten(error)}") from None
    if len(text) > MAX_STEP_BYTES:
        raise BadResult(
            f"what step {name!r} returned can't be recorded: {len(text):,} bytes, more than {MAX_STEP_BYTES:,}; "
            "keep it elsewhere and return where it is"
        )
    return msgspec.Raw(text)


def decode_step(result: msgspec.Raw) -> Any:
    """What was recorded. Raises ValueError or RecursionError for what is no JSON."""
    return msgspec.json.decode(result)


def encode_cursor(name: str, cursor: Any) -> msgspec.Raw:
    """How far an iteration is, as it is recorded. Raises BadResult."""
    try:
        text = msgspec.json.encode(plain(cursor))
    except (BadJob, TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the cursor of iteration {name!r} can't be recorded: {why_unwritten(error)}") from None
    if len(text) > MAX_CURSOR_BYTES:
        raise BadResult(
            f"the cursor of iteration {name!r} has {len(text):,} bytes in JSON, more than {MAX_CURSOR_BYTES:,}"
        )
    return msgspec.Raw(text)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _raw(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError):  # an integer that no step of ours returned
        return _JSON_NULL
