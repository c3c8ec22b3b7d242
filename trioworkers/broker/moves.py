"""Broker: each method is one atomic move of payloads, or one look at them. Nothing with a Redis type leaves this room.

Payloads come from Redis as bytes and go back as the same bytes; `engine/` decides what becomes of them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple

import attrs

from trioworkers import outcome as outcomes
from trioworkers.broker.holds import limits
from trioworkers.broker.neighbours import Neighbours, SidekiqNeighbours
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.broker.sender import Clock, Sender
from trioworkers.exits import Effect, on_exit
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack, unpack

COUNT = script(__file__, "count", keys=("list",), args=("*payloads",))
DUE = script(
    __file__,
    "due",
    keys=("retry", "schedule", "control", "paused_queues", "paused_classes"),
    args=("limit", "max_bytes"),
    preludes=("send", "pages"),
)
FORGET = script(
    __file__,
    "forget",
    keys=("lease", "list", "registry", "quarantine", "last_settle", "holds", "drained"),
    args=("own", "strike"),
    preludes=ENDS,
)
PAGE = script(__file__, "page", keys=("list",), args=("expected", "first", "limit", "max_bytes"), preludes=("pages",))
PROMOTE = script(
    __file__,
    "promote",
    keys=("due_set", "queues", "dead"),
    args=("work", "push", "in_list", "own"),
    preludes=(*ENDS, "move"),
)
PUT_BACK = script(
    __file__,
    "put_back",
    keys=("lease", "list", "queue", "holds"),
    args=("ours", "push", "own", "running_members", "*payloads"),
    preludes=ENDS,
)
RECLAIM = script(
    __file__,
    "reclaim",
    keys=("lease", "list", "queue", "crashes", "dead", "holds", "drained"),
    args=("expected_holder", "work", "push", "in_list", "own"),
    preludes=ENDS,
)
RELEASE = script(
    __file__,
    "release",
    keys=("lease", "list", "queue", "holds"),
    args=("ours", "limit", "fetch_end", "max_bytes", "own"),
    preludes=ENDS,
)
_SETTLE = partial(
    script,
    __file__,
    "settle",
    keys=(
        "lease",
        "last_settle",
        "schedule",
        "retry",
        "dead",
        "crashes",
        "quarantine",
        "processed_in_all",
        "processed_then",
        "failed_in_all",
        "failed_then",
    ),
    args=("group", "ours", "work", "counts_failures", "*payloads"),
)
SETTLE = _SETTLE(preludes=("send", "take"))
SETTLE_HELD = _SETTLE(preludes=(*ENDS, "take"))
"""For a group whose jobs hold something."""

DueSet = Literal["retry", "schedule", "delayed"]
"""What holds payloads that come due; `delayed` only in Resque's dialect."""
PAGE_BYTES = 4_000_000
"""What goes through Redis's Lua or over the wire in one piece holds all others up, so pages end after so many bytes."""


@attrs.define
class Holder:
    """Who we are to the other workers: the name of our in-progress lists, and what our lease says. `renewed_at`: when it surely was ours, in Trio's time."""

    process_id: str = attrs.field(on_setattr=attrs.setters.frozen)
    lease: str = attrs.field(on_setattr=attrs.setters.frozen)
    lease_ms: int = attrs.field(on_setattr=attrs.setters.frozen)
    renewed_at: float = attrs.field(default=-math.inf, init=False, eq=False)

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
    """What is due in the retry and the schedule set, and the seconds until the next payload after these is (None: nothing).

    Besides, what people want: control `messages` for this worker, and the names of what is paused for all.
    """

    retry: list[bytes]
    schedule: list[bytes]
    next_in_s: float | None
    delayed: Sequence[bytes] = ()
    messages: Sequence[bytes] = ()
    paused_queues: frozenset[str] = frozenset()
    paused_classes: frozenset[str] = frozenset()


@attrs.frozen
class Listed:
    """What an in-progress list holds. `at_once`: all of it was read in one step; else others may have moved payloads meanwhile, so that some were missed or seen twice."""

    payloads: Counter[bytes]
    at_once: bool = True


