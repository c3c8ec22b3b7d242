"""Three real Sentinels over a primary and a replica: failovers asked for and suffered, Sentinels that lie, hang or want a password."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from redundant import Deployment, under_sentinels
from servers import ROOT, Sentinel, Server, Worker, free_port, wait_for
from sharded import Sharded, until
from tls import Certificates, TLSProxy

import trioworkers
import trioworkers.asyncio
import trioworkers.sync
from trioworkers import Job, Shard
from trioworkers.broker import blocking_sentinels
from trioworkers.broker.redis import finding
from trioworkers.errors import Unavailable
from trioworkers.wire.sentinel import ANSWER_WITHIN_S


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with under_sentinels(tmp_path_factory.mktemp("sentinels")) as deployment:
        yield deployment


@pytest.fixture
def deployment(all_of_them: Deployment) -> Deployment:
    """All well, and nothing in it."""
    wait_for(all_of_them.is_whole, "the Sentinels know each other and both servers")
    all_of_them.primary.command("FLUSHALL")
    return all_of_them


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def work(run_worker: Callable[..., Worker], runs: Path) -> Callable[..., Worker]:
    def start(url: str, *options: str) -> Worker:
        fixed = ("--process-id", "w1", "--lease", "5", "--shutdown-timeout", "1")
        return run_worker(url, "process_app:app", *fixed, *options, RUNS=str(runs), CONCURRENCY="20").wait_started()

    return start


def ended(runs: Path) -> set[str]:
    lines = runs.read_text().splitlines() if runs.exists() else []
    return {line.split()[1] for line in lines if line.startswith("end ")}


def jobs(count: int) -> list[Job]:
    return [Job("q", "Sleep", [0.02]) for _ in range(count)]


@contextmanager
def answering(answer: bytes | None, after_s: float = 0.0) -> Iterator[int]:
    """A server on a port that says this to whatever it hears; None: nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    if answer is not None:
                        connection.recv(1000)
                        time.sleep(after_s)
                        with suppress(OSError):  # it waits no longer
                            connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def naming(port: int) -> bytes:
    """What a Sentinel says that names this port, and won't tell since when."""
    return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n-NOPERM this user has no permissions\r\n" % (len(str(port)), port)


def send(url: str, count: int) -> int:
    """Enqueue by the client for Trio, which finds the primary its own way."""

    async def enqueue() -> int:
        async with trioworkers.Client(url) as client:
            return len(await client.enqueue(*jobs(count)))

    return trio.run(enqueue)


def test_no_job_is_lost_over_failovers_asked_for_and_suffered(
    deployment: Deployment, work: Callable[..., Worker], runs: Path
):
    worker = work(deployment.url)
    with trioworkers.sync.Client(deployment.url, retry_for=30) as client:
        sent = {str(jid) for jid in client.enqueue(*jobs(200))}
        deployment.primary.wait_replicated()
        wait_for(lambda: len(ended(runs)) > 20, "it works")

        deployment.fail_over()
        sent |= {str(jid) for jid in client.enqueue(*jobs(100))}
        wait_for(lambda: sent <= ended(runs), lambda: f"all run over a failover asked for: {worker.text[-2000:]}")
        wait_for(deployment.is_whole, "the old primary is a replica")

        sent |= {str(jid) for jid in client.enqueue(*jobs(200))}
        before = deployment.primary
        before.wait_replicated()
        before.kill()
        wait_for(lambda: deployment.primary is not before, "the other one was promoted")
        sent |= {str(jid) for jid in client.enqueue(*jobs(100))}
        wait_for(lambda: sent <= ended(runs), lambda: f"all run over a kill: {worker.text[-2000:]}")

        before.start()  # thinks that it is a primary until the Sentinels tell it
        wait_for(deployment.is_whole, "the killed one came back as replica")
        sent |= {str(jid) for jid in client.enqueue(*jobs(50))}
        wait_for(lambda: sent <= ended(runs), "and jobs run")
    assert "Traceback" not in worker.text
    assert worker.process.poll() is None


