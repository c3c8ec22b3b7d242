"""Link: what all connections of one worker know together of Redis, and the log lines about it."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import trio

from trioworkers.broker.redis.pace import Pace
from trioworkers.errors import BrokerError, CannotServe, Refused, Superseded, Unreachable
from trioworkers.wire.error_replies import is_temporary, who_knows_more

logger = logging.getLogger("trioworkers")

Ask = Callable[..., Awaitable[Any]]
"""Asks a command, word by word. Raises BrokerError."""
Door = Callable[[Ask], Awaitable[None]]
"""Looks at who answers over a socket before it is used. Raises Unavailable if that one won't do."""


class Link:
    """What all connections of one worker know together of Redis: is it there, and since when without a break.

    Logs one line when Redis goes and one when it comes. An operation that Redis refuses (it is full, say) has lines of its own.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.pace = Pace(address)
        self.healthy_since = -math.inf
        self.outages = 0
        self.last_outage_s = 0.0
        """How long the last one took, of those that are over."""
        self.heard_at = -math.inf
        """When Redis last answered, on `time.monotonic()`'s clock: for other threads."""
        self.door: Door | None = None
        self.can_be_silent = True
        """False if this Redis answers what it was told not to answer, or may not be told so."""
        self._last_success = -math.inf
        self._lost_at: float | None = None
        self._refused: dict[str, str] = {}

    @property
    def is_up(self) -> bool:
        """Whether the latest news of Redis is good."""
        return self._lost_at is None

    def succeeded(self, operation: str) -> None:
        """Redis answered."""
        self._last_success = now = trio.current_time()
        self.heard_at = monotonic()
        if self._lost_at is None and not self._refused and self.healthy_since > -math.inf:
            return  # as nearly always
        if self._lost_at is not None:
            logger.warning("Redis at %s is back after %.1f s", self.address, now - self._lost_at)
            self.last_outage_s = now - self._lost_at
            self._lost_at, self.healthy_since = None, now
        elif self.healthy_since == -math.inf:
            self.healthy_since = now
        if self._refused.pop(operation, ""):
            logger.warning("Redis at %s accepts %s again", self.address, operation)

    def failed(self, operation: str, error: BrokerError, started_at: float) -> None:
        """A call that began at `started_at` failed; no news if Redis has answered another one since."""
        never_up = self.healthy_since == -math.inf
        if never_up and isinstance(error, Refused):
            return  # wrong password, mostly: whoever starts with it ends with it, and says so
        if isinstance(error, Superseded):
            return  # Redis is there: whoever hears of it stops, and says why
        is_there = not isinstance(error, Unreachable)  # else what a node of a cluster says is why nobody is
        if isinstance(error, Refused) or (is_there and is_temporary(str(error))):
            if operation not in self._refused:
                self._refused[operation] = str(error)
                logger.error("Redis at %s refuses %s: %s", self.address, operation, error)
        elif self._lost_at is None and self._last_success <= started_at:
            self._lost_at = trio.current_time()
            self.outages += 1
            what_now = _at_first(error) if never_up else "running jobs go on, the rest waits"
            state = "can't serve us" if isinstance(error, CannotServe) else "is unreachable"
            reason = f"{error}{who_knows_more(str(error), self.address)}"
            logger.warning("Redis at %s %s (%s); %s", self.address, state, reason, what_now)


def _at_first(error: BrokerError) -> str:
    """What to do about a Redis that has never been there: most likely it is another one that was meant, or none."""
    what_now = "it is tried again until it is there"
    return f"{what_now} ({error.advice})" if isinstance(error, Unreachable) and error.advice else what_now


class UnloggedLink(Link):
    """Of a connection besides: what becomes of Redis is told by another one."""

    def failed(self, operation: str, error: BrokerError, started_at: float) -> None:
        """Nothing is told."""
