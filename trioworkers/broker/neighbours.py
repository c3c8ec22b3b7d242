"""Other kinds of workers on our queues: seen by the records that they keep, or by in-progress lists that move and are not ours.

Ruby's Sidekiq and the newest go-workers2 keep a record, as we do. Of other go-workers only a list shows:
`queue:QUEUE:PROCESS:inprogress`, which isn't in our registry. What a dead one left behind looks the same, but doesn't move. To find such
lists the key space is walked in small steps, one with each check.

Resque's workers stand in a registry. Ruby's and node-resque's give signs of life there; others' entries may be of dead ones, unless something moves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from typing import Protocol

import attrs
import trio

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import Refused
from trioworkers.wire.keys import IN_PROGRESS, Keys
from trioworkers.wire.own_record import GO_WORKERS_2, OUR_LABELS, decode_info
from trioworkers.wire.packing import pack
from trioworkers.wire.resque import OUR_TAG, ResqueKeys
from trioworkers.wire.resque_registry import read_entry

FOREIGN_LISTS = script(__file__, "foreign_lists", keys=("registry", "queues", "*lists"), args=("packed",))
RESQUE_REGISTERED = script(
    __file__,
    "resque_registered",
    keys=("workers", "heartbeats", "worker_prefix", "processed_prefix"),
    args=("our_tag",),
)
NEIGHBOURS = script(__file__, "neighbours", keys=("processes",), args=("record_prefix", "our_label"))

logger = logging.getLogger("trioworkers")

_HEARTBEATS = (
    "go-workers2 with heartbeats (%s) keeps its records where ours are: if one of us is killed, its heartbeats end for good, and its fellows "
    "run its jobs again. Give it a database or a namespace of its own, or us a queue of dialect goworkers"
)

STEP = 1000
"""Keys of the key space that one step looks at."""

RECORD_S = 60.0
"""A record without expiry that is older than this is of a process that died."""

BEAT_S = 150.0
"""Likewise a Resque worker's last sign of life: Ruby's comes once a minute."""

STILL_AFTER_S = 300.0
"""A list that hasn't moved for this long counts as nobody's."""

MAX_WATCHED = 200


@attrs.frozen
class Neighbour:
    """A process of another kind that fetches from these queues of ours."""

    kind: str
    name: str
    queues: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} on {', '.join(self.queues)}"


@attrs.define
class _Movement:
    """Tells the living from what the dead left: by whether it changes from check to check."""

    state: str | None = None
    moved_at: float | None = None

    def see(self, state: str, now: float) -> None:
        if self.state is not None and state != self.state:
            self.moved_at = now
        self.state = state

    def moves(self, now: float) -> bool:
        return self.moved_at is not None and now - self.moved_at < STILL_AFTER_S


@attrs.define
class _List:
    queue: str
    process_id: str
    movement: _Movement = attrs.Factory(_Movement)


class Neighbours(Protocol):
    """Checks for other kinds of workers on some queues of one dialect."""

    @property
    def is_up(self) -> bool:
        """Whether Redis is there, as far as we know: in an outage a check would only take a socket from others."""

    @property
    def every_s(self) -> float:
        """How often to check, at least; infinity: as often as the others."""

    @property
    def undecided(self) -> bool:
        """Whether there is something of which another check will tell whether it moves."""

    async def check(self, steps: int = 1) -> dict[str, Neighbour]:
        """Who fetches from our queues, by name; `steps`: how far to walk the key space. Raises BrokerError."""


class SidekiqNeighbours:
    """`Neighbours` on Sidekiq's and go-workers' queues."""

    every_s = math.inf
    says_of_heartbeats = True

    def __init__(self, connection: Connection, keys: Keys, queues: Collection[str]) -> None:
        self._connection = connection
        self._keys = keys
        self._queues = sorted(queues, key=len, reverse=True)
        self._lists: dict[str, _List] = {}
        self._cursor: int | None = 0

    @property
    def is_up(self) -> bool:
        """See `Neighbours.is_up`."""
        return self._connection.link.is_up

    @property
    def undecided(self) -> bool:
        """See `Neighbours.undecided`."""
        return bool(self._lists)

    async def check(self, steps: int = 1) -> dict[str, Neighbour]:
        """See `Neighbours.check`."""
        found = await self._recorded()
        for _ in range(steps):
            await self._walk()
            if self._cursor == 0:
                break
        found.update(await self._moving())
        return found

    # ── by their records ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _recorded(self) -> dict[str, Neighbour]:
        args = [self._keys.process(""), OUR_LABELS]
        now_s, *records = await self._connection.run(NEIGHBOURS, [self._keys.processes], args)
        found = {}
        for identity, info, quiet, beat, expires_ms in records:
            known = decode_info(info)
            if known is not None and known.kind == GO_WORKERS_2 and self.says_of_heartbeats:
                self.says_of_heartbeats = False
                logger.warning(_HEARTBEATS, identity.decode(errors="replace"))
            if known is None or quiet in (b"true", b"1") or (expires_ms < 0 and not _is_fresh(beat, now_s)):
                continue
            shared = tuple(queue for queue in sorted(self._queues) if self._consumes(known.queues, queue))
            if shared:
                name = identity.decode(errors="replace")
                found[name] = Neighbour(known.kind, name, shared)
        return found

    def _consumes(self, theirs: Collection[str], queue: str) -> bool:
        return queue in theirs or (bool(self._keys.namespace) and f"{self._keys.namespace}:{queue}" in theirs)

    # ── by their lists ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _walk(self) -> None:
        if self._cursor is None:
            return
        start, pattern = self._cursor, self._keys.queue("*") + IN_PROGRESS
        try:
            self._cursor, keys = await self._connection.commands("scan").scan_lists(start, pattern, STEP)
        except Refused:  # some services don't allow it; the link has said so
            self._cursor = None
            return
        for raw in keys:
            key = raw.decode(errors="replace")
            if key not in self._lists and len(self._lists) < MAX_WATCHED:
                self._watch(key)

    def _watch(self, key: str) -> None:
        name = self._name(key)
        for queue in self._queues:
            if name.startswith(f"{queue}:") and len(name) > len(queue) + 1:
                self._lists[key] = _List(queue, name[len(queue) + 1 :])
                return

    def _name(self, key: str) -> str:
        return key[len(self._keys.queue("")) : -len(IN_PROGRESS)]

    def _other_queues(self, key: str, queue: str) -> list[str]:
        """The longer names with a colon that the list's queue could have instead."""
        name = self._name(key)
        return [name[:at] for at in range(len(queue) + 1, len(name)) if name[at] == ":"]

    async def _moving(self) -> Mapping[str, Neighbour]:
        if not self._lists:
            return {}
        keys = list(self._lists)
        names = [self._keys.in_progress_lists, self._keys.queues, *keys]
        others = [self._other_queues(key, self._lists[key].queue) for key in keys]
        states = await self._connection.run(FOREIGN_LISTS, names, [pack(others)])
        now = trio.current_time()
        found = {}
        for key, raw in zip(keys, states, strict=True):
            watched, state = self._lists[key], raw.decode()
            if state in ("ours", "other"):
                del self._lists[key]
                continue
            watched.movement.see(state, now)
            if watched.movement.moves(now):
                found[key] = Neighbour("go-workers", watched.process_id, (watched.queue,))
            elif state == "":
                del self._lists[key]  # if it comes back, the walk finds it again
        return found


