"""Permits: what jobs need before they start on a queue with classes that declare a limit.

One script for a whole batch says of each job whether it starts, with its permits, or is parked. Classes without a limit pass by; a
queue that has only such has no `Permits`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import attrs

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.limits import START, Candidate
from trioworkers.engine.delivery import Delivery
from trioworkers.errors import BadPayload
from trioworkers.exits import Held, Permit, on_exit
from trioworkers.jobs.handler import ANY_CLASS
from trioworkers.jobs.limits import FleetLimit, Limits
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers")


@attrs.frozen
class Verdict:
    """What is to become of one delivery: it starts, it is parked already, or `problem` says why nobody can tell."""

    starts: bool
    problem: str = ""


_STARTS = Verdict(starts=True)


class Permits:
    """The permits for one queue of one worker. `limits`: by class. To be asked by one task, one batch after the other."""

    def __init__(self, queue: str, broker: Broker, limits: Limits) -> None:
        self._queue = queue
        self._broker = broker
        self._limits = limits
        self._record = broker.holds(queue)
        self._number = 0
        self._told: set[str] = set()

    async def ask(self, deliveries: Sequence[Delivery]) -> list[Verdict]:
        """What is to become of each. Raises BrokerError; then each that needs a permit is noted as holding it, as the script may have been carried out."""
        self._number += 1
        declared: dict[str, int] = {}
        batch: dict[int, Candidate] = {}
        for index, delivery in enumerate(deliveries):
            job = self._limited(delivery.payload)
            if job is None:
                continue
            limits = self._limits.get(job.job_class) or self._limits.get(ANY_CLASS)
            if limits:
                declared.update((limit.name, limit.concurrency) for limit in limits)
                batch[index] = candidate = self._candidate(delivery.payload, job, limits, index)
                delivery.held = Held(job.jid, Permit(candidate.member, candidate.limits, job.jid, self._record))
        if not batch:
            return [_STARTS] * len(deliveries)
        answers = await self._broker.admit(self._queue, self._number, declared, [*batch.values()])
        return self._verdicts(deliveries, batch, dict(zip(batch, answers, strict=True)))

    def _limited(self, payload: bytes) -> Job | None:
        """The job, if it may need a permit: what can't be read, or has expired, its runner will see to."""
        try:
            job = self._broker.dialect.decode(payload, self._queue)
        except BadPayload:
            return None
        expired = job.expires_at_s is not None and job.expires_at_s <= self._broker.clock.now_s()
        return None if expired else job

    def _candidate(self, payload: bytes, job: Job, limits: Sequence[FleetLimit], index: int) -> Candidate:
        member = f"{self._broker.holder.process_id} {self._queue} {self._number}-{index}"
        names = tuple(limit.name for limit in limits)
        return Candidate(payload, member, job.jid, names, job.expires_at_s, on_exit(payload, "expired"))

    def _verdicts(
        self, deliveries: Sequence[Delivery], batch: Mapping[int, Candidate], answers: Mapping[int, int | str]
    ) -> list[Verdict]:
        verdicts = [_STARTS] * len(deliveries)
        for index, answer in answers.items():
            if answer == START:
                continue
            deliveries[index].held = None
            problem = answer if isinstance(answer, str) else ""
            verdicts[index] = Verdict(starts=False, problem=problem)
            if problem and problem not in self._told:
                self._told.add(problem)
                names = ", ".join(batch[index].limits)
                logger.error(
                    "jobs under limit %s can't be admitted, they are tried again in a while: %s", names, problem
                )
        return verdicts
