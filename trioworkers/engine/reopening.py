"""A consumer's work over one intake after the other: when Redis can't be reached, or refuses, the next is opened after a pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from trioworkers.broker.redis.connection import backoff
from trioworkers.errors import BrokerError, Superseded

GOOD_INTAKE_S = 0.5
"""An intake that lasted this long did its work; one that is refused again and again is opened ever more rarely."""


async def fetch_for_ever(over_one_intake: Callable[[], Awaitable[None]]) -> NoReturn:
    """Call this again and again, until it raises anything but a BrokerError. Raises Superseded as it comes. Cancelled as usual."""
    delays = backoff()
    while True:
        opened_at = trio.current_time()
        try:
            await over_one_intake()
        except Superseded:
            raise
        except BrokerError:
            if trio.current_time() - opened_at > GOOD_INTAKE_S:
                delays = backoff()
            await trio.sleep(next(delays))
