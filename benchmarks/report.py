"""Results as text: a table for the terminal, tables in Markdown for the page, and what goes between a page's markers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.results import OURS, Results, Spread
from benchmarks.work import WORKS, Figure, Work

BEGIN = "<!-- benchmarks: written by `make bench-publish`, not by hand -->"
END = "<!-- end of benchmarks -->"

LOST_BELOW = 0.95
"""A ratio below this is named among what we lose on; between it and 1 is noise."""


def between_markers(page: str, text: str) -> str:
    """The page with what is between its markers replaced. Raises ValueError if it has no such place."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the benchmarks' results")
    return f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{tail}"


def number(value: float) -> str:
    """Three digits that matter, thousands apart: 41,200, 24.1, 0.051."""
    if not math.isfinite(value):
        return "too long"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{min(digits, 3)}f}"


def ratio(spread: Spread | None) -> str:
    """`8.2 (7.9–8.4)`."""
    if spread is None:
        return "–"
    middle, low, high = map(number, (spread.median, spread.low, spread.high))
    return middle if low == high else f"{middle} ({low}–{high})"


def cell(results: Results, work: Work, name: str, figures: Sequence[Figure]) -> str:
    """The figures of one contestant in one work, or why there is none."""
    spreads = [results.spread(work.name, name, figure.name) for figure in figures]
    if any(spreads):
        return " / ".join(number(spread.median) if spread else "–" for spread in spreads)
    if name in results.failures.get(work.name, {}):
        return "failed"
    return results.skipped.get(work.name, {}).get(name, "–")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def taking_part(results: Results) -> list[Contestant]:
    """Contestants with any figure at all."""
    measured = {name for by_name in results.rounds.values() for name in by_name}
    return [contestant for contestant in CONTESTANTS if contestant.name in measured]


def measured_works(results: Results) -> list[Work]:
    return [work for work in WORKS if results.rounds.get(work.name)]


# ── the terminal ──────────────────────────────────────────────────────────────────────────────────────────────────────


def text_table(results: Results) -> str:
    """Each figure of each work: median, spread, and how many times better we did."""
    lines = []
    for work in measured_works(results):
        lines.append(f"\n{work.title}")
        for figure in work.figures:
            lines += _text_lines(results, work, figure)
    return "\n".join(lines)


def _text_lines(results: Results, work: Work, figure: Figure) -> list[str]:
    lines = [f"  {figure.unit:26} {'median':>9}  {'from':>9}  {'to':>9}   we are … times better (spread)"]
    for contestant in taking_part(results):
        spread = results.spread(work.name, contestant.name, figure.name)
        if spread is None:
            continue
        ends = "  ".join(f"{number(value):>9}" for value in (spread.median, spread.low, spread.high))
        better = results.advantage(work.name, contestant.name, figure.name, lower_is_better=figure.lower_is_better)
        lines.append(f"    {contestant.title:24} {ends}   {ratio(better) if contestant.name != OURS else ''}")
    return lines if len(lines) > 1 else []


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def page(results: Results, plot: str) -> str:
    """All that goes between the markers. `plot`: the picture's address, as seen from the page."""
    parts = [_circumstances(results), f"![Jobs per second and latency of each]({plot})"]
    parts += ["### Throughput", _throughput_table(results)]
    parts += ["### Enqueueing, latency, idling, holding and stopping", _other_table(results)]
    parts += ["### How many times better we do", _ratio_table(results)]
    parts += ["### What we lose on", _losses(results)]
    parts += ["### Does a backlog cost?", _backlog(results)]
    parts += ["### What was compared", _contestants(results)]
    failures = _failures(results)
    return "\n\n".join(parts + (["### What failed", failures] if failures else []))


def _circumstances(results: Results) -> str:
    most = max((len(rounds) for by_name in results.rounds.values() for rounds in by_name.values()), default=0)
    facts = {**results.machine, "Rounds": f"up to {most}"}
    return "; ".join(f"{name}: {value}" for name, value in facts.items()) + "."


