"""Locks of unique jobs in memory: the fake broker's half of `unique.lua` and `claim_locks.lua`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from trioworkers.broker.holds.locks import GONE, KEPT, START, Answer, Claim
from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.exits import Effect, on_exit
from trioworkers.wire.job import Job
from trioworkers.wire.lock import Lock

DROPS = ("skip", "raise", "throttle")
"""What a job says that is not kept if another one has its lock."""


@attrs.frozen
class Next:
    """What is to take a lock over. `payload`: as it lies; `queue`: its own; `due_s`: when it is due, of one that waits for that; `follows`: the one that runs."""

    jid: str
    payload: bytes
    queue: str
    due_s: float | None
    follows: bool
    ends: Sequence[Effect] = ()


@attrs.define
class Held:
    """A lock that a job has. `waiting`: the payload of a debounced one as it is scheduled. `ends`: effects of its replacement."""

    jid: str
    since_s: float
    next: Next | None = None
    waiting: bytes | None = None
    ends: Sequence[Effect] = ()


@attrs.define
class FakeLocks:
    """`place`, `schedule`: where those lie that are to take a lock over, and those that wait for their time. `push(queue, payload)`: into a queue."""

    place: SortedPayloads
    schedule: SortedPayloads
    push: Callable[[str, bytes], None]
    now_s: Callable[[], float]
    apply: Callable[[Sequence[Effect]], None]
    locks: dict[str, Held] = attrs.field(factory=dict)
    spells: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    """key → (jid of the one that was sent, until when it is the only one)"""

    # ── sent ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def refused(self, jobs: Iterable[Job], given_up: tuple[str, str] | None = None) -> str | None:
        """The jid of a job that is there already, for one of these that says that this is an error."""
        first: dict[str, str] = {}
        for job in jobs:
            if job.lock is not None and job.lock.until != "spell":
                there = first.setdefault(job.lock.key, self._holder(job.lock.key, given_up) or job.jid)
                if job.lock.on_conflict == "raise" and there != job.jid:
                    return there
        return None

    def _holder(self, key: str, given_up: tuple[str, str] | None) -> str | None:
        held = self.locks.get(key)
        return None if held is None or given_up == (key, held.jid) else held.jid

    def send(
        self,
        job: Job,
        lock: Lock,
        payload: bytes,
        due_s: float | None,
        given_up: tuple[str, str] | None,
    ) -> tuple[bool, str | None, float | None]:
        """Whether a job goes out, who is there already, and when it is due."""
        ends = on_exit(payload, "replaced")
        if lock.until == "spell":
            there = self._spell(lock, job.jid)
            return there is None, there, due_s
        holder = self._holder(lock.key, given_up)
        if holder is None:
            before = self.locks.get(lock.key)
            waiting = payload if lock.on_conflict == "debounce" else None
            self.locks[lock.key] = Held(job.jid, self.now_s(), None if before is None else before.next, waiting, ends)
            return True, None, due_s
        if holder == job.jid or lock.on_conflict in ("skip", "raise"):
            return False, holder, due_s
        held = self.locks[lock.key]
        if lock.on_conflict == "debounce" and held.waiting is not None and self.schedule.remove(held.waiting):
            self.apply(held.ends)
            due_s = min(self.now_s() if due_s is None else due_s, held.since_s + lock.max_wait_s)
            self.locks[lock.key] = Held(job.jid, held.since_s, held.next, payload, ends)
            return True, holder, due_s
        self._keep(held, job.jid, payload, job.queue, due_s, follows=lock.on_conflict != "replace", ends=ends)
        return False, holder, due_s

    def _spell(self, lock: Lock, jid: str) -> str | None:
        there, until = self.spells.get(lock.key, ("", 0.0))
        if until > self.now_s():
            return there
        self.spells[lock.key] = (jid, self.now_s() + lock.every_s)
        return None

    def _keep(
        self,
        held: Held,
        jid: str,
        payload: bytes,
        queue: str,
        due_s: float | None,
        *,
        follows: bool,
        ends: Sequence[Effect],
    ) -> None:
        self._drop_next(held)
        payload = self.place.add_another(payload, self.now_s())
        held.next = Next(jid, payload, queue, due_s, follows, ends)

    def _drop_next(self, held: Held) -> None:
        if held.next is not None and self.place.remove(held.next.payload):
            self.apply(held.next.ends)
        held.next = None

    # ── ended ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def unlock(self, key: str, jid: str) -> None:
        """The job has ended for good."""
        held = self.locks.get(key)
        if held is None or held.jid != jid:
            return
        follower = held.next
        del self.locks[key]
        if follower is None or not self.place.remove(follower.payload):
            return
        if not follower.follows:
            self.apply(follower.ends)
            return
        self.locks[key] = Held(follower.jid, self.now_s(), ends=follower.ends)
        if follower.due_s is not None and follower.due_s > self.now_s():
            self.locks[key].waiting = follower.payload
            self.schedule.add(follower.payload, follower.due_s)
        else:
            self.push(follower.queue, follower.payload)

    # ── fetched ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, queue: str, claim: Claim, listed: list[bytes]) -> Answer:
        """See `broker.holds.locks.claim`. `listed`: the in-progress list."""
        held = self.locks.get(claim.key)
        if claim.what == "release":
            self.unlock(claim.key, claim.jid)
            return START
        if claim.what == "throttle":
            return self._claim_spell(claim, listed)
        if held is not None and held.jid == claim.jid:
            held.waiting = None
            if held.next is not None and held.next.payload in self.place:
                return self._take_over(queue, claim, held.next, listed)
            return self._exchange(listed, claim)
        if held is not None and claim.what != "started":
            return self._conflict(queue, claim, held, listed)
        answer = START if claim.what == "started" else self._exchange(listed, claim)
        if answer is START and claim.what != "started":
            self.locks[claim.key] = Held(claim.jid, self.now_s(), ends=claim.on_replaced)
        return answer

    def _claim_spell(self, claim: Claim, listed: list[bytes]) -> Answer:
        there, until = self.spells.get(claim.key, ("", 0.0))
        if until > self.now_s() and there != claim.jid:
            return Answer("skipped", jid=there)
        self.spells[claim.key] = (claim.jid, self.now_s() + claim.spell_ms / 1000)
        return self._exchange(listed, claim)

    def _conflict(self, queue: str, claim: Claim, held: Held, listed: list[bytes]) -> Answer:
        if claim.what in ("held", "skip"):
            return Answer("other" if claim.what == "held" else "skipped", jid=held.jid)
        if claim.payload not in listed:
            return GONE
        listed.remove(claim.payload)
        payload, follows = claim.named or claim.payload, claim.what == "latest"
        self._keep(held, claim.jid, payload, queue, None, follows=follows, ends=claim.on_replaced)
        return KEPT

    def _exchange(self, listed: list[bytes], claim: Claim) -> Answer:
        if claim.payload not in listed:
            return GONE
        if claim.named is not None:
            listed[listed.index(claim.payload)] = claim.named
        return START

    def _take_over(self, queue: str, claim: Claim, successor: Next, listed: list[bytes]) -> Answer:
        if claim.payload not in listed:
            return GONE
        self.place.remove(successor.payload)
        self.locks[claim.key] = Held(successor.jid, self.now_s(), ends=successor.ends)
        self.apply(claim.on_replaced)
        if successor.queue == queue:
            listed[listed.index(claim.payload)] = successor.payload
            return Answer("swapped", payload=successor.payload)
        listed.remove(claim.payload)
        self.push(successor.queue, successor.payload)
        return KEPT
