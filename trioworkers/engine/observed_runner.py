"""A runner whose attempts are watched: metrics, say. Workers that nobody watches have a plain one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from trioworkers.engine.delivery import Delivery
from trioworkers.engine.runner import Runner
from trioworkers.jobs.context import OpenProgress
from trioworkers.jobs.observers import Observer
from trioworkers.outcome import Outcome

logger = logging.getLogger("trioworkers")


class ObservedRunner(Runner):
    """Tells observers of each outcome."""

    observers: Sequence[Observer] = ()

    async def run(self, delivery: Delivery, open_progress: OpenProgress) -> Outcome:
        """See `Runner.run`."""
        outcome = await super().run(delivery, open_progress)
        for observer in self.observers:
            try:
                observer.ended(delivery, outcome)
            except Exception:
                logger.exception("an observer of this worker failed")
        return outcome

    def called(self, host: str, outcome: str) -> None:
        """Tell them of an HTTP call."""
        for observer in self.observers:
            try:
                observer.called(host, outcome)
            except Exception:
                logger.exception("an observer of this worker failed")


def observed(observers: Sequence[Observer], *args: Any) -> ObservedRunner:
    """A runner with these observers; `args` as `Runner` has them."""
    runner = ObservedRunner(*args)
    runner.observers = observers
    return runner
