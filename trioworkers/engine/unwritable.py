"""Outcomes that can't be written: what is tried instead where that is one job's own doing, so that its slot isn't lost with it.

A success whose follow-ups Redis refuses (their queue's key is no list, say) is the job's failure, if that is still so after a while. What can't
even be put into bytes never will be: then the job fails, and if that can't be written either it is buried as it came. All else is a
matter of places that all jobs share, a retry set of the wrong type: such outcomes are kept until somebody has mended it, as
nothing is gained by more jobs that can't end.
"""

from __future__ import annotations

import logging

import trio

from trioworkers.engine.delivery import Delivery
from trioworkers.outcome import Acknowledge, Bury, LetGo, Outcome
from trioworkers.wire.error_replies import is_temporary

logger = logging.getLogger("trioworkers")

PATIENCE_S = 10.0
"""How long a success is kept whose follow-ups are refused: to let the job run again would be worse than to wait for somebody's hand."""

SAY_AGAIN_AFTER_S = 60.0


class Unmade(str):
    """A problem that no Redis has reported: an outcome has no form in bytes."""

    __slots__ = ()


class Unwritable:
    """What can't be written. `since`: when each was first tried; who is settled is to be taken out."""

    def __init__(self) -> None:
        self.since: dict[Delivery, float] = {}
        self._said: dict[str, float] = {}

    def instead(self, delivery: Delivery, outcome: Outcome | LetGo, problem: str) -> Outcome | LetGo | None:
        """What is to be written next for a delivery whose outcome could not be; None: nothing ever can be."""
        now = trio.current_time()
        since = self.since.setdefault(delivery, now)
        if isinstance(problem, Unmade):
            return self._instead_of_unmade(delivery, outcome, problem)
        had_its_time = now - since >= PATIENCE_S and not is_temporary(problem)
        if had_its_time and isinstance(outcome, Acknowledge) and outcome.instead is not None:
            return outcome.instead(problem)
        self._say(problem, now)
        return outcome

    def _instead_of_unmade(self, delivery: Delivery, outcome: Outcome | LetGo, problem: Unmade) -> Outcome | None:
        text = "job %s (%s): its outcome can't be written, ever: %s"
        logger.error(text, delivery.jid or "without id", delivery.job_class or "unreadable", problem)
        if isinstance(outcome, Acknowledge) and outcome.instead is not None:
            return outcome.instead(problem)
        as_it_came = Bury(delivery.payload)
        return None if outcome == as_it_came or isinstance(outcome, LetGo) else as_it_came

    def _say(self, problem: str, now: float) -> None:
        """Once a minute for each problem: an outage of hours is no reason for a line each second."""
        if now - self._said.get(problem, now - SAY_AGAIN_AFTER_S) < SAY_AGAIN_AFTER_S:
            return
        if len(self._said) > 100:
            self._said.clear()
        self._said[problem] = now
        logger.error("an outcome can't be written, kept and tried again: %s", problem)
