"""A broker in memory, on the virtual clock, which passes the same contract tests as the real one.

It can be told to misbehave: `fail_next` raises in place of the next calls, before or after they took effect.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

import trio

from trioworkers import outcome as outcomes
from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import (
    PAGE_BYTES,
    Due,
    DueSet,
    Holder,
    Intake,
    Listed,
    News,
    Sends,
    Settlement,
)
from trioworkers.broker.fake_intake import FakeIntake, FakeNews
from trioworkers.broker.holds.fake_batches import FakeBatches
from trioworkers.broker.holds.fake_effects import FakeEffects
from trioworkers.broker.holds.fake_limits import FakeLimits
from trioworkers.broker.holds.fake_locks import FakeLocks
from trioworkers.broker.holds.fake_ticks import FakeTicks
from trioworkers.broker.holds.limits import Candidate, Declared, Round, Tended
from trioworkers.broker.holds.locks import Answer, Claim
from trioworkers.broker.holds.ticks import Declaration, Registered, Take, Taken
from trioworkers.broker.holds.within import Granted, Wants
from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.errors import BadJob, BrokerError, Refused
from trioworkers.exits import Permit, given_up
from trioworkers.send import Send
from trioworkers.sending import Met, Sending, debounced, duplicate
from trioworkers.size_guard import SizeGuard
from trioworkers.wire import places
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure
from trioworkers.wire.ended import Ended, decode_ended
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.membership import Opening
from trioworkers.wire.periodic import Periodic

DUE_SETS = ("retry", "schedule", "delayed")
EPOCH_S = 1_700_000_000.0
GONE = "gone"
T = TypeVar("T")


class _VirtualClock(Clock):
    """Trio's clock, which began at `epoch_s`."""

    def __init__(self, epoch_s: float) -> None:
        super().__init__()
        self._epoch_s = epoch_s

    def now_s(self) -> float:
        return self._epoch_s + trio.current_time()


