"""Resque's dialect, as Ruby's Resque with resque-scheduler, node-resque and goworker speak it.

A job is `{"class", "args"}` and nothing else: no id, no times, no retries. Equal jobs are common, so an id made from the bytes won't
do: services would take tonight's call for last night's. Each gets one of chance when it is first tried, which goes along through
its retries (an ActiveJob has one of its own). Lists are filled at the right and fetched from the left. What failed lies in a list, `failed`, within a record.

Retries are ours alone: Resque has none. A failed job goes to `failed`, unless the job (`"retry": 5`) or its handler asks for more.
It then waits in a sorted set of ours, not among resque-scheduler's delayed jobs: whoever else promotes those makes them anew
from class and arguments, and with the count of its attempts gone a job would fail for ever. Jobs that are scheduled by people do
lie there, and look as resque-scheduler writes them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import msgspec

from trioworkers.errors import BadJob, BadPayload
from trioworkers.wire.decode import job_of, own_jid, queue_in, raw_fields, readable
from trioworkers.wire.dialect import Dialect, Failure, ListEnd, Push
from trioworkers.wire.encode import add_options, amend, check, lifetime_fields, wrapped
from trioworkers.wire.job import HELD_FIELD, MAX_JID, Job, new_jid
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import LOCK_FIELD
from trioworkers.wire.membership import BATCH_FIELD
from trioworkers.wire.plain import plain
from trioworkers.wire.wrappers import RESQUE_WRAPPER

NODE_ORDER = ["class", "queue", "args"]
"""How node-resque's payloads begin; they keep their `queue`, which Ruby's don't have."""

UNREADABLE = "(unreadable)"
BYTES_FIELD = "tw_bytes"
"""In the record of a payload that is no UTF-8: its bytes in base64."""

_ATTEMPT_FIELDS = ("jid", "retry_count", "error_class", "error_message", "error_backtrace", "failed_at", "retried_at")
"""What our retries write into a payload; a failure's record tells it elsewhere, and shows the job as it was enqueued."""


@attrs.frozen
class ResqueKeys(Keys):
    """Resque's key names, resque-scheduler's, and ours beside them."""

    family: ClassVar[str] = "resque"

    @property
    def schedule(self) -> str:
        """Sorted set: payloads that we put off. Not where jobs are scheduled: see `waiting`."""
        return self._key("tw:schedule")

    @property
    def retry(self) -> str:
        """Sorted set: failed payloads by the time of their next attempt. Ours, for Resque has no retries."""
        return self._key("tw:retry")

    @property
    def dead(self) -> str:
        """List: records of failures, oldest left."""
        return self._key("failed")

    def stats(self, name: str, day: str, worker: str) -> tuple[str, str]:
        """Counters: in all, and by worker."""
        del day
        return self.stat(name), self.stat(name, worker)

    @property
    def waiting(self) -> tuple[str, str, str]:
        """Of scheduled jobs: the sorted set of their seconds; before a second, its list; before a payload, the set of its lists."""
        return self._key("delayed_queue_schedule"), self._key("delayed:"), self._key("timestamps:")

    def scheduler_locks(self, prefix: str = "") -> tuple[str, str]:
        """Strings with expiry: which Ruby process schedules. Under the namespace that its lock's name brings along, and in it; the first is what 5.0 has.

        `prefix`: resque-scheduler's own, for several that share a namespace.
        """
        name = ":".join((self.namespace, *filter(None, (prefix,)), "resque_scheduler_master_lock"))
        return self._key(name), name

    @property
    def workers(self) -> str:
        """Set: ids of all workers."""
        return self._key("workers")

    def worker(self, worker: str) -> str:
        """String: the job that a worker runs; absent if none."""
        return self._key(f"worker:{worker}")

    @property
    def heartbeats(self) -> str:
        """Hash: worker's id → time of its last sign of life."""
        return self._key("workers:heartbeat")