@pytest.mark.slow
def test_no_job_is_lost_when_the_primary_freezes_and_comes_back_as_a_second_one(
    deployment: Deployment, work: Callable[..., Worker], runs: Path
):
    worker = work(deployment.url)
    with trioworkers.sync.Client(deployment.url, retry_for=30) as client:
        sent = {str(jid) for jid in client.enqueue(*jobs(100))}
        before = deployment.primary
        before.wait_replicated()
        before.send(signal.SIGSTOP)
        wait_for(lambda: deployment.primary is not before, "the other one was promoted")
        sent |= {str(jid) for jid in client.enqueue(*jobs(100))}
        wait_for(lambda: sent <= ended(runs), f"all run at the other one: {worker.text[-2000:]}")

        before.send(signal.SIGCONT)  # takes itself for the primary, with all its clients, until the Sentinels tell it
        sent |= {str(jid) for jid in client.enqueue(*jobs(100))}
        wait_for(deployment.is_whole, "it is a replica")
        sent |= {str(jid) for jid in client.enqueue(*jobs(50))}
        wait_for(lambda: sent <= ended(runs), f"and jobs run: {worker.text[-2000:]}")
    wait_for(lambda: not left_in(deployment.primary), f"nothing is left: {left_in(deployment.primary)}")
    assert "Traceback" not in worker.text
    assert worker.process.poll() is None


def left_in(server: Server) -> object:
    """Jobs that wait or are in progress there."""
    keys = server.command("KEYS", "queue:*")
    assert isinstance(keys, list)
    return keys


@pytest.mark.slow
def test_of_two_primaries_only_the_one_that_most_name_gets_jobs(
    deployment: Deployment, work: Callable[..., Worker], runs: Path
):
    """Split brain: the old primary lives, cut off from its replica and the Sentinels, and whoever still reaches it is refused writes."""
    before = deployment.primary
    for server in deployment.servers:
        server.command("CONFIG", "SET", "min-replicas-to-write", "1", "min-replicas-max-lag", "1")
    worker = work(deployment.url)
    try:
        with trioworkers.sync.Client(deployment.url, retry_for=60) as client:
            sent = {str(jid) for jid in client.enqueue(*jobs(100))}
            wait_for(lambda: sent <= ended(runs), "it works")
            before.wait_replicated()
            # Cut off: who watches and who replicates is not let in any more; its clients are.
            before.command(
                "ACL", "SETUSER", "default", "-psync", "-replconf", "-info", "-ping", "-replicaof", "-slaveof"
            )
            before.command("CLIENT", "KILL", "TYPE", "replica")
            wait_for(lambda: deployment.primary is not before, "the other one was promoted")
            assert str(before.command("ROLE"))[:10] == "['master',"
            deployment.primary.command("CONFIG", "SET", "min-replicas-to-write", "0")
            sent |= {str(jid) for jid in client.enqueue(*jobs(100))}
            wait_for(lambda: sent <= ended(runs), f"all run at the one that is named: {worker.text[-2000:]}")
            with pytest.raises(AssertionError, match="NOREPLICAS"):
                before.command("LPUSH", "queue:q", "lost")
    finally:
        before.command("ACL", "SETUSER", "default", "+@all")
        for server in deployment.servers:
            server.command("CONFIG", "SET", "min-replicas-to-write", "0")
    wait_for(deployment.is_whole, "the old one is a replica")


