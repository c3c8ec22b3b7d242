"""Outages from which workers come back more than a lease apart, in every order: no running job is taken over from who comes back in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from cut_off import CutOff
from harness import Jobs
from servers import Server, Worker, wait_for

Work = Callable[..., Worker]
LEASE_S = 2.0
OUTAGE_S = 12 * LEASE_S
"""More than twice as long as any of them stays away after the first: a busy machine takes its time to start and to come back."""
EACH = 5


class Fleet(CutOff):
    """Workers that each have a way of their own to Redis, and as many jobs as they can run, which end when the test says so."""

    def __init__(self, work: Work, jobs: Jobs, server: Server, folder: Path, stack: ExitStack) -> None:
        super().__init__(server, stack)
        self._work, self.jobs = work, jobs
        self._end = folder / "they may end"

    def start(self, count: int, **environment: str) -> None:
        for number in range(count):
            self.workers.append(self.new(f"w{number}", self.way(), **environment))
        self.jobs.push(EACH * count, "Until", str(self._end))
        wait_for(lambda: len(self.jobs.counted("start")) == EACH * count, "all run")

    def new(self, name: str, url: str, **environment: str) -> Worker:
        options = ["--redis", url, "--lease", str(LEASE_S)]
        return self._work(name, *options, CONCURRENCY=str(EACH), **environment).wait_started()

    def expect_each_job_once(self) -> None:
        assert set(self.jobs.counted("start").values()) == {1}
        self._end.touch()
        self.jobs.fault_is_over()
        self.jobs.expect_all_done(extra_runs=0)
        assert "put back into" not in "".join(worker.text for worker in self.workers)


@pytest.fixture
def fleet(work: Work, jobs: Jobs, server: Server, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(work, jobs, server, tmp_path, stack)


@pytest.mark.slow
@pytest.mark.parametrize("capsule", [{}, {"CAPSULE": "1"}], ids=["queue", "capsule"])
@pytest.mark.parametrize("leases_apart", [[1], [2], [5], [1, 2, 2]], ids=str)
def test_server_is_killed_and_its_workers_come_back_one_after_another(
    fleet: Fleet, server: Server, leases_apart: Sequence[int], capsule: dict[str, str]
):
    """With its file, so what was in progress still is. Leases aren't: they ran out while it was away."""
    fleet.start(1 + len(leases_apart), **capsule)
    fleet.cut()
    server.kill()
    time.sleep(OUTAGE_S)
    server.start()
    fleet.come_back(0)
    for number, leases in enumerate(leases_apart, 1):
        time.sleep(leases * LEASE_S)
        fleet.come_back(number)
    fleet.expect_each_job_once()


@pytest.mark.parametrize(
    ("leases", "restarts"),
    [(1.5, True), *(pytest.param(*each, marks=pytest.mark.slow) for each in [(1.5, False), (4, True)])],
)
def test_newcomer_is_there_before_all_who_were_in_the_outage(
    fleet: Fleet, server: Server, leases: float, restarts: bool
):
    """Nobody has told it of that. What it sees is that everybody fell silent long ago."""
    fleet.start(2)
    fleet.cut()
    time.sleep(OUTAGE_S)
    if restarts:
        server.kill()
        server.start()
    fleet.workers.append(fleet.new("new", server.url))
    time.sleep(leases * LEASE_S)
    for number in range(2):
        fleet.come_back(number)
    fleet.expect_each_job_once()


@pytest.mark.slow
def test_worker_that_is_frozen_when_the_others_come_back(fleet: Fleet):
    fleet.start(3)
    fleet.cut()
    time.sleep(OUTAGE_S / 2)
    frozen = fleet.workers[2]
    frozen.signal(signal.SIGSTOP)
    time.sleep(OUTAGE_S / 2)
    for proxy in fleet.proxies:
        proxy.refuse = False
    wait_for(lambda: all("is back after" in each.text for each in fleet.workers[:2]), "two are back")
    time.sleep(3 * LEASE_S)
    frozen.signal(signal.SIGCONT)
    fleet.come_back(2)
    fleet.expect_each_job_once()


@pytest.mark.slow
def test_worker_that_comes_back_in_the_middle_and_goes_again(fleet: Fleet):
    """Who is back waits for the others as long as it was away itself, though the second outage of one of them was short."""
    fleet.start(3)
    fleet.cut()
    time.sleep(OUTAGE_S)
    fleet.come_back(0)
    time.sleep(LEASE_S)
    fleet.proxies[0].refuse = True
    fleet.proxies[0].reset_all()
    time.sleep(1.5 * LEASE_S)
    fleet.come_back(1)
    time.sleep(1.5 * LEASE_S)
    fleet.proxies[0].refuse = False
    wait_for(lambda: fleet.workers[0].text.count("is back after") == 2, "the first is back again")
    time.sleep(LEASE_S)
    fleet.come_back(2)
    fleet.expect_each_job_once()
