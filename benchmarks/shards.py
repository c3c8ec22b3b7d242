"""`make bench-shards`: a queue spread over four Redises beside the same queue on one, by one worker process; then with servers that are held back.

All servers are on the worker's own machine. So four of them carry no more than one as long as that one is bored: they must not carry less. Then each stands behind
a line that carries only so many jobs a second, as a Redis does that has reached its end: there four carry more. Rates of runs that took turns; start and stop are in them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack

from quick import run, show, spread
from slow_line import slow_line
from store import Store, private_store

ROUNDS, SHORT_ROUNDS = 5, 3
SHARDS = 4
JOBS, HELD_BACK_JOBS = 100_000, 8_000
"""Of the queue on all shards; for each server that is held back."""
LINE = 1_500_000
"""Bytes a second each way, in which there is room for some 4,500 payloads."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="in half a minute instead of one")
    rounds = SHORT_ROUNDS if parser.parse_args().short else ROUNDS
    with ExitStack() as stack:
        stores = [stack.enter_context(private_store()) for _ in range(SHARDS)]
        urls = [store.url for store in stores]
        one, four = in_turn(stores, urls, rounds, JOBS, JOBS)
        compare("empty jobs", one, four)
        lines = [stack.enter_context(slow_line(store.port, LINE)) for store in stores]
        one, four = in_turn(stores, lines, rounds, HELD_BACK_JOBS, HELD_BACK_JOBS * SHARDS)
        compare("  servers held back", one, four)


Run = tuple[float, float, float]
"""Jobs a second; CPU of the worker and of all servers together for a job, in µs."""


def in_turn(
    stores: Sequence[Store], urls: Sequence[str], rounds: int, on_one: int, on_all: int
) -> tuple[list[Run], list[Run]]:
    """So many jobs on the first one, and so many spread over all."""
    one, four = [], []
    for _ in range(rounds):
        one.append(measure(stores[:1], urls[:1], on_one))
        four.append(measure(stores, urls, on_all))
    return one, four


def measure(stores: Sequence[Store], urls: Sequence[str], jobs: int) -> Run:
    """Empty jobs that wait when the worker starts, as many on each."""
    for store in stores:
        store.push(jobs // len(stores), "Empty", 1, "two")
    before = sum(store.cpu_s() for store in stores)
    where = ["--redis", urls[0]] if len(urls) == 1 else [word for url in urls for word in ("--shard", url)]
    ours = run("ours.py", stores[0], "throughput", "--jobs", str(jobs), *where)
    redis = sum(store.cpu_s() for store in stores) - before
    for store in stores:
        store("FLUSHALL")
    return jobs / ours["seconds"], ours["cpu_s"] / jobs * 1e6, redis / jobs * 1e6


def compare(what: str, one: Sequence[Run], four: Sequence[Run]) -> None:
    """In two lines."""
    rates = [[rate for rate, _, _ in its] for its in (one, four)]
    ratios = [b / a for a, b in zip(*rates, strict=True)]
    show(
        what,
        f"{spread(rates[0], '.0f')} jobs/s on one, on {SHARDS} shards {spread(rates[1], '.0f')}: {spread(ratios, '.2f')}",
    )
    told = (
        f"on {shards}: worker {statistics.median(cpu for _, cpu, _ in its):.1f} µs, Redis {statistics.median(redis for _, _, redis in its):.1f} µs"
        for shards, its in ((1, one), (SHARDS, four))
    )
    show("  CPU per job", "; ".join(told))


if __name__ == "__main__":
    main()
