"""Looks at what is in Redis, for people: queues, sets, processes, one job wherever it is. Writes nothing.

Whatever may be long is read in pages: memory stays flat, and Redis is not held up. What moves meanwhile may be missed or seen twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import attrs
import trio

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import ConfigurationError, Refused
from trioworkers.wire import places
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location
from trioworkers.wire.process_records import Process, Running, decode_process, decode_running

FIND = script(__file__, "find", keys=("list",), args=("start", "length", "text"))

T = TypeVar("T")
PAGE = 500
FIRST_PAGE = 50
PAGE_BYTES = 4_000_000
FIND_PAGE = 2000
AT_ONCE = 100


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


@attrs.frozen
class Totals:
    """Counters since ever and of today (UTC), and what is where now: in all queues, and in each sorted set by its place's name."""

    processed: int
    failed: int
    processed_today: int
    failed_today: int
    enqueued: int
    sets: Mapping[str, int]


class Inspector:
    """Looks into one Redis database. Every method raises BrokerError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._read = connection.commands("look")
        self._keys = keys

    async def now_s(self) -> float:
        """Redis's time, in epoch seconds."""
        return await self._read.time_s()

    # ── queues and sets ────────────────────────────────────────────────────────────────────────────────────────────────

    async def queues(self) -> list[QueueState]:
        """All known queues, and those that our workers serve in another dialect."""
        names = dict.fromkeys(await self.queue_names())
        sources = [Location("queue", *each) for each in {**await self._other_queues(), **names}.items()]
        paused = set(await self._read.smembers(self._keys.paused))
        now_s = await self.now_s()
        return await self._all([partial(self._queue, source, source.queue in paused, now_s) for source in sources])

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
            _, queue, tag = _parted(owner)
            if tag:
                with suppress(ConfigurationError):  # one of a version to come
                    found[queue] = dialect_named(tag)
        return found

    async def _queue(self, source: Location, paused: bool, now_s: float) -> QueueState:
        key, dialect = source.key(self._keys), str(source.dialect or "")
        try:
            size = await self._read.llen(key)
        except Refused as error:  # it is no list: no reason not to show the others
            return QueueState(source.queue, 0, None, paused, str(error), dialect)
        payloads = await self._list_page(source, 0, 1)
        since_s = payloads[0].since_s if payloads else None
        latency_s = None if since_s is None else max(0.0, now_s - since_s)
        return QueueState(source.queue, size, latency_s, paused, dialect=dialect)

    async def size(self, source: Location) -> int:
        """How many payloads are there."""
        key = source.key(self._keys)
        return await (self._read.llen(key) if source.is_queue else self._read.zcard(key))

    async def pages(self, source: Location, first: int = FIRST_PAGE) -> AsyncGenerator[list[Entry], None]:
        """Everything in `source`: what runs next first, of the dead the latest first. `first`: length of the first page."""
        start, length = 0, min(first, FIRST_PAGE)
        while True:
            page = await (self._list_page if source.is_queue else self._set_page)(source, start, length)
            if page:
                yield page
            if len(page) < length:
                return
            start, length = start + length, page_length(page, PAGE)

    async def _list_page(self, source: Location, start: int, length: int) -> list[Entry]:
        key = source.key(self._keys)
        if source.dialect is not None and source.dialect.fetched_from == "LEFT":
            payloads = await self._read.lrange(key, start, start + length - 1)
        else:
            payloads = (await self._read.lrange(key, -start - length, -start - 1))[::-1]
        return [Entry("queue", payload, source.queue) for payload in payloads]

    async def _set_page(self, source: Location, start: int, length: int) -> list[Entry]:
        key, latest_first = source.key(self._keys), source.kind.latest_first
        members = await self._read.zrange(key, start, start + length - 1, highest_first=latest_first)
        return [Entry(source.place, payload, score=score) for payload, score in members]

    async def page_from_the_newest(self, source: Location, start: int, length: int) -> list[Entry]:
        """A page of a queue counted from the end where jobs are pushed: none is skipped, whatever is fetched meanwhile."""
        key = source.key(self._keys)
        payloads = await self._read.lrange(key, start, start + length - 1)
        return [Entry("queue", payload, source.queue) for payload in payloads]

    async def page_from_score(self, source: Location, score: float, passed: int, length: int) -> list[Entry]:
        """A page of a set, lowest scores first, from this score on but without the first `passed` of it."""
        members = await self._read.zrange_from(source.key(self._keys), score, passed, length)
        return [Entry(source.place, payload, score=member_score) for payload, member_score in members]

    # ── one job ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, jid: str, *, whole: bool = False) -> AsyncGenerator[Entry, None]:
        """The payloads of jobs whose jid (or ActiveJob's id) begins so, or is just that, wherever they are.

        Where the likely one is first looked for.
        """
        async with aclosing(self._holding(f'"{jid}"' if whole else f'"{jid}')) as entries:
            async for entry in entries:
                if jid in entry.ids if whole else any(each.startswith(jid) for each in entry.ids):
                    yield entry

    async def _holding(self, text: str) -> AsyncGenerator[Entry, None]:
        needle = text.encode()
        for key, owner in (await self._pairs(self._keys.in_progress_lists)).items():
            process_id, queue, _ = _parted(owner)
            async for payload in self._find_in_list(key, needle):
                yield Entry("running", payload, queue, process_id=process_id)
        for place in places.sets():
            async for found in self._find_in_set(Location(place.name), text):
                yield found
        for queue in await self.queue_names():
            async for payload in self._find_in_list(self._keys.queue(queue), needle):
                yield Entry("queue", payload, queue)
        for entry in await self._running_elsewhere(needle):
            yield entry

    async def _running_elsewhere(self, needle: bytes) -> list[Entry]:
        """Ruby's jobs are in no list while they run."""
        others = [process for process in await self.processes() if not process.is_ours]
        running = await self._all([partial(self.running, process, FIND_PAGE) for process in others])
        return [job.entry for jobs in running for job in jobs if needle in job.entry.payload]

    async def _find_in_list(self, key: str, needle: bytes) -> AsyncGenerator[bytes, None]:
        start = 0
        while True:
            seen, *payloads = await self._connection.run(FIND, [key], [start, FIND_PAGE, needle], "look")
            for payload in payloads:
                yield payload
            start += FIND_PAGE
            if seen < FIND_PAGE:
                return

    async def _find_in_set(self, source: Location, text: str) -> AsyncGenerator[Entry, None]:
        key = source.key(self._keys)
        pattern = "*" + "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text) + "*"
        cursor = None
        while cursor != 0:
            cursor, members = await self._read.zscan(key, cursor, pattern, FIND_PAGE)
            for payload, score in members:
                yield Entry(source.place, payload, score=score)

    async def crashes(self, jid: str) -> int:
        """How many workers died under it lately."""
        count = await self._read.hget(self._keys.crashes, jid)
        return int(count or 0)

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def processes(self) -> list[Process]:
        """All processes with a heartbeat, Ruby's and ours, by identity."""
        identities = await self._read.smembers(self._keys.processes)
        found = await self._all([partial(self._process, identity) for identity in identities])
        return [process for process in found if process is not None]

    async def _process(self, identity: str) -> Process | None:
        record = await self._read.hgetall(self._keys.process(identity))
        return decode_process(identity, record) if record else None

    async def running(self, process: Process, limit: int) -> list[Running]:
        """Up to about `limit` of the jobs that a process runs, as of its last heartbeat, longest first."""
        found: list[Running] = []
        for key in self._keys.running(process.identity):
            cursor: int | None = None
            while cursor != 0 and len(found) < limit:
                cursor, records = await self._read.hscan(key, cursor, max(limit, 10))
                decoded = (decode_running(process, text) for text in records.values())
                found += [running for running in decoded if running is not None]
            if found:
                break
        return sorted(found, key=lambda running: running.run_at_s)

    # ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def totals(self) -> Totals:
        """What the counters say now."""
        keys = self._keys
        today = datetime.fromtimestamp(await self.now_s(), UTC).strftime("%Y-%m-%d")
        names = [keys.stat(name, day) for day in ("", today) for name in ("processed", "failed")]
        counters = [int(count or 0) for count in await self._read.mget(names)]
        sizes = [queue.size for queue in await self.queues()]
        sets = [place.name for place in places.sets()]
        waiting = await self._all([partial(self.size, Location(name)) for name in sets])
        processed, failed, processed_today, failed_today = counters
        in_sets = dict(zip(sets, waiting, strict=True))
        return Totals(processed, failed, processed_today, failed_today, sum(sizes), in_sets)

    # ── how ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _pairs(self, key: str) -> Mapping[str, str]:
        pairs = await self._read.hgetall(key)
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs.items()}

    async def _all(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """The results of all calls; a hundred at a time go out together."""
        results: dict[int, T] = {}

        async def one(number: int) -> None:
            results[number] = await calls[number]()

        for start in range(0, len(calls), AT_ONCE):
            failed: list[Exception] = []

            async def guarded(number: int, failed: list[Exception] = failed) -> None:
                try:
                    await one(number)
                except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it
                    failed.append(error)

            async with trio.open_nursery() as nursery:
                for number in range(start, min(start + AT_ONCE, len(calls))):
                    nursery.start_soon(guarded, number)
            if failed:
                raise failed[0]
        return [results[number] for number in range(len(calls))]


def _parted(owner: str) -> tuple[str, str, str]:
    """Whose list it is by the registry: process id, queue, and the tag of its dialect or nothing."""
    process_id, _, tagged = owner.partition(" ")
    queue, _, tag = tagged.partition(" ")
    return process_id, queue, tag


def page_length(page: Sequence[Entry], longest: int) -> int:
    """How long the page after this one may be: with payloads of this size, a few megabytes."""
    mean = sum(len(entry.payload) for entry in page) // max(len(page), 1)
    return min(longest, max(4, PAGE_BYTES // max(mean, 1)))
