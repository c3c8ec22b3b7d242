"""Where one measurement plays: a fresh Redis, the HTTP sink, one contestant's workers; all gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from benchmarks.contestants import HERE, PEERS, Contestant
from benchmarks.processes import Processes, cpu_s
from benchmarks.store import Store, private_store
from benchmarks.work import Work

POLL_S = 0.004
SENDER_TIMEOUT_S = 120.0


class Failed(Exception):
    """A contestant did not do what it should; the run goes on with the next one."""


@attrs.frozen
class Moment:
    """What had been done and spent at one time."""

    at_s: float
    jobs: int
    cpu_s: float
    redis_cpu_s: float


@attrs.define
class Stage:
    """One contestant's measurement of one work. Made by `stage()`."""

    contestant: Contestant
    work: Work
    store: Store
    processes: Processes
    folder: Path
    environment: dict[str, str]

    # ── the sender ────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, *words: object) -> float:
        """Have the contestant's sender do something to its end; how many seconds the enqueuing itself took. Raises Failed."""
        command = [*self.contestant.sender, *map(str, words)]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, cwd=PEERS, env={**os.environ, **self.environment},
                timeout=SENDER_TIMEOUT_S, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"enqueuing took longer than {SENDER_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            raise Failed(f"enqueuing failed: {' | '.join(done.stderr.strip().splitlines()[-4:])}")
        return float(json.loads(done.stdout.splitlines()[-1])["seconds"])

    # ── the workers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start_workers(self) -> None:
        for _ in range(self.contestant.copies if self.work.processes > 1 else 1):
            self.processes.start(self.contestant.worker(self.work), self.environment, PEERS)

    @property
    def jobs(self) -> int:
        """How many jobs the workers have run."""
        total = 0
        for entry in self.folder.glob("tally.*"):
            total += int.from_bytes(entry.read_bytes()[:8], sys.byteorder)
        return total

    def wait_for_jobs(self, count: int, timeout_s: float) -> None:
        """Wait until that many jobs have run. Raises Failed if they don't, or a worker ends."""
        self._wait(lambda: self.jobs >= count, timeout_s, f"{count} jobs")

    def run_until(self, count: int, timeout_s: float) -> None:
        """Let the workers work for so long, or until that many jobs have run. Raises Failed if a worker ends."""
        deadline = time.monotonic() + timeout_s
        while self.jobs < count and time.monotonic() < deadline:
            self._check()
            time.sleep(POLL_S)

    def look(self, patience_s: float = 0.0) -> Moment:
        """What is done and spent, as soon as one more job is: who works in batches is looked at between two of them."""
        self.run_until(self.jobs + 1, patience_s)
        return Moment(time.monotonic(), self.jobs, cpu_s(*self.processes.pids), cpu_s(self.store.pid))

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise Failed(f"waited {timeout_s:.0f} s for {what}, saw {self.jobs}; {self.processes.last_words}")
            time.sleep(POLL_S)

    def _check(self) -> None:
        if self.processes.dead:
            raise Failed(f"a worker ended: {self.processes.last_words}")


@contextmanager
def sink() -> Iterator[tuple[str, int]]:
    """The HTTP server that all fan-outs call: its URL and process id."""
    command = [sys.executable, str(HERE / "sink.py"), "--delay", "0.02"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


@contextmanager
def stage(contestant: Contestant, work: Work) -> Iterator[Stage]:
    """Set one up and take it down, whatever happens in between."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        store = stack.enter_context(private_store())
        keep = [store.pid]
        environment = {
            "BENCH_REDIS": store.url,
            "BENCH_FOLDER": str(folder),
            "BENCH_CONCURRENCY": str(work.at_once or contestant.at_once),
            "BENCH_QUEUES": str(work.queues),
            "BENCH_TALLY_STEP": "50" if work.job in ("empty", "wait") and work.kind == "throughput" else "1",
            # The checkout that this is in, or else it would be the one that is installed.
            "PYTHONPATH": os.pathsep.join([str(PEERS), str(HERE.parent)]),
            "PYTHONWARNINGS": "ignore",
            **contestant.environment,
        }
        if work.job == "fan_out":
            environment["BENCH_SINK"], pid = stack.enter_context(sink())
            keep.append(pid)
        processes = Processes(folder / "worker.log")
        stack.callback(processes.kill, keep)
        yield Stage(contestant, work, store, processes, folder, environment)
