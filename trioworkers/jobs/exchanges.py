"""How a client's calls go, without I/O: what is sent, repeated, waited for, and what comes of it.

Each is a generator. It yields what is to be done next, is sent what came of that, and has a BrokerError thrown into it if Redis failed; it
returns what the caller gets. A client only does the steps, each in its own way: it blocks, or awaits.

**Repeating.** A call carries a token. If its reply is lost, the same call is made again, and Redis says what it said the first time; so a
repetition never doubles, and what was acknowledged was carried out (`sending.py`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from trioworkers.broker.clock import Clock
from trioworkers.errors import BrokerError, ConfigurationError, JobFailed, JobGone, Unavailable
from trioworkers.jobs.batch import Batch
from trioworkers.send import Send, moment
from trioworkers.sending import Call, Met, Sending, Sent, batch_sent, late, met, read, sent
from trioworkers.wire.ended import Ended, value_of
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import Opening

if TYPE_CHECKING:
    from trioworkers.broker.redis.scripts import Script
    from trioworkers.jobs.telemetry import Telemetry

T = TypeVar("T")
RETRY_FOR_S = 5.0
MOST_RETRY_FOR_S = 60.0
"""Tokens are remembered for two minutes; a copy under way counts, too."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5
"""Between two looks for a result, or two tries: the longer it takes, the rarer."""
LOOK_AGAIN_S = 5.0
"""Between two looks for a result by one who is told when it is there: what tells may be lost."""


class Pause(NamedTuple):
    """Do nothing for so long. Nothing comes of it."""

    seconds: float


class AskEnded(NamedTuple):
    """Ask how a job ended. What comes of it: an `Ended`, or None."""

    jid: str


class Listen(NamedTuple):
    """Wait until that job has ended, as far as that is heard, or so long; the first time, begin to listen. What comes of it: whether it would be heard."""

    jid: str
    seconds: float


class Command(NamedTuple):
    """One command to Redis that does no harm twice. What comes of it: its reply."""

    words: tuple[str | bytes | int, ...]


class Run(NamedTuple):
    """A script that does no harm twice. What comes of it: its reply."""

    script: Script
    keys: list[str]
    args: Sequence[str | bytes | int]


class At(NamedTuple):
    """Do `step` at this one of several Redises. What comes of it is what comes of that."""

    shard: str
    step: Step


class AtEach(NamedTuple):
    """Carry on these exchanges, each at the one of several Redises that it is for, all to their end. What comes of it: by shard what each came to, or its BrokerError."""

    exchanges: Mapping[str, Exchange[Any]]


Step = Call | Pause | AskEnded | Listen | Command | Run | At | AtEach
"""What is to be done next; of a `Call` comes the script's reply."""
Exchange = Generator[Step, Any, T]


