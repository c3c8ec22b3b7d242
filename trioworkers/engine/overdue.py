"""Says of a job that goes on after its time that it does: a shield or a thread keeps it, and it keeps its slot."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from trioworkers.engine.delivery import RUNNING, Delivery

logger = logging.getLogger("trioworkers")

CLEAN_UP_S = 10.0
"""How long a job may clean up before anything is said."""


class Overdue:
    """One worker's. Each job is told once."""

    def __init__(self) -> None:
        self._told: set[Delivery] = set()

    def look(self, running: Iterable[Delivery], now: float) -> None:
        """Tell of those whose deadline, by `trio.current_time()`, was a while ago."""
        late = {each for each in running if each.state is RUNNING and _was_due_at(each) + CLEAN_UP_S <= now}
        for delivery in late - self._told:
            text = (
                "job %s (%s) goes on %.0f s after its time was over: it was cancelled, doesn't stop, and keeps its slot"
            )
            logger.warning(text, delivery.jid, delivery.job_class, now - _was_due_at(delivery))
        self._told = late


def _was_due_at(delivery: Delivery) -> float:
    return float("inf") if delivery.scope is None else delivery.scope.deadline
