"""The guard against getting dearer: what is counted for a job, a call, a worker and a command is what it was, give or take 3 %.

Most figures move by less than 1 %, however busy the machine is; CHANCE has the others. Who makes something dearer on purpose, or cheaper, writes them anew
(`make costs`), so that the difference can be read in the change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "costs"))

from counted_process import counted
from measure import BASELINE, PATHS, PYTHON, count, versions
from servers import Server

KNOWN = json.loads(BASELINE.read_text())
ROOM, CHEAPER = 0.03, 0.05
COARSE = {
    "idle worker: commands sent a second": 0.5,
    "idle worker: commands executed a second": 1.5,
    "one of 100 jobs of a capsule of 12 queues: commands sent": 0.025,
}
"""So few that the chance in them is more than ten percent: whether a round of chores falls into the ten seconds (four commands sent, twelve executed), and how many
queues a worker has heard of when it looks."""
CHANCE = {
    **COARSE,
    "one of 100 jobs of a capsule of 12 queues: commands executed": 0.15,
    "one of 8 jobs of 50 kB: instructions": 300.0,
    "one of 8 jobs of 50 kB: instructions, ours": 50.0,
}
"""By how much a figure moves by itself: also by the number of pieces in which much arrives."""
LESS = {
    "one of 100 jobs of a capsule of 3 queues: commands sent": 0.01,
    "one of 100 jobs of a capsule of 3 queues: commands executed": 0.05,
}
"""By how much it may be less by itself: on a busy machine outcomes wait for each other that else go in two commands."""


@pytest.mark.parametrize("path", PATHS)
def test_nothing_costs_more_than_it_did(path: str):
    if PYTHON not in KNOWN:
        pytest.skip(f"there are no figures for Python {PYTHON}; `make costs` writes them")
    known = KNOWN[PYTHON]
    changed = news(figures_of(path, known["figures"]), count(path))
    packages = "" if known["with"] == versions() else f"(they were counted with {known['with']}, now {versions()})\n"
    assert not changed, f"costs have changed; if that is meant: make costs\n{packages}" + "\n".join(changed)


def figures_of(path: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {what: figure for what, figure in figures.items() if path_of(what) == path}


def path_of(what: str) -> str:
    return what.partition(": ")[0]


def news(known: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """What has changed by more than it does by itself, and what isn't counted any more: a line each."""
    both = known.keys() & found.keys()
    changed = [
        f"{what}: {known[what]:,.2f} → {found[what]:,.2f} ({found[what] / known[what] - 1:+.1%})"
        for what in sorted(both)
        if is_news(what, known[what], found[what])
    ]
    return changed + [f"{what}: not counted now" for what in sorted(known.keys() - found.keys())]


def is_news(what: str, before: float, now: float) -> bool:
    chance = CHANCE.get(what, 0.0)
    return not (1 - CHEAPER) * before - chance - LESS.get(what, 0.0) <= now <= (1 + ROOM) * before + chance


@pytest.mark.parametrize("python", KNOWN)
def test_each_figure_that_grows_by_ten_percent_is_news(python: str):
    figures = KNOWN[python]["figures"]
    assert not news(figures, figures)
    for what, before in figures.items():
        told = news(figures, figures | {what: before * 1.1})
        assert len(told) == (0 if what in COARSE else 1), told  # of those it has to be more
        assert all(line.startswith(f"{what}: ") for line in told)


@pytest.mark.parametrize("python", KNOWN)
def test_figure_that_is_not_counted_any_more_is_news(python: str):
    figures = KNOWN[python]["figures"]
    for what in figures:
        assert news(figures, {name: figure for name, figure in figures.items() if name != what}) == [
            f"{what}: not counted now"
        ]


def test_pythons_have_the_same_figures():
    assert len({frozenset(each["figures"]) for each in KNOWN.values()}) == 1


@pytest.mark.parametrize("python", KNOWN)
def test_every_path_has_figures_and_every_figure_its_path(python: str):
    assert {path_of(what) for what in KNOWN[python]["figures"]} == PATHS.keys()


def test_counted_process_that_ends_is_told_when_it_is_asked(server: Server):
    with counted(server, "no such thing") as process:
        with pytest.raises(AssertionError, match="it ended with status 1"):
            process.line()
        with pytest.raises(AssertionError, match="it ended with status 1"):
            process.figures()


@pytest.mark.parametrize(("now", "told"), [(94.9, True), (95.1, False), (100.0, False), (102.9, False), (103.1, True)])
def test_how_far_a_figure_may_move(now: float, told: bool):
    assert is_news("lone job: instructions", 100.0, now) is told
