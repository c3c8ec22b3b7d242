"""Beside go-workers and go-workers2 (a stand-in does in Redis what they do): a queue and a process id change hands, both ways, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from servers import ROOT, Server, Worker, wait_for

from trioworkers.cli.commands import app as cli

HERE = Path(__file__).parent
BEAT = (0.3, 4.0)
"""Seconds between go-workers2's heartbeats, and until a record is old."""
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
        self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)


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
    if running:
        wait_for(lambda: "3 jobs of worker 1, which died, put back into track\n" in fellow.text, lambda: fellow.text)
    place.server.command("DEL", "queue:track")
    before = place.counted("start").total()
    place.go("1")
    place.push(40, 0.5)
    wait_for(lambda: place.counted("end").total() == 40, "go-workers runs them")
    assert place.counted("start").total() - before == 40
    assert place.length("1") == 0
    assert "is left alone" in fellow.text
    assert place.server.command("ZCARD", "dead") == 0


def doctor(place: Place) -> dict[str, list[dict[str, str]]]:
    """What it finds by check, apart from what is right."""
    done = CliRunner().invoke(cli, ["doctor", "--json", "--redis", place.server.url])
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        if finding["level"] != "ok":
            found.setdefault(finding["check"], []).append(finding)
    return found


def test_doctor_finds_nothing_where_both_live_in_one_database_and_names_what_is_wrong(place: Place):
    """It is taken back from a worker of ours that was killed; then one of ours comes whose record go-workers2 can't read."""
    go = place.go("g", *BEAT, queue="elsewhere")
    fellow, killed = place.ours("fellow", QUEUE="other"), place.ours("1")
    for queue in ("elsewhere", "other", "track"):
        place.push(2, 0.1, queue)
    wait_for(lambda: place.counted("end").total() == 6, "all run")
    wait_for(lambda: len(records(place)) == 3, "all have a record")
    before = doctor(place)
    assert before.keys().isdisjoint({"queues", "shared queues", "heartbeats", "orphans", "keys"})
    killed.kill()
    wait_for(
        lambda: place.server.command("SISMEMBER", "tw:drained:1", "queue:track:1:inprogress") == 1, "all was taken over"
    )
    place.go("1")
    place.push(1, 600.0)
    wait_for(lambda: place.length("1") == 1, "go-workers runs it")
    wait_for(lambda: "is left alone" in fellow.text, "it is left alone")
    (finding,) = doctor(place)["orphans"]
    assert "1 job in queue:track:1:inprogress, put there by another program" in finding["text"]
    assert "heartbeat ended" not in go.text
    place.ours("plain", DIALECT="sidekiq", GO_DIALECT="sidekiq", QUEUE="mine")
    wait_for(lambda: "heartbeats" in doctor(place), "it is found")
    (finding,) = doctor(place)["heartbeats"]
    assert finding["level"] == "problem"
    assert "can't read the records of plain" in finding["text"]


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
    wait_for(lambda: place.counted("end").total() == 10, "go-workers runs them")
    assert place.counted("start").total() == 13


# ── go-workers2 with heartbeats ────────────────────────────────────────────────────────────────────────────────────────


def records(place: Place) -> set[str]:
    return set(place.server.command("SMEMBERS", "processes"))  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", ["goworkers", "sidekiq"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_heartbeats_of_go_workers2_outlive_a_worker_of_ours_and_its_end(place: Place, dialect: str, end: str):
    """`sidekiq`: an app in Sidekiq's dialect, with one queue in that of go-workers."""
    go = place.go("g", *BEAT, queue="elsewhere")
    worker = place.ours("1", DIALECT=dialect)
    wait_for(lambda: len(records(place)) == 2, "both have a record")
    place.push(3, 0.1)
    wait_for(lambda: place.counted("end").total() == 3, "ours runs jobs")
    worker.kill() if end == "kill" else worker.signal(signal.SIGTERM)
    if end == "stop":
        worker.ended()
    (identity,) = (
        (record for record in records(place) | {""} if not record.startswith("web1") and record)
        if end == "kill"
        else ("",)
    )
    assert end == "stop" or place.server.command("TTL", identity) == -1  # one that is gone would end the heartbeats
    wait_for(lambda: len(records(place)) == 1, "go-workers2 has removed the old record, or we have")
    assert "heartbeat ended" not in go.text
    assert place.server.command("TTL", identity or "none") != -1  # gone, or soon


def test_a_fellow_removes_the_record_of_a_worker_of_ours_that_died(place: Place):
    killed, fellow = place.ours("1"), place.ours("2", QUEUE="other")
    wait_for(lambda: len(records(place)) == 2, "both have a record")
    killed.kill()
    (identity,) = (record for record in records(place) if f":{killed.process.pid}:" in record)
    place.server.command("HSET", identity, "beat", 1_700_000_000)  # a minute later
    wait_for(lambda: identity not in records(place), "the fellow removes it")
    assert (
        0 < int(str(place.server.command("TTL", identity))) <= 60
    )  # a go-workers2 that has just read who is there reads it next
    fellow.kill()


def test_list_that_we_took_over_from_go_workers2_leaves_its_record(place: Place):
    """Else another go-workers2 empties it when that record is old, and our running jobs run again."""
    first = place.go("1", *BEAT)
    place.push(4, 60)
    wait_for(lambda: place.counted("start").total() == 4, "they run there")
    first.kill()
    (identity,) = records(place)
    place.ours("1")
    wait_for(lambda: place.counted("start").total() == 8, "they run here")
    assert place.server.command("HGET", identity, "worker_heartbeats") == "[]"
    assert identity in records(place)  # a go-workers2 that reads it just now would beat no more if it were gone
    second = place.go("g", *BEAT, queue="elsewhere")
    place.push(1, 6.0, "elsewhere")
    wait_for(lambda: place.counted("end").total() == 1, "meanwhile the first one's record would have become old")
    assert "requeued" not in second.text
    assert "heartbeat ended" not in second.text
    assert place.counted("start").total() == 9
    assert place.length("1") == 4


def test_what_go_workers2_says_of_other_lists_stays(place: Place):
    lists = [{"pid": "1", "queue": f'"{q}"', "in_progress_queue": f'"{q}:1:inprogress"'} for q in ("track", "mine")]
    place.server.command("SADD", "processes", "web1:7:aa")
    place.server.command("HSET", "web1:7:aa", "info", "{}", "worker_heartbeats", json.dumps(lists))
    place.ours("1")
    told = lambda: json.loads(str(place.server.command("HGET", "web1:7:aa", "worker_heartbeats")))  # noqa: E731
    wait_for(lambda: told() == lists[1:], "what we took over is not its any more, the rest is")


def test_worker_that_would_end_go_workers2s_heartbeats_says_so(place: Place):
    place.go("g", *BEAT, queue="elsewhere")
    worker = place.ours("1", DIALECT="sidekiq", GO_DIALECT="sidekiq")
    wait_for(lambda: "its heartbeats end for good" in worker.text, "it says so")


@pytest.mark.parametrize("heartbeats", [(), BEAT])
def test_go_workers_on_our_queue_is_noticed_soon(place: Place, heartbeats: tuple[float, ...]):
    worker = place.ours("1")
    place.go("g", *heartbeats)
    place.push(400, 0.2)
    wait_for(lambda: "another kind of worker fetches from our queues" in worker.text, "it is noticed")
