"""The Job value, and the names of our fields in its payload."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from trioworkers.errors import BadJob
from trioworkers.wire.lock import Lock
from trioworkers.wire.membership import Membership
from trioworkers.wire.record import Recorded

MAX_JID = 64
"""Of jobs that we send."""
PROGRESS_FIELD = "tw_done"
FAILED_FIELD = "tw_failed"
"""Our fields in the payload: names of fan-out calls that need not be sent again, and reasons of those that failed for good.
Absent without such progress."""
DONE_PACKED_FIELD = "tw_done_packed"
FAILED_PACKED_FIELD = "tw_failed_packed"
"""The same of names for which there is no room in full: their digests (`digests.py`)."""
HELD_FIELD = "tw_held"
"""Ours: true while the job is held: in the schedule set only because its class is paused."""
SNOOZED_FIELD = "tw_snoozed"
"""Ours: since when (epoch seconds) the job is put off again and again without an attempt being counted. Gone with the next that counts."""


def new_jid() -> str:
    """A fresh job id as Sidekiq makes them: 12 random bytes in hex. The one piece of chance on this floor."""
    return os.urandom(12).hex()


_NO_LISTS = (str, bytes, bytearray, dict, set, frozenset)
"""What can be gone through, but isn't arguments in an order: of a dict only its keys would be sent."""


def _tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(values, _NO_LISTS):
        raise BadJob(f"a job's arguments are a list, not {type(values).__name__}")
    try:
        return tuple(values)
    except TypeError:
        if hasattr(values, "__iter__"):
            raise
        raise BadJob(f"a job's arguments are a list, not {type(values).__name__}") from None


