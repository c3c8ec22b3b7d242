"""What becomes of a periodic job that is due: which of its ticks are sent, which were missed, and when it is due next. Pure: the time is an argument."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from trioworkers.cron import Schedule

Missed = Literal["one", "all", "skip"]
Overlap = Literal["allow", "skip", "wait"]

MOST_MADE_UP = 100
"""Of missed ticks, with missed="all"."""
GRACE_S = 60
"""How late a tick may be with missed="skip"."""


@attrs.frozen
class Plan:
    """What to do about an entry that is due: `push` these ticks, say of the `missed` ones that they were; `next_s`: its next tick, inf if none is to come.

    `earlier`: whether there were more that were missed, of which nothing is said one by one.
    """

    push: tuple[int, ...]
    missed: tuple[int, ...]
    next_s: float
    earlier: bool = False


def plan(when: Schedule, tick_s: float, now_s: float, missed: Missed, within_s: float) -> Plan:
    """What becomes of the ticks from `tick_s` to `now_s`, both epoch seconds by Redis's clock. What is no tick of `when` is passed over."""
    now = math.floor(now_s)
    begin = now if math.isnan(tick_s) else min(now, max(0, math.ceil(tick_s) if math.isfinite(tick_s) else 0))
    newest = last(when, begin - 1, now)
    if newest is None:
        return Plan((), (), _next(when, now))
    next_s = _next(when, max(newest, now))
    first = when.after(begin - 1)
    if missed == "all":
        ticks = [newest]
        while len(ticks) < MOST_MADE_UP and (before := last(when, begin - 1, ticks[-1] - 1)) is not None:
            ticks.append(before)
        return Plan(tuple(reversed(ticks)), (), next_s, first != ticks[-1])
    grace_s = within_s if missed == "one" else GRACE_S
    if now_s - newest > grace_s:
        return Plan((), (newest,), next_s, first != newest)
    return Plan((newest,), (), next_s, first != newest)


def _next(when: Schedule, moment_s: int) -> float:
    following = when.after(moment_s)
    return math.inf if following is None else following


def last(when: Schedule, after_s: int, until_s: int) -> int | None:
    """The last tick after one epoch second and not after another; found by halving, for between them may lie years of seconds."""
    first = when.after(after_s)
    if first is None or first > until_s:
        return None
    following = when.after(first)
    if following is None or following > until_s:
        return first
    low, high = first, until_s  # after(low) <= until_s < after(high)
    while high - low > 1:
        middle = (low + high) // 2
        coming = when.after(middle)
        low, high = (low, middle) if coming is None or coming > until_s else (middle, high)
    return when.after(low)
