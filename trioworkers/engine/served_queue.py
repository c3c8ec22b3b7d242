"""One queue as this worker serves it: what of it runs here, its audit, admission and start; whoever fetches hands over what came.

Two do: a consumer, for a queue by itself (`consumer.py`), and a capsule's, for several queues at once (`capsule_consumer.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from itertools import islice

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.redis.connection import backoff
from trioworkers.engine.admission import Admission
from trioworkers.engine.audit import Audit
from trioworkers.engine.delivery import FETCHED, Delivery
from trioworkers.engine.job_nursery import JobNursery
from trioworkers.engine.lanes import Lanes
from trioworkers.engine.locks import Locks
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.settler import Settler
from trioworkers.engine.slots import Draw
from trioworkers.errors import BrokerError, Superseded
from trioworkers.outcome import REQUEUE, Outcome, Requeue
from trioworkers.wire.decode import jid_of

logger = logging.getLogger("trioworkers")

STARTS_PER_ROUND = 50
"""A thousand jobs that start in one round of the event loop would keep heartbeats and replies waiting."""


class ServedQueue:
    """See the module. `slots`: from which whoever fetches for it draws; `is_fetched_with_others`: and who fetches for others draws from, too."""

    def __init__(
        self,
        queue: str,
        slots: Draw,
        *,
        broker: Broker,
        runner: Runner,
        settler: Settler,
        quarantine: Quarantine,
        permits: Permits | None = None,
        locks: Locks | None = None,
        is_fetched_with_others: bool = False,
    ) -> None:
        self.queue = queue
        self.slots = slots
        self.on_news = slots.wake
        """Called when whoever fetches for it is to look around."""
        self._is_fetched_with_others = is_fetched_with_others
        self.deliveries: set[Delivery] = set()
        self.jobs = JobNursery(queue)
        self.audit = Audit(queue, broker, self.deliveries, has_permits=permits is not None)
        self.suspects = False
        """Whether the last fetch says that some job's worker died under it."""
        self.blocked = trio.CancelScope()
        """That of whoever waits for its next job."""
        self.fetched_last = trio.Event()
        """To be set by who fetches for it, when it has done so for the last time."""
        self.paused = False
        self.again_in_s: float | None = None
        """`Fetched.again_in_s` of the last fetch."""
        self._runner = runner
        self._settler = settler
        self._quarantine = quarantine
        self._open_progress = runner.progress_saved_by(settler.checkpoint)
        self._admission = Admission(broker, settler, permits, runner.killed, locks)
        self._lanes = Lanes(self._run_one, settler.submit, f"job on {queue}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue}: {len(self.deliveries)} running, {self.free} free>"

    @property
    def free(self) -> int:
        """Slots without a delivery, running or being settled. One of them may be held by a fetch that waits for a job."""
        return (
            self.slots.free
            if self._is_fetched_with_others or self.slots.is_shared
            else self.slots.count - len(self.deliveries)
        )

    def deliver(self, payloads: Sequence[bytes]) -> list[Delivery]:
        """What was fetched just now: from here on it is ours to run, and to settle."""
        now = trio.current_time()
        deliveries = [Delivery(self.queue, payload, now) for payload in payloads]
        self.deliveries.update(deliveries)
        return deliveries

    def settled(self, deliveries: Sequence[Delivery]) -> None:
        """The deliveries' outcomes are written: their slots are free."""
        self.deliveries.difference_update(deliveries)
        self.slots.give_back(len(deliveries))
        if self.again_in_s is not None and (self._is_fetched_with_others or self.slots.is_shared):
            self.on_news()  # it waits for one of its own, not for a slot

    def doubt(self, *, taken_over: bool = False) -> None:
        """Compare the in-progress list with what runs before the next fetch. `taken_over`: others may have been at our list."""
        self.audit.doubt(taken_over=taken_over)
        self.on_news()

    def note_permits(self) -> None:
        """From now on attempts may hold permits: audits say which."""
        self.audit.has_permits = True

    def pause(self, paused: bool) -> None:
        """Fetch no more for the time being, or again. What runs goes on."""
        if paused == self.paused:
            return
        self.paused = paused
        logger.info("queue %s is %s", self.queue, "paused: fetching no more" if paused else "resumed")
        if paused:
            self.blocked.cancel()
        self.on_news()

    @property
    def has_running(self) -> bool:
        """Whether something runs that has no outcome yet."""
        return any(not delivery.is_decided for delivery in self.deliveries)

    def cancel_jobs(self) -> None:
        """Cancel all that runs; the nursery around them doesn't."""
        for delivery in list(self.deliveries):
            delivery.cancel()

    def put_back(self, delivery: Delivery) -> None:
        """Hand in a requeue for a job that doesn't stop. Its own outcome will not count any more."""
        self._settler.submit(delivery, delivery.when_stopped())

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """These were fetched and can't be started: back to their queue."""
        for delivery in deliveries:
            self._settler.submit(delivery, REQUEUE)

    async def watch(self) -> None:
        """Compare on when `run` has ended: it may have left behind what came in its last moment, and what runs may yet be lost.

        Until the worker is about to go: then what is to be put back lies in the list without running, until the end moves that as a whole.
        """
        await self.fetched_last.wait()
        self.doubt()
        delays = backoff()
        while not self._settler.is_leaving():
            try:
                if self.audit.is_due:
                    await self.audit.run()
                    delays = backoff()
                await self.until_audit_or_news()
            except Superseded:
                raise
            except BrokerError:
                await trio.sleep(next(delays))

    async def until_audit_or_news(self) -> None:
        """Until it is time to compare, something was told, or there are slots."""
        with trio.move_on_at(self.audit.due_at):
            await self.slots.wait(wanted=not self.paused or not self.slots.is_shared)

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, deliveries: Sequence[Delivery]) -> None:
        """Start those of them that may. Raises BrokerError.

        Then, when it is cancelled before that, and when the worker is about to go, all go back to their queue.
        """
        if deliveries and (self.suspects or self._admission.always):
            deliveries = await self._admission.admit(deliveries, suspects=self.suspects)
        if deliveries and self._settler.is_leaving():  # what ran has been cancelled already: nobody would end these
            self.give_back(deliveries)
            return
        waiting = iter(deliveries)
        while batch := list(islice(waiting, STARTS_PER_ROUND)):
            now = trio.current_time()
            for delivery in batch:
                delivery.started_at = now
            await self._lanes.start(batch, self.jobs)

    def _run_one(self, delivery: Delivery) -> Awaitable[Outcome]:
        if delivery.crashes is None:
            return self._runner.run(delivery, self._open_progress)
        return self._run_suspect(delivery, delivery.crashes)

    async def _run_suspect(self, delivery: Delivery, crashes: int) -> Outcome:
        finished = trio.Event()
        try:
            with delivery.wait():
                await self._quarantine.enter(jid_of(delivery.payload), finished, crashes)
            if delivery.cancellation is not None:
                return delivery.stopped()
            if delivery.state is not FETCHED:  # put back or taken over while it waited for its turn
                return REQUEUE
            outcome = await self._runner.run(delivery, self._open_progress)
        finally:
            finished.set()
        if not isinstance(outcome, Requeue):
            self._settler.clear(jid_of(delivery.payload))
        return outcome
