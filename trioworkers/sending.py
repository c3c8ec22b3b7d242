"""What a client does, without I/O: values in, bytes out.

A client checks and encodes jobs, groups them into calls that Redis can carry out in a moment, has `enqueue.lua` run, and reads what it
says. All but the running is here, so that each client is a thin shell around it: it moves bytes, waits, and repeats what may be repeated.

```
parcels = [*sending.parcels(sends, now_s)]          # BadJob before anything is sent
reply = run(ENQUEUE, call.keys, call.args)           # for each call of sending.calls(parcels): the shell's part
answers = read(reply)                                # by parcel: its error, or which of its jobs were not alone
```

**Repeating a call.** A call with a token may be repeated after a lost reply: `enqueue.lua` keeps what it answered under the token for
`TOKEN_S`. A copy that is still under way then (a connection that broke, and whose bytes Redis reads later) must not be carried out when the
token is forgotten: so it says until when it may be, by Redis's clock, which is sooner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Self

import attrs

from trioworkers.errors import BadJob, BrokerError, DuplicateJob
from trioworkers.send import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.lifetime import refuse_past
from trioworkers.wire.lock import Lock
from trioworkers.wire.membership import Membership, Opening
from trioworkers.wire.packing import pack

PARCEL_JOBS = 1000
PARCEL_BYTES = 8_000_000
"""How many jobs go to Redis in one step: it serves nobody else meanwhile."""
CALL_BYTES = 1_000_000
"""How much of several callers' goes together in one call."""
BATCH_BYTES = 1_000_000
"""Of a batch that is sent in one step."""
MAX_EDGES = 10_000
"""Of who waits for whom, in what is sent in one step."""
SUCCESSOR_EDGES = 25
"""To keep somebody who waits takes Redis as long as to note that he waits for so many."""
TOKEN_S = 120
"""How long `enqueue.lua` remembers what it answered."""
CALL_LIFE_S = 60.0
"""How long after it was made a call with a token may be carried out; less than `TOKEN_S`, by more than clocks differ."""

_SENT_AT_S = 4102444799.5
"""Stands for the time at which Redis sends a callback: the end of this century."""
_LATE = re.compile(r"LATE (\d+(?:\.\d+)?)")


NO_DUPLICATES: Mapping[str, str] = MappingProxyType({})


class Sent(str):
    """A job that was sent: its jid, a string with one more attribute.

    `duplicate_of`: if another job had the lock of this unique job, the jid of that other job; else None. `on_conflict` says what happened to the new job.
    `duplicates`: of a batch the same for its unique members: the jid of the member, and that of the other job.
    """

    __slots__ = ("duplicate_of", "duplicates")
    duplicate_of: str | None
    duplicates: Mapping[str, str]

    def __new__(cls, jid: str, duplicate_of: str | None = None, duplicates: Mapping[str, str] | None = None) -> Self:
        """As `str`."""
        sent = super().__new__(cls, jid)
        sent.duplicate_of = duplicate_of
        sent.duplicates = NO_DUPLICATES if duplicates is None else duplicates
        return sent

    def __reduce__(self) -> tuple[type[Self], tuple[str, str | None, dict[str, str]]]:
        return type(self), (str(self), self.duplicate_of, dict(self.duplicates))


@attrs.frozen
class Call:
    """One run of `enqueue.lua`. `has_locks`: some job is unique, which needs more of the script."""

    keys: list[str]
    args: list[bytes]
    has_locks: bool = False


class LockedParcel(bytes):
    """A parcel with unique jobs, or members of batches. `first`: how many jobs of the same sender come before it."""

    first: int = 0


