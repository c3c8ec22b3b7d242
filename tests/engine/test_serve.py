"""A worker inside a bigger Trio program, on a real server: started, used, stopped, cancelled, and nothing left of it."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import trio
import trio.testing
from servers import ROOT, Server, blocked_fetches

import trioworkers
from trioworkers import App, Client, Context, Job, Refused, Superseded
from trioworkers.engine import shutdown


class TaskCount(trio.abc.Instrument):
    """How many tasks there are."""

    def __init__(self) -> None:
        self.tasks = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.tasks += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.tasks -= 1


@pytest.fixture
async def count() -> Iterator[TaskCount]:
    instrument = TaskCount()
    trio.lowlevel.add_instrument(instrument)
    yield instrument
    trio.lowlevel.remove_instrument(instrument)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def make_app(url: str, ran: list[object], **options: object) -> App:
    app = App(url, **options)  # type: ignore[arg-type]

    @app.handler("q")
    async def note(ctx: Context, value: object) -> None:
        ran.append(value)

    @app.handler("q")
    async def wait(ctx: Context, seconds: float) -> None:
        ran.append("started")
        await trio.sleep(seconds)
        ran.append("ended")

    @app.handler("q")
    async def compute(ctx: Context, n: int) -> None:
        ran.append(await ctx.run_cpu(sum, range(n)))

    @app.handler("q")
    async def spin(ctx: Context) -> None:
        ran.append("spinning")
        await ctx.run_cpu(time.sleep, 600)

    return app


async def until(condition: object) -> None:
    with trio.fail_after(60):
        while not condition():  # type: ignore[operator]
            await trio.sleep(0.02)


async def test_jobs_run_and_stop_ends_the_worker(redis_url: str):
    ran: list[object] = []
    app = make_app(redis_url, ran)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with Client(redis_url) as client:
            await client.enqueue(Job("q", "note", ["é"]), Job("q", "compute", [1000]))
        await until(lambda: len(ran) == 2)
        await until(lambda: worker.stats().settled == 2)
        assert (worker.stats().running, worker.stats().free) == ({"q": 0}, {"q": 10})
        worker.stop()
    assert set(map(str, ran)) == {"é", "499500"}


async def test_cancelling_is_like_term_and_leaves_nothing(redis_url: str, shared_server: Server, count: TaskCount):
    ran: list[object] = []
    app = make_app(redis_url, ran, shutdown_timeout=1)
    async with Client(redis_url) as client:
        await client.enqueue(Job("q", "wait", [0.5]), Job("q", "wait", [600]), Job("q", "spin", []))
    resource_tracker.ensure_running()  # Python's own, once for each process
    gc.collect()
    tasks, open_files = count.tasks, descriptors()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(app.serve)
            await until(lambda: ran.count("started") == 2 and "spinning" in ran)
            started = trio.current_time()
            scope.cancel()
    assert scope.cancelled_caught
    assert 0.9 < trio.current_time() - started < 300  # the others would take ten minutes, or for ever
    assert ran.count("ended") == 1  # it was given the time
    queued = shared_server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(queued, list)
    assert sorted(json.loads(payload)["class"] for payload in queued) == ["spin", "wait"]
    assert shared_server.command("KEYS", "*:inprogress") == []
    assert shared_server.command("KEYS", "tw:lease:*") == []
    assert multiprocessing.active_children() == []
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()  # Python closes what it used to watch a process when that is collected
    assert (count.tasks, descriptors()) == (tasks, open_files)


async def test_cancelling_while_redis_is_away_ends_at_once():
    app = make_app("redis://127.0.0.1:1/0", [])
    with trio.fail_after(60), trio.move_on_after(0.3) as scope:
        await app.serve()
    assert scope.cancelled_caught


async def test_due_job_starts_within_a_second_of_its_time(redis_url: str):
    ran: list[object] = []
    late_s = []
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(redis_url, ran).serve)
        async with Client(redis_url) as client:
            # A machine that is busy may be late itself, but hardly each time; it is never early.
            while len(late_s) < 10 and not any(late < 1 for late in late_s):
                ran.clear()
                scheduled_at = trio.current_time()
                await client.schedule(1.5, Job("q", "note", [1]))
                await until(lambda: ran)
                late_s.append(trio.current_time() - scheduled_at - 1.5)
        worker.stop()
    assert min(late_s) < 1
    assert all(late > -0.01 for late in late_s)


async def test_idle_worker_sends_about_one_command_a_second(redis_url: str, shared_server: Server):
    def commands() -> int:
        stats = str(shared_server.command("INFO", "commandstats"))
        sent = ("evalsha", "eval", "blmove", "lrange", "hmget", "client\\|id", "ping")
        return sum(int(calls) for name in sent for calls in re.findall(rf"cmdstat_{name}:calls=(\d+)", stats))

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(redis_url, []).serve)
        await until(lambda: blocked_fetches(shared_server) >= 1)
        # A machine that is busy may be slow for a while, and the worker's first round of chores may still be under way.
        per_s: list[float] = []
        while len(per_s) < 6 and not any(0.5 <= each <= 2 for each in per_s):
            before, since = commands(), trio.current_time()
            await trio.sleep(5)
            per_s.append((commands() - before) / (trio.current_time() - since))
        worker.stop()
    assert any(0.5 <= each <= 2 for each in per_s), per_s


async def test_thousands_of_running_jobs_are_put_back_as_a_whole_and_in_order(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    for bound in ("GRACE_S", "FLUSH_S"):  # that no worker takes longer to stop is not what is asked here
        monkeypatch.setattr(shutdown, bound, 60.0)
    ran: list[object] = []
    app = make_app(redis_url, ran)
    app.queue("q", concurrency=5000)
    async with Client(redis_url) as client:
        jids = await client.enqueue(*(Job("q", "wait", [600]) for _ in range(5000)))
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        await until(lambda: len(ran) == 5000)
        worker.stop(0)
    left = shared_server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(left, list)
    assert [json.loads(payload)["jid"] for payload in reversed(left)] == jids


async def test_second_worker_under_one_process_id_is_refused(redis_url: str):
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(redis_url, [], process_id="same", lease=3).serve)
        with pytest.raises(Superseded, match="in use"):
            await make_app(redis_url, [], process_id="same", lease=3).serve()
        worker.stop()


async def test_wrong_password_is_told_at_the_start(server: Server):
    server.command("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(Refused):
        await make_app(server.url, []).serve()


async def test_namespace_goes_before_every_key(redis_url: str, shared_server: Server):
    ran: list[object] = []
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(make_app(redis_url, ran, namespace="shop").serve)
        async with Client(redis_url, namespace="shop") as client:
            await client.enqueue(Job("q", "note", [1]))
        await until(lambda: ran)
        keys = shared_server.command("KEYS", "*")
        worker.stop()
    assert isinstance(keys, list)
    assert [key for key in keys if not key.startswith("shop:")] == []


@pytest.mark.parametrize("page", ["README.md", "docs/handlers.md"])
async def test_the_programs_of_a_page_run(page: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """All Python of a page, as it stands there: the app, its test, and what runs inside a program."""
    blocks = re.findall(r"```python\n(.*?)```", Path(ROOT / page).read_text(), re.DOTALL)
    [test] = [block for block in blocks if block.startswith("# test_app.py")]
    inside = [block for block in blocks if block.startswith("async with")]
    app = "\n\n".join(block for block in blocks if block != test and block not in inside)
    assert len(inside) == 2  # the client, the worker
    monkeypatch.setenv("REDIS_URL", redis_url)
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "test_app.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = await trio.run_process(command, cwd=tmp_path, env=environment, capture_stdout=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    space: dict[str, object] = {"__name__": "page_app", "trio": trio, "trioworkers": trioworkers}
    exec(compile(app, page, "exec", dont_inherit=True), space)
    for block in reversed(inside):  # the worker first: the client's jobs would call hosts that don't exist
        body = "\n".join(f"    {line}" for line in block.splitlines())
        exec(compile(f"async def inside():\n{body}\n", page, "exec", dont_inherit=True), space)
        with trio.fail_after(60):
            await space["inside"]()  # type: ignore[operator]


def test_client_says_that_it_needs_trio():
    async def main() -> None:
        async with Client("redis://127.0.0.1"):
            pass

    with pytest.raises(RuntimeError, match=r"trio\.run"):
        asyncio.run(main())


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_is_heard_whatever_jobs_did_to_their_nursery(redis_url: str, shared_server: Server, how: str):
    ran: list[object] = []
    app = make_app(redis_url, ran, shutdown_timeout=0.5)

    @app.handler("q")
    async def cancel() -> None:
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        nursery.cancel_scope.cancel()

    @app.handler("q")
    async def leave() -> None:
        await (await trio.open_nursery().__aenter__()).start(asleep)

    async def asleep(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    with trio.fail_after(60), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.serve)
            async with Client(redis_url) as client:
                await client.enqueue(Job("q", "wait", [60]), cancel.job(), leave.job(), Job("q", "note", [1]))
                await until(lambda: 1 in ran and worker.stats().settled == 3)
                await client.enqueue(cancel.job(), Job("q", "wait", [60]), Job("q", "note", [2]))
                await until(lambda: 2 in ran and ran.count("started") == 2)
            if how == "stop":
                worker.stop()
            else:
                scope.cancel()
    queued = shared_server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(queued, list)
    assert [json.loads(payload)["class"] for payload in queued] == ["wait", "wait"]
    assert shared_server.command("KEYS", "*:inprogress") == []


async def test_slot_comes_back_whose_jobs_follow_ups_redis_refuses(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trioworkers.engine.unwritable.PATIENCE_S", 0.5)
    ran: list[object] = []
    app = make_app(redis_url, ran)

    @app.handler("q")
    async def follow(ctx: Context) -> None:
        ctx.enqueue(Job("broken", "A"))

    shared_server.command("SET", "queue:broken", "no list")
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with Client(redis_url) as client:
            await client.enqueue(*[follow.job() for _ in range(10)])
            await until(lambda: worker.stats().free == {"q": 0})
            await client.enqueue(Job("q", "note", [1]))
            await until(lambda: 1 in ran and worker.stats().free == {"q": 10})
        worker.stop()
    again = shared_server.command("ZRANGE", "retry", 0, -1)
    assert isinstance(again, list)
    assert len(again) == 10
    assert all("WRONGTYPE" in json.loads(payload)["error_message"] for payload in again)


async def test_lists_of_all_queues_are_registered_again_as_soon_as_the_lease_was_gone(
    redis_url: str, shared_server: Server
):
    ran: list[object] = []
    app = App(redis_url, lease=600, process_id="w")
    for queue in ("q", "other"):

        async def note(ctx: Context, queue: str = queue) -> None:
            ran.append(queue)

        app.handler(queue, "Note")(note)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        shared_server.command("DEL", "tw:lease:w", "tw:inprogress")
        shared_server.command("LPUSH", "queue:q", '{"class":"Note","args":[],"jid":"j"}')
        with trio.fail_after(60):
            while sorted(shared_server.command("HVALS", "tw:inprogress")) != ["w other", "w q"] or not ran:  # type: ignore[arg-type]
                await trio.sleep(0.01)
        worker.stop()
    assert ran == ["q"]
