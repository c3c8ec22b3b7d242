"""Compares one in-progress list with what runs, after every doubt and now and then.

What is in the list and not running was delivered into the void (a reply that got lost) and is put back; what runs and is not in
the list any more was taken over by others, if we were believed dead, and is cancelled.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

import attrs
import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.digest import resolved
from trioworkers.departures import Permit
from trioworkers.engine.delivery import LOST, RUNNING, Delivery
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

FIRST_AUDIT_AFTER_S = 1.0
AUDIT_INTERVAL_S = 10.0
"""After a doubt the list is compared at once, again a second later, and ever more rarely down to this: what was sent to Redis
over a connection that broke may be carried out after our first look."""
AUDIT_PAGE = 500


class Audit:
    """The audit of `queue`'s list. `deliveries`: what its consumer holds, kept up to date by that. `has_permits`: some may hold permits."""

    def __init__(
        self, queue: str, broker: Broker, deliveries: Collection[Delivery], *, has_permits: bool = False
    ) -> None:
        self.has_permits = has_permits
        self._queue = queue
        self._broker = broker
        self._deliveries = deliveries
        self.due_at = 0.0
        self.doubts = 0
        """How often there was doubt: what was read before the last time doesn't settle that."""
        self._next_after_s = FIRST_AUDIT_AFTER_S
        self._taken_over = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to compare."""
        return trio.current_time() >= self.due_at

    def doubt(self, *, taken_over: bool = False) -> None:
        """Compare at the next opportunity. `taken_over`: others may have been at our list."""
        self.due_at = 0.0
        self.doubts += 1
        self._next_after_s = FIRST_AUDIT_AFTER_S
        self._taken_over = self._taken_over or taken_over

    @property
    def is_plain(self) -> bool:
        """Whether a list that is just as long as it should be says it all."""
        return not self.has_permits

    def put_off(self) -> None:
        """It can't be compared now: another time. What is doubted stays in doubt."""
        self.due_at = trio.current_time() + self._next_after_s
        self._next_after_s = min(self._next_after_s * 2, AUDIT_INTERVAL_S)

    def passed(self) -> None:
        """There is nothing to be compared this time."""
        self.put_off()
        self._taken_over = False

    async def run(self) -> None:
        """Compare once, put back what nobody runs, cancel what is no longer ours. Nothing may be fetched meanwhile. Raises BrokerError."""
        compared, taken_over = await self._compare_since()
        missing, strays = compared or ([], Counter())
        if taken_over:
            _cancel_lost(missing)
        if strays or self.has_permits:  # what an admission gave whose reply was lost is let go here
            moved = await self._broker.put_back(self._queue, list(strays.elements()), self._permits())
            if strays:
                logger.warning("%s, fetched from %s, never arrived here: put back", counted(moved, "job"), self._queue)
                self.due_at = 0.0  # there may be more than a page

    def _permits(self) -> list[Permit]:
        """What our attempts hold. Those whose end is under way may have let it go already: it isn't to be taken from them, nor given again."""
        held = [(each, permit) for each in self._deliveries for permit in _held_by(each)]
        return [permit if each.state <= RUNNING else attrs.evolve(permit, limits=()) for each, permit in held]

    async def _compare_since(self) -> tuple[tuple[list[Delivery], Counter[bytes]] | None, bool]:
        """What `_compare` says, and whether others may have been at our list before that. What is doubted meanwhile is for the next time."""
        taken_over = self._taken_over
        self.passed()
        try:
            return await self._compare(), taken_over
        except BaseException:  # whatever it was: nothing was compared
            self.doubt(taken_over=taken_over)
            raise

    async def _compare(self) -> tuple[list[Delivery], Counter[bytes]] | None:
        # Compared is what we had before we asked: nothing is fetched meanwhile, so the list can't rightly hold anything else.
        held = {delivery: delivery.forms() for delivery in self._deliveries}
        listed = await self._broker.audit(self._queue, len(held), len(held) + AUDIT_PAGE, [*chain(*held.values())])
        if listed is None:
            return None
        # By their forms of now, too: a checkpoint that was written meanwhile may be told by a digest.
        found = resolved(listed.payloads, chain.from_iterable((*held[each], *each.forms()) for each in held))
        missing, strays = compare(held, found)
        if listed.at_once or not (missing or strays):
            return missing, strays
        # Heavy ones were read in several steps, while outcomes were written: what seems wrong is looked for once more, by itself.
        doubtful = {*strays, *chain.from_iterable((*held[delivery], *delivery.forms()) for delivery in missing)}
        counts = await self._broker.count(self._queue, doubtful)
        return compare(held, Counter({**found, **{form: counts[form] for form in doubtful}}))


def _held_by(delivery: Delivery) -> Iterator[Permit]:
    if delivery.held is not None:
        if delivery.held.permit is not None:
            yield delivery.held.permit
        # Whether Redis has given these already it says itself.
        yield from (attrs.evolve(permit, limits=()) for permit in delivery.held.within)


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