def checked_retry_for(seconds: object) -> float:
    """`retry_for` of a client. Raises ConfigurationError."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= MOST_RETRY_FOR_S:  # type: ignore[operator]
        raise ConfigurationError(f"retry_for is a number of seconds from 0 to {MOST_RETRY_FOR_S:g}, not {seconds!r}")
    return float(seconds)  # type: ignore[arg-type]


class Exchanges:
    """One client's. `retry_for_s`: how long calls are repeated when Redis can't be reached, or doesn't answer."""

    def __init__(self, sending: Sending, retry_for_s: float, telemetry: Telemetry | None = None) -> None:
        self._telemetry = telemetry
        self._sending = sending
        self._retry_for_s = retry_for_s
        self._clock = Clock()

    @property
    def keys(self) -> Keys:
        """Where it is."""
        return self._sending.keys

    def send(
        self, jobs: Sequence[Job | Batch], when: datetime | timedelta | float | None = None
    ) -> Exchange[list[Sent]]:
        """Have jobs enqueued now, or at a time; a batch by itself, in one step. Raises BadJob before the first step (of a batch)."""
        if Batch not in map(type, jobs):
            return (yield from self._send(cast("Sequence[Job]", jobs), when))
        there: list[Sent] = []
        for job in jobs:
            if isinstance(job, Batch):
                there.append(batch_sent(job.id, (yield from self._send(job.members(), when))))
            else:
                there += yield from self._send([job], when)
        return there

    def _send(self, jobs: Sequence[Job], when: datetime | timedelta | float | None) -> Exchange[list[Sent]]:
        if self._telemetry is not None:
            with self._telemetry.sending(jobs) as traced:
                return (yield from self._send_these(traced, when))
        return (yield from self._send_these(jobs, when))

    def _send_these(self, jobs: Sequence[Job], when: datetime | timedelta | float | None) -> Exchange[list[Sent]]:
        return (yield from self.carry(jobs, self.parcels(jobs, when)))

    def parcels(self, jobs: Sequence[Job], when: datetime | timedelta | float | None) -> list[bytes]:
        """The jobs as they go to Redis, all of them encoded. Raises BadJob."""
        delay_s, at_s = (None, None) if when is None else moment(when)
        return [*self._sending.parcels([Send(job, delay_s, at_s) for job in jobs], self._clock.now_s())]

    def carry(self, jobs: Sequence[Job], parcels: Sequence[bytes]) -> Exchange[list[Sent]]:
        """Take parcels to Redis that were made of these jobs."""
        token = os.urandom(12).hex()  # without `random`, which takes 2 ms to import
        there: Met = {}
        for number, parcel in enumerate(parcels):
            call = partial(self._sending.repeatable, parcel, token, number)
            answers = read((yield from self._repeated(call)))
            if answers:
                there.update(met(parcel, answers[0]))
        return sent(jobs, there)

    def periodic(self, name: str, expression: str, job: Job, **options: Any) -> Exchange[None]:
        """Have an entry of a periodic job that lives in Redis only. Raises ConfigurationError, BadJob before the first step, and if code declares one of this name."""
        from trioworkers.broker.holds import cron_entries as entries  # noqa: PLC0415 - few clients have periodic jobs
        from trioworkers.jobs.periodic import named_entry  # noqa: PLC0415 - as above

        entry = named_entry(self._sending, name, expression, job, self._clock.now_s(), **options)
        seconds, _ = yield from self.command("TIME")
        edit = entries.putting(self.keys, entry, int(seconds))
        reply = yield from self._repeated(lambda _: Run(entries.EDIT_CRON, [self.keys.cron], edit.args))
        entries.check_put(name, entries.answer_of(reply))

    def delete_periodic(self, name: str) -> Exchange[bool]:
        """Have such an entry be gone; whether there was one. Raises ConfigurationError if code declares it."""
        from trioworkers.broker.holds import cron_entries as entries  # noqa: PLC0415 - as above

        edit = entries.Edit(self.keys, name, "delete")
        reply = yield from self._repeated(lambda _: Run(entries.EDIT_CRON, [self.keys.cron], edit.args))
        return entries.check_deleted(name, entries.answer_of(reply))

    def open_batch(self, batch: str, opening: Opening) -> Exchange[None]:
        """Have a batch come into being, without members. Raises BadJob before the first step."""
        yield from self._send_batch(self._sending.batch_parcel(batch, opening, self._clock.now_s()))

    def seal_batch(self, batch: str) -> Exchange[None]:
        """No more members come from outside."""
        yield from self._send_batch(self._sending.batch_parcel(batch, None, self._clock.now_s()))

    def _send_batch(self, parcel: bytes) -> Exchange[None]:
        call = partial(self._sending.repeatable, parcel, os.urandom(12).hex(), 0)
        met(parcel, read((yield from self._repeated(call))).get(0))

    def cancel_batch(self, batch: str) -> Exchange[bool]:
        """Have it take no more members, and say that it is cancelled; False if it is over."""
        from trioworkers.broker.holds.batches import CANCEL_BATCH  # noqa: PLC0415 - seldom

        keys = self._sending.keys
        return bool((yield from self._repeated(lambda _: Run(CANCEL_BATCH, [], [keys.own, batch]))))

    def check(self, job: Job) -> None:
        """Raise BadJob if a job could not be sent."""
        for _ in self._sending.parcels([Send(job)], self._clock.now_s()):
            pass

    def command(self, *words: str | bytes | int) -> Exchange[Any]:
        """One command to Redis that does no harm twice."""
        return (yield from self._repeated(lambda _: Command(words)))

    def _repeated(self, step: Callable[[float], Step]) -> Exchange[Any]:
        """`step`: what is to be done, at this time in epoch seconds."""
        given_up_at, pauses, clock_is_set = time.monotonic() + self._retry_for_s, _pauses(), False
        while True:
            try:
                reply = yield step(self._clock.now_s())
            except BrokerError as error:
                redis_now_s = None if clock_is_set else late(error)
                pause_s = next(pauses) * (0.5 + os.urandom(1)[0] / 510)
                if redis_now_s is not None:  # nothing was done: this machine's clock is wrong, and nobody had told us
                    self._clock.set(redis_now_s)
                    clock_is_set = True
                    continue
                if not isinstance(error, Unavailable) or time.monotonic() + pause_s > given_up_at:
                    raise
            else:
                return reply
            yield Pause(pause_s)


def result(jid: str, timeout_s: float | None, now: Callable[[], float] = time.monotonic) -> Exchange[Any]:
    """Wait for how a job ended. Raises JobFailed, JobGone, TimeoutError. `now`: the clock by which time passes."""
    given_up_at = math.inf if timeout_s is None else now() + timeout_s
    pauses, is_sure = _pauses(), False
    while True:
        ended: Ended | None = yield AskEnded(jid)
        if ended is not None:
            return _returned(jid, ended)
        left_s = given_up_at - now()
        if left_s <= 0:
            raise TimeoutError(f"job {jid} has not ended within {timeout_s:g} s, or keeps no result")
        is_sure = yield Listen(jid, min(LOOK_AGAIN_S if is_sure else next(pauses), left_s))


def _returned(jid: str, ended: Ended) -> Any:
    if ended.how == "dead":
        raise JobFailed(jid, ended.error_class, ended.error_message)
    if ended.how != "succeeded":
        raise JobGone(jid, ended.how)
    return value_of(ended)


def _pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.5, LAST_PAUSE_S)
