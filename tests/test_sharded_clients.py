"""What the three clients of an App with several Redises have in common: every test is for each of them, against real ones."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from any_client import KINDS, AnyClient
from servers import Server, free_port, wait_for

from trioworkers import App, BadJob, Batch, DuplicateJob, Job, JobFailed, Sent, Shard, Unavailable, Unique
from trioworkers.asyncio import Client
from trioworkers.wire.ended import encode_ended
from trioworkers.wire.keys import Keys

Open = Callable[..., AnyClient]


def two_shards(a: str, b: str) -> App:
    app = App(shards={"a": Shard(a, namespace="{a}"), "b": Shard(b, namespace="{b}")})
    app.queue("both", shards=["a", "b"])
    app.queue("only_a", shards=["a"])
    app.queue("only_b", shards=["b"])
    return app


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_client(kind: str) -> Iterator[Open]:
    opened: list[AnyClient] = []

    def open_client(app: App, **options: float) -> AnyClient:
        opened.append(AnyClient(kind, app=app, **options))
        return opened[-1]

    yield open_client
    for each in opened:
        each.close()


@pytest.fixture
def app(redis_url: str) -> App:
    patient = f"{redis_url}?connect_timeout=20"  # a busy machine may not let it in within the client's own two seconds
    return two_shards(patient, patient)


def found(server: Server, key: str) -> list[int]:
    """The first arguments of the jobs in a queue, the oldest first."""
    payloads = server.command("LRANGE", key, 0, -1)
    assert isinstance(payloads, list)
    return [json.loads(payload)["args"][0] for payload in reversed(payloads)]


def test_jobs_are_spread_in_their_order_and_each_is_named(open_client: Open, app: App, shared_server: Server):
    jobs = [Job("both", "Work", [n], jid=f"{n:024x}") for n in range(2500)]
    others = [Job("only_a", "Work", [1]), Job("only_b", "Work", [2])]
    client = open_client(app)
    sent = client.enqueue(*jobs, *others)
    assert [type(each) for each in sent] == [Sent] * 2502
    assert sent == [job.jid for job in (*jobs, *others)]
    halves = [found(shared_server, f"{{{name}}}:queue:both") for name in "ab"]
    assert all(half == sorted(half) for half in halves)
    assert sorted(halves[0] + halves[1]) == list(range(2500))
    assert min(map(len, halves)) > 1000
    assert found(shared_server, "{a}:queue:only_a") == [1]
    assert found(shared_server, "{b}:queue:only_b") == [2]
    assert client.enqueue() == []


def test_later_jobs_lie_where_they_are_to_run(open_client: Open, app: App, shared_server: Server):
    client = open_client(app)
    client.schedule(60, *(Job("both", "Work", [n], jid=f"{n:024x}") for n in range(40)), Job("only_b", "Work", [40]))
    counts = [shared_server.command("ZCARD", f"{{{name}}}:schedule") for name in "ab"]
    assert sum(map(int, counts)) == 41  # type: ignore[call-overload]
    assert all(counts)


def test_bad_job_is_found_before_anything_is_sent(open_client: Open, app: App, shared_server: Server):
    client = open_client(app)
    with pytest.raises(BadJob, match="written as JSON"):
        client.enqueue(Job("only_a", "Work", [1]), Job("only_b", "Work", [object()]))
    with pytest.raises(BadJob, match="is in no shard"):
        client.enqueue(Job("only_a", "Work", [1]), Job("elsewhere", "Work"))
    assert shared_server.command("KEYS", "*") == []


def test_result_is_found_in_whatever_shard(open_client: Open, app: App, shared_server: Server):
    client = open_client(app)
    with pytest.raises(TimeoutError, match="has not ended within 0"):
        client.result("c", timeout=0)
    for name in "ab":
        with ThreadPoolExecutor() as pool:
            waits = pool.submit(client.result, name, timeout=60)
            shared_server.command(
                "SET", Keys(f"{{{name}}}").result(name), encode_ended("succeeded", b'"%s"' % name.encode())
            )
            assert waits.result() == name
    shared_server.command("SET", Keys("{b}").result("d"), encode_ended("dead", error=("ValueError", "no")))
    with pytest.raises(JobFailed, match="ValueError: no"):
        client.result("d")


def test_duplicate_says_of_what_and_keeps_no_other_shard_from_its_jobs(
    open_client: Open, app: App, shared_server: Server
):
    @app.handler("only_a", "Once", unique=Unique(on_conflict="raise"))
    async def once(number: int) -> None: ...

    client = open_client(app)
    [first] = client.enqueue(once.job(1))
    with pytest.raises(DuplicateJob) as refused:
        client.enqueue(once.job(1), Job("only_b", "Work", [2]))
    assert refused.value.duplicate_of == first
    assert found(shared_server, "{b}:queue:only_b") == [2]


def test_batch_lies_in_one_shard(open_client: Open, app: App, shared_server: Server):
    client = open_client(app)
    batch = Batch("one step")
    batch.add(*(Job("both", "Work", [n], runs_here=True) for n in range(30)))
    last = Job("only_b", "Work", [0])
    assert client.enqueue(batch, last) == [batch.id, last.jid]
    many = client.batch([Job("both", "Work", [n], runs_here=True) for n in range(30, 60)])
    for each in (batch.id, many):
        sizes = [shared_server.command("SCARD", f"{{{name}}}:tw:batch:{each}:jids") for name in "ab"]
        assert sorted(sizes) == [0, 30]  # type: ignore[type-var]


def periodic_jobs(server: Server) -> dict[str, object]:
    return {name: server.command("ZRANGE", f"{{{name}}}:tw:cron", 0, -1) for name in "ab"}


def test_periodic_job_whose_queue_is_in_another_shard_now_moves_there(
    open_client: Open, app: App, shared_server: Server
):
    client = open_client(app)
    client.periodic("nightly", "@daily", Job("only_a", "Work", [1]))
    assert periodic_jobs(shared_server) == {"a": ["nightly"], "b": []}
    client.periodic("nightly", "@daily", Job("only_b", "Work", [2]))
    assert periodic_jobs(shared_server) == {"a": [], "b": ["nightly"]}
    assert client.delete_periodic("nightly")
    assert periodic_jobs(shared_server) == {"a": [], "b": []}
    assert not client.delete_periodic("nightly")


@pytest.fixture
def away(redis_url: str) -> App:
    """One shard that is there, and one that isn't."""
    return two_shards(redis_url, f"redis://127.0.0.1:{free_port()}/0")


