"""What a job tells of how far it is, and what is kept of one that has ended, for looking at: values in, text out, and back."""

from __future__ import annotations

import msgspec

MAX_MESSAGE = 200
MAX_HOW = 20
MAX_FINISHED = 10_000
RUNNING_S = 86_400
"""How long it is kept how far a job is that tells no more."""
ENDED_S = 1800
"""The same of one that has ended."""


class Reported(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a job is: `at` of `total`, if that is known. `how`: how it ended, once it has."""

    at: float
    total: float | None = None
    message: str = ""
    how: str = ""


class Finished(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job ended that a worker of ours had. `took_s`: how long its last attempt took; `ended_at_s`: epoch seconds by Redis's clock."""

    jid: str
    how: str
    queue: str = ""
    took_s: float = 0.0
    ended_at_s: float = 0.0


_decode_reported = msgspec.json.Decoder(Reported).decode
_decode_finished = msgspec.json.Decoder(Finished).decode
_encode = msgspec.json.encode


def reported(at: object, total: object, message: object) -> Reported:
    """What a handler says of its progress. Raises ValueError."""
    known = None if total is None else _number("total", total)
    if not isinstance(message, str):
        raise ValueError(f"message is a text, not {message!r:.80}")  # noqa: TRY004 - one kind of error for all of these
    text = message if message.isascii() else message.encode(errors="replace").decode()
    return Reported(_number("at", at), known, text[:MAX_MESSAGE])


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e15:
        raise ValueError(f"{name} is a number from 0 on, not {value!r:.80}")
    return value


def encode_reported(told: Reported, how: str = "") -> bytes:
    """As it is kept; with how the job ended, if it has."""
    return _encode(msgspec.structs.replace(told, how=how) if how else told)


def decode_reported(text: bytes) -> Reported | None:
    """What was kept; None for what anybody else may have written there."""
    try:
        told = _decode_reported(text)
        how = told.how[:MAX_HOW]
        return msgspec.structs.replace(reported(told.at, told.total, told.message), how=how)
    except (ValueError, RecursionError, MemoryError):
        return None


def encode_finished(finished: Finished) -> bytes:
    """As it is kept, but for when: the script that writes it puts that before it, and a blank."""
    return _encode(finished)


def decode_finished(text: bytes) -> Finished | None:
    """What was kept; None for what anybody else may have written there."""
    moment, _, rest = text.partition(b" ")
    try:
        finished = _decode_finished(rest)
        _number("took_s", finished.took_s)
        return msgspec.structs.replace(finished, ended_at_s=_number("ended_at_s", float(moment)))
    except (ValueError, RecursionError, MemoryError):
        return None
