"""How far a Django task is, as it is kept for whoever asks: values in, text out, and back. How it ended for good is in `ended.py`'s record."""

from __future__ import annotations

from typing import Any

import msgspec


class TaskFailure(msgspec.Struct, frozen=True):
    """One attempt's failure: the path of its class, by which it could be imported, and its traceback."""

    path: str
    traceback: str


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times in epoch seconds. `task`: its module path. `due_at`: if it was put off. `workers`: who ran it, one for each attempt."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str = "default"
    due_at: float | None = None
    enqueued_at: float | None = None
    started_at: float | None = None
    last_attempted_at: float | None = None
    finished_at: float | None = None
    running: bool = False
    failures: list[TaskFailure] = []
    workers: list[str] = []


MAX_TRACEBACK = 16_000
MAX_KEPT = 10
"""Of the last attempts' failures and workers so many are kept."""
_decode = msgspec.json.Decoder(TaskRecord).decode


def encode_record(record: TaskRecord) -> bytes:
    """As it is kept; of the failures and workers the last ones."""
    kept = msgspec.structs.replace(record, failures=record.failures[-MAX_KEPT:])
    return msgspec.json.encode(kept)


def decode_record(text: bytes) -> TaskRecord | None:
    """What was kept; None for what anybody else may have written there."""
    try:
        return _decode(text)
    except (ValueError, RecursionError, MemoryError):
        return None
