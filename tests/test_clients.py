"""The three clients: the same methods, errors and words, whatever kind of program they are in."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from any_client import CLASSES, KINDS, AnyClient
from servers import Server
from tls import Certificates, TLSProxy

import trioworkers
import trioworkers.asyncio
import trioworkers.sync
from trioworkers import (
    App,
    BadJob,
    Batch,
    ConfigurationError,
    DuplicateJob,
    Job,
    JobFailed,
    JobGone,
    Refused,
    Sent,
    Unavailable,
    Unique,
)
from trioworkers.chosen_redis import noted_elsewhere
from trioworkers.dev_note import keeping_note
from trioworkers.wire.ended import encode_ended
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock

here = partial(Job, runs_here=True)

Open = Callable[..., AnyClient]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_client(kind: str) -> Iterator[Open]:
    opened: list[AnyClient] = []

    def open_client(url: str | None = None, **options: Any) -> AnyClient:
        opened.append(AnyClient(kind, url, **options))
        return opened[-1]

    yield open_client
    for each in opened:
        each.close()


def numbers(server: Server, queue: str = "q") -> Counter[int]:
    """The first argument of each job in a queue, and how often it is there."""
    found = server.command("LRANGE", f"queue:{queue}", 0, -1)
    assert isinstance(found, list)
    return Counter(json.loads(payload)["args"][0] for payload in found)


def test_jobs_are_sent_and_named(open_client: Open, redis_url: str, shared_server: Server):
    client = open_client(redis_url)
    first, second = client.enqueue(Job("q", "Work", [1]), Job("q", "Work", [2], jid="0" * 24))
    assert client.enqueue() == []
    (later,) = client.schedule(60, Job("q", "Work", [3]))
    assert (type(first), second, type(later)) == (Sent, "0" * 24, Sent)
    assert numbers(shared_server) == {1: 1, 2: 1}
    assert shared_server.command("ZCARD", "schedule") == 1


def test_many_thousand_jobs_keep_their_order(open_client: Open, redis_url: str, shared_server: Server):
    open_client(redis_url).enqueue(*(Job("q", "Work", [n]) for n in range(2500)))
    found = shared_server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(found, list)
    assert [json.loads(payload)["args"][0] for payload in reversed(found)] == list(range(2500))


def test_bad_job_is_found_before_anything_is_sent(open_client: Open, redis_url: str, shared_server: Server):
    client = open_client(redis_url, max_payload_bytes=1000)
    with pytest.raises(BadJob, match="written as JSON"):
        client.enqueue(Job("q", "Work", [1]), Job("q", "Work", [object()]))
    with pytest.raises(BadJob, match="max_payload_bytes"):
        client.enqueue(Job("q", "Work", ["x" * 1000]))
    with pytest.raises(BadJob, match="when to run"):
        client.schedule("tomorrow", Job("q", "Work"))
    assert shared_server.command("KEYS", "*") == []


def test_result_of_a_job(open_client: Open, redis_url: str, shared_server: Server):
    def ends(jid: str, text: bytes) -> None:
        shared_server.command("SET", Keys("").result(jid), text)

    client = open_client(redis_url)
    with pytest.raises(TimeoutError, match="has not ended within 0"):
        client.result("a", timeout=0)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(client.result, "a", timeout=60)
        ends("a", encode_ended("succeeded", b'{"n": 7}'))
        assert waits.result() == {"n": 7}
    ends("b", encode_ended("dead", error=("ValueError", "no")))
    with pytest.raises(JobFailed, match="ValueError: no"):
        client.result("b")
    ends("c", encode_ended("expired"))
    with pytest.raises(JobGone, match="expired"):
        client.result("c")


def test_who_has_the_locks_of_members_is_told_to_all(open_client: Open, redis_url: str):
    client = open_client(redis_url)

    def once(jid: str) -> Job:
        return Job("q", "Work", jid=jid, lock=Lock("k"), runs_here=True)

    client.enqueue(once("first"))
    batch = Batch()
    batch.add(once("second"))
    (sent,) = client.enqueue(batch)
    assert (sent, sent.duplicates) == (batch.id, {"second": "first"})
    client.batch([once("third"), Job("q", "Work", runs_here=True)])
    assert client.duplicates == {"third": "first"}


def test_batches_of_any_kind(open_client: Open, redis_url: str, shared_server: Server):
    client = open_client(redis_url)
    batch = Batch("one step")
    batch.add(here("q", "Work", [1]))
    assert client.enqueue(batch) == [batch.id]
    done = here("done", "Done", [0])
    many = client.batch([here("q", "Work", [n]) for n in (2, 3)], on_success=done)
    assert numbers(shared_server) == {1: 1, 2: 1, 3: 1}
    assert shared_server.command("SCARD", f"tw:batch:{many}:jids") == 2
    assert shared_server.command("LLEN", "queue:done") == 0
    client.batch([], on_success=done)  # without members it is over when it is sealed
    assert shared_server.command("LLEN", "queue:done") == 1
    with pytest.raises(KeyError):
        client.batch([here("q", "Work", [4])], error=KeyError("mine"), on_success=done)
    with pytest.raises(BadJob, match="on_success is a job"):
        client.batch([], on_success="done")  # type: ignore[arg-type]


def test_members_are_added_inside_the_block(redis_url: str):
    with trioworkers.sync.Client(redis_url) as client:
        with client.batch() as batch:
            pass
        with pytest.raises(RuntimeError, match="inside the block"):
            batch.add(Job("q", "Work"))


def test_redis_that_is_away_is_unavailable(open_client: Open, kind: str):
    client = open_client("redis://:secret@127.0.0.1:1/0", retry_for=0)
    with pytest.raises(Unavailable, match="connection refused") as caught:
        client.enqueue(Job("q", "Work"))
    assert kind == "trio" or "127.0.0.1:1/0 (the client's URL)" in str(caught.value)
    assert "secret" not in f"{caught.value!r}{client.client!r}"


def test_what_redis_refuses_is_refused(open_client: Open, server: Server):
    server.command("SET", "queue:q", "no list")
    with pytest.raises(Refused, match="wrong kind of value"):
        open_client(server.url).enqueue(Job("q", "Work"))
    server.command("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(Refused, match=r"(?i)auth|password"):
        open_client(server.url).enqueue(Job("r", "Work"))


def test_duplicate_that_is_to_be_refused_says_of_what(open_client: Open, redis_url: str, shared_server: Server):
    app = App(redis_url)

    @app.handler("q", "Once", unique=Unique(on_conflict="raise"))
    async def once(number: int) -> None: ...

    client = open_client(redis_url)
    [first] = client.enqueue(once.job(1))
    with pytest.raises(DuplicateJob) as refused:
        client.enqueue(once.job(2), once.job(1))
    assert refused.value.duplicate_of == first
    assert numbers(shared_server) == Counter({1: 1})


def test_full_redis_is_unavailable(open_client: Open, server: Server):
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable, match="maxmemory"):
        open_client(server.url, retry_for=0).enqueue(Job("q", "Work"))


def test_scripts_that_were_flushed_are_sent_again(open_client: Open, redis_url: str, shared_server: Server):
    client = open_client(redis_url)
    client.enqueue(Job("q", "Work", [1]))
    shared_server.command("SCRIPT", "FLUSH")
    client.enqueue(Job("q", "Work", [2]))
    assert numbers(shared_server) == {1: 1, 2: 1}


def test_unix_socket(open_client: Open, server: Server, tmp_path: Path):
    server.kill()
    server.start("--unixsocket", str(tmp_path / "socket"))
    open_client(f"unix://{tmp_path}/socket?db=0").enqueue(Job("q", "Work", [1]))
    assert numbers(server) == {1: 1}


def test_other_database_and_password(open_client: Open, server: Server):
    server.command("CONFIG", "SET", "requirepass", "geheim")
    open_client(f"redis://:geheim@127.0.0.1:{server.port}/3").enqueue(Job("q", "Work", [1]))
    with server.session() as command:
        command("AUTH", "geheim")
        assert command("INFO", "keyspace").splitlines()[1].startswith("db3:")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "http://x"}, "no Redis URL"),
        ({"url": "redis://x?colour=red"}, "unknown parameter"),
        ({"namespace": "a b"}, "namespace"),
        ({"dialect": "perl"}, "dialect"),
        ({"max_payload_bytes": 0}, "max_payload_bytes"),
    ],
)
def test_options_that_make_no_sense(open_client: Open, options: dict[str, Any], told: str):
    with pytest.raises(ConfigurationError, match=told):
        open_client(**{"url": "redis://localhost:1", **options})


@pytest.mark.parametrize("module", [trioworkers.sync, trioworkers.asyncio])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "embedded:"}, "starts no server"),
        ({"retry_for": -1}, "retry_for"),
        ({"retry_for": 61}, "retry_for"),
        ({"retry_for": True}, "retry_for"),
        ({"max_connections": 0}, "max_connections"),
    ],
)
def test_options_of_those_with_redis_py(module: Any, options: dict[str, Any], told: str):
    with pytest.raises(ConfigurationError, match=told):
        module.Client(**{"url": "redis://localhost:1", **options})


# ── which Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without `dev`, an environment without REDIS_URL, a program without Apps."""
    monkeypatch.setattr("trioworkers.chosen_redis.APPS", apps := set())
    monkeypatch.setattr("trioworkers.jobs.declared.APPS", apps)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_client_finds_what_dev_started(kind: str, nowhere: Path, redis_url: str, shared_server: Server):
    with keeping_note(nowhere) as note:
        note.write(redis_url, "shop")
        client = AnyClient(kind)
        client.enqueue(Job("q", "Work", [1]))
        client.close()
    assert shared_server.command("LLEN", "shop:queue:q") == 1


