"""What a worker needs of a broker: what the real one and the fake have in common, whose contract tests are the same.

Payloads come as bytes and go back as the same bytes; `engine/` decides what becomes of them. All methods raise BrokerError.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import attrs

from trioworkers import outcome as outcomes
from trioworkers.broker.clock import Clock
from trioworkers.departures import Permit
from trioworkers.exits import Effect
from trioworkers.send import Send
from trioworkers.sending import Met, Sending
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import Dialect, Failure
from trioworkers.wire.ended import Ended
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import Opening
from trioworkers.wire.periodic import Periodic

if TYPE_CHECKING:
    from trioworkers.broker.holds.limits import Candidate, Declared, Round, Tended
    from trioworkers.broker.holds.locks import Answer, Claim
    from trioworkers.broker.holds.ticks import Declaration, DueEntry, Registered, Take, Taken
    from trioworkers.broker.holds.within import Granted, Wants

PAGE_BYTES = 4_000_000
"""What goes through Redis's Lua or over the wire in one piece holds all others up, so pages end after so many bytes."""
LARGE_BYTES = 1 << 20
"""A payload that is larger is fetched alone."""
SUSPECTED = -1
"""In the place of how many deaths a job is charged with: with none; but its next start is noted."""
MAX_CRASHES_IN_COMPANY = 8
"""A job under which so many workers died is buried even if it never was alone in quarantine: its last time alone was more than an hour."""
DueSet = Literal["retry", "schedule", "delayed"]
"""What holds payloads that come due; `delayed` only in Resque's dialect."""


@attrs.define
class Holder:
    """Who we are to the other workers: the name of our in-progress lists, and what our lease says. `renewed_at`: when it surely was ours, in Trio's time."""

    process_id: str = attrs.field(on_setattr=attrs.setters.frozen)
    lease: str = attrs.field(on_setattr=attrs.setters.frozen)
    lease_ms: int = attrs.field(on_setattr=attrs.setters.frozen)
    renewed_at: float = attrs.field(default=-math.inf, init=False, eq=False)
    _calls: int = attrs.field(default=0, init=False, eq=False)

    def next_call(self) -> int:
        """The number of a call under our lease that must not be carried out after a newer one."""
        self._calls += 1
        return self._calls

    @property
    def sure_until(self) -> float:
        """Until when nobody can think us dead, in Trio's time."""
        return self.renewed_at + self.lease_ms / 1000


class Settlement(NamedTuple):
    """One outcome (or checkpoint) to be written: of which queue, of which payload."""

    queue: str
    payload: bytes
    outcome: outcomes.Outcome | outcomes.Checkpoint | outcomes.LetGo
    effects: Sequence[Effect] = ()


@attrs.frozen
class Due:
    """What is due in the retry and the schedule set, up to a page, and the seconds until more is (0: there is; None: nothing).

    Besides, what people want: control `messages` for this worker, and the names of what is paused for all; periodic jobs that are due (`entries`) at `now_s`,
    epoch seconds by Redis's clock. `tick_in_s`: seconds until the next of those after these, inf if there is
    none; None if that was not looked for.
    """

    retry: list[bytes]
    schedule: list[bytes]
    next_in_s: float | None
    delayed: Sequence[bytes] = ()
    messages: Sequence[bytes] = ()
    paused_queues: frozenset[str] = frozenset()
    paused_classes: frozenset[str] = frozenset()
    entries: Sequence[DueEntry] = ()
    now_s: float = 0.0
    tick_in_s: float | None = None


@attrs.frozen
class Listed:
    """What an in-progress list holds, some of it perhaps told by a `Digest`. `at_once`: all of it was read in one step; else others may have moved payloads meanwhile, so that some were missed or seen twice."""

    payloads: Counter[bytes]
    at_once: bool = True


class LeaseGone(enum.IntEnum):
    """Whether our lease was missing when we looked: EXPIRED, others may have taken what we run; FORGOTTEN, Redis lost its data."""

    NO = 0
    EXPIRED = 1
    FORGOTTEN = 2


@attrs.frozen
class Fetched:
    """What a fetch brought. `lease_gone`: see `LeaseGone`. `suspects`: some job's worker died under it, or some batch is cancelled: look closer.

    `again_in_s`: of a queue with a limit, in which there is more: when somebody may run; sooner, if one of our own ends.
    """

    payloads: list[bytes]
    lease_gone: LeaseGone = LeaseGone.NO
    suspects: bool = False
    again_in_s: float | None = None


@attrs.frozen
class FetchedTogether:
    """What one fetch brought from several queues: payloads by queue. `refused`: those that can't be read. The rest as in `Fetched`, by queue."""

    payloads: Mapping[str, list[bytes]]
    refused: Collection[str] = ()
    lease_gone: LeaseGone = LeaseGone.NO
    suspects: bool = False
    again_in_s: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Heard:
    """What came of a wait for news of several queues: in which there may be something, and of which one a payload was taken already. `suspects`: as in `Fetched`."""

    queues: Collection[str] = ()
    queue: str = ""
    payload: bytes | None = None
    suspects: bool = False


class News(Protocol):
    """That something has happened, for one who waits for it."""

    async def wait(self, seconds: float) -> bool:
        """Wait until it has, or so long; whether it would be heard of. It may be for nothing: look, and wait again."""


