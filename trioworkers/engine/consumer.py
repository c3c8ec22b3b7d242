"""Free slots → fetch a batch → start runners; compares its in-progress list with what it runs after every doubt.

Only an empty queue blocks. What is in the list and not running was delivered into the void (a reply that got lost) and is put
back; what runs and is not in the list any more was taken over by others, if we were believed dead, and is cancelled.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import chain, islice

import trio

from trioworkers.broker.intake import Fetched, Intake, LeaseGone
from trioworkers.broker.moves import Broker
from trioworkers.broker.redis.connection import backoff
from trioworkers.engine.delivery import FETCHED, LOST, Delivery
from trioworkers.engine.lanes import Lanes
from trioworkers.engine.quarantine import TRIAL_AFTER_DEATHS, Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.settler import Settler
from trioworkers.errors import BrokerError, Superseded
from trioworkers.outcome import REQUEUE, Outcome, Requeue
from trioworkers.wire.job import jid_of
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

FIRST_AUDIT_AFTER_S = 1.0
AUDIT_INTERVAL_S = 10.0
"""After a doubt the list is compared at once, again a second later, and ever more rarely down to this: what was sent to Redis
over a connection that broke may be carried out after our first look."""
AUDIT_PAGE = 500
STARTS_PER_ROUND = 50
"""A thousand jobs that start in one round of the event loop would keep heartbeats and answers waiting."""

GOOD_INTAKE_S = 0.5
"""An intake that lasted this long did its work; one that is refused again and again is opened ever more rarely."""


class Consumer:
    """Fetches one queue into `concurrency` slots. `on_lease_gone` is told when a fetch finds our lease missing."""

    def __init__(
        self,
        queue: str,
        concurrency: int,
        *,
        broker: Broker,
        open_intake: Callable[[str], AbstractAsyncContextManager[Intake]],
        runner: Runner,
        settler: Settler,
        quarantine: Quarantine,
        on_lease_gone: Callable[[LeaseGone], None],
    ) -> None:
        self.queue = queue
        self.concurrency = concurrency
        self.deliveries: set[Delivery] = set()
        self._broker = broker
        self._open_intake = open_intake
        self._runner = runner
        self._settler = settler
        self._quarantine = quarantine
        self._on_lease_gone = on_lease_gone
        self._save = settler.checkpoint
        self._lanes = Lanes(self._run_one, settler.submit, f"job on {queue}")
        self._slot_freed = trio.Event()
        self._audit_at = 0.0
        self._next_audit_after_s = FIRST_AUDIT_AFTER_S
        self._taken_over = False
        self._suspects = False
        self._blocked = trio.CancelScope()
        self._fetched_last = trio.Event()
        self.paused = False

    def __repr__(self) -> str:
        return f"<Consumer {self.queue}: {len(self.deliveries)} running, {self.free} free>"

    @property
    def free(self) -> int:
        """Slots that are free. A slot is taken until its job's outcome is written."""
        return self.concurrency - len(self.deliveries)

    def settled(self, delivery: Delivery) -> None:
        """The delivery's outcome is written: its slot is free."""
        self.deliveries.discard(delivery)
        self._slot_freed.set()

    def doubt(self, *, taken_over: bool = False) -> None:
        """Compare the in-progress list with what runs before the next fetch. `taken_over`: others may have been at our list."""
        self._audit_at = 0.0
        self._next_audit_after_s = FIRST_AUDIT_AFTER_S
        self._taken_over = self._taken_over or taken_over
        self._slot_freed.set()

    def pause(self, paused: bool) -> None:
        """Fetch no more for the time being, or again. What runs goes on."""
        if paused == self.paused:
            return
        self.paused = paused
        logger.info("queue %s is %s", self.queue, "paused: fetching no more" if paused else "resumed")
        if paused:
            self._blocked.cancel()
        self._slot_freed.set()

    def abandon(self) -> list[Delivery]:
        """Hand in a requeue for all that still runs, as it won't stop. Its own outcome will not count any more."""
        stubborn = [delivery for delivery in self.deliveries if not delivery.is_decided]
        for delivery in stubborn:
            self._settler.submit(delivery, delivery.when_stopped())
        return stubborn

    async def run(self, jobs: trio.Nursery) -> None:
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
                if trio.current_time() >= self._audit_at:
                    await self._audit()
                    delays = backoff()
                await self._until_audit_or_news()
            except Superseded:
                raise
            except BrokerError:
                await trio.sleep(next(delays))

    async def _fetch_for_ever(self, jobs: trio.Nursery) -> None:
        delays = backoff()
        while True:
            opened_at = trio.current_time()
            try:
                async with self._open_intake(self.queue) as intake:
                    self.doubt()
                    await self._audit()
                    await self._take(intake, jobs)
            except Superseded:
                raise
            except BrokerError:
                if trio.current_time() - opened_at > GOOD_INTAKE_S:
                    delays = backoff()
                await trio.sleep(next(delays))

    async def _take(self, intake: Intake, jobs: trio.Nursery) -> None:
        empty = False
        while True:
            if trio.current_time() >= self._audit_at:
                await self._audit()
            if self.free <= 0 or self.paused:
                await self._until_audit_or_news()
            elif empty:
                payload = await self._wait(intake)
                empty = payload is None
                if payload is not None:
                    await self._start_all(Fetched([payload], suspects=self._suspects), jobs)
                    # The job goes before our look for more. Two rounds: of tasks that are ready Trio takes any first.
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
            else:
                fetched = await intake.fetch(self.free)
                empty, self._suspects = not fetched.payloads, fetched.suspects
                await self._start_all(fetched, jobs)

    async def _until_audit_or_news(self) -> None:
        self._slot_freed = trio.Event()
        with trio.move_on_at(self._audit_at):
            await self._slot_freed.wait()

    async def _wait(self, intake: Intake) -> bytes | None:
        with trio.CancelScope() as self._blocked:
            return await intake.wait()
        self.doubt()  # paused meanwhile: something may have been delivered to nobody
        return None

    async def _start_all(self, fetched: Fetched, jobs: trio.Nursery) -> None:
        deaths = await self._deaths(fetched.payloads) if fetched.suspects else [0] * len(fetched.payloads)
        pairs = zip(fetched.payloads, deaths, strict=True)
        while batch := list(islice(pairs, STARTS_PER_ROUND)):
            now = trio.current_time()
            deliveries = [Delivery(self.queue, payload, now, crashes=count) for payload, count in batch]
            self.deliveries.update(deliveries)
            await self._lanes.start(deliveries, jobs)
        if fetched.lease_gone:
            self._on_lease_gone(fetched.lease_gone)

    async def _deaths(self, payloads: Sequence[bytes]) -> list[int]:
        jids = [jid_of(payload) for payload in payloads]
        deaths = await self._broker.crashes(jids)
        return [deaths.get(jid, 0) for jid in jids]

    def _run_one(self, delivery: Delivery) -> Awaitable[Outcome]:
        return self._run_suspect(delivery) if delivery.crashes else self._runner.run(delivery, self._save)

    async def _run_suspect(self, delivery: Delivery) -> Outcome:
        finished = trio.Event()
        try:
            if delivery.crashes >= TRIAL_AFTER_DEATHS:
                await self._quarantine.admit(jid_of(delivery.payload), finished)
            if delivery.state is not FETCHED:  # put back or taken over while it waited for its turn
                return REQUEUE
            outcome = await self._runner.run(delivery, self._save)
        finally:
            finished.set()
        if not isinstance(outcome, Requeue):
            self._settler.clear(jid_of(delivery.payload))
        return outcome

    async def _audit(self) -> None:
        compared = await self._compare()
        self._audit_at = trio.current_time() + self._next_audit_after_s
        self._next_audit_after_s = min(self._next_audit_after_s * 2, AUDIT_INTERVAL_S)
        taken_over, self._taken_over = self._taken_over, False
        if compared is None:
            return
        missing, strays = compared
        if taken_over:
            _cancel_lost(missing)
        if strays:
            moved = await self._broker.put_back(self.queue, list(strays.elements()))
            logger.warning("%s, fetched from %s, never arrived here: put back", counted(moved, "job"), self.queue)
            self._audit_at = 0.0  # there may be more than a page

    async def _compare(self) -> tuple[list[Delivery], Counter[bytes]] | None:
        # Compared is what we had before we asked: nothing is fetched meanwhile, so the list can't rightly hold anything else.
        held = {delivery: delivery.forms() for delivery in self.deliveries}
        listed = await self._broker.audit(self.queue, len(held), len(held) + AUDIT_PAGE, [*chain(*held.values())])
        if listed is None:
            return None
        missing, strays = compare(held, listed.payloads)
        if listed.at_once or not (missing or strays):
            return missing, strays
        # Heavy ones were read in several steps, while outcomes were written: what seems wrong is looked for once more, by itself.
        doubtful = {*strays, *chain.from_iterable((*held[delivery], *delivery.forms()) for delivery in missing)}
        counts = await self._broker.count(self.queue, doubtful)
        return compare(held, Counter({**listed.payloads, **{form: counts[form] for form in doubtful}}))


def compare(held: Mapping[Delivery, tuple[bytes, ...]], found: Counter[bytes]) -> tuple[list[Delivery], Counter[bytes]]:
    """`(deliveries that are not in the list, payloads in it that nobody runs)`.

    `held`: in which forms each delivery may have been there when we asked. A checkpoint may have been written since, so that the
    form it has now counts as well. Of identical payloads, who has but one form chooses first, and who runs before those whose outcome
    is being written.
    """
    missing, strays = [], Counter(found)
    forms = {delivery: {*before, *delivery.forms()} for delivery, before in held.items()}
    for delivery in sorted(held, key=lambda each: (len(forms[each]), each.is_decided)):
        form = next((form for form in forms[delivery] if strays[form] > 0), None)
        if form is None:
            missing.append(delivery)
        else:
            strays[form] -= 1
    return missing, +strays


def _cancel_lost(missing: Iterable[Delivery]) -> None:
    for delivery in missing:
        if not delivery.is_decided:
            delivery.become(LOST)
            delivery.cancel()
            logger.warning(
                "job %s (%s) was taken over by another worker while we were cut off: cancelled here",
                delivery.jid or "without id",
                delivery.job_class or "not started",
            )
