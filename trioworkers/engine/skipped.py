"""Jobs of classes that have no handler here, left for others: back to the schedule set with a delay, and no attempt charged.

The delay grows with the time since a job was first left, which travels in its payload, so that jobs which nobody wants don't run in
circles. What nobody has wanted for a day has failed once, see `retry.snooze`: so no job is left for ever.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter

import attrs
import trio

from trioworkers import retry
from trioworkers.outcome import Snooze
from trioworkers.wire.encode import addressed
from trioworkers.wire.job import Job, new_jid
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 300.0
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
        self._said: dict[tuple[str, str], _Said] = {}

    def skip(self, job: Job, payload: bytes, now_s: float, max_bytes: float = math.inf) -> Snooze | None:
        """The outcome of a delivery that others may know how to run; None if it was left for as long as it may be. Says so once in a while for each class."""
        waited_s = 0.0 if job.snoozed_at_s is None else now_s - job.snoozed_at_s
        delay_s = min(max(waited_s, FIRST_DELAY_S), LONGEST_DELAY_S) * random.uniform(0.75, 1.25)
        payload = addressed(payload, job.queue, new_jid())  # two of the same bytes would be one there
        snoozed = retry.snooze(job, payload, delay_s, now_s, max_bytes=max_bytes)
        if snoozed is not None:
            self.by_queue[job.queue] += 1
            self._say(job)
        return snoozed

    def _say(self, job: Job) -> None:
        now = trio.current_time()
        key = (job.queue, job.job_class)
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= REMEMBERED_CLASSES:
                self._said.clear()
            self._said[key] = _Said(now)
            text = "class %r on queue %s has no handler here: its jobs are left for others, and come back after %.0f to %.0f s"
            logger.warning(text, job.job_class, job.queue, FIRST_DELAY_S, LONGEST_DELAY_S)
            return
        said.left += 1
        if now - said.at >= SAY_AGAIN_AFTER_S:
            text = "class %r on queue %s still has no handler here: %s in the last %.0f min a job of it was left for others"
            logger.warning(text, job.job_class, job.queue, counted(said.left, "time"), (now - said.at) / 60)
            self._said[key] = _Said(now)
