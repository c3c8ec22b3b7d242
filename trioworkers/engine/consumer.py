"""Free slots → fetch a batch → admission → start runners: one queue's loop. It never knows how the work goes.

Only an empty queue blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice

import trio

from trioworkers.broker.contract import Broker, Fetched, Intake, LeaseGone
from trioworkers.broker.redis.connection import backoff
from trioworkers.engine.admission import Admission
from trioworkers.engine.audit import Audit
from trioworkers.engine.delivery import FETCHED, Delivery
from trioworkers.engine.job_nursery import JobNursery
from trioworkers.engine.lanes import Lanes
from trioworkers.engine.locks import Locks
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import QUARANTINE_AFTER_CRASHES, Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.settler import Settler
from trioworkers.engine.slots import Draw
from trioworkers.errors import BrokerError, Superseded
from trioworkers.outcome import REQUEUE, Outcome, Requeue
from trioworkers.wire.decode import jid_of

logger = logging.getLogger("trioworkers")

STARTS_PER_ROUND = 50
"""A thousand jobs that start in one round of the event loop would keep heartbeats and replies waiting."""

GOOD_INTAKE_S = 0.5
"""An intake that lasted this long did its work; one that is refused again and again is opened ever more rarely."""


class Consumer:
    """Fetches one queue into `slots`. `on_lease_gone` is told when a fetch finds our lease missing."""

    def __init__(
        self,
        queue: str,
        slots: Draw,
        *,
        broker: Broker,
        open_intake: Callable[[str], AbstractAsyncContextManager[Intake]],
        runner: Runner,
        settler: Settler,
        quarantine: Quarantine,
        on_lease_gone: Callable[[LeaseGone], None],
        permits: Permits | None = None,
        locks: Locks | None = None,
    ) -> None:
        self.queue = queue
        self.slots = slots
        self.deliveries: set[Delivery] = set()
        self._open_intake = open_intake
        self._runner = runner
        self._settler = settler
        self._quarantine = quarantine
        self._on_lease_gone = on_lease_gone
        self._save = settler.checkpoint
        self._admission = Admission(broker, settler, permits, runner.killed, locks)
        self._lanes = Lanes(self._run_one, settler.submit, f"job on {queue}")
        self._audit = Audit(queue, broker, self.deliveries, has_permits=permits is not None)
        self._suspects = False
        self._again_in_s: float | None = None
        self._blocked = trio.CancelScope()
        self._fetched_last = trio.Event()
        self.paused = False

    def __repr__(self) -> str:
        return f"<Consumer {self.queue}: {len(self.deliveries)} running, {self.free} free>"

    @property
    def free(self) -> int:
        """Slots without a delivery, running or being settled. One of them may be held by a fetch that waits for a job."""
        return self.slots.free if self.slots.is_shared else self.slots.count - len(self.deliveries)

    def settled(self, deliveries: Sequence[Delivery]) -> None:
        """The deliveries' outcomes are written: their slots are free."""
        self.deliveries.difference_update(deliveries)
        self.slots.give_back(len(deliveries))
        if self._again_in_s is not None and self.slots.is_shared:
            self.slots.wake()  # it waits for one of its own, not for a slot

    def doubt(self, *, taken_over: bool = False) -> None:
        """Compare the in-progress list with what runs before the next fetch. `taken_over`: others may have been at our list."""
        self._audit.doubt(taken_over=taken_over)
        self.slots.wake()

    def note_permits(self) -> None:
        """From now on attempts may hold permits: audits say which."""
        self._audit.has_permits = True

    def pause(self, paused: bool) -> None:
        """Fetch no more for the time being, or again. What runs goes on."""
        if paused == self.paused:
            return
        self.paused = paused
        logger.info("queue %s is %s", self.queue, "paused: fetching no more" if paused else "resumed")
        if paused:
            self._blocked.cancel()
        self.slots.wake()

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

    async def run(self, jobs: JobNursery) -> None:
        """Fetch for ever, starting each job in `jobs`. Cancellation: a payload already delivered stays in the in-progress list."""
        try:
            await self._fetch_for_ever(jobs)
        finally:
            self._fetched_last.set()

    async def watch(self) -> None:
        """Compare on for ever when `run` has ended: it may have left behind what came in its last moment, and what runs may yet be lost."""
        await self._fetched_last.wait()
        self.doubt()
        delays = backoff()
        while True:
            try:
                if self._audit.is_due:
                    await self._audit.run()
                    delays = backoff()
                await self._until_audit_or_news()
            except Superseded:
                raise
            except BrokerError:
                await trio.sleep(next(delays))

    # ── fetch ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fetch_for_ever(self, jobs: JobNursery) -> None:
        delays = backoff()
        while True:
            opened_at = trio.current_time()
            try:
                async with self._open_intake(self.queue) as intake:
                    self.doubt()
                    await self._audit.run()
                    await self._take(intake, jobs)
            except Superseded:
                raise
            except BrokerError:
                if trio.current_time() - opened_at > GOOD_INTAKE_S:
                    delays = backoff()
                await trio.sleep(next(delays))

    async def _take(self, intake: Intake, jobs: JobNursery) -> None:
        try:
            await self._take_for_ever(intake, jobs)
        finally:
            self.slots.leave()

    async def _take_for_ever(self, intake: Intake, jobs: JobNursery) -> None:
        empty, shared = False, self.slots.is_shared
        while True:
            if self._audit.is_due:
                await self._audit.run()
            if empty and shared and not self.paused and intake.may_wait and not self.slots.are_plenty:
                await self._wait_without_slot(intake)
                empty = False
                continue
            slots = 0 if self.paused else self.slots.take(1 if empty else self.slots.count)
            if not slots:
                await self._until_audit_or_news()
                continue
            ran = len(self.deliveries)
            fetched = await self._fetch(intake, slots, wait=empty and intake.may_wait)
            if shared:
                # While it comes in full, our turn counts also while we are at Redis.
                self.slots.be_hungry(hungry=len(fetched) == slots and not empty)
                if not fetched:
                    self.slots.leave()
            await self._start(fetched, jobs)
            if self._again_in_s is not None:
                await self._until_one_may_run(ran + len(fetched))
            if empty and fetched:
                # The job goes before our look for more. Two rounds: of tasks that are ready Trio takes any first.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            empty = not fetched and self._again_in_s is None

    async def _until_one_may_run(self, running: int) -> None:
        """The queue's limit has no more for now: until time has something again, or one of those `running` ends, as it may have done already."""
        wait_s = self._again_in_s or 0.0
        if wait_s > 0 and len(self.deliveries) >= running:
            with trio.move_on_at(min(self._audit.due_at, trio.current_time() + wait_s)):
                await self.slots.wait(wanted=not self.slots.is_shared)

    async def _until_audit_or_news(self) -> None:
        with trio.move_on_at(self._audit.due_at):
            await self.slots.wait(wanted=not self.paused or not self.slots.is_shared)

    async def _fetch(self, intake: Intake, slots: int, *, wait: bool) -> Sequence[Delivery]:
        """Fill up to `slots` slots that were taken; those that stay empty are given back."""
        deliveries: list[Delivery] = []
        try:
            fetched = await self._wait(intake) if wait else await intake.fetch(slots)
            now = trio.current_time()
            deliveries = [Delivery(self.queue, payload, now) for payload in fetched.payloads]
            self.deliveries.update(deliveries)
        finally:
            self.slots.give_back(slots - len(deliveries))
        self._suspects, self._again_in_s = fetched.suspects, fetched.again_in_s
        if fetched.lease_gone:
            self._on_lease_gone(fetched.lease_gone)
        return deliveries

    async def _wait_without_slot(self, intake: Intake) -> None:
        """Until there is something in the queue. Others, who have jobs, need the slot meanwhile."""
        with trio.CancelScope() as self._blocked:
            await intake.wait_for_news()

    async def _wait(self, intake: Intake) -> Fetched:
        with trio.CancelScope() as self._blocked:
            self.slots.idle = self._blocked.cancel
            payload = await intake.wait()
            again_in_s = intake.again_after_wait_s
            return Fetched([] if payload is None else [payload], suspects=self._suspects, again_in_s=again_in_s)
        self.doubt()  # paused meanwhile, or others need the slot: something may have been delivered to nobody
        return Fetched([], suspects=self._suspects)

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self, deliveries: Sequence[Delivery], jobs: JobNursery) -> None:
        if deliveries and (self._suspects or self._admission.always):
            deliveries = await self._admission.admit(deliveries, suspects=self._suspects)
        waiting = iter(deliveries)
        while batch := list(islice(waiting, STARTS_PER_ROUND)):
            now = trio.current_time()
            for delivery in batch:
                delivery.started_at = now
            await self._lanes.start(batch, jobs)

    def _run_one(self, delivery: Delivery) -> Awaitable[Outcome]:
        return self._run_suspect(delivery) if delivery.crashes else self._runner.run(delivery, self._save)

    async def _run_suspect(self, delivery: Delivery) -> Outcome:
        finished = trio.Event()
        try:
            if delivery.crashes >= QUARANTINE_AFTER_CRASHES:
                with delivery.wait():
                    await self._quarantine.enter(jid_of(delivery.payload), finished, delivery.crashes)
                if delivery.cancellation is not None:
                    return delivery.stopped()
            if delivery.state is not FETCHED:  # put back or taken over while it waited for its turn
                return REQUEUE
            outcome = await self._runner.run(delivery, self._save)
        finally:
            finished.set()
        if not isinstance(outcome, Requeue):
            self._settler.clear(jid_of(delivery.payload))
        return outcome
