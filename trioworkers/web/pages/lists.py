"""What lies in a place, a screenful at a time; filtered, as far as it was looked through, and that is said. One page for each place that has a command."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from functools import partial

import attrs
import trio

from trioworkers.web.filters import exactly, parse_filter
from trioworkers.web.job_buttons import acts_for
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import pick_of
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location, Place, all_places

ROWS = 25
LOOK_S = 1.5
"""So long it is looked through for what matches; then the page says how far that got, and leads on from there."""
KINDS_OF = 1000
"""So many of the failed are looked at for their kinds."""


@attrs.define
class Found:
    """Some of what lies there. `looked_at`: how many, from `start` on; `following`: where to go on; None: that was all."""

    entries: list[Entry]
    start: int
    looked_at: int
    size: int
    following: int | None


async def listed(visit: Visit, source: Location, acts: list[str]) -> Parts:
    """The table, and for what failed its kinds."""
    query = visit.request.get("q")
    now_s = await visit.now_s()
    found = await look(visit, source, query, visit.request.number("from", 0), now_s)
    yield (
        "list.html",
        {
            "source": source,
            "place": source.kind,
            "where": "queue:" + source.queue if source.is_queue else source.place,
            "found": found,
            "query": query,
            "now_s": now_s,
            "acts": acts if visit.may_write else [],
            "pick_of": pick_of,
            "exactly": exactly,
            "rows": ROWS,
        },
    )
    if source.kind.failed and not query and found.size > 1:
        yield (
            "kinds.html",
            {
                "kinds": await kinds(visit, source),
                "of": min(found.size, KINDS_OF),
                "size": found.size,
                "exactly": exactly,
            },
        )


async def look(visit: Visit, source: Location, query: str, start: int, now_s: float, rows: int = ROWS) -> Found:
    """A screenful from there on: of all, or of what matches."""
    inspector = visit.session.inspector
    size = await inspector.size(source)
    where = parse_filter(query)
    found = Found([], start, 0, size, None)
    if not where:
        page = await inspector.page(source, start, rows)
        found.entries, found.looked_at = [visit.shown(entry) for entry in page], len(page)
        following = start + len(page)  # what is heavy makes it shorter
        found.following = following if following < size and page else None
        return found
    until = trio.current_time() + LOOK_S
    async with visit.site.scans, aclosing(inspector.pages(source, start=start)) as pages:
        async for page in pages:
            for entry in page:
                found.looked_at += 1
                shown = visit.shown(entry)
                if where.matches(shown, now_s):
                    found.entries.append(shown)
                    if len(found.entries) == rows:
                        found.following = start + found.looked_at
                        return found
            if trio.current_time() > until:
                found.following = start + found.looked_at
                return found
    return found


async def kinds(visit: Visit, source: Location) -> list[tuple[tuple[str, str], int]]:
    """By class and error, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    seen = 0
    async with visit.site.scans, aclosing(visit.session.inspector.pages(source)) as pages:
        async for page in pages:
            for entry in page:
                shown = visit.shown(entry)
                counts[shown.job_class, shown.error_class] += 1
            seen += len(page)
            if seen >= KINDS_OF:
                break
    return counts.most_common(10)


async def _place(place: Place, visit: Visit) -> Parts:
    source = Location(place.name)
    yield "place.html", {"place": place, "about": place.about.partition("\n")[0]}
    async for part in listed(visit, source, acts_for(source)):
        yield part


LISTS = tuple(
    Page(f"/{place.command}", place.command.capitalize(), partial(_place, place), slow=True)
    for place in all_places()
    if place.command
)
