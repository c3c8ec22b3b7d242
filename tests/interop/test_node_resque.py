"""node-resque as producer, as worker, as scheduler and as the tool that looks: each against us, in real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from servers import ROOT, Server, Worker, start_worker, wait_for

from trioworkers import Client, Job

NODE = Path(__file__).parent / "node"
ARGS = [7, "é☃", 2.5, None, True, [1, [2]], {"deep": []}]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        shutil.which("node") is None or not (NODE / "node_modules" / "node-resque").is_dir(),
        reason="node-resque is missing (npm ci in tests/interop/node)",
    ),
]


class Node:
    """node-resque on one server: calls its Queue, and runs its Worker with its Scheduler."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._ran = folder / "node-ran"
        self._worker: subprocess.Popen[bytes] | None = None

    def call(self, *calls: list[Any]) -> list[Any]:
        command = ["node", "resque.js", self.server.url, "call", json.dumps(calls)]
        done = subprocess.run(command, cwd=NODE, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()
        results = json.loads(done.stdout)
        assert isinstance(results, list)
        return results

    def work(self, queue: str = "node") -> None:
        """Run a worker on a queue."""
        with self._ran.open("wb") as sink:
            command = ["node", "resque.js", self.server.url, "work", queue]
            self._worker = subprocess.Popen(command, cwd=NODE, stdout=sink)
        wait_for(lambda: self.ran, "node-resque's worker starts")

    @property
    def ran(self) -> list[Any]:
        return [json.loads(line) for line in self._ran.read_text().splitlines()]

    def stop(self) -> None:
        """Have the worker say goodbye."""
        assert self._worker is not None
        self._worker.terminate()
        self._worker.wait(60)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    server = Server(folder).start()
    node = Node(server, folder)
    node.work()
    yield node
    node.close()
    server.kill()


@pytest.fixture
def node(shared: Node) -> Node:
    """With a worker and a scheduler that run."""
    return shared


@pytest.fixture
def alone(server: Server, tmp_path: Path) -> Node:
    """With nobody at work, on a server of the test's own."""
    return Node(server, tmp_path)


@pytest.fixture
def work(run_worker: Callable[..., Worker], tmp_path: Path) -> Callable[..., Worker]:
    def start(node: Node, *options: str) -> Worker:
        path = f"{ROOT}:{Path(__file__).parent}"
        options = ("--lease", "2", "--shutdown-timeout", "0.5", *options)
        target = "resque_app:app"
        return run_worker(
            node.server.url, target, *options, RUNS=str(tmp_path / "runs"), PYTHONPATH=path
        ).wait_started()

    return start


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[list[Any]]]:
    return lambda: lines_of(tmp_path / "runs")


