"""The guard against getting dearer: what is counted for a job, a call, a worker and a command is what it was, give or take 3 %.

The figures move by less than 1 %, however busy the machine is. Who makes something dearer on purpose, or cheaper, writes them anew
(`make costs`), so that the difference can be read in the change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "costs"))

from measure import BASELINE, PYTHON, measure, versions

ROOM, CHEAPER = 0.03, 0.05
CHORES = {"idle worker: commands sent a second": 0.5, "idle worker: commands executed a second": 1.5}
"""Whether a round of chores falls into the ten seconds, or just misses them, is chance: four commands sent, twelve executed."""


def test_nothing_costs_more_than_it_did():
    known = json.loads(BASELINE.read_text()).get(PYTHON)
    if known is None:
        pytest.skip(f"there are no figures for Python {PYTHON}; `make costs` writes them")
    found = measure()
    changed = [
        f"{what}: {before:,.2f} → {found[what]:,.2f} ({found[what] / before - 1:+.1%})"
        for what, before in known["figures"].items()
        if what in found and is_news(what, before, found[what])
    ]
    packages = "" if known["with"] == versions() else f"(they were counted with {known['with']}, now {versions()})\n"
    assert not changed, f"costs have changed; if that is meant: make costs\n{packages}" + "\n".join(changed)


def is_news(what: str, before: float, now: float) -> bool:
    """Whether it has changed by more than it does by itself."""
    chance = CHORES.get(what, 0.0)
    return not (1 - CHEAPER) * before - chance <= now <= (1 + ROOM) * before + chance
