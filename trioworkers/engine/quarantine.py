"""Suspects, jobs under which workers died, run one after another; else their neighbours would be buried with them.

Who is charged with a death must have started. What a worker fetched says nothing of that: the first of twenty may kill it before the others begin, and
to note each start would cost every job a round trip. So the first death charges nobody who lay beside others: they become suspects. A suspect's
start is noted in Redis before it starts, one after another, so that whoever kills its worker does so before the next one is noted. At the second death
those that had started are charged with both; those that had not, with none.

A job that kills its process may have had company then. After the second crash each of those is
started alone, a moment apart, and noted as alone: if the worker dies now, it alone is charged, and
who waited in the queue for its turn is not. Innocent jobs come through and are cleared; the killer gets its third charge.

Who takes longer than its head start has company. A crash in that time may be any one's doing: all of them are charged, none is
buried for it, and each gets a longer head start next time, until the killer is alone when it strikes.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from trioworkers.broker.contract import LARGE_BYTES, MAX_CRASHES_IN_COMPANY, SUSPECTED, Broker
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


class Blame:
    """Whom a worker's death is charged to. `started`: see `Reclaims.started`; `is_alone`: its list holds but one."""

    def __init__(self, started: Mapping[str, bool] | None, *, is_alone: bool = False) -> None:
        self._is_charged = started is None
        self._is_alone = is_alone
        started = started or {}
        alone = {jid for jid, was_alone in started.items() if was_alone}
        self._none_alone = not alone
        self._to_blame = alone or {*started}

    @property
    def enough(self) -> int:
        """With so many deaths a job is buried."""
        return MAX_CRASHES if len(self._to_blame) == 1 else MAX_CRASHES_IN_COMPANY

    def look(self, jid: str, crashes: int | None, size: int) -> None:
        """Take note of what lies in its list, before anything is charged.

        A large payload is fetched alone. If it is a suspect, and its start isn't noted, the worker died of receiving it; unless it waited for its
        turn, behind one that was alone.
        """
        if size > LARGE_BYTES and not self._is_charged and crashes is not None and self._none_alone:
            self._to_blame.add(jid)

    def charge(self, jid: str, crashes: int | None) -> int:
        """With how many deaths a job is charged that lay in its list; `crashes`: those that it is charged with already, None if it is no suspect."""
        if self._is_charged:
            return 0
        if jid in self._to_blame:
            return 2 if crashes == 0 else 1  # with the first one, too: it lay there then
        if crashes is None:
            return 1 if self._is_alone else SUSPECTED
        return 0


class Quarantine:
    """One worker's order of suspects."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = trio.Lock()
        self._noting = trio.Lock()
        self._before_finished = trio.Event()
        self._before_until = 0.0

    async def enter(self, jid: str, finished: trio.Event, crashes: int = QUARANTINE_AFTER_CRASHES) -> None:
        """Wait for the suspect's turn; when this returns it is noted. `finished`: to be set when it has ended, however.

        No other one is noted before the caller waits for something. Cancelled: the turn is the next one's.
        """
        if crashes < QUARANTINE_AFTER_CRASHES:
            async with self._noting:
                await retrying(lambda: self._broker.note_start(jid, alone=False))
            return
        async with self._turn:
            with trio.move_on_at(self._before_until):
                await self._before_finished.wait()
            await retrying(lambda: self._broker.note_start(jid, alone=True))
            self._before_finished, self._before_until = finished, trio.current_time() + head_start_s(crashes)
