"""Jobs and processes misbehave: a loop that is blocked, clocks that are wrong, computing children that are killed or left alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Jobs, computing, descriptors
from servers import ClockedServer, Server, Worker, wait_for

Work = Callable[..., Worker]


def test_job_that_blocks_the_loop_longer_than_the_lease_keeps_its_jobs(work: Work, jobs: Jobs):
    blocked = work("blocked").wait_started()
    jobs.push(1, "Block", 6)
    jobs.push(5, "Sleep", 1)
    wait_for(lambda: len(jobs.counted("start")) == 6, "all run")
    work("other").wait_started()
    jobs.expect_all_done(extra_runs=0)
    assert "time.sleep(seconds)" in blocked.text
    assert "goes on after" in blocked.text
    assert "taken over" not in blocked.text


@pytest.mark.parametrize("skew_s", ["600", "-600"])
def test_clock_of_the_machine_is_wrong(work: Work, jobs: Jobs, server: Server, skew_s: str):
    skewed = work("skewed", CLOCK_AHEAD_S=skew_s).wait_started()
    work("right").wait_started()
    jobs.push(20, "Sleep", 3)
    now = time.time()
    jobs.push_elsewhere(10, "schedule", "Sleep", 0.05, score=now + 1)
    jobs.push_elsewhere(10, "retry", "Sleep", 0.05, score=now + 1)
    jobs.expect_all_done(extra_runs=0)
    assert 1 <= time.time() - now < 300  # by the skewed clock it is ten minutes, one way or the other
    assert "taken over" not in skewed.text
    assert "died" not in skewed.text


@pytest.mark.skipif(
    ClockedServer.LIBRARY is None and "TRIOWORKERS_REQUIRE_INTEROP" not in os.environ,
    reason="libfaketime is missing (Debian: faketime)",
)
def test_clock_of_redis_is_set_ahead_and_back(work: Work, jobs: Jobs, tmp_path: Path):
    """All leases run out at once; later what blocks or expires takes five minutes longer than it should."""
    (tmp_path / "clocked").mkdir()
    jobs.server = redis = ClockedServer(tmp_path / "clocked").start()
    try:
        options = ("--redis", redis.url, "--lease", "4")
        workers = [work(name, *options, CONCURRENCY="10").wait_started() for name in ("w1", "w2")]
        jobs.push(20, "Sleep", 5)  # all slots are taken: no fetch renews a lease
        jobs.push_elsewhere(5, "schedule", "Sleep", 0.05, score=time.time() + 200)
        jobs.push_elsewhere(5, "retry", "Sleep", 0.05, score=time.time() + 200)
        wait_for(lambda: len(jobs.counted("start")) == 20, "all run that are due")
        redis.set_clock(300)
        wait_for(lambda: len(jobs.queued()) == 10, "what is due by its clock is on its queue")
        wait_for(lambda: len(jobs.counted("end")) == 30, "it runs")
        jobs.push(5, "Again", 0.05)
        wait_for(lambda: len(jobs.counted("again")) == 5 and not jobs.jids("retry"), "they are tried again in time")
        redis.set_clock(-300)
        jobs.fault_is_over()
        jobs.push(5, "Again", 0.05)
        jobs.push(20, "Sleep", 0.05)
        jobs.expect_all_done(extra_runs=10)
        assert set(jobs.counted("end").values()) == {1}
        for text in [worker.text for worker in workers]:
            assert "taken over" not in text
            assert "died" not in text
    finally:
        redis.kill()


def test_computing_child_is_killed(work: Work, jobs: Jobs, server: Server):
    worker = work().wait_started()
    jobs.push(1, "Compute")
    wait_for(lambda: jobs.counted("start") and computing(worker), "it computes")
    for child in computing(worker):
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: server.command("ZCARD", "retry") == 1, "the job is retried")
    assert "CPUWorkerDied" in worker.text
    jobs.push(1, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == 1, "the worker goes on")


def test_no_computing_child_outlives_a_killed_worker(work: Work, jobs: Jobs):
    worker = work().wait_started()
    jobs.push(1, "Compute")
    wait_for(lambda: jobs.counted("start") and computing(worker), "it computes")
    children = computing(worker)
    assert children
    assert all(map(is_alive, children))
    worker.kill()
    wait_for(lambda: not any(is_alive(child) for child in children), "they end as well")


def test_signal_to_the_whole_group_stops_cleanly(work: Work, jobs: Jobs):
    worker = work().wait_started()
    jobs.push(1, "Compute")
    wait_for(lambda: jobs.counted("start") and computing(worker), "it computes")
    children = computing(worker)
    for pid in (*children, worker.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert worker.ended() == 0
    assert jobs.queued() == list(jobs.payloads.values())
    wait_for(lambda: not any(is_alive(child) for child in children), "they end as well")


def test_nothing_is_left_of_thousand_jobs(work: Work, jobs: Jobs):
    worker = work("w1", CONCURRENCY="200").wait_started()
    jobs.push(200, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == 200, "it is warm")
    before = descriptors(worker)
    for _ in range(5):
        jobs.push(200, "Sleep", 0)
        jobs.push(50, "FailAfter", 0, retry=False)
    wait_for(lambda: len(jobs.counted("end")) == 1200 and jobs.in_progress() == 0, "all are done")
    wait_for(lambda: descriptors(worker) <= before, f"no more than the {before} descriptors before")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
