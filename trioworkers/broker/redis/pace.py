"""Pace: how much the way to Redis carries in about a second, and so how much is asked for at once.

A reply of many megabytes over a slow link takes longer than anybody should wait for it: jobs that are there already could run
meanwhile, and a stop would have to wait, too. Nothing is measured where it doesn't matter: only what took more than a second counts.
"""

from __future__ import annotations

import logging
import math

import trio

from trioworkers.broker.redis.translation import is_answer
from trioworkers.errors import BrokerError, Unavailable, Unreachable

logger = logging.getLogger("trioworkers")

MOST_BYTES = 8_000_000
LEAST_BYTES = 64_000
SLOW_S, QUICK_S = 1.0, 0.25
SAID_BELOW = 1_000_000
SLOW_FOR_S = 60.0
"""So long a line counts as slow after it was seen to be."""
ONE_BREAK_S = 1.0
"""Within so long all calls of a worker hear of one break, even of a busy one."""


def is_break(error: BrokerError) -> bool:
    """Whether the connection was lost under a call; else there was none, or nothing came, or Redis answered that it can't now."""
    is_lost = isinstance(error, Unavailable) and not isinstance(error, Unreachable)
    return is_lost and not _is_silence(error) and not is_answer(error.__cause__)


def _is_silence(error: BrokerError) -> bool:
    return isinstance(error.__cause__, TimeoutError)


class Pace:
    """One worker's. `bytes`: what to ask for at once; a single payload may be larger."""

    def __init__(self, address: str) -> None:
        self.bytes = MOST_BYTES
        self._address = address
        self._said = False
        self._slow_until = -math.inf
        self._broke_at = self._most_until = -math.inf
        self._most = MOST_BYTES
        self._carried = 0

    @property
    def carries(self) -> int:
        """What is surely no larger than the link carries: what is asked for at once, and what came through at once since it breaks."""
        breaks = trio.current_time() - self._broke_at < SLOW_FOR_S
        return max(self.bytes, self._carried) if breaks else self.bytes

    @property
    def is_slow(self) -> bool:
        """Whether replies were seen lately to come slowly: more than Redis's own doing, and more than chance."""
        return trio.current_time() < self._slow_until

    @property
    def breaks_again(self) -> bool:
        """Whether the link broke twice within a minute, lately: by chance it breaks once."""
        return self._most_until > -math.inf and trio.current_time() < self._most_until

    def took(self, size: int, seconds: float) -> None:
        """A reply of `size` bytes took so long."""
        self._carried = max(self._carried, size)
        tells = size >= LEAST_BYTES / 2  # else it was Redis, or a busy machine
        if tells and seconds > SLOW_S / 2 and size < SAID_BELOW * seconds:
            self._slow_until = trio.current_time() + SLOW_FOR_S
        if tells and seconds > SLOW_S:
            self._set(int(size / seconds))
        elif seconds < QUICK_S and size * 2 >= self.bytes:
            self.bytes = min(self._most_for_now(), self.bytes * 2)

    def _most_for_now(self) -> int:
        return self._most if self.breaks_again else MOST_BYTES

    def failed(self) -> None:
        """A reply didn't come. Perhaps it was too large."""
        self._set(self.bytes // 4)

    def lost(self, error: BrokerError, size: int) -> None:
        """A call that moves up to so many bytes at once ended so, before it took all the time it may take."""
        if is_break(error):
            self.broke(size)
        elif _is_silence(error):
            self.failed()

    def broke(self, size: int) -> None:
        """A connection was lost under a call that moves up to so many bytes at once. It may be one that breaks after so many: the next one is to move less.

        All calls of the same size that hear of one break ask for the same. If it breaks again, no more than that is asked for at once for a while.
        """
        if size <= LEAST_BYTES < self.bytes:  # so little breaks no link, unless less can't be asked for
            return
        now, before = trio.current_time(), self._broke_at
        self.bytes = min(self.bytes, max(LEAST_BYTES, size // 4))
        if now - before < ONE_BREAK_S:
            return
        self._broke_at = now
        if now - before < SLOW_FOR_S:
            self._most, self._most_until = 2 * self.bytes, now + SLOW_FOR_S
            self._say()
        else:  # by chance, mostly
            self._carried = 0

    def _set(self, size: int) -> None:
        self.bytes = min(MOST_BYTES, max(LEAST_BYTES, size))
        self._say()

    def _say(self) -> None:
        if self.bytes < SAID_BELOW and not self._said:
            self._said = True
            logger.warning(
                "the way to Redis at %s is slow, or breaks again and again: about %d kB are fetched at once (said once)",
                self._address,
                self.bytes // 1000,
            )