@attrs.frozen
class Resque(Dialect):
    """See the module."""

    family: ClassVar[str] = "resque"
    own_namespace: ClassVar[str] = "resque"
    pushed_with: ClassVar[Push] = "RPUSH"
    put_back_with: ClassVar[Push] = "LPUSH"
    fetched_from: ClassVar[ListEnd] = "LEFT"
    retry: ClassVar[bool | int] = 0
    keeps_records: ClassVar[bool] = True

    def keys(self, home: str) -> ResqueKeys:
        """See `Dialect.keys`."""
        return ResqueKeys(self.namespace, home)

    @staticmethod
    def decode(payload: bytes, queue: str) -> Job:
        """See `Dialect.decode`. A class with dashes is Ruby's name for a camel-cased one."""
        fields = readable(payload)
        if fields.get("args") is None:
            fields["args"] = []
        if own_jid(fields.get("jid")) is None:
            fields["jid"] = new_jid()
        if not isinstance(fields.get("retry"), int):  # ours, so what is no number of ours isn't meant for us
            fields["retry"] = None
        job_class = fields.get("class")
        if isinstance(job_class, str) and "-" in job_class:
            fields["class"] = "".join(part[:1].upper() + part[1:] for part in job_class.split("-"))
        job = job_of(fields, payload, queue)
        own_id = job.active_job_fields.get("job_id")
        return attrs.evolve(job, jid=own_id) if isinstance(own_id, str) and 0 < len(own_id) <= MAX_JID else job

    @staticmethod
    def encode(job: Job, now_s: float, *, enqueued: bool = True, due_s: float | None = None) -> bytes:
        """See `Dialect.encode`. Only class and arguments, and the queue of what waits: Resque's tools find a job by its exact bytes.

        What it says besides goes along, for us; `retry=True` is what every job says, and means here what the handler says.
        """
        check(job)
        fields: dict[str, Any] = {"class": job.job_class, "args": plain(job.args)}
        if job.active_job:
            fields = wrapped(job, now_s, RESQUE_WRAPPER)
            del fields["wrapped"]
        if not enqueued:
            fields["queue"] = job.queue
        if job.retry is not None and job.retry is not True:
            fields["retry"] = job.retry
        fields.update(plain(job.extra))
        if job.has_options:
            add_options(fields, job)
        if job.has_lifetime:
            fields.update(lifetime_fields(job, now_s, due_s), jid=job.jid)  # a result is asked for by it
        if job.batch is not None:
            fields.update({BATCH_FIELD: job.batch.field, "jid": job.jid})
        if job.lock is not None:
            fields.update({LOCK_FIELD: job.lock.field, "jid": job.jid})  # the lock is held under it
        try:
            return msgspec.json.encode(fields)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadJob(f"{job.job_class}: {error}") from error

    def destination(self, payload: bytes) -> str:
        """See `Dialect.destination`."""
        queue = queue_in(raw_fields(payload))
        if queue is None:
            raise BadPayload("it names no queue")
        return queue

    def waits_in(self, payload: bytes, keys: Keys) -> str | tuple[str, str, str]:
        """See `Dialect.waits_in`. resque-scheduler makes a job anew from its class and arguments: one that says more waits where only we promote."""
        return keys.waiting if raw_fields(payload).keys() <= {"class", "args", "queue"} else keys.schedule

    def promoted(self, payload: bytes, now_s: float) -> bytes:
        """See `Dialect.promoted`."""
        del now_s
        changes: dict[str, Any] = {HELD_FIELD: None}
        if list(raw_fields(payload))[:3] != NODE_ORDER:
            changes["queue"] = None
        return amend(payload, changes)

    def spelled(self, job: Job, changes: dict[str, Any], *, dead: bool = False) -> dict[str, Any]:
        """See `Dialect.spelled`. How often a job is tried is its handler's word, unless it came with its own."""
        del job, dead
        changes.pop("retry", None)
        return changes

    def record(self, payload: bytes, queue: str, failure: Failure, now_s: float, worker: str) -> bytes:
        """See `Dialect.record`. Fields in Ruby's order; the payload within keeps its spelling."""
        record = {
            "failed_at": time.strftime("%Y/%m/%d %H:%M:%S UTC", time.gmtime(now_s)),
            "payload": _recorded(payload, queue),
            "exception": failure.error_class,
            "error": failure.message,
            "backtrace": failure.trace,
            "worker": worker,
            "queue": queue,
        }
        return msgspec.json.encode(record)


def _recorded(payload: bytes, queue: str) -> Any:
    try:
        Resque.decode(payload, queue)
        # What the record itself tells; of a job that named none it is all there is to see what was meant.
        is_told = bool(queue) and list(raw_fields(payload))[:3] != NODE_ORDER
        return msgspec.Raw(amend(payload, dict.fromkeys((*_ATTEMPT_FIELDS, *(["queue"] * is_told)))))
    except BadPayload:
        shown: dict[str, Any] = {"class": UNREADABLE, "args": [payload.decode(errors="replace")]}
        if shown["args"][0].encode() != payload:
            shown[BYTES_FIELD] = base64.b64encode(payload).decode()
        return shown


OUR_TAG = "-trioworkers:"


def worker_id(hostname: str, pid: int, queues: Sequence[str]) -> str:
    """A worker's name for Resque's tools: host, pid, queues.

    The host is not quite ours: a Ruby worker takes all workers of its own host for dead whose pid is no Ruby Resque's.
    """
    return f"{hostname}{OUR_TAG}{pid}:{','.join(queues)}"


def slot_id(worker: str, number: int) -> str:
    """The name under which a worker's `number`th job is shown: the worker's own for the first."""
    host, pid, queues = worker.split(":", 2)
    return f"{host}:{pid}-{number + 1}:{queues}" if number else worker


def encode_running(worker: str, queue: str, payload: bytes, since_s: float) -> bytes:
    """A running job as Resque's tools read it; node-resque's want to know the worker, too, without its queues."""
    run_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_s))
    name = worker.rpartition(":")[0]
    return msgspec.json.encode({"queue": queue, "run_at": run_at, "worker": name, "payload": _recorded(payload, queue)})


def ruby_time(epoch_s: float) -> str:
    """`2026-11-23 16:32:45 +0000`."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(epoch_s))


def iso_time(epoch_s: float) -> str:
    """`2026-11-23T16:32:45+00:00`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(epoch_s))
