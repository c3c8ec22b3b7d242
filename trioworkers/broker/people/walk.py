"""How far one has come in a sorted set, the lowest score first, so that nothing which stays there is passed over, whatever others add and take meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trioworkers.wire.entry import Entry

LANDMARKS, LANDMARK_BYTES = 20, 200_000
"""So many payloads, weighing so much, say how far we are among those of one score."""


class Walk:
    """One way through a set. The next page begins at `score`: after the first of `seen` that is still there; without any, after the first `passed`.

    By score, not by rank, for others insert and remove before us. Among those of the very same score there is only the payloads' own order.
    """

    def __init__(self) -> None:
        self.score = -math.inf
        self.seen: Sequence[bytes] = ()
        self.passed = 0
        self._stayed: list[Entry] = []

    def go_on(self, page: Sequence[Entry], stayed: Sequence[Entry], moved: int = 0) -> None:
        """A page was read, `moved` of which were taken away; `stayed`: those that were not to be."""
        last = page[-1].score or 0.0
        same = sum(entry.score == last for entry in page)
        self.passed = max(0, same - moved) + (self.passed if last == self.score else 0)
        self._stayed = [*self._stayed, *stayed][-LANDMARKS:]
        self.score, self.seen = last, self._landmarks(page)

    def _landmarks(self, page: Sequence[Entry]) -> list[bytes]:
        """The last first. None if the last of the page is too heavy to be sent."""
        marks: list[bytes] = []
        weight = 0
        for entry in (*reversed(page[-LANDMARKS:]), *reversed(self._stayed)):
            if entry.score == page[-1].score:
                weight += len(entry.payload)
                if weight > LANDMARK_BYTES:
                    break
                marks.append(entry.payload)
        return marks
