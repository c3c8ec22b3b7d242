"""Notices another kind of worker on one of our queues, says so once, and obeys `strict`.

Two kinds of workers can read each other's jobs, but each knows only its own classes: what the wrong one fetches fails there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import trio

from trioworkers.broker.neighbours import Neighbour, Neighbours
from trioworkers.broker.redis.connection import retrying
from trioworkers.errors import BrokerError, Refused, SharedQueue, Superseded
from trioworkers.ticks import next_tick
from trioworkers.wire.error_replies import is_about_a_key

logger = logging.getLogger("trioworkers")

FIRST_STEPS = 20
SECOND_LOOK_AFTER_S = 1.0
SHOWN = 5
ANOTHER = "another kind of worker fetches from our queues"


class NeighbourWatch:
    """Looks at the start and every `interval_s` seconds. `on_shared` hears of it when we are `strict` and no longer alone."""

    def __init__(
        self,
        neighbours: Sequence[Neighbours],
        *,
        strict: bool,
        interval_s: float,
        on_shared: Callable[[SharedQueue], None],
    ) -> None:
        self._neighbours = neighbours
        self._strict = strict
        self._interval_s = interval_s
        self._on_shared = on_shared
        self._known: dict[str, Neighbour] = {}

    async def check(self) -> None:
        """The check before the first fetch. Raises SharedQueue if we are strict and not alone, or can't see whether we are."""
        try:
            found = await retrying(lambda: self._check_once(FIRST_STEPS), final=(Superseded, Refused))
        except Refused as error:
            if self._strict or not is_about_a_key(str(error)):
                raise
            logger.error("who else fetches from our queues can't be seen: %s", error)
            return
        if self._strict and not found and any(each.undecided for each in self._neighbours):
            await trio.sleep(SECOND_LOOK_AFTER_S)
            found = await retrying(self._check_once, final=(Superseded, Refused))
        if self._strict and found:
            raise SharedQueue(f"strict, so not started: {ANOTHER}: {_listed(found.values())}")
        self._note(found)

    async def run(self) -> None:
        """Look again and again. What can't be seen during an outage is seen after it."""
        while True:
            await trio.sleep_until(next_tick(self._interval_s))
            if not all(each.is_up for each in self._neighbours):
                continue
            try:
                found = await self._check_once()
            except Superseded:
                raise
            except BrokerError:
                continue
            if self._strict and found:
                self._on_shared(SharedQueue(f"strict, so stopped: {ANOTHER}: {_listed(found.values())}"))
            else:
                self._note(found)

    async def _check_once(self, steps: int = 1) -> dict[str, Neighbour]:
        found: dict[str, Neighbour] = {}
        for neighbours in self._neighbours:
            found.update(await neighbours.check(steps))
        return found

    def _note(self, found: dict[str, Neighbour]) -> None:
        arrived = [found[name] for name in found.keys() - self._known.keys()]
        left = [self._known[name] for name in self._known.keys() - found.keys()]
        self._known = found
        if arrived:
            logger.warning("%s; jobs whose class one side doesn't know fail there: %s", ANOTHER, _listed(arrived))
        if left:
            logger.warning("no longer on our queues: %s", _listed(left))


def _listed(neighbours: Collection[Neighbour]) -> str:
    texts = sorted(str(neighbour) for neighbour in neighbours)
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
