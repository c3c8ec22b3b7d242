"""`recording` and the plugin's fixtures: for tests of programs that send."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import ROOT

import trioworkers.asyncio
import trioworkers.sync
from trioworkers import App, BadJob, ConfigurationError, Context, Job, Shard, Unique, testing

NOWHERE = "redis://127.0.0.1:1/0"


def test_what_blocking_and_asyncio_clients_send_is_kept_here():
    async def main() -> None:
        async with trioworkers.asyncio.Client(NOWHERE) as client:
            await client.schedule(60, Job("q", "Later", ["x"]))

    with testing.recording() as sent, trioworkers.sync.Client(NOWHERE) as client:
        job = Job("q", "Now", [1, {"a": [2]}])
        assert client.enqueue(job) == [job.jid]
        asyncio.run(main())
        sent.assert_enqueued("Now", args=[1, {"a": [2]}], queue="q", count=1)
        sent.assert_enqueued("Later", at=60, within=30)
        sent.refute_enqueued("Other")
        assert (sent.jobs[0].jid, sent.jobs[0].queue) == (job.jid, "q")
        with pytest.raises(BadJob):
            client.enqueue(Job("q", "Bad", [object()]))
        with pytest.raises(TimeoutError):
            client.result(job.jid, timeout=0)
        sent.clear()
        sent.refute_enqueued("Now")


def test_unique_jobs_and_other_dialects_are_recorded_as_well():
    app = App(NOWHERE)
    app.queue("old", dialect="resque")

    @app.handler("q", unique=Unique())
    async def once(n: int) -> None: ...

    with testing.recording() as sent, app.sync_client() as client:
        client.enqueue(once.job(1), Job("old", "Old", [2]))
        client.schedule(60, once.job(3))
    sent.assert_enqueued(once, args=[1])
    sent.assert_enqueued(once, args=[3], at=60, within=30)
    sent.assert_enqueued("Old", args=[2], queue="old")


def test_whoever_waits_for_a_result_is_told_at_once_that_it_never_comes():
    shards = App(shards={name: Shard(NOWHERE, namespace=name) for name in "ab"})

    async def main() -> None:
        for client in (trioworkers.asyncio.Client(NOWHERE), shards.asyncio_client()):
            with pytest.raises(TimeoutError, match="job x doesn't run: it is only recorded"):
                await client.result("x")

    with testing.recording():
        for client in (trioworkers.sync.Client(NOWHERE), shards.sync_client()):
            with pytest.raises(TimeoutError, match="job x doesn't run: it is only recorded"):
                client.result("x")
        asyncio.run(main())


def test_periodic_jobs_are_checked_and_batches_are_filled():
    with testing.recording() as sent, trioworkers.sync.Client(NOWHERE) as client:
        client.periodic("nightly", "@daily", Job("q", "Work"))
        assert not client.delete_periodic("nightly")
        with pytest.raises(ConfigurationError):
            client.periodic("nightly", "now and then", Job("q", "Work"))
        with client.batch(on_success=Job("q", "Done", runs_here=True)) as batch:
            batch.add(Job("q", "Work", [1], runs_here=True))
        with pytest.raises(KeyError), client.batch() as batch:
            raise KeyError("mine")
    sent.assert_enqueued("Work", args=[1], count=1)


def test_jobs_for_several_redises_are_recorded_as_well():
    app = App(shards={name: Shard(NOWHERE, namespace=name) for name in "ab"})
    app.queue("q", shards=["a", "b"])
    with testing.recording() as sent, app.sync_client() as client:
        client.enqueue(*(Job("q", "Work", [n]) for n in range(20)))
    assert sorted(job.args[0] for job in sent.jobs) == list(range(20))


def test_all_threads_are_recorded_and_a_thousand_jobs_more():
    with testing.recording() as sent, trioworkers.sync.Client(NOWHERE) as client, ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: client.enqueue(Job("q", "Work", [n])), range(100)))
        client.enqueue(*(Job("q", "Work", [n]) for n in range(100, 2600)))
    assert sorted(job.args[0] for job in sent.jobs) == list(range(2600))


def test_after_the_block_clients_send_again():
    with testing.recording():
        pass
    with pytest.raises(trioworkers.Unavailable):
        trioworkers.sync.Client(NOWHERE, retry_for=0).enqueue(Job("q", "Work"))


def test_what_was_sent_can_be_run():
    app = App(NOWHERE)
    ran = []

    @app.handler("q")
    async def work(ctx: Context, n: int) -> None:
        ran.append(n)
        if n == 2 and ctx.attempt == 1:
            raise ValueError("once")

    with testing.recording() as sent:
        client = app.sync_client()
        client.enqueue(work.job(1), work.job(2))
        ended = sent.run(app)
    assert sorted(ran) == [1, 2, 2]
    assert sorted(each.how for each in ended) == ["retried", "succeeded", "succeeded"]


PLUGIN_TESTS = """
import pytest
import trio.testing
from trioworkers import App, Job
from trioworkers.sync import Client

app = App("redis://127.0.0.1:1/0")
ran = []

@app.handler("q")
async def work(n: int) -> None:
    ran.append(n)

{mark}
async def test_app_runs(run_app{clock}):
    async with run_app(app) as test:
        await test.schedule(3600, work.job(1))
        await test.drain(retries=True)
        assert ran == [1]

def test_sent_jobs(sent_jobs):
    Client("redis://127.0.0.1:1/0").enqueue(work.job(7))
    sent_jobs.assert_enqueued(work, args=[7])
"""
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
"""


def run_pytest(folder: Path, text: str, *options: str) -> str:
    (folder / "test_it.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "trioworkers.pytest_plugin",
        *options,
        "test_it.py",
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_plugin_beside_pytest_trio(tmp_path: Path):
    text = PLUGIN_TESTS.format(mark="@pytest.mark.trio", clock=", autojump_clock")
    assert "2 passed" in run_pytest(tmp_path, text, "-p", "pytest_trio.plugin")


def test_plugin_beside_anyios(tmp_path: Path):
    text = PLUGIN_TESTS.format(mark="@pytest.mark.anyio", clock="") + ANYIO
    assert "2 passed" in run_pytest(tmp_path, text, "-p", "anyio")


def test_plugin_imports_nothing_before_it_is_asked():
    text = "import sys, trioworkers.pytest_plugin; print([m for m in ('trio', 'coredis', 'redis', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
