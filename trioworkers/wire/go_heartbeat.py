"""go-workers2's heartbeat records: which in-progress lists a process says it has, and the same without some of them."""

from __future__ import annotations

from typing import Any

import msgspec

HEARTBEATS_FIELD = "worker_heartbeats"


def lists_in(heartbeats: bytes) -> list[str]:
    """The in-progress lists of a record's `worker_heartbeats`: `QUEUE:PROCESS:inprogress`, or "" for an entry that names none."""
    return [_list_of(entry) for entry in _entries(heartbeats)]


def without(heartbeats: bytes, list_name: str) -> bytes:
    """`worker_heartbeats` without what is said of one list."""
    return msgspec.json.encode([entry for entry in _entries(heartbeats) if _list_of(entry) != list_name])


def _entries(heartbeats: bytes) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(heartbeats, type=list[dict[str, Any]])
    except (ValueError, RecursionError):
        return []


def _list_of(entry: dict[str, Any]) -> str:
    """Go's `,string` makes a string of a string, quotes and all."""
    name = entry.get("in_progress_queue")
    if not isinstance(name, str):
        return ""
    try:
        return msgspec.json.decode(name, type=str)
    except (ValueError, RecursionError):
        return name
