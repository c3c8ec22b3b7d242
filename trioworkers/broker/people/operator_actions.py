"""Operator actions: what people do to jobs that wait. Each batch is one atomic script, fenced by the payload being there.

So a command may be killed at any moment, run twice, or beside another one: nothing is lost or doubled; what is done is done, the
rest is as it was.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import attrs

from trioworkers.broker.by_weight import by_weight
from trioworkers.broker.people.contents import is_last, page_length
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.people.walk import Walk
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.exits import on_exit, on_exit_of_dead, on_move
from trioworkers.wire.decode import destination
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import lock_named
from trioworkers.wire.packing import pack
from trioworkers.wire.places import Location, place

PICK = script(
    __file__,
    "pick",
    keys=("queue", "queues", "dead"),
    args=("work", "packed_indexes", "tombstone", "own", "*payloads"),
    preludes=(*ENDS, "move"),
)
PURGE = script(
    __file__,
    "purge",
    keys=("queue", "queues"),
    args=("name", "limit", "max_bytes", "own", "work"),
    preludes=(*ENDS, "pages"),
)
RELOCATE = script(
    __file__,
    "relocate",
    keys=("set", "queues", "dead"),
    args=("work", "own", "*payloads"),
    preludes=(*ENDS, "move"),
)
RESTORE = script(
    __file__,
    "restore",
    keys=("target", "queues", "token"),
    args=("queue_name", "work", "token_kept_s", "own", "*payloads"),
    preludes=ENDS,
)

PAGE = 200
MOVE_BYTES = 1_000_000
"""So much goes with one script, or a single payload: Redis serves nobody else meanwhile."""
PURGE_PAGE, PURGE_PAGE_BYTES = 5000, 2_000_000
TOKEN_KEPT_S = 7 * 86400


@attrs.frozen
class Delete:
    """Forget it."""


@attrs.frozen
class ToDead:
    """To the dead set, as it is."""


@attrs.frozen
class Push:
    """Into a queue, as `payload`: from a set behind all that waits there; from another queue before it, in the order that they had."""

    queue: str
    payload: bytes


Next = Delete | ToDead | Push
Decide = Callable[[Entry], Next | None]


@attrs.frozen
class Swept:
    """What came of one page: how many payloads were looked at, wanted and moved; and what Redis said against others."""

    seen: int
    wanted: int
    moved: int
    errors: Sequence[str] = ()


@attrs.frozen
class Restored:
    """How many payloads were put back; of those that came without their locks the jids, each with that of the job that has it."""

    added: int
    without_lock: Sequence[tuple[str, str]] = ()


class OperatorActions:
    """Acts on one Redis database. Every method raises BrokerError; what it was at may then be done or not."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._inspector = Inspector(connection, keys)

    async def sweep(self, source: Location, decide: Decide) -> AsyncGenerator[Swept, None]:
        """Look at everything in `source`, page by page, and move what `decide` gives a next place. One item for each page.

        What is there all the time is not passed over, whatever others do meanwhile. Of a set, the lowest score comes first.
        """
        pages = self._sweep_list if source.is_queue else self._sweep_set
        async with aclosing(pages(source, decide)) as results:
            async for swept in results:
                yield swept

    async def _sweep_list(self, source: Location, decide: Decide) -> AsyncGenerator[Swept, None]:
        # From the end where jobs are pushed: what is pushed meanwhile is seen twice, what is fetched is not seen, and nothing is skipped.
        start, length = 0, 1
        while True:
            page = await self._inspector.page_from_the_newest(source, start, length)
            swept = await self._move(source, page, decide, start)
            start += len(page) - swept.moved
            yield swept
            if is_last(page, length):
                return
            length = page_length(page, PAGE)

    async def _sweep_set(self, source: Location, decide: Decide) -> AsyncGenerator[Swept, None]:
        walk, length = Walk(), 1
        stayed: list[Entry] = []

        def noted(entry: Entry) -> Next | None:
            to = decide(entry)
            if to is None:
                stayed.append(entry)
            return to

        while True:
            stayed.clear()
            page = await self._inspector.page_from(source, walk, length)
            swept = await self._move(source, page, noted)
            yield swept
            if is_last(page, length):
                return
            walk.go_on(page, stayed, swept.moved)
            length = page_length(page, PAGE)

    async def move(self, source: Location, entry: Entry, to: Next) -> Swept:
        """Move one payload."""
        return await self._move(source, [entry], lambda _: to)

    async def _move(self, source: Location, page: Sequence[Entry], decide: Decide, start: int | None = None) -> Swept:
        decided = [(index, entry, decide(entry)) for index, entry in enumerate(page)]
        wanted = [(index, entry, to) for index, entry, to in decided if to is not None and not _stays(source, to)]
        if not wanted:
            return Swept(len(page), 0, 0)
        moved, errors = 0, list[str]()
        shift = 0  # what was taken before lies no more before what comes
        for part in by_weight(wanted, lambda each: len(each[1].payload), MOVE_BYTES):
            count, *problems = await self._move_at_once(source, part, None if start is None else start - shift)
            moved, shift = moved + count, shift + count
            errors += [problem.decode(errors="replace") for problem in problems]
        return Swept(len(page), len(wanted), moved, errors)

    async def _move_at_once(
        self, source: Location, part: Sequence[tuple[int, Entry, Next]], start: int | None
    ) -> list[Any]:
        payloads: list[bytes] = []
        before: list[str | bytes]
        work = [self._order(entry, to, payloads) for _, entry, to in part]
        match work:
            case [(_, "delete", ())] if len(payloads[0]) > MOVE_BYTES:  # Lua would take five times as long
                how = ("LREM", source.key(self._keys), 1) if source.is_queue else ("ZREM", source.key(self._keys))
                return [await self._connection.execute("the move", *how, payloads[0])]
        keys = [source.key(self._keys), self._keys.queues, self._keys.dead]
        if source.is_queue:
            indexes = [-1 if start is None else start + index for index, _, _ in part]
            script, before = PICK, [pack(indexes), f"tw:tombstone:{secrets.token_hex(16)}", self._keys.own]
        else:
            script, before = RELOCATE, [self._keys.own]
        found: list[Any] = await self._connection.run(script, keys, [pack(work), *before, *payloads], "the move")
        return found

    def _order(self, entry: Entry, to: Next, payloads: list[bytes]) -> tuple[Any, ...]:
        """What the scripts call work; they know `payloads` by their numbers."""
        payloads.append(entry.payload)
        number = len(payloads)
        match to:
            case Delete():
                ends = on_exit_of_dead if entry.place == "dead" else on_exit
                return (number, "delete", ends(entry.payload, "deleted"))
            case ToDead():
                return (number, "bury", on_exit(entry.payload, "dead"))
            case Push(queue, payload):
                if payload != entry.payload:  # what goes as it came is sent once
                    payloads.append(payload)
                return (number, "push", on_move(entry.payload), queue, self._keys.queue(queue), len(payloads))

    async def purge(self, queue: str) -> int:
        """Forget all that waits in a queue, page by page, and with it what the jobs hold; returns how many jobs that were."""
        keys = [self._keys.queue(queue), self._keys.queues]
        total: int = 0
        goal = math.inf
        holders: Sequence[bytes] = ()
        while True:
            over = pack([(payload, on_exit(payload, "purged")) for payload in holders])
            args = [queue, PURGE_PAGE, PURGE_PAGE_BYTES, self._keys.own, over]
            count, left, holders = await self._connection.run(PURGE, keys, args)
            total += count
            goal = min(goal, total + left)  # what is pushed meanwhile is not for us
            if total >= goal:
                return total

    async def restore(self, source: Location, entries: Sequence[Entry], group: str) -> Restored:
        """Put exported payloads back. What a set holds already is left as it is. Who names a lock takes it, if it is free. Raises BadPayload.

        A queue can't tell: there, a `group` of the same name and content is put back once within a week. What lay in a place for a reason that may be over
        by now goes to its queue.
        """
        if source.kind.returns_to_queue:
            return await self._restore_to_queues(source, entries, group)
        digest = hashlib.sha256(group.encode())
        for entry in entries:
            digest.update(hashlib.sha256(entry.payload).digest())
        token = self._keys.restored(digest.hexdigest()[:32])
        numbered = enumerate(entries, 1)
        work = pack([(number, entry.score or 0.0, *_lock_of(entry)) for number, entry in numbered])
        keys = [source.key(self._keys), self._keys.queues, token]
        args = [source.queue, work, TOKEN_KEPT_S, self._keys.own, *(entry.payload for entry in entries)]
        reply = await self._connection.run(RESTORE, keys, args)
        jids = [jid.decode(errors="replace") for jid in reply[1:]]
        return Restored(reply[0], list(zip(jids[::2], jids[1::2], strict=True)))

    async def _restore_to_queues(self, source: Location, entries: Sequence[Entry], group: str) -> Restored:
        by_queue: dict[str, list[Entry]] = {}
        for entry in entries:
            queue = destination(entry.payload)
            by_queue.setdefault(queue, []).append(Entry("queue", entry.payload, queue, came_from=source.place))
        done = [await self.restore(Location("queue", queue), its, group) for queue, its in by_queue.items()]
        without_lock = [pair for each in done for pair in each.without_lock]
        return Restored(sum(each.added for each in done), without_lock)


def _lock_of(entry: Entry) -> tuple[Any, ...]:
    """As `restore.lua` wants it: the lock that a job holds which lies there, if it says that it holds one."""
    lock = lock_named(entry.payload)
    holds = lock is not None and entry.place != "dead" and not (lock.until != "done" and place(entry.place).failed)
    if lock is None or lock.until == "spell" or not holds:
        return False, "", False, (), 0
    due_s = entry.score if entry.place == "scheduled" and entry.score else False
    return lock.key, entry.jid, due_s, on_exit(entry.payload, "replaced"), int(entry.came_from == "next")


def _stays(source: Location, to: Next) -> bool:
    """From a queue into the same queue is no move; the script counts on that."""
    return isinstance(to, Push) and source == Location("queue", to.queue)