def test_client_that_was_made_before_dev_finds_it_with_its_first_call(
    kind: str, nowhere: Path, redis_url: str, shared_server: Server
):
    told_nothing, of_an_app = AnyClient(kind), AnyClient(kind, app=App())
    with keeping_note(nowhere) as note:
        note.write(redis_url, "shop")
        for client in (told_nothing, of_an_app):
            client.enqueue(Job("q", "Work", [1]))
            assert "shop" in repr(client.client) or kind == "trio"
            client.close()
    assert shared_server.command("LLEN", "shop:queue:q") == 2


def test_client_that_found_nobody_looks_again_with_its_next_call(
    kind: str, nowhere: Path, redis_url: str, shared_server: Server
):
    client = AnyClient(kind, retry_for=0)
    with keeping_note(nowhere) as note:
        note.write("redis://127.0.0.1:1", "gone")
        with pytest.raises(Unavailable):
            client.enqueue(Job("q", "Work", [1]))
    with keeping_note(nowhere) as note:
        note.write(redis_url, "shop")
        client.enqueue(Job("q", "Work", [2]))
        note.write("redis://127.0.0.1:1", "other")
        if kind != "trio":  # which looks whenever its block is entered; the others stay where they were answered
            client.enqueue(Job("q", "Work", [3]))
            assert shared_server.command("LLEN", "shop:queue:q") == 2
    client.close()


