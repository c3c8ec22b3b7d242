"""Free slots → fetch a batch → admission → start runners: one queue's loop. It never knows how the work goes.

Only an empty queue blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import trio

from trioworkers.broker.contract import Fetched, Intake, LeaseGone
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.memberships import is_member
from trioworkers.engine.reopening import fetch_for_ever
from trioworkers.engine.served_queue import ServedQueue


class Consumer:
    """Fetches one queue into its slots. `on_lease_gone` is told when a fetch finds our lease missing."""

    def __init__(
        self,
        served: ServedQueue,
        *,
        open_intake: Callable[[str], AbstractAsyncContextManager[Intake]],
        on_lease_gone: Callable[[LeaseGone], None],
    ) -> None:
        self._served = served
        self._slots = served.slots
        self._audit = served.audit
        self._open_intake = open_intake
        self._on_lease_gone = on_lease_gone

    def __repr__(self) -> str:
        return f"<Consumer of {self._served!r}>"

    @property
    def queues(self) -> Sequence[ServedQueue]:
        """For which it fetches."""
        return [self._served]

    async def run(self) -> None:
        """Fetch for ever, and have each job started. Cancellation: what has come by then is started, or goes back."""
        try:
            await fetch_for_ever(self._over_one_intake)
        finally:
            self._served.fetched_last.set()

    async def _over_one_intake(self) -> None:
        async with self._open_intake(self._served.queue) as intake:
            self._served.doubt()
            await self._audit.run()
            await self._take(intake)

    async def _take(self, intake: Intake) -> None:
        try:
            await self._take_for_ever(intake)
        finally:
            self._slots.leave()

    async def _take_for_ever(self, intake: Intake) -> None:
        served, draw = self._served, self._slots
        empty, shared = False, draw.is_shared
        while True:
            if self._audit.is_due:
                await self._audit.run()
            if empty and shared and not served.paused and intake.may_wait and not draw.are_plenty:
                await self._wait_without_slot(intake)
                empty = False
                continue
            slots = 0 if served.paused else draw.take(1 if empty else draw.count)
            if not slots:
                await served.until_audit_or_news()
                continue
            ran = len(served.deliveries)
            fetched = await self._fetch(intake, slots, wait=empty and intake.may_wait)
            if shared:
                # While it comes in full, our turn counts also while we are at Redis.
                draw.be_hungry(hungry=len(fetched) == slots and not empty)
                if not fetched:
                    draw.leave()
            await served.start(fetched)
            if served.again_in_s is not None:
                await self._until_one_may_run(ran + len(fetched))
            if empty and fetched:
                # The job goes before our look for more. Two rounds: of tasks that are ready Trio takes any first.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            empty = not fetched and served.again_in_s is None

    async def _until_one_may_run(self, running: int) -> None:
        """The queue's limit has no more for now: until time has something again, or one of those `running` ends, as it may have done already."""
        wait_s = self._served.again_in_s or 0.0
        if wait_s > 0 and len(self._served.deliveries) >= running:
            with trio.move_on_at(min(self._audit.due_at, trio.current_time() + wait_s)):
                await self._slots.wait(wanted=not self._slots.is_shared)

    async def _fetch(self, intake: Intake, slots: int, *, wait: bool) -> Sequence[Delivery]:
        """Fill up to `slots` slots that were taken; those that stay empty are given back."""
        served = self._served
        deliveries: list[Delivery] = []
        try:
            fetched = await self._wait(intake) if wait else await intake.fetch(slots)
            deliveries = served.deliver(fetched.payloads)
        finally:
            self._slots.give_back(slots - len(deliveries))
        served.suspects, served.again_in_s = fetched.suspects, fetched.again_in_s
        if fetched.lease_gone:
            self._on_lease_gone(fetched.lease_gone)
        return deliveries

    async def _wait_without_slot(self, intake: Intake) -> None:
        """Until there is something in the queue. Others, who have jobs, need the slot meanwhile."""
        with trio.CancelScope() as self._served.blocked:
            await intake.wait_for_news()

    async def _wait(self, intake: Intake) -> Fetched:
        served = self._served
        with trio.CancelScope() as served.blocked:
            self._slots.idle = served.blocked.cancel
            payload = await intake.wait()
            again_in_s = intake.again_after_wait_s
            # No script said anything of it: for a member of a batch it is asked whether that is cancelled.
            suspects = served.suspects or (payload is not None and is_member(payload))
            return Fetched([] if payload is None else [payload], suspects=suspects, again_in_s=again_in_s)
        served.doubt()  # paused meanwhile, or others need the slot: something may have been delivered to nobody
        return Fetched([], suspects=served.suspects)
