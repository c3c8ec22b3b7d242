"""What becomes of a periodic job that is due: which of its ticks are sent, which were missed, and when it is due next. Pure: the time is an argument."""

from __future__ import annotations

import math
from itertools import islice, takewhile
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
        ticks = newest_of(when, begin - 1, now, MOST_MADE_UP)
        return Plan(tuple(ticks), (), next_s, first != ticks[0])
    grace_s = within_s if missed == "one" else GRACE_S
    if now_s - newest > grace_s:
        return Plan((), (newest,), next_s, first != newest)
    return Plan((newest,), (), next_s, first != newest)


def _next(when: Schedule, moment_s: int) -> float:
    following = when.after(moment_s)
    return math.inf if following is None else following


def last(when: Schedule, after_s: int, until_s: int) -> int | None:
    """The last tick after one epoch second and not after another."""
    return next(iter(newest_of(when, after_s, until_s, 1)), None)


def newest_of(when: Schedule, after_s: int, until_s: int, most: int) -> list[int]:
    """The last so many ticks after one epoch second and not after another, the oldest first.

    Between these may lie years of seconds, and ticks may be near together or years apart: so it is looked ever further back, and halfway where that was too far.
    """
    enough, span_s = 4 * most, 64
    few_from = until_s
    """From there on there are too few."""
    while True:
        begin_s = max(after_s, until_s - span_s)
        ticks = _ticks(when, begin_s, until_s, enough + 1)
        while len(ticks) > enough:
            middle_s = (begin_s + few_from) // 2
            between = _ticks(when, middle_s, until_s, enough + 1)
            if len(between) < most:
                few_from = middle_s
            else:
                begin_s, ticks = middle_s, between
        if len(ticks) >= most or begin_s == after_s:
            return ticks[-most:]
        few_from, span_s = begin_s, span_s * 4


def _ticks(when: Schedule, after_s: int, until_s: int, most: int) -> list[int]:
    return list(islice(takewhile(until_s.__ge__, when.ticks(after_s)), most))
