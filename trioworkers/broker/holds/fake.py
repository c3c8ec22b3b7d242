"""What jobs and attempts hold, in memory: the fake broker's half of `limits.lua` and `effects.lua`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from trioworkers.broker.holds.limits import GONE, PARKED, START, Candidate
from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.exits import Effect

RESERVED_S = 30.0


@attrs.frozen
class Parked:
    """A job that waits for permits at `limit`; `payload`: as it lies where it is parked."""

    queue: str
    candidate: Candidate
    limit: str
    payload: bytes


@attrs.define
class FakeHolds:
    """`place`: where the payloads of parked jobs lie. `put_back(queue, payload)`: to the end of the queue that is fetched. `now_s`: epoch seconds."""

    place: SortedPayloads
    put_back: Callable[[str, bytes], None]
    now_s: Callable[[], float]
    concurrency: dict[str, int] = attrs.field(factory=dict)
    permits: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    reserved: defaultdict[str, dict[str, float]] = attrs.field(factory=lambda: defaultdict(dict))
    record: dict[str, tuple[str, str, tuple[str, ...]]] = attrs.field(factory=dict)
    """member → (queue, jid, limits)"""
    parked: list[Parked] = attrs.field(factory=list)
    results: dict[str, tuple[bytes, float]] = attrs.field(factory=dict)
    """jid → (how it ended, until when that is kept)"""

    def admit(
        self, queue: str, declared: Mapping[str, int], batch: Iterable[Candidate], held: list[bytes]
    ) -> list[int | str]:
        """See `broker.holds.limits.admit`. `held`: the in-progress list, which what is parked leaves."""
        self.concurrency = {**declared, **self.concurrency}
        decisions: list[int | str] = [self._decide(queue, candidate, held) for candidate in batch]
        for name in declared:
            self._fill(name)
        return decisions

    def _decide(self, queue: str, candidate: Candidate, held: list[bytes]) -> int:
        blocked = next((name for name in candidate.limits if not self._may(name, candidate.jid)), None)
        if blocked is None:
            for name in candidate.limits:
                self.reserved[name].pop(candidate.jid, None)
                self.permits[name].add(candidate.member)
            self.record[candidate.member] = (queue, candidate.jid, candidate.limits)
            return START
        if candidate.payload not in held:
            return GONE
        held.remove(candidate.payload)
        payload = self.place.add_another(candidate.payload, self.now_s())
        self.parked.append(Parked(queue, candidate, blocked, payload))
        return PARKED

    def _may(self, name: str, jid: str) -> bool:
        if jid in self._reservations(name):
            return True
        return self._free(name) > 0 and not any(each.limit == name for each in self.parked)

    def _reservations(self, name: str) -> dict[str, float]:
        self.reserved[name] = {jid: until for jid, until in self.reserved[name].items() if until > self.now_s()}
        return self.reserved[name]

    def _free(self, name: str) -> float:
        used = len(self.permits[name]) + len(self._reservations(name))
        return self.concurrency.get(name, float("inf")) - used

    def fill(self) -> None:
        """Forget those whose time is over, and hand out what is free, whatever it became free by."""
        for each in list(self.parked):
            if each.candidate.expires_s is not None and each.candidate.expires_s <= self.now_s():
                self.parked.remove(each)
                if self.place.remove(each.payload):
                    self.apply(each.candidate.on_expiry)
        for name in {each.limit for each in self.parked}:
            self._fill(name)

    def _fill(self, name: str) -> None:
        woken: list[Parked] = []
        for each in [each for each in self.parked if each.limit == name]:
            candidate = each.candidate
            if self._free(name) <= 0:
                break
            if each.payload not in self.place:  # somebody took it from where it was parked
                self.parked.remove(each)
                continue
            if candidate.expires_s is not None and candidate.expires_s <= self.now_s():
                self.parked.remove(each)
                self.place.remove(each.payload)
                self.apply(candidate.on_expiry)
                continue
            full = next((other for other in candidate.limits if self._free(other) <= 0), None)
            if full is not None:
                self.parked[self.parked.index(each)] = attrs.evolve(each, limit=full)
                continue
            self.parked.remove(each)
            self.place.remove(each.payload)
            for other in candidate.limits:
                self.reserved[other][candidate.jid] = self.now_s() + RESERVED_S
            woken.append(each)
        for each in reversed(woken):
            self.put_back(each.queue, each.payload)

    def apply(self, effects: Sequence[Effect]) -> None:
        """See `effects.lua`."""
        for kind, *rest in effects:
            if kind == "result":
                jid, text, keep_s = rest
                self.results[jid] = (text, self.now_s() + keep_s)
            else:
                _, member, limits, jid = rest
                self._let_go(member, limits, jid)

    def let_list_go(self, queue: str, running: Sequence[str] = ()) -> None:
        """All that attempts of a queue hold, but for the members in `running`; kept for their jobs."""
        for member, (where, jid, limits) in list(self.record.items()):
            if where == queue and member not in running:
                self._let_go(member, limits, jid)

    def _let_go(self, member: str, limits: Sequence[str], jid: str) -> None:
        self.record.pop(member, None)
        for name in limits:
            if member in self.permits[name]:
                self.permits[name].discard(member)
                if jid:
                    self.reserved[name][jid] = self.now_s() + RESERVED_S
        for name in limits:
            self._fill(name)

    def ended(self, jid: str) -> bytes | None:
        """How a job ended, while that is kept."""
        text, until = self.results.get(jid, (None, 0.0))
        return text if until > self.now_s() else None
