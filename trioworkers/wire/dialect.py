"""Dialect: how one family of workers writes a job, names its keys and keeps its lists. The class itself speaks Sidekiq's.

A dialect is a value: what differs between families is here and in `wire/resque.py` and `wire/goworkers.py`, as plain functions
and as words for the scripts (at which end a job goes in, say). Nothing above asks which dialect it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import attrs

from trioworkers.wire import decode as reading
from trioworkers.wire import encode as writing
from trioworkers.wire.job import HELD_FIELD, Job
from trioworkers.wire.keys import Keys

ListEnd = Literal["LEFT", "RIGHT"]
Push = Literal["LPUSH", "RPUSH"]


@attrs.frozen
class Failure:
    """Why a job failed for good, for families that keep a record of it around the job. `trace`: lines, innermost call first."""

    error_class: str
    message: str
    trace: Sequence[str] = ()


@attrs.frozen
class Dialect:
    """See the module. `namespace`: goes before all keys of the family."""

    namespace: str = ""

    family: ClassVar[str] = "sidekiq"
    own_namespace: ClassVar[str] = ""
    """Where nobody names another."""
    pushed_with: ClassVar[Push] = "LPUSH"
    put_back_with: ClassVar[Push] = "RPUSH"
    fetched_from: ClassVar[ListEnd] = "RIGHT"
    retry: ClassVar[bool | int] = True
    """What holds for a job that says nothing of retries, if its handler doesn't either."""
    processed_counts_failures: ClassVar[bool] = True
    keeps_records: ClassVar[bool] = False
    """Whether a job that failed for good lies in a list, within a record of its failure, instead of in a sorted set."""

    decode = staticmethod(reading.decode)
    """(payload, queue) → Job. Raises BadPayload."""
    encode = staticmethod(writing.encode)
    """(job, now_s, enqueued=…) → payload; `enqueued=False` for what waits for its time. Raises BadJob."""

    def __str__(self) -> str:
        return f"{self.family}:{self.namespace}"

    def keys(self, home: str) -> Keys:
        """The family's key names; ours, in `home`, beside them."""
        return Keys(self.namespace, home)

    def destination(self, payload: bytes) -> str:
        """The queue of a payload that comes due, whoever's job it is. Raises BadPayload if it names none."""
        return reading.destination(payload)

    def promoted(self, payload: bytes, now_s: float) -> bytes:
        """A payload that comes due, as it goes into its queue. Raises BadPayload."""
        # As Sidekiq's own poller does; `at` would make it send the job back to the schedule.
        return writing.amend(payload, {"at": None, HELD_FIELD: None, "enqueued_at": now_s})

    def waits_in(self, payload: bytes, keys: Keys) -> str | tuple[str, str, str]:
        """Where a payload that we schedule waits: a sorted set, or what the family has instead."""
        del payload
        return keys.waiting

    def record_fields(self, now_s: float) -> dict[str, str]:
        """What the family's own workers want to see in a process record besides, or otherwise than Sidekiq's."""
        del now_s
        return {}

    def is_exhausted(self, count: int, limit: int) -> bool:
        """Whether a job that has failed again, its `retry_count` now `count`, had all its `limit` retries."""
        return count >= limit

    def spelled(self, job: Job, changes: dict[str, Any], *, dead: bool = False) -> dict[str, Any]:
        """The fields that a failed attempt of `job` changes, as this family writes them. Given: as Sidekiq does."""
        del job, dead
        return changes

    def record(self, payload: bytes, queue: str, failure: Failure, now_s: float, worker: str) -> bytes:
        """The record of a failure, where the family keeps records."""
        raise NotImplementedError(f"{self.family} keeps no records")


SIDEKIQ = Dialect()
