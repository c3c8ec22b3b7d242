"""One job, wherever it is."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from functools import partial
from string import ascii_letters, digits
from typing import Any

from trioworkers.broker.people.contents import Contents, parted
from trioworkers.broker.people.processes import Processes
from trioworkers.broker.redis.scripts import script
from trioworkers.wire import places
from trioworkers.wire.entry import Entry
from trioworkers.wire.membership import BATCH_FIELD
from trioworkers.wire.numbers import count_in
from trioworkers.wire.places import Location

FIND = script(
    __file__, "find", keys=("place",), args=("kind", "start", "length", "max_bytes", "text", "odd"), preludes=("pages",)
)
FIND_PAGE = 2000
FIND_BYTES = 8_000_000
"""Redis serves nobody else while it looks."""

_SPELLED_AS_IT_IS = frozenset(f"{ascii_letters}{digits} !#$%'()*+,-.:;=?@[]^_`{{|}}~")
"""What nobody escapes in JSON."""

_MADE = re.compile("[0-9a-f]{6,24}")
"""What may be, or begin, a jid that was made from the bytes of a job without one: it is in no payload."""


class Search(Contents, Processes):
    """Looks where the likely place is first."""

    async def find(self, jid: str, *, whole: bool = False) -> AsyncGenerator[Entry, None]:
        """The payloads of jobs whose jid (or ActiveJob's id) begins so, or is just that, wherever they are.

        Where the likely one is first looked for.
        """
        found = False
        for text in [*_texts_of(jid, whole=whole), *([None] if _MADE.fullmatch(jid) else [])]:
            async with aclosing(self._holding(text)) as entries:
                async for entry in entries:
                    if jid in entry.ids if whole else any(each.startswith(jid) for each in entry.ids):
                        found = True
                        yield entry
            if found:
                return

    async def members(self, batch: str) -> AsyncGenerator[Entry, None]:
        """The payloads of a batch's members, wherever they are."""
        async with aclosing(self._holding(f'"{BATCH_FIELD}":"{batch}')) as entries:
            async for entry in entries:
                if entry.batch == batch:
                    yield entry

    async def runs(self, name: str, jids: Collection[str]) -> dict[str, Entry]:
        """Where these runs of a periodic job are; without those that are nowhere. Looks no further when it has all."""
        found: dict[str, Entry] = {}
        if not jids:
            return found
        from trioworkers.wire.periodic import end_of_tick  # noqa: PLC0415 - few commands are about periodic jobs

        async with aclosing(self._holding(end_of_tick(name))) as entries:
            async for entry in entries:
                if entry.jid in jids:
                    found.setdefault(entry.jid, entry)
                if len(found) == len(jids):
                    break
        return found

    async def _holding(self, text: str | None) -> AsyncGenerator[Entry, None]:
        """What holds a text; None: what seems to have no jid."""
        needle = None if text is None else text.encode(errors="surrogateescape")  # as a shell gives what is no text
        for key, owner in (await self._pairs(self._keys.in_progress_lists)).items():
            process_id, queue, _ = parted(owner)
            async with aclosing(self._find_in_list(key, needle)) as payloads:
                async for payload in payloads:
                    yield Entry("running", payload, queue, process_id=process_id)
        for place in places.sets():
            async with aclosing(self._find_in_set(Location(place.name), needle)) as entries:
                async for found in entries:
                    yield found
        for queue in await self.queue_names():
            async with aclosing(self._find_in_list(self._keys.queue(queue), needle)) as payloads:
                async for payload in payloads:
                    yield Entry("queue", payload, queue)
        for entry in await self._running_elsewhere(needle):
            yield entry

    async def _running_elsewhere(self, needle: bytes | None) -> list[Entry]:
        """Ruby's jobs are in no list while they run."""
        others = [process for process in await self.processes() if not process.is_ours]
        running = await self._all([partial(self.running, process, FIND_PAGE) for process in others])
        return [job.entry for jobs in running for job in jobs if needle is None or needle in job.entry.payload]

    async def _find_in_list(self, key: str, needle: bytes | None) -> AsyncGenerator[bytes, None]:
        start: Any = 0
        while start != -1:
            args = ["list", start, FIND_PAGE, FIND_BYTES, needle or b"", int(needle is None)]
            start, *payloads = await self._connection.run(FIND, [key], args, "look")
            for payload in payloads:
                yield payload

    async def _find_in_set(self, source: Location, needle: bytes | None) -> AsyncGenerator[Entry, None]:
        key = source.key(self._keys)
        cursor: Any = 0
        while cursor != -1:
            args = ["set", cursor, FIND_PAGE, FIND_BYTES, needle or b"", int(needle is None)]
            cursor, *found = await self._connection.run(FIND, [key], args, "look")
            for payload, score in zip(found[::2], found[1::2], strict=True):
                yield Entry(source.place, payload, score=float(score))

    async def crashes(self, jid: str) -> int:
        """How many workers died under it lately."""
        count = await self._read.hget(self._keys.crashes, jid)
        return count_in(count) or 0


def _texts_of(jid: str, *, whole: bool) -> Sequence[str]:
    """What to look for, one after the other until something is found: a text that is in the payload however the jid is spelled there.

    "" if nothing of it is spelled in one way only: then all payloads are read here.
    """
    if not _SPELLED_AS_IT_IS.issuperset(jid):
        runs = "".join(letter if letter in _SPELLED_AS_IT_IS else "\n" for letter in jid).split("\n")
        return [max(runs, key=len)]
    quoted = f'"{jid}"' if whole else f'"{jid}'
    return [quoted, jid] if jid.removeprefix("-").isdigit() else [quoted]  # some are numbers
