"""Results as a picture: one panel of bars for each of the main works, in plain SVG. Pure."""

from __future__ import annotations

from html import escape

from benchmarks.report import number, taking_part
from benchmarks.results import OURS, Results
from benchmarks.work import WORKS, Figure, Work

SHOWN = ("empty", "wait", "fanout100", "fanout1000", "sudoku", "latency", "one", "bulk", "hold1000")
COLUMNS = 3
PANEL_WIDTH, BAR_HEIGHT, BAR_GAP, LABEL_WIDTH, VALUE_WIDTH = 400, 15, 5, 118, 62
MARGIN, HEAD = 24, 46
COLOURS = {OURS: "#0b7285", "bare-loop": "#adb5bd"}
OTHER = "#74a9cf"


def svg(results: Results) -> str:
    """The whole picture."""
    works = [work for name in SHOWN for work in WORKS if work.name == name and results.rounds.get(name)]
    panels = [_bars(results, work) for work in works]
    tallest = max((len(bars) for bars in panels), default=0)
    panel_height = HEAD + tallest * (BAR_HEIGHT + BAR_GAP) + MARGIN
    lines = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH, lines * panel_height
    drawn = [
        _panel(work, bars, index % COLUMNS * PANEL_WIDTH, index // COLUMNS * panel_height)
        for index, (work, bars) in enumerate(zip(works, panels, strict=True))
    ]
    style = "font-family: system-ui, sans-serif; font-size: 11px; fill: #343a40"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="{style}">\n<rect width="{width}" height="{height}" fill="#ffffff"/>\n{"".join(drawn)}</svg>\n'
    )


Bar = tuple[str, str, float, float, float]
"""Contestant's name and title; median, lowest, highest."""


def _bars(results: Results, work: Work) -> list[Bar]:
    """The best first."""
    bars = []
    for who in taking_part(results):
        spread = results.spread(work.name, who.name, work.main.name)
        if spread:
            bars.append((who.name, who.title, spread.median, spread.low, spread.high))
    return sorted(bars, key=lambda bar: bar[2], reverse=not work.main.lower_is_better)


def _panel(work: Work, bars: list[Bar], left: int, top: int) -> str:
    longest = max(high for *_, high in bars)
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN
    parts = [
        f'<text x="{left + 12}" y="{top + 18}" font-weight="600" font-size="13">{escape(work.title)}</text>\n',
        f'<text x="{left + 12}" y="{top + 34}" fill="#868e96">{escape(_unit(work.main))}</text>\n',
    ]
    for index, (name, title, median, low, high) in enumerate(bars):
        y = top + HEAD + index * (BAR_HEIGHT + BAR_GAP)
        x = left + LABEL_WIDTH
        middle = y + BAR_HEIGHT - 4
        length, from_, to = (value / longest * room for value in (median, low, high))
        weight = ' font-weight="600"' if name == OURS else ""
        parts += [
            f'<text x="{x - 6}" y="{middle}" text-anchor="end"{weight}>{escape(title)}</text>\n',
            f'<rect x="{x}" y="{y}" width="{max(length, 0.5):.1f}" height="{BAR_HEIGHT}" fill="{COLOURS.get(name, OTHER)}"/>\n',
            f'<line x1="{x + from_:.1f}" x2="{x + to:.1f}" y1="{y + BAR_HEIGHT / 2}" y2="{y + BAR_HEIGHT / 2}" stroke="#343a40"/>\n',
            f'<text x="{x + to + 5:.1f}" y="{middle}"{weight}>{number(median)}</text>\n',
        ]
    return "".join(parts)


def _unit(figure: Figure) -> str:
    return f"{figure.unit}; {'less' if figure.lower_is_better else 'more'} is better"
