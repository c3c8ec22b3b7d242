"""Who works here: each process with its queues, the machines that they are on, and what waits for the workers to bring it to other shards."""

from __future__ import annotations

from trioworkers.web.pages.outboxes import waiting
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.visit import Visit

ROWS = 100
MANY_QUEUES = 12


async def _parts(visit: Visit) -> Parts:
    snapshot = await snapshot_of(visit)
    hosts: dict[str, list[int]] = {}
    for process in snapshot.processes:
        counts = hosts.setdefault(process.identity.partition(":")[0], [0, 0, 0, 0])
        for place, more in enumerate((1, process.busy, process.concurrency, process.rss_kb)):
            counts[place] += more
    processes = sorted(snapshot.processes, key=lambda process: process.process_id or process.identity)
    values = {
        "processes": processes[:ROWS],
        "more": len(processes) - ROWS,
        "hosts": sorted(hosts.items())[:ROWS],
        "now_s": snapshot.now_s,
        "many": MANY_QUEUES,
    }
    yield "processes.html", values
    yield "outboxes.html", {"outboxes": waiting(snapshot)}


PROCESSES = Page("/processes", "Processes", _parts, live=True)
