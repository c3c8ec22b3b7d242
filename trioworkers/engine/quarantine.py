"""Suspects, jobs under which workers died, run one after another; else their neighbours would be buried with them.

A job that kills its process takes the blame together with all that ran beside it. After the second crash each of those is
started alone, a moment apart, and noted in Redis as in quarantine before it starts: if the worker dies now, it alone is charged, and
who waited in the queue for its turn is not. Innocent jobs come through and are cleared; the killer gets its third charge.

Who takes longer than its head start has company. A crash in that time may be any one's doing: all of them are charged, none is
buried for it, and each gets a longer head start next time, until the killer is alone when it strikes.
"""

from __future__ import annotations

import trio

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY, Broker
from trioworkers.broker.redis.connection import retrying
from trioworkers.wire.dialect import Failure

QUARANTINE_AFTER_CRASHES = 2
MAX_CRASHES = 3
WORKER_DIED = Failure(
    "trioworkers.WorkerDied", f"{MAX_CRASHES} workers died while they ran this job; it is not run again"
)
HEAD_START_S = 1.0
"""How long a suspect runs before the next one starts: long jobs among the innocent must not hold all others up. Four times as long after each further crash."""


def head_start_s(crashes: int) -> float:
    """Seconds for which a job is alone under which so many workers died."""
    return HEAD_START_S * 4.0 ** min(max(crashes - QUARANTINE_AFTER_CRASHES, 0), MAX_CRASHES_IN_COMPANY)


class Quarantine:
    """One worker's order of suspects."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = trio.Lock()
        self._before_finished = trio.Event()
        self._before_until = 0.0

    async def enter(self, jid: str, finished: trio.Event, crashes: int = QUARANTINE_AFTER_CRASHES) -> None:
        """Wait for the suspect's turn; when this returns it is in quarantine. `finished`: to be set when it has ended, however.

        Cancelled: the turn is the next one's.
        """
        async with self._turn:
            with trio.move_on_at(self._before_until):
                await self._before_finished.wait()
            await retrying(lambda: self._broker.quarantine(jid))
            self._before_finished, self._before_until = finished, trio.current_time() + head_start_s(crashes)
