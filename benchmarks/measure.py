"""How each kind of work is measured. A measurement returns its figures by name, or raises Failed."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import attrs

from benchmarks.contestants import Contestant
from benchmarks.processes import cpu_s, memory_mb
from benchmarks.stage import Failed, Moment, Stage, stage
from benchmarks.work import Work

Figures = dict[str, float]

START_TIMEOUT_S = 30.0
MOST_BYTES = 300_000_000
"""What may wait in Redis; large payloads are prepared in smaller numbers."""


@attrs.frozen
class Sizes:
    """How long things last, in seconds; the quick ones only show that all works."""

    window_s: float = 1.5
    warm_up_s: float = 0.4
    monitor_s: float = 0.5
    idle_s: float = 10.0
    stop_timeout_s: float = 15.0
    stamps: int = 150
    bursts: int = 6
    backlog_factor: float = 1.0
    longest_window_s: float = 5.0

    def window_for(self, at_once: int, rate: float) -> float:
        """Long enough for three batches of those that take as many jobs as may run at once, wait for all, and take the next."""
        return min(max(self.window_s, 3 * at_once / rate), max(self.window_s, self.longest_window_s))


FULL = Sizes()
SMOKE = Sizes(
    window_s=0.5,
    warm_up_s=0.2,
    monitor_s=0.1,
    idle_s=2.0,
    stop_timeout_s=8.0,
    stamps=30,
    bursts=2,
    backlog_factor=0.02,
    longest_window_s=0.5,
)


class Pace:
    """How many jobs to prepare: what a contestant did before, or is expected to do at first."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}

    def guess(self, contestant: Contestant, work: Work, default: float) -> float:
        return self._seen.get((contestant.name, work.name), default)

    def learn(self, contestant: Contestant, work: Work, rate: float) -> None:
        self._seen[contestant.name, work.name] = rate


def measure(contestant: Contestant, work: Work, sizes: Sizes, pace: Pace) -> Figures:
    """One contestant, one work, once."""
    with stage(contestant, work) as place:
        return _KINDS[work.kind](place, sizes, pace)


def measure_idle(contestants: Iterable[Contestant], work: Work, sizes: Sizes) -> dict[str, Figures | Failed]:
    """Workers with nothing to do, all side by side: each counts its own CPU time, and they hardly use any."""
    results: dict[str, Figures | Failed] = {}
    with ExitStack() as stack:
        places = [stack.enter_context(stage(contestant, work)) for contestant in contestants]
        for place in places:
            place.start_workers()
        time.sleep(4.0)
        before = {place.contestant.name: (time.monotonic(), cpu_s(*place.processes.pids)) for place in places}
        time.sleep(sizes.idle_s)
        for place in places:
            began, spent = before[place.contestant.name]
            share = (cpu_s(*place.processes.pids) - spent) / (time.monotonic() - began)
            dead = place.processes.dead
            results[place.contestant.name] = (
                Failed(f"a worker ended: {place.processes.last_words}") if dead else {"idle": share * 100}
            )
    return results


