"""One search over all places: what matches in each, and how far that was looked through."""

from __future__ import annotations

from trioworkers.web.filters import exactly, parse_filter
from trioworkers.web.pages.lists import look
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import pick_of
from trioworkers.web.visit import Visit
from trioworkers.wire.places import Location, sets

ROWS = 5
MOST_QUEUES = 20


async def _parts(visit: Visit) -> Parts:
    query = visit.request.get("q").strip()
    parse_filter(query)
    yield "search.html", {"query": query}
    if not query:
        return
    inspector = visit.session.inspector
    now_s = await visit.now_s()
    sources = [Location(place.name) for place in sets()]
    sources += [await inspector.location_of(name) for name in (await inspector.queue_names())[:MOST_QUEUES]]
    hits = 0
    for source in sources:
        found = await look(visit, source, query, 0, now_s, ROWS)
        hits += len(found.entries)
        if found.entries or found.following is not None:
            values = {"source": source, "place": source.kind, "found": found, "query": query, "now_s": now_s}
            yield "hits.html", {**values, "pick_of": pick_of, "exactly": exactly}
    yield "searched.html", {"hits": hits, "sources": sources}


SEARCH = Page("/search", "Search", _parts, slow=True)
