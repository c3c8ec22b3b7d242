"""What we add to a payload never makes it too large: message, backtrace and progress give way, in this order of what is missed least.

A payload that a worker refuses for its size would be buried unread, its job with it; and what we add is ours to shorten. A name of a call
that is left out costs that call once more, under the same idempotency key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trioworkers.wire.encode import amend
from trioworkers.wire.job import FAILED_FIELD, PROGRESS_FIELD

SHORT_MESSAGE_BYTES = 600
SHORT_REASON_BYTES = 60


def fitted(payload: bytes, changes: Mapping[str, Any], max_bytes: float, *, jid: str | None = None) -> bytes:
    """As `amend`, but what it gives has at most `max_bytes`, as long as `payload` itself and the few numbers among the changes leave that room."""
    amended = amend(payload, changes, jid=jid)
    if len(amended) <= max_bytes:
        return amended
    for shorten in (_without_backtrace, _with_a_short_message, _with_short_reasons):
        changes = shorten(changes)
        amended = amend(payload, changes, jid=jid)
        if len(amended) <= max_bytes:
            return amended
    bare = amend(payload, {**changes, PROGRESS_FIELD: None, FAILED_FIELD: None}, jid=jid)
    return amend(payload, _with_fewer_names(changes, max_bytes - len(bare)), jid=jid)


def _without_backtrace(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**changes, "error_backtrace": None}


def _with_a_short_message(changes: Mapping[str, Any]) -> dict[str, Any]:
    message = changes.get("error_message")
    return (
        {**changes, "error_message": _short(message, SHORT_MESSAGE_BYTES)} if isinstance(message, str) else {**changes}
    )


def _with_short_reasons(changes: Mapping[str, Any]) -> dict[str, Any]:
    failed: Mapping[str, str] = changes.get(FAILED_FIELD) or {}
    shorter = {name: _short(reason, SHORT_REASON_BYTES) for name, reason in failed.items()}
    return {**changes, FAILED_FIELD: shorter or None}


def _with_fewer_names(changes: Mapping[str, Any], room: float) -> dict[str, Any]:
    """As many as there is room for, those that failed first: they decide what becomes of the job."""
    room -= len(f',"{PROGRESS_FIELD}":[],"{FAILED_FIELD}":{{}}')
    failed: dict[str, str] = {}
    for name, reason in (changes.get(FAILED_FIELD) or {}).items():
        room -= _size(name) + _size(reason) + 2
        if room < 0:
            break
        failed[name] = reason
    done: list[str] = []
    names: Sequence[str] = changes.get(PROGRESS_FIELD) or ()
    for name in names:
        room -= _size(name) + 1
        if room < 0:
            break
        done.append(name)
    return {**changes, PROGRESS_FIELD: done or None, FAILED_FIELD: failed or None}


def _size(text: str) -> int:
    return len(msgspec.json.encode(text))


def _short(text: str, most_bytes: int) -> str:
    """The beginning of a text that has at most so many bytes in JSON, where a control character has six."""
    if len(text) <= most_bytes and _size(text) <= most_bytes:
        return text
    text = text[:most_bytes]
    while _size(text) > most_bytes - 3:
        text = text[: len(text) * 3 // 4]
    return f"{text}…"
