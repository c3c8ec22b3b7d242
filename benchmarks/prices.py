"""`make bench-prices`: what each feature costs a job that asks for it, and what stands beside a worker costs each second, in some four minutes.

Figures are the CPU of the worker's process and of Redis: of each work its least of some rounds, since what else the machine does only adds to it, and shown is the
difference to the least of plain jobs, which have two turns a round. With `--publish` the tables go into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
from store import Store, private_store

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- prices: written by `make bench-prices ARGS=--publish`, not by hand -->", "<!-- end of prices -->"
JOBS, ROUNDS, SECONDS = 10_000, 5, 6
PER_JOB = {
    "lock": "a lock: `unique=Unique()`, always free",
    "limit": "a `FleetLimit` of jobs at once, never reached",
    "rate": "a `FleetLimit` with a rate, never reached",
    "result": "`keep_result`",
    "expiry": "`expires_in`",
    "finished": "`keep_finished=1000`",
    "batch": "member of a batch of 10,000",
    "step": "one `ctx.step`",
    "iterate": "`ctx.iterate` over ten rows",
    "said": "one line of `ctx.log`",
    "log": "the same, with `keep_log=100`",
    "tracing": "tracing: `OpenTelemetry()`, each span sampled, none exported",
    "metrics": "`Metrics(app)`",
    "capsule": "its queue shares slots with another: a capsule by weight",
    "shards": "its queue is spread over two Redises",
}
PER_SECOND = {
    "cron": "a periodic job that runs every second",
    "health": "`--health`, asked every half second",
    "dashboard": "the dashboard, its first page asked for every half second",
}

ALSO_IN = {"log": "said"}
"""What is in the price besides, which isn't what is asked for."""


@attrs.frozen
class Spent:
    """What one run took, of each job or each second: CPU of the worker, commands that Redis executed, CPU of Redis."""

    cpu: float
    commands: float
    redis: float

    @classmethod
    def least(cls, runs: Sequence[Spent]) -> Spent:
        """What it takes when nothing else disturbs: of each figure the lowest."""
        return cls(*(min(column) for column in zip(*(attrs.astuple(each) for each in runs), strict=True)))

    def beyond(self, plain: Spent) -> Spent:
        """How much more than another one."""
        return Spent(self.cpu - plain.cpu, self.commands - plain.commands, self.redis - plain.redis)


class Stores:
    """Two servers; what both did counts."""

    def __init__(self, first: Store, second: Store) -> None:
        self._both = (first, second)
        self.options = ("--redis", first.url, "--second", second.url)

    def clear(self) -> None:
        """Forget everything."""
        for store in self._both:
            store("FLUSHALL")

    def so_far(self) -> tuple[int, float]:
        """Commands executed, seconds of CPU."""
        return sum(each.commands()[1] for each in self._both), sum(each.cpu_s() for each in self._both)


def _begin(stores: Stores, feature: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "priced_app.py"), feature, *stores.options, *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _figure(process: subprocess.Popen[str], name: str) -> float:
    output, _ = process.communicate("go\n", timeout=120)
    if process.returncode:
        raise SystemExit(f"failed: {process.args!r}")
    return float(json.loads(output.splitlines()[-1])[name])


def _jobs(stores: Stores, feature: str) -> Spent:
    stores.clear()
    process = _begin(stores, feature, "--jobs", str(JOBS))
    assert process.stdout is not None
    process.stdout.readline()
    commands, cpu_s = stores.so_far()
    cpu_us = _figure(process, "cpu_us")
    now = stores.so_far()
    return Spent(cpu_us, (now[0] - commands) / JOBS, (now[1] - cpu_s) / JOBS * 1e6)


def _standing_by(stores: Stores, feature: str) -> Spent:
    stores.clear()
    address = f"127.0.0.1:{_free_port()}"
    process = _begin(stores, feature, "--seconds", str(SECONDS), "--bind", address)
    assert process.stdout is not None
    process.stdout.readline()
    began, (commands, cpu_s) = time.monotonic(), stores.so_far()
    path = {"health": "ready", "dashboard": ""}.get(feature)
    while (passed := time.monotonic() - began) < SECONDS - 1:
        if path is not None:
            with suppress(OSError):
                urllib.request.urlopen(f"http://{address}/{path}", timeout=5).read()
        time.sleep(0.5)
    now = stores.so_far()
    percent = _figure(process, "percent")
    return Spent(percent, (now[0] - commands) / passed, (now[1] - cpu_s) / passed * 1e6)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _table(names: dict[str, str], heads: Sequence[str], forms: Sequence[str], prices: dict[str, Spent]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    for name, words in names.items():
        cells = [f"{value:{form}}" for value, form in zip(attrs.astuple(prices[name]), forms, strict=True)]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, show, and write down if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    runs: dict[str, list[Spent]] = {name: [] for name in ("plain", "idle", *PER_JOB, *PER_SECOND)}
    with private_store() as first, private_store() as second:
        stores = Stores(first, second)
        for number in range(options.rounds):
            print(f"round {number + 1}", file=sys.stderr)
            for name in ("plain", *PER_JOB, "plain"):
                runs[name].append(_jobs(stores, name))
            for name in ("idle", *PER_SECOND):
                runs[name].append(_standing_by(stores, name))
    print(_tables(options.rounds, runs))
    if options.publish:
        PAGE.write_text(written(PAGE.read_text(), options.rounds, runs))


def written(page: str, rounds: int, runs: dict[str, list[Spent]]) -> str:
    """The page with these tables between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{_tables(rounds, runs)}\n\n{END}{rest.split(END)[1]}"


def _tables(rounds: int, runs: dict[str, list[Spent]]) -> str:
    least = {name: Spent.least(each) for name, each in runs.items()}
    prices = {name: least[name].beyond(least[ALSO_IN.get(name, "plain")]) for name in PER_JOB}
    prices |= {name: least[name].beyond(least["idle"]) for name in PER_SECOND}
    plain, highest = least["plain"], max(each.cpu for each in runs["plain"])
    about = (
        f"The least of {rounds} rounds, {time.strftime('%Y-%m-%d', time.gmtime())}; {JOBS:,} jobs that wait when the worker starts, 1,000 at once. A plain job took {plain.cpu:.1f} µs of the worker's CPU, "
        f"{plain.redis:.1f} of Redis's and {plain.commands:.2f} commands at the least. What its turns differ by is what the others' figures may be wrong by: its dearest took {highest:.1f} µs."
    )
    per_job = ("a job that has, more than a plain one", "µs of CPU", "commands executed", "µs of Redis's CPU")
    per_second = (
        "beside an idle worker",
        "% of a core more",
        "commands executed a second more",
        "µs of Redis's CPU a second",
    )
    tables = [_table(PER_JOB, per_job, ("+.1f", "+.2f", "+.1f"), prices)]
    tables.append(_table(PER_SECOND, per_second, ("+.2f", "+.1f", "+.0f"), prices))
    return "\n\n".join([about, *tables])


if __name__ == "__main__":
    main()