class Broker(Sender):
    """One worker's moves between places of one dialect. `worker`: its name in that family's records."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        holder: Holder,
        clock: Clock | None = None,
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
        worker: str = "",
    ) -> None:
        super().__init__(connection, keys, clock, guard, dialect)
        self.holder = holder
        self.worker = worker
        self._lease_key = keys.lease(holder.process_id)

    def registry_entry(self, queue: str) -> str:
        """How our list for `queue` stands in the registry: a process id has no spaces."""
        return f"{self.holder.process_id} {self.tagged(queue)}"

    def tagged(self, queue: str) -> str:
        """The queue's name and, where it isn't plainly Sidekiq's, in which dialect it is; names have no spaces."""
        return f"{queue} {self.keys.tag}" if self.keys.tag else queue

    def in_progress(self, queue: str) -> str:
        """The key of our in-progress list for `queue`."""
        return self.keys.in_progress(queue, self.holder.process_id)

    def holds(self, queue: str) -> str:
        """The key of the record of what the attempts in our in-progress list for `queue` hold."""
        return self.keys.holds(queue, self.holder.process_id)

    record_lasts = False
    """Whether our process record is for go-workers2's eyes, too (see `goworkers_broker.py`): it has its fields, and no expiry."""

    @property
    def shares_processes(self) -> bool:
        """Whether this family keeps the records of its processes where ours is."""
        return self.keys.namespace == self.keys.worker_namespace

    async def on_claimed(self, queues: Collection[str]) -> None:
        """Our process id was claimed, with the lists of these queues; nothing is fetched yet. Raises BrokerError."""

    def neighbours(self, queues: Collection[str]) -> Neighbours:
        """Who else fetches from these queues of ours."""
        found = SidekiqNeighbours(self.connection, self.keys, queues)
        found.says_of_heartbeats = not self.record_lasts
        return found

    # ── settle ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """Write outcomes: each takes its payload from in-progress to its next place, if it is still ours.

        May be repeated with the same number and group after a lost reply; each group has the next number. `cleared`: jids suspected no
        longer. Returns by index in the group what did not go through: "gone" for what is ours no more, else Redis's error, and the
        payload is still ours.
        """
        by_queue: defaultdict[str, list[int]] = defaultdict(list)  # places in the group
        more: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)  # than to forget a payload
        holding: list[int] = []
        for place, (queue, payload, outcome, effects) in enumerate(group):
            if effects:
                holding.append(place)
                if isinstance(outcome, outcomes.LetGo):
                    continue
            by_queue[queue].append(place)
            if not isinstance(outcome, outcomes.Acknowledge) or outcome.sends:
                more[queue].append((len(by_queue[queue]), *self._place(queue, payload, outcome)))
        lists = [(self.in_progress(queue), len(places), more[queue]) for queue, places in by_queue.items()]
        places = list(chain.from_iterable(by_queue.values()))
        work = pack(
            (lists, cleared, (self.keys.own, _effects(group, holding, places))) if holding else (lists, cleared)
        )
        args: list[Any] = [number, self.holder.lease, work, int(self.dialect.processed_counts_failures)]
        args.extend(group[place].payload for place in places)
        script = SETTLE_HELD if holding else SETTLE
        reply = await self.connection.run(script, self._settle_keys(), args)
        return {places[number - 1]: problem for number, problem in unpack(reply) or ()}

    def _place(
        self, queue: str, payload: bytes, outcome: outcomes.Outcome | outcomes.Checkpoint | outcomes.LetGo
    ) -> Sequence[Any]:
        """What `settle.lua` calls it, and what it wants to know."""
        place: Sequence[Any]
        match outcome:
            case outcomes.Acknowledge(sends, _):
                place = ("sends", *self.work(sends))
            case outcomes.Retry(amended, delay_s):
                place = ("retry", amended, delay_s)
            case outcomes.Bury(amended, counted=counted, failure=failure):
                in_list = int(self.dialect.keeps_records)
                place = ("dead", self.as_dead(amended, queue, failure), int(counted), in_list)
            case outcomes.Discard():
                place = ("discard",)
            case outcomes.Expire():
                place = ("expire",)
            case outcomes.Checkpoint(amended):
                place = ("amend", amended)
            case outcomes.Requeue(changed):
                again = payload if changed is None else changed
                place = ("requeue", self.keys.queue(queue), again, self.dialect.put_back_with)
            case outcomes.LetGo():
                raise AssertionError("what lets go without effects has nothing to say")
            case outcomes.Snooze(amended, delay_s):
                place = ("snooze", amended, delay_s)
        return place

    def as_dead(self, payload: bytes, queue: str, failure: Failure | None) -> bytes:
        """What is kept of a payload that failed for good: itself, or a record of its failure."""
        dialect, _ = self.spoken_on(queue)
        if not dialect.keeps_records:
            return payload
        failure = failure or Failure("trioworkers.BadPayload", "unreadable")
        return dialect.record(payload, queue, failure, self.clock.now_s(), self.worker)

    def _settle_keys(self) -> list[str]:
        keys, process_id = self.keys, self.holder.process_id
        today = datetime.fromtimestamp(self.clock.now_s(), UTC).strftime("%Y-%m-%d")
        stats = [key for name in ("processed", "failed") for key in keys.stats(name, today, self.worker)]
        own = [self._lease_key, keys.last_settle(process_id)]
        return [
            *own,
            keys.schedule,
            keys.retry,
            keys.dead,
            keys.crashes,
            keys.quarantine(process_id),
            *stats,
        ]

    # ── what is held ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def admit(
        self, queue: str, number: int, declared: Mapping[str, int], batch: Sequence[limits.Candidate]
    ) -> list[int | str]:
        """See `limits.admit`."""
        keys, holder = self.keys, self.holder
        at = limits.AdmissionKeys(
            self._lease_key,
            holder.lease,
            self.in_progress(queue),
            self.holds(queue),
            keys.own,
            queue,
            keys.queue(queue),
            self.dialect.put_back_with,
        )
        return await limits.admit(self.connection, at, number, declared, batch)

    async def declare(self, concurrency: Mapping[str, int], since: str) -> str:
        """See `limits.declare`."""
        return await limits.declare(self.connection, self.keys.limits, concurrency, since)

    async def tend(self) -> limits.Tended:
        """See `limits.tend`."""
        return await limits.tend(self.connection, self.keys.limits, self.keys.repairs, self.keys.own)

    # ── promote ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, limit: int) -> Due:
        """Up to `limit` due payloads of each set, and what people want. A lost reply loses the messages."""
        keys = self.keys
        names = [keys.retry, keys.schedule, keys.control(self.holder.process_id), keys.paused, keys.paused_classes]
        wait, retry, schedule, messages, *paused = await self.connection.run(DUE, names, [limit, PAGE_BYTES])
        queues, classes = (frozenset(name.decode(errors="replace") for name in members) for members in paused)
        return Due(retry, schedule, float(wait) if wait else None, (), messages, queues, classes)

    async def reply(self, token: str, reply: bytes) -> None:
        """Lay down our reply to a control message; it stays for a minute."""
        key = self.keys.reply(token)
        await self.connection.commands("reply").set_for(key, reply, 60)

    async def promote(
        self, source: DueSet, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """Move due payloads: `(payload, queue, payload to enqueue)`, or where what is dead lies (then as that) if queue is None.

        What another worker moved first is passed over. Returns how many were moved, and errors of queues that can't take theirs.
        """
        keys = [self.keys.retry if source == "retry" else self.keys.schedule, self.keys.queues, self.keys.dead]
        work = pack(self._promotions(entries))
        args = [work, self.dialect.pushed_with, int(self.dialect.keeps_records), self.keys.own]
        moved, *errors = await self.connection.run(PROMOTE, keys, args)
        return moved, [error.decode(errors="replace") for error in errors]

    def _promotions(self, entries: Iterable[tuple[bytes, str | None, bytes]]) -> list[tuple[Any, ...]]:
        return [
            (payload, False, "", renewed, on_exit(payload, "dead"))
            if queue is None
            else (payload, queue, self.keys.queue(queue), renewed, ())
            for payload, queue, renewed in entries
        ]

    # ── our in-progress lists ──────────────────────────────────────────────────────────────────────────────────────────

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        """The payloads in our list, up to about `limit`, if it is longer or shorter than `expected`; None if it is just as long.

        Those `known` are not held in memory a second time.
        """
        held = {payload: payload for payload in known}
        found: Counter[bytes] = Counter()
        length, page = await self._page("audit", self.in_progress(queue), 0, limit, expected)
        if length == expected:
            return None
        at_once = len(page) >= length
        while page:
            found.update(held.get(payload, payload) for payload in page)
            if at_once or (seen := found.total()) >= limit:
                break
            _, page = await self._page("audit", self.in_progress(queue), seen, limit - seen)
        return Listed(found, at_once)

    async def count(self, queue: str, payloads: Iterable[bytes]) -> Counter[bytes]:
        """How often each of these lies in our list just now."""
        found: Counter[bytes] = Counter()
        for page in _by_weight(payloads):
            counts = await self.connection.run(COUNT, [self.in_progress(queue)], page)
            found.update(dict(zip(page, counts, strict=True)))
        return found

    async def put_back(self, queue: str, payloads: Sequence[bytes], running: Sequence[str] = ()) -> int:
        """Strays of our list, newest first, back to the fetch end of their queue. Returns how many were still there.

        `running`: the members under which the jobs that do run hold permits; what others hold in our name is let go.
        """
        keys = [self._lease_key, self.in_progress(queue), self.keys.queue(queue), self.holds(queue)]
        before = [self.holder.lease, self.dialect.put_back_with, self.keys.own, pack(running)]
        moved = 0
        for page in _by_weight(payloads):
            moved += await self.connection.run(PUT_BACK, keys, [*before, *page])
        return moved

    async def release(self, queue: str, limit: int = 500) -> int:
        """Everything that is left in our list back to the fetch end of `queue`. Returns how many payloads that were."""
        keys = [self._lease_key, self.in_progress(queue), self.keys.queue(queue), self.holds(queue)]
        args = [self.holder.lease, limit, self.dialect.fetched_from, PAGE_BYTES, self.keys.own]
        total, left = 0, 1
        while left:
            moved, left = await self.connection.run(RELEASE, keys, args)
            total += moved
        return total

    # ── lists of the dead ──────────────────────────────────────────────────────────────────────────────────────────────

    async def peek(self, process_id: str, queue: str, limit: int) -> list[bytes]:
        """The newest payloads in a worker's in-progress list, up to `limit`, or fewer if they are large."""
        return (await self._page("peek", self.keys.in_progress(queue, process_id), 0, limit))[1]

    async def _page(
        self, operation: str, key: str, start: int, limit: int, expected: int = -1
    ) -> tuple[int, list[bytes]]:
        args = [expected, start, limit, PAGE_BYTES]
        length, payloads = await self.connection.run(PAGE, [key], args, operation)
        return length, payloads

    async def reclaim(
        self, process_id: str, queue: str, entries: Sequence[tuple[bytes, str, bool, bytes | None]]
    ) -> tuple[int, str]:
        """Give payloads of a dead worker's list, newest first, back to their queue, charging their jobs with its death.

        `entries`: (payload, jid, charged, payload for the dead set or None). Returns `(moved, error)`; -1 if it is alive after all; -2 if
        all of its own was taken before, and what is there now is another program's.
        """
        keys = self.keys
        holder = self.holder.lease if process_id == self.holder.process_id else ""
        work = [
            (payload, jid, int(charged), buried or False, () if buried is None else on_exit(buried, "dead"))
            for payload, jid, charged, buried in entries
        ]
        names = [
            keys.lease(process_id),
            keys.in_progress(queue, process_id),
            keys.queue(queue),
            keys.crashes,
            keys.dead,
            keys.holds(queue, process_id),
            keys.drained(process_id),
        ]
        args = [holder, pack(work), self.dialect.put_back_with, int(self.dialect.keeps_records), keys.own]
        moved, *error = await self.connection.run(RECLAIM, names, args)
        return moved, error[0].decode(errors="replace") if error else ""

    async def forget(self, process_id: str, queue: str, *, strike: bool) -> None:
        """Note that a dead worker's list is empty, so that what lies there from now on is another program's; `strike`: it leaves the registry, too."""
        keys = self.keys
        names = [keys.lease(process_id), keys.in_progress(queue, process_id), keys.in_progress_lists]
        names += [keys.quarantine(process_id), keys.last_settle(process_id), keys.holds(queue, process_id)]
        names.append(keys.drained(process_id))
        await self.connection.run(FORGET, names, [keys.own, int(strike)])

    # ── suspects ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        """The crash counts of these jobs, how many workers died under each; those without one are left out."""
        if not jids:
            return {}
        key = self.keys.crashes
        counts = await self.connection.commands("crashes").hmget(key, list(jids))
        return {jid: int(count) for jid, count in zip(jids, counts, strict=True) if count is not None}

    async def quarantine(self, jid: str) -> None:
        """Note that a suspect runs here now: if we die, it alone is charged."""
        key = self.keys.quarantine(self.holder.process_id)
        await self.connection.commands("quarantine").sadd(key, [jid])

    async def quarantined(self, process_id: str) -> set[str]:
        """The suspects that ran in a worker when it was last heard of."""
        key = self.keys.quarantine(process_id)
        return set(await self.connection.commands("quarantine").smembers(key))


def _effects(
    group: Sequence[Settlement], holding: Iterable[int], places: Sequence[int]
) -> list[tuple[int, int, Effect]]:
    """The effects of a group as `settle.lua` wants them. What an attempt held is let go even if its job is not ours any more."""
    numbers = {place: number for number, place in enumerate(places, 1)}
    return [
        (numbers.get(place, 0), int(effect[0] == "permit"), effect)
        for place in holding
        for effect in group[place].effects
    ]


def _by_weight(payloads: Iterable[bytes]) -> Iterator[list[bytes]]:
    """In pages of a few MB, in order."""
    page: list[bytes] = []
    size = 0
    for payload in payloads:
        page.append(payload)
        size += len(payload)
        if size >= PAGE_BYTES or len(page) >= 1000:
            yield page
            page, size = [], 0
    if page:
        yield page
