"""Fixtures: real servers, and workers that end with their test."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio.testing
from distribution import Distribution
from harness import Held, Jobs
from hypothesis import HealthCheck, settings
from servers import Server, Worker, blocked_fetches, start_worker, wait_for

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import Script

# How fast the machine is that runs the tests says nothing about what is tested; nor does the luck that the first draws had.
LUCK = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
settings.register_profile("any machine", deadline=None, suppress_health_check=LUCK)
settings.load_profile("any machine")

# What a shell starts in the background ignores it, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG_FIRST = ("test_costs.py", "faults/", "process/", "test_types.py", "test_package.py", "web/", "interop/", "cli/")
"""Where the long tests are. What begins last should be short: whoever has no test left waits for the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first. Each process of a distributed run sorts by itself, the same way."""
    here = Path(__file__).parent

    def turn(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((number for number, each in enumerate(LONG_FIRST) if path.startswith(each)), len(LONG_FIRST))

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution | None:
    """For `--dist loadgroup`: ours instead of xdist's own."""
    return Distribution(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session", autouse=True)
def _every_script_gets_what_it_names() -> Iterator[None]:
    """Each call in this process has as many keys and arguments as the script's declaration; a list shifted by one would be another key."""
    run = Connection.run

    async def checked(
        self: Connection, script: Script, keys: list[str], args: list[Any], operation: str = "", **how: bool
    ) -> Any:
        declared = ((script.keys, keys), (script.args, args)) if isinstance(script, Script) else ()
        for names, values in declared:
            rest = bool(names) and names[-1].startswith("*")
            fits = len(values) >= len(names) - 1 if rest else len(values) == len(names)
            assert fits, f"{script.name} wants {names}, not {values!r:.500}"
        return await run(self, script, keys, args, operation, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "run", checked)
        yield


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(shared_server: Server) -> str:
    """An empty database of a real server, to which nobody is connected who might still write what the test before wanted."""
    shared_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    shared_server.command("FLUSHALL")
    return shared_server.url


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """For timeouts over real sockets between tasks of the test: time goes on when nothing moves for a while, however slow the machine is."""
    return trio.testing.MockClock(autojump_threshold=0.1)


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


@pytest.fixture(scope="session")
def held_by_a_fresh_worker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Held]:
    """What a worker of the tests' app holds that has never done anything."""

    @cache
    def measure(*, in_capsule: bool = False) -> Held:
        folder = tmp_path_factory.mktemp("fresh")
        server = Server(folder).start()
        jobs = Jobs(server, folder)
        worker = start_worker(
            folder, server.url, "process_app:app", RUNS=str(jobs.runs), **({"CAPSULE": "1"} if in_capsule else {})
        ).wait_started()
        try:
            wait_for(lambda: blocked_fetches(server) == 2, "it has nothing to do")
            return jobs.held(worker)
        finally:
            worker.kill()
            server.kill()

    return measure


@pytest.fixture
def jobs(
    server: Server,
    tmp_path: Path,
    held_by_a_fresh_worker: Callable[..., Held],
    record_property: Callable[[str, object], None],
) -> Iterator[Jobs]:
    jobs = Jobs(server, tmp_path)
    jobs.baseline = held_by_a_fresh_worker
    yield jobs
    record_property("measured", attrs.asdict(jobs.measured))


@pytest.fixture
def work(
    run_worker: Callable[..., Worker], server: Server, jobs: Jobs, held_by_a_fresh_worker: Callable[..., Held]
) -> Callable[..., Worker]:
    """Starts a worker of the tests' app; `lease` and so on as options."""

    def start(process_id: str = "w1", *options: str, **environment: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "1", *options)
        worker = run_worker(server.url, "process_app:app", *options, RUNS=str(jobs.runs), **environment)
        jobs.workers.append(worker)
        if "CAPSULE" in environment:
            jobs.baseline = partial(held_by_a_fresh_worker, in_capsule=True)
        return worker

    return start
