"""One outbox: what waits in a shard for another one, what goes next first, and a button to give up what keeps the rest from going."""

from __future__ import annotations

from contextlib import aclosing

import attrs

from trioworkers.broker.people.outboxes import outbox_entries
from trioworkers.errors import WrongUsage
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry

ROWS = 25
JOBS = 5
"""So many of an entry's jobs are shown."""


@attrs.frozen
class Row:
    """An entry: all that one job enqueued there. `jobs`: the first of them, as they may be shown."""

    id: str
    jobs: list[Entry]
    count: int
    is_readable: bool


async def _parts(visit: Visit) -> Parts:
    target = visit.request.get("target")
    if not target:
        raise WrongUsage("say for which shard")
    rows: list[Row] = []
    async with aclosing(outbox_entries(visit.session.connection, visit.session.keys, target)) as entries:
        async for entry in entries:
            jobs = [visit.shown(job) for job in entry.jobs[:JOBS]]
            rows.append(Row(entry.id, jobs, len(entry.jobs), entry.is_readable))
            if len(rows) > ROWS:
                break
    yield (
        "outbox.html",
        {"target": target, "rows": rows[:ROWS], "more": len(rows) > ROWS, "now_s": await visit.now_s()},
    )


OUTBOX = Page("/outbox", "Waits for another shard", _parts)
