"""Resque's roll of workers, as others read and write it: Ruby's Resque, node-resque, goworker."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import attrs
import msgspec


@attrs.frozen
class Entry:
    """One worker in the registry: what it is, its name, and the queues that it fetches from, `*` for any letters.

    `beat_s`: its last sign of life in epoch seconds; None if its kind gives none.
    """

    kind: str
    name: str
    patterns: Collection[str]
    beat_s: float | None

    def fetches(self, queue: str) -> bool:
        """Whether it fetches from `queue`."""
        return any(_fits(pattern, queue) for pattern in self.patterns)


def _fits(pattern: str, queue: str) -> bool:
    """Each part between stars at its first place after the one before: no regular expression, which a hundred stars of a stranger would keep busy for ever."""
    first, *parts = pattern.split("*")
    if not parts:
        return pattern == queue
    last, at = parts.pop(), len(first)
    if not (queue.startswith(first) and queue.endswith(last) and len(queue) >= at + len(last)):
        return False
    end = len(queue) - len(last)
    for part in parts:
        found = queue.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def read_entry(worker: bytes, heartbeat: bytes, ping: bytes) -> Entry | None:
    """An entry by the worker's id, Ruby's heartbeat and node-resque's ping, where there are any (else empty); None if it is no id."""
    host, _, rest = worker.decode(errors="replace").partition(":")
    pid, _, queues = rest.partition(":")
    if not (host and pid and queues):
        return None
    if ping:
        return Entry("node-resque", f"{host}:{pid}", queues.split(","), _ping_s(ping))
    if heartbeat:
        return Entry("Resque", f"{host}:{pid}", queues.split(","), _heartbeat_s(heartbeat))
    # goworker has an entry for each goroutine, and one for the poller.
    return Entry("Resque", f"{host}:{pid.partition('-')[0]}", queues.split(","), None)


def _ping_s(ping: bytes) -> float:
    try:
        fields: Any = msgspec.json.decode(ping)
        return float(fields["time"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0.0


def _heartbeat_s(heartbeat: bytes) -> float:
    try:
        return datetime.fromisoformat(heartbeat.decode()).timestamp()
    except (ValueError, OverflowError):
        return 0.0