def test_shard_that_is_away_keeps_none_from_the_others(open_client: Open, away: App, shared_server: Server):
    client = open_client(away, retry_for=0)
    with pytest.raises(Unavailable):
        client.enqueue(*(Job("both", "Work", [n], jid=f"{n:024x}") for n in range(200)))
    first = found(shared_server, "{a}:queue:both")
    assert 50 < len(first) < 150
    client.enqueue(Job("only_a", "Work", [1]))
    assert found(shared_server, "{a}:queue:only_a") == [1]
    shared_server.command("SET", Keys("{a}").result("x"), encode_ended("succeeded", b"7"))
    assert client.result("x", timeout=60) == 7
    with pytest.raises(Unavailable):
        client.result("y", timeout=60)


@pytest.mark.parametrize("kind", ["sync", "asyncio"])  # the third waits for nobody
def test_others_have_theirs_while_one_is_waited_for(
    open_client: Open, redis_url: str, shared_server: Server, tmp_path: Path
):
    late = Server(tmp_path)
    client = open_client(two_shards(f"redis://127.0.0.1:{late.port}/0", redis_url), retry_for=60)
    jobs = [Job("both", "Work", [n], jid=f"{n:024x}") for n in range(200)]
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(client.enqueue, *jobs)
        wait_for(lambda: found(shared_server, "{b}:queue:both") or sending.done(), "the one that is there has its jobs")
        assert not sending.done()
        late.start()
        try:
            sent = sending.result(60)
            assert sorted(found(late, "{a}:queue:both") + found(shared_server, "{b}:queue:both")) == list(range(200))
        finally:
            late.kill()
    assert sent == [job.jid for job in jobs]


def test_asyncio_client_asks_shards_at_once(app: App, shared_server: Server, monkeypatch: pytest.MonkeyPatch):
    """Each waits for the other before it asks its Redis."""
    step, asked = Client._step, set[int]()

    async def meet(self: Client, *args: Any) -> Any:
        asked.add(id(self))
        async with asyncio.timeout(60):
            while len(asked) < 2:
                await asyncio.sleep(0)
        return await step(self, *args)

    async def use() -> None:
        client = app.asyncio_client()
        for call in (
            lambda: client.enqueue(*(Job("both", "Work", [n], jid=f"{n:024x}") for n in range(50))),
            lambda: client.delete_periodic("nightly"),
            lambda: client.result("x"),
        ):
            asked.clear()
            await call()
        await client.aclose()

    monkeypatch.setattr(Client, "_step", meet)
    shared_server.command("SET", Keys("{b}").result("x"), encode_ended("succeeded", b"7"))
    asyncio.run(use())
    assert sum(len(found(shared_server, f"{{{name}}}:queue:both")) for name in "ab") == 50


def test_result_is_told_though_another_shard_does_not_answer(redis_url: str, shared_server: Server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = two_shards(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", redis_url)
        shared_server.command("SET", Keys("{b}").result("x"), encode_ended("succeeded", b"7"))

        async def use() -> None:
            client = app.asyncio_client(retry_for=0)
            assert await client.result("x", timeout=1e9) == 7
            await client.aclose()

        asyncio.run(use())


def test_cancelled_call_ends_in_all_shards(redis_url: str, shared_server: Server):
    """No task of it is left, and the client goes on."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = two_shards(redis_url, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

        async def use() -> None:
            client = app.asyncio_client()
            call = asyncio.create_task(client.enqueue(*(Job("both", "Work", [n], jid=f"{n:024x}") for n in range(50))))
            heard, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            heard.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await client.enqueue(Job("only_a", "Work", [1]))
            await client.aclose()

        asyncio.run(use())
    assert found(shared_server, "{a}:queue:only_a") == [1]
