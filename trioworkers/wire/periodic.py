"""A periodic job's entry, as it lies in Redis; and what the payload of one of its runs says of its tick. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from trioworkers.cron import Schedule, schedule
from trioworkers.errors import BadJob
from trioworkers.missed_ticks import Missed, Overlap
from trioworkers.wire.active_job import encoded
from trioworkers.wire.encode import check_mappings
from trioworkers.wire.job import Job
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.lock import Lock
from trioworkers.wire.lock_key import key_of
from trioworkers.wire.options import check_option
from trioworkers.wire.plain import plain
from trioworkers.wire.ruby_values import Encoded
from trioworkers.zones import zone_named

TICK_FIELD = "tw_tick"
"""Which tick a job was sent for: the epoch second, the zone, and the name of its entry."""
MAX_NAME = 400
"""Of an entry, with queue and class."""
MAX_DEFINITION_BYTES = 1_000_000
MAX_JITTER_S = 86_400
MAX_WITHIN_S = 100 * 365.25 * 86_400
VERSION = 3
"""The latest that we know: 1 had no ActiveJob jobs, 2 no `extra`. Each entry is written in the first that can say it."""
KEPT_RUNS = 20

_OWN_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TICK = re.compile(r"(\d{1,11}) ([^\s]{1,200}) (.{1,400})", re.DOTALL)
_CARRIED = ("retry", "retry_for", "retry_queue", "backtrace", "dead", "tags", "expires_in", "keep_result")


class NewerEntry(ValueError):
    """An entry that a newer version of trioworkers wrote: not ours to judge."""


class _Job(msgspec.Struct, omit_defaults=True, rename={"job_class": "class"}):
    queue: str
    job_class: str
    args: list[Any]
    retry: bool | int | None = True
    retry_for: float | None = None
    retry_queue: str | None = None
    backtrace: bool | int = False
    dead: bool = True
    tags: tuple[str, ...] = ()
    expires_in: float | None = None
    keep_result: float | None = None
    lock: tuple[str, str, str, float, float, float] | None = None
    active_job: bool = False
    """Then its arguments are as ActiveJob writes them."""
    fields: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None


class _Definition(msgspec.Struct, omit_defaults=True):
    v: int
    expression: str
    job: _Job
    zone: str = "UTC"
    missed: Missed = "one"
    within: float = 3600.0
    overlap: Overlap = "allow"
    jitter: float = 0.0
    dialect: str = ""


_decode = msgspec.json.Decoder(_Definition).decode
_decode_version = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_own_name(name: object) -> bool:
    """Whether an entry may be given this name."""
    return isinstance(name, str) and _OWN_NAME.fullmatch(name) is not None


def entry_name(queue: str, job_class: str, name: str = "") -> str:
    """The name of an entry of code: by queue and class, so that two apps may have handlers of one name; `name` where there are several of one handler."""
    spelled = job_class.replace("%", "%25").replace("/", "%2F")
    return f"{queue}/{spelled}/{name}" if name else f"{queue}/{spelled}"


@attrs.frozen
class Periodic:
    """A periodic job. `job`: what is sent each time, but for its jid; `dialect`: what its queue speaks, see `Keys.tag`."""

    name: str
    expression: str
    job: Job
    zone: str = "UTC"
    missed: Missed = "one"
    within_s: float = 3600.0
    overlap: Overlap = "allow"
    jitter_s: float = 0.0
    dialect: str = ""

    @property
    def when(self) -> Schedule:
        """When it is due. Raises ValueError."""
        return schedule(self.expression, self.zone)

    @property
    def timing(self) -> str:
        """Equal for entries with the same ticks."""
        return f"{self.expression} {self.zone}"

    @property
    def shown_args(self) -> list[Any]:
        """Its arguments in JSON's types; of an ActiveJob job as ActiveJob writes them."""
        return (
            encoded(self.job.job_class, self.job.args, self.job.kwargs) if self.job.active_job else list(self.job.args)
        )

    @property
    def skips(self) -> bool:
        """Whether a run in whose place there is another one is none."""
        lock = self.job.lock
        return self.overlap == "skip" or (lock is not None and lock.on_conflict in ("skip", "raise", "throttle"))

    def jid_at(self, namespace: str, tick_s: int) -> str:
        """The jid of the run for a tick: the same whoever sends it, and if it is sent again after Redis lost it."""
        text = f"{namespace}\0{self.name}\0{tick_s}"
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=12).hexdigest()

    def delay_at(self, tick_s: int) -> float:
        """Its jitter for a tick, in seconds: the same on all workers."""
        if not self.jitter_s:
            return 0.0
        digest = hashlib.blake2b(f"{self.name}\0{tick_s}".encode(errors="replace"), digest_size=8).digest()
        return int.from_bytes(digest) % max(1, math.floor(self.jitter_s * 1000)) / 1000

    def job_at(self, tick_s: int, jid: str) -> Job:
        """The job for a tick."""
        extra = {**self.job.extra, TICK_FIELD: f"{tick_s} {self.zone} {self.name}"}
        lock = self.job.lock
        if self.overlap != "allow":
            lock = Lock(key_of("periodic", self.name), "done", "skip" if self.overlap == "skip" else "latest")
        elif lock is not None and lock.on_conflict == "raise":  # nobody could catch it
            lock = attrs.evolve(lock, on_conflict="skip")
        return attrs.evolve(self.job, jid=jid, extra=extra, lock=lock)


