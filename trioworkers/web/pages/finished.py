"""How the last jobs of a class ended, of those classes that keep that (`keep_finished`); without a class which ones do."""

from __future__ import annotations

from trioworkers.broker.people.ended import finished, finished_classes
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit

ROWS = 100
MOST_CLASSES = 500


async def _parts(visit: Visit) -> Parts:
    only = visit.request.get("class")
    if only:
        yield "finished.html", {"only": only, "jobs": await finished(visit.session, only, ROWS), "most": ROWS}
        return
    classes = await finished_classes(visit.session)
    yield "finished_classes.html", {"classes": sorted(classes)[:MOST_CLASSES], "count": len(classes)}


FINISHED = Page("/finished", "Finished", _parts, live=True)
