"""What running jobs tell of how far they are: kept in memory, and written for all of them together, once a second at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import trio

from trioworkers.departures import on_report
from trioworkers.engine.delivery import RUNNING, Delivery
from trioworkers.engine.settler import Settler
from trioworkers.exits import Effect

EVERY_S = 1.0
PAGE = 500


class Reports:
    """One worker's. `settler_of`: who writes for a queue. What a job tells last goes with its outcome."""

    def __init__(self, settler_of: Callable[[str], Settler]) -> None:
        self._settler_of = settler_of
        self._news: dict[Delivery, None] = {}
        self._arrived = trio.Event()

    def add(self, delivery: Delivery) -> None:
        """Its job has told something, which is in what it holds."""
        self._news[delivery] = None
        self._arrived.set()

    async def run(self) -> None:
        """Write for ever. Cancellation: between two writes."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            self._write()
            await trio.sleep(EVERY_S)

    def _write(self) -> None:
        by_settler: defaultdict[Settler, list[Effect]] = defaultdict(list)
        for delivery in self._news:
            if delivery.state is RUNNING and delivery.held is not None:
                by_settler[self._settler_of(delivery.queue)].extend(on_report(delivery.held))
        self._news.clear()
        for settler, effects in by_settler.items():
            for first in range(0, len(effects), PAGE):
                settler.note(effects[first : first + PAGE])
