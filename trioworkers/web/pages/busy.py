"""What runs now, longest first, with buttons to cancel it."""

from __future__ import annotations

from functools import partial

from trioworkers.broker.people.inspection import Inspector
from trioworkers.web.buttons import FATES
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.visit import Visit
from trioworkers.wire.process_records import Process, Running

ROWS = 50
OF_EACH = 50


async def running(inspector: Inspector, processes: list[Process]) -> list[Running]:
    """Some of what each process runs, longest first."""
    found = [job for process in processes for job in await inspector.running(process, OF_EACH)]
    return sorted(found, key=lambda job: job.run_at_s)


async def _parts(visit: Visit) -> Parts:
    snapshot = await snapshot_of(visit)
    processes = [process for process in snapshot.processes if process.busy][:ROWS]
    jobs: list[Running] = await visit.fresh("running", partial(running, visit.session.inspector, processes))
    shown = [(job, visit.shown(job.entry)) for job in jobs[:ROWS]]
    values = {
        "jobs": shown,
        "busy": sum(process.busy for process in snapshot.processes),
        "slots": sum(process.concurrency for process in snapshot.processes),
        "now_s": snapshot.now_s,
        "fates": FATES,
    }
    yield "busy.html", values


BUSY = Page("/busy", "Busy", _parts, live=True)
