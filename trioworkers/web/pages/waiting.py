"""How many jobs waited, and how long the next one had, as two pictures over the last hour, day or three days: what workers noted minute by minute, of all queues or of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from trioworkers.broker.people.history import History, Waiting
from trioworkers.cli.tables import duration, number
from trioworkers.web.pages.rates import HEIGHT, NARROW, SPANS, WIDTH, Span, ticks
from trioworkers.web.rendering import render
from trioworkers.web.visit import Visit

MOST_KEPT = 5
"""Queues of which hours that are over are remembered."""


async def waiting_picture(visit: Visit) -> str:
    """An SVG, readable on light and dark."""
    request = visit.request
    span = SPANS.get(request.get("span"), SPANS["hour"])
    queue = request.get("queue")[:1000]
    columns = await visit.fresh(f"waiting {span.title} {queue}", partial(read, visit, span, queue), 10.0)
    place = 1 if request.get("what") == "age" else 0
    values = [None if waiting is None else waiting[place] for waiting in columns]
    return draw(span, values, await visit.now_s(), is_age=place == 1, width=NARROW if request.get("narrow") else WIDTH)


async def read(visit: Visit, span: Span, queue: str = "") -> Sequence[Waiting | None]:
    """By column, oldest first, the most that was noted in it; None where nobody noted anything."""
    now_s = await visit.now_s()
    first_s = (now_s // span.column_s - span.columns + 1) * span.column_s
    hours = range(int(first_s // 3600), int(now_s // 3600) + 1)
    kept = await _kept(visit, queue)
    missing = [hour for hour in hours if hour not in kept]
    history = History(visit.session.connection, visit.session.keys)
    read_now = dict(zip(missing, await history.hours(missing, queue), strict=True))
    columns: list[Waiting | None] = [None] * span.columns
    for hour in hours:
        for minute, (size, age_s) in (kept.get(hour) or read_now.get(hour) or {}).items():
            column = int((hour * 3600 + minute * 60 - first_s) // span.column_s)
            if 0 <= column < span.columns:
                before = columns[column] or (0, 0)
                columns[column] = max(before[0], size), max(before[1], age_s)
    kept.update({hour: found for hour, found in read_now.items() if (hour + 1) * 3600 + 120 < now_s})
    return columns


async def _kept(visit: Visit, queue: str) -> dict[int, Mapping[int, Waiting]]:
    """Hours that are over don't change any more: they are read once."""

    async def nothing() -> dict[str, dict[int, Mapping[int, Waiting]]]:
        return {}

    by_queue: dict[str, dict[int, Mapping[int, Waiting]]] = await visit.fresh("hours that are over", nothing, 86400.0)
    if queue not in by_queue and len(by_queue) >= MOST_KEPT:
        by_queue.clear()
    return by_queue.setdefault(queue, {})


def draw(span: Span, values: Sequence[int | None], now_s: float, *, is_age: bool, width: int = WIDTH) -> str:
    """A line over what it encloses; gaps where nothing is known."""
    shown = duration if is_age else number
    known = [value for value in values if value is not None]
    most = max(known, default=0)
    step = width / max(len(values), 1)
    points = [
        None if value is None else (round((place + 0.5) * step, 1), round(HEIGHT - HEIGHT * value / (most or 1), 1))
        for place, value in enumerate(values)
    ]
    last = known[-1] if known and values[-1] is not None else None
    form = "%H:%M" if span.columns * span.column_s <= 86400 else "%a %H:%M"
    return render(
        "waiting.svg",
        {
            "title": "how long the next one has waited" if is_age else "jobs that wait",
            "runs": [_path(run, step) for run in _runs(points)],
            "width": width,
            "height": HEIGHT,
            "most": f"at most {shown(most)}" if known else "nobody has noted anything yet",
            "now": "" if last is None else f", {shown(last)} now",
            "ticks": [(x, at.strftime(form)) for x, at in ticks(span, now_s, width)],
        },
    )


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Those between two gaps; a gap of one column is none: a minute may be noted twice and the next one not."""
    found: list[list[tuple[float, float]]] = [[]]
    for place, point in enumerate(points):
        if point is not None:
            found[-1].append(point)
        elif found[-1] and not (place + 1 < len(points) and points[place + 1] is not None):
            found.append([])
    return [run for run in found if run]


def _path(run: Sequence[tuple[float, float]], step: float) -> tuple[str, str]:
    """Its line, and what lies under it."""
    (first, at_first), (last, at_last) = run[0], run[-1]
    line = " ".join(f"{x} {y}" for x, y in [(first - step / 2, at_first), *run, (last + step / 2, at_last)])
    return f"M {line}", f"M {first - step / 2} {HEIGHT} L {line} L {last + step / 2} {HEIGHT} Z"
