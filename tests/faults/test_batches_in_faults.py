"""Callbacks of batches come once and in time, whatever becomes of the workers, and no batch is left open."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from batches_app import BURIES, DISCARDS, member, told
from harness import Jobs
from servers import Server, Worker, wait_for

from trioworkers import Batch, Client

Start = Callable[..., Worker]


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    def begin(process_id: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "0.5")
        return run_worker(server.url, "batches_app:app", *options, RUNS=str(jobs.runs)).wait_started()

    return begin


def send(server: Server, members: Sequence[tuple[object, ...]]) -> str:
    async def main() -> str:
        callbacks = {f"on_{event}": told.job(event) for event in ("success", "finished", "death")}
        async with Client(server.url) as client:
            if len(members) > 1000:
                async with client.batch("many", **callbacks) as batch:
                    for first in range(0, len(members), 500):
                        await batch.add(*(member.job(*args) for args in members[first : first + 500]))
                return batch.id
            whole = Batch("some", **callbacks)
            whole.add(*(member.job(*args) for args in members))
            await client.enqueue(whole)
            return whole.id

    return trio.run(main)


def events(jobs: Jobs) -> dict[str, int]:
    return {event: sum(jobs.counted(event).values()) for event in ("death", "finished", "success")}


def state(server: Server, batch: str) -> dict[str, str]:
    found = server.command("HGETALL", f"tw:batch:{batch}")
    assert isinstance(found, list)
    return dict(zip(found[::2], found[1::2], strict=True))


def test_callbacks_come_once_over_kills_and_stops(start: Start, jobs: Jobs, server: Server):
    workers = [start(f"w{number}") for number in range(3)]
    batch = send(server, [(0.2, "", 2) if number % 10 == 0 else (0.2,) for number in range(200)])
    wait_for(lambda: len(jobs.counted("end")) > 30, "some have ended")
    workers[0].kill()
    workers[1].signal(signal.SIGTERM)
    assert workers[1].ended() == 0
    start("w1")
    wait_for(lambda: events(jobs)["success"] == 1, "all have succeeded", 60)
    assert len(jobs.counted("end")) == 240
    assert server.command("SCARD", f"tw:batch:{batch}:jids") == 0
    time.sleep(0.5)
    assert events(jobs) == {"death": 0, "finished": 1, "success": 1}
    told_of = state(server, batch)
    assert (told_of["total"], told_of["succeeded"]) == ("240", "240")


def test_dead_members_that_are_retried_make_it_a_success_yet(start: Start, jobs: Jobs, server: Server):
    start("w1")
    batch = send(server, [(0.01, BURIES)] * 5 + [(0.01,)] * 20)
    wait_for(lambda: events(jobs) == {"death": 1, "finished": 1, "success": 0}, "it is over, and no success")
    command = [sys.executable, "-m", "trioworkers", "retry", "--in", "dead", "--all", "--yes", "--redis", server.url]
    subprocess.run(command, check=True, capture_output=True)
    wait_for(lambda: events(jobs) == {"death": 1, "finished": 1, "success": 1}, "it is a success")
    assert state(server, batch)["succeeded"] == "25"


def test_members_that_people_delete_keep_no_batch_open(start: Start, jobs: Jobs, server: Server):
    batch = send(server, [(0.01,)] * 30 + [(0.01, DISCARDS)] * 2)
    command = [sys.executable, "-m", "trioworkers", "purge", "q", "--yes", "--redis", server.url]
    subprocess.run(command, check=True, capture_output=True)
    start("w1")
    wait_for(lambda: events(jobs) == {"death": 0, "finished": 1, "success": 0}, "it is over")
    assert state(server, batch)["purged"] == "32"


def test_members_run_after_those_that_they_wait_for_whatever_dies(start: Start, jobs: Jobs, server: Server):
    layers: list[list[str]] = []

    async def main() -> None:
        batch, last = Batch(on_success=told.job("success")), []
        for _ in range(6):
            layer = [member.job(0.15) for _ in range(15)]
            last = [batch.add(*layer, after=last)]
            layers.append([job.jid for job in layer])
        async with Client(server.url) as client:
            await client.enqueue(batch)

    trio.run(main)
    workers = [start(f"w{number}") for number in range(2)]
    wait_for(lambda: len(jobs.counted("end")) > 20, "the second layer runs")
    workers[0].kill()
    start("w2")
    wait_for(lambda: jobs.counted("success").total() == 1, "all have succeeded", 60)
    events = [line.split()[:2] for line in jobs.runs.read_text().splitlines()]
    for before, after in itertools.pairwise(layers):
        ended = max(events.index(["end", jid]) for jid in before)
        assert min(events.index(["start", jid]) for jid in after) > ended
    assert server.command("ZCARD", "tw:successors") == 0


@pytest.mark.slow
def test_many_batches_under_faults_at_random(start: Start, jobs: Jobs, server: Server, tmp_path: Path):
    """None is left open, and each callback comes once."""
    chance = random.Random(16)
    workers = {name: start(name) for name in ("w1", "w2", "w3")}
    batches = [
        send(
            server,
            [(chance.random() / 10, chance.choice(["", "", BURIES, DISCARDS])) for _ in range(chance.randint(1, 60))],
        )
        for _ in range(40)
    ]
    killed: list[int] = []
    until = time.monotonic() + 40
    while time.monotonic() < until:
        name = chance.choice(list(workers))
        if chance.random() < 0.5:
            workers[name].kill()
            killed.append(workers[name].process.pid)
        else:
            workers[name].signal(signal.SIGTERM)
            workers[name].ended()
        workers[name] = start(name)
        time.sleep(chance.random() * 3)
    wait_for(lambda: all("fired_finished" in state(server, batch) for batch in batches), "none is left open", 90)
    wait_for(lambda: server.command("LLEN", "queue:c") == 0, "all callbacks ran")
    assert len(jobs.counted("finished")) == len(batches)
    assert jobs.ran_again("finished", killed) == jobs.ran_again("death", killed) == set()
    for batch in batches:
        told_of = state(server, batch)
        ended = sum(int(told_of.get(how, 0)) for how in ("succeeded", "dead", "discarded"))
        assert ended == int(told_of["total"])
