"""Locks: what unique jobs need before they start, on a queue with classes that are unique.

Most have theirs since they were sent, and their payload names it. One script for a whole batch says whether that is still so; what Ruby sent without one takes it
there. Whoever was replaced meanwhile is swapped for its successor. Classes that aren't unique pass by; a queue that has only such has no `Locks`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.locks import Answer, Claim, What
from trioworkers.engine import joblog
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.permits import STARTS, Verdict, read_before_start
from trioworkers.errors import BadArguments
from trioworkers.exits import on_exit
from trioworkers.jobs.handler import ANY_CLASS
from trioworkers.jobs.unique import UniqueClass
from trioworkers.wire.decode import own_jid, raw_fields
from trioworkers.wire.dialect import Failure
from trioworkers.wire.encode import amend, spelled_value
from trioworkers.wire.job import Job
from trioworkers.wire.lock import LOCK_FIELD, Lock

logger = logging.getLogger("trioworkers")

ROUNDS = 3
"""Whoever is replaced again and again while it is about to start starts after so many times."""
_TAKEN: Mapping[str, What] = {
    "skip": "skip",
    "raise": "skip",
    "replace": "replace",
    "latest": "latest",
    "debounce": "latest",
    "throttle": "throttle",
}
"""What becomes of a job that came without its lock, if another one has it."""


class Locks:
    """The locks for one queue of one worker. `unique`: by class. To be asked by one task, one batch after the other."""

    def __init__(self, queue: str, broker: Broker, unique: Mapping[str, UniqueClass]) -> None:
        self._queue = queue
        self._broker = broker
        self._unique = unique
        self._number = 0
        self._told: set[str] = set()

    async def claim(self, deliveries: Sequence[Delivery]) -> list[Verdict]:
        """What is to become of each: it starts, or not for now, or never. Raises BrokerError."""
        verdicts = [STARTS] * len(deliveries)
        asking: Sequence[int] = range(len(deliveries))
        for _ in range(ROUNDS):
            batch: dict[int, Claim] = {}
            for index in asking:
                try:
                    claim = self._claim(deliveries[index])
                except BadArguments as error:
                    verdicts[index] = Verdict(
                        starts=False, failure=Failure("trioworkers.BadArguments", str(error)[:1000])
                    )
                else:
                    if claim is not None:
                        batch[index] = claim
            if not batch:
                break
            self._number += 1
            answers = await self._broker.claim(self._queue, self._number, [*batch.values()])
            asking = []
            for (index, claim), answer in zip(batch.items(), answers, strict=True):
                verdicts[index] = self._verdict(deliveries[index], claim, answer)
                if answer.how == "swapped":
                    asking.append(index)
        return verdicts

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        """These are about to start: who needed its lock only until then lets it go. Raises BrokerError."""
        batch = [
            Claim(delivery.payload, job.jid, job.lock.key, "release")
            for delivery in deliveries
            if (job := read_before_start(delivery, self._broker)) is not None
            and job.lock is not None
            and job.lock.until == "started"
        ]
        if batch:
            self._number += 1
            await self._broker.claim(self._queue, self._number, batch)

    def _claim(self, delivery: Delivery) -> Claim | None:
        """What is to be asked about a job; None for one that isn't unique. Raises BadArguments for one that can't be keyed."""
        job, payload = read_before_start(delivery, self._broker), delivery.payload
        if job is None:
            return None
        has_more = payload.count(b'"tw_') > (job.lock is not None)  # most hold nothing but their lock
        ends = on_exit(payload, "replaced") if has_more else ()
        ask = partial(Claim, payload, job.jid, on_replaced=ends)
        lock = job.lock
        if lock is not None:
            what: What = "started" if lock.until == "started" else "held"
            return None if lock.until == "spell" else ask(lock.key, what, _with_jid(payload, job))
        unique = self._unique.get(job.job_class) or self._unique.get(ANY_CLASS)
        lock = None if unique is None else unique.lock_of(job)
        if lock is None or lock.until == "started":
            return None
        named = amend(payload, {LOCK_FIELD: lock.field, "queue": self._queue}, jid=job.jid)
        return ask(lock.key, _TAKEN[lock.on_conflict], named, spell_ms=_ms(lock))

    def _verdict(self, delivery: Delivery, claim: Claim, answer: Answer) -> Verdict:
        job = delivery.job
        match answer.how:
            case "start":
                if claim.named is not None:
                    self._exchange(delivery, claim.named)
                return STARTS
            case "swapped":
                logger.info("job %s is replaced by one with newer arguments", claim.jid)
                self._exchange(delivery, answer.payload)
                return STARTS
            case "other":
                text = f"job {answer.jid} has the lock {claim.key}, which this one had before: it waits or runs"
                logger.error("job %s goes to dead: %s", claim.jid, text)
                return Verdict(starts=False, failure=Failure("trioworkers.DuplicateJob", text))
            case "skipped":
                if job is not None:
                    joblog.log_skipped(job, answer.jid)
                return Verdict(starts=False, skipped=True)
            case "problem":
                self._tell(answer.problem)
                return Verdict(starts=False, problem=answer.problem)
        return Verdict(starts=False)  # it has left our list

    def _exchange(self, delivery: Delivery, payload: bytes) -> None:
        """Another payload stands in our list for it."""
        delivery.payload = payload
        delivery.job = None

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told = {problem, *list(self._told)[:100]}
            logger.error("unique jobs can't be held to their locks, they are tried again in a while: %s", problem)


def _with_jid(payload: bytes, job: Job) -> bytes | None:
    """A payload that names its lock, but not the jid under which that is held (Resque's records leave it out), with its jid; else None."""
    if b'"jid":"%b"' % job.jid.encode() in payload or own_jid(spelled_value(raw_fields(payload).get("jid"))) == job.jid:
        return None
    return amend(payload, {"jid": job.jid})


def _ms(lock: Lock) -> int:
    return max(1, round(lock.every_s * 1000))
