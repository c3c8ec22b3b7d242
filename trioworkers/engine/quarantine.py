"""Suspects, jobs under which workers died, run one after another; else their neighbours would be buried with them.

A job that kills its process takes the blame together with all that ran beside it. After the second death each of those is
started alone, a moment apart, and noted in Redis as on trial before it starts: if the worker dies now, it alone is charged, and
who waited in the queue for a trial is not. Innocent jobs come through and are cleared; the killer gets its third charge.
"""

from __future__ import annotations

import trio

from trioworkers.broker.moves import Broker
from trioworkers.broker.redis.connection import retrying

QUARANTINE_AFTER_CRASHES = 2
MAX_CRASHES = 3
HEAD_START_S = 1.0
"""How long a suspect runs before the next one starts: long jobs among the innocent must not hold all others up."""


class Quarantine:
    """One worker's order of trials."""

    def __init__(self, broker: Broker, nursery: trio.Nursery) -> None:
        self._broker = broker
        self._nursery = nursery
        self._turn = trio.Semaphore(1)

    async def admit(self, jid: str, finished: trio.Event) -> None:
        """Wait for the suspect's turn; when this returns it is on trial. `finished`: set when it has ended."""
        await self._turn.acquire()
        try:
            await retrying(lambda: self._broker.quarantine(jid))
        except BaseException:
            self._turn.release()
            raise
        self._nursery.start_soon(self._end_turn, finished)

    async def _end_turn(self, finished: trio.Event) -> None:
        with trio.move_on_after(HEAD_START_S):
            await finished.wait()
        self._turn.release()
