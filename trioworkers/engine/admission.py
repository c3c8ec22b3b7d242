"""Admission: the step between fetch and start, which says of those that were fetched which may start now.

Who may not has an outcome instead, handed in here, or has left this worker already, and so gives its slot back. Without a reason to
look closer the step isn't taken at all, so a plain job pays nothing for it. Reasons are that some job's worker died under it
(`Fetched.suspects`), and that the queue has classes that declare something.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY, Broker
from trioworkers.departures import held_unread
from trioworkers.engine.delivery import FETCHED, Delivery
from trioworkers.engine.locks import Locks
from trioworkers.engine.memberships import without_cancelled
from trioworkers.engine.permits import Permits, Verdict
from trioworkers.engine.quarantine import WORKER_DIED
from trioworkers.engine.settler import Settler
from trioworkers.errors import BadPayload
from trioworkers.outcome import REQUEUE, Bury, Expire, Snooze
from trioworkers.retry import buried
from trioworkers.wire.decode import jid_of
from trioworkers.wire.dialect import Failure
from trioworkers.wire.encode import addressed
from trioworkers.wire.job import new_jid

logger = logging.getLogger("trioworkers")

AGAIN_AFTER_S = 60.0
"""When jobs are tried again whose limit can't be asked, as its keys are broken."""


class Admission:
    """That of one queue. `settler`: whom outcomes are handed to. `permits`, `locks`: of a queue with limits, with unique jobs.

    `on_killer`: told the queue and the payload of each job that is buried since workers died under it.
    """

    def __init__(
        self,
        broker: Broker,
        settler: Settler,
        permits: Permits | None,
        on_killer: Callable[[str, bytes], None] = lambda *_: None,
        locks: Locks | None = None,
    ) -> None:
        self._on_killer = on_killer
        self._broker = broker
        self._settler = settler
        self._permits = permits
        self._locks = locks

    @property
    def always(self) -> bool:
        """Whether every batch is asked for."""
        return self._permits is not None or self._locks is not None

    async def admit(self, deliveries: Sequence[Delivery], *, suspects: bool) -> Sequence[Delivery]:
        """Those of them that may start. Raises BrokerError; then, and when it is cancelled, all go back to their queue."""
        try:
            if suspects:
                await self._note_crashes(deliveries)
                deliveries = [delivery for delivery in deliveries if not self._bury_killer(delivery)]
                deliveries = await without_cancelled(deliveries, self._broker, self._settler)
            # Not cancelled between a script and what comes of it here. Each ends within the reply timeout.
            with trio.CancelScope(shield=True):
                if self._locks is not None:  # first: who is swapped for another is under that one's limits
                    deliveries = self._starting(deliveries, await self._locks.claim(deliveries))
                if self._permits is not None:
                    deliveries = self._starting(deliveries, await self._permits.ask(deliveries))
                if self._locks is not None:
                    await self._locks.started(deliveries)
        except BaseException:
            for delivery in deliveries:
                self._settler.submit(delivery, REQUEUE)
            raise
        return deliveries

    def _starting(self, deliveries: Sequence[Delivery], verdicts: Sequence[Verdict]) -> Sequence[Delivery]:
        return [
            delivery
            for delivery, verdict in zip(deliveries, verdicts, strict=True)
            if verdict.starts or self._turn_away(delivery, verdict)
        ]

    async def _note_crashes(self, deliveries: Sequence[Delivery]) -> None:
        jids = [jid_of(delivery.payload) for delivery in deliveries]
        crashes = await self._broker.crashes(jids)
        for delivery, jid in zip(deliveries, jids, strict=True):
            delivery.crashes = crashes.get(jid)

    def _bury_killer(self, delivery: Delivery) -> bool:
        """Reclaim buries them where a worker died; this one comes from a worker that ended in good order because of it."""
        if delivery.crashes is None or delivery.crashes < MAX_CRASHES_IN_COMPANY:
            return False
        jid = jid_of(delivery.payload)
        logger.error("job %s goes to dead: several workers ended while they ran it", jid)
        self._bury(delivery, WORKER_DIED)
        self._settler.clear(jid)
        self._on_killer(delivery.queue, delivery.payload)
        return True

    def _bury(self, delivery: Delivery, failure: Failure) -> None:
        now_s, dialect = self._broker.clock.now_s(), self._broker.dialect
        noted = buried(delivery.payload, delivery.queue, failure, now_s, dialect)
        delivery.held = held_unread(delivery.payload, delivery.held)
        self._settler.submit(delivery, Bury(noted, failure=failure))

    def _turn_away(self, delivery: Delivery, verdict: Verdict) -> bool:
        if delivery.state is not FETCHED:  # put back or taken over meanwhile
            self._settler.submit(delivery, REQUEUE)
        elif verdict.hopeless:
            self._bury(delivery, Failure("trioworkers.BadArguments", verdict.hopeless))
        elif verdict.failure is not None:
            self._bury(delivery, verdict.failure)
        elif verdict.skipped:
            delivery.held = held_unread(delivery.payload, delivery.held)
            self._settler.submit(delivery, Expire("skipped"))
        elif verdict.problem:
            try:
                later = Snooze(addressed(delivery.payload, delivery.queue, new_jid()), AGAIN_AFTER_S)
            except BadPayload as error:
                self._settler.submit(delivery, Bury.unreadable(delivery.payload, str(error)))
            else:
                self._settler.submit(delivery, later)
        else:
            self._settler.dismiss(delivery)
        return False
