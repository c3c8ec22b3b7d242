"""All queues; and one, with what waits there."""

from __future__ import annotations

from trioworkers.broker.people.contents import QueueState
from trioworkers.web.job_buttons import acts_for
from trioworkers.web.pages.lists import listed
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.problems import consumers
from trioworkers.web.pages.rates import SPANS, span_of
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.visit import Visit
from trioworkers.wire.places import Location


async def _queues(visit: Visit) -> Parts:
    snapshot = await snapshot_of(visit)
    serving = consumers(snapshot.processes)
    known = {queue.name: queue for queue in snapshot.queues}
    names = sorted({*known, *serving})
    queues = [known.get(name) or QueueState(name, 0, None, paused=False) for name in names]
    values = {
        "queues": queues,
        "consumers": serving,
        "longest": max((queue.size for queue in queues), default=0),
        "paused_classes": snapshot.paused_classes,
        "rate_of": lambda serving, name: sum(process.rates.get(name, 0.0) for process in serving),
        "slots_of": lambda serving, name: sum(process.queues[name] for process in serving),
    }
    yield "queues.html", values


async def _queue(visit: Visit) -> Parts:
    name = visit.request.get("name")
    source = await visit.session.inspector.location_of(name)
    snapshot = await snapshot_of(visit)
    known = {queue.name: queue for queue in snapshot.queues}
    yield (
        "queue.html",
        {
            "queue": known.get(name) or QueueState(name, 0, None, paused=False),
            "serving": consumers(snapshot.processes).get(name, []),
            "spans": SPANS,
            "span": span_of(visit),
            "minute": int(snapshot.now_s // 60),
        },
    )
    async for part in listed(visit, source, acts_for(Location("queue", name))):
        yield part


QUEUES = Page("/queues", "Queues", _queues, live=True)
QUEUE = Page("/queue", "Queue", _queue, slow=True)
