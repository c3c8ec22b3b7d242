"""A limit over a fleet whose workers are killed, stopped, frozen and cut off: an outside witness counts who runs at once."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable

import attrs
import pytest
from harness import Jobs
from servers import Server, Worker, wait_for

LIMIT = 4
Start = Callable[..., Worker]


@attrs.define
class Witness:
    """Reads the file of runs, in which the test notes its faults, too. It knows nothing of Redis."""

    jobs: Jobs

    def note(self, fault: str, worker: Worker) -> None:
        with os.fdopen(os.open(self.jobs.runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            file.write(f"{fault} - {worker.process.pid} 0\n".encode())

    def highest(self) -> int:
        """How many ran at once at most: not counted is what ran in a worker when it was killed or frozen."""
        running: dict[int, set[str]] = defaultdict(set)
        most = 0
        for line in self.jobs.runs.read_text().splitlines():
            event, jid, pid, _ = line.split()
            if event == "start":
                running[int(pid)].add(jid)
            elif event == "end":
                running[int(pid)].discard(jid)
            elif event in ("killed", "frozen"):
                running[int(pid)].clear()
            most = max(most, sum(map(len, running.values())))
        return most


@pytest.fixture
def witness(jobs: Jobs) -> Witness:
    jobs.baseline = None  # that of another app
    return Witness(jobs)


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    def begin(process_id: str, *options: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "1", *options)
        jobs.workers.append(run_worker(server.url, "limits_app:app", *options, RUNS=str(jobs.runs)))
        return jobs.workers[-1].wait_started()

    return begin


def nothing_is_held(server: Server) -> bool:
    """No permit, and nobody parked. Reservations of jobs that ran elsewhere run out by themselves."""
    keys = ("tw:permits:crm", "tw:waiting:crm", "tw:parked")
    return not any(server.command("EXISTS", key) for key in keys)


def test_no_more_run_than_may_and_as_many_do(start: Start, jobs: Jobs, witness: Witness, server: Server):
    for name in ("w1", "w2", "w3", "w4"):
        start(name)
    jobs.push(120, "Limited", 0.1)
    jobs.push(50, "Free")
    wait_for(lambda: len(jobs.counted("free")) == 50, "others pass by those who wait")
    jobs.expect_all_done(extra_runs=0)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_killed_worker_gives_its_permits_back_when_its_jobs_are_taken_over(
    start: Start, jobs: Jobs, witness: Witness, server: Server
):
    first = start("w1")
    jobs.push(LIMIT, "Limited", 600)
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    start("w2")
    jobs.push(20, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 20, "the others are parked")
    first.kill()
    witness.note("killed", first)
    for jid in jobs.counted("start"):
        jobs.payloads.pop(jid)  # these run on for ever
    wait_for(lambda: sum(jobs.counted("start").values()) == 2 * LIMIT, "its jobs run again, before those parked")
    assert witness.highest() == LIMIT


def test_stop_keeps_the_permits_for_the_jobs_that_it_puts_back(
    start: Start, jobs: Jobs, witness: Witness, server: Server
):
    first = start("w1")
    jobs.push(LIMIT, "Limited", 3)
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    jobs.push(10, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 10, "the others are parked")
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    assert (server.command("SCARD", "tw:permits:crm"), server.command("ZCARD", "tw:reserved:crm")) == (0, LIMIT)
    start("w2")
    wait_for(lambda: sum(jobs.counted("start").values()) >= 2 * LIMIT, "its jobs are next in turn")
    assert set(jobs.counted("start")) == {f"{number:024x}" for number in range(LIMIT)}
    jobs.expect_all_done(extra_runs=LIMIT)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_outage_frees_no_permit(start: Start, jobs: Jobs, witness: Witness, server: Server):
    """All leases run out while Redis stands still; the jobs run on."""
    for name in ("w1", "w2"):
        start(name)
    jobs.push(LIMIT, "Limited", 5)
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    jobs.push(20, "Limited", 0.05)
    server.send(signal.SIGSTOP)
    time.sleep(3)  # longer than the lease
    server.send(signal.SIGCONT)
    jobs.expect_all_done(extra_runs=0)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


@pytest.mark.slow
def test_fleet_under_faults_of_all_kinds(start: Start, jobs: Jobs, witness: Witness, server: Server):
    workers = [start(f"w{number}") for number in range(4)]
    jobs.push(250, "Limited", 0.1)
    time.sleep(1)
    workers[0].kill()
    witness.note("killed", workers[0])
    time.sleep(0.5)
    workers[1].signal(signal.SIGTERM)
    workers[2].signal(signal.SIGSTOP)
    witness.note("frozen", workers[2])
    start("w0")  # under the same process id
    start("w5")
    time.sleep(4)  # the frozen one is taken over
    workers[2].signal(signal.SIGCONT)
    server.send(signal.SIGSTOP)
    time.sleep(3)
    server.send(signal.SIGCONT)
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=60, timeout_s=60)
    assert witness.highest() <= LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")
