"""How many jobs ended, well or not, as a picture over the last hour, day or three days: from what Sidekiq's own metrics page reads, of Ruby's workers and ours.

A picture by itself: the page is there before it. A minute that is over doesn't change any more, so it is read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import attrs

from trioworkers.web.rendering import render
from trioworkers.web.visit import Visit


@attrs.frozen
class Span:
    """How far a picture reaches back: so many columns of so many seconds. `index`: which of the keys of a moment holds such a column."""

    title: str
    column_s: int
    columns: int
    index: int


SPANS: Mapping[str, Span] = {
    "hour": Span("last hour", 60, 60, 1),
    "day": Span("last day", 600, 144, 2),
    "three-days": Span("three days", 1800, 144, 2),
}
WIDTH, NARROW, HEIGHT = 720, 360, 140
"""Narrow: on a phone, where a wide one's words would be too small to be read."""
Counts = tuple[int, int]
"""Ended well, and failed."""


def span_of(visit: Visit) -> str:
    """The name of the one that is asked for."""
    span = visit.request.get("span")
    return span if span in SPANS else "hour"


async def rates_picture(visit: Visit) -> str:
    """An SVG, readable on light and dark."""
    span = SPANS.get(visit.request.get("span"), SPANS["hour"])
    counts = await visit.fresh(f"rates {span.title}", partial(read, visit, span), 10.0)
    return draw(span, counts, await visit.now_s(), NARROW if visit.request.get("narrow") else WIDTH)


async def read(visit: Visit, span: Span) -> Sequence[Counts]:
    """The columns, oldest first; the last one isn't over yet."""
    session = visit.session
    now_s = await session.inspector.now_s()
    first = int(now_s // span.column_s) - span.columns + 1
    kept: dict[str, Counts] = await visit.fresh("minutes that are over", _nothing, 86400.0)
    step_s = 60 if span.index == 1 else 600
    wanted: dict[int, list[tuple[str, bool]]] = {}
    for column in range(first, first + span.columns):
        moments = range(column * span.column_s, (column + 1) * span.column_s, step_s)
        keys = [session.keys.job_counts(datetime.fromtimestamp(at, UTC))[span.index] for at in moments]
        wanted[column] = [(key, at + step_s + 60 < now_s) for key, at in zip(keys, moments, strict=True)]
    missing = [key for each in wanted.values() for key, _ in each if key not in kept]
    read_now = dict(zip(missing, await session.inspector.job_counts(missing), strict=True))
    found = [_sum([kept.get(key) or read_now[key] for key, _ in wanted[column]]) for column in sorted(wanted)]
    kept.update({key: read_now[key] for each in wanted.values() for key, over in each if over and key in read_now})
    return found


async def _nothing() -> dict[str, Counts]:
    return {}


def _sum(counts: Sequence[Counts]) -> Counts:
    return sum(good for good, _ in counts), sum(bad for _, bad in counts)


def ticks(span: Span, now_s: float, width: int) -> list[tuple[float, datetime]]:
    """Where moments are told below a picture, and which."""
    parts = (0.0, 0.25, 0.5, 0.75) if width > NARROW else (0.0, 0.4)
    reach_s = span.column_s * span.columns
    return [
        (round(width * part, 1), datetime.fromtimestamp(now_s - (1 - part) * reach_s).astimezone()) for part in parts
    ]


def draw(span: Span, counts: Sequence[Counts], now_s: float, full_width: int = WIDTH) -> str:
    """Bars: what ended well, and on it what failed."""
    most = max((good + bad for good, bad in counts), default=0) or 1
    width = full_width / max(len(counts), 1)
    bars = []
    for place, (good, bad) in enumerate(counts):
        low, high = HEIGHT * good / most, HEIGHT * bad / most
        if bad and high < 1.5:
            high = 1.5  # one failure among thousands is seen
        bars.append(
            (
                round(place * width, 2),
                round(HEIGHT - low, 2),
                round(low, 2),
                round(HEIGHT - low - high, 2),
                round(high, 2),
            )
        )
    good, bad = _sum(counts)
    form = "%H:%M" if span.columns * span.column_s <= 86400 else "%a %H:%M"
    values = {
        "span": span,
        "bars": bars,
        "bar": round(max(width - 1, 0.5), 2),
        "width": full_width,
        "height": HEIGHT,
        "most": most,
        "good": good,
        "bad": bad,
        "ticks": [(x, at.strftime(form)) for x, at in ticks(span, now_s, full_width)],
    }
    return render("rates.svg", values)
