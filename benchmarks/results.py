"""What was measured, as values: figures of every round, failures, ratios with their spread; kept as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

OURS = "trioworkers"


class Named(Protocol):
    """A work or a contestant."""

    @property
    def name(self) -> str: ...


@attrs.frozen
class Spread:
    """The middle one of several rounds, and the ends."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        return cls(statistics.median(values), min(values), max(values))


@attrs.define
class Results:
    """All rounds of one run. `rounds[work][contestant]`: a dictionary of figures for each round, its number as `round` among them."""

    machine: dict[str, str] = attrs.Factory(dict)
    versions: dict[str, str] = attrs.Factory(dict)
    rounds: dict[str, dict[str, list[dict[str, float]]]] = attrs.Factory(dict)
    failures: dict[str, dict[str, list[str]]] = attrs.Factory(dict)
    skipped: dict[str, dict[str, str]] = attrs.Factory(dict)

    def add(self, work: Named, name: str, number: int, outcome: dict[str, float] | Exception) -> None:
        """Note what came of round `number`; says it on standard output, too, since a run takes long."""
        if isinstance(outcome, Exception):
            self.failures.setdefault(work.name, {}).setdefault(name, []).append(str(outcome)[:400])
            shown = f"FAILED: {outcome}"
        else:
            self.rounds.setdefault(work.name, {}).setdefault(name, []).append({"round": number, **outcome})
            shown = "  ".join(f"{figure} {value:.4g}" for figure, value in outcome.items())
        print(f"{number + 1}  {work.name:12} {name:12} {shown}", flush=True)

    def skip(self, work: Named, contestant: Named, reason: str) -> None:
        self.skipped.setdefault(work.name, {})[contestant.name] = reason

    def takes_part(self, work: Named, name: str) -> bool:
        """Whether to measure it (again): not what it can't do, nor what it has failed in twice, which would only take time."""
        failures = self.failures.get(work.name, {}).get(name, [])
        return name not in self.skipped.get(work.name, {}) and len(failures) < 2

    # ── what reports ask ──────────────────────────────────────────────────────────────────────────────────────────────

    def values(self, work: str, name: str, figure: str) -> dict[float, float]:
        """One figure of all rounds, by the round's number."""
        rounds = self.rounds.get(work, {}).get(name, [])
        return {each["round"]: each[figure] for each in rounds if figure in each}

    def spread(self, work: str, name: str, figure: str) -> Spread | None:
        values = self.values(work, name, figure)
        return Spread.of([*values.values()]) if values else None

    def advantage(self, work: str, name: str, figure: str, *, lower_is_better: bool) -> Spread | None:
        """How many times better we did than `name`, round by round: noise that lasts for a round hits both."""
        ours, theirs = self.values(work, OURS, figure), self.values(work, name, figure)
        both = [number for number in ours if theirs.get(number) and ours[number]]
        ratios = [theirs[n] / ours[n] if lower_is_better else ours[n] / theirs[n] for n in both]
        ratios = [ratio for ratio in ratios if 0 < ratio < math.inf]
        return Spread.of(ratios) if ratios else None

    # ── on disk ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: Path) -> None:
        """Write it as JSON, which has no infinity: what took too long is null there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = attrs.asdict(self)
        fields["rounds"] = _each_figure(self.rounds, lambda value: value if math.isfinite(value) else None)
        path.write_text(json.dumps(fields, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["rounds"] = _each_figure(fields["rounds"], lambda value: math.inf if value is None else value)
        return cls(**fields)


def _each_figure(rounds: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        work: {
            name: [{figure: change(value) for figure, value in each.items()} for each in of_one]
            for name, of_one in by_name.items()
        }
        for work, by_name in rounds.items()
    }
