"""Chores that any worker may do for all: promote due jobs, reclaim the lists of workers that died.

When is a worker dead? Its lease ran out, by Redis's clock; and it had the chance to say otherwise. So its absence is seen
twice, a beat apart. And whoever has just come to Redis, or back to it after an outage, watches for a whole lease: in an outage
leases run out while their workers live, and all come back at moments of their own. Who is missing then has, besides, as long to come back as
the outage took (`tw:outage`, which newcomers see, too): what kept one away for ten minutes may keep another for eleven. A newcomer that is there first
can't have seen the outage; for it, it took as long as nobody has been heard of.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import trio

from trioworkers.broker.contract import Broker, Due, DueSet, Reclaiming
from trioworkers.broker.redis.connection import backoff, retrying
from trioworkers.broker.redis.link import Link
from trioworkers.engine.coming_tick import ComingTick
from trioworkers.engine.periodic import Ticker
from trioworkers.engine.quarantine import WORKER_DIED, Blame
from trioworkers.errors import BadPayload, BrokerError, ConfigurationError, Refused, Superseded
from trioworkers.retry import buried
from trioworkers.ticks import next_tick
from trioworkers.wire.control_messages import IDLE_CHECK_INTERVAL_S
from trioworkers.wire.decode import jid_of
from trioworkers.wire.dialect import Failure
from trioworkers.wire.error_replies import is_about_a_key
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

LOOK_INTERVAL_S = 1.0
PROMOTE_PAGE = 200
RECLAIM_PAGE = 100
FORGET_AFTER_S = 60.0
TAKEN_OVER = -2

Orphan = tuple[str, str]


class Promoter:
    """Moves due jobs from the retry and schedule sets to their queues. Any number of workers may do it at once.

    `hear` is told all that a look brings: what people want comes with it. `is_idle`: whether nothing runs here. `ticker`: of the one that sees to periodic jobs, too.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        hear: Callable[[Due], None] = lambda _: None,
        is_idle: Callable[[], bool] = lambda: False,
        ticker: Ticker | None = None,
    ) -> None:
        self._broker = broker
        self._hear = hear
        self._is_idle = is_idle
        self._ticker = ticker
        self._coming = ComingTick(broker.clock.now_s)

    async def run(self) -> None:
        """Look once a second (less often while idle), and at the very moment when the next job comes due. An outage only delays it."""
        while True:
            next_in_s = await retrying(self.promote)
            tick = next_tick(IDLE_CHECK_INTERVAL_S if self._is_idle() else LOOK_INTERVAL_S)
            await trio.sleep_until(min(trio.current_time() + next_in_s, tick))

    async def promote(self) -> float:
        """Move what is due now; returns seconds until the next job comes due (inf: none that we know of, or some could not be moved).

        Raises BrokerError.
        """
        look = self._coming.begin()
        due = await self._broker.due(PROMOTE_PAGE, 0 if self._ticker is None else self._ticker.page, look=look)
        self._coming.end(due)
        self._hear(due)
        next_tick_s, is_stuck = math.inf, False
        if self._ticker is not None and due.entries:
            next_tick_s = await self._ticker.take(due)
            is_stuck = self._ticker.is_stuck
        errors: list[str] = []
        sources: tuple[tuple[DueSet, Sequence[bytes]], ...]
        sources = (("retry", due.retry), ("schedule", due.schedule), ("delayed", due.delayed))
        for source, payloads in sources:
            if payloads:
                entries = [self._entry(payload) for payload in payloads]
                errors += (await self._broker.promote(source, entries))[1]
        for error in set(errors):
            logger.error("a due job can't be enqueued, it stays where it is: %s", error)
        next_in_s = math.inf if errors or is_stuck or due.next_in_s is None else due.next_in_s
        return min(next_tick_s, next_in_s, self._coming.in_s)

    def _entry(self, payload: bytes) -> tuple[bytes, str | None, bytes]:
        """What becomes of a due payload. It may be no job of ours: where it names a queue, it goes there as it came, whatever else it says."""
        dialect = self._broker.dialect
        try:
            queue = dialect.destination(payload)
            return payload, queue, dialect.promoted(payload, self._broker.clock.now_s())
        except BadPayload as error:
            logger.error("a payload of %d bytes came due that has no queue, it goes to dead: %s", len(payload), error)
            problem: Exception = error
        except Exception as error:  # a fault of ours, which must be this payload's trouble alone: whoever promotes would meet it again and again
            logger.exception("a payload of %d bytes can't be promoted, it goes to dead", len(payload))
            problem = error
        return payload, None, self._dead(payload, problem)

    def _dead(self, payload: bytes, problem: Exception) -> bytes:
        failure = Failure("trioworkers.BadPayload", str(problem)[:500])
        try:
            return self._broker.as_dead(payload, "", failure)
        except Exception:  # as above
            logger.exception("no record can be made of it")
            return payload