class Sending:
    """How one client's jobs become calls. `guard`: sees each payload; `foreign`: the queues that speak another dialect, with their keys."""

    def __init__(
        self,
        keys: Keys,
        dialect: Dialect = SIDEKIQ,
        guard: SizeGuard | None = None,
        foreign: Mapping[str, tuple[Dialect, Keys]] | None = None,
    ) -> None:
        self.keys = keys
        self.dialect = dialect
        self.guard = SizeGuard() if guard is None else guard
        self.foreign = {} if foreign is None else foreign

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """What is spoken on a queue, and where it lies."""
        return self.foreign.get(queue) or (self.dialect, self.keys)

    def parcels(self, sends: Iterable[Send], now_s: float) -> Iterator[bytes]:
        """The jobs, checked and encoded, a thousand or 8 MB to a parcel: Redis takes all of a parcel or nothing. Raises BadJob.

        Take them all before the first is sent. `now_s`: epoch seconds by Redis's clock, as far as it is known.
        """
        remaining = _Counted(sends)
        while True:
            first = remaining.count
            work = self.work(islice(remaining, PARCEL_JOBS), now_s, self.guard.check, PARCEL_BYTES)
            if not any(work):
                return
            if work[2:]:
                parcel = LockedParcel(pack(work))
                parcel.first = first
                yield parcel
            else:
                yield pack(work)

    def work(  # noqa: C901 - one pass over what is sent: a call for each step would be most of what a job costs
        self,
        sends: Iterable[Send],
        now_s: float,
        admit: Callable[[Job, bytes], None] | None = None,
        max_bytes: float = math.inf,
    ) -> tuple[Any, ...]:
        """`(push, later)` as `send.lua` wants them; where there are unique jobs `(push, later, own)`, as `unique.lua` does, and with members of batches `(push, later, own, ops)`: see `batches.lua`. `admit`: sees each payload, and may refuse it.

        Takes no more from `sends` once their payloads have `max_bytes`.
        """
        size, has_locks = 0, False
        push: dict[str, tuple[Any, ...]] = {}
        later: list[Any] = []
        members: list[_Member] = []
        for number, send in enumerate(sends):
            job = send.job
            dialect, keys = self.spoken_on(job.queue)
            at_once = send.delay_s is None and send.at_s is None
            if at_once and job.lock is not None:
                send = debounced(send)  # noqa: PLW2901 - it may have to wait first
                at_once = send.delay_s is None
            payload: Any
            payload = encoded = dialect.encode(
                job, now_s, enqueued=at_once, due_s=None if at_once else send.due_s(now_s)
            )
            _admit(admit, job, payload, now_s)
            size += len(payload)
            if job.batch is not None:
                members.append((job, job.batch, payload if at_once else b"", number))
                if job.batch.after:  # it waits for others
                    size += _weight_of_edges(members)
                    if size >= max_bytes:
                        break
                    continue
            if job.lock is not None:
                has_locks = True
                way = () if at_once else ((job.queue, keys.queue(job.queue), dialect.pushed_with, keys.queues),)
                payload = (*_item(payload, job, job.lock, number), *way)
            if at_once:
                if job.queue not in push:
                    push[job.queue] = (job.queue, keys.queue(job.queue), [], dialect.pushed_with, keys.queues)
                push[job.queue][2].append(payload)
            else:
                place = dialect.waits_in(encoded, keys)
                later.append((payload, send.delay_s or 0.0, send.at_s or False, place))
            if size >= max_bytes:
                break
        work = list(push.values()), later
        if has_locks or members:
            return (*work, self.keys.own, *([self._joining(members, size, now_s)] if members else ()))
        return work

    def _joining(self, members: Sequence[_Member], size: int, now_s: float) -> list[tuple[Any, ...]]:
        """The batches whose members these jobs are: see `look_at_batches` in `batches.lua`. Raises BadJob."""
        ops: dict[str, tuple[Any, ...]] = {}
        names: dict[str, list[str]] = {}
        for job, membership, payload, number in members:
            if membership.batch not in ops:
                ops[membership.batch] = self._op(membership.batch, membership.opening, now_s)
            ops[membership.batch][1].append(job.jid)
            if membership.name:
                names.setdefault(membership.batch, []).extend((membership.name, job.jid))
            if membership.after:
                ops[membership.batch][4].append(self._successor(job, membership, payload, number))
        if any(op[2] and op[3] for op in ops.values()):
            if size > BATCH_BYTES:
                raise BadJob(f"a batch that is sent in one step has {BATCH_BYTES:,} bytes at most: use client.batch(…)")
            if sum(len(member.after) for _, member, *_ in members) > MAX_EDGES:
                raise BadJob(
                    f"in a batch that is sent in one step jobs wait for {MAX_EDGES:,} others at most, all told: put one job between the many and the many"
                )
        return [(*op, names[batch]) if batch in names else op for batch, op in ops.items()]

    def _successor(self, job: Job, membership: Membership, payload: bytes, number: int) -> tuple[Any, ...]:
        """A member that waits for others: see `add_successors` in `batches.lua`. Raises BadJob."""
        if not payload:
            raise BadJob(f"{job.job_class}: it waits for other jobs, and can't wait for a time as well")
        dialect, keys = self.spoken_on(job.queue)
        way = (job.queue, keys.queue(job.queue), dialect.pushed_with, keys.queues)
        from trioworkers.exits import on_exit  # noqa: PLC0415 - as in `_item`

        ends = [effect for effect in on_exit(payload, "skipped") if effect[0] != "member"]
        stands = payload if job.lock is None else _item(payload, job, job.lock, number)
        return (job.jid, stands, way, membership.after, membership.on_failure, ends)

    def _op(self, batch: str, opening: Opening | None, now_s: float) -> tuple[Any, ...]:
        if opening is None:
            return (batch, [], False, 0, [])
        callbacks = {event: self._callback(f"{batch}-{event}", job, now_s) for event, job in opening.callbacks.items()}
        return (
            batch,
            [],
            (opening.description, opening.parent or False, callbacks, opening.abandoned_after_s or False),
            int(opening.sealed),
            [],
        )

    def _callback(self, jid: str, job: Job, now_s: float) -> tuple[Any, ...]:
        """A job that Redis sends: where to, and its payload before and after the time at which it does."""
        dialect, keys = self.spoken_on(job.queue)
        payload = dialect.encode(attrs.evolve(job, jid=jid, created_at_s=now_s), _SENT_AT_S)
        before, mark, after = payload.partition(b'"enqueued_at":%r' % _SENT_AT_S)
        where = (job.queue, keys.queue(job.queue), dialect.pushed_with, keys.queues)
        return (*where, before + b'"enqueued_at":', after) if mark else (*where, payload, False)

    def batch_parcel(self, batch: str, opening: Opening | None, now_s: float) -> bytes:
        """What has a batch come into being without members; or, without an opening, seals it. Raises BadJob."""
        op = (batch, [], False, 1, []) if opening is None else self._op(batch, opening, now_s)
        return LockedParcel(pack(([], [], self.keys.own, [op])))

    def call(self, parcels: Sequence[bytes]) -> Call:
        """A call that carries parcels of any number of callers. It is not repeated: who doesn't hear of it doesn't know."""
        return Call([], [b"", *parcels], any(type(parcel) is LockedParcel for parcel in parcels))

    def repeatable(self, parcel: bytes, token: str, number: int, now_s: float) -> Call:
        """The call of the `number`th parcel of what `token` stands for. It may be repeated, by this very function, for a minute and a half."""
        key = self.keys.sent(f"{token}-{number}" if number else token)
        return Call([key], [b"%.3f" % (now_s + CALL_LIFE_S), parcel], type(parcel) is LockedParcel)


