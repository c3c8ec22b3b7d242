"""The dialect of go-workers and go-workers2: Sidekiq's, but for what follows.

Retries wait in `goretry`. A job that says nothing of retries gets none. The limit is compared before counting, so a job has one
attempt more than in Sidekiq. `"retry": true` means 25 times to all versions; a number is the limit to older ones and no retry to
newer ones, which have `retry_max`: we read all, and write `true` with `retry_max`. Times of failures are texts. `args` may be
any value. In a namespace, `queue` may carry it.
"""

from __future__ import annotations

import time
from calendar import timegm
from typing import Any, ClassVar

import attrs

from trioworkers.errors import BadPayload
from trioworkers.wire import encode as writing
from trioworkers.wire import numbers
from trioworkers.wire.decode import job_of, queue_in, raw_fields, readable
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.go_heartbeat import HEARTBEATS_FIELD
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys

TIME_FORMAT = "%Y-%m-%d %H:%M:%S UTC"


@attrs.frozen
class GoWorkersKeys(Keys):
    """go-workers' key names."""

    family: ClassVar[str] = "goworkers"

    @property
    def retry(self) -> str:
        """Sorted set: failed payloads by the time of their next attempt."""
        return self._key("goretry")


@attrs.frozen
class GoWorkers(Dialect):
    """See the module."""

    family: ClassVar[str] = "goworkers"
    retry: ClassVar[bool | int] = 0
    processed_counts_failures: ClassVar[bool] = False

    def keys(self, home: str) -> GoWorkersKeys:
        """See `Dialect.keys`."""
        return GoWorkersKeys(self.namespace, home)

    @staticmethod
    def decode(payload: bytes, queue: str) -> Job:
        """See `Dialect.decode`."""
        fields = readable(payload)
        if not isinstance(fields.get("args"), list):
            fields["args"] = [fields.get("args")]
        fields["retry"] = _retries(fields.get("retry"), fields.get("retry_max"))
        fields["failed_at"] = _epoch_s(fields.get("failed_at"))
        return job_of(fields, payload, queue)

    @staticmethod
    def encode(job: Job, now_s: float, *, enqueued: bool = True, due_s: float | None = None) -> bytes:
        """See `Dialect.encode`. Sidekiq's payload, a number of retries as newer versions want it."""
        if job.retry and not isinstance(job.retry, bool):
            job = attrs.evolve(job, retry=True, extra={**job.extra, "retry_max": job.retry})
        return writing.encode(job, now_s, enqueued=enqueued, due_s=due_s)

    def destination(self, payload: bytes) -> str:
        """See `Dialect.destination`."""
        queue = queue_in(raw_fields(payload)) or ""
        if self.namespace:
            queue = queue.removeprefix(f"{self.namespace}:")
        if not queue:
            raise BadPayload("it names no queue")
        return queue

    def record_fields(self, now_s: float) -> dict[str, str]:
        """See `Dialect.record_fields`. A go-workers2 with heartbeats reads all records, and gives up its own for ever if one lacks these."""
        return {
            "beat": str(int(now_s)),
            HEARTBEATS_FIELD: "[]",
            "manager_priority": "0",
            "active_manager": "0",
        }

    def is_exhausted(self, count: int, limit: int) -> bool:
        """See `Dialect.is_exhausted`."""
        return max(count - 1, 0) >= limit

    def spelled(self, job: Job, changes: dict[str, Any], *, dead: bool = False) -> dict[str, Any]:
        """See `Dialect.spelled`. The dead set is not go-workers', but read by Sidekiq's tools, which want numbers."""
        limit = changes.pop("retry", None)
        if job.retry is None:  # the handler's word; of the job's own the spelling stays
            changes["retry"] = bool(limit)
            changes["retry_max"] = None if isinstance(limit, bool) else limit
        if dead:
            return changes | ({} if job.failed_at_s is None else {"failed_at": job.failed_at_s})
        for name in ("failed_at", "retried_at"):
            if name in changes:
                changes[name] = time.strftime(TIME_FORMAT, time.gmtime(changes[name]))
        return changes


def _retries(retry: object, retry_max: object) -> bool | int | None:
    if retry is True and isinstance(retry_max, int) and not isinstance(retry_max, bool) and retry_max >= 0:
        return numbers.count(retry_max)
    return retry if retry is True or (isinstance(retry, int) and retry) else None


def _epoch_s(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(timegm(time.strptime(value, TIME_FORMAT)))
    except ValueError:
        return None