def check(entry: Periodic) -> None:
    """Raise ValueError or BadJob, which say what is wrong with an entry. Its job's arguments and lifetime show when it is encoded."""
    _ = entry.when
    check_mappings(entry.job)
    if len(entry.name) > MAX_NAME:
        raise ValueError(f"the name has more than {MAX_NAME} characters")
    for what, value, known in (
        ("missed", entry.missed, ("one", "all", "skip")),
        ("overlap", entry.overlap, ("allow", "skip", "wait")),
    ):
        if value not in known:
            raise ValueError(f"{what} is one of {', '.join(map(repr, known))}, not {value!r:.80}")
    for what, number, most in (
        ("jitter", entry.jitter_s, float(MAX_JITTER_S)),
        ("within", entry.within_s, MAX_WITHIN_S),
    ):
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= most:
            raise ValueError(f"{what} is a number of seconds from 0 to {most:,.0f}, not {number!r:.80}")
    if entry.overlap != "allow" and entry.job.lock is not None:
        raise ValueError(f"overlap={entry.overlap!r} and unique= of one handler are two locks; say one of them")
    if "job_id" in entry.job.active_job_fields:
        raise ValueError("a job_id is one job's, and a periodic job has many: leave it out")
    if entry.job.batch is not None:
        raise ValueError("a periodic job is no member of a batch; it can send one")
    if entry.job.deadline is not None:
        raise ValueError(
            "a deadline is a moment, and a periodic job has many: use expires_in, or the handler's timeout"
        )


def encode_entry(entry: Periodic) -> bytes:
    """The definition of an entry. Equal for equal ones. Raises ValueError or BadJob."""
    check(entry)
    job, lock = entry.job, entry.job.lock
    said = {name: getattr(job, name) for name in _CARRIED}
    spelled = (
        None
        if lock is None
        else (lock.key, lock.until, lock.on_conflict, float(lock.wait_s), float(lock.max_wait_s), float(lock.every_s))
    )
    args = encoded(job.job_class, job.args, job.kwargs) if job.active_job else list(plain(job.args))
    fields, extra = dict(job.active_job_fields) or None, plain(dict(job.extra)) or None
    kept = _Job(
        job.queue, job.job_class, args, lock=spelled, active_job=job.active_job, fields=fields, extra=extra, **said
    )
    definition = _Definition(
        3 if extra else 2 if job.active_job else 1,
        entry.expression,
        kept,
        entry.zone,
        entry.missed,
        float(entry.within_s),
        entry.overlap,
        float(entry.jitter_s),
        entry.dialect,
    )
    try:
        text = msgspec.json.encode(definition)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadJob(f"{job.job_class}: {error}") from None
    if len(text) > MAX_DEFINITION_BYTES:
        raise BadJob(f"{job.job_class}: {len(text):,} bytes are too many for a periodic job")
    return text


def decode_entry(name: str, definition: bytes) -> Periodic:
    """What an entry in Redis says, whoever wrote it. Raises ValueError; NewerEntry for one of a newer version."""
    try:
        version = _decode_version(definition).get("v")
    except (ValueError, RecursionError, MemoryError):
        raise ValueError("it does not define a periodic job") from None
    if version is not None and re.fullmatch(rb"\d{1,9}", bytes(version)) and int(bytes(version)) > VERSION:
        raise NewerEntry("a newer version of trioworkers wrote it")
    try:
        found = _decode(definition)
        lock = None if found.job.lock is None else Lock(*found.job.lock)  # type: ignore[arg-type]
        said = {field: getattr(found.job, field) for field in _CARRIED}
        job = Job(found.job.queue, found.job.job_class, lock=lock, **_arguments(found.job), **said)
        entry = Periodic(
            *(name, found.expression, job, found.zone, found.missed, found.within, found.overlap, found.jitter),
            found.dialect,
        )
        check(entry)
        _check_job(job)
    except (ValueError, TypeError, RecursionError, MemoryError, BadJob) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return entry


def _arguments(job: _Job) -> dict[str, Any]:
    extra = {"extra": job.extra} if job.extra else {}
    if not job.active_job:
        return {"args": job.args, **extra}
    return {"args": map(Encoded, job.args), "active_job": True, "active_job_fields": job.fields or {}, **extra}


def _check_job(job: Job) -> None:
    problem = check_sent_to(job.queue)
    if problem or not job.job_class:
        raise ValueError(problem or "its class is empty")
    for name in ("retry", "retry_for", "retry_queue", "backtrace", "dead", "tags"):
        value = getattr(job, name)
        if value is not None:
            check_option(name, value)


@attrs.frozen
class Tick:
    """Which tick a job was sent for. `entry`: the name of its entry."""

    moment_s: int
    zone: str
    entry: str

    @property
    def moment(self) -> datetime:
        """In its zone; in UTC where this machine doesn't know that."""
        try:
            return datetime.fromtimestamp(self.moment_s, zone_named(self.zone))
        except ValueError:
            return datetime.fromtimestamp(self.moment_s, UTC)


def tick_in(value: object) -> Tick | None:
    """What a payload's field says; None for what is no tick."""
    found = _TICK.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else Tick(int(found[1]), found[2], found[3])


def end_of_tick(entry: str) -> str:
    """How that field ends in the payload of each run of an entry."""
    return f" {msgspec.json.encode(entry)[1:].decode()}"


def tick_of(extra: Mapping[str, Any]) -> Tick | None:
    """The tick that a job was sent for, by the fields that it carries."""
    return tick_in(extra.get(TICK_FIELD))


@attrs.frozen
class Run:
    """One run of an entry. `how`: "sent", and how that job ended once it has; "missed", "skipped". `ended_s`: when that was known, in epoch seconds."""

    jid: str
    tick_s: float
    at_s: float = 0.0
    how: str = "sent"
    ended_s: float | None = None
