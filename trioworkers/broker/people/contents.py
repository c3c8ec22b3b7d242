"""What is in queues and sets, page by page: memory stays flat, and Redis is not held up. What moves meanwhile may be missed or seen twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial

import attrs

from trioworkers.broker.people.reading import Reader
from trioworkers.broker.people.walk import Walk
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import BrokerError, ConfigurationError
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location

READ_PAGE = script(
    __file__,
    "read_page",
    keys=("place",),
    args=("how", "start", "length", "max_bytes", "score", "*seen"),
    preludes=("pages",),
)
PAGE = 500
FIRST_PAGE = 50
PAGE_BYTES = 4_000_000
PAGE_GROWTH = 16


@attrs.frozen
class QueueState:
    """A queue. `latency_s`: how long the payload that is fetched next has waited; None if there is none or it doesn't tell.

    `problem`: why it can't be looked at. `dialect`: what is spoken there, if not what we speak.
    """

    name: str
    size: int
    latency_s: float | None
    paused: bool
    problem: str = ""
    dialect: str = ""


class Contents(Reader):
    """Queues and sets."""

    async def queues(self) -> list[QueueState]:
        """All known queues, and those that our workers serve in another dialect."""
        names = dict.fromkeys(await self.queue_names())
        sources = [Location("queue", *each) for each in {**await self._other_queues(), **names}.items()]
        paused = set(await self._read.smembers(self._keys.paused))
        now_s = await self.now_s()
        # Somebody may have thousands of them, and most of them empty.
        sizes = await self._read.lengths([source.key(self._keys) for source in sources])
        return await self._all(
            [
                partial(self._queue, source, size, source.queue in paused, now_s)
                for source, size in zip(sources, sizes, strict=True)
            ]
        )

    async def queue_names(self) -> list[str]:
        """The names of all known queues."""
        return await self._read.smembers(self._keys.queues)

    async def location_of(self, queue: str) -> Location:
        """Where a queue lies: it may be one that our workers serve in another dialect."""
        if await self._read.exists(self._keys.queue(queue)):
            return Location("queue", queue)
        return Location("queue", queue, (await self._other_queues()).get(queue))

    async def _other_queues(self) -> dict[str, Dialect]:
        """What is spoken on our workers' queues where it isn't what we speak: their lists are registered with it."""
        found = {}
        for owner in (await self._pairs(self._keys.in_progress_lists)).values():
            _, queue, tag = parted(owner)
            if tag:
                with suppress(ConfigurationError):  # one of a version to come
                    found[queue] = dialect_named(tag)
        return found

    async def _queue(self, source: Location, size: int | BrokerError, paused: bool, now_s: float) -> QueueState:
        dialect = str(source.dialect or "")
        if isinstance(size, BrokerError):  # it is no list: no reason not to show the others
            return QueueState(source.queue, 0, None, paused, str(size), dialect)
        payloads = await self._list_page(source, 0, 1) if size else ()
        since_s = payloads[0].since_s if payloads else None
        latency_s = None if since_s is None else max(0.0, now_s - since_s)
        return QueueState(source.queue, size, latency_s, paused, dialect=dialect)

    async def size(self, source: Location) -> int:
        """How many payloads are there."""
        key = source.key(self._keys)
        return await (self._read.llen(key) if source.is_queue else self._read.zcard(key))

    async def page(self, source: Location, start: int, length: int) -> list[Entry]:
        """Some of `source`, without the first `start`: what runs next first, of the dead the latest first. Fewer than `length` if they are large (see `is_last`)."""
        return await (self._list_page if source.is_queue else self._set_page)(source, start, length)

    async def pages(
        self, source: Location, first: int = FIRST_PAGE, start: int = 0
    ) -> AsyncGenerator[list[Entry], None]:
        """Everything in `source`, in the order of `page`. `first`: how many are wanted at least, if there are; `start`: without so many.

        From its start on, what stays in a set is not passed over, whatever others do meanwhile.
        """
        length, left = 1, first
        walk = None if start or source.is_queue or source.kind.latest_first else Walk()
        while True:
            page = await (self.page(source, start, length) if walk is None else self.page_from(source, walk, length))
            if page:
                yield page
            if is_last(page, length):
                return
            start, left = start + len(page), left - len(page)
            if walk is not None:
                walk.go_on(page, page)
            length = page_length(page, left if left > 0 else PAGE)

    async def _list_page(self, source: Location, start: int, length: int) -> list[Entry]:
        from_left = source.dialect is not None and source.dialect.fetched_from == "LEFT"
        return await self._part_of_list(source, "left" if from_left else "right", start, length)

    async def page_from_the_newest(self, source: Location, start: int, length: int) -> list[Entry]:
        """A page of a queue counted from the end where jobs are pushed: none is skipped, whatever is fetched meanwhile."""
        return await self._part_of_list(source, "left", start, length)

    async def _part_of_list(self, source: Location, end: str, start: int, length: int) -> list[Entry]:
        key = source.key(self._keys)
        if length == 1:  # what is huge comes without a detour through Lua, which takes five times as long
            at = start if end == "left" else -start - 1
            payloads = await self._read.lrange(key, at, at)
        else:
            payloads = await self._connection.run(READ_PAGE, [key], [end, start, length, PAGE_BYTES, ""], "look")
        return [Entry("queue", payload, source.queue) for payload in payloads]

    async def _set_page(self, source: Location, start: int, length: int) -> list[Entry]:
        latest_first = source.kind.latest_first
        if length > 1:
            return await self._part_of_set(source, "highest" if latest_first else "lowest", start, length)
        members = await self._read.zrange(source.key(self._keys), start, start, highest_first=latest_first)
        return [Entry(source.place, payload, score=score) for payload, score in members]

    async def page_from(self, source: Location, walk: Walk, length: int) -> list[Entry]:
        """The next page of a set, lowest scores first."""
        return await self.page_from_score(source, walk.score, 0 if walk.seen else walk.passed, length, walk.seen)

    async def page_from_score(
        self, source: Location, score: float, passed: int, length: int, seen: Sequence[bytes] = ()
    ) -> list[Entry]:
        """A page of a set, lowest scores first, from this score on but without the first `passed` of it.

        `seen`: payloads of that score, the last one first. It begins after the first of them that is still there.
        """
        if length > 1 or seen:
            return await self._part_of_set(source, "score", passed, length, repr(score), seen)
        members = await self._read.zrange_from(source.key(self._keys), score, passed, 1)
        return [Entry(source.place, payload, score=member_score) for payload, member_score in members]

    async def _part_of_set(
        self, source: Location, how: str, start: int, length: int, score: str = "", seen: Sequence[bytes] = ()
    ) -> list[Entry]:
        args = [how, start, length, PAGE_BYTES, score, *seen]
        found = await self._connection.run(READ_PAGE, [source.key(self._keys)], args, "look")
        return [
            Entry(source.place, payload, score=float(its)) for payload, its in zip(found[::2], found[1::2], strict=True)
        ]


def parted(owner: str) -> tuple[str, str, str]:
    """Whose list it is by the registry: process id, queue, and the tag of its dialect or nothing."""
    process_id, _, tagged = owner.partition(" ")
    queue, _, tag = tagged.partition(" ")
    return process_id, queue, tag


def page_length(page: Sequence[Entry], longest: int) -> int:
    """How long the page after this one may be: with payloads of this size, a few megabytes. A first page is of one: nobody knows what it weighs."""
    mean = sum(len(entry.payload) for entry in page) // max(len(page), 1)
    return max(1, min(longest, PAGE_GROWTH * len(page), PAGE_BYTES // max(mean, 1)))


def is_last(page: Sequence[Entry], length: int) -> bool:
    """Whether there was no more than this page, of which `length` were wanted; it may have ended sooner because it was heavy."""
    return len(page) < length and sum(len(entry.payload) for entry in page) < PAGE_BYTES
