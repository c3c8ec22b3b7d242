"""How jobs of each class ended and how long they took: counted here, written for Sidekiq's metrics page with each heartbeat.

A job costs a few additions; what is written, one script per heartbeat and only if something ended. It is no part of the
heartbeat itself: whatever is wrong with statistics must not cost a worker its lease.
"""

from __future__ import annotations

import logging
from bisect import bisect_right

import trio

from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.statistics import report
from trioworkers.errors import BrokerError, Unavailable
from trioworkers.ticks import next_tick
from trioworkers.wire.metrics import BUCKETS, FAILED, LIMITS_MS, NOTHING, PROCESSED, TOTAL_MS, Counts, can_be_counted

logger = logging.getLogger("trioworkers")

MAX_CLASSES = 1000
PAGE = 100


class JobMetrics:
    """What has ended since it was last taken."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def count(self, job_class: str, seconds: float, *, failed: bool) -> None:
        """One attempt has ended. How long a failed one took is not counted, as in Sidekiq."""
        counts = self._counts.get(job_class) or self._begin(job_class)
        counts[PROCESSED] += 1
        if failed:
            counts[FAILED] += 1
        else:
            ms = seconds * 1000
            counts[TOTAL_MS] += ms
            counts[BUCKETS + bisect_right(LIMITS_MS, ms)] += 1

    def _begin(self, job_class: str) -> Counts:
        counts: Counts = NOTHING.copy()  # type: ignore[assignment]
        if len(self._counts) < MAX_CLASSES and can_be_counted(job_class):
            self._counts[job_class] = counts
        return counts

    def take(self, limit: int) -> dict[str, Counts]:
        """Up to `limit` classes, which begin anew."""
        taken = list(self._counts)[:limit]
        return {job_class: self._counts.pop(job_class) for job_class in taken}


class Reporter:
    """Writes the metrics every `interval_s` seconds."""

    def __init__(self, broker: RedisBroker, metrics: JobMetrics, interval_s: float) -> None:
        self._broker = broker
        self._metrics = metrics
        self._interval_s = interval_s
        self._reports = 0
        self._unwritten: dict[str, Counts] = {}

    async def run(self) -> None:
        """Report for ever. What can't be written in an outage is written after it."""
        while True:
            await trio.sleep_until(next_tick(self._interval_s))
            if self._broker.connection.link.is_up:  # else it would only take a socket from those who wait for Redis
                await self.report()

    async def report(self) -> None:
        """Write what has ended, once however often the call is repeated; in an outage, the next time."""
        while True:
            if not self._unwritten:
                self._reports += 1
                self._unwritten = self._metrics.take(PAGE)
            if not self._unwritten:
                return
            try:
                await report(self._broker, self._reports, self._unwritten)
            except Unavailable:
                return
            except BrokerError:  # a key of a wrong type, say; the link has said so: nothing that waiting would mend
                pass
            except Exception:  # a class's name that a job has put its own kind of text in the place of, say
                logger.exception("how jobs ended can't be written for Sidekiq's metrics page: some of it is dropped")
            self._unwritten = {}
