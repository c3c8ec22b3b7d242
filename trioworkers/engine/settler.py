"""Writes outcomes in groups until Redis has them; a slot is free when its outcome is written.

Finished jobs hand their outcome in without awaiting, so that nothing can come between "it happened" and "it is noted". All
that wait go out in one script. An outcome that Redis can't take now is kept and tried again, for as long as it takes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import trio

from trioworkers.broker.connection import backoff, retrying
from trioworkers.broker.moves import Broker, Settlement
from trioworkers.engine.delivery import Delivery
from trioworkers.outcome import Acknowledge, Bury, Outcome, Requeue, RetryAt

logger = logging.getLogger("trioworkers")

MAX_GROUP = 500
MAX_GROUP_BYTES = 4_000_000
GONE = "gone"


class Settler:
    """The one task of a worker that writes outcomes. `on_settled(delivery)` frees its slot."""

    def __init__(self, broker: Broker, on_settled: Callable[[Delivery], None]) -> None:
        self._broker = broker
        self._on_settled = on_settled
        self._waiting: deque[tuple[Delivery, Outcome]] = deque()
        self._writing = 0
        self._arrived = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._groups = 0
        self._cleared: list[str] = []

    def __repr__(self) -> str:
        return f"<Settler: {len(self._waiting)} waiting, {self._writing} being written>"

    def submit(self, delivery: Delivery, outcome: Outcome) -> None:
        """Hand in how an attempt ended. A delivery that others have taken over only frees its slot."""
        if delivery.settling:
            return
        delivery.settling = True
        if delivery.lost:
            self._on_settled(delivery)
            return
        self._waiting.append((delivery, outcome))
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._arrived.set()

    def clear(self, jid: str) -> None:
        """A suspected job came through; said to Redis with the next group."""
        self._cleared.append(jid)

    async def run(self) -> None:
        """Write for ever. Cancellation: between two tries; what is not written stays handed in."""
        while True:
            if not self._waiting:
                self._idle.set()
                self._arrived = trio.Event()
                await self._arrived.wait()
            await self._write(self._take())

    async def flushed(self) -> None:
        """Wait until everything that was handed in is written."""
        await self._idle.wait()

    def _take(self) -> list[tuple[Delivery, Outcome]]:
        group: list[tuple[Delivery, Outcome]] = []
        size = 0
        while self._waiting and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += len(group[-1][0].payload)
        return group

    async def _write(self, group: list[tuple[Delivery, Outcome]]) -> None:
        self._groups += 1
        self._writing = len(group)
        token = f"{self._broker.holder.lease}:{self._groups}"
        settlements = [Settlement(delivery.queue, delivery.payload, outcome) for delivery, outcome in group]
        cleared, self._cleared = self._cleared, []
        problems = await retrying(lambda: self._broker.settle(token, settlements, cleared))
        self._writing = 0
        failed: list[tuple[Delivery, Outcome]] = []
        for place, (delivery, outcome) in enumerate(group):
            problem = problems.get(place) if problems else None
            if problem is not None and problem != GONE:
                failed.append((delivery, outcome))
                continue
            if problem == GONE:
                _log_gone(delivery, outcome)
            self._on_settled(delivery)
        if failed:
            await self._keep(failed, next(iter(set(problems.values()) - {GONE})))

    async def _keep(self, failed: list[tuple[Delivery, Outcome]], problem: str) -> None:
        logger.error("%d outcomes can't be written, they are kept and tried again: %s", len(failed), problem)
        self._waiting.extend(failed)
        if len(self._waiting) == len(failed):  # nothing else to do: wait before the next try
            await trio.sleep(next(backoff()) * 20)


def _log_gone(delivery: Delivery, outcome: Outcome) -> None:
    names = {Acknowledge: "success", RetryAt: "retry", Bury: "burial", Requeue: "requeue"}
    logger.warning(
        "job %s (%s) is no longer ours: another worker took it over; its %s is not written",
        delivery.jid or "without id",
        delivery.job_class or "unreadable",
        names.get(type(outcome), "discard"),
    )