class Sends(Protocol):
    """What a `Client` needs."""

    dialect: Dialect
    sending: Sending
    clock: Clock
    guard: SizeGuard

    @property
    def keys(self) -> Keys:
        """The names of our dialect's keys, and of ours."""

    async def send(self, sends: Iterable[Send], token: str = "") -> Met:
        """See `Sender.send`."""

    async def ended(self, jid: str) -> Ended | None:
        """See `Sender.ended`."""

    def news_of_end(self, jid: str) -> AbstractContextManager[News]:
        """See `Sender.news_of_end`."""

    async def put_periodic(self, entry: Periodic) -> None:
        """See `Sender.put_periodic`."""

    async def delete_periodic(self, name: str) -> bool:
        """See `Sender.delete_periodic`."""

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """See `Sender.recorded`."""

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """See `Sender.member_result`."""

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `Sender.open_batch`."""

    async def seal_batch(self, batch: str) -> None:
        """See `Sender.seal_batch`."""

    async def cancel_batch(self, batch: str) -> bool:
        """See `Sender.cancel_batch`."""

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """See `Sender.spoken_on`."""

    def sends_of(self, job: Job, name: str) -> Sends:
        """See `Sender.sends_of`."""


class Broker(Sends, Protocol):
    """One worker's moves between places of one dialect."""

    holder: Holder

    @property
    def at_once_bytes(self) -> int:
        """See `Owner.at_once_bytes`."""

    def as_dead(self, payload: bytes, queue: str, failure: Failure | None) -> bytes:
        """See `Owner.as_dead`."""

    def holds(self, queue: str) -> str:
        """See `Owner.holds`."""

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """See `Settles.settle`."""

    async def admit(self, queue: str, number: int, declared: Declared, batch: Sequence[Candidate]) -> list[int | str]:
        """See `limits.admit`."""

    async def move_on(self) -> int:
        """See `batches.move_on`."""

    async def cancelled(self, batches: Sequence[str]) -> set[str]:
        """See `batches.cancelled`."""

    async def claim(self, queue: str, number: int, batch: Sequence[Claim]) -> list[Answer]:
        """See `locks.claim`."""

    async def tend(self, round_: Round) -> Tended:
        """See `limits.tend`."""

    async def within(self, wants: Wants) -> Granted:
        """See `within.within`."""

    async def due(self, limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        """See `Promotes.due`."""

    async def take_ticks(self, takes: Sequence[Take]) -> list[Taken]:
        """See `RedisBroker.take_ticks`."""

    async def register_cron(
        self, schedule: str, declared: Sequence[Declaration], since_s: float, *, sweep: bool = False
    ) -> Registered:
        """See `ticks.register`."""

    async def reply(self, token: str, reply: bytes) -> None:
        """See `Promotes.reply`."""

    async def promote(
        self, source: DueSet, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """See `Promotes.promote`."""

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        """See `InProgress.audit`."""

    async def count(self, queue: str, payloads: Iterable[bytes]) -> Counter[bytes]:
        """See `InProgress.count`."""

    async def put_back(self, queue: str, payloads: Sequence[bytes], running: Sequence[Permit] = ()) -> int:
        """See `InProgress.put_back`."""

    async def release(self, queue: str, limit: int = 500) -> int:
        """See `InProgress.release`."""

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        """See `Reclaims.crashes`."""

    async def charge(self, jids: Sequence[str], times: int = 1) -> None:
        """See `Reclaims.charge`."""

    async def note_start(self, jid: str, *, alone: bool) -> None:
        """See `Reclaims.note_start`."""


class Reclaiming(Broker, Protocol):
    """Takes over what the dead have left, too. The fake has nobody who dies."""

    async def peek(self, process_id: str, queue: str, limit: int) -> list[bytes]:
        """See `Reclaims.peek`."""

    async def reclaim(
        self, process_id: str, queue: str, entries: Sequence[tuple[bytes, str, int, bytes | None]]
    ) -> tuple[int, str]:
        """See `Reclaims.reclaim`."""

    async def forget(self, process_id: str, queue: str, *, strike: bool) -> None:
        """See `Reclaims.forget`."""

    async def held_by(self, process_id: str, queue: str) -> int:
        """See `Reclaims.held_by`."""

    async def started(self, process_id: str) -> Mapping[str, bool] | None:
        """See `Reclaims.started`."""


class Intake(Protocol):
    """One queue's fetching side."""

    @property
    def again_after_wait_s(self) -> float | None:
        """See `RedisIntake`."""

    @property
    def may_wait(self) -> bool:
        """See `RedisIntake.may_wait`."""

    async def fetch(self, limit: int) -> Fetched:
        """See `RedisIntake.fetch`."""

    async def wait(self) -> bytes | None:
        """See `RedisIntake.wait`."""

    async def wait_for_news(self) -> None:
        """See `RedisIntake.wait_for_news`."""


class CapsuleIntake(Protocol):
    """The fetching side of several queues at once."""

    waits: Mapping[str, Intake]
    """By queue, what blocks for its next job; nothing if there are too many of them."""

    @property
    def may_wait(self) -> bool:
        """See `RedisIntake.may_wait`."""

    async def fetch(self, limit: int, queues: Sequence[str]) -> FetchedTogether:
        """See `RedisCapsuleIntake.fetch`."""

    async def lengths(self) -> Sequence[int]:
        """See `RedisCapsuleIntake.lengths`."""

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        """See `RedisCapsuleIntake.wait_for_news`."""
