"""A sorted set of payloads, in memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator


class SortedPayloads:
    """A sorted set: payloads by score."""

    def __init__(self) -> None:
        self._scores: dict[bytes, float] = {}
        self._order: list[tuple[float, bytes]] = []

    def __iter__(self) -> Iterator[bytes]:
        return iter([payload for _, payload in self._order])

    def __contains__(self, payload: object) -> bool:
        return payload in self._scores

    def __len__(self) -> int:
        return len(self._order)

    def add(self, payload: bytes, score: float) -> None:
        """Add it, or give it a new score."""
        self.remove(payload)
        self._scores[payload] = score
        insort(self._order, (score, payload))

    def add_another(self, payload: bytes, score: float) -> bytes:
        """Add it, with a space at its end if there is one of the same bytes; returns it as it lies there."""
        while payload in self._scores:
            payload += b" "
        self.add(payload, score)
        return payload

    def remove(self, payload: bytes) -> bool:
        """Whether it was there."""
        score = self._scores.pop(payload, None)
        if score is None:
            return False
        self._order.remove((score, payload))
        return True

    def due(self, now_s: float, limit: int) -> list[bytes]:
        """What has a score up to `now_s`."""
        return [payload for score, payload in self._order[:limit] if score <= now_s]

    def next_after(self, now_s: float) -> float | None:
        """The first score after `now_s`."""
        return next((score for score, _ in self._order if score > now_s), None)
