"""The upkeep of what is held: tell the fleet of our limits, and do for all what became due by itself.

That is little, for whoever lets a permit go hands it on at once: reservations that ran out, limits that nobody declares any more, numbers
that were raised, effects that could not be written, keys that somebody deleted; and those who wait for nothing but time, under a rate. Any worker may do
it; each does when its heartbeat says that there is something, and those that have limits at the moment at which somebody may start.
Nobody is chosen for it: who finds that others were faster comes more rarely.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.limits import Declared, Round, Tended
from trioworkers.broker.redis.connection import retrying
from trioworkers.errors import BadPayload, Refused, Superseded
from trioworkers.exits import Effect, on_unread_exit
from trioworkers.wire.error_replies import is_about_a_key
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

SOONEST_S, RAREST_S = 0.05, 1.0
"""How soon after a look the next one is. What was due meanwhile is made up for, up to a second's."""
MOVE_PAUSE_S = 0.002
"""Between two pages of what waits for jobs of batches."""


class Tending:
    """The upkeep of one worker. `declared`: its limits by name."""

    def __init__(self, broker: Broker, declared: Declared) -> None:
        self._broker = broker
        self._declared = declared
        self._since = ""
        self._cursor = 0
        self._lost: list[tuple[bytes, str, str]] = []
        self._ended: list[tuple[bytes, Sequence[Effect]]] = []
        self._full_is_due = False
        self._due_at = math.inf
        self._pause_s = SOONEST_S
        self._news = trio.Event()
        self._told: set[str] = set()
        self._moves_wait = False
        self._repairs = 0

    async def declare(self) -> None:
        """Tell the fleet of our limits, before the first job of ours. Raises BrokerError, but for a key of the wrong type, which is told: it keeps nobody from starting."""
        if not self._declared:
            return
        try:
            tended = await self._broker.tend(Round(self._declared))
        except Refused as error:
            if not is_about_a_key(str(error)):
                raise
            self._tell(logging.ERROR, f"limits can't be maintained: {error}")
        else:
            self._hear(tended, only_due=False)

    def add(self, name: str, spec: LimitSpec) -> None:
        """Another limit of ours, to be told with the next round."""
        if name not in self._declared:
            self._declared = {**self._declared, name: spec}
            self.look()

    def beat(self, *, something_is_held: bool) -> None:
        """A heartbeat went out, and said whether there is anything to tend."""
        if something_is_held or self._declared:
            self.look()

    def look(self) -> None:
        """Tend all at the next opportunity."""
        self._full_is_due = True
        self._news.set()

    def expect(self, in_s: float = 0.0) -> None:
        """Somebody waits now, perhaps for nothing but time: look so soon when that is over."""
        self._due_at = min(self._due_at, trio.current_time() + max(in_s, SOONEST_S))
        self._news.set()

    def move_on(self) -> None:
        """The end of a member has more others follow than there was time for."""
        self._moves_wait = True
        self._news.set()

    async def run(self) -> None:
        """Tend whenever a beat says so, or somebody may start, for ever. Cancellation: between two rounds."""
        while True:
            if self._moves_wait:
                await self._move_all()
            if not self._full_is_due:
                with trio.move_on_at(self._due_at):
                    await self._news.wait()
                self._news = trio.Event()
            only_due = not self._full_is_due
            if only_due and trio.current_time() < self._due_at:
                continue
            self._full_is_due = False
            await self._round(only_due=only_due)
            self._moves_wait = self._moves_wait or not only_due  # others may have left something

    async def _move_all(self) -> None:
        """A page at a time: Redis is there for the jobs."""
        self._moves_wait = False
        try:
            left = 1
            while left:
                left = await retrying(self._broker.move_on, final=(Superseded, Refused))
                await trio.sleep(MOVE_PAUSE_S)
        except Refused as error:  # looked at again with the next beat
            self._tell(logging.ERROR, f"what waits for jobs of a batch can't be moved: {error}")

    async def _round(self, *, only_due: bool) -> None:
        round_ = Round(self._declared, self._since, self._cursor, self._lost, self._ended)
        if only_due:
            round_ = Round(since=self._since, cursor=self._cursor, only_due=True)
        try:
            tended = await retrying(lambda: self._broker.tend(round_), final=(Superseded, Refused))
        except Refused as error:  # a key of the wrong type, say: told once, looked at again with the next beat
            self._due_at = math.inf
            self._tell(logging.ERROR, f"limits can't be maintained: {error}")
            return
        self._hear(tended, only_due=only_due)

    def _hear(self, tended: Tended, *, only_due: bool) -> None:
        self._since = tended.since or self._since
        self._pause_s = SOONEST_S if tended.woken or not only_due else min(2 * self._pause_s, RAREST_S)
        waits = tended.next_in_s is not None and self._declared
        wait_s = max(self._pause_s, tended.next_in_s or 0.0) if waits else math.inf
        self._due_at = trio.current_time() + wait_s
        if only_due:
            return
        if tended.put_back:
            logger.warning(
                "%s put back: Redis had lost the record of their limits",
                counted(tended.put_back, "job"),
            )
        self._cursor, self._lost = tended.cursor, self._known(tended.lost)
        self._ended = [(noted, on_unread_exit(noted, "dead")) for noted in tended.unread]
        if self._ended:
            self._full_is_due = True  # they are let go with the next round
        for name in tended.forgotten:
            logger.warning("limit %s: no live worker declares it any more, so it holds no job back", name)
        if tended.repairs > self._repairs:  # not with every beat: what can't be written may never be
            logger.warning(
                "%s of jobs that ended still can't be written; doctor says which keys",
                counted(tended.repairs, "effect"),
            )
        self._repairs = tended.repairs

    def _known(self, lost: Sequence[bytes]) -> list[tuple[bytes, str, str]]:
        """Those of which we can say where they belong: by the next round they are put back there."""
        known: list[tuple[bytes, str, str]] = []
        for payload in lost:
            try:
                queue = self._broker.dialect.destination(payload)
                dialect, keys = self._broker.spoken_on(queue)
            except BadPayload as error:
                self._tell(
                    logging.WARNING,
                    f"no limit knows a parked job any more, and the job doesn't name its queue: {error}",
                )
            else:
                known.append((payload, keys.queue(queue), dialect.put_back_with))
        return known

    def _tell(self, level: int, text: str) -> None:
        if text not in self._told:
            self._told = {text, *list(self._told)[:100]}
            logger.log(level, "%s", text)