def _weight_of_edges(members: Sequence[_Member]) -> int:
    """What it weighs in a parcel that the last one waits for others: for Redis that is more than to push it. Those with whom a batch comes into being go together, however many."""
    edges = len(members[-1][1].after)
    return 0 if members[0][1].opening is not None else (edges + SUCCESSOR_EDGES) * (PARCEL_BYTES // MAX_EDGES)


def _admit(admit: Callable[[Job, bytes], None] | None, job: Job, payload: bytes, now_s: float) -> None:
    if admit is None:
        return
    if job.deadline is not None:
        refuse_past(job.deadline, now_s)
    admit(job, payload)


_Member = tuple[Job, Membership, bytes, int]
"""Of a batch, with its payload if it is sent at once, and its number among all that is sent."""


class _Counted(Iterator[Send]):
    """Sends, and how many of them were taken so far."""

    def __init__(self, sends: Iterable[Send]) -> None:
        self._sends = iter(sends)
        self.count = 0

    def __next__(self) -> Send:
        send = next(self._sends)
        self.count += 1
        return send


def _item(payload: bytes, job: Job, lock: Lock, number: int) -> tuple[Any, ...]:
    """What stands for the payload of a unique job: see `take_locks` in `unique.lua`."""
    from trioworkers.exits import on_exit  # noqa: PLC0415 - few jobs need it, and it takes 7 ms of a web program's start

    ends = () if job.keep_result is None and job.batch is None and not job.extra else on_exit(payload, "replaced")
    every_ms = math.ceil(lock.every_s * 1000)
    return (payload, job.jid, lock.key, lock.on_conflict, every_ms, lock.max_wait_s, ends, number)


def debounced(send: Send) -> Send:
    """A send at once of a job that waits first; any other as it is."""
    wait_s = 0.0 if send.job.lock is None else send.job.lock.wait_s
    return Send(send.job, wait_s) if wait_s and send.delay_s is None and send.at_s is None else send


Met = dict[int, str]
"""Of the unique jobs of a parcel, or of all that was sent, by their number: who was there."""


def read(reply: Sequence[Any]) -> dict[int, BrokerError | Met]:
    """What `enqueue.lua` says, by parcel: the errors of those that were refused as a whole, and which jobs were not alone in the others."""
    return {place: _read(answer) for place, answer in enumerate(reply) if answer}


def _read(answer: Any) -> BrokerError | Met:
    if not isinstance(answer, bytes):
        return {number: jid.decode(errors="replace") for number, jid in zip(answer[::2], answer[1::2], strict=True)}
    text = answer.decode(errors="replace")
    if text.startswith("DUPLICATE "):
        jid = text.split(" ", 2)[2]
        return duplicate(jid)
    from trioworkers.wire.error_replies import refusal  # noqa: PLC0415 - nearly nothing is refused

    return refusal(text)


def duplicate(there: str) -> DuplicateJob:
    """The error for a job that is not sent as the job `there` has its lock."""
    return DuplicateJob(f"not sent: job {there} with the same lock waits or runs", there)


def met(parcel: bytes, answer: BrokerError | Met | None) -> Met:
    """Who was there, by the numbers of all jobs of its sender. Raises BrokerError: the parcel was refused."""
    if isinstance(answer, BrokerError):
        raise answer
    first = parcel.first if isinstance(parcel, LockedParcel) else 0
    return {first + number: jid for number, jid in (answer or {}).items()}


def sent(jobs: Sequence[Job], there: Met) -> list[Sent]:
    """What a caller gets."""
    return [Sent(job.jid, there.get(number)) for number, job in enumerate(jobs)]


def met_by(jobs: Iterable[Sent]) -> Met:
    """By their number, whom they met."""
    return {number: one.duplicate_of for number, one in enumerate(jobs) if one.duplicate_of is not None}


def batch_sent(batch: str, members: Iterable[Sent]) -> Sent:
    """What a caller gets for a batch with these members."""
    return Sent(batch, duplicates={str(one): one.duplicate_of for one in members if one.duplicate_of is not None})


def late(error: BrokerError) -> float | None:
    """Redis's time, in epoch seconds, if `error` says that the call came too late (or too early) for it to be carried out.

    Nothing was done: whoever made the call a moment ago doesn't know Redis's clock, and may make it anew with this time.
    """
    found = _LATE.search(str(error))
    return float(found[1]) if found else None
