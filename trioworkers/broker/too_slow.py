"""Which calls the link can't carry: they took all the time that a call may take, though bytes moved all the while, and failed. Tried again for ever they would stop all that comes behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S
from trioworkers.broker.redis.epoch import MOST_SILENCES
from trioworkers.broker.redis.pace import Pace
from trioworkers.errors import Unavailable

ALL_THE_TIME_S = REPLY_TIMEOUT_S * (MOST_SILENCES - 1)
"""A server that says nothing is given up much sooner."""
TRIES = 2


class CantPass(Exception):
    """What is to be written is more than the link carries in the time that a call may take, tried twice. `str()`: as a sentence."""

    def __init__(self) -> None:
        super().__init__(f"the way to Redis doesn't carry it within {ALL_THE_TIME_S:.0f} s")


class TooSlow:
    """One worker's, by what was read or written. `pace`: that of its link, of which so little is asked the next time that it gets to what it carries."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failed: Counter[str] = Counter()

    def __contains__(self, what: str) -> bool:
        """Whether it was tried as often as it should be."""
        return self._failed[what] >= TRIES

    def forget(self, *what: str) -> None:
        """Begin anew with these."""
        for each in what:
            del self._failed[each]

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """Take note of how that goes."""
        began_at = trio.current_time()
        try:
            yield
        except Unavailable:
            self.failed(what, began_at)
            raise
        del self._failed[what]

    def failed(self, what: str, began_at: float) -> None:
        """Take note of what failed just now."""
        if trio.current_time() - began_at >= ALL_THE_TIME_S:
            self._failed[what] += 1
            self._pace.failed()
