"""Batches, the one that moved last first; and one, with how far it is and its members that have not ended."""

from __future__ import annotations

from contextlib import aclosing

from trioworkers.broker.people.batches import BatchState, batch_state, batches, inner_batches
from trioworkers.errors import NotFound
from trioworkers.web.filters import exactly
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import pick_of
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry

ROWS = 50
MEMBERS = 25


async def _batches(visit: Visit) -> Parts:
    found: list[BatchState] = []
    async with aclosing(batches(visit.session.connection, visit.session.keys)) as states:
        async for state in states:
            found.append(state)
            if len(found) == ROWS:
                break
    yield "batches.html", {"batches": found, "now_s": await visit.now_s(), "most": ROWS}


async def _batch(visit: Visit) -> Parts:
    name, session = visit.request.get("id"), visit.session
    state = await batch_state(session.connection, session.keys, name)
    if state is None:
        raise NotFound(f"there is no batch {name}, or it is forgotten")
    inner = await inner_batches(session.connection, session.keys, name)
    yield "batch.html", {"batch": state, "inner": inner[:ROWS], "now_s": await visit.now_s()}
    members: list[Entry] = []
    async with visit.site.scans, aclosing(session.inspector.members(name)) as entries:
        async for entry in entries:
            members.append(visit.shown(entry))
            if len(members) == MEMBERS:
                break
    yield "members.html", {"members": members, "batch": state, "pick_of": pick_of, "exactly": exactly, "most": MEMBERS}


BATCHES = Page("/batches", "Batches", _batches, live=True)
BATCH = Page("/batch", "Batch", _batch, slow=True)
