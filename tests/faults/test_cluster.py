"""A real cluster of six, of Redis or Valkey: three primaries and their replicas. Every job is counted over a killed primary and a slot that moves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from redundant import NAMESPACE, OPTIONS, Nodes, bus_port, in_cluster, move_slot
from servers import ROOT, EmbeddedServer, Server, Worker, free_port, wait_for
from sharded import Sharded, until

import trioworkers
import trioworkers.asyncio
import trioworkers.sync
from trioworkers import App, ConfigurationError, Job, Shard
from trioworkers.errors import Unavailable


@pytest.fixture(scope="module", params=[Server, pytest.param(EmbeddedServer, marks=pytest.mark.slow)])
def all_six(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Of Redis, and of Valkey."""
    with in_cluster(tmp_path_factory.mktemp("cluster"), request.param) as nodes:
        yield nodes


@pytest.fixture
def nodes(all_six: Nodes) -> Nodes:
    """All well, and nothing in it."""
    wait_for(all_six.is_whole, "the cluster is whole")
    for primary in all_six.primaries():
        primary.command("FLUSHALL")
    return all_six


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def ended(runs: Path) -> set[str]:
    lines = runs.read_text().splitlines() if runs.exists() else []
    return {line.split()[1] for line in lines if line.startswith("end ")}


def jobs(count: int) -> list[Job]:
    return [Job("q", "Sleep", [0.02]) for _ in range(count)]


def sent_by(client: trioworkers.sync.Client, count: int) -> set[str]:
    return {str(jid) for jid in client.enqueue(*jobs(count))}


def test_no_job_is_lost_when_the_primary_is_killed_or_its_slot_moves(
    nodes: Nodes, run_worker: Callable[..., Worker], runs: Path
):
    options = ("--namespace", NAMESPACE, "--process-id", "w1", "--lease", "5", "--shutdown-timeout", "1")
    worker = run_worker(nodes.url(), "process_app:app", *options, RUNS=str(runs), CONCURRENCY="20").wait_started()
    with trioworkers.sync.Client(nodes.url(), namespace=NAMESPACE, retry_for=30) as client:
        sent = sent_by(client, 300)
        wait_for(lambda: len(ended(runs)) > 20, "it works")
        move_slot(nodes)
        sent |= sent_by(client, 100)
        wait_for(lambda: sent <= ended(runs), lambda: f"all run over a slot that moves: {worker.text[-2000:]}")

        sent |= sent_by(client, 200)
        before = nodes.owner()
        before.wait_replicated()
        before.kill()
        wait_for(
            lambda: (
                "cluster_state:ok" in str(nodes.living()[0].command("CLUSTER", "INFO")) and nodes.owner() is not before
            ),
            "a replica was promoted",
        )
        sent |= sent_by(client, 100)
        wait_for(lambda: sent <= ended(runs), lambda: f"all run over a kill: {worker.text[-2000:]}")
    assert worker.process.poll() is None
    assert "Traceback" not in worker.text
    before.start(*OPTIONS, *bus_port(before))


