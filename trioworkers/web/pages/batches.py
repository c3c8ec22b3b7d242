"""Batches, the one that moved last first; and one, with how far it is and its members that have not ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

import trio

from trioworkers.broker.people.batches import BatchState, batch_state, batches, inner_batches, waits_for
from trioworkers.errors import NotFound
from trioworkers.web.filters import exactly
from trioworkers.web.pages.graph import Node, draw
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import pick_of
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry

ROWS = 50
MEMBERS = 25
MOST_GRAPH = 1000
"""As many as a batch may have that is sent in one step, which those with a graph are."""
LOOK_S = 3.0


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
    waiting = await waits_for(session.connection, session.keys, name, MOST_GRAPH)
    members, over = await _members(visit, name, MOST_GRAPH if waiting.on else MEMBERS)
    if waiting.on:
        nodes = graph_of(waiting.on, members)
        yield "graph.html", {"nodes": nodes, "drawing": draw(nodes), "is_all": waiting.is_all}
    values = {"members": members[:MEMBERS], "batch": state, "pick_of": pick_of, "exactly": exactly}
    yield "members.html", {**values, "most": MEMBERS, "is_all": over and len(members) <= MEMBERS}


async def _members(visit: Visit, name: str, most: int) -> tuple[list[Entry], bool]:
    """So many of them, as far as they are found within a few seconds; and whether that was all."""
    found: list[Entry] = []
    until = trio.current_time() + LOOK_S
    with trio.move_on_at(until):
        async with visit.site.scans, aclosing(visit.session.inspector.members(name)) as entries:
            async for entry in entries:
                found.append(visit.shown(entry))
                if len(found) == most:
                    return found, False
        return found, True
    return found, False


def graph_of(waiting: Mapping[str, Sequence[str]], members: Sequence[Entry]) -> dict[str, Node]:
    """Those that wait, and those that they wait for, with what is known of them."""
    known = {entry.jid: entry for entry in members}
    jids = dict.fromkeys([*(jid for before in waiting.values() for jid in before), *waiting])
    return {
        jid: Node(jid, *_told(jid, known.get(jid), is_waiting=jid in waiting), waiting.get(jid, ())) for jid in jids
    }


def _told(jid: str, entry: Entry | None, *, is_waiting: bool) -> tuple[str, str]:
    if entry is None:
        return jid, "waiting" if is_waiting else "not found"
    where = {"queue": f"in {entry.queue}", "waiting": "waiting"}.get(entry.place, entry.place)
    return entry.job_class or jid, where


BATCHES = Page("/batches", "Batches", _batches, live=True)
BATCH = Page("/batch", "Batch", _batch, slow=True)
