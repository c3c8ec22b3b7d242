"""Permits, and who waits for them, in memory: the fake broker's half of `limits.lua`."""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import attrs

from trioworkers.broker.holds.limits import GONE, PARKED, START, Candidate, Declared
from trioworkers.broker.holds.within import GOES_ON, Granted, Part, Wants
from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.exits import Effect
from trioworkers.wire.limit_spec import LimitSpec

RESERVED_S = 30.0
PATIENT_AFTER_S, LONGEST_KEPT_S = 60.0, 3600.0
"""As in `limits.lua`."""
UNLIMITED = LimitSpec(0)


@attrs.define(eq=False)
class Parked:
    """A job that waits for permits; `payload`: as it lies where it is parked, None within its slot; `number`: in which order they came."""

    queue: str
    candidate: Candidate
    payload: bytes | None
    number: int
    since_s: float = 0.0

    def is_over(self, now_s: float) -> bool:
        """Whether its time is over."""
        return self.candidate.expires_s is not None and self.candidate.expires_s <= now_s


@attrs.define
class Gate:
    """When one more may start under a limit, apart from permits. `arrival_s`: of the next start, were they evenly spaced; `closed_s`: until when it is closed.

    `due_s`: since when somebody waits who could start but that nobody has looked.
    """

    arrival_s: float = 0.0
    closed_s: float = 0.0
    due_s: float = math.inf

    def next_arrival_s(self, now_s: float) -> float:
        """With what is made up for, because a look came late."""
        return max(self.arrival_s, now_s - min(max(now_s - self.due_s, 0.0), 1.0))