# ── throughput ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _throughput(place: Stage, sizes: Sizes, pace: Pace) -> Figures:
    """Jobs that wait already; measured in a window after the first ones, so that neither start nor end is in it."""
    work, contestant = place.work, place.contestant
    expected = pace.guess(contestant, work, contestant.expected.get(work.job, 1000))
    at_once = work.at_once or contestant.at_once
    window_s = sizes.window_for(at_once, expected)
    monitor_s = sizes.monitor_s * window_s / sizes.window_s if work.name == "empty" else 0.0
    count = int(expected * 1.3 * (sizes.warm_up_s + window_s + monitor_s)) + 2 * at_once
    count = int(work.backlog * sizes.backlog_factor) or min(-(-count // 50) * 50, MOST_BYTES // work.size)
    place.send("fill", work.job, count, work.size)
    place.start_workers()
    place.wait_for_jobs(1, START_TIMEOUT_S)
    place.run_until(count // 4, sizes.warm_up_s)
    began = place.look(window_s)
    place.run_until(count, window_s)
    ended = place.look(0.0 if place.jobs >= count else window_s)
    if ended.jobs <= began.jobs:
        raise Failed(f"no job ran for {window_s:.1f} s: {place.processes.last_words}")
    figures = _spent(began, ended)
    pace.learn(contestant, work, figures["rate"])
    return figures | (_commands(place, monitor_s) if monitor_s else {})


def _spent(began: Moment, ended: Moment) -> Figures:
    jobs = ended.jobs - began.jobs
    return {
        "rate": jobs / (ended.at_s - began.at_s),
        "cpu": (ended.cpu_s - began.cpu_s) / jobs * 1e6,
        "redis_cpu": (ended.redis_cpu_s - began.redis_cpu_s) / jobs * 1e6,
    }


def _commands(place: Stage, seconds: float) -> Figures:
    """What workers send for a job, and what Redis executes for it in all: MONITOR tells scripts' commands from clients'."""
    before = place.jobs
    sent, executed = place.store.monitor(seconds)
    jobs = place.jobs - before
    return {"sent": sent / jobs, "executed": executed / jobs} if jobs else {}


def _bursts(place: Stage, sizes: Sizes, _: Pace) -> Figures:
    """A backlog that never gets longer than one burst, into a worker that waits for it."""
    work = place.work
    place.start_workers()
    place.send("fill", work.job, work.backlog, work.size)
    place.wait_for_jobs(work.backlog, START_TIMEOUT_S)
    began = place.look()
    for _burst in range(sizes.bursts):
        waiting = place.jobs + work.backlog
        place.send("fill", work.job, work.backlog, work.size)
        place.wait_for_jobs(waiting, START_TIMEOUT_S)
    return {"cpu": _spent(began, place.look())["cpu"]}


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _enqueue(place: Stage, sizes: Sizes, pace: Pace) -> Figures:
    """Nobody takes the jobs out; the sender times itself."""
    work = place.work
    action, default = ("one", 3000) if work.name.startswith("one") else ("fill", 20_000)
    count = max(100, int(pace.guess(place.contestant, work, default) * sizes.window_s * 0.75))
    rate = count / place.send(action, work.job, count, work.size)
    pace.learn(place.contestant, work, rate)
    return {"rate": rate}


def _latency(place: Stage, sizes: Sizes, _: Pace) -> Figures:
    """From before the call that enqueues to the first line of the job, on one clock."""
    place.start_workers()
    place.send("stamp", 5, 0.1)
    place.wait_for_jobs(5, START_TIMEOUT_S)
    latencies = place.folder / "latencies"
    latencies.unlink()
    place.send("stamp", sizes.stamps, 0.015)
    place.wait_for_jobs(5 + sizes.stamps, START_TIMEOUT_S)
    waited = sorted(int(line) / 1e6 for line in Path(latencies).read_text().split())
    return {"p50": waited[len(waited) // 2], "p99": waited[len(waited) * 99 // 100]}


def _hold(place: Stage, sizes: Sizes, _: Pace) -> Figures:
    """Jobs that run and do nothing; memory with them, then the signal to stop, as quick as the contestant can be told to."""
    work = place.work
    assert work.at_once is not None
    place.send("fill", work.job, work.at_once, work.size)
    place.start_workers()
    place.wait_for_jobs(work.at_once, 3 * START_TIMEOUT_S)
    time.sleep(1.0)
    _, proportional = memory_mb(*place.processes.pids)
    try:
        stopped = place.processes.stop(place.contestant.stop_signal, sizes.stop_timeout_s)
    except subprocess.TimeoutExpired:
        stopped = math.inf
    return {"memory": proportional, "stop": stopped}


_KINDS: dict[str, Callable[[Stage, Sizes, Pace], Figures]] = {
    "throughput": _throughput,
    "bursts": _bursts,
    "enqueue": _enqueue,
    "latency": _latency,
    "hold": _hold,
}
