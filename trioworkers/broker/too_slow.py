"""Which calls the link can't carry: they took all the time that a call may take, though bytes moved all the while, and failed. Tried again for ever they would stop all that comes behind them.

A link may also break after so many bytes, again and again: then as much at once never comes through. So less is asked for after each break, and a
group of outcomes that was broken twice goes in smaller parts. What is given up is only what took all the time: a break may be chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S
from trioworkers.broker.redis.epoch import MOST_SILENCES
from trioworkers.broker.redis.pace import LEAST_BYTES, Pace, is_break
from trioworkers.errors import Unavailable

ALL_THE_TIME_S = REPLY_TIMEOUT_S * (MOST_SILENCES - 1)
"""A server that says nothing is given up much sooner."""
TRIES = 2
T = TypeVar("T")


async def again_if_it_broke(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask for one of many parts, and once more if the connection breaks under that: else all that came before were for nothing. Raises BrokerError."""
    try:
        return await ask()
    except Unavailable as error:
        if not is_break(error):
            raise
        return await ask()


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
        except Unavailable as error:
            self.failed(what, began_at, error)
            raise
        del self._failed[what]

    def failed(self, what: str, began_at: float, error: Unavailable, divisible: int = 0) -> None:
        """Take note of what failed just now. `divisible`: how many bytes went there at once, of what may go in parts."""
        took_all, broke = trio.current_time() - began_at >= ALL_THE_TIME_S, is_break(error)
        if took_all or (broke and divisible > LEAST_BYTES):
            self._failed[what] += 1
        if took_all:
            self._pace.failed()
        elif broke:
            self._pace.broke()
