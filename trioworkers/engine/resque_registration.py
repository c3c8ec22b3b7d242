"""Keeps a worker in the registry of a family that has one of its own (Resque's), with what it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import time

import trio

from trioworkers.broker.redis.connection import retrying
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.engine.delivery import Delivery
from trioworkers.ticks import next_tick


class ResqueRegistration:
    """Shows the jobs of one dialect's queues. `running`: the deliveries of the whole worker."""

    def __init__(
        self,
        broker: ResqueBroker,
        running: Callable[[], Iterable[Delivery]],
        is_ours: Callable[[str], bool],
        interval_s: float,
    ) -> None:
        self._broker = broker
        self._running = running
        self._is_ours = is_ours
        self._interval_s = interval_s
        self._started_at_s = time()
        self._shown = 0

    async def run(self) -> None:
        """Show it for ever."""
        while True:
            await retrying(self._show)
            await trio.sleep_until(next_tick(self._interval_s))

    async def _show(self) -> None:
        epoch_of_clock_s = self._broker.clock.now_s() - trio.current_time()
        ours = [each for each in self._running() if each.jid and self._is_ours(each.queue)]
        running = [(each.queue, each.payload, each.started_at + epoch_of_clock_s) for each in ours]
        running.sort(key=lambda job: job[2])
        self._shown = await self._broker.show(running, self._started_at_s, self._shown)

    async def leave(self) -> None:
        """Strike the worker from the registry."""
        await self._broker.hide(max(self._shown, 1))
