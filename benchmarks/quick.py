"""`make bench-quick`: the figures that a change may move, in under a minute, for use before and after it.

CPU time is the worker process's own. On a busy machine trust it, and the ratios to the bare loop, whose runs take turns with
ours; not the jobs per second.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from store import Store, private_store

HERE = Path(__file__).parent
ROUNDS = 3


def main() -> None:
    with private_store() as store:
        began = time.perf_counter()
        ten = ("--concurrency", "10")
        idle = [
            (queues, begin(store, "idle", *ten, "--queues", str(queues), "--seconds", "8")) for queues in (1, 10, 50)
        ]
        for queues, process in idle:  # side by side: each counts its own CPU, and hardly uses any
            show(f"idle CPU, {queues} queues", f"{end(process)['percent']:.3f} %")
        _latency(store)
        _empty(store)
        with TemporaryDirectory() as folder:
            _empty(store, log=Path(folder, "log"))
        _waits(store)
        _limits(store)
        _enqueue(store)
        for count in (1000, 10_000):
            _running(store, count)
        print(f"\n{time.perf_counter() - began:.0f} s in all")


def _empty(store: Store, jobs: int = 20_000, log: Path | None = None) -> None:
    rates, cpu, bare_cpu, ratios = [], [], [], []
    arguments = ["--jobs", str(jobs), *(["--log", str(log)] if log else [])]
    for _ in range(ROUNDS):
        store.push(jobs, "Empty", 1, "two")
        bare = run("bare_loop.py", store, "--jobs", str(jobs))
        store.push(jobs, "Empty", 1, "two")
        redis = _Redis(store)
        ours = run("ours.py", store, "throughput", *arguments)
        spent = redis.spent(jobs)
        rates.append(jobs / ours["seconds"])
        cpu.append(ours["cpu_s"] / jobs * 1e6)
        bare_cpu.append(bare["cpu_s"] / jobs * 1e6)
        ratios.append(bare["seconds"] / ours["seconds"])
    show(
        "empty jobs as installed" if log else "empty jobs",
        f"{spread(rates, '.0f')} jobs/s, {spread(ratios, '.2f')} of the bare loop's",
    )
    relative = statistics.median(bare_cpu) / statistics.median(cpu)
    show("  CPU per job", f"{spread(cpu, '.1f')} µs; bare loop {spread(bare_cpu, '.1f')} µs; ratio {relative:.2f}")
    show("  Redis", spent)


def _waits(store: Store, jobs: int = 20_000) -> None:
    store.push(jobs, "Wait", 0.05)
    redis = _Redis(store)
    ours = run("ours.py", store, "throughput", "--jobs", str(jobs))
    show("50 ms waits, 1000 at once", f"{jobs / ours['seconds']:.0f} jobs/s, {ours['cpu_s'] / jobs * 1e6:.1f} µs CPU")
    show("  Redis", redis.spent(jobs))


def _limits(store: Store, jobs: int = 20_000) -> None:
    """What a limit costs that is free, and a lock, beside plain jobs in turn; and what the jobs parked behind a narrow one make of its permits."""
    free = ("--limit", "1000000")
    asked = {"plain": (), "a free limit": free, "a lock": ("--unique",), "a lock and a free limit": (*free, "--unique")}
    cpu: dict[str, list[float]] = {what: [] for what in asked}
    executed: dict[str, list[float]] = {what: [] for what in asked}
    narrow = []
    for _ in range(ROUNDS):
        for what, options in asked.items():
            if "--unique" in options:
                run("ours.py", store, "unique", "--jobs", str(jobs))
            else:
                store.push(jobs, "Empty", 1, "two")
            before = store.commands()
            ours = run("ours.py", store, "throughput", "--jobs", str(jobs), *options)
            cpu[what].append(ours["cpu_s"] / jobs * 1e6)
            executed[what].append((store.commands()[1] - before[1]) / jobs)
    for what in [*asked][1:]:
        extra_us = [more - plain for more, plain in zip(cpu[what], cpu["plain"], strict=True)]
        more_executed = [more - plain for more, plain in zip(executed[what], executed["plain"], strict=True)]
        show(what, f"{spread(extra_us, '.1f')} µs CPU more, {spread(more_executed, '.2f')} commands executed more")
    for _ in range(ROUNDS):
        store.push(10_000, "Wait", 0.05)
        ours = run("ours.py", store, "throughput", "--jobs", "500", "--limit", "10")
        narrow.append(500 / ours["seconds"] / (10 / 0.05))
        store("FLUSHALL")
    show("10,000 parked, 10 permits", f"{spread(narrow, '.2f')} of what the permits allow")


class _Redis:
    """What Redis does from now on: the worker's start and stop are in it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before = (*store.commands(), store.cpu_s())

    def spent(self, jobs: int) -> str:
        """In words, for each of so many jobs."""
        after = (*self._store.commands(), self._store.cpu_s())
        sent, executed, cpu_s = ((b - a) / jobs for a, b in zip(self._before, after, strict=True))
        return f"{sent:.3f} commands sent per job, {executed:.3f} executed, {cpu_s * 1e6:.1f} µs CPU"


def _enqueue(store: Store) -> None:
    works = {"one_by_one": 10_000, "in_bulk": 100_000, "handlers_one_by_one": 5_000, "handlers_in_bulk": 100_000}
    for name, jobs in works.items():
        ours = run("ours.py", store, name, "--jobs", str(jobs))
        rate, cpu = jobs / ours["seconds"], ours["cpu_s"] / jobs * 1e6
        whose = ", handler.job" if name.startswith("handlers_") else ""
        what = name.removeprefix("handlers_").replace("_", " ")
        show(f"enqueue {what}{whose}", f"{rate:.0f} jobs/s, {cpu:.1f} µs CPU")
        store("DEL", "queue:other")


def _running(store: Store, jobs: int) -> None:
    store.push(jobs, "Forever")
    ours = run("ours.py", store, "running", "--jobs", str(jobs))
    back = store("LLEN", "queue:bench")
    stop = f"stop in {ours['seconds']:.2f} s ({ours['cpu_s']:.2f} s CPU), {back} back on their queue"
    show(f"{jobs} running jobs", f"{ours['memory_mb']:.0f} MB, {stop}")
    store("FLUSHALL")


def _latency(store: Store, jobs: int = 300) -> None:
    process = begin(store, "latency", "--concurrency", "10", "--jobs", str(jobs))
    assert process.stdout is not None
    process.stdout.readline()
    pushed = []
    for payload in store.payloads(jobs, "Stamp"):
        time.sleep(random.uniform(0.005, 0.025))
        pushed.append(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        store("LPUSH", "queue:bench", payload)
    waited = sorted((b - a) / 1e6 for a, b in zip(pushed, end(process)["started_ns"], strict=True))
    show("latency, enqueue to start", f"p50 {waited[jobs // 2]:.2f} ms, p99 {waited[jobs * 99 // 100]:.2f} ms")


def begin(store: Store, *arguments: str, program: str = "ours.py") -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / program), "--redis", store.url, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        raise SystemExit(f"failed: {process.args!r}")
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def run(program: str, store: Store, *arguments: str) -> dict[str, Any]:
    return end(begin(store, *arguments, program=program))


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def show(what: str, figure: str) -> None:
    print(f"{what:28} {figure}", flush=True)


if __name__ == "__main__":
    main()
