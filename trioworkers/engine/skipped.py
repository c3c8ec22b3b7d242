"""Jobs of classes that have no handler here, left for others: back to the schedule set with a delay, and no attempt charged.

The delay grows with each time that the same job comes back, so that jobs which nobody wants don't run in circles; the payload
keeps its bytes, so how often is remembered here and forgotten with the worker: the next deploy may know the class.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, OrderedDict

import attrs
import trio

from trioworkers.outcome import Snooze
from trioworkers.wire.encode import addressed
from trioworkers.wire.job import Job, new_jid
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 300.0
REMEMBERED_JOBS = 10_000
"""More jobs than this at a time: each waits as long as can be, or looking at them would be all that we do."""

REMEMBERED_CLASSES = 1_000
SAY_AGAIN_AFTER_S = 600.0


@attrs.define
class _Said:
    at: float
    left: int = 0


class SkippedJobs:
    """What one worker leaves for others. `by_queue` counts it."""

    def __init__(self) -> None:
        self.by_queue: Counter[str] = Counter()
        self._times: OrderedDict[str, int] = OrderedDict()
        self._said: dict[tuple[str, str], _Said] = {}

    def skip(self, job: Job, payload: bytes) -> Snooze:
        """The outcome of a delivery that others may know how to run. Says so once in a while for each class."""
        self.by_queue[job.queue] += 1
        self._say(job)
        delay_s = self._delay_s(job.jid) * random.uniform(0.75, 1.25)
        return Snooze(addressed(payload, job.queue, new_jid()), delay_s)

    def _delay_s(self, jid: str) -> float:
        times = self._times.pop(jid, 0)
        self._times[jid] = times + 1
        if len(self._times) > REMEMBERED_JOBS:
            self._times.popitem(last=False)
            return LONGEST_DELAY_S
        return min(FIRST_DELAY_S * 2.0 ** min(times, 10), LONGEST_DELAY_S)

    def _say(self, job: Job) -> None:
        now = trio.current_time()
        key = (job.queue, job.job_class)
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= REMEMBERED_CLASSES:
                self._said.clear()
            self._said[key] = _Said(now)
            text = "class %r on queue %s has no handler here: its jobs are left for others, looked at again after %.0f to %.0f s"
            logger.warning(text, job.job_class, job.queue, FIRST_DELAY_S, LONGEST_DELAY_S)
            return
        said.left += 1
        if now - said.at >= SAY_AGAIN_AFTER_S:
            text = "class %r on queue %s still has no handler here: %s in the last %.0f min a job of it was left for others"
            logger.warning(text, job.job_class, job.queue, counted(said.left, "time"), (now - said.at) / 60)
            self._said[key] = _Said(now)
