"""Beside go-workers and go-workers2 (a stand-in does in Redis what they do): a queue and a process id change hands, both ways, and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT, Server, Worker, wait_for

HERE = Path(__file__).parent
LEASE = ("--lease", "2", "--shutdown-timeout", "1")


class Go:
    """One process of go-workers."""

    def __init__(self, server: Server, runs: Path, process_id: str, *beat: float, queue: str = "track") -> None:
        self.log = runs.with_suffix(f".go.{process_id}.{len(list(runs.parent.glob('*.go.*')))}")
        command = [sys.executable, str(HERE / "goworkers.py"), str(server.port), "", process_id, queue, str(runs)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *map(str, beat)], stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: "started" in self.text, "go-workers has started")

    @property
    def text(self) -> str:
        return self.log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


class Place:
    """A database, and all who work there."""

    def __init__(self, server: Server, folder: Path, run_worker: Callable[..., Worker]) -> None:
        self.server, self.runs, self._run_worker = server, folder / "runs", run_worker
        self.processes: list[Go] = []
        self.pushed = 0

    def go(self, process_id: str, *beat: float, queue: str = "track") -> Go:
        self.processes.append(Go(self.server, self.runs, process_id, *beat, queue=queue))
        return self.processes[-1]

    def ours(self, process_id: str, **environment: str) -> Worker:
        environment = {"RUNS": str(self.runs), "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))} | environment
        return self._run_worker(
            self.server.url, "go_app:app", "--process-id", process_id, *LEASE, **environment
        ).wait_started()

    def push(self, count: int, seconds: float, queue: str = "track") -> None:
        payloads = [
            f'{{"queue":"{queue}","class":"Sleep","args":[{seconds}],"jid":"{self.pushed + n}","enqueued_at":1700000000.25,"retry":true}}'
            for n in range(count)
        ]
        self.pushed += count
        self.server.command("SADD", "queues", queue)
        if payloads:
            self.server.command("LPUSH", f"queue:{queue}", *payloads)

    def counted(self, event: str) -> Counter[str]:
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(event))

    def registered(self) -> Any:
        return self.server.command("HKEYS", "tw:inprogress")

    def length(self, process_id: str, queue: str = "track") -> object:
        return self.server.command("LLEN", f"queue:{queue}:{process_id}:inprogress")


@pytest.fixture
def place(server: Server, tmp_path: Path, run_worker: Callable[..., Worker]) -> Iterator[Place]:
    place = Place(server, tmp_path, run_worker)
    yield place
    for go in place.processes:
        go.kill()


@pytest.mark.parametrize("running", [0, 3])
def test_go_workers_takes_its_queue_and_id_back_while_another_of_ours_lives(place: Place, running: int):
    """Ours was killed under the id; a fellow took its jobs back; then go-workers runs on under that id, and keeps its jobs."""
    fellow = place.ours("fellow", QUEUE="other")
    killed = place.ours("1")
    place.push(running, 60)
    wait_for(lambda: place.counted("start").total() == running, "they run")
    killed.kill()
    wait_for(
        lambda: place.server.command("SISMEMBER", "tw:drained:1", "queue:track:1:inprogress") == 1, "all was taken over"
    )
    assert place.length("1") == 0
    place.server.command("DEL", "queue:track")
    before = place.counted("start").total()
    place.go("1")
    place.push(40, 0.5)
    wait_for(lambda: place.counted("end").total() == 40, "go-workers runs them", 60)
    assert place.counted("start").total() - before == 40
    assert place.length("1") == 0
    assert "is left alone" in fellow.text
    assert place.server.command("ZCARD", "dead") == 0


def test_a_worker_that_stopped_in_good_order_leaves_nothing_behind_under_its_id(place: Place):
    place.ours("fellow", QUEUE="other")
    stopped = place.ours("1")
    place.push(3, 60)
    wait_for(lambda: place.counted("start").total() == 3, "they run")
    stopped.signal(signal.SIGTERM)
    assert stopped.ended() == 0
    assert not any("track" in key for key in place.registered())
    place.server.command("DEL", "queue:track")
    place.go("1")
    place.push(10, 1.0)
    wait_for(lambda: place.counted("end").total() == 10, "go-workers runs them", 60)
    assert place.counted("start").total() == 13
