"""Permits: what jobs need between fetch and start on queues with classes that declare a limit.

One script for a whole batch says of each job whether it starts, with its permits, or is parked. Classes without a limit pass by; on a
queue that has only such there is no admission at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import attrs

from trioworkers.broker.holds.limits import START, Candidate
from trioworkers.broker.moves import Broker
from trioworkers.errors import BadPayload
from trioworkers.exits import Permit, on_exit
from trioworkers.jobs.limits import FleetLimit
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers")

LimitsOf = Callable[[str, str], Sequence[FleetLimit]]
"""(queue, class) → what its handler declares."""


@attrs.frozen
class Admitted:
    """A job that may start, with its permit if it needs one. `problem`: it may not, as its limits' keys are broken in Redis."""

    payload: bytes
    permit: Permit | None = None
    problem: str = ""


class Permits:
    """The admissions of one worker to one queue. To be asked by one task, one batch after the other."""

    def __init__(self, queue: str, broker: Broker, dialect: Dialect, limits_of: LimitsOf) -> None:
        self._queue = queue
        self._broker = broker
        self._dialect = dialect
        self._limits_of = limits_of
        self._number = 0
        self._told: set[str] = set()

    async def admit(self, payloads: Sequence[bytes]) -> list[Admitted]:
        """Those that may start, in order; the others are parked, and somebody else's business. Raises BrokerError.

        Not to be cancelled between asking and starting what is returned; what is lost all the same is put back with its permits
        kept for it.
        """
        batch: list[Candidate] = []
        declared: dict[str, int] = {}
        asked: list[Candidate | None] = []
        self._number += 1
        for index, payload in enumerate(payloads):
            limits, job = self._limits(payload)
            candidate = None if job is None or not limits else self._candidate(payload, job, limits, index)
            declared.update((limit.name, limit.concurrency) for limit in limits)
            asked.append(candidate)
            if candidate is not None:
                batch.append(candidate)
        if not batch:
            return [Admitted(payload) for payload in payloads]
        decisions = iter(await self._broker.admit(self._queue, self._number, declared, batch))
        answers = [START if candidate is None else next(decisions) for candidate in asked]
        return [
            self._admitted(payload, candidate, answer)
            for payload, candidate, answer in zip(payloads, asked, answers, strict=True)
            if answer == START or isinstance(answer, str)
        ]

    def _limits(self, payload: bytes) -> tuple[Sequence[FleetLimit], Job | None]:
        try:
            job = self._dialect.decode(payload, self._queue)
        except BadPayload:
            return (), None  # its runner says so, and buries it
        if job.expires_at_s is not None and job.expires_at_s <= self._broker.clock.now_s():
            return (), None  # its runner lets it go
        return self._limits_of(self._queue, job.job_class), job

    def _candidate(self, payload: bytes, job: Job, limits: Sequence[FleetLimit], index: int) -> Candidate:
        member = f"{self._broker.holder.process_id} {self._queue} {self._number}-{index}"
        names = tuple(limit.name for limit in limits)
        return Candidate(payload, member, job.jid, names, job.expires_at_s, on_exit(payload, "expired"))

    def _admitted(self, payload: bytes, candidate: Candidate | None, answer: int | str) -> Admitted:
        if candidate is None:
            return Admitted(payload)
        if isinstance(answer, str):
            self._tell(candidate, answer)
            return Admitted(payload, None, answer)
        return Admitted(payload, Permit(candidate.member, candidate.limits, candidate.jid))

    def _tell(self, candidate: Candidate, problem: str) -> None:
        names = ", ".join(candidate.limits)
        if problem not in self._told:
            self._told.add(problem)
            logger.error("jobs under limit %s can't be admitted, they are tried again in a while: %s", names, problem)
