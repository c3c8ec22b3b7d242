"""What is where, at one moment: asked once a second for all pages that want to know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.web.visit import Visit
from trioworkers.wire.process_records import Process


@attrs.frozen
class Snapshot:
    """What is where, at one moment."""

    now_s: float
    totals: Totals
    queues: Sequence[QueueState]
    processes: Sequence[Process]
    paused_classes: Sequence[str]


async def take(visit: Visit) -> Snapshot:
    """Ask Redis."""
    inspector = visit.session.inspector
    queues = await inspector.queues()
    paused = await visit.session.fleet.paused()
    processes = await inspector.processes()
    totals = await inspector.totals(queues)
    return Snapshot(await inspector.now_s(), totals, queues, processes, sorted(paused.classes))


async def snapshot_of(visit: Visit) -> Snapshot:
    """As of at most a second ago."""
    found: Snapshot = await visit.fresh("snapshot", partial(take, visit))
    return found