class FakeBroker:
    """See the module. `consumed`: the queues that count as work when `has_work` is asked. `dialects`: where not `dialect` is spoken.

    `epoch_s`: what time it is, in epoch seconds, at which Trio's clock begins.
    """

    def __init__(
        self,
        consumed: Collection[str] = (),
        process_id: str = "fake",
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
        dialects: Mapping[str, Dialect] | None = None,
        epoch_s: float = EPOCH_S,
    ) -> None:
        self.dialect = dialect
        self.keys = dialect.keys("")
        self.worker = "fake"
        self.clock: Clock = _VirtualClock(epoch_s)
        self.guard = SizeGuard() if guard is None else guard
        foreign = {queue: (spoken, spoken.keys("")) for queue, spoken in (dialects or {}).items()}
        self.sending = Sending(self.keys, dialect, self.guard, foreign)
        self.holder = Holder(process_id, "fake", 30_000)
        self.queues: dict[str, list[bytes]] = {}  # newest first, as in Redis
        self.lists: dict[tuple[str, str], list[bytes]] = {}
        self.sets = {name: SortedPayloads() for name in (*(place.key for place in places.sets()), "delayed")}
        self.stats: Counter[str] = Counter()
        self.crash_counts: Counter[str] = Counter()
        self.replies: dict[str, bytes] = {}
        self.in_quarantine: set[str] = set()
        self.queue_limits: dict[str, tuple[str, LimitSpec]] = {}
        self._consumed = consumed
        self._changed = trio.Event()
        self._faults: deque[tuple[BrokerError, bool]] = deque()
        self._admitted: dict[str, tuple[int, list[int | str]]] = {}
        self.limits = FakeLimits(
            self.sets["parked"], lambda queue, payload: self._queue(queue).append(payload), self.clock.now_s
        )
        self.held = FakeEffects(self.clock.now_s, self.limits)
        self.limits.expired = self.held.apply
        self.locks = FakeLocks(self.sets["next"], self.sets["schedule"], self._push, self.clock.now_s, self.held.apply)
        self.held.unlock = self.locks.unlock
        self.ticks = FakeTicks(self.clock.now_s, self._send)
        self.held.run_ended = self.ticks.ended
        self._claimed: dict[str, tuple[int, list[Answer]]] = {}
        self.batches = FakeBatches(
            self._push, self._encoded, self.sets["successors"], self.clock.now_s, self.held.apply
        )
        self.held.member_ended = self.batches.ended
        self._settled: tuple[int, dict[int, str]] = (0, {})

    # ── for tests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    at_once_bytes = PAGE_BYTES

    def fail_next(self, error: BrokerError, *, after: bool = False, times: int = 1) -> None:
        """Have the next calls raise, before they take effect or (their reply is lost) after."""
        self._faults.extend([(error, after)] * times)

    def sends_of(self, job: Job, name: str) -> Sends:
        """See `Sender.sends_of`."""
        del job, name
        return self

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """See `Sender.spoken_on`."""
        return self.sending.spoken_on(queue)

    def holds(self, queue: str) -> str:
        """See `Owner.holds`."""
        return self.keys.holds(queue, self.holder.process_id)

    def queue_of(self, payload: bytes) -> str:
        """Where a payload of a set would go."""
        return self.dialect.destination(payload)

    def has_work(self) -> bool:
        """Whether something waits on a consumed queue, or runs."""
        return any(self.queues.get(queue) for queue in self._consumed) or any(self.lists.values())

    def later(self) -> Iterator[bytes]:
        """What will come due."""
        due = (*(place.key for place in places.sets() if place.is_due), "delayed")
        return (payload for name in due for payload in self.sets[name])

    @property
    def next_change(self) -> trio.Event:
        """Set with the next move."""
        return self._changed

    async def _call(self, move: Callable[[], T], *, looks: bool = False) -> T:
        await trio.lowlevel.checkpoint()
        error, after = self._faults.popleft() if self._faults else (None, False)
        if error is not None and not after:
            raise error
        result = move()
        if not looks:
            self._changed.set()
            self._changed = trio.Event()
        if error is not None:
            raise error
        return result

    def _queue(self, queue: str) -> list[bytes]:
        return self.queues.setdefault(queue, [])

    def _list(self, queue: str, process_id: str = "") -> list[bytes]:
        return self.lists.setdefault((queue, process_id or self.holder.process_id), [])

    # ── the moves ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, sends: Iterable[Send], token: str = "") -> Met:
        """See `Sender.send`."""
        sends = list(sends)
        self.sending.work(sends, self.clock.now_s(), self.guard.check)  # refuses what can't be sent before anything is

        def move() -> Met:
            self.batches.check([send.job for send in sends])
            there = self.locks.refused(send.job for send in sends)
            if there is not None:
                raise duplicate(there)
            return self._send(sends)

        return await self._call(move)

    def _send(self, sends: Sequence[Send], given_up: tuple[str, str] | None = None) -> Met:
        now_s, met = self.clock.now_s(), {}
        for number, send in enumerate(sends):
            job = send.job
            if job.batch is not None and job.batch.after:
                continue  # it waits for others
            later = debounced(send)
            due_s = None if later.delay_s is None and later.at_s is None else later.due_s(now_s)
            dialect, keys = self.spoken_on(job.queue)
            payload = dialect.encode(job, now_s, enqueued=due_s is None, due_s=due_s)
            if job.lock is not None:
                goes_out, there, due_s = self.locks.send(job, job.lock, payload, due_s, given_up)
                if there is not None:
                    met[number] = there
                if not goes_out:
                    continue
            if due_s is None:
                self._push(job.queue, payload)
            else:
                waits_in = dialect.waits_in(payload, keys)
                self.sets["schedule" if waits_in == keys.schedule else "delayed"].add(payload, due_s)
        self.batches.add([send.job for send in sends])
        return met

    def _encoded(self, job: Job) -> bytes:
        return self.spoken_on(job.queue)[0].encode(job, self.clock.now_s())

    def _push(self, queue: str, payload: bytes) -> None:
        self.queues.setdefault(queue, []).insert(0, payload)

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """See `Settles.settle`."""

        def move() -> dict[int, str]:
            if number == self._settled[0]:
                return self._settled[1]
            if number < self._settled[0]:
                raise Refused("LATE")
            problems = {
                index: GONE
                for index, settlement in enumerate(group)
                if not isinstance(settlement.outcome, outcomes.LetGo) and not self._settle(settlement)
            }
            for index, settlement in enumerate(group):
                ours = index not in problems
                self.held.apply([effect for effect in settlement.effects if ours or effect[0] == "permit"])
            for jid in cleared:
                self.crash_counts.pop(jid, None)
                self.in_quarantine.discard(jid)
            self._settled = (number, problems)
            return problems

        return await self._call(move)

    def _settle(self, settlement: Settlement) -> bool:
        held, payload, now_s = self._list(settlement.queue), settlement.payload, self.clock.now_s()
        if payload not in held:
            return False
        held.remove(payload)
        match settlement.outcome:
            case outcomes.Acknowledge(sends, _):
                self._send(sends, given_up(settlement.effects))
                self._count(processed=1)
            case outcomes.Retry(amended, delay_s):
                self.sets["retry"].add_another(amended, now_s + delay_s)
                self._count(processed=1, failed=1)
            case outcomes.Bury(amended, counted=counted, failure=failure):
                self.sets["dead"].add(self.as_dead(amended, settlement.queue, failure), now_s)
                self._count(processed=int(counted), failed=int(counted))
            case outcomes.Discard():
                self._count(processed=1, failed=1)
            case outcomes.Expire():
                self._count(processed=1)
            case outcomes.Checkpoint(amended):
                held.append(amended)
            case outcomes.Snooze(amended, delay_s):
                self.sets["schedule"].add_another(amended, now_s + delay_s)
            case outcomes.Requeue(changed):
                self.queues.setdefault(settlement.queue, []).append(changed or payload)
        return True

    def as_dead(self, payload: bytes, queue: str, failure: Failure | None) -> bytes:
        """See `Owner.as_dead`. Kept as it is in every dialect: tests want to see the job."""
        del queue, failure
        return payload

    def _count(self, **numbers: int) -> None:
        self.stats.update(numbers)

    async def admit(self, queue: str, number: int, declared: Declared, batch: Sequence[Candidate]) -> list[int | str]:
        """See `Broker.admit`."""
        known = self._admitted.get(queue, (0, []))

        def move() -> list[int | str]:
            if number == known[0]:
                return known[1]
            if number < known[0]:
                raise Refused("LATE")
            decisions = self.limits.admit(queue, declared, batch, self._list(queue))
            self._admitted[queue] = (number, decisions)
            return decisions

        return await self._call(move)

    async def move_on(self) -> int:
        """See `Broker.move_on`. Here all is done at once."""
        return await self._call(lambda: 0, looks=True)

    async def cancelled(self, batches: Sequence[str]) -> set[str]:
        """See `Broker.cancelled`."""
        return await self._call(lambda: set(filter(self.batches.is_cancelled, batches)), looks=True)

    async def claim(self, queue: str, number: int, batch: Sequence[Claim]) -> list[Answer]:
        """See `Broker.claim`."""
        known = self._claimed.get(queue, (0, []))

        def move() -> list[Answer]:
            if number == known[0]:
                return known[1]
            if number < known[0]:
                raise Refused("LATE")
            answers = [self.locks.claim(queue, claim, self._list(queue)) for claim in batch]
            self._claimed[queue] = (number, answers)
            return answers

        return await self._call(move)

    async def tend(self, round_: Round) -> Tended:
        """See `Broker.tend`."""
        self.limits.declared.update(round_.declared)
        woken = await self._call(self.limits.fill, looks=self.limits.is_idle)
        return Tended(woken, since=round_.since or "0", next_in_s=self.limits.next_in_s())

    async def within(self, wants: Wants) -> Granted:
        """See `Broker.within`."""
        return await self._call(lambda: self.limits.within(wants), looks=True)

    async def put_periodic(self, entry: Periodic) -> None:
        """See `Sender.put_periodic`."""
        await self._call(lambda: self.ticks.put(entry))

    async def delete_periodic(self, name: str) -> bool:
        """See `Sender.delete_periodic`."""
        return await self._call(lambda: self.ticks.delete(name))

    async def ended(self, jid: str) -> Ended | None:
        """See `Sender.ended`."""
        text = await self._call(lambda: self.held.ended(jid), looks=True)
        return None if text is None else decode_ended(text)

    def news_of_end(self, jid: str) -> AbstractContextManager[News]:
        """See `Sender.news_of_end`."""
        del jid  # any move may be its end
        return nullcontext(FakeNews(self))

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `Sender.open_batch`."""

        def move() -> None:
            self.batches.check_opening(batch, opening)
            self.batches.open(batch, opening)

        await self._call(move)

    async def seal_batch(self, batch: str) -> None:
        """See `Sender.seal_batch`."""

        def move() -> None:
            known = self.batches.by_id.get(batch)
            if known is None or not known.cancelled:
                self.batches.check_addition(batch, known)
            self.batches.seal(batch)

        await self._call(move)

    async def cancel_batch(self, batch: str) -> bool:
        """See `Sender.cancel_batch`."""
        with trio.CancelScope(shield=True):
            is_cancelled = await self._call(lambda: self.batches.cancel(batch))
        return is_cancelled  # noqa: RET504 - for mypy a scope may swallow what returns inside it

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """See `Sender.member_result`."""

        def look() -> bytes | None:
            known = self.batches.by_id.get(batch)
            return None if known is None else known.results.get(name)

        return await self._call(look, looks=True)

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """See `Sender.recorded`."""

        def look() -> tuple[bytes | None, int]:
            steps = self.held.steps.get(jid, {})
            return steps.get(name), len(steps)

        return await self._call(look, looks=True)

    async def take_ticks(self, takes: Sequence[Take]) -> list[Taken]:
        """See `RedisBroker.take_ticks`."""

        def move() -> list[Taken]:
            answers = []
            for take in takes:
                try:
                    self.sending.work(take.sends, self.clock.now_s(), self.guard.check)
                except BadJob as error:
                    answers.append(Taken("error", str(error)))
                else:
                    answers.append(self.ticks.take(take))
            return answers

        return await self._call(move)

    async def register_cron(
        self, schedule: str, declared: Sequence[Declaration], since_s: float, *, sweep: bool = False
    ) -> Registered:
        """See `ticks.register`."""
        return await self._call(lambda: self.ticks.register(schedule, declared, since_s, sweep=sweep))

    async def due(self, limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        """See `Promotes.due`."""

        def move() -> Due:
            now_s = self.clock.now_s()
            coming = [at for name in DUE_SETS if (at := self.sets[name].next_after(now_s)) is not None]
            entries, tick_in_s = self.ticks.due(ticks, look=look)
            coming += [] if tick_in_s in (None, math.inf) else [now_s + tick_in_s]
            retry, schedule, delayed = (self.sets[name].due(now_s, limit) for name in DUE_SETS)
            next_in_s = min(coming) - now_s if coming else None
            return Due(retry, schedule, next_in_s, delayed, entries=entries, now_s=now_s, tick_in_s=tick_in_s)

        return await self._call(move, looks=True)

    async def reply(self, token: str, reply: bytes) -> None:
        """See `Promotes.reply`."""
        await self._call(lambda: self.replies.__setitem__(token, reply), looks=True)

    async def promote(
        self, source: DueSet, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """See `Promotes.promote`."""

        def move() -> tuple[int, list[str]]:
            moved = [entry for entry in entries if self.sets[source].remove(entry[0])]
            for _, queue, renewed in moved:
                if queue is None:
                    self.sets["dead"].add(renewed, self.clock.now_s())
                else:
                    self.queues.setdefault(queue, []).insert(0, renewed)
            return len(moved), []

        return await self._call(move)

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        """See `InProgress.audit`."""
        found = await self._call(lambda: list(self._list(queue)), looks=True)
        return None if len(found) == expected else Listed(Counter(found))

    async def count(self, queue: str, payloads: Iterable[bytes]) -> Counter[bytes]:
        """See `InProgress.count`."""
        found = await self._call(lambda: Counter(self._list(queue)), looks=True)
        return Counter({payload: found[payload] for payload in payloads})

    async def put_back(self, queue: str, payloads: Sequence[bytes], running: Sequence[Permit] = ()) -> int:
        """See `InProgress.put_back`."""

        def move() -> int:
            held = self._list(queue)
            present = [payload for payload in payloads if payload in held]
            for payload in present:
                held.remove(payload)
                self._queue(queue).append(payload)
            self.limits.let_list_go(queue, [permit.member for permit in running])
            return len(present)

        return await self._call(move)

    async def release(self, queue: str, limit: int = 500) -> int:
        """See `InProgress.release`."""

        def move() -> int:
            held = self._list(queue)
            moved = len(held)
            self._queue(queue).extend(held)
            held.clear()
            self.limits.let_list_go(queue)
            return moved

        return await self._call(move)

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        """See `Reclaims.crashes`."""
        return await self._call(
            lambda: {jid: self.crash_counts[jid] for jid in jids if jid in self.crash_counts}, looks=True
        )

    async def charge(self, jids: Sequence[str], times: int = 1) -> None:
        """See `Reclaims.charge`."""
        await self._call(lambda: self.crash_counts.update(dict.fromkeys(jids, times)))

    async def note_start(self, jid: str, *, alone: bool) -> None:
        """See `Reclaims.note_start`."""
        await self._call(lambda: self.in_quarantine.add(jid) if alone else None)

    @asynccontextmanager
    async def open_intake(self, queue: str) -> AsyncIterator[Intake]:
        """An intake for `queue`."""
        await trio.lowlevel.checkpoint()
        yield FakeIntake(self, queue)

    def take(self, queue: str, limit: int) -> list[bytes]:
        """Move up to `limit` payloads into our in-progress list, oldest first."""
        taken: list[bytes] = []
        while self.queues.get(queue) and len(taken) < limit:
            taken.append(self.queues[queue].pop())
            self._list(queue).insert(0, taken[-1])
        return taken
