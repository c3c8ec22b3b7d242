"""Limits over the fleet: their numbers, who holds them, who waits; and buttons to close, open and reset them."""

from __future__ import annotations

import math

from trioworkers.broker.people.limits import FleetLimits, LimitsNow, LimitState
from trioworkers.cli.tables import duration
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit

ROWS = 100


def remark(state: LimitState, now_s: float) -> str:
    """What is out of the ordinary."""
    said = [state.problem] if state.problem else []
    if state.closed_until_s is not None:
        left_s = state.closed_until_s - now_s
        said.append(f"closed for {duration(left_s)}" if left_s < math.inf else "closed until somebody opens it")
    if state.override is not None and any(state.override):
        said.append(f"instead of {state.code} in code" if state.code else "set by people")
    return "; ".join(said)


async def _parts(visit: Visit) -> Parts:
    only = visit.request.get("name")
    found: LimitsNow = await FleetLimits(visit.session.connection, visit.session.keys).look(only, most=ROWS)
    values = {"found": found, "only": only, "now_s": await visit.now_s(), "remark": remark, "most": ROWS}
    yield "limits.html", values


LIMITS = Page("/limits", "Limits", _parts, live=True)
