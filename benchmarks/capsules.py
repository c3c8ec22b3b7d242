"""`make bench-capsules`: queues that share slots beside one queue: throughput, time to start a job, and what an idle worker costs.

Each figure beside the one queue's of the same run, in turn: on a busy machine trust the ratios. `--short`, as `make bench` calls it, leaves out 200 queues and a fleet.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from quick import begin, end, run, show, spread
from store import Store, private_store

ROUNDS, SHORT_ROUNDS, JOBS, STAMPS = 5, 3, 20_000, 200
FEW, MANY = 10, 200
FLEET = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="in one minute instead of three")
    short = parser.parse_args().short
    with private_store() as store:
        _throughput(store, short=short)
        _latency(store)
        _idle(store, (MANY,) if short else (1, FEW, MANY))
        if not short:
            _fleet(store)


def _names(queues: int) -> list[str]:
    return [f"bench{number or ''}" for number in range(queues)]


def _throughput(store: Store, *, short: bool) -> None:
    """Empty jobs that wait when the worker starts."""
    kinds: dict[str, tuple[int, Sequence[str]]] = {
        "one queue": (1, ()),
        f"{FEW} queues, weighted": (FEW, ("--capsule", "weighted")),
        f"{FEW} queues, strict": (FEW, ("--capsule", "strict")),
    }
    if not short:
        kinds[f"{MANY} queues, weighted"] = (MANY, ("--capsule", "weighted"))
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    redis: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(SHORT_ROUNDS if short else ROUNDS):
        for kind, (queues, options) in kinds.items():
            for name in _names(queues):
                store.push(JOBS // queues, "Empty", 1, "two", queue=name)
            used = store.cpu_s()
            ours = run("ours.py", store, "throughput", "--jobs", str(JOBS), "--queues", str(queues), *options)
            rates[kind].append(JOBS / ours["seconds"])
            cpu[kind].append(ours["cpu_s"] / JOBS * 1e6)
            redis[kind].append((store.cpu_s() - used) / JOBS * 1e6)
            store("FLUSHALL")
    for kind in kinds:
        ratios = [rate / alone for rate, alone in zip(rates[kind], rates["one queue"], strict=True)]
        show(kind, f"{spread(rates[kind], '.0f')} jobs/s, {spread(ratios, '.2f')} of one queue's")
        show("  CPU per job", f"{spread(cpu[kind], '.1f')} µs; Redis {spread(redis[kind], '.1f')} µs")


def _latency(store: Store) -> None:
    """From the push to the start of a lone job, in any of the queues."""
    alone = 0.0
    for what, queues in (("one queue", 1), (f"{FEW} queues", FEW), (f"{MANY} queues", MANY)):
        options = ["--queues", str(queues), *(["--capsule", "weighted"] if queues > 1 else [])]
        process = begin(store, "latency", "--jobs", str(STAMPS), "--concurrency", "250", *options)
        assert process.stdout is not None
        process.stdout.readline()
        pushed = []
        for payload in store.payloads(STAMPS, "Stamp"):
            time.sleep(random.uniform(0.005, 0.025))
            pushed.append(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
            store("LPUSH", f"queue:{random.choice(_names(queues))}", payload)
        waited = sorted((b - a) / 1e6 for a, b in zip(pushed, end(process)["started_ns"], strict=True))
        p50, p99 = statistics.median(waited), waited[STAMPS * 99 // 100]
        alone = alone or p50
        show(f"to start, {what}", f"p50 {p50:.2f} ms ({p50 / alone:.2f} of one queue's), p99 {p99:.2f} ms")


def _idle(store: Store, numbers: Sequence[int]) -> None:
    for queues in numbers:
        options = ["--queues", str(queues), *(["--capsule", "weighted"] if queues > 1 else [])]
        process = begin(store, "idle", "--seconds", "20", *options)
        time.sleep(10)
        sockets = _sockets(process.pid)
        show(f"idle, {queues} queues", f"{end(process)['percent']:.2f} % of a core, {sockets} sockets")


def _fleet(store: Store) -> None:
    """All of an idle fleet hear of one job, in a capsule of many queues; one of them gets it."""
    options = ["--queues", str(MANY), "--capsule", "weighted", "--seconds", "30"]
    workers = [begin(store, "idle", *options) for _ in range(FLEET)]
    time.sleep(12)
    pushes, cpu, before = 100, store.cpu_s(), store.commands()
    workers_cpu = sum(_cpu_s(each.pid) for each in workers)
    for payload in store.payloads(pushes, "Empty"):
        store("LPUSH", "queue:bench7", payload)
        time.sleep(0.05)
    after = store.commands()
    per_job = [(b - a) / pushes for a, b in zip(before, after, strict=True)]
    theirs = (sum(_cpu_s(each.pid) for each in workers) - workers_cpu) / pushes * 1e3
    show(
        f"a job wakes {FLEET} idle workers",
        f"{per_job[0]:.1f} commands sent, {(store.cpu_s() - cpu) / pushes * 1e3:.2f} ms of Redis, {theirs:.1f} ms of theirs",
    )
    for each in workers:
        end(each)


def _sockets(pid: int) -> int:
    links = list(Path(f"/proc/{pid}/fd").iterdir())
    return sum("socket:" in str(link.readlink()) for link in links if link.is_symlink())


def _cpu_s(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


if __name__ == "__main__":
    main()
