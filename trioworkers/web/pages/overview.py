"""The first page: what is wrong right now, how much is where, how it went over the last hours, the longest queues, what runs longest."""

from __future__ import annotations

from typing import Any

from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.problems import consumers, problems
from trioworkers.web.pages.rates import SPANS, span_of
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.visit import Visit
from trioworkers.wire.places import sets

SHOWN_QUEUES = 8


async def _parts(visit: Visit) -> Parts:
    snapshot = await snapshot_of(visit)
    processes = snapshot.processes
    queues = sorted(snapshot.queues, key=lambda queue: -queue.size)
    values: dict[str, Any] = {
        "snapshot": snapshot,
        "problems": problems(snapshot),
        "queues": queues[:SHOWN_QUEUES],
        "more_queues": len(queues) - SHOWN_QUEUES,
        "longest": max((queue.size for queue in queues), default=0),
        "consumers": consumers(processes),
        "busy": sum(process.busy for process in processes),
        "slots": sum(process.concurrency for process in processes),
        "rate": sum(sum(process.rates.values()) for process in processes),
        "sets": [place for place in sets() if place.command],
        "spans": SPANS,
        "span": span_of(visit),
        "minute": int(snapshot.now_s // 60),
    }
    yield "overview.html", values


OVERVIEW = Page("/", "Overview", _parts, live=True)
