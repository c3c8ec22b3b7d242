"""A capsule's loop: free slots → fetch from all of its queues at once → have each queue's jobs started.

While there is work, one script after the other takes what there are slots for, by weight or in order. When all queues are empty it waits: with
few queues and plenty of slots for each by itself, with a slot held by each, so that the next job is there as soon as in a queue that shares
with none; else for news of any of them, with no slot held, and then asks again. Each queue is either in this loop's hands or waited for:
never is it fetched from, waited for or compared at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from trioworkers.broker.contract import CapsuleIntake, FetchedTogether, Intake, LeaseGone
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.memberships import is_member
from trioworkers.engine.reopening import fetch_for_ever
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.errors import BrokerError, Refused

AFTER_REFUSAL_S = 1.0
"""When a queue is tried again that Redis refused."""


class CapsuleConsumer:
    """Fetches several queues into the slots that they share. `on_lease_gone` is told when a fetch finds our lease missing. `has_limits`: some are under one over the fleet."""

    def __init__(
        self,
        queues: Sequence[ServedQueue],
        *,
        open_intake: Callable[[], AbstractAsyncContextManager[CapsuleIntake]],
        on_lease_gone: Callable[[LeaseGone], None],
        has_limits: bool = False,
    ) -> None:
        self.queues = queues
        self._has_limits = has_limits
        self._slots = queues[0].slots
        self._open_intake = open_intake
        self._on_lease_gone = on_lease_gone
        self._waited_for: set[ServedQueue] = set()
        self._later: dict[ServedQueue, float] = {}
        self._trouble: BrokerError | None = None
        self._unlooked: set[ServedQueue] = set()
        """Those in which there may be something."""
        self._hearing = trio.CancelScope()
        self._due_at = 0.0
        """When something is to be done, whatever happens."""
        self._has_waited = False
        """Whether all was empty before the next fetch."""
        self._slots.idle = self._call_in  # another shard's consumer may need what is held here
        for each in queues:
            each.on_news = partial(self._look, each)

    def __repr__(self) -> str:
        return f"<CapsuleConsumer of {len(self.queues)} queues, {len(self._waited_for)} waited for>"

    async def run(self) -> None:
        """Fetch for ever, and have each job started. Cancellation: what has come by then is started, or goes back."""
        try:
            await fetch_for_ever(self._over_one_intake)
        finally:
            for each in self.queues:
                each.fetched_last.set()

    async def _over_one_intake(self) -> None:
        async with self._open_intake() as intake:
            for each in self.queues:
                each.doubt()
            await self._take(intake)

    async def _take(self, intake: CapsuleIntake) -> None:
        self._trouble, self._unlooked = None, set(self.queues)
        try:
            async with trio.open_nursery() as waiting:
                try:
                    await self._take_for_ever(intake, waiting)
                except BrokerError as error:  # carried past the nursery, so that it comes out ungrouped
                    self._trouble = error
                waiting.cancel_scope.cancel()
        finally:
            self._slots.leave()
        if self._trouble is not None:
            raise self._trouble

    async def _take_for_ever(self, intake: CapsuleIntake, waiting: trio.Nursery) -> None:
        while self._trouble is None:
            await self._compare(intake)
            ours = self._in_hand()
            if not ours:
                await self._until_news(wanted=False)
            elif intake.may_wait and self._unlooked.isdisjoint(ours):
                await self._wait(intake, ours, waiting)
            elif slots := self._slots.take(self._slots.count):
                await self._fetch(intake, slots, [each for each in ours if each in self._unlooked] or ours)
            else:
                self._call_in()
                await self._until_news(wanted=True)

    def _in_hand(self) -> list[ServedQueue]:
        """Those from which may be fetched now."""
        if self._later:
            now = trio.current_time()
            for each in [each for each, at in self._later.items() if at <= now]:
                del self._later[each]
                self._unlooked.add(each)
        idle = self._waited_for | self._later.keys()
        return [each for each in self.queues if not each.paused and each not in idle]

    # ── fetch ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fetch(self, intake: CapsuleIntake, slots: int, queues: Sequence[ServedQueue]) -> None:
        """Fill up to `slots` slots that were taken; those that stay empty are given back."""
        count = 0
        deliveries: list[tuple[ServedQueue, Sequence[Delivery]]] = []
        ran = [len(each.deliveries) for each in queues] if self._has_limits else []
        self._unlooked.difference_update(queues)  # but for news meanwhile
        try:
            fetched = await intake.fetch(slots, [each.queue for each in queues])
            for each in queues:
                each.suspects = fetched.suspects
                if payloads := fetched.payloads.get(each.queue):
                    deliveries.append((each, each.deliver(payloads)))
                    count += len(payloads)
        finally:
            self._slots.give_back(slots - count)
        if self._slots.is_shared:  # with its queues in other Redises: our turn counts also while we are at ours
            self._slots.be_hungry(hungry=count == slots)
            if not count:
                self._slots.leave()
        self._put_off(each for each in queues if each.queue in fetched.refused)
        if count:
            self._unlooked.update(self.queues if count == slots else queues)
        if self._has_limits:
            self._note_limits(fetched, queues, ran)
        if fetched.lease_gone:
            self._on_lease_gone(fetched.lease_gone)
        await self._start(deliveries)
        if self._has_waited and count:
            await _jobs_first()
        self._has_waited = False

    def _note_limits(self, fetched: FetchedTogether, queues: Sequence[ServedQueue], ran: Sequence[int]) -> None:
        """Of queues whose limit has no more for now: until time has something again, or one of theirs that `ran` ends, as it may have done already."""
        for each, before in zip(queues, ran, strict=True):
            each.again_in_s = again_in_s = fetched.again_in_s.get(each.queue)
            if again_in_s is None:
                continue
            self._unlooked.add(each)
            if again_in_s > 0 and len(each.deliveries) >= before + len(fetched.payloads.get(each.queue, ())):
                self._later[each] = trio.current_time() + again_in_s
                self._due_at = 0.0

    async def _start(self, fetched: Sequence[tuple[ServedQueue, Sequence[Delivery]]]) -> None:
        """Have the jobs of each queue started. If that is cut short, those of the queues after it go back: nobody would run them."""
        reached = 0
        try:
            for served, deliveries in fetched:
                reached += 1
                await self._start_of(served, deliveries)
        except BaseException:
            for served, deliveries in fetched[reached:]:
                served.give_back(deliveries)
            raise

    async def _start_of(self, served: ServedQueue, deliveries: Sequence[Delivery]) -> None:
        try:
            await served.start(deliveries)
        except Refused:  # a key of this queue's own is broken, and the log says so: it keeps none of the others up
            self._put_off([served])

    def _put_off(self, refused: Iterable[ServedQueue]) -> None:
        for each in refused:
            self._later[each] = trio.current_time() + AFTER_REFUSAL_S
            self._due_at = 0.0

    async def _compare(self, intake: CapsuleIntake) -> None:
        """Compare the lists of those queues for which it is time. Most are as long as they should be: one look at all says so."""
        if trio.current_time() < self._due_at:
            return
        due = [each for each in self.queues if each.audit.is_due and each not in self._waited_for]
        expected = {each: (len(each.deliveries), each.audit.doubts) for each in due}
        lengths = dict(zip(self.queues, await intake.lengths(), strict=True)) if due else {}
        for each in due:
            now = lengths[each], each.audit.doubts
            if lengths[each] < 0:
                each.audit.put_off()
                continue
            if each.audit.is_plain and now == expected[each]:
                each.audit.passed()
                continue
            try:
                await each.audit.run()
            except Refused:  # as above
                each.audit.put_off()
        self._note_due()

    def _note_due(self) -> None:
        due = [each.audit.due_at for each in self.queues if each not in self._waited_for]
        self._due_at = min([*due, *self._later.values()], default=math.inf)

    # ── wait ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _wait(self, intake: CapsuleIntake, ours: Sequence[ServedQueue], waiting: trio.Nursery) -> None:
        """For something in one of these queues, which were empty."""
        if intake.waits and self._slots.free > len(ours) and self._has_taken(len(ours)):
            for each in ours:
                self._waited_for.add(each)
                each.blocked = trio.CancelScope()  # now: it may be called in before it has begun to wait
                waiting.start_soon(self._wait_for_one, each, intake.waits[each.queue])
            return
        await self._hear(intake, ours)

    async def _hear(self, intake: CapsuleIntake, ours: Sequence[ServedQueue]) -> None:
        """Wait for news of any, with no slot held. The first job mostly comes with them."""
        self._has_waited = True
        held = 0

        def has_slot() -> bool:
            # One is left, so that whoever comes next by weight or order needn't wait for this job's end.
            nonlocal held
            held = held or (self._slots.take(1) if self._slots.free > 1 else 0)
            return held > 0

        deliveries: list[Delivery] = []
        try:
            with trio.CancelScope(deadline=self._due_at) as self._hearing:
                heard = await intake.wait_for_news([each.queue for each in ours], has_slot)
                self._unlooked.update(each for each in ours if each.queue in heard.queues)
                if heard.payload is not None:
                    served = next(each for each in ours if each.queue == heard.queue)
                    served.suspects = heard.suspects
                    deliveries = served.deliver([heard.payload])
        finally:
            self._slots.give_back(held - len(deliveries))
        if deliveries:
            await self._start_one(served, deliveries)

    def _has_taken(self, count: int) -> bool:
        """Take so many slots, or none: some of those that are free may be promised to another shard's consumer."""
        taken = self._slots.take(count)
        if taken < count:
            self._slots.give_back(taken)
        return taken == count

    async def _wait_for_one(self, served: ServedQueue, intake: Intake) -> None:
        """Hold a slot until the next job of this queue is there, others need the slot, or it is time to compare."""
        deliveries: list[Delivery] = []
        try:
            with served.blocked:
                while not deliveries and not served.paused and intake.may_wait and not served.audit.is_due:
                    payload = await intake.wait()
                    deliveries = served.deliver([] if payload is None else [payload])
                    # No script said anything of it: for a member of a batch it is asked whether that is cancelled.
                    served.suspects = served.suspects or (payload is not None and is_member(payload))
                    if payload is None and intake.again_after_wait_s is not None:  # it takes nothing: go and see
                        self._unlooked.add(served)
                        break
            if served.blocked.cancelled_caught:
                served.doubt()  # something may have been delivered to nobody
        except Refused:  # as above; a Redis that is full lets us fetch, but not wait
            self._put_off([served])
        except BrokerError as error:
            self._trouble = error
        finally:
            self._slots.give_back(1 - len(deliveries))
            try:
                if deliveries:
                    await self._start_one(served, deliveries)
            finally:
                self._waited_for.discard(served)
                self._wake()

    async def _start_one(self, served: ServedQueue, deliveries: Sequence[Delivery]) -> None:
        self._unlooked.add(served)
        try:
            await self._start_of(served, deliveries)
        except BrokerError as error:
            self._trouble = error
            return
        await _jobs_first()

    def _call_in(self) -> None:
        """There is work and no slot: who holds one without a job lets go of it."""
        for each in self._waited_for:
            each.blocked.cancel()

    def _look(self, served: ServedQueue) -> None:
        """A queue was paused or resumed, is in doubt, or one of its jobs ended that may let go of a permit."""
        self._unlooked.add(served)
        self._later.pop(served, None)
        self._wake()

    def _wake(self) -> None:
        self._due_at = 0.0
        self._slots.wake()
        self._hearing.cancel()

    async def _until_news(self, *, wanted: bool) -> None:
        with trio.move_on_at(self._due_at):
            await self._slots.wait(wanted=wanted)


async def _jobs_first() -> None:
    """The jobs that were started just now go before our look for more. Two rounds: of tasks that are ready Trio takes any first."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