@attrs.define
class FakeLimits:
    """`place`: where the payloads of parked jobs lie. `put_back(queue, payload)`: to the end of the queue that is fetched. `now_s`: epoch seconds."""

    place: SortedPayloads
    put_back: Callable[[str, bytes], None]
    now_s: Callable[[], float]
    declared: dict[str, LimitSpec] = attrs.field(factory=dict)
    permits: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    reserved: defaultdict[str, dict[str, float]] = attrs.field(factory=lambda: defaultdict(dict))
    gates: defaultdict[str, Gate] = attrs.field(factory=lambda: defaultdict(Gate))
    record: dict[str, tuple[str, str, tuple[str, ...]]] = attrs.field(factory=dict)
    """member → (queue, jid, limits)"""
    parked: defaultdict[str, list[Parked]] = attrs.field(factory=lambda: defaultdict(list))
    """By the limit at which they wait, in order."""
    patient: dict[str, float] = attrs.field(factory=dict)
    """By limit, until when nobody else keeps a permit while it waits for others."""
    count: int = 0
    expired: Callable[[Sequence[Effect]], None] = lambda _: None
    """Told what is to be done about what a parked job held whose time is over."""

    # ── admission ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, queue: str, declared: Declared, batch: Iterable[Candidate], held: list[bytes]) -> list[int | str]:
        """See `broker.holds.limits.admit`. `held`: the in-progress list, which what is parked leaves."""
        self.declared = {**declared, **self.declared}
        decisions: list[int | str] = [self._decide(queue, candidate, held) for candidate in batch]
        for name in {name for candidate in batch for name in candidate.limits}:
            self._fill(name)
        return decisions

    def _decide(self, queue: str, candidate: Candidate, held: list[bytes]) -> int:
        blocked = next((name for name in candidate.limits if not self._may(name, candidate.jid)), None)
        if blocked is None:
            for name in candidate.limits:
                if candidate.jid in self._reservations(name):
                    del self.reserved[name][candidate.jid]
                else:
                    self._spend(name)
                self.permits[name].add(candidate.member)
            self.record[candidate.member] = (queue, candidate.jid, candidate.limits)
            return START
        if candidate.payload not in held:
            return GONE
        held.remove(candidate.payload)
        first = any(self.reserved[name].pop(candidate.jid, None) is not None for name in candidate.limits)
        payload = self.place.add_another(candidate.payload, self.now_s())
        self.count += 1
        self._wait(blocked, Parked(queue, candidate, payload, -self.count if first else self.count, self.now_s()))
        return PARKED

    def _wait(self, name: str, each: Parked) -> None:
        insort(self.parked[name], each, key=lambda parked: parked.number)

    def _may(self, name: str, jid: str) -> bool:
        if jid in self._reservations(name):
            return self.gates[name].closed_s <= self.now_s()
        return self._free_at(name) <= self.now_s() and not self.parked[name]

    # ── whether one more may start ─────────────────────────────────────────────────────────────────────────────────────

    def _spec(self, name: str) -> LimitSpec:
        return self.declared.get(name.partition(":")[0], UNLIMITED)

    def _reservations(self, name: str) -> dict[str, float]:
        self.reserved[name] = {jid: until for jid, until in self.reserved[name].items() if until > self.now_s()}
        return self.reserved[name]

    def _free_at(self, name: str) -> float:
        """The moment at which one more may start; inf: when somebody lets a permit go."""
        spec, gate = self._spec(name), self.gates[name]
        if gate.closed_s > self.now_s():
            return gate.closed_s
        used = len(self.permits[name]) + len(self._reservations(name))
        if spec.concurrency and used >= spec.concurrency:
            return math.inf
        at = gate.next_arrival_s(self.now_s()) - (spec.burst - 1) * spec.interval_s - 1e-6
        return at if at > self.now_s() else 0.0

    def _spend(self, name: str, count: int = 1) -> None:
        gate = self.gates[name]
        gate.arrival_s = gate.next_arrival_s(self.now_s()) + count * self._spec(name).interval_s

    def _note_due(self, name: str, *, waits: bool) -> None:
        """Since when the next one could start, if somebody waits for nothing but time."""
        at, gate = self._free_at(name), self.gates[name]
        gate.due_s = at if waits and at > gate.closed_s and at > self.now_s() else math.inf

    # ── within slots ───────────────────────────────────────────────────────────────────────────────────────────────────

    def within(self, wants: Wants) -> Granted:
        """See `broker.holds.within.within`."""
        for part in wants.leaving:
            self.let_go(part.member, (part.name,), "")
        moments = [self._enter(part) for part in wants.entering]
        for name in {part.name for part in wants.asking}:
            self._fill(name)
        asked = {part.member for part in (*wants.entering, *wants.asking)}
        return Granted(moments, frozenset(member for member in asked if self.record.get(member, ("", "", ()))[2]))

    def _enter(self, part: Part) -> str:
        self.declared.setdefault(part.name.partition(":")[0], part.spec)
        if part.member in self.record:
            return GOES_ON if self.record[part.member][2] else "waits"
        self.record[part.member] = (part.queue, part.jid, ())
        self.count += 1
        candidate = Candidate(b"", part.member, part.jid, (part.name,))
        self._wait(part.name, Parked(part.queue, candidate, None, self.count))
        self._fill(part.name)
        return GOES_ON if self.record[part.member][2] else "waits"

    def _serve_within(self, each: Parked) -> bool:
        member, limits = each.candidate.member, each.candidate.limits
        if member not in self.record:
            return False
        self.record[member] = (each.queue, each.candidate.jid, limits)
        for name in limits:
            self._spend(name)
            self.permits[name].add(member)
        return True

    # ── limits of queues ───────────────────────────────────────────────────────────────────────────────────────────────

    def may_take(self, name: str, spec: LimitSpec, most: int, running: int) -> int:
        """See `queue_limit.lua`. `running`: how many jobs of its queues are in progress."""
        self.declared.setdefault(name, spec)
        spec, gate, now_s = self.declared[name], self.gates[name], self.now_s()
        if gate.closed_s > now_s:
            return 0
        if spec.concurrency:
            most = min(most, spec.concurrency - running)
        if spec.interval_s:
            most = min(most, math.floor((now_s - gate.next_arrival_s(now_s)) / spec.interval_s + spec.burst + 1e-6))
        return max(0, most)

    def took(self, name: str, count: int, *, waits: bool) -> float | None:
        """So many were taken. Seconds until somebody may look again; None: when something is in the queue."""
        if count:
            self._spend(name, count)
        self._note_due(name, waits=waits)
        soon_s = self._free_at(name) - self.now_s()
        return min(1.0, max(soon_s + 2e-6, 0.001)) if waits else None

    # ── who waits ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not any(self.parked.values())

    def next_in_s(self) -> float | None:
        """When upkeep is to look again at who waits; None if nobody does."""
        names = [name for name, waiting in self.parked.items() if waiting]
        coming = [self._free_at(name) for name in names]
        expiries = (each.candidate.expires_s for name in names for each in self.parked[name])
        coming += [expires_s for expires_s in expiries if expires_s is not None]
        coming += [until for name in names for until in self._reservations(name).values()]
        soonest = min(coming, default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - self.now_s() + 1e-6)

    def fill(self) -> int:
        """Forget those whose time is over, and hand out what is free, whatever it became free by. How many were woken."""
        for waiting in self.parked.values():
            for each in [each for each in waiting if each.is_over(self.now_s())]:
                waiting.remove(each)
                self._expire(each)
        return sum(self._fill(name) for name in list(self.parked))

    def _fill(self, name: str) -> int:
        waiting, woken = self.parked[name], []
        while waiting and self._free_at(name) <= self.now_s():
            each = waiting.pop(0)
            if self._serve(name, each):
                woken.append(each)
        for each in reversed(woken):
            if each.payload is not None:
                self.put_back(each.queue, each.payload)
        self._note_due(name, waits=bool(waiting))
        return len(woken)

    def _has_or_finds(self, name: str, jid: str) -> bool:
        if jid in self._reservations(name):
            return self.gates[name].closed_s <= self.now_s()
        return self._free_at(name) <= self.now_s()

    def _keep_early(self, name: str, each: Parked) -> None:
        """See `keep_early` in `limits.lua`."""
        jid, now_s = each.candidate.jid, self.now_s()
        waited_s = now_s - each.since_s
        if waited_s < PATIENT_AFTER_S or jid in self._reservations(name) or self.patient.get(name, 0.0) > now_s:
            return
        lasts_s = min(waited_s / 10, LONGEST_KEPT_S)
        self.patient[name] = now_s + 10 * lasts_s
        self._spend(name)
        self.reserved[name][jid] = now_s + lasts_s

    def _serve(self, name: str, each: Parked) -> bool:
        """Whether it was woken."""
        candidate, now_s = each.candidate, self.now_s()
        if each.payload is None:
            return self._serve_within(each)
        if each.payload not in self.place:  # somebody took it from where it was parked
            return False
        if each.is_over(now_s):
            self._expire(each)
            return False
        full = next((other for other in candidate.limits if not self._has_or_finds(other, candidate.jid)), None)
        if full is not None:
            if self.gates[full].closed_s <= now_s:
                self._keep_early(name, each)
            self._wait(full, each)
            return False
        self.place.remove(each.payload)
        for other in candidate.limits:
            if candidate.jid not in self._reservations(other):
                self._spend(other)
            self.reserved[other][candidate.jid] = now_s + RESERVED_S
        return True

    def _expire(self, each: Parked) -> None:
        if each.payload is None or not self.place.remove(each.payload):
            return
        if each.candidate.goes_back:
            self.put_back(each.queue, each.payload)
        else:
            self.expired(each.candidate.on_expiry)

    # ── departures ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self, limits: Sequence[str], seconds: float) -> None:
        """Nothing starts under them for so long."""
        for name in limits:
            self.gates[name].closed_s = max(self.gates[name].closed_s, self.now_s() + seconds)

    def let_list_go(self, queue: str, running: Sequence[str] = ()) -> None:
        """All that attempts of a queue hold, but for the members in `running`; kept for their jobs."""
        for member, (where, jid, limits) in list(self.record.items()):
            if where == queue and member not in running:
                self.let_go(member, limits, jid)

    def let_go(self, member: str, limits: Sequence[str], jid: str) -> None:
        """What an attempt holds that leaves its worker; kept for job `jid`, if that is one."""
        self.record.pop(member, None)
        for name in limits:
            if member in self.permits[name]:
                self.permits[name].discard(member)
                if jid and "within" not in member:
                    self.reserved[name][jid] = self.now_s() + RESERVED_S
        for name in limits:
            self._fill(name)
