"""Which calls the link can't carry: they took all the time that a call may take, though bytes moved all the while, and failed. Tried again for ever they would stop all that comes behind them.

A link may also break after so many bytes, again and again: then as much at once never comes through. So less is asked for after each break, and a
group of outcomes that was broken twice goes in smaller parts. A break may be chance: what can't be smaller is given up when it was broken so often in a row that it can't.
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
DOESNT_CARRY = f"the way to Redis doesn't carry it within {ALL_THE_TIME_S:.0f} s, or breaks under it each time"
ENOUGH, ALL_THE_TIME, IN_PARTS, AS_SMALL_AS_CAN_BE = 6, 3, 3, 1
"""How often in a row something fails before it is given up: twice if it took all the time, or is tried in parts then; six times if nothing less can be asked for."""
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
    """What is to be written is more than the link carries. `str()`: as a sentence."""

    def __init__(self) -> None:
        super().__init__(DOESNT_CARRY)


class TooSlow:
    """One worker's, by what was read or written. `pace`: that of its link, of which so little is asked the next time that it gets to what it carries."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failed: Counter[str] = Counter()
        self._at: dict[str, int] = {}

    def __contains__(self, what: str) -> bool:
        """Whether it was tried as often as it should be."""
        return self._failed[what] >= ENOUGH

    def forget(self, *what: str) -> None:
        """Begin anew with these."""
        for each in what:
            del self._failed[each]
            self._at.pop(each, None)

    @contextmanager
    def watching(self, what: str, size: int, at: int = 0) -> Iterator[None]:
        """Take note of how that goes. `size`: how many bytes are sent or asked for; `at`: where, in what is read page by page."""
        began_at = trio.current_time()
        try:
            yield
        except Unavailable as error:
            self.failed(what, began_at, error, size, at=at)
            raise
        if self._failed and self._at.get(what, at) <= at:
            self.forget(what)

    def failed(
        self, what: str, began_at: float, error: Unavailable, size: int, *, divisible: bool = False, at: int = 0
    ) -> None:
        """Take note of what failed just now. `size`, `at`: as above; `divisible`: of what is tried in parts, then."""
        if trio.current_time() - began_at >= ALL_THE_TIME_S:
            self._count(what, ALL_THE_TIME, at)
            self._pace.failed()
        elif is_break(error):
            if divisible and size > LEAST_BYTES:
                self._count(what, IN_PARTS, at)
            elif min(size, self._pace.bytes) == LEAST_BYTES:
                self._count(what, AS_SMALL_AS_CAN_BE, at)
            self._pace.broke(size)

    def _count(self, what: str, weight: int, at: int) -> None:
        if self._at.get(what, at) != at:  # what failed before came through, or is gone
            del self._failed[what]
        self._failed[what] += weight
        self._at[what] = at
