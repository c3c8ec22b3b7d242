"""Periodic jobs in memory: the fake broker's half of `ticks.lua` and `register_cron.lua`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from trioworkers.broker.holds.cron_entries import FORGOTTEN_AFTER_S, NEWS_S
from trioworkers.broker.holds.ticks import Declaration, DueEntry, Registered, Take, Taken
from trioworkers.errors import ConfigurationError
from trioworkers.send import Send
from trioworkers.wire.periodic import KEPT_RUNS, Periodic, Run, encode_entry


@attrs.define
class FakeEntry:
    """One entry: see `ticks.lua`."""

    definition: bytes
    timing: str
    since_s: float
    origin: str = "code"
    paused: bool = False
    broken: str = ""


def spelled(score: float) -> bytes:
    """A score as Redis says it."""
    return f"{score:.17g}".encode()


@attrs.define
class FakeTicks:
    """`send`: puts jobs where they belong, and says which unique ones met another, by their number."""

    now_s: Callable[[], float]
    send: Callable[[Sequence[Send]], dict[int, str]]
    next: dict[bytes, float] = attrs.field(factory=dict)
    """By entry its next tick."""
    entries: dict[bytes, FakeEntry] = attrs.field(factory=dict)
    runs: dict[str, dict[str, Run]] = attrs.field(factory=dict)
    declared: dict[str, float] = attrs.field(factory=dict)
    names: dict[str, set[bytes]] = attrs.field(factory=dict)
    news_until_s: float = 0.0

    def _set_next(self, name: bytes, next_s: float) -> None:
        self.next[name] = next_s
        self.news_until_s = self.now_s() + NEWS_S

    def due(self, ticks: int, *, look: bool = True) -> tuple[list[DueEntry], float | None]:
        """Those that are due, and seconds until there is another one: see `Due.tick_in_s`."""
        now_s = self.now_s()
        if not ticks or not (look or now_s < self.news_until_s):
            return [], None
        by_score = sorted((score, name) for name, score in self.next.items())
        due = [(name, score) for score, name in by_score if score <= now_s][:ticks]
        found = [DueEntry(name, spelled(score), self._definition(name)) for name, score in due]
        coming = [score - now_s for score, _ in by_score if now_s < score < math.inf]
        return found, 0.0 if len(found) == ticks else min(coming, default=math.inf)

    def _definition(self, name: bytes) -> bytes:
        return self.entries[name].definition if name in self.entries else b""

    def take(self, take: Take) -> Taken:
        """See `ticks.take_ticks`."""
        name = take.entry.name
        score, entry = self.next.get(name, math.nan), self.entries.get(name)
        if spelled(score) != take.entry.tick or score > self.now_s():
            return Taken("late" if spelled(score) != take.entry.tick else "early")
        if take.broken:
            return self._put_aside(name, entry, take.broken)
        if entry is None or entry.definition != take.entry.definition:
            return Taken("changed")
        if entry.origin != "dynamic" and not self._is_declared(name):
            self._forget(name)
            return Taken("forgotten")
        if not take.next_s > score:
            return Taken("error", "the next tick is not after this one")
        for run in take.runs:  # first, for one of them may replace another
            self._note(name, run)
        skipped = self.send(take.sends)
        self.next[name] = take.next_s
        for number, run in enumerate(take.runs):
            if take.skips and number in skipped:
                self.ended(take.entry.name.decode(errors="replace"), run.jid, "skipped")
        return Taken("taken", skipped=skipped)

    def _put_aside(self, name: bytes, entry: FakeEntry | None, reason: str) -> Taken:
        if entry is None:
            del self.next[name]
        else:
            entry.broken, self.next[name] = reason, math.inf
        return Taken("taken")

    def _is_declared(self, name: bytes) -> bool:
        heard = self.now_s() - FORGOTTEN_AFTER_S
        return any(name in self.names[schedule] for schedule, at_s in self.declared.items() if at_s > heard)

    def _forget(self, name: bytes) -> None:
        self.next.pop(name, None)
        self.entries.pop(name, None)
        self.runs.pop(name.decode(errors="replace"), None)

    def _note(self, name: bytes, run: Run) -> None:
        runs = self.runs.setdefault(name.decode(errors="replace"), {})
        now_s = self.now_s()
        runs.pop(run.jid, None)
        runs[run.jid] = attrs.evolve(run, at_s=now_s, ended_s=None if run.how == "sent" else now_s)
        for jid in list(runs)[:-KEPT_RUNS]:
            del runs[jid]

    def ended(self, entry: str, jid: str, how: str) -> None:
        """A run has ended."""
        run = self.runs.get(entry, {}).get(jid)
        if run is not None:
            self.runs[entry][jid] = attrs.evolve(run, how=how, ended_s=self.now_s())

    def put(self, entry: Periodic) -> None:
        """See `ticks.put`."""
        try:
            definition, following = encode_entry(entry), entry.when.after(int(self.now_s()))
        except ValueError as error:
            raise ConfigurationError(f"periodic job {entry.name}: {error}") from None
        name = entry.name.encode()
        before = self.entries.get(name)
        if before is not None and before.origin == "code" and self._is_declared(name):
            raise ConfigurationError(f"periodic job {entry.name} is declared in code, and is changed there")
        self.entries[name] = FakeEntry(definition, entry.timing, self.now_s(), "dynamic")
        if before is None or before.timing != entry.timing:
            self._set_next(name, math.inf if following is None else following)

    def delete(self, name: str) -> bool:
        """See `ticks.delete`."""
        there = self.entries.get(name.encode())
        if there is not None and there.origin == "code" and self._is_declared(name.encode()):
            raise ConfigurationError(f"periodic job {name} is declared in code: pause it, or take it out there")
        self._forget(name.encode())
        return there is not None

    def register(self, schedule: str, declared: Sequence[Declaration], since_s: float, *, sweep: bool) -> Registered:
        """See `ticks.register`."""
        changed = [each.name for each in declared if self._declare(each, since_s)]
        if declared:
            self.names.setdefault(schedule, set()).update(each.name.encode() for each in declared)
            self.declared[schedule] = math.inf  # its one worker is heard of as long as it is there
        left = [name for name in self.entries if self._left(name)] if sweep else []
        for name in left:
            self._forget(name)
        return Registered(changed, [name.decode() for name in left])

    def _left(self, name: bytes) -> bool:
        return self.entries[name].origin == "code" and not self._is_declared(name)

    def _declare(self, each: Declaration, started: float) -> bool:
        name = each.name.encode()
        before = self.entries.get(name)
        changed = before is None or before.definition != each.definition
        latest_s = 0.0 if before is None else before.since_s
        if changed and latest_s >= started:
            return False
        paused = before is not None and before.paused
        self.entries[name] = FakeEntry(each.definition, each.timing, max(latest_s, started), paused=paused)
        score = self.next.get(name, math.inf)
        if paused:
            self.next[name] = math.inf
        elif score == math.inf or before is None or before.timing != each.timing:
            self._set_next(name, each.next_s)
        return changed
