"""The first page: what is wrong right now, how much is where, how it went over the last hours, the longest queues, what runs longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.cli.tables import duration
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.rates import SPANS
from trioworkers.web.visit import Visit
from trioworkers.wire.places import sets
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted

SHOWN_QUEUES = 8
NAMED = 5
LATE_S = 300.0
SILENT_S = 60.0


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


async def _parts(visit: Visit) -> Parts:
    snapshot = await snapshot_of(visit)
    span = visit.request.get("span", "hour")
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
        "span": span if span in SPANS else "hour",
        "minute": int(snapshot.now_s // 60),
    }
    yield "overview.html", values


def consumers(processes: Sequence[Process]) -> dict[str, list[Process]]:
    """Who fetches from which queue."""
    found: dict[str, list[Process]] = {}
    for process in processes:
        for queue in process.queues:
            found.setdefault(queue, []).append(process)
    return found


def problems(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What is wrong right now: where to look, and a sentence. The whole examination is `doctor`'s."""
    if not snapshot.processes and snapshot.totals.enqueued:
        return [("/processes", f"no process runs, and {counted(snapshot.totals.enqueued, 'job')} wait")]
    found = [*_of_queues(snapshot), *_of_processes(snapshot)]
    return found + [("/queues", f"class {name} is paused: its jobs are held") for name in snapshot.paused_classes]


def _of_queues(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    serving = consumers([process for process in snapshot.processes if not process.quiet])
    left = [queue for queue in snapshot.queues if queue.size and not queue.paused and queue.name not in serving]
    if left:
        names = [queue.name for queue in left[:NAMED]] + (["others"] if len(left) > NAMED else [])
        where = " and ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else names[0]
        count = counted(sum(queue.size for queue in left), "job")
        yield "/queues", f"{count} in {where}, and nobody fetches from there"
    for queue in snapshot.queues:
        if queue.problem:
            yield "/queues", f"queue {queue.name} can't be looked at: {queue.problem}"
        elif queue.paused and queue.size:
            yield "/queues", f"{counted(queue.size, 'job')} in {queue.name}, which is paused"
        elif queue.name in serving and (queue.latency_s or 0.0) > LATE_S:
            yield "/queues", f"what is next in {queue.name} has waited for {duration(queue.latency_s)}"


def _of_processes(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for process in snapshot.processes:
        name, silent_s = process.process_id or process.identity, snapshot.now_s - process.beat_s
        if silent_s > SILENT_S:
            yield "/processes", f"process {name} was last heard of {duration(silent_s)} ago"
        if process.quiet:
            yield "/processes", f"process {name} is quiet: it fetches no more"


OVERVIEW = Page("/", "Overview", _parts, live=True)
