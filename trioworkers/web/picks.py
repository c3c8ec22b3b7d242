"""A ticked box: which payload is meant, and how it is found again without walking through everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import attrs
import msgspec

from trioworkers.broker.people.inspection import Inspector
from trioworkers.errors import WrongUsage
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location, all_places

SAME_SCORE = 500
"""So many payloads of one score are looked through for the one that is meant."""
LOOKED_THROUGH = 100_000
"""So far into a queue what is meant is looked for, from where it is fetched."""


@attrs.frozen
class Pick:
    """One payload: where it lay, its score in a set, its jid."""

    place: str
    queue: str
    score: float | None
    jid: str

    @property
    def location(self) -> Location:
        """Where it lay."""
        return Location(self.place, self.queue)

    def encode(self) -> str:
        """As the value of a box."""
        # As text: JSON has no word for infinity, and a browser's number may be rounded.
        score = None if self.score is None else repr(self.score)
        return msgspec.json.encode(
            [self.place, self.queue, score, self.jid.encode("utf-8", "replace").decode()]
        ).decode()

    @classmethod
    def decode(cls, text: str) -> Pick:
        """Raises WrongUsage for what no box of ours has."""
        try:
            place, queue, score, jid = msgspec.json.decode(text, type=tuple[str, str, str | None, str])
            known = any(each.name == place and each.kind in ("set", "queue") for each in all_places())
            number = None if score is None else float(score)
        except (ValueError, RecursionError):
            known = False
        if not known:
            raise WrongUsage(f"that is no job of a list: {text!r:.80}")
        return cls(place, queue, number, jid)


def pick_of(entry: Entry) -> Pick:
    """What the box of this entry says."""
    return Pick(entry.place, entry.list_queue, entry.score, entry.jid)


async def find_all(inspector: Inspector, picks: Sequence[Pick]) -> AsyncGenerator[tuple[Pick, Entry | None], None]:
    """Each with its payload; None for what is not there any more."""
    queues: dict[str, list[Pick]] = {}
    for pick in picks:
        if pick.place == "queue":
            queues.setdefault(pick.queue, []).append(pick)
        else:
            yield pick, await _in_set(inspector, pick)
    for queue, wanted in queues.items():
        found = await _in_queue(inspector, queue, {pick.jid for pick in wanted})
        for pick in wanted:
            yield pick, found.get(pick.jid)


async def _in_set(inspector: Inspector, pick: Pick) -> Entry | None:
    if pick.score is None:
        return None
    page = await inspector.page_from_score(pick.location, pick.score, 0, SAME_SCORE)
    return next((entry for entry in page if entry.jid == pick.jid and entry.score == pick.score), None)


async def _in_queue(inspector: Inspector, queue: str, jids: set[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    seen = 0
    pages: Any = inspector.pages(await inspector.location_of(queue))
    async with aclosing(pages):
        async for page in pages:
            found.update({entry.jid: entry for entry in page if entry.jid in jids})
            seen += len(page)
            if len(found) == len(jids) or seen >= LOOKED_THROUGH:
                break
    return found
