"""The search for what others deleted, as far as it is Redis's: what is held and hasn't moved, and a look at all places where its job may lie."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import attrs

from trioworkers.broker.holds.batches import cancel_abandoned
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import ConfigurationError, Refused
from trioworkers.wire import places
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack

logger = logging.getLogger("trioworkers")

SEARCH_PAGE = script(
    __file__,
    "search_page",
    keys=("place",),
    args=("kind", "at", "limit", "max_bytes", "own"),
    preludes=(*ENDS, "pages"),
)
HELD_LOCKS = script(
    __file__,
    "held_locks",
    keys=("unique",),
    args=("own", "unique_at", "next_at", "untouched_s", "limit"),
    preludes=ENDS,
)
LET_LOCKS_GO = script(__file__, "let_locks_go", keys=("unique",), args=("own", "work"), preludes=ENDS)

HELD_MEMBERS = script(
    __file__,
    "held_members",
    keys=(),
    args=("own", "batch_at", "member_at", "untouched_s", "limit"),
    preludes=ENDS,
)
LET_MEMBERS_GO = script(__file__, "let_members_go", keys=(), args=("own", "work"), preludes=ENDS)

PAGE, PAGE_BYTES = 1000, 1_000_000
MOST = 100_000
"""So many locks are looked for in one search; of more, others in the next."""


@attrs.frozen
class HeldLock:
    """A lock that hasn't moved for a while. `jid`: of the job that has it; "" if it can't be read. `touched`: when it moved last, as Redis spells it."""

    key: str
    jid: str
    touched: str


class LockSearch:
    """One worker's looks. `spoken`: the keys of all dialects that it knows of."""

    def __init__(self, connection: Connection, keys: Keys, spoken: Iterable[Keys]) -> None:
        self._connection = connection
        self._keys = keys
        self._spoken = list(spoken)
        self._cursor = b"0"
        self._looks_among_dead = False
        """Whether a look goes to the dead set, too: who is dead has let go his lock, but a batch may wait for his retry."""

    async def begin(self, process_id: str, every_s: float) -> bool:
        """Whether nobody in the fleet has begun a search for so long; then it is ours."""
        words = ("SET", self._keys.searching, process_id, "NX", "PX", int(every_s * 1000))
        return await self._connection.execute("search", *words) is not None

    async def untouched(self, for_s: float) -> tuple[list[HeldLock], list[bytes]]:
        """Locks that haven't moved for so long; and payloads that wait for a lock which doesn't know them."""
        held: dict[str, HeldLock] = {}
        lost: list[bytes] = []
        unique_at, next_at = self._cursor, b"0"
        while (unique_at, next_at) != (b"-1", b"-1") and len(held) + len(lost) < MOST:
            args = [self._keys.own, unique_at, next_at, for_s, PAGE]
            unique_at, next_at, found, payloads = await self._connection.run(HELD_LOCKS, [self._keys.unique], args)
            texts = [text.decode(errors="surrogateescape") for text in found]
            held.update(
                (key, HeldLock(key, jid, touched))
                for key, jid, touched in zip(texts[::3], texts[1::3], texts[2::3], strict=True)
            )
            lost += payloads
        self._cursor = b"0" if unique_at == b"-1" else unique_at
        return [*held.values()], lost

    async def walk(self) -> AsyncGenerator[list[str], None]:
        """A look at all places, page by page: the keys of the locks whose jobs lie there. Raises BrokerError: then it wasn't one at all of them."""
        for key, kind in [*await self._places(), *await self._dead_places()]:
            is_dead = kind.startswith("dead ")
            kind = kind.removeprefix("dead ")  # noqa: PLW2901 - as the script calls it
            at: int | bytes = 0
            while at != -1:
                args = [kind, at, PAGE, PAGE_BYTES, self._keys.own]
                at, *found = await self._connection.run(SEARCH_PAGE, [key], args)
                names = [name.decode(errors="surrogateescape") for name in found]
                yield [name for name in names if name.startswith(MEMBER)] if is_dead else names

    async def _dead_places(self) -> list[tuple[str, str]]:
        """Where the dead lie, if anybody asks for them: a set, but in Resque's dialect a list."""
        if not self._looks_among_dead:
            return []
        kinds = {b"zset": "dead set", b"list": "dead list"}
        found = [(keys.dead, await self._connection.execute("search", "TYPE", keys.dead)) for keys in self._spoken]
        return [(key, kinds[kind]) for key, kind in dict(found).items() if kind in kinds]

    async def _places(self) -> list[tuple[str, str]]:
        """All that may hold a payload whose job has not ended: keys as texts, and whether that is a list or a set."""
        registered = await self._connection.commands("search").hgetall(self._keys.in_progress_lists)
        owners = [owner.decode(errors="surrogateescape") for owner in registered.values()]
        lists = [name.decode(errors="surrogateescape") for name in registered]
        spoken = dict.fromkeys((*self._spoken, *self._registered(owners)))
        for keys in spoken:
            names = await self._connection.execute("search", "SMEMBERS", keys.queues)
            lists += [keys.queue(name.decode(errors="surrogateescape")) for name in names]
            lists += [keys.queue(owner.split(" ")[1]) for owner in owners if " " in owner]
        sets = [getattr(keys, place.key) for keys in spoken for place in places.sets() if place.name != "dead"]
        return [(key, "list") for key in dict.fromkeys(lists)] + [(key, "set") for key in dict.fromkeys(sets)]

    def _registered(self, owners: Iterable[str]) -> Iterable[Keys]:
        for tag in {owner.split(" ")[2] for owner in owners if owner.count(" ") > 1}:
            try:
                yield dialect_named(tag).keys(self._keys.worker_namespace)
            except ConfigurationError:  # of a newer version: what lies there nobody here can tell
                raise Refused(f"a list is registered in an unknown dialect, {tag}") from None

    async def let_go(
        self, held: Sequence[HeldLock], lost: Sequence[tuple[bytes, str, Keys, str]] = ()
    ) -> tuple[int, int]:
        """Let these locks go, if nothing of them has moved since; and give payloads back: (payload, queue, its keys, how to push). How many that were."""
        over = [
            (h.key.encode(errors="surrogateescape"), h.jid.encode(errors="surrogateescape"), h.touched) for h in held
        ]
        back = [(payload, queue, keys.queue(queue), push, keys.queues) for payload, queue, keys, push in lost]
        gone, given_back = await self._connection.run(
            LET_LOCKS_GO, [self._keys.unique], [self._keys.own, pack((over, back))]
        )
        return gone, given_back


