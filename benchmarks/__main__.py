"""`python -m benchmarks`: sets up, measures everybody in turn, writes what came of it. `make bench` calls it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.contestants import CONTESTANTS, HERE, Contestant
from benchmarks.measure import FULL, SMOKE, Pace, Sizes, measure, measure_idle
from benchmarks.processes import adopt_orphans
from benchmarks.publish import describe_machine, publish
from benchmarks.report import text_table
from benchmarks.results import Results
from benchmarks.stage import Failed
from benchmarks.work import WORKS, Work

DEFAULT_ROUNDS = 3
DEFAULT_MINUTES = 22.0
GROWTH = (("capsules.py", "--short"), ("shards.py", "--short"), ("scaling.py", "--short"))
"""Ourselves beside ourselves, which no peer has, in the three minutes that are left of 25."""
FOLDER = HERE / "results"
FULL_RUN, OTHER_RUN, GROWTH_RUN = FOLDER / "full.json", FOLDER / "partial.json", FOLDER / "growth.txt"
"""Only what compares everybody in everything can be published."""


def main() -> None:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends all that was started, in the background, too
        signal.signal(number, signal.default_int_handler)
    adopt_orphans()
    if options.report:
        publish(Results.load(options.report))
        return
    contestants = _chosen(CONTESTANTS, options.only)
    works = _chosen(WORKS, options.work)
    if not options.no_setup:
        environments.prepare(contestants)
    began = time.monotonic()
    results = Results(
        machine=describe_machine(),
        versions={contestant.name: environments.version(contestant) for contestant in contestants},
    )
    partial = options.smoke or options.only or options.work
    path = OTHER_RUN if partial else FULL_RUN
    try:
        _run(contestants, works, options, results, path)
    except KeyboardInterrupt:
        print("\nstopped; what was measured so far:")
    else:
        if not partial:
            _grow()
    print(text_table(results))
    print(f"{time.monotonic() - began:.0f} s in all; figures in {path.relative_to(HERE.parent)}")


def _grow() -> None:
    """Capsules beside a queue, shards and processes beside one, Sentinel and Cluster beside a plain address: what docs/scaling.md tells."""
    GROWTH_RUN.write_text("")
    for script, *arguments in GROWTH:
        with subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                with GROWTH_RUN.open("a") as kept:
                    kept.write(line)
        if process.returncode:
            print(f"{script} ended with {process.returncode}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help="how often each is measured, at most")
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="begin no more rounds after so long")
    parser.add_argument("--only", default="", help="contestants, separated by commas")
    parser.add_argument("--work", default="", help="works, separated by commas")
    parser.add_argument("--smoke", action="store_true", help="very short: shows that all works, not how fast")
    parser.add_argument("--no-setup", action="store_true", help="use the environments as they are")
    parser.add_argument("--report", type=Path, help="measure nothing: write this file's results into docs/")
    return parser.parse_args()


def _chosen(everything: tuple[Any, ...], names: str) -> list[Any]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = set(wanted) - {one.name for one in everything}
    if unknown:
        raise SystemExit(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in everything)}"
        )
    return [one for one in everything if not wanted or one.name in wanted]


def _run(
    contestants: list[Contestant], works: list[Work], options: argparse.Namespace, results: Results, path: Path
) -> None:
    """Everything once, then everything again, as long as there is time: what is cut short still has a row for each work."""
    sizes, pace = SMOKE if options.smoke else FULL, Pace()
    deadline = time.monotonic() + options.minutes * 60
    for work in works:
        for contestant in contestants:
            reason = contestant.missing or contestant.why_not(work)
            if reason:
                results.skip(work, contestant, reason)
    for number in range(options.rounds):
        for work in works:
            if number >= (work.rounds or options.rounds):
                continue
            if number and time.monotonic() > deadline:
                print(f"the {options.minutes:g} minutes are over: what is left of round {number + 1} is left out")
                return
            able = [contestant for contestant in contestants if results.takes_part(work, contestant.name)]
            _round(able, work, number, sizes, pace, results)
            results.save(path)


def _round(contestants: list[Contestant], work: Work, number: int, sizes: Sizes, pace: Pace, results: Results) -> None:
    """Everybody once."""
    if work.kind == "idle":
        for name, outcome in measure_idle(contestants, work, sizes).items():
            results.add(work, name, number, outcome)
        return
    for position in range(len(contestants)):
        contestant = contestants[(position + number) % len(contestants)]  # nobody is always the first
        try:
            results.add(work, contestant.name, number, measure(contestant, work, sizes, pace))
        except (Failed, OSError, RuntimeError) as error:
            results.add(work, contestant.name, number, error)


if __name__ == "__main__":
    main()
