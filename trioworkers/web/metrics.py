"""`/metrics`: what this Redis holds, and what the worker in this process does if there is one, for Prometheus. Extra `metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from trioworkers.web.http import HttpError
from trioworkers.web.pages.snapshot import Snapshot, snapshot_of
from trioworkers.web.site import OwnMetrics
from trioworkers.web.visit import Visit

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OF_EACH = 1000
"""So many running jobs of a process are looked at for the one that has run longest."""


async def metrics_text(visit: Visit) -> bytes:
    """All of it. Raises HttpError without the extra."""
    return await _rendered(await families_of(visit), visit.site.metrics)


async def families_of(visit: Visit) -> list[Metric]:
    """What this Redis holds. Raises HttpError without the extra."""
    try:
        from trioworkers.observe.fleet_metrics import fleet_metrics  # noqa: PLC0415 - may not be installed
    except ImportError:
        raise HttpError(501, "metrics need prometheus-client: pip install 'trioworkers[metrics]'") from None
    snapshot = await snapshot_of(visit)
    longest_s: dict[str, float] = await visit.fresh("longest", partial(_longest, visit, snapshot))
    return [*fleet_metrics(snapshot.totals, snapshot.queues, snapshot.processes, longest_s)]


async def metrics_of_all(found: Mapping[str, list[Metric] | str], own: OwnMetrics | None) -> bytes:
    """Those of several shards, labelled by it; of one that gave no answer only that. Raises HttpError without the extra."""
    try:
        from trioworkers.observe.fleet_metrics import of_shards  # noqa: PLC0415 - may not be installed
    except ImportError:
        raise HttpError(501, "metrics need prometheus-client: pip install 'trioworkers[metrics]'") from None
    return await _rendered(
        of_shards({name: None if isinstance(each, str) else each for name, each in found.items()}), own
    )


async def _rendered(families: Iterable[Metric], own: OwnMetrics | None) -> bytes:
    from trioworkers.observe.metrics import render  # noqa: PLC0415 - may not be installed

    fleet = render(iter(families))
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