MEMBER = "member "
"""What the keys of members begin with: `member BATCH JID`. No lock's key has a blank."""


class HoldsSearch(LockSearch):
    """The same, and members of batches: one that is in no place any more has ended, and its batch doesn't wait for it."""

    async def untouched(self, for_s: float) -> tuple[list[HeldLock], list[bytes]]:
        """See `LockSearch.untouched`; of batches in which nothing has moved for so long, all members that have not ended."""
        async with aclosing(cancel_abandoned(self._connection, self._keys)) as abandoned:
            async for batch in abandoned:
                logger.warning(
                    "batch %s is cancelled: nobody has added to it for as long as it says, nor sealed it", batch
                )
        held, lost = await super().untouched(for_s)
        batch_at, member_at = 0, b"0"
        self._looks_among_dead = False
        while batch_at != -1 and len(held) < MOST:
            args = [self._keys.own, batch_at, member_at, for_s, PAGE]
            self._looks_among_dead = self._looks_among_dead or member_at.startswith(b"d")
            batch_at, member_at, *found = await self._connection.run(HELD_MEMBERS, [], args)
            batch, touched, *jids = [text.decode(errors="replace") for text in found] or ["", ""]
            held += [HeldLock(f"{MEMBER}{batch} {jid}", jid, touched) for jid in jids]
        return held, lost

    async def let_go(
        self, held: Sequence[HeldLock], lost: Sequence[tuple[bytes, str, Keys, str]] = ()
    ) -> tuple[int, int]:
        """See `LockSearch.let_go`."""
        members = [each for each in held if each.key.startswith(MEMBER)]
        gone, given_back = await super().let_go([each for each in held if not each.key.startswith(MEMBER)], lost)
        by_batch: dict[tuple[str, str], list[str]] = {}
        for each in members:
            by_batch.setdefault((each.key.split(" ")[1], each.touched), []).append(each.jid)
        for (batch, touched), jids in by_batch.items():
            gone += await self._connection.run(LET_MEMBERS_GO, [], [self._keys.own, pack([(batch, touched, jids)])])
        return gone, given_back
