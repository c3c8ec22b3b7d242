"""The upkeep of what is held: tell the fleet of our limits, and do for all what became due by itself.

That is little, for whoever lets a permit go hands it on at once: reservations that ran out, limits that nobody declares any more, numbers
that were raised, effects that could not be written. Any worker may do it; each does when its heartbeat says that there is something.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.redis.connection import retrying
from trioworkers.errors import Refused, Superseded

logger = logging.getLogger("trioworkers")


class Tending:
    """The upkeep of one worker. `declared`: its limits by name, with how many may run at once."""

    def __init__(self, broker: Broker, declared: Mapping[str, int]) -> None:
        self._broker = broker
        self._declared = declared
        self._since = ""
        self._wake = trio.Event()
        self._told = ""

    async def declare(self) -> None:
        """Tell the fleet of our limits. Raises BrokerError."""
        if self._declared:
            self._since = await self._broker.declare(self._declared, self._since)

    def beat(self, *, something_is_held: bool) -> None:
        """A heartbeat went out, and said whether there is anything to tend."""
        if something_is_held or self._declared:
            self._wake.set()

    async def run(self) -> None:
        """Tend whenever a beat says so, for ever. Cancellation: between two rounds."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._round()

    async def _round(self) -> None:
        try:
            await retrying(self.declare, final=(Superseded, Refused))
            tended = await retrying(self._broker.tend, final=(Superseded, Refused))
        except Refused as error:  # a key of the wrong type, say: told once, looked at again with the next beat
            if str(error) != self._told:
                logger.error("limits can't be tended: %s", error)
            self._told = str(error)
            return
        self._told = ""
        for name in tended.forgotten:
            logger.warning("limit %s: no live worker declares it any more; it holds nobody back", name)
        if tended.repairs:
            logger.warning(
                "%d effects of jobs that ended still can't be written; doctor says which keys", tended.repairs
            )
