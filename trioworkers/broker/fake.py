"""A broker in memory, on the virtual clock, which passes the same contract tests as the real one.

It can be told to misbehave: `fail_next` raises in place of the next calls, before or after they took effect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from trioworkers import outcome as outcomes
from trioworkers.broker.contract import (
    Due,
    DueSet,
    Intake,
    Listed,
    Settlement,
)
from trioworkers.broker.fake_intake import FakeIntake
from trioworkers.broker.fake_sender import FakeSender
from trioworkers.broker.holds.limits import Candidate, Declared, Round, Tended
from trioworkers.broker.holds.locks import Answer, Claim
from trioworkers.broker.holds.ticks import Declaration, Registered, Take, Taken
from trioworkers.broker.holds.within import Granted, Wants
from trioworkers.departures import Permit
from trioworkers.errors import BadJob, Refused
from trioworkers.exits import given_up
from trioworkers.wire.dialect import Failure

DUE_SETS = ("retry", "schedule", "delayed")
GONE = "gone"


class FakeBroker(FakeSender):
    """See the module, and for its arguments `FakeStore`."""

    # ── outcomes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """See `Settles.settle`."""

        def move() -> dict[int, str]:
            if number == self._settled[0]:
                return self._settled[1]
            if number < self._settled[0]:
                raise Refused("LATE")
            found = {
                index: self._settle(settlement)
                for index, settlement in enumerate(group)
                if not isinstance(settlement.outcome, outcomes.LetGo)
            }
            problems = {index: problem for index, problem in found.items() if problem}
            for index, settlement in enumerate(group):
                ours = index not in problems
                self.held.apply([effect for effect in settlement.effects if ours or effect[0] == "permit"])
            for jid in cleared:
                self.crash_counts.pop(jid, None)
                self.in_quarantine.discard(jid)
            self._settled = (number, problems)
            return problems

        return await self._call(move)

    def _settle(self, settlement: Settlement) -> str:
        """Why it can't be written; empty if it is."""
        if problem := self._problem(settlement):
            return problem
        held, payload, now_s = self._list(settlement.queue), settlement.payload, self.clock.now_s()
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
        return ""

    def _problem(self, settlement: Settlement) -> str:
        if settlement.payload not in self._list(settlement.queue):
            return GONE
        if isinstance(settlement.outcome, outcomes.Acknowledge):
            try:
                self.batches.check([send.job for send in settlement.outcome.sends])
            except Refused as error:
                return str(error)
        return ""

    def as_dead(self, payload: bytes, queue: str, failure: Failure | None) -> bytes:
        """See `Owner.as_dead`. Kept as it is in every dialect: tests want to see the job."""
        del queue, failure
        return payload

    def _count(self, **numbers: int) -> None:
        self.stats.update(numbers)

    # ── before the start ───────────────────────────────────────────────────────────────────────────────────────────────

    def holds(self, queue: str) -> str:
        """See `Owner.holds`."""
        return self.keys.holds(queue, self.holder.process_id)

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

    async def cancelled(self, batches: Sequence[str]) -> set[str]:
        """See `Broker.cancelled`."""
        return await self._call(lambda: set(filter(self.batches.is_cancelled, batches)), looks=True)

    async def within(self, wants: Wants) -> Granted:
        """See `Broker.within`."""
        return await self._call(lambda: self.limits.within(wants), looks=True)

    async def tend(self, round_: Round) -> Tended:
        """See `Broker.tend`."""
        self.limits.declared.update(round_.declared)
        woken = await self._call(self.limits.fill, looks=self.limits.is_idle)
        return Tended(woken, since=round_.since or "0", next_in_s=self.limits.next_in_s())

    async def move_on(self) -> int:
        """See `Broker.move_on`. Here all is done at once."""
        return await self._call(lambda: 0, looks=True)

    # ── what is due ────────────────────────────────────────────────────────────────────────────────────────────────────

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

    def queue_of(self, payload: bytes) -> str:
        """Where a payload of a set would go."""
        return self.dialect.destination(payload)

    # ── the in-progress list ───────────────────────────────────────────────────────────────────────────────────────────

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
