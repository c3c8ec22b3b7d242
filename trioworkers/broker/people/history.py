"""Reads what workers have noted of queues minute by minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from trioworkers.broker.people.reading import Reader
from trioworkers.wire.packing import unpack_bytes

Waiting = tuple[int, int]
"""How many jobs waited; for how many seconds the one that was next."""


class History(Reader):
    """What was."""

    async def hours(self, hours: Sequence[int], queue: str = "") -> list[Mapping[int, Waiting]]:
        """Of each of these hours since 1970, by minute: of all queues, or of one. What isn't known is missing. Raises BrokerError."""
        return await self._all([partial(self._hour, hour, queue) for hour in hours])

    async def _hour(self, hour: int, queue: str) -> Mapping[int, Waiting]:
        key = self._keys.history(f"{hour}{':queues' if queue else ''}")
        found = {}
        for minute, text in (await self._read.hgetall(key)).items():
            waiting = _of_queue(text, queue[:100].encode()) if queue else _of_all(text)
            if minute.isdigit() and len(minute) < 3 and waiting is not None:
                found[int(minute)] = waiting
        return found


def _of_all(text: bytes) -> Waiting | None:
    size, _, age_s = text.partition(b" ")
    return (int(size), int(age_s)) if _is_count(size) and _is_count(age_s) else None


def _is_count(text: bytes) -> bool:
    return text.isdigit() and len(text) < 16


def _of_queue(packed: bytes, queue: bytes) -> Waiting | None:
    """Of a queue that isn't among those noted nothing waited, or little."""
    try:
        return next(((int(size), int(age_s)) for name, size, age_s in unpack_bytes(packed) if name == queue), None)
    except (ValueError, TypeError, OverflowError):
        return None
