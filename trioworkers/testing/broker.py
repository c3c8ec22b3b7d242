"""The fake broker of tests: it remembers what was sent and how jobs ended, and has the faults that a test asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import trio

from trioworkers import outcome as outcomes
from trioworkers.broker.contract import Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.fake_store import EPOCH_S
from trioworkers.errors import BadJob, BadPayload, Unavailable
from trioworkers.send import Send
from trioworkers.sending import Met
from trioworkers.testing.sent_jobs import SentJob, SentJobs
from trioworkers.testing.shards import Homes
from trioworkers.wire.job import Job
from trioworkers.wire.membership import Opening

T = TypeVar("T")

_HOW: dict[type, str] = {
    outcomes.Acknowledge: "succeeded",
    outcomes.Retry: "retried",
    outcomes.Bury: "dead",
    outcomes.Discard: "discarded",
    outcomes.Expire: "expired",
    outcomes.Snooze: "put off",
    outcomes.Requeue: "put back",
}


@attrs.frozen
class Ran:
    """How an attempt ended: "succeeded", "retried", "dead", "discarded", "expired", "put off" or "put back"; `error`: what it raised."""

    job: Job
    how: str
    error: BaseException | None = None


class TestBroker(FakeBroker):
    """See the module."""

    __test__ = False  # pytest's: no test, whatever its name

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ran: list[Ran] = []
        self.errors: dict[str, BaseException] = {}
        """What attempts raised whose outcome isn't written yet, by jid."""
        self.is_down = False
        self.losing: Counter[str] = Counter()
        """How many replies of each kind of call are to be lost."""
        self.jumped_s = 0.0
        epoch_s: float = options.get("epoch_s", EPOCH_S)
        self.clock.now_s = lambda: epoch_s + trio.current_time() + self.jumped_s  # type: ignore[method-assign]
        self.limits.now_s = self.held.now_s = self.ticks.now_s = self.clock.now_s
        self.sent_jobs = SentJobs(self.clock.now_s)
        self.homes: Homes | None = None
        """Of an App with several Redises."""
        self._noted: set[int] = set()

    def wake(self) -> None:
        """Have whoever waits for a change look again."""
        self._changed.set()
        self._changed = trio.Event()

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """For what others do in Redis while this worker is not there: no outage of the test's concerns it."""
        was_down, self.is_down = self.is_down, False
        try:
            yield
        finally:
            self.is_down = was_down

    async def _call(self, move: Callable[[], T], *, looks: bool = False) -> T:
        if self.is_down:
            await trio.lowlevel.checkpoint()
            raise Unavailable("Redis is down, as the test wants it")
        return await super()._call(move, looks=looks)

    async def send(self, sends: Iterable[Send], token: str = "", *, by: Job | None = None) -> Met:
        """See `FakeBroker`. `by`: the job that enqueued them."""
        sends = list(sends)
        if self.homes is not None:
            self._settle_homes(self.homes, sends, by)
        met = await super().send(sends, token)
        self._lose("send")
        return met

    @staticmethod
    def _settle_homes(homes: Homes, sends: Sequence[Send], by: Job | None) -> None:
        if by is None:
            homes.sent(sends)
        else:
            homes.sent_by(by, sends)

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `FakeBroker`."""
        if self.homes is not None:
            self.homes.open_batch(batch, opening)
        await super().open_batch(batch, opening)

    def _problem(self, settlement: Settlement) -> str:
        problem = super()._problem(settlement)
        if problem or self.homes is None or not isinstance(settlement.outcome, outcomes.Acknowledge):
            return problem
        try:
            job = self.spoken_on(settlement.queue)[0].decode(settlement.payload, settlement.queue)
            self.homes.sent_by(job, settlement.outcome.sends)
        except BadJob as error:
            return f"trioworkers.BadJob: {error}"
        return ""

    def _send(self, sends: Sequence[Send], given_up: tuple[str, str] | None = None) -> Met:
        met = super()._send(sends, given_up)
        now_s = self.clock.now_s()
        for number, send in enumerate(sends):
            if number not in met:  # else it met another that holds its lock
                at_once = send.delay_s is None and send.at_s is None
                shard = None if self.homes is None else self.homes.of(send.job)
                self.sent_jobs.sent.append(SentJob(send.job, None if at_once else send.due_s(now_s), shard))
        return met

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """See `FakeBroker`."""
        problems = await super().settle(number, group, cleared)
        if number not in self._noted:
            self._noted.add(number)
            for index, settlement in enumerate(group):
                if index not in problems:
                    self._note(settlement)
        self._lose("settle")
        return problems

    def _note(self, settlement: Settlement) -> None:
        how = _HOW.get(type(settlement.outcome))
        if how is None:  # a checkpoint
            return
        dialect, _ = self.spoken_on(settlement.queue)
        try:
            job = dialect.decode(settlement.payload, settlement.queue)
        except BadPayload:
            return
        self.ran.append(Ran(job, how, self.errors.pop(job.jid, None)))

    def _lose(self, kind: str) -> None:
        if self.losing[kind]:
            self.losing[kind] -= 1
            raise Unavailable("the reply was lost, as the test wants it")