def test_all_clients_and_commands_take_the_url(deployment: Deployment):
    url = deployment.url
    assert send(url, 3) == 3

    async def by_asyncio() -> int:
        async with trioworkers.asyncio.Client(url) as client:
            return len(await client.enqueue(*jobs(2)))

    assert asyncio.run(by_asyncio()) == 2
    with trioworkers.sync.Client(url) as client:
        assert len(client.enqueue(*jobs(1))) == 1
    command = [sys.executable, "-m", "trioworkers"]
    told = subprocess.run(
        [*command, "queues", "--redis", url, "--json"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert '"size":6' in told.stdout.replace(" ", ""), told.stderr
    told = subprocess.run([*command, "doctor", "--redis", url], capture_output=True, text=True, check=False, cwd=ROOT)
    assert f"all 3 say 127.0.0.1:{deployment.primary.port}" in told.stdout


@pytest.mark.parametrize("answer", ["replica", "nothing there", "garbage", "an error", "hangs"])
def test_sentinel_that_is_of_no_use_is_passed_over(deployment: Deployment, answer: str):
    said = {
        "replica": naming(deployment.replica.port),
        "nothing there": naming(free_port()),
        "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "an error": b"-ERR unknown command\r\n-ERR unknown command\r\n",
        "hangs": None,
    }
    with answering(said[answer]) as liar:
        url = Deployment.url_of(liar, deployment.sentinels[0].port)
        assert send(url, 1) == 1
        with trioworkers.sync.Client(url) as client:
            assert len(client.enqueue(*jobs(1))) == 1
    assert deployment.primary.command("LLEN", "queue:q") == 2


def test_sentinels_that_are_far_away_are_waited_for(deployment: Deployment):
    with answering(naming(deployment.primary.port), after_s=2 * ANSWER_WITHIN_S) as far:
        url = Deployment.url_of(far)
        assert send(url, 1) == 1
        with trioworkers.sync.Client(url) as client:
            assert len(client.enqueue(*jobs(1))) == 1
    assert deployment.primary.command("LLEN", "queue:q") == 2


def test_two_that_name_different_primaries_are_an_outage_that_says_so(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (blocking_sentinels, finding):
        monkeypatch.setattr(module, "ANSWER_WITHIN_S", 30.0)  # else the honest one alone is heard on a busy machine
    other = Server(tmp_path).start()
    try:
        honest = deployment.sentinels[0]
        told = honest.command("SENTINEL", "MASTER", "main")
        assert isinstance(told, list)
        epoch = told[told.index("config-epoch") + 1]
        details = b"*2\r\n$12\r\nconfig-epoch\r\n$%d\r\n%s\r\n" % (len(epoch), epoch.encode())
        stranger = naming(other.port).partition(b"-NOPERM")[0] + details
        with answering(stranger) as liar:
            url = Deployment.url_of(honest.port, liar)
            with pytest.raises(Unavailable, match=rf"Sentinels name different primaries: .*:{other.port}"):
                trioworkers.sync.Client(url, retry_for=0).enqueue(*jobs(1))
            with pytest.raises(Unavailable, match=rf"Sentinels name different primaries: .*:{other.port}"):
                send(url, 1)
        assert other.command("DBSIZE") == 0
        assert deployment.primary.command("DBSIZE") == 0
    finally:
        other.kill()


def test_unknown_name_and_no_sentinel_at_all_say_what_is_wrong(deployment: Deployment):
    with pytest.raises(Unavailable, match="it watches no primary named 'mian'"):
        send(Deployment.url_of(deployment.sentinels[0].port, name="mian"), 1)
    nobody = free_port()
    with pytest.raises(Unavailable, match=f"no Sentinel says where 'main' is: 127.0.0.1:{nobody}: connection refused"):
        send(Deployment.url_of(nobody), 1)
    with pytest.raises(Unavailable, match="unknown command"):
        send(Deployment.url_of(deployment.primary.port), 1)


def test_both_kinds_of_server_may_want_a_password(tmp_path: Path):
    for name in ("redis", "sentinel"):
        (tmp_path / name).mkdir()
    primary = Server(tmp_path / "redis").start()
    # One user for us, who may neither ROLE nor INFO, and the default one for the Sentinel.
    rights = ("on", ">pw", "~*", "&*", "+@all", "-role", "-info", "-@dangerous", "+eval", "+evalsha")
    primary.command("ACL", "SETUSER", "me", *rights)
    sentinel = Sentinel(tmp_path / "sentinel", primary).start("--requirepass", "secret", wait=False)
    try:
        wait_for(lambda: says(sentinel, "NOAUTH"), "it wants a password")
        url = f"redis+sentinel://me:pw@127.0.0.1:{sentinel.port}/main"
        with pytest.raises(Unavailable, match="sentinel_password="):
            send(url, 1)
        url += "?sentinel_password=secret"
        assert send(url, 1) == 1
        with trioworkers.sync.Client(url) as client:
            assert len(client.enqueue(*jobs(1))) == 1
        with pytest.raises(trioworkers.errors.WrongLogin):
            send(url.replace("me:pw", "me:wrong"), 1)
    finally:
        sentinel.kill()
        primary.kill()


@pytest.mark.parametrize("sentinels_speak_tls", [True, False])
def test_tls_to_both_kinds_of_server_or_to_the_redis_only(tmp_path: Path, sentinels_speak_tls: bool):
    for name in ("redis", "sentinel"):
        (tmp_path / name).mkdir()
    certificates = Certificates(tmp_path)
    primary = Server(tmp_path / "redis").start()
    before_primary = TLSProxy(primary.port, certificates)
    # Only what it names matters here: that it can't speak to it in plain text doesn't change that.
    sentinel = Sentinel(tmp_path / "sentinel", before_primary).start()  # type: ignore[arg-type]
    before_sentinel = TLSProxy(sentinel.port, certificates)
    try:
        port = before_sentinel.port if sentinels_speak_tls else sentinel.port
        url = f"rediss+sentinel://localhost:{port}/main?ssl_ca_certs={certificates.ca}&ssl_check_hostname=no"
        url += "" if sentinels_speak_tls else "&sentinel_tls=no"
        assert send(url, 1) == 1
        with trioworkers.sync.Client(url) as client:
            assert len(client.enqueue(*jobs(1))) == 1

        async def by_asyncio() -> None:
            async with trioworkers.asyncio.Client(url) as client:
                await client.enqueue(*jobs(1))

        asyncio.run(by_asyncio())
        assert primary.command("LLEN", "queue:q") == 3
        with pytest.raises(Unavailable, match="not trusted"):
            send(url.replace(f"ssl_ca_certs={certificates.ca}&", ""), 1)
    finally:
        for each in (before_sentinel, before_primary):
            each.close()
        sentinel.kill()
        primary.kill()


def says(server: Server, text: str) -> bool:
    try:
        server.command("PING")
    except AssertionError as error:
        return text in str(error)
    except OSError:
        pass
    return False


def test_worker_without_its_primary_waits_and_says_why(tmp_path: Path):
    """It starts before anything else does, as in a compose file."""
    nobody = free_port()
    command = [sys.executable, "-m", "trioworkers", "stats", "--redis", Deployment.url_of(nobody)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert told.returncode == 1
    assert "no Sentinel says where 'main' is" in told.stderr
    assert "Traceback" not in told.stderr


async def test_shard_under_sentinels_fails_over_and_the_other_goes_on(deployment: Deployment, redis_url: str):
    sharded = Sharded(Shard(deployment.url, namespace="{a}"), Shard(redis_url, namespace="{b}"))
    async with sharded.working(), sharded.app.client() as client:
        await sharded.all_at_the_gate(40)
        before = deployment.primary
        await trio.to_thread.run_sync(before.wait_replicated)
        before.kill()
        await client.enqueue(*(sharded.to_right.job(number) for number in range(1000, 1100)))
        await until(lambda: len(sharded.right) == 100)
        sharded.right.clear()
        sharded.gate.set()  # they end while their shard, or the one that they send to, has no primary
        await trio.to_thread.run_sync(wait_for, lambda: deployment.primary is not before, "another one is promoted")
        await sharded.come(40)
        await until(lambda: deployment.primary.command("KEYS", "{a}:tw:outbox:*") == [])
    before.start("--repl-diskless-sync-delay", "0")
