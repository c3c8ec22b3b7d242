"""What becomes of a payload that an operator moves: Sidekiq's own rules, so that a job doesn't care whose buttons were pressed."""

from __future__ import annotations

import base64
import math
from typing import Any, Literal

import msgspec

from trioworkers.errors import BadPayload
from trioworkers.printable import json_line
from trioworkers.wire import numbers
from trioworkers.wire.decode import destination, raw_fields
from trioworkers.wire.encode import amend, spelled_value
from trioworkers.wire.entry import Entry
from trioworkers.wire.job import HELD_FIELD
from trioworkers.wire.places import place, places_for


def enqueued(payload: bytes, now_s: float, *, queue: str | None = None) -> tuple[str, bytes]:
    """`(queue, payload)` for what goes to its queue now, or to `queue`: Sidekiq's "add to queue". Raises BadPayload.

    The retries that were used up stay so: a job from the dead set gets this one attempt.
    """
    changes: dict[str, Any] = {"at": None, HELD_FIELD: None, "enqueued_at": now_s}
    target = destination(payload) if queue is None else queue
    if queue is not None:
        changes["queue"] = queue
    return target, amend(payload, changes)


def retried(payload: bytes, now_s: float, *, queue: str | None = None) -> tuple[str, bytes]:
    """As `enqueued`, but the attempt is given back, as Sidekiq's "retry now" does: failing again, it is where it was."""
    target, renewed = enqueued(payload, now_s, queue=queue)
    count = spelled_value(raw_fields(payload).get("retry_count"))
    if isinstance(count, int | float) and not isinstance(count, bool) and abs(count) <= numbers.MAX_COUNT:
        renewed = amend(renewed, {"retry_count": count - 1})
    return target, renewed


def encode_entry(entry: Entry) -> bytes:
    """One line of an export, of plain characters. A payload is kept to the byte: as text, or in base64 where it is no UTF-8."""
    line: dict[str, Any] = {"in": entry.place}
    if place(entry.place).kind == "queue":
        line["queue"] = entry.list_queue
    else:
        # JSON has no word for infinity, Redis has.
        line["score"] = entry.score if entry.score is None or math.isfinite(entry.score) else str(entry.score)
    try:
        line["payload"] = entry.payload.decode()
    except UnicodeDecodeError:
        line["payload_base64"] = base64.b64encode(entry.payload).decode()
    return json_line(line).encode()


class _Line(msgspec.Struct, rename={"place": "in"}):
    place: str
    queue: str = ""
    score: float | Literal["inf", "-inf"] | None = None
    payload: str | None = None
    payload_base64: str | None = None


def decode_entry(text: bytes) -> Entry:
    """The entry of a line of an export. Raises BadPayload that says what is wrong with it."""
    try:
        line = msgspec.json.decode(text, type=_Line)
        payload = base64.b64decode(line.payload_base64, validate=True) if line.payload_base64 is not None else None
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"not a line of an export: {error}") from None
    if payload is None:
        if line.payload is None:
            raise BadPayload("not a line of an export: it has neither payload nor payload_base64")
        payload = line.payload.encode()
    lies_in = {each.name: each for each in places_for("import")}.get(line.place)
    if lies_in is not None and lies_in.returns_to_queue:
        return Entry("queue", payload, destination(payload), came_from=line.place)
    if lies_in is not None and lies_in.kind == "queue":
        if not line.queue:
            raise BadPayload("not a line of an export: a queue without a name")
        return Entry(line.place, payload, line.queue)
    if lies_in is None or line.score is None:
        raise BadPayload(f'not a line of an export: "in" is {line.place!r}, "score" {line.score!r}')
    return Entry(line.place, payload, score=float(line.score))
