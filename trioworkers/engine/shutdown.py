"""How a worker stops: in which order, and how long each step may take.

```
quiet ──► every intake ends: nothing is fetched any more, what runs goes on
stop  ──► … and what runs has until the deadline
          deadline              what runs is cancelled, and is put back
          deadline + GRACE_S    what does not stop is put back for it, while it still runs; if the event loop is late, up to LATE_S later, as long as jobs end
          … + FLUSH_S           what isn't written by then stays in progress
          … + FLUSH_S           the lists are moved back as a whole, the worker deregisters: it is gone
```

It goes on to the next step as soon as nothing is left to wait for. A later `stop` can only bring the deadline nearer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice

import trio

from trioworkers.engine.delivery import Delivery

logger = logging.getLogger("trioworkers")

GRACE_S = 0.6
"""What cancelled jobs get to clean up, before they are put back while they still run."""

LATE_S = 0.2
"""What they get in addition, at most, as long as some of them end: of thousands on a busy machine many have had no turn yet."""

CANCELS_PER_ROUND = 100
"""Thousands that end in one round of the event loop would keep from us for seconds that the time is over."""

TURNS = 10
"""So many rounds of the event loop without anybody's end tell that those who are left don't end: to get out of nested blocks takes a few."""

SHOWN = 50
"""Jobs that are named in the log."""

FLUSH_S = 0.25
"""What the last writes may take."""


class Shutdown:
    """One worker's. `running`: what it runs. `put_back`: hands in a requeue for a job that does not stop."""

    def __init__(
        self, timeout_s: float, running: Callable[[], Iterable[Delivery]], put_back: Callable[[Delivery], None]
    ) -> None:
        self.timeout_s = timeout_s
        self._running = running
        self._put_back = put_back
        self.deadline = math.inf
        self.reason: Exception | None = None
        """Why it stops, if it does so by itself."""
        self.quieted = trio.Event()
        self.told = trio.Event()
        self.gone = trio.Event()
        self._drained = False
        self._news = trio.Event()
        self._intakes: list[trio.CancelScope] = []
        self._limit: trio.CancelScope | None = None

    # ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────

    def quiet(self) -> None:
        """Fetch no more."""
        self.quieted.set()
        for intake in self._intakes:
            intake.cancel()

    def stop(self, timeout_s: float | None = None) -> float | None:
        """Fetch no more, and cancel what runs after `timeout_s` seconds (default: as configured); these, if that is nearer than before."""
        self.quiet()
        patience_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = trio.current_time() + patience_s
        if deadline >= self.deadline:
            return None
        self.deadline = deadline
        if self._limit is not None:
            self._limit.deadline = min(self._limit.deadline, deadline + GRACE_S + FLUSH_S)
        self._news.set()
        self.told.set()
        return patience_s

    def intake(self) -> trio.CancelScope:
        """A scope for a fetch loop, which ends with the first `quiet`."""
        scope = trio.CancelScope()
        self._intakes.append(scope)
        if self.quieted.is_set():
            scope.cancel()
        return scope

    def drained(self) -> None:
        """Nothing runs any more, and nothing will."""
        self._drained = True
        self._news.set()

    # ── what is done ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def enforce(self, depart: Callable[[], Awaitable[object]]) -> None:
        """Cancel at the deadline; put back what doesn't stop, and then `depart` without waiting for it.

        Shielded: whatever falls over, jobs end in time. It ends when it has done its work, or with `drained`.
        """
        with trio.CancelScope(shield=True):
            await self._enforce(depart)

    async def _enforce(self, depart: Callable[[], Awaitable[object]]) -> None:
        await self._until(0.0)
        running = iter(list(self._running()))
        await self._cancel(running, self._late_at)
        await self._until(GRACE_S)
        left = await self._while_they_end()
        if self._drained:
            return
        is_late = trio.current_time() >= self._late_at
        for delivery in left:
            self._put_back(delivery)
        _say_who_is_left(left, is_late=is_late)
        if left:
            await depart()
        await self._cancel(running)  # they, too, may clean up for as long as the process lives

    @property
    def _late_at(self) -> float:
        return self.deadline + GRACE_S + LATE_S

    async def _cancel(self, deliveries: Iterator[Delivery], until: float = math.inf) -> None:
        """Cancel one after the other, some in each round of the event loop. Those that it hasn't come to by then are left in the iterator."""
        while trio.current_time() < until and (some := list(islice(deliveries, CANCELS_PER_ROUND))):
            for delivery in some:
                delivery.cancel()
            await trio.lowlevel.checkpoint()

    async def _while_they_end(self) -> list[Delivery]:
        """Who hasn't ended, once nobody does any more, or it is too late: of thousands on a busy machine most may not have had a turn yet since they were cancelled."""
        left, turns = self._undecided(), 0
        while left and turns < TURNS and not self._drained and trio.current_time() < self._late_at:
            await trio.lowlevel.checkpoint()
            before, left = len(left), self._undecided()
            turns = turns + 1 if len(left) == before else 0
        return left

    def _undecided(self) -> list[Delivery]:
        return [delivery for delivery in self._running() if not delivery.is_decided]

    async def _until(self, after_s: float) -> None:
        """Wait until so many seconds after the deadline, wherever that moves, or until nothing runs."""
        while not self._drained and trio.current_time() < self.deadline + after_s:
            self._news = trio.Event()
            with trio.move_on_at(self.deadline + after_s):
                await self._news.wait()

    async def depart(self, flush: Callable[[], Awaitable[object]], leave: Callable[[], Awaitable[object]]) -> bool:
        """Write what is unwritten, then `leave`; bounded, for Redis may be away. Whether it wasn't."""
        patience_at = max(self.deadline + GRACE_S, trio.current_time()) + FLUSH_S
        with trio.CancelScope(deadline=patience_at, shield=True) as self._limit:
            await flush()
        # The flush's own deadline: `stop` may have brought it nearer meanwhile.
        with trio.CancelScope(deadline=self._limit.deadline + FLUSH_S, shield=True) as self._limit:
            await leave()
        if self._limit.cancelled_caught:
            logger.error(
                "stopped without Redis, or before it had everything: running jobs stay in progress until this worker comes back or another one takes them over"
            )
        self.gone.set()
        return not self._limit.cancelled_caught


def _say_who_is_left(left: Sequence[Delivery], *, is_late: bool) -> None:
    why = "had no time to stop, as the event loop is late" if is_late else "does not stop when cancelled"
    for delivery in left[:SHOWN]:
        logger.error("job %s (%s) %s: put back and left behind", delivery.jid, delivery.job_class, why)
    if len(left) > SHOWN:
        logger.error("%d more jobs are put back and left behind for the same reason", len(left) - SHOWN)
