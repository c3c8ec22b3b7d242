"""Fixtures: real servers, and workers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Jobs
from servers import Server, Worker, start_worker


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(shared_server: Server) -> str:
    """An empty database of a real server."""
    shared_server.command("FLUSHALL")
    return shared_server.url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be treated badly."""
    (tmp_path / "redis").mkdir()
    server = Server(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
def run_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts real worker processes that end with the test."""
    workers: list[Worker] = []

    def run(url: str, target: str, *options: str, **environment: str) -> Worker:
        workers.append(start_worker(tmp_path, url, target, *options, **environment))
        return workers[-1]

    yield run
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def jobs(server: Server, tmp_path: Path) -> Jobs:
    return Jobs(server, tmp_path)


@pytest.fixture
def work(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Callable[..., Worker]:
    """Starts a worker of the tests' app; `lease` and so on as options."""

    def start(process_id: str = "w1", *options: str, **environment: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "1", *options)
        return run_worker(server.url, "process_app:app", *options, RUNS=str(jobs.runs), **environment)

    return start
