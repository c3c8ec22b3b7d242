"""What was done from this dashboard, by whom, and what came of it."""

from __future__ import annotations

from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit


async def _parts(visit: Visit) -> Parts:
    yield "operations.html", {"operations": visit.site.operations.latest()[:50]}


OPERATIONS = Page("/done", "Done here", _parts, live=True)
