"""Permits: what jobs need before they start on a queue with classes that declare a limit.

One script for a whole batch says of each job whether it starts, with its permits, or is parked. Classes without a limit pass by; a
queue that has only such has no `Permits`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import attrs

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.limits import PARKED, START, Candidate
from trioworkers.departures import Held, Permit
from trioworkers.engine.delivery import Delivery
from trioworkers.errors import BadArguments, BadPayload
from trioworkers.exits import on_exit
from trioworkers.jobs.handler import ANY_CLASS
from trioworkers.jobs.limits import ClassLimit, Limits
from trioworkers.wire.dialect import Failure
from trioworkers.wire.job import Job
from trioworkers.wire.limit_spec import LimitSpec

logger = logging.getLogger("trioworkers")


CLOSED_S = 1.0
"""A limit without a rate may be closed for a while; that is seldom."""


@attrs.frozen
class Verdict:
    """What is to become of one delivery.

    It starts, or has left its list already; or `problem` says why nobody can tell; or it never will, for `hopeless`, for `failure`, or as it is `skipped` for
    another one.
    """

    starts: bool
    problem: str = ""
    hopeless: str = ""
    failure: Failure | None = None
    skipped: bool = False


STARTS = Verdict(starts=True)


def read_before_start(delivery: Delivery, broker: Broker) -> Job | None:
    """The job, if it may need anything before it starts: what can't be read, has expired, or has passed its deadline, its runner will see to. Read once for all who ask."""
    if len(delivery.payload) > broker.guard.huge_bytes:
        return None
    if delivery.job is None:
        try:
            delivery.job = broker.dialect.decode(delivery.payload, delivery.queue)
        except BadPayload:
            return None
    over_s = _over_at_s(delivery.job)
    return None if over_s is not None and over_s <= broker.clock.now_s() else delivery.job


def _over_at_s(job: Job) -> float | None:
    """When it expires, or must have ended, in epoch seconds: what comes first."""
    if job.deadline is None:
        return job.expires_at_s
    return min(job.deadline.timestamp(), math.inf if job.expires_at_s is None else job.expires_at_s)


class Permits:
    """The permits for one queue of one worker. `limits`: by class.

    `on_wait`: told when jobs wait, and after how many seconds it may be that only time lets them go on. To be asked by one task, one
    batch after the other.
    """

    def __init__(
        self, queue: str, broker: Broker, limits: Limits, on_wait: Callable[[float], None] = lambda _: None
    ) -> None:
        self._queue = queue
        self._broker = broker
        self._limits = limits
        self._on_wait = on_wait
        self._record = broker.holds(queue)
        self._member = self._record.removeprefix(f"{broker.keys.own}holds:")
        self._number = 0
        self._told: set[str] = set()

    async def ask(self, deliveries: Sequence[Delivery]) -> list[Verdict]:
        """What is to become of each. Raises BrokerError; then each that needs a permit is noted as holding it, as the script may have been carried out."""
        self._number += 1
        declared: dict[str, LimitSpec] = {}
        batch: dict[int, Candidate] = {}
        verdicts = [STARTS] * len(deliveries)
        for index, delivery in enumerate(deliveries):
            job = read_before_start(delivery, self._broker)
            limits = () if job is None else self._limits.get(job.job_class) or self._limits.get(ANY_CLASS) or ()
            if job is None or not limits:
                continue
            try:
                batch[index] = self._candidate(delivery, job, limits, index)
            except BadArguments as error:
                verdicts[index] = Verdict(starts=False, hopeless=str(error))
            else:
                declared.update((each.limit.name, each.limit.spec) for each in limits)
        if batch:
            answers = await self._broker.admit(self._queue, self._number, declared, [*batch.values()])
            for (index, candidate), answer in zip(batch.items(), answers, strict=True):
                verdicts[index] = self._verdict(deliveries[index], candidate, answer)
            if PARKED in answers:
                self._on_wait(0.0 if any(spec.interval_s for spec in declared.values()) else CLOSED_S)
        return verdicts

    def _candidate(self, delivery: Delivery, job: Job, limits: Sequence[ClassLimit], index: int) -> Candidate:
        names = tuple(each.name_for(job) for each in limits)
        permit = Permit(f"{self._member} {self._number}-{index}", names, job.jid, self._record)
        delivery.held = Held(job.jid, permit)
        payload, over_s = delivery.payload, _over_at_s(job)
        goes_back = over_s != job.expires_at_s  # who passes a deadline is dead, which takes more than forgetting
        on_expiry = () if over_s is None or goes_back else on_exit(payload, "expired")
        return Candidate(payload, permit.member, job.jid, names, over_s, on_expiry, goes_back)

    def _verdict(self, delivery: Delivery, candidate: Candidate, answer: int | str) -> Verdict:
        if answer == START:
            return STARTS
        delivery.held = None
        problem = answer if isinstance(answer, str) else ""
        if problem and problem not in self._told:
            self._told.add(problem)
            names = ", ".join(candidate.limits)
            logger.error("jobs under limit %s can't be admitted, they are tried again in a while: %s", names, problem)
        return Verdict(starts=False, problem=problem)