def _throughput_table(results: Results) -> str:
    works = [work for work in measured_works(results) if work.kind == "throughput" and not work.backlog]
    heads = ["", *(work.title for work in works), "commands/job, sent (executed)", "acknowledges"]
    rows = []
    for who in taking_part(results):
        cells = [cell(results, work, who.name, work.figures[:2]) for work in works]
        rows.append([_title(who), *cells, _commands(results, who.name), who.safety])
    note = "Jobs a second / µs of CPU a job, user and system, of the worker's processes. Medians."
    return f"{note}\n\n{markdown(heads, rows)}"


def _commands(results: Results, name: str) -> str:
    sent, executed = (results.spread("empty", name, figure) for figure in ("sent", "executed"))
    return f"{number(sent.median)} ({number(executed.median)})" if sent and executed else "–"


def _other_table(results: Results) -> str:
    works = [work for work in measured_works(results) if work.kind in ("enqueue", "latency", "idle", "hold")]
    heads = ["", *(f"{work.title}: {' / '.join(figure.unit for figure in work.figures)}" for work in works)]
    rows = [
        [_title(who), *(cell(results, work, who.name, work.figures) for work in works)]
        for who in taking_part(results)
        if who.name != "bare-loop"
    ]
    return markdown(heads, rows)


def _ratio_table(results: Results) -> str:
    works = [work for work in measured_works(results) if work.kind != "bursts" and not work.backlog]
    heads = ["against", *(f"{work.title} ({work.main.unit})" for work in works)]
    rows = []
    for who in taking_part(results):
        if who.name == OURS:
            continue
        found = [
            results.advantage(work.name, who.name, work.main.name, lower_is_better=work.main.lower_is_better)
            for work in works
        ]
        rows.append([who.title, *map(ratio, found)])
    note = "Ours against theirs in the same round: median (lowest–highest). Above 1 we are better."
    return f"{note}\n\n{markdown(heads, rows)}"


def _losses(results: Results) -> str:
    lines = []
    for work in measured_works(results):
        for figure in work.figures:
            lost = _who_is_better(results, work, figure)
            if lost:
                lines.append(f"- {work.title}, {figure.unit}: {', '.join(lost)}.")
    return (
        "\n".join(["How many times better others do.", "", *lines])
        if lines
        else "Nothing that was measured in this run."
    )


def _who_is_better(results: Results, work: Work, figure: Figure) -> list[str]:
    lost = []
    for who in taking_part(results):
        better = results.advantage(work.name, who.name, figure.name, lower_is_better=figure.lower_is_better)
        if who.name not in (OURS, "bare-loop") and better and better.median < LOST_BELOW:
            lost.append(f"{who.title} {number(1 / better.median)}")
    return lost


def _backlog(results: Results) -> str:
    works = [work for work in WORKS if work.name in ("backlog1k", "empty", "backlog1m")]
    heads = ["µs CPU/job", "backlog of 1,000", "empty jobs (as many as needed)", "backlog of 1,000,000"]
    order = sorted(works, key=lambda work: ("backlog1k", "empty", "backlog1m").index(work.name))
    rows = []
    for who in taking_part(results):
        found = [results.spread(work.name, who.name, "cpu") for work in order]
        if found[0] or found[2]:
            rows.append([who.title, *(number(spread.median) if spread else "–" for spread in found)])
    return markdown(heads, rows)


def _contestants(results: Results) -> str:
    rows = [[who.title, results.versions.get(who.name, "–"), who.how] for who in taking_part(results)]
    return markdown(["", "versions", "settings"], rows)


def _failures(results: Results) -> str:
    return "\n".join(
        f"- {work}, {name}: {reason.replace('|', '/')}"
        for work, by_name in results.failures.items()
        for name, reasons in by_name.items()
        for reason in reasons
    )


def _title(who: Contestant) -> str:
    return f"**{who.title}**" if who.name == OURS else who.title