def test_environment_goes_before_dev_and_names_the_namespace(
    kind: str, nowhere: Path, redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRIOWORKERS_NAMESPACE", "env")
    with keeping_note(nowhere) as note:
        note.write("redis://127.0.0.1:1", "shop")
        client = AnyClient(kind)
        client.enqueue(Job("q", "Work", [1]))
        client.close()
    assert shared_server.command("LLEN", "env:queue:q") == 1


def test_client_of_an_app_means_its_redis_namespace_and_dialects(kind: str, redis_url: str, shared_server: Server):
    app = App(redis_url, namespace="shop")

    @app.handler("new", "Work")
    async def work(n: int) -> None: ...

    app.queue("old", dialect="resque:legacy")
    client = AnyClient(kind, app=app)
    client.enqueue(work.job(1), Job("old", "Work", [2]))
    client.close()
    assert shared_server.command("LLEN", "shop:queue:new") == 1
    assert shared_server.command("LLEN", "legacy:queue:old") == 1


def test_app_and_client_cannot_quietly_mean_different_redises(kind: str, nowhere: Path):
    app = App("redis://jobs.example/2")
    with pytest.raises(
        ConfigurationError, match=r"Client\(\) means redis://localhost:6379/0 .*redis://jobs.example/2"
    ) as caught:
        AnyClient(kind)
    assert "app.client()" in str(caught.value)
    AnyClient(kind, "redis://jobs.example/2").close()
    AnyClient(kind, "redis://another.example").close()  # who says so means it
    other = App()
    AnyClient(kind).close()
    assert {app, other} == set(trioworkers.chosen_redis.APPS)


def test_namespaces_that_differ_are_different_redises(kind: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    App(namespace="shop")
    with pytest.raises(ConfigurationError, match="namespace 'shop'"):
        AnyClient(kind)
    AnyClient(kind, namespace="shop").close()
    monkeypatch.setenv("TRIOWORKERS_NAMESPACE", "shop")
    AnyClient(kind).close()


def test_worker_that_is_told_nothing_says_that_clients_send_elsewhere(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    assert noted_elsewhere(App()) == ""
    with keeping_note(nowhere) as note:
        note.write("unix:///run/dev.sock")
        told = noted_elsewhere(App())
        assert "this worker is at redis://localhost:6379/0" in told
        assert "unix:///run/dev.sock" in told
        assert noted_elsewhere(App("redis://elsewhere")) == ""  # who says so means it
        monkeypatch.setenv("REDIS_URL", "redis://env")
        assert noted_elsewhere(App()) == ""
        monkeypatch.delenv("REDIS_URL")
        note.write("redis://localhost:6379/0")
        assert noted_elsewhere(App()) == ""


def test_secret_of_an_app_is_not_told(kind: str, nowhere: Path):
    App("redis://:geheim@jobs.example/2")
    with pytest.raises(ConfigurationError) as caught:
        AnyClient(kind)
    assert "geheim" not in str(caught.value)


def test_embedded_redis_of_an_app_has_no_client_outside():
    for client in (App("embedded:").client, App("embedded:").sync_client, App("embedded:").asyncio_client):
        with pytest.raises(ConfigurationError, match=r"ctx\.client"):
            client()


# ── the wrong kind of program ──────────────────────────────────────────────────────────────────────────────────────────


def in_trio(call: Callable[[], Any]) -> None:
    async def main() -> None:
        await call()

    trio.run(main)


def in_asyncio(call: Callable[[], Any]) -> None:
    async def main() -> None:
        await call()

    asyncio.run(main())


def blocking(call: Callable[[], Any]) -> None:
    call()


async def entered(client: Any) -> None:
    async with client:
        pass


@attrs.frozen
class Wrong:
    kind: str
    program: Callable[[Callable[[], Any]], None]
    call: Callable[[Any], Any]
    take: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("trio", in_asyncio, entered, "trioworkers.asyncio.Client"),
        Wrong("trio", blocking, lambda client: client.__enter__(), "trioworkers.sync.Client"),
        Wrong("asyncio", in_trio, entered, "trioworkers.Client"),
        Wrong("asyncio", in_trio, lambda client: client.enqueue(Job("q", "A")), "trioworkers.Client"),
        Wrong("asyncio", blocking, lambda client: client.__enter__(), "trioworkers.sync.Client"),
        Wrong("sync", in_trio, lambda client: client.enqueue(Job("q", "A")), "trioworkers.Client"),
        Wrong("sync", in_asyncio, lambda client: client.enqueue(Job("q", "A")), "trioworkers.asyncio.Client"),
        Wrong("sync", in_asyncio, lambda client: client.result("a"), "trioworkers.asyncio.Client"),
        Wrong("sync", in_trio, entered, "trioworkers.Client"),
        Wrong("sync", in_asyncio, entered, "trioworkers.asyncio.Client"),
    ],
    ids=lambda wrong: f"{wrong.kind} {wrong.program.__name__} {wrong.take}",
)
def test_wrong_kind_of_program_is_told_which_client_to_take(wrong: Wrong):
    client = CLASSES[wrong.kind]("redis://127.0.0.1:1")
    with pytest.raises(RuntimeError) as caught:
        wrong.program(lambda: wrong.call(client))
    assert f"{wrong.take}" in str(caught.value)


def test_blocking_client_is_fine_in_a_thread_of_an_async_program(redis_url: str, shared_server: Server):
    client = trioworkers.sync.Client(redis_url)

    async def in_a_thread() -> None:
        await asyncio.to_thread(client.enqueue, Job("q", "Work", [1]))

    asyncio.run(in_a_thread())
    trio.run(trio.to_thread.run_sync, client.enqueue, Job("q", "Work", [2]))
    client.close()
    assert numbers(shared_server) == {1: 1, 2: 1}


# ── asyncio's own ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_tasks_share_a_client(redis_url: str, shared_server: Server):
    async def main() -> None:
        async with trioworkers.asyncio.Client(redis_url, max_connections=10) as client, asyncio.TaskGroup() as group:
            for n in range(300):
                group.create_task(client.enqueue(Job("q", "Work", [n])))

    asyncio.run(main())
    assert numbers(shared_server) == Counter(range(300))


def test_cancelled_call_leaves_a_client_that_works(redis_url: str, shared_server: Server):
    async def main() -> None:
        async with trioworkers.asyncio.Client(redis_url, max_connections=1) as client:
            for n in range(20):
                task = asyncio.create_task(client.enqueue(Job("q", "Work", [n])))
                await asyncio.sleep(0.0003 * (n % 5))
                task.cancel()
            waiting = asyncio.create_task(client.result("nobody"))
            await asyncio.sleep(0)
            waiting.cancel()
            await client.enqueue(Job("q", "Work", [99]))

    asyncio.run(main())
    found = numbers(shared_server)
    assert found[99] == 1
    assert set(found.values()) == {1}


def test_client_goes_on_in_the_next_event_loop(redis_url: str, shared_server: Server):
    client = trioworkers.asyncio.Client(redis_url)

    async def once(n: int) -> None:
        await client.enqueue(Job("q", "Work", [n]))
        await client.aclose()

    asyncio.run(once(1))
    asyncio.run(once(2))
    assert numbers(shared_server) == {1: 1, 2: 1}


def test_tls_is_spoken_as_the_url_says(open_client: Open, redis_url: str, shared_server: Server, tmp_path: Path):
    certificates = Certificates(tmp_path)
    proxy = TLSProxy(shared_server.port, certificates)
    url = f"rediss://localhost:{proxy.port}/0"
    open_client(f"{url}?ssl_ca_certs={certificates.ca}").enqueue(Job("q", "Work", [1]))
    open_client(f"{url}?ssl_cert_reqs=none").enqueue(Job("q", "Work", [2]))
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        open_client(url, retry_for=0).enqueue(Job("q", "Work", [3]))
    with pytest.raises(Unavailable, match="for another host"):
        elsewhere = url.replace("localhost", "127.0.0.1")
        open_client(f"{elsewhere}?ssl_ca_certs={certificates.ca}", retry_for=0).enqueue(Job("q", "Work", [4]))
    proxy.close()
    assert numbers(shared_server) == {1: 1, 2: 1}


@pytest.mark.parametrize("parameters", ["ssl_ca_certs=FILE", "ssl_certfile=FILE"])
def test_certificate_file_that_can_not_be_used_is_no_fault_of_the_server(open_client: Open, parameters: str):
    url = f"rediss://localhost:1/0?{parameters.replace('FILE', '/nowhere/file.pem')}"
    with pytest.raises(ConfigurationError, match=r"ssl_\w+: /nowhere/file.pem can't be used"):
        open_client(url, retry_for=0).enqueue(Job("q", "Work", [1]))


@pytest.mark.parametrize("kind", ["sync", "asyncio"])  # the Trio client's is among the tests of its TLS
def test_certificate_file_that_is_being_replaced_is_waited_for(
    open_client: Open, redis_url: str, shared_server: Server, tmp_path: Path
):
    certificates = Certificates(tmp_path)
    authority = certificates.ca.read_bytes()
    proxy = TLSProxy(shared_server.port, certificates)
    assert redis_url  # which empties the server
    client = open_client(f"rediss://localhost:{proxy.port}/0?ssl_ca_certs={certificates.ca}", retry_for=0)
    client.enqueue(Job("q", "Work", [1]))
    certificates.ca.write_text("being written")
    shared_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def why() -> str:
        with pytest.raises(Unavailable) as caught:
            client.enqueue(Job("q", "Work", [2]))
        return str(caught.value)

    assert any("ssl_ca_certs" in why() for _ in range(5))  # the first may find that its connection is gone
    certificates.ca.write_bytes(authority)
    client.enqueue(Job("q", "Work", [3]))
    proxy.close()
    assert numbers(shared_server) == {1: 1, 3: 1}


def test_tasks_that_send_while_another_one_closes_the_client_see_nothing_of_it(redis_url: str, shared_server: Server):
    client, sent = trioworkers.asyncio.Client(redis_url), 0

    async def send(number: int) -> None:
        nonlocal sent
        for _ in range(20):
            await client.enqueue(Job("q", "Work", [number]))
            sent += 1

    async def close() -> None:
        closed_at = 0
        while sent < 160:
            if sent > closed_at:
                await client.aclose()
                closed_at = sent
            await asyncio.sleep(0)

    async def all_at_once() -> None:
        async with client, asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(send(number))
            tasks.create_task(close())

    asyncio.run(all_at_once())
    assert shared_server.command("LLEN", "queue:q") == 160


def test_trio_client_is_used_while_the_program_handles_an_exception(redis_url: str, shared_server: Server):
    """Whether its own connecting failed must not be read from what its caller is handling."""
    client = AnyClient("trio", redis_url)
    try:
        raise ValueError
    except ValueError:
        (jid,) = client.enqueue(Job("q", "Work"))
    assert jid in str(shared_server.command("LRANGE", "queue:q", 0, -1))