class Reclaimer:
    """Gives the payloads of dead workers back to their queues, and buries jobs under which too many workers died.

    `broker_of`: finds the broker for the dialect tag behind a queue's name (see `Owner.tagged`); without it all queues are `broker`'s.
    `on_killer`: told the queue and the payload of each job that was buried.
    """

    def __init__(
        self,
        broker: Reclaiming,
        link: Link,
        *,
        lease_s: float,
        beat_s: float,
        broker_of: Callable[[str], Reclaiming] | None = None,
        on_killer: Callable[[str, bytes], None] = lambda *_: None,
    ) -> None:
        self._broker = broker
        self._on_killer = on_killer
        self._broker_of = broker_of or (lambda _: broker)
        self._link = link
        self._lease_s = lease_s
        self._beat_s = beat_s
        self._missing_since: dict[Orphan, float] = {}
        self.reclaimed = 0
        """How many jobs of dead workers were put back."""
        self._outages: int | None = None
        self._missing_at_first: set[Orphan] = set()
        self._due: set[Orphan] = set()
        self._others: set[Orphan] = set()
        self._wake = trio.Event()

    def observe(self, orphans: Sequence[Orphan], patience_s: float = 0.0) -> None:
        """Take note of the registered lists that have no living worker at this moment.

        `patience_s`: how long those have yet that were missing when we came, or came back.
        """
        now = trio.current_time()
        if self._link.outages != self._outages:
            self._outages = self._link.outages
            self._missing_since.clear()
            self._missing_at_first = set(orphans)
        self._missing_at_first.intersection_update(orphans)
        self._missing_since = {orphan: self._missing_since.get(orphan, now) for orphan in orphans}
        may_come_back = self._missing_at_first if patience_s > 0.0 else set()
        self._due = {
            orphan
            for orphan, since in self._missing_since.items()
            if orphan not in may_come_back and self._is_dead(since, now)
        }
        if self._due:
            self._wake.set()

    def _is_dead(self, since: float, now: float) -> bool:
        watched_before = since - self._link.healthy_since >= self._lease_s
        needed_s = self._beat_s * 0.5 if watched_before else self._lease_s
        return now - since >= needed_s

    async def run(self) -> None:
        """Reclaim what `observe` found dead, for ever. Cancellation: between two pages."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            for orphan in sorted(self._due):
                try:
                    await self._reclaim_dead(orphan)
                except Superseded:
                    raise
                except ConfigurationError as error:  # of a newer version, which will see to it
                    logger.warning("a dead worker's list is left to other workers: %s", error)
                except BrokerError:  # seen again with the next heartbeat
                    await trio.sleep(next(backoff()))

    async def _reclaim_dead(self, orphan: Orphan) -> None:
        moved = await self.reclaim(*orphan)
        if moved > 0:
            self.reclaimed += moved
            process_id, queue = orphan[0], orphan[1].partition(" ")[0]  # without the mark of its dialect
            logger.warning("%s of worker %s, which died, put back into %s", counted(moved, "job"), process_id, queue)
        if moved == 0:
            process_id, marked = orphan
            queue, _, mark = marked.partition(" ")
            since = self._missing_since.get(orphan, math.inf)
            long_dead = trio.current_time() - since >= FORGET_AFTER_S
            await self._broker_of(mark).forget(process_id, queue, strike=long_dead)

    async def reclaim(self, process_id: str, marked: str) -> int:
        """Move all payloads of a worker's in-progress list for a marked queue; returns how many. Raises BrokerError."""
        queue, _, mark = marked.partition(" ")
        broker = self._broker_of(mark)
        total = 0
        blame: Blame | None = None
        while payloads := await broker.peek(process_id, queue, RECLAIM_PAGE):
            if blame is None:
                is_alone = len(payloads) == 1 and await broker.held_by(process_id, queue) == 1
                blame = Blame(await broker.started(process_id), is_alone=is_alone)
            entries = await self._entries(broker, queue, payloads, blame)
            moved, error = await broker.reclaim(process_id, queue, entries)
            total += max(moved, 0)
            if moved > 0 and not error:
                self._tell(queue, entries)
            if moved == TAKEN_OVER:
                self._say_whose(process_id, queue)
            if error:
                logger.error("jobs of worker %s can't go back to %s: %s", process_id, queue, error)
            if moved <= 0 or error:
                break
        return total

    async def take_back(self, process_id: str, marked: str) -> int:
        """The same for a list of our own last life. One that somebody has written over keeps us from starting no more than others: its queue's fetches fail, and say so."""
        try:
            return await self.reclaim(process_id, marked)
        except Refused as error:
            if not is_about_a_key(str(error)):
                raise
            logger.error("what lies in the list of %s for %s can't be put back: %s", process_id, marked, error)
            return 0

    def _tell(self, queue: str, entries: Sequence[tuple[bytes, str, int, bytes | None]]) -> None:
        for payload, _, _, buried_as in entries:
            if buried_as is not None:
                self._on_killer(queue, payload)

    def _say_whose(self, process_id: str, queue: str) -> None:
        if (process_id, queue) not in self._others:
            self._others.add((process_id, queue))
            text = "another program fills the in-progress list of %s on %s, a process id that was ours (go-workers?): it is left alone"
            logger.warning(text, process_id, queue)

    async def _entries(
        self, broker: Reclaiming, queue: str, payloads: Sequence[bytes], blame: Blame
    ) -> list[tuple[bytes, str, int, bytes | None]]:
        jids = [jid_of(payload) for payload in payloads]
        deaths = await broker.crashes(jids)
        for payload, jid in zip(payloads, jids, strict=True):
            blame.look(jid, deaths.get(jid), len(payload))
        entries: list[tuple[bytes, str, int, bytes | None]] = []
        for payload, jid in zip(payloads, jids, strict=True):
            charge = blame.charge(jid, deaths.get(jid))
            crashes = deaths.get(jid, 0) + charge
            buried = _buried(broker, queue, payload) if charge > 0 and crashes >= blame.enough else None
            if buried is not None:
                logger.error("job %s goes to dead: %d workers died while they ran it", jid, crashes)
            entries.append((payload, jid, charge, buried))
        return entries


def _buried(broker: Reclaiming, queue: str, payload: bytes) -> bytes:
    noted = buried(payload, queue, WORKER_DIED, broker.clock.now_s(), broker.dialect)
    return broker.as_dead(noted, queue, WORKER_DIED)
