"""An entry of an outbox, as people look at it: an id, and what jobs enqueued into another shard. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from trioworkers.wire.entry import Entry
from trioworkers.wire.packing import unpack_bytes

ID_LENGTH = 24


class OutboxEntry(NamedTuple):
    """`jobs`: as they would lie in their queues. `is_readable`: whether it is an entry at all: somebody else may have written it."""

    id: str
    jobs: tuple[Entry, ...]
    is_readable: bool


def decode_outbox_entry(raw: bytes) -> OutboxEntry:
    """Of any bytes. The format is what `Sending.work` returns, packed, behind 24 characters of an id."""
    entry_id, parcel = raw[:ID_LENGTH].decode(errors="replace"), raw[ID_LENGTH:]
    try:
        push, later, *more = unpack_bytes(parcel)
        jobs = (*_pushed(push), *_later(later), *_members(more[1] if more[1:] else ()))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        return OutboxEntry(entry_id, (), is_readable=False)
    return OutboxEntry(entry_id, jobs, is_readable=True)


def _pushed(push: Any) -> Iterator[Entry]:
    for queue, _, items, *_ in push:
        for item in items:
            yield Entry("queue", _payload(item), queue.decode(errors="replace"))


def _later(later: Any) -> Iterator[Entry]:
    for item, *_ in later:
        payload = _payload(item)
        yield Entry("queue", payload, Entry("queue", payload).queue)


def _members(ops: Any) -> Iterator[Entry]:
    """Those that wait for others of their batch."""
    for op in ops:
        for _, item, way, *_ in op[4]:
            yield Entry("queue", _payload(item), way[0].decode(errors="replace"))


def _payload(item: Any) -> bytes:
    """Of a unique job more stands in its place, with the payload first."""
    payload = item[0] if isinstance(item, list) else item
    if not isinstance(payload, bytes):
        raise TypeError("no payload")
    return payload
