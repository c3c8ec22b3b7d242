"""A worker whose jobs misuse their process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Jobs
from servers import Worker, wait_for


@pytest.fixture
def misuse(run_worker: Callable[..., Worker], jobs: Jobs) -> Callable[..., Worker]:
    """Starts one."""

    def start(*options: str, **environment: str) -> Worker:
        command = ["misuse_app:app", "--process-id", "w1", "--shutdown-timeout", "1", *options]
        return run_worker(jobs.server.url, *command, RUNS=str(jobs.runs), **environment)

    return start


@pytest.fixture
def result(jobs: Jobs) -> Callable[[str], str]:
    """Has a job misuse its process in this way, and tells what came of it."""

    def run(how: str) -> str:
        before = len(jobs.lines("end"))
        jobs.push(1, "Misuse", how)
        wait_for(lambda: len(jobs.lines("end")) > before, f"{how} is done")
        return jobs.lines("end")[-1].split()[2]

    return run
