"""Everything at random, for a while: three workers under kills, stops, freezes, resets and outages; then nothing may be lost or stuck.

`make soak SECONDS=600 SEED=7 TOPOLOGY=sentinel`: on what the workers stand, see `topologies.py`. The seed decides which fault comes when; what it meets is up to the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import Jobs, children_of
from servers import Worker, start_worker, wait_for
from soaked_batches import SoakedBatches
from topologies import TOPOLOGIES

CONCURRENCY = 25
LEASE_S = 2.0
NAMES = ("w1", "w2", "w3")
HALF = 0.5
STILL_S = 60.0
"""So long nothing may move before what is left is stuck: longer than any of our intervals."""
WITH_BATCHES = ("one", "processes")
"""Where nothing is undone that was acknowledged."""
BATCH_EVERY = 20
UNDONE = 2
"""What a failover may undo of each worker, in fillings of its slots: what was settled last, and what was fetched."""


@attrs.frozen
class Report:
    """What a soak found. `extra_bound`: runs too many that the faults excuse: all that could run in each worker that was hit."""

    seed: int
    seconds: float
    jobs: int
    runs: int
    lost: list[str]
    stuck: list[str]
    buried: int
    extra: int
    extra_bound: int
    faults: Counter[str]
    recoveries_s: list[float]
    worst_lag_s: float
    lines_per_outage: float
    leaks: list[str]
    errors: list[str]
    batches: int = 0

    def table(self) -> Table:
        """For people."""
        table = Table(title=f"soak, seed {self.seed}, {self.seconds:.0f} s", show_header=False)
        slow = sorted(self.recoveries_s)
        rows = {
            "jobs": f"{self.jobs:,}",
            "runs": f"{self.runs:,}",
            "batches, each with a graph": f"{self.batches:,}",
            "faults": ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items())),
            "lost": str(len(self.lost)),
            "stuck": str(len(self.stuck)),
            "runs too many (bound)": f"{self.extra:,} ({self.extra_bound:,})",
            "buried: three workers died under them": str(self.buried),
            "from Redis's return to the next job done": f"median {slow[len(slow) // 2]:.2f} s, worst {slow[-1]:.2f} s"
            if slow
            else "-",
            "worst lag of an event loop": f"{self.worst_lag_s * 1000:.0f} ms",
            "log lines on Redis, per worker and outage": f"{self.lines_per_outage:.1f}",
            "descriptors, children left": ", ".join(self.leaks) or "none",
            "workers that ended or logged an error": str(len(self.errors)),
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.stuck or self.leaks or self.errors) and self.extra <= self.extra_bound


class Soak:
    """One soak in `folder`. `run` does it."""

    def __init__(self, folder: Path, seed: int, topology: str = "one") -> None:
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)
        self._topology = TOPOLOGIES[topology](folder, self._chance, LEASE_S)
        self._jobs = Jobs(self._topology, folder)
        self._workers: dict[str, Worker] = {}
        self._logs: list[Worker] = []
        self._acknowledged: set[str] = set()
        self._parents: set[str] = set()
        self._unsure: set[str] = set()
        self._pushed = 0
        self._hits = 0
        self._frozen: set[str] = set()
        self._errors: list[str] = []
        self._faults: Counter[str] = Counter()
        self._over = threading.Event()
        self._batches: SoakedBatches | None = None
        if topology in WITH_BATCHES:
            self._batches = SoakedBatches(self._topology.url, self._topology.command)

    def run(self, seconds: float) -> Report:
        """Cause faults for so long, then let everything come to rest."""
        try:
            for name in NAMES:
                self._start(name)
            wait_for(lambda: all("started:" in worker.text for worker in self._workers.values()), "all start")
            producer = threading.Thread(target=self._produce, daemon=True)
            producer.start()
            end_at = time.monotonic() + seconds
            while time.monotonic() < end_at:
                time.sleep(self._chance.uniform(0.05, 0.8))
                self._cause_fault()
            self._over.set()
            producer.join()
            return self._report(seconds, self._come_to_rest())
        finally:
            for worker in self._logs:
                if worker.process.poll() is None:
                    worker.kill()
            self._topology.close()

    # ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _produce(self) -> None:
        chance = random.Random(self._seed + 1)
        while not self._over.wait(0.02):
            batch = []
            for _ in range(chance.randrange(1, 12)):
                job_class = chance.choice(["Sleep"] * 6 + ["Again", "Parent"])
                jid = f"{'p' if job_class == 'Parent' else 'j'}{self._pushed}"
                self._pushed += 1
                batch.append({"class": job_class, "args": [chance.uniform(0, 0.2)], "jid": jid, "queue": "q"})
            jids = {str(job["jid"]) for job in batch}
            if self._topology.push("queue:q", [json.dumps(job) for job in batch]):
                self._acknowledged |= jids
            else:
                self._unsure |= jids
            if self._batches is not None and chance.randrange(BATCH_EVERY) == 0:
                jids, is_sure = self._batches.send(chance)
                (self._acknowledged if is_sure else self._unsure).update(jids)

    def _expected(self) -> set[str]:
        children = {f"{jid}-child" for jid in self._acknowledged if jid.startswith("p")}
        return self._acknowledged | children

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, name: str) -> None:
        options = ["--process-id", name, "--lease", str(LEASE_S), "--shutdown-timeout", "0.5", *self._topology.options]
        environment = {"RUNS": str(self._jobs.runs), "CONCURRENCY": str(CONCURRENCY), "NOTE_LAG": "1"}
        environment |= self._topology.environment
        self._workers[name] = start_worker(self._folder, self._topology.url, "process_app:app", *options, **environment)
        self._logs.append(self._workers[name])

    def _cause_fault(self) -> None:
        faults: dict[str, Callable[[], None]] = {
            "worker killed": self._kill_worker,
            "worker stopped": self._stop_worker,
            "worker frozen": self._freeze_worker,
            **({"processes replaced": self._roll} if self._topology.processes > 1 else {}),
            **self._topology.faults(),
        }
        name = self._chance.choice(list(faults))
        self._faults[name] += 1
        faults[name]()

    def _kill_worker(self) -> None:
        name = self._chance.choice(NAMES)
        children = self._children(self._workers[name])
        self._hits += self._topology.processes
        if children and self._chance.random() < HALF:  # its parent starts another one
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(children), signal.SIGKILL)
            return
        self._workers[name].kill()
        time.sleep(self._chance.choice([0, LEASE_S * 2]))
        self._start(name)

    def _stop_worker(self) -> None:
        name = self._chance.choice(NAMES)
        worker = self._workers[name]
        wait_for(lambda: "started" in worker.text, "the worker that is to be stopped has started")
        worker.signal(signal.SIGTERM)
        status = worker.ended()
        if status != 0:
            self._errors.append(f"{name} ended with status {status}: {worker.text[-500:]}")
        self._hits += self._topology.processes  # what it could not write any more because Redis was away
        self._start(name)

    def _freeze_worker(self) -> None:
        worker = self._workers[self._chance.choice(NAMES)]
        pid = self._chance.choice(self._children(worker) or [worker.process.pid])
        self._frozen.add(str(pid))
        seconds = self._chance.choice([0.3, LEASE_S * 2])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        self._hits += seconds > LEASE_S

    def _roll(self) -> None:
        """Have a parent replace its processes; what the old ones can't finish in time goes back."""
        worker = self._workers[self._chance.choice(NAMES)]
        wait_for(lambda: "started" in worker.text, "the worker whose processes are to be replaced has started")
        worker.signal(signal.SIGHUP)
        self._hits += self._topology.processes

    def _children(self, worker: Worker) -> list[int]:
        return [pid for pid, _ in children_of(worker.process.pid)] if self._topology.processes > 1 else []

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _come_to_rest(self) -> list[str]:
        """Wait until everything is done; returns what is still where it should not be when nothing has moved for long.

        However much there is to be done, and however slow the machine: what gets on is not stuck.
        """
        seen, moved_at = self._seen(), time.monotonic()
        while seen[0]:
            if time.monotonic() - moved_at > STILL_S:
                return [*(f"{count} in {place}" for place, count in seen[0].items()), *self._in_progress()]
            time.sleep(0.1)
            before, seen = seen, self._seen()
            moved_at = moved_at if seen == before else time.monotonic()
        return []

    def _seen(self) -> tuple[dict[str, int], int]:
        return self._places(), self._jobs.runs.stat().st_size

    def _in_progress(self) -> Iterator[str]:
        """What lies in whose list, whether that worker lives, what was noted of the job, and where each worker is."""
        for key in map(str, self._topology.command("KEYS", "queue:*:inprogress")):  # type: ignore[call-overload]
            for payload in map(str, self._topology.command("LRANGE", key, 0, -1)):  # type: ignore[call-overload]
                lease = self._topology.command("GET", f"tw:lease:{key.split(':')[2]}")
                noted = [
                    line for line in self._jobs.runs.read_text().splitlines() if json.loads(payload)["jid"] in line
                ]
                yield f"{key}: {payload[:500]}\n  lease: {lease}\n  noted: {noted}"
        living = [worker for worker in self._logs if worker.process.poll() is None]
        for worker in living:
            worker.signal(signal.SIGTTIN)
        time.sleep(2)
        for worker in living:
            yield f"worker {worker.process.pid}: {worker.text[-2000:]}"

    def _places(self) -> dict[str, int]:
        counts = {name: int(str(self._topology.command("ZCARD", name))) for name in ("retry", "schedule")}
        counts |= {"queue": len(self._jobs.queued()), "in progress": self._jobs.in_progress()}
        if self._batches is not None:
            counts |= self._batches.left()
        counts["other"] = int(str(self._topology.command("LLEN", "queue:other")))
        counts["outbox"] = len(list(map(str, self._topology.command("KEYS", "tw:outbox:*"))))  # type: ignore[call-overload]
        return {name: count for name, count in counts.items() if count}

    def _report(self, seconds: float, stuck: list[str]) -> Report:
        buried = self._jobs.jids("dead")
        started, ended = self._jobs.counted("start"), self._jobs.counted("end")
        lost = sorted(jid for jid in self._expected() if jid not in ended and jid.removesuffix("-child") not in buried)
        lost = [jid for jid in lost if jid not in buried]
        again = {line.split()[1] for line in self._jobs.runs.read_text().splitlines() if line.startswith("again")}
        runs = sum(started.values())
        extra = sum(count - 1 - (jid in again) for jid, count in started.items())
        ends = sorted(float(line.split()[3]) for line in self._lines("end"))
        recoveries = [next((at - back for at in ends if at > back), 0.0) for back in self._topology.back_at]
        lags = [float(line.split()[1]) for line in self._lines("lag") if line.split()[2] not in self._frozen]
        texts = [worker.text for worker in self._logs]
        early = (
            [] if self._batches is None else self._batches.too_early(self._jobs.runs.read_text().splitlines(), buried)
        )
        lines = sum(text.count("Redis at") for text in texts)
        return Report(
            seed=self._seed,
            seconds=seconds,
            jobs=len(started),
            runs=runs,
            lost=lost,
            stuck=stuck,
            buried=len(buried),
            extra=extra,
            extra_bound=(self._hits + self._topology.failovers * len(NAMES) * UNDONE) * CONCURRENCY,
            faults=self._faults,
            recoveries_s=recoveries,
            worst_lag_s=max(lags, default=0.0),
            lines_per_outage=lines / len(NAMES) / max(1, self._outages()),
            batches=0 if self._batches is None else len(self._batches.acknowledged),
            leaks=self._leaks(),
            errors=[*self._errors, *early]
            + [text[text.index("Traceback") :][-6000:] for text in texts if "Traceback" in text],
        )

    def _outages(self) -> int:
        harmless = {"worker killed", "worker stopped", "worker frozen", "processes replaced", *self._topology.harmless}
        return sum(count for name, count in self._faults.items() if name not in harmless)

    def _lines(self, event: str) -> list[str]:
        return [line for line in self._jobs.runs.read_text().splitlines() if line.startswith(event)]

    def _leaks(self) -> list[str]:
        """Descriptors and children of the workers at rest, compared with a worker that has just started."""
        self._start("fresh")
        fresh = self._workers.pop("fresh").wait_started()
        wait_for(lambda: fresh.text.count("started:") >= self._topology.parts, "it has started at each Redis")
        wait_for(lambda: len(self._children(fresh)) in (0, self._topology.processes), "all of its processes start")
        limit = max(map(descriptors_of, self._pids(fresh))) + 4  # two clients may hold up to two idle sockets more
        leaks = [
            f"{name} has {held} descriptors, a fresh worker {limit - 4}"
            for name, worker in self._workers.items()
            for held in map(descriptors_of, self._pids(worker))
            if held > limit
        ]
        expected = self._topology.processes if self._topology.processes > 1 else 0
        return leaks + [
            f"{name} has {len(children)} children"
            for name, worker in self._workers.items()
            if len(children := children_of(worker.process.pid)) != expected
        ]

    def _pids(self, worker: Worker) -> list[int]:
        return self._children(worker) or [worker.process.pid]


def descriptors_of(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--topology", choices=TOPOLOGIES, default="one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = Soak(Path(folder), options.seed, options.topology).run(options.seconds)
    Console().print(report.table())
    for jid in report.lost[:20]:
        print("lost:", jid)
    for problem in report.stuck + report.errors:
        print(problem)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
