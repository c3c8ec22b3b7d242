"""Periodic jobs, the next to be due first; and one, with its next times and last runs."""

from __future__ import annotations

import math
from datetime import datetime

from trioworkers.broker.people.periodic import EntryState, PeriodicJobs
from trioworkers.cron import coming, schedule
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.redaction import redacted
from trioworkers.web.visit import Visit
from trioworkers.wire.encode import encode
from trioworkers.wire.entry import Entry
from trioworkers.zones import zone_named

ROWS = 100
NEXT = 5
RUNS = 50


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
    yield "cron_runs.html", {"runs": (await jobs.runs(state.name))[:RUNS]}


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
