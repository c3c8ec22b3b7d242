"""One job as a row: in JSON's types for scripts, and the columns in which people see it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trioworkers.cli.tables import Column, duration, short
from trioworkers.printable import as_name
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Place

Row = Mapping[str, Any]


def row_of(entry: Entry, now_s: float) -> dict[str, Any]:
    """One entry in JSON's types. Times in epoch seconds, ages in seconds; `args` as they are spelled in the payload."""
    row: dict[str, Any] = {
        "in": entry.place,
        "queue": entry.queue,
        "jid": entry.jid,
        "class": entry.job_class,
        "args": msgspec.Raw(_on_one_line(entry.args) or b"null"),
        "attempt": entry.attempt,
        "age": None if entry.since_s is None else round(now_s - entry.since_s, 3),
        "size": len(entry.payload),
    }
    if entry.due_s is not None:
        row.update(due_at=entry.due_s, due=round(entry.due_s - now_s, 3))
    if entry.error_class or entry.error_message:
        row.update(error_class=entry.error_class, error_message=entry.error_message)
    if entry.active_job_id:
        row.update(active_job_id=entry.active_job_id, arguments=msgspec.Raw(_on_one_line(entry.arguments) or b"null"))
    if entry.tags:
        row["tags"] = entry.tags
    if entry.process_id:
        row["process"] = entry.process_id
    if entry.is_held:
        row["held"] = True
    if not entry.readable or not entry.is_strict:
        row.pop("args")
        row["payload_base64"] = base64.b64encode(entry.payload).decode()
    if entry.readable and not entry.is_strict:  # a NaN, say, which can't stand in other JSON
        row["args_text"] = entry.args.decode(errors="replace")
    return row


def _on_one_line(args: bytes) -> bytes:
    """`args`, valid JSON without line breaks: nobody has looked at it more closely than to find its end."""
    if args.isascii() and b"\n" not in args:
        return args
    try:
        return msgspec.json.format(args.decode(errors="replace").encode(), indent=-1)
    except (ValueError, RecursionError):
        return b""


def _args(row: Row) -> str:
    args = row.get("arguments", row.get("args"))  # an ActiveJob's own are those that people know
    if args is None:
        return str(row.get("args_text", "(no JSON object)"))
    return bytes(args).decode(errors="replace")


def error_text(row: Row) -> str:
    """Class and message of the last failure."""
    return f"{row['error_class']}: {row['error_message']}" if "error_class" in row else ""


JID = Column("jid", lambda row: as_name(row["jid"]))
CLASS = Column("class", lambda row: as_name(row["class"]), least=10)
QUEUE = Column("queue", lambda row: as_name(row["queue"]), least=8)
_DUE = Column("due", lambda row: duration(row.get("due")), right=True)
_ATTEMPTS = Column("attempts", lambda row: str(row["attempt"]), right=True)
_ERROR = Column("error", lambda row: short(error_text(row), 500), wide=True)
ARGS = Column("args", lambda row: short(_args(row), 500), wide=True)
_AGE = Column("age", lambda row: duration(row["age"]), right=True)


def columns_of(place: Place) -> Sequence[Column]:
    """In which columns people see what lies there."""
    queue = () if place.kind == "queue" else (QUEUE,)
    return (_DUE if place.is_due else _AGE, JID, CLASS, *queue, *((_ATTEMPTS, _ERROR) if place.failed else (ARGS,)))


def payload_fields(payload: bytes) -> dict[str, str]:
    """A payload within JSON, to the byte: as text, or in base64 where it is no UTF-8."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}
