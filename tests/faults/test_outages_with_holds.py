"""What an outage does to what jobs hold, to a server that comes back empty, and to one whose clock is set meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import unique_app
from cut_off import CutOff
from harness import Jobs
from servers import ClockedServer, Server, Worker, wait_for

import trioworkers.sync

LEASE_S = 2.0
OUTAGE_S = 6 * LEASE_S
LIMIT = 4

pytestmark = pytest.mark.slow


class Fleet(CutOff):
    """Two workers of one app, and jobs that end when the test says so."""

    def __init__(
        self, run_worker: Callable[..., Worker], jobs: Jobs, server: Server, folder: Path, stack: ExitStack
    ) -> None:
        super().__init__(server, stack)
        self._run_worker, self.jobs = run_worker, jobs
        self.end = folder / "they may end"
        jobs.baseline = None  # that of another app

    def start(self, target: str) -> None:
        for number in range(2):
            options = ("--process-id", f"w{number}", "--lease", str(LEASE_S), "--shutdown-timeout", "1")
            self.workers.append(self._run_worker(self.way(), target, *options, RUNS=str(self.jobs.runs)))
        for worker in self.workers:
            worker.wait_started()
        self.jobs.workers += self.workers

    def come_back_apart(self) -> None:
        self.come_back(0)
        time.sleep(1.5 * LEASE_S)
        self.come_back(1)

    def run_until_told(self, job_class: str, *args: object, count: int) -> set[str]:
        before = set(self.jobs.payloads)
        self.jobs.push(count, job_class, *args, str(self.end))
        fresh = set(self.jobs.payloads) - before
        wait_for(lambda: fresh <= set(self.jobs.counted("start")), "they run")
        return fresh

    def most_at_once(self, jids: set[str]) -> int:
        """How many of these ran at once at most, not counted what ran in a worker that was killed."""
        killed = {worker.process.pid for worker in self.workers if worker.process.poll() is not None}
        running, most = 0, 0
        for line in self.jobs.runs.read_text().splitlines():
            event, jid, pid, *_ = line.split()
            if jid in jids and event in ("start", "end") and int(pid) not in killed:
                running += 1 if event == "start" else -1
                most = max(most, running)
        return most


@pytest.fixture
def fleet(run_worker: Callable[..., Worker], jobs: Jobs, server: Server, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(run_worker, jobs, server, tmp_path, stack)


@pytest.mark.parametrize("dies", [False, True], ids=["all come back", "one dies meanwhile"])
def test_permits_stay_with_who_runs_and_are_given_back_at_the_end(fleet: Fleet, jobs: Jobs, server: Server, dies: bool):
    fleet.start("limits_app:app")
    holding = fleet.run_until_told("Until", count=LIMIT)
    jobs.push(10, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 10, "the others are parked")
    fleet.cut()
    server.kill()
    if dies:
        fleet.workers[1].kill()
    time.sleep(OUTAGE_S)
    server.start()
    if dies:
        fleet.come_back(0)
        again = len([line for line in jobs.lines("start") if int(line.split()[2]) == fleet.workers[1].process.pid])
        wait_for(lambda: sum(jobs.counted("start").values()) == LIMIT + again, "what it had runs elsewhere")
    else:
        again = 0
        fleet.come_back_apart()
    fleet.end.touch()
    jobs.expect_all_done(extra_runs=again)
    assert fleet.most_at_once(set(jobs.payloads)) <= LIMIT
    assert fleet.most_at_once(holding) <= LIMIT
    fleet.end.unlink()
    last = fleet.run_until_told("Until", count=LIMIT)  # as many as ever
    fleet.end.touch()
    jobs.expect_all_done(extra_runs=again)
    assert fleet.most_at_once(last) == LIMIT


def test_lock_stays_with_who_runs_and_is_let_go_at_the_end(fleet: Fleet, jobs: Jobs, server: Server):
    fleet.start("unique_app:app")
    with trioworkers.sync.Client(server.url, retry_for=30) as client:

        def is_duplicate() -> bool:
            [sent] = client.enqueue(unique_app.until.job(1, str(fleet.end)))
            if sent.duplicate_of is None:
                jobs.payloads[str(sent)] = ""
            return sent.duplicate_of is not None

        assert not is_duplicate()
        wait_for(lambda: jobs.counted("start"), "it runs")
        fleet.cut()
        server.kill()
        time.sleep(OUTAGE_S)
        server.start()
        assert is_duplicate()
        fleet.come_back_apart()
        time.sleep(LEASE_S)
        assert is_duplicate()
        fleet.end.touch()
        jobs.expect_all_done(extra_runs=0)
        assert not is_duplicate()
        jobs.expect_all_done(extra_runs=0)
    assert sum(jobs.counted("start").values()) == 2


def comes_back_empty(server: Server) -> None:
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()


def test_server_comes_back_empty_and_nobody_stands_still(fleet: Fleet, jobs: Jobs, server: Server):
    """What waited is lost. What runs goes on, with the permits that it had; then new jobs have them all."""
    fleet.start("limits_app:app")
    running = fleet.run_until_told("Until", count=LIMIT)
    jobs.push(10, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 10, "the others are parked")
    fleet.cut()
    server.kill()
    time.sleep(OUTAGE_S)
    comes_back_empty(server)
    fleet.come_back_apart()
    wait_for(lambda: server.command("SCARD", "tw:permits:crm") == LIMIT, "they have their permits again")
    lost = set(jobs.payloads)
    jobs.push(20, "Limited", 0.2)
    limited = set(jobs.payloads) - lost
    jobs.push(40, "Free")
    wait_for(lambda: len(jobs.counted("free")) == 40, "others pass by")
    fleet.end.touch()
    for jid in lost:
        del jobs.payloads[jid]
    jobs.expect_all_done(extra_runs=LIMIT)
    assert {jid for jid, count in jobs.counted("start").items() if count > 1} == set()
    assert set(jobs.counted("end")) == running | set(jobs.payloads)
    assert fleet.most_at_once(running | limited) == fleet.most_at_once(limited) == LIMIT


def test_old_owner_of_a_lock_that_is_lost_lets_go_nobody_elses(
    fleet: Fleet, jobs: Jobs, server: Server, tmp_path: Path
):
    """The server comes back empty, and while that one is still cut off another job takes the lock."""
    fleet.start("unique_app:app")
    others_end = tmp_path / "the other one may end"
    with trioworkers.sync.Client(server.url, retry_for=30) as client:
        [lost] = client.enqueue(unique_app.until.job(1, str(fleet.end)))
        wait_for(lambda: jobs.counted("start"), "it runs")
        owner = int(jobs.lines("start")[0].split()[2])
        first, second = (0, 1) if fleet.workers[0].process.pid == owner else (1, 0)
        fleet.cut()
        server.kill()
        time.sleep(OUTAGE_S)
        comes_back_empty(server)
        fleet.come_back(second)
        [fresh] = client.enqueue(unique_app.until.job(1, str(others_end)))
        assert fresh.duplicate_of is None
        jobs.payloads[str(fresh)] = ""
        wait_for(lambda: jobs.counted("start")[fresh], "it runs")
        fleet.come_back(first)
        fleet.end.touch()
        wait_for(lambda: f"job {lost} (Until) is no longer ours" in fleet.workers[first].text, "its end is not written")
        [third] = client.enqueue(unique_app.until.job(1, str(others_end)))
        assert third.duplicate_of == fresh
        others_end.touch()
        jobs.expect_all_done(extra_runs=1)


@pytest.mark.skipif(
    ClockedServer.LIBRARY is None and "TRIOWORKERS_REQUIRE_INTEROP" not in os.environ,
    reason="libfaketime is missing (Debian: faketime)",
)
@pytest.mark.parametrize("dies", [False, True], ids=["all come back", "one dies meanwhile"])
@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0], ids=["ahead", "back"])
def test_clock_of_the_server_is_set_meanwhile(fleet: Fleet, jobs: Jobs, tmp_path: Path, ahead_s: float, dies: bool):
    (tmp_path / "clocked").mkdir()
    jobs.server = fleet.server = server = ClockedServer(tmp_path / "clocked").start()
    try:
        fleet.start("limits_app:app")
        fleet.run_until_told("Until", count=LIMIT)
        fleet.cut()
        if dies:
            fleet.workers[1].kill()
        time.sleep(OUTAGE_S / 2)
        server.set_clock(ahead_s)
        time.sleep(OUTAGE_S / 2)
        again = 0
        if dies:
            fleet.come_back(0)
            again = len([line for line in jobs.lines("start") if int(line.split()[2]) == fleet.workers[1].process.pid])
            wait_for(lambda: sum(jobs.counted("start").values()) == LIMIT + again, "what it had runs elsewhere")
        else:
            fleet.come_back_apart()
        jobs.push(10, "Limited", 0.05)
        fleet.end.touch()
        jobs.expect_all_done(extra_runs=again)
        assert fleet.most_at_once(set(jobs.payloads)) <= LIMIT
    finally:
        server.kill()