def test_all_clients_and_commands_find_the_node_from_any_other(nodes: Nodes):
    for each in nodes.servers:
        url = nodes.url(each)

        async def by_trio(url: str = url) -> None:
            async with trioworkers.Client(url, namespace=NAMESPACE) as client:
                await client.enqueue(*jobs(1))

        trio.run(by_trio)
    url = nodes.url(nodes.servers[-1])

    async def by_asyncio() -> None:
        async with trioworkers.asyncio.Client(url, namespace=NAMESPACE) as client:
            await client.enqueue(*jobs(1))

    asyncio.run(by_asyncio())
    with trioworkers.sync.Client(url, namespace=NAMESPACE) as client:
        client.enqueue(*jobs(1))
    command = [sys.executable, "-m", "trioworkers"]
    where = ["--redis", url, "--namespace", NAMESPACE]
    told = subprocess.run([*command, "queues", *where, "--json"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert '"size":8' in told.stdout.replace(" ", ""), told.stderr
    told = subprocess.run([*command, "doctor", *where], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "could not be checked" not in told.stdout
    assert "every command that workers use is allowed" in told.stdout


def test_every_kind_of_job_runs_in_a_cluster(nodes: Nodes, run_worker: Callable[..., Worker], runs: Path):
    """Limits, results, retries, schedules: their scripts read names from their arguments, too."""
    options = ("--namespace", NAMESPACE, "--process-id", "w2", "--lease", "5", "--shutdown-timeout", "1")
    worker = run_worker(nodes.url(), "limits_app:app", *options, RUNS=str(runs)).wait_started()
    with trioworkers.sync.Client(nodes.url(), namespace=NAMESPACE) as client:
        sent = client.enqueue(*[Job("q", "Limited", [0.01], keep_result=60) for _ in range(30)])
        sent += client.schedule(0.1, Job("q", "Limited", [0.01], keep_result=60))
        client.enqueue(Job("q", "Nobody"))
        for jid in sent:
            client.result(jid, timeout=60)
    wait_for(lambda: nodes.owner().command("ZCARD", f"{NAMESPACE}:retry") == 1, "the unknown one is retried later")
    assert "CROSSSLOT" not in worker.text
    assert "non local key" not in worker.text


def test_cluster_without_our_slot_is_an_outage_that_says_so(nodes: Nodes, tmp_path: Path):
    lonely = Server(tmp_path).start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    try:
        with pytest.raises(Unavailable, match=r"no node has the slot of '\{shop\}.*CLUSTERDOWN Hash slot not served"):
            trioworkers.sync.Client(nodes.url(lonely), namespace=NAMESPACE, retry_for=0).enqueue(*jobs(1))
    finally:
        lonely.kill()


def test_namespace_that_lies_in_many_slots_is_refused():
    url = "redis+cluster://h:7000"
    with pytest.raises(ConfigurationError, match=r"one pair of braces, like '\{shop\}', not 'shop'"):
        trioworkers.sync.Client(url, namespace="shop")
    with pytest.raises(ConfigurationError, match="one pair of braces"):
        trioworkers.asyncio.Client(url)
    app = App(url, namespace="{shop}")

    async def handler() -> None: ...

    app.handler("q", "A")(handler)
    app.check()
    app.queue("q", dialect="resque")
    with pytest.raises(ConfigurationError, match="queue 'q': resque's workers know no cluster"):
        app.check()
    other = App(url)
    other.handler("q", "A")(handler)
    with pytest.raises(ConfigurationError, match="one pair of braces"):
        other.check()
    told = subprocess.run(
        [sys.executable, "-m", "trioworkers", "stats", "--redis", url],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert told.returncode in (1, 2)
    assert "one pair of braces" in told.stderr
    assert "Traceback" not in told.stderr


async def test_two_shards_in_one_cluster_while_the_slot_of_one_moves_and_its_primary_dies(nodes: Nodes):
    sharded = Sharded(Shard(nodes.url(), namespace=NAMESPACE), Shard(nodes.url(), namespace="{elsewhere}"))
    async with sharded.working(), sharded.app.client() as client:
        await sharded.all_at_the_gate(40)
        await trio.to_thread.run_sync(move_slot, nodes)
        before = nodes.owner()
        await trio.to_thread.run_sync(before.wait_replicated)
        before.kill()
        sharded.gate.set()  # they end while a shard has no primary

        def is_promoted() -> bool:
            return (
                "cluster_state:ok" in str(nodes.living()[0].command("CLUSTER", "INFO")) and nodes.owner() is not before
            )

        await trio.to_thread.run_sync(wait_for, is_promoted, "a replica was promoted")
        await sharded.come(40)
        await client.enqueue(*(sharded.to_left.job(number) for number in range(1000, 1100)))
        await until(lambda: len(sharded.left) == 140)
        await until(lambda: nodes.owner().command("KEYS", f"{NAMESPACE}:tw:outbox:*") == [])
    before.start(*OPTIONS, *bus_port(before))
