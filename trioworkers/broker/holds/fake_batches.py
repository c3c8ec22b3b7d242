"""Batches in memory: the fake broker's half of `batches.lua`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import attrs

from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.errors import Refused
from trioworkers.exits import Effect, on_exit
from trioworkers.wire.job import Job
from trioworkers.wire.membership import MAX_DEPTH, Membership, Opening


@attrs.define
class Successor:
    """A member that waits. `payload`: as it lies; `before`: the jids that it waits for; `ends`: effects if it is skipped."""

    payload: bytes
    queue: str
    before: set[str]
    on_failure: str
    ends: Sequence[Effect]


@attrs.define
class FakeBatch:
    """One batch. `ended`: how many members ended how; `ends`: which did how; `fired`: the events that have been."""

    opening: Opening
    depth: int = 1
    sealed: bool = False
    cancelled: bool = False
    pending: set[str] = attrs.field(factory=set)
    dead: set[str] = attrs.field(factory=set)
    ended: Counter[str] = attrs.field(factory=Counter)
    ends: dict[str, str] = attrs.field(factory=dict)
    fired: set[str] = attrs.field(factory=set)
    total: int = 0
    waiting: dict[str, Successor] = attrs.field(factory=dict)
    results: dict[str, bytes] = attrs.field(factory=dict)
    names: set[str] = attrs.field(factory=set)


@attrs.define
class FakeBatches:
    """`push(queue, payload)`: into a queue; `encode`: a job as it is sent now; `place`: where those lie that wait; `apply`: effects."""

    push: Callable[[str, bytes], None]
    encode: Callable[[Job], bytes]
    place: SortedPayloads
    now_s: Callable[[], float]
    apply: Callable[[Sequence[Effect]], None]
    by_id: dict[str, FakeBatch] = attrs.field(factory=dict)

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise Refused for members that can't be added."""
        opened: set[str] = set()
        for job in jobs:
            if job.batch is None:
                continue
            batch, opening = self.by_id.get(job.batch.batch), job.batch.opening
            if opening is not None:
                self.check_opening(job.batch.batch, opening)
                opened.add(job.batch.batch)
            elif job.batch.batch not in opened:
                self.check_addition(job.batch.batch, batch)
            if batch is not None and job.batch.name in batch.names:
                raise Refused(f"ERR batch {job.batch.batch} has a member named {job.batch.name} already")
            if batch is not None and job.jid in batch.pending:
                raise Refused(f"ERR job {job.jid} is in batch {job.batch.batch} already")

    def check_opening(self, batch: str, opening: Opening) -> None:
        """Raise Refused for a batch that can't come into being."""
        if batch in self.by_id:
            raise Refused(f"ERR batch {batch} is there already")
        if opening.parent is not None:
            self.check_addition(opening.parent, self.by_id.get(opening.parent))
            parent = self.by_id[opening.parent]
            if parent.depth >= MAX_DEPTH:
                raise Refused(f"ERR batches are nested {MAX_DEPTH} deep at most")

    def check_addition(self, batch: str, known: FakeBatch | None) -> None:
        """Raise Refused if nothing can be added to it. One that is over, but has dead members, takes what these add when they are retried."""
        if known is None or ("finished" in known.fired and not known.dead):
            raise Refused(f"ERR batch {batch} is over, or never was: nothing can be added to it")
        if known.cancelled:
            raise Refused(f"ERR batch {batch} is cancelled: nothing can be added to it")

    def add(self, jobs: Sequence[Job], unsent: Collection[str] = ()) -> None:
        """They have been sent, but for unique ones that met another one: these are no members."""
        opened: dict[str, Opening] = {}
        for job in jobs:
            if job.batch is not None:
                if job.batch.opening is not None:
                    opened[job.batch.batch] = job.batch.opening
                    self.open(job.batch.batch, job.batch.opening)
                known = self.by_id[job.batch.batch]
                if job.jid in unsent:
                    known.ends[job.jid] = "unsent"
                    continue
                known.pending.add(job.jid)
                known.total += 1
                if job.batch.name:
                    known.names.add(job.batch.name)
                if job.batch.after:
                    self._keep(known, job, job.batch)
        for batch, opening in opened.items():
            if opening.sealed:
                self.seal(batch)

    def _keep(self, known: FakeBatch, job: Job, membership: Membership) -> None:
        payload, policy = self.encode(job), membership.on_failure
        ends = [effect for effect in on_exit(payload, "skipped") if effect[0] != "member"]
        hows = {jid: known.ends.get(jid, "pending") for jid in membership.after}
        before = {jid for jid, how in hows.items() if how == "pending" or (how == "dead" and policy == "wait")}
        if policy != "run" and any(hows[jid] != "succeeded" for jid in hows.keys() - before):
            self.apply(ends)
            self.ended(membership.batch, job.jid, "skipped")
            return
        if not before:
            self.push(job.queue, payload)
            return
        lies = self.place.add_another(payload, self.now_s())
        known.waiting[job.jid] = Successor(lies, job.queue, before, policy, ends)

    def _follow(self, known: FakeBatch, jid: str, how: str) -> list[str]:
        """What waits for a member that has ended goes on, or is skipped. Returns the jids of those that are skipped."""
        skipped: list[str] = []
        for follower, waits in list(known.waiting.items()):
            if jid not in waits.before:
                continue
            if how == "succeeded" or waits.on_failure == "run":
                waits.before.discard(jid)
                if not waits.before:
                    del known.waiting[follower]
                    if self.place.remove(waits.payload):
                        self.push(waits.queue, waits.payload)
            elif waits.on_failure == "cancel" or how != "dead":
                del known.waiting[follower]
                if self.place.remove(waits.payload):
                    self.apply(waits.ends)
                    skipped.append(follower)
        return skipped

    def open(self, batch: str, opening: Opening) -> None:
        """It comes into being."""
        known = self.by_id[batch] = FakeBatch(opening)
        if opening.parent is not None:
            parent = self.by_id[opening.parent]
            parent.pending.add(f"B:{batch}")
            parent.total += 1
            known.depth = parent.depth + 1

    def seal(self, batch: str) -> None:
        """No more members come from outside."""
        self.by_id[batch].sealed = True
        self._look(batch)

    def cancel(self, batch: str) -> bool:
        """It takes no more members."""
        known = self.by_id.get(batch)
        if known is None or "finished" in known.fired:
            return False
        known.cancelled = known.sealed = True
        known.ended["cancelled"] += 1
        self._look(batch)
        return True

    @property
    def some_are_cancelled(self) -> bool:
        """Whether any is, and isn't over."""
        return any(each.cancelled and "finished" not in each.fired for each in self.by_id.values())

    def is_cancelled(self, batch: str) -> bool:
        """Whether it is, or lies in one that is, and that isn't over."""
        known = self.by_id.get(batch)
        while known is not None:
            if known.cancelled and "finished" not in known.fired:
                return True
            known = self.by_id.get(known.opening.parent or "")
        return False

    def ended(self, batch: str, jid: str, how: str, name: str = "", value: bytes = b"") -> None:
        """A member has ended."""
        known = self.by_id.get(batch)
        if known is None:
            return
        if name and jid in known.pending | known.dead:
            known.results[name] = value
        ends = [(jid, how)]
        for jid, how in ends:  # noqa: PLR1704 - it grows by those that are skipped
            if jid in known.pending or jid in known.dead:
                known.pending.discard(jid)
                known.dead.discard(jid)
                known.ends[jid] = how
                if how == "dead":
                    known.dead.add(jid)
                else:
                    known.ended[how] += 1
                ends.extend((skipped, "skipped") for skipped in self._follow(known, jid, how))
        self._look(batch)

    def _look(self, batch: str) -> None:
        known = self.by_id[batch]
        if known.dead:
            self._fire(batch, "death")
        if not known.sealed or known.pending:
            return
        self._fire(batch, "finished")
        all_succeeded = not known.dead and set(known.ended) <= {"succeeded"}
        if all_succeeded:
            self._fire(batch, "success")
        if known.opening.parent is not None:
            how = "dead" if known.dead else "succeeded" if all_succeeded else "discarded"
            self.ended(known.opening.parent, f"B:{batch}", how)

    def _fire(self, batch: str, event: str) -> None:
        known = self.by_id[batch]
        if event not in known.fired:
            known.fired.add(event)
            if event in known.opening.callbacks:
                job = attrs.evolve(known.opening.callbacks[event], jid=f"{batch}-{event}")
                self.push(job.queue, self.encode(job))
