"""Periodic jobs, the next to be due first; and one, with its next times and last runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

import trio

from trioworkers.broker.people.periodic import EntryState, PeriodicJobs
from trioworkers.cron import coming, schedule
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.redaction import redacted
from trioworkers.web.visit import Visit
from trioworkers.wire.encode import encode
from trioworkers.wire.entry import Entry
from trioworkers.wire.periodic import Run
from trioworkers.wire.places import Location
from trioworkers.zones import zone_named

ROWS = 100
NEXT = 5
RUNS = 50
SENT = "sent"
PLACES_S = 1.0
"""So long it is looked for runs that have not ended; then they are only called sent."""
PLACES_FRESH_S = 3.0


def remark(state: EntryState) -> str:
    """What is out of the ordinary."""
    said = [word for word, is_so in (("paused", state.paused), ("dynamic", state.origin == "dynamic")) if is_so]
    if state.problem:
        said.append(f"broken: {state.problem}")
    elif not math.isfinite(state.next_s) and not state.paused:
        said.append("never due again")
    return ", ".join(said)


async def _parts(visit: Visit) -> Parts:
    jobs, now_s = PeriodicJobs(visit.session.connection, visit.session.keys), await visit.now_s()
    only = visit.request.get("name")
    if not only:
        found = await jobs.entries(ROWS)
        yield "cron.html", {"entries": found, "now_s": now_s, "remark": remark, "is_due": _is_due, "most": ROWS}
        return
    state = await jobs.named(only)
    values = {"state": state, "now_s": now_s, "remark": remark(state), "times": times(state, now_s)}
    yield "cron_entry.html", {**values, "args": arguments(visit, state, now_s), "is_due": _is_due(state)}
    runs = (await jobs.runs(state.name))[:RUNS]
    places = await visit.fresh(f"runs:{state.name}", partial(_where_runs_are, visit, state.name, runs), PLACES_FRESH_S)
    yield "cron_runs.html", {"runs": runs, "became": partial(became, places)}


async def _where_runs_are(visit: Visit, name: str, runs: Sequence[Run]) -> Mapping[str, Entry] | None:
    """By jid, of those of whom no end was noted; None if that would take too long."""
    wanted = {run.jid for run in runs if run.how == SENT}
    with trio.move_on_after(PLACES_S):
        async with visit.site.scans:
            return await visit.session.inspector.runs(name, wanted)
    return None


def became(places: Mapping[str, Entry] | None, run: Run) -> str:
    """How a run ended, or where it is as long as it hasn't."""
    if run.how != SENT or places is None:
        return run.how
    entry = places.get(run.jid)
    if entry is None:
        return "sent; in no queue or set now, and nobody noted an end"
    if entry.place == "running":
        return f"running on {entry.process_id}"
    how = {"retry": "failed, waits for its retry", "dead": "failed for good", "scheduled": "waits for its time"}
    return how.get(entry.place, f"waits in {Location(entry.place, entry.list_queue)}")


def _is_due(state: EntryState) -> bool:
    return math.isfinite(state.next_s)


def times(state: EntryState, now_s: float) -> list[str]:
    """When it is due next, in its own zone."""
    entry = state.entry
    if entry is None or state.paused:
        return []
    zone = zone_named(entry.zone)
    ticks = coming(schedule(entry.expression, entry.zone), now_s, NEXT)
    return [f"{datetime.fromtimestamp(tick_s, zone):%a %Y-%m-%d %H:%M:%S %z} {entry.zone}" for tick_s in ticks]


def arguments(visit: Visit, state: EntryState, now_s: float) -> str:
    """What its job is called with, as far as it may be shown."""
    if state.entry is None:
        return ""
    shown = redacted(Entry("scheduled", encode(state.entry.job, now_s)), visit.site.redact)
    return shown.args.decode(errors="replace")


CRON = Page("/cron", "Cron", _parts, live=True)