def lines_of(path: Path) -> list[list[Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


Work = Callable[..., Worker]
Runs = Callable[[], list[list[Any]]]


def send(server: Server, *jobs: Job, delay_s: float | None = None) -> None:
    async def sending() -> None:
        async with Client(server.url, dialect="resque") as client:
            await (client.enqueue(*jobs) if delay_s is None else client.schedule(delay_s, *jobs))

    trio.run(sending)


# ── who enqueues × who runs ────────────────────────────────────────────────────────────────────────────────────────────


def by_node(node: Node, queue: str, args: list[Any]) -> None:
    node.call(["enqueue", queue, "Echo", args])


def by_node_delayed(node: Node, queue: str, args: list[Any]) -> None:
    node.call(["enqueueIn", 10, queue, "Echo", args])


def by_us(node: Node, queue: str, args: list[Any]) -> None:
    send(node.server, Job(queue, "Echo", args))


def by_us_scheduled(node: Node, queue: str, args: list[Any]) -> None:
    send(node.server, Job(queue, "Echo", args), delay_s=0.01)


def by_our_handler(node: Node, queue: str, args: list[Any]) -> None:
    send(node.server, Job("py", "Relay", [queue, "Echo", args]))


ENQUEUERS = {
    "node-resque enqueue": by_node,
    "node-resque enqueueIn": by_node_delayed,
    "trioworkers Client": by_us,
    "trioworkers Client, schedule": by_us_scheduled,
    "trioworkers ctx.enqueue": by_our_handler,
}


@pytest.fixture(scope="module")
def ran_here(shared: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A worker of ours at work beside node-resque's; tells what it ran."""
    folder = tmp_path_factory.mktemp("ours")
    path = f"{ROOT}:{Path(__file__).parent}"
    worker = start_worker(folder, shared.server.url, "resque_app:app", RUNS=str(folder / "runs"), PYTHONPATH=path)
    worker.wait_started()
    yield lambda: lines_of(folder / "runs")
    worker.kill()


@pytest.mark.parametrize("runner", ["trioworkers", "node-resque"])
@pytest.mark.parametrize("enqueuer", ENQUEUERS)
def test_job_of_one_program_runs_in_the_other(node: Node, ran_here: Runs, enqueuer: str, runner: str):
    args = [enqueuer, runner, *ARGS]
    ENQUEUERS[enqueuer](node, "py" if runner == "trioworkers" else "node", args)
    if runner == "trioworkers":
        wait_for(lambda: ["end", "Echo", args] in ran_here(), "it runs here")
    else:
        wait_for(lambda: {"class": "Echo", "args": args} in node.ran, "it runs in node-resque")


def test_the_table_in_the_documentation_is_the_one_that_was_tested():
    page = (ROOT / "docs" / "interop.md").read_text()
    for enqueuer in ENQUEUERS:
        assert f"| {enqueuer} | yes | yes |" in page


# ── each other's records ───────────────────────────────────────────────────────────────────────────────────────────────


def test_failed_job_is_a_record_that_node_resque_shows_and_retries(alone: Node, work: Work, runs: Runs):
    work(alone)
    alone.call(["enqueue", "py", "Boom", [1]])
    wait_for(lambda: alone.server.command("LLEN", "resque:failed") == 1, "it fails")
    ((record,), count) = alone.call(["failed", 0, -1], ["failedCount"])
    assert count == 1
    backtrace = record.pop("backtrace")
    assert "boom" in backtrace[0]
    assert record.pop("worker").endswith(":py")
    assert time.strptime(record.pop("failed_at"), "%Y/%m/%d %H:%M:%S UTC")
    assert record == {
        "payload": {"class": "Boom", "queue": "py", "args": [1]},
        "exception": "ValueError",
        "error": "bad é",
        "queue": "py",
    }
    (again,) = alone.call(["failed", 0, -1])[0]
    alone.call(["retryAndRemoveFailed", again])
    wait_for(lambda: len(runs()) == 2, "it runs again")
    wait_for(lambda: alone.server.command("LLEN", "resque:failed") == 1, "and fails again")


def test_node_resque_sees_our_worker_and_what_it_runs_and_counts_it(alone: Node, work: Work, runs: Runs):
    worker = work(alone)
    alone.call(["enqueue", "py", "Sleep", [1, 60]], ["enqueue", "py", "Sleep", [2, 60]], ["enqueue", "py", "Echo", []])
    wait_for(lambda: len(runs()) == 3, "they run")

    def shown() -> bool:
        return len([job for job in alone.call(["allWorkingOn"])[0].values() if isinstance(job, dict)]) == 2

    wait_for(shown, "both are shown")
    (workers, working, stats, queues) = alone.call(["workers"], ["allWorkingOn"], ["stats"], ["queues"])
    assert set(workers.values()) == {"py"}
    assert {json.dumps(job["payload"]["args"]) for job in working.values()} == {"[1, 60]", "[2, 60]"}
    assert stats["processed"] == "1"
    assert queues == ["py"]
    worker.signal(15)
    wait_for(lambda: alone.call(["workers"])[0] == {}, "it has left")
    assert alone.server.command("HLEN", "resque:workers:heartbeat") == 0


def test_node_resque_comes_to_our_queue_and_goes(alone: Node, work: Work):
    worker, strict = work(alone), work(alone, "--strict")
    alone.work("py")
    try:
        wait_for(lambda: "another kind of worker fetches from our queues" in worker.text, "it is noticed")
        assert strict.ended() == 1
        assert "strict, so stopped" in strict.text
        assert "node-resque" in strict.text.splitlines()[-1]
        alone.stop()
    finally:
        alone.close()
    wait_for(lambda: "no longer on our queues: node-resque" in worker.text, "it is noticed that it is gone")


def test_scheduled_job_is_where_node_resque_looks_for_it_and_under_the_name_by_which_ruby_deletes_it(alone: Node):
    job = {"class": "Echo", "args": [1, "é"], "queue": "node"}
    began_at = time.time()
    send(alone.server, Job("node", "Echo", [1, "é"]), delay_s=3600)
    sent_at = time.time()
    (second,) = alone.server.command("ZRANGE", "resque:delayed_queue_schedule", 0, -1)  # type: ignore[misc]
    assert began_at - 2 < int(second) - 3600 < sent_at + 2
    assert alone.call(["delayedAt", int(second) * 1000])[0]["tasks"] == [job]
    text = json.dumps(job, ensure_ascii=False, separators=(",", ":"))
    assert alone.server.command("SMEMBERS", f"resque:timestamps:{text}") == [f"delayed:{second}"]