class ResqueNeighbours:
    """`Neighbours` on Resque's queues."""

    every_s = math.inf

    def __init__(self, connection: Connection, keys: ResqueKeys, queues: Collection[str]) -> None:
        self._connection = connection
        self._keys = keys
        self._queues = sorted(queues)
        self._silent: dict[bytes, _Movement] = {}

    @property
    def is_up(self) -> bool:
        """See `Neighbours.is_up`."""
        return self._connection.link.is_up

    @property
    def undecided(self) -> bool:
        """See `Neighbours.undecided`."""
        return bool(self._silent)

    async def check(self, steps: int = 1) -> dict[str, Neighbour]:
        """See `Neighbours.check`. Nothing is walked: all are in the registry."""
        del steps
        keys = self._keys
        names = [keys.workers, keys.heartbeats, keys.worker(""), keys.stat("processed:")]
        now_s, *registered = await self._connection.run(RESQUE_REGISTERED, names, [OUR_TAG])
        now = trio.current_time()
        before, self._silent = self._silent, {}
        found = {}
        for worker, heartbeat, ping, state in registered:
            entry = read_entry(worker, heartbeat, ping)
            shared = () if entry is None else tuple(filter(entry.fetches, self._queues))
            if entry is None or not shared:
                continue
            if entry.beat_s is None:
                movement = self._silent[worker] = before.get(worker, _Movement())
                movement.see(state.decode(errors="replace"), now)
                lives = movement.moves(now)
            else:
                lives = abs(now_s - entry.beat_s) <= BEAT_S
            if lives:
                found[entry.name] = Neighbour(entry.kind, entry.name, shared)
        return found


def _is_fresh(beat: bytes, now_s: float) -> bool:
    try:
        return abs(now_s - float(beat)) <= RECORD_S
    except ValueError:
        return False
