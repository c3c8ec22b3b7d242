"""Large payloads go past Lua, in steps that Redis doesn't answer: whatever befalls the worker between them nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from harness import Jobs
from servers import Server, Worker, wait_for

Work = Callable[..., Worker]


def test_workers_with_large_payloads_are_killed_frozen_and_stopped(work: Work, jobs: Jobs, server: Server):
    dies, freezes, stops, lives = (
        work(name, "--lease", "2", CONCURRENCY="10").wait_started() for name in ("dies", "freezes", "stops", "lives")
    )
    for number in range(12):
        jobs.push(50, "Sleep", 0.1, filler="x" * 50_000)
        time.sleep(0.05)
        if number == 3:
            dies.kill()
            freezes.process.send_signal(signal.SIGSTOP)
        if number == 6:
            stops.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.command("EXISTS", "tw:lease:freezes") == 0, "it is thought dead")
    freezes.process.send_signal(signal.SIGCONT)
    jobs.expect_all_done(extra_runs=40)
    stats = server.command("INFO", "commandstats")
    assert "cmdstat_memory" in stats  # they were weighed
    assert "never arrived" not in lives.text


def test_redis_is_killed_under_large_payloads(work: Work, jobs: Jobs, server: Server):
    workers = [work(name, CONCURRENCY="20").wait_started() for name in ("w1", "w2")]
    for round_ in range(3):
        jobs.push(100, "Sleep", 0.05, filler="x" * 50_000)
        wait_for(lambda: len(jobs.counted("end")) > 100 * round_ + 30, "some are done")  # noqa: B023 - asked at once
        server.kill()
        server.start()
    jobs.expect_all_done(extra_runs=200)
    assert all(worker.process.poll() is None for worker in workers)
