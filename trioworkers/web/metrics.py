"""`/metrics`: what this Redis holds, and what the worker in this process does if there is one, for Prometheus. Extra `metrics`."""

from __future__ import annotations

from functools import partial

import trio

from trioworkers.web.http import HttpError
from trioworkers.web.pages.snapshot import Snapshot, snapshot_of
from trioworkers.web.visit import Visit

OF_EACH = 1000
"""So many running jobs of a process are looked at for the one that has run longest."""


async def metrics_text(visit: Visit) -> bytes:
    """All of it. Raises HttpError without the extra."""
    try:
        from trioworkers.observe.fleet_metrics import fleet_metrics  # noqa: PLC0415 - may not be installed
        from trioworkers.observe.metrics import render  # noqa: PLC0415 - as above
    except ImportError:
        raise HttpError(501, "metrics need prometheus-client: pip install 'trioworkers[metrics]'") from None
    snapshot = await snapshot_of(visit)
    longest_s: dict[str, float] = await visit.fresh("longest", partial(_longest, visit, snapshot))
    fleet = render(fleet_metrics(snapshot.totals, snapshot.queues, snapshot.processes, longest_s))
    own = visit.site.metrics
    # In a thread: it asks the worker's event loop how long it takes to answer, and that loop may be blocked.
    return fleet if own is None else fleet + await trio.to_thread.run_sync(own.text)


async def _longest(visit: Visit, snapshot: Snapshot) -> dict[str, float]:
    found: dict[str, float] = {}
    for process in snapshot.processes:
        if process.busy:
            for job in await visit.session.inspector.running(process, OF_EACH):
                queue = job.entry.queue
                found[queue] = max(found.get(queue, 0.0), snapshot.now_s - job.run_at_s)
    return found
