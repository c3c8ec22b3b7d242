"""Has it noted, once a minute, how many jobs wait and how long: for pictures of what went on before anybody looked."""

from __future__ import annotations

import trio

from trioworkers.broker.history import sample
from trioworkers.broker.moves import RedisBroker
from trioworkers.errors import Refused, Superseded, Unavailable
from trioworkers.ticks import next_tick

EVERY_S = 60.0


class History:
    """One worker's part in it: every minute it is one call, of which all but the first of the fleet do nothing."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker

    async def run(self) -> None:
        """For ever. A minute that can't be noted is missing; the link says why."""
        while True:
            await trio.sleep_until(next_tick(EVERY_S))
            if self._broker.connection.link.is_up:
                try:
                    await sample(self._broker.connection, self._broker.keys)
                except Superseded:
                    raise
                except (Unavailable, Refused):
                    pass