class _Nothing(dict[str, Any]):
    """The empty mapping that all jobs share which have none of their own: so it can't be written to."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a Job can't be changed: make another one with attrs.evolve")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse


_NOTHING = _Nothing()


@attrs.frozen(slots=False)  # without slots a frozen one is made in half the time, and needs no more memory
class Job:
    """A unit of work.

    - `args`: the arguments for the handler's parameters, in JSON's types or anything that msgspec can encode (attrs classes, dataclasses, datetimes, …).
    - `retry`: True (25 times), a number, 0 (no retry, but kept in the dead set) or False (no retry, not kept). None leaves it to the handler, or to Ruby's class.
    - `retry_for`: seconds since the first failure, instead of a number of retries.
    - `retry_queue`: the queue for its retries.
    - `backtrace`: store the traceback of a failure: True, or a number of lines.
    - `dead=False`: it is not kept when its retries are used up.
    - `extra`: fields of the payload that we don't know, in JSON's types. They are kept.
    - `active_job`: a job of Rails' ActiveJob, with its class and arguments inside a wrapper. Only ActiveJob's jobs have `kwargs` (keyword arguments) and
      `active_job_fields` (ActiveJob's own fields, such as job_id, executions, locale, timezone).
    - `expires_in`: seconds from the moment at which it is due. After that it doesn't begin any more.
    - `deadline`: the datetime by which it must have ended. Jobs that it enqueues inherit it.
    - `keep_result`: seconds for which `Client.result` can say how it ended, 30 days at most.
    - `lock`: the lock of a unique job, as its handler makes it.
    - `runs_here`: whether a handler of trioworkers runs it, so that it may be in a batch. It is known for jobs of `handler.job(…)`, and isn't in the payload.

    A worker also sees `expires_at_s`, `created_at_s`, `enqueued_at_s`, `failed_at_s` (epoch seconds), `retry_count` (0 after the first
    failure, None before), `progress` (names of fan-out calls that earlier attempts have done), `failed_calls` (calls that failed for good, with the reason),
    `done_packed` and `failed_packed` (digests of names, if there are too many names), `snoozed_at_s` (since when it is put off without counting an attempt, for example because
    its host is paused), and `recorded` (results of steps, cursors of iterations).
    """

    queue: str
    job_class: str
    args: tuple[Any, ...] = attrs.field(default=(), converter=_tuple)
    jid: str = attrs.field(factory=new_jid, kw_only=True)
    retry: bool | int | None = attrs.field(default=True, kw_only=True)
    retry_for: float | None = attrs.field(default=None, kw_only=True)
    retry_queue: str | None = attrs.field(default=None, kw_only=True)
    backtrace: bool | int = attrs.field(default=False, kw_only=True)
    dead: bool = attrs.field(default=True, kw_only=True)
    tags: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    expires_in: float | None = attrs.field(default=None, kw_only=True)
    deadline: datetime | None = attrs.field(default=None, kw_only=True)
    keep_result: float | None = attrs.field(default=None, kw_only=True)
    lock: Lock | None = attrs.field(default=None, kw_only=True)
    batch: Membership | None = attrs.field(default=None, kw_only=True)
    expires_at_s: float | None = attrs.field(default=None, kw_only=True)
    created_at_s: float | None = attrs.field(default=None, kw_only=True)
    enqueued_at_s: float | None = attrs.field(default=None, kw_only=True)
    failed_at_s: float | None = attrs.field(default=None, kw_only=True)
    retry_count: int | None = attrs.field(default=None, kw_only=True)
    progress: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    failed_calls: Mapping[str, str] = attrs.field(default=_NOTHING, kw_only=True)
    done_packed: bytes = attrs.field(default=b"", kw_only=True, repr=False)
    failed_packed: bytes = attrs.field(default=b"", kw_only=True, repr=False)
    snoozed_at_s: float | None = attrs.field(default=None, kw_only=True)
    recorded: Recorded | None = attrs.field(default=None, kw_only=True, repr=False)
    extra: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    kwargs: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    active_job: bool = attrs.field(default=False, kw_only=True)
    active_job_fields: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    runs_here: bool = attrs.field(default=False, kw_only=True, eq=False, repr=False)

    @property
    def may_say_more(self) -> bool:
        """Whether it may say anything besides what nearly all jobs say. Quick to ask; True of any that was not read."""
        return len(self.__dict__) > len(_SAID_BY_MOST)

    @property
    def has_options(self) -> bool:
        """Whether it says anything of retries, of its end or for people that most jobs don't."""
        return (
            self.retry is not True
            or self.dead is not True
            or bool(self.backtrace or self.tags)
            or self.retry_for is not None
            or self.retry_queue is not None
        )

    @property
    def has_lifetime(self) -> bool:
        """Whether it says anything of how long it is wanted."""
        return (
            self.expires_in is not None
            or self.deadline is not None
            or self.keep_result is not None
            or self.expires_at_s is not None
        )

    @property
    def was_here(self) -> bool:
        """Whether it carries what an earlier attempt or a checkpoint added."""
        return (
            self.retry_count is not None
            or bool(self.progress)
            or bool(self.failed_calls or self.done_packed or self.failed_packed)
            or self.snoozed_at_s is not None
            or self.recorded is not None
        )

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 for the first retry, …"""
        return 1 if self.retry_count is None else max(1, self.retry_count + 2)


for _field in attrs.fields(Job):  # for jobs that say less than all, see `job_that_says`
    if _field.default is not attrs.NOTHING and not isinstance(_field.default, attrs.Factory):  # type: ignore[arg-type]
        setattr(Job, _field.name, _field.default)
Job.runs_here = True  # of those that a handler builds, and of those that a worker has read


_SAID_BY_MOST = frozenset({"queue", "job_class", "args", "jid", "retry", "created_at_s", "enqueued_at_s"})


def job_that_says(**said: Any) -> Job:
    """A job with these attributes, unchecked; the others it has from its class. For payloads: most say seven, and `Job(…)` takes four times as long."""
    job = object.__new__(Job)
    job.__dict__.update(said)
    return job
