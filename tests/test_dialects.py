"""Queues of Resque and go-workers in real processes: what holds for Sidekiq's holds for them. And mixed apps on the virtual clock."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from harness import Jobs
from servers import Server, Worker, wait_for

from trioworkers import App, Client, ConfigurationError, Context, Job, RetryAfter, testing
from trioworkers.wire.resque import Resque

Work = Callable[..., Worker]
RESQUE_DIALECT = Resque("resque")
RESQUE = {"TRIOWORKERS_DIALECT": "resque"}
GO = {"TRIOWORKERS_DIALECT": "goworkers", "TRIOWORKERS_NAMESPACE": "prod"}


def push(server: Server, *payloads: str) -> list[str]:
    """As Resque does: at the right, fetched from the left."""
    server.command("SADD", "resque:queues", "q")
    server.command("RPUSH", "resque:queue:q", *payloads)
    return list(payloads)


def queued(server: Server, key: str = "resque:queue:q") -> list[str]:
    found = server.command("LRANGE", key, 0, -1)
    assert isinstance(found, list)
    return found


def sleeps(*seconds: float) -> list[str]:
    return [f'{{"class":"Sleep", "args":[{each}], "n":1.{place}0}}' for place, each in enumerate(seconds)]


def started(jobs: Jobs) -> int:
    return jobs.counted("start").total()


BACKLOG = 3000


class RubyScheduler:
    """resque-scheduler's poll, command by command: a lock, then a second's jobs are read, watched, enqueued and cut off."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.goes_on = threading.Event()
        """Half of the backlog is left until then, and a quarter in any case."""
        self._thread = threading.Thread(target=self._run)
        self.batches = self.promoted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self.goes_on.set()
        self._thread.join()

    def _run(self) -> None:
        lock = "resque:resque:resque_scheduler_master_lock"
        with self._server.session() as command:
            assert command("SET", lock, "web1:4242", "NX", "EX", 180) == "OK"
            while not self._stop.is_set():
                seconds = command("ZRANGEBYSCORE", "resque:delayed_queue_schedule", "-inf", 1800000000, "LIMIT", 0, 1)
                if not seconds:
                    break
                if self.promoted >= BACKLOG // 2:
                    self.goes_on.wait()
                if self.promoted >= BACKLOG * 3 // 4:
                    self._stop.wait()
                self._promote(command, str(seconds[0]))
            command("DEL", lock)

    def _promote(self, command: Callable[..., Any], second: str) -> None:
        key = f"resque:delayed:{second}"
        batch = command("LRANGE", key, 0, 19)
        time.sleep(0.01)  # Ruby decodes them
        command("WATCH", key)
        command("MULTI")
        for payload in batch:
            command("SREM", f"resque:timestamps:{payload}", f"delayed:{second}")
            command("RPUSH", "resque:queue:q", payload.replace(',"queue":"q"', ""))
        command("LTRIM", key, 20, -1)
        command("EXEC")
        self.batches += 1
        self.promoted += len(batch)
        if command("LLEN", key) == 0:
            command("ZREM", "resque:delayed_queue_schedule", second)


# ── Resque ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stopped_worker_puts_resque_jobs_back_at_the_end_that_is_fetched_next(work: Work, server: Server, jobs: Jobs):
    worker = work("w1", **RESQUE, CONCURRENCY="3").wait_started()
    payloads = push(server, *sleeps(60, 60, 60, 60, 60))
    wait_for(lambda: started(jobs) == 3, "three run")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert queued(server) == payloads
    assert server.command("EXISTS", "resque:queue:q:w1:inprogress") == 0
    assert server.command("SCARD", "resque:workers") == 0


def test_resque_job_that_blocks_the_loop_is_put_back_all_the_same(work: Work, server: Server, jobs: Jobs):
    worker = work("w1", **RESQUE).wait_started()
    payloads = push(server, '{"class":"Block","args":[60]}')
    wait_for(lambda: started(jobs) == 1, "it blocks")
    worker.signal(signal.SIGTERM)
    worker.ended()
    assert queued(server) == payloads


@pytest.mark.parametrize("survivor", ["w1", "w2"])
def test_resque_jobs_of_a_killed_worker_run_again(work: Work, server: Server, jobs: Jobs, survivor: str):
    worker = work("w1", **RESQUE).wait_started()
    push(server, *sleeps(60, 60, 60))
    wait_for(lambda: started(jobs) == 3, "they run")
    worker.kill()
    assert server.command("LLEN", "resque:queue:q:w1:inprogress") == 3
    work(survivor, **RESQUE).wait_started()
    wait_for(lambda: started(jobs) == 6, "they run again")
    wait_for(lambda: server.command("LLEN", f"resque:queue:q:{survivor}:inprogress") == 3, "all are in the new list")
    assert queued(server) == []


def test_worker_of_another_dialect_takes_a_dead_resque_workers_jobs_back(work: Work, server: Server, jobs: Jobs):
    worker = work("w1", **RESQUE).wait_started()
    payloads = push(server, *sleeps(60, 60))
    wait_for(lambda: started(jobs) == 2, "they run")
    worker.kill()
    work("w2").wait_started()
    wait_for(lambda: queued(server) == payloads, "they are back on Resque's queue, in their order")


def test_resque_job_that_kills_its_workers_ends_as_a_record_of_a_failure(work: Work, server: Server, jobs: Jobs):
    push(server, '{"class":"Die","args":[]}')
    for _ in range(3):
        assert work("w1", **RESQUE).ended() == 7
    work("w1", **RESQUE).wait_started()
    wait_for(lambda: server.command("LLEN", "resque:failed") == 1, "it is recorded")
    record = json.loads(queued(server, "resque:failed")[0])
    assert record["payload"] == {"class": "Die", "args": []}
    assert (record["exception"], record["queue"]) == ("trioworkers.WorkerDied", "q")
    assert started(jobs) == 3


def test_resque_payload_that_is_no_job_is_recorded_and_the_others_run(work: Work, server: Server, jobs: Jobs):
    push(server, "no job", '{"args":[]}', '{"class":"Sleep","args":[0]}')
    work("w1", **RESQUE).wait_started()
    wait_for(lambda: jobs.counted("end").total() == 1, "the job runs")
    wait_for(lambda: server.command("LLEN", "resque:failed") == 2, "the others are recorded")
    texts = [json.loads(record)["payload"]["args"][0] for record in queued(server, "resque:failed")]
    assert texts == ["no job", '{"args":[]}']


def test_retried_resque_job_waits_apart_and_is_the_same_job_again(work: Work, server: Server, jobs: Jobs):
    work("w1", **RESQUE).wait_started()
    push(server, '{"class":"Again","args":[0],"retry":5,"f":1.10}')
    wait_for(lambda: jobs.counted("end").total() == 1, "the second attempt succeeds")
    assert len(jobs.counted("start")) == 1
    wait_for(lambda: server.command("GET", "resque:stat:processed") == "2", "its outcome is written")
    assert server.command("GET", "resque:stat:failed") == "1"
    assert server.command("ZCARD", "resque:tw:retry") == server.command("LLEN", "resque:failed") == 0


def test_delayed_jobs_of_ruby_and_node_are_promoted_once(work: Work, server: Server, jobs: Jobs):
    ruby = '{"class":"Sleep","args":[0],"queue":"q"}'
    node = '{"class":"Sleep","queue":"q","args":[0]}'
    server.command("RPUSH", "resque:delayed:1700000000", ruby, node, ruby)
    server.command("RPUSH", "resque:delayed:4700000000", ruby)
    for payload in (ruby, node):
        server.command("SADD", f"resque:timestamps:{payload}", "delayed:1700000000")
    server.command("SADD", f"resque:timestamps:{ruby}", "delayed:4700000000")
    for second in (1690000000, 1700000000, 4700000000):  # the first one's list is gone
        server.command("ZADD", "resque:delayed_queue_schedule", second, second)
    work("w1", **RESQUE).wait_started()
    wait_for(lambda: jobs.counted("end").total() == 3, "three run")
    assert server.command("ZRANGE", "resque:delayed_queue_schedule", 0, -1) == ["4700000000"]
    assert server.command("SMEMBERS", f"resque:timestamps:{ruby}") == ["delayed:4700000000"]
    assert server.command("EXISTS", f"resque:timestamps:{node}", "resque:delayed:1700000000") == 0
    assert server.command("SMEMBERS", "resque:queues") == ["q"]


def test_delayed_jobs_of_others_go_where_they_say_and_what_says_nothing_is_recorded(work: Work, server: Server):
    odd = '{"class":"A","args":{"a":1.10},"queue":"low prio","jid":[]}'
    none = '{"class":"B","args":[]}'
    no_name = '{"class":"C","args":[],"queue":["low"]}'
    server.command("RPUSH", "resque:delayed:1700000000", odd, none, no_name)
    server.command("ZADD", "resque:delayed_queue_schedule", 1700000000, 1700000000)
    work("w1", **RESQUE).wait_started()
    wait_for(lambda: server.command("LLEN", "resque:failed") == 2, "what names no queue is recorded")
    assert queued(server, "resque:queue:low prio") == ['{"class":"A","args":{"a":1.10},"jid":[]}']
    recorded = [json.loads(record)["payload"] for record in queued(server, "resque:failed")]
    assert recorded == [{"class": "B", "args": []}, {"class": "C", "args": [], "queue": ["low"]}]


@pytest.mark.parametrize(
    ("lock", "prefix"),
    [
        ("resque:resque:resque_scheduler_master_lock", ""),
        ("resque:resque_scheduler_master_lock", ""),
        ("resque:resque:shop:resque_scheduler_master_lock", "shop"),
    ],
)
def test_delayed_jobs_are_left_to_the_scheduler_that_holds_rubys_master_lock(
    work: Work, server: Server, jobs: Jobs, lock: str, prefix: str
):
    server.command("SET", lock, "web1:4242", "EX", 180)
    server.command("RPUSH", "resque:delayed:1700000000", '{"class":"Sleep","args":[0],"queue":"q"}')
    server.command("ZADD", "resque:delayed_queue_schedule", 1700000000, 1700000000)
    worker = work("w1", **RESQUE, RESQUE_SCHEDULER_MASTER_LOCK_PREFIX=prefix).wait_started()
    wait_for(lambda: "left to resque-scheduler web1:4242" in worker.text, "it says so")
    push(server, *sleeps(0))
    wait_for(lambda: jobs.counted("end").total() == 1, "what is in the queue runs")
    assert server.command("LLEN", "resque:delayed:1700000000") == 1
    server.command("DEL", lock)
    wait_for(lambda: jobs.counted("end").total() == 2, "without the lock it is promoted here")


def test_a_backlog_that_is_promoted_by_ruby_and_by_us_runs_once(work: Work, server: Server, jobs: Jobs):
    payloads = [f'{{"class":"Sleep","args":[0],"queue":"q","jid":"{n}"}}' for n in range(BACKLOG)]
    for second in range(30):
        server.command("RPUSH", f"resque:delayed:{1700000000 + second}", *payloads[second::30])
        server.command("ZADD", "resque:delayed_queue_schedule", 1700000000 + second, 1700000000 + second)
    with RubyScheduler(server) as scheduler:
        wait_for(lambda: scheduler.batches > 2, "Ruby has begun")
        work("w1", **RESQUE, CONCURRENCY="50").wait_started()
        before = scheduler.promoted
        scheduler.goes_on.set()
        wait_for(lambda: scheduler.promoted > before, "Ruby goes on beside us")
        scheduler.stop()  # in the middle, as a deploy does; it gives its lock back
        wait_for(lambda: started(jobs) >= BACKLOG and server.command("LLEN", "resque:queue:q") == 0, "all run")
        assert set(jobs.counted("start").values()) == {1}
        assert 0 < scheduler.promoted < BACKLOG


async def test_scheduled_job_that_says_more_than_resque_knows_waits_where_its_scheduler_does_not_look(server: Server):
    """It makes a job anew from class and arguments: `retry` would be lost."""
    async with Client(server.url, dialect="resque") as client:
        await client.schedule(60, Job("q", "Plain", [1]))
        await client.schedule(60, Job("q", "Again", [1], retry=1))
    (second,) = server.command("ZRANGE", "resque:delayed_queue_schedule", 0, -1)  # type: ignore[misc]
    assert queued(server, f"resque:delayed:{second}") == ['{"class":"Plain","args":[1],"queue":"q"}']
    (payload,) = server.command("ZRANGE", "resque:tw:schedule", 0, -1)  # type: ignore[misc]
    assert json.loads(payload)["retry"] == 1
    assert RESQUE_DIALECT.promoted(payload.encode(), 1.0) == b'{"class":"Again","args":[1],"retry":1}'


def test_namespace_that_ruby_would_write_otherwise_is_said(work: Work, server: Server):
    server.command("SADD", "resque:prod:queues", "q")
    worker = work("w1", TRIOWORKERS_DIALECT="resque:prod").wait_started()
    wait_for(lambda: "the dialect is resque:resque:prod" in worker.text, "it says so")


def test_entry_of_a_worker_that_died_long_ago_leaves_resques_roll(work: Work, server: Server):
    server.command("SADD", "resque:workers", "h-trioworkers:1:q", "h:2:q")
    server.command("HSET", "resque:workers:heartbeat", "h-trioworkers:1:q", "2023-11-14T22:13:20+00:00")
    server.command("HSET", "resque:workers:heartbeat", "h:2:q", "2023-11-14T22:13:20+00:00")
    work("w1", **RESQUE).wait_started()
    wait_for(lambda: server.command("SISMEMBER", "resque:workers", "h-trioworkers:1:q") == 0, "it is struck")
    assert server.command("SISMEMBER", "resque:workers", "h:2:q") == 1  # Ruby's are Ruby's business


# ── go-workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lists_retries_and_schedule_of_a_go_worker_are_taken_over(work: Work, server: Server, jobs: Jobs):
    def job(jid: str, more: str = "") -> str:
        return f'{{"queue":"prod:q","class":"Sleep","args":[0],"jid":"{jid}","enqueued_at":1700000000.25{more}}}'

    server.command("RPUSH", "prod:queue:q", job("queued", ',"at":1700000000.25'))
    server.command("LPUSH", "prod:queue:q:go1:inprogress", job("running"))
    failed = ',"retry":true,"retry_count":0,"failed_at":"2023-11-14 22:13:20 UTC"'
    server.command("ZADD", "prod:goretry", 1, job("failed", failed))
    server.command("ZADD", "prod:schedule", 1, job("later", ',"at":1700000000.5'))
    server.command("ZADD", "prod:goretry", 4700000000, job("not-yet", failed))
    work("go1", **GO).wait_started()
    wait_for(lambda: set(jobs.counted("end")) == {"queued", "running", "failed", "later"}, "all run")
    wait_for(lambda: server.command("GET", "prod:stat:processed") == "4", "successes are counted")
    (identity,) = server.command("SMEMBERS", "prod:processes")  # type: ignore[misc]
    beat = str(server.command("HGET", f"prod:{identity}", "beat"))
    assert beat.isdecimal()  # or it ends the heartbeats of a go-workers2 that reads it
    assert server.command("HGET", f"prod:{identity}", "worker_heartbeats") == "[]"
    assert server.command("EXISTS", "prod:queue:q:go1:inprogress", "prod:queue:q") == 0
    assert server.command("ZCARD", "prod:goretry") == 1


def test_failed_go_job_waits_in_goretry_and_counts_as_go_workers_count(work: Work, server: Server, jobs: Jobs):
    server.command("RPUSH", "prod:queue:q", '{"class":"FailAfter","args":[0],"jid":"a","retry":true,"f":1.10}')
    work("go1", **GO).wait_started()
    wait_for(lambda: server.command("ZCARD", "prod:goretry") == 1, "it waits")
    (payload,) = server.command("ZRANGE", "prod:goretry", 0, -1)  # type: ignore[misc]
    assert '"f":1.10' in payload
    assert json.loads(payload)["failed_at"].endswith(" UTC")
    assert server.command("EXISTS", "prod:stat:processed") == 0
    assert server.command("GET", "prod:stat:failed") == "1"


# ── without processes ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_progress_of_a_fan_out_survives_a_retry_on_a_resque_queue(autojump_clock: object):
    app, calls = App(dialect="resque"), []

    async def call(name: str, fails: bool) -> None:
        calls.append(name)
        if fails:
            raise ValueError(name)

    @app.handler("q", "Fan", retry=3)
    async def fan(ctx: Context) -> None:
        async with ctx.fan_out() as out:
            out.start("one", call, "one", False)
            out.start("two", call, "two", ctx.attempt == 1)

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Fan"))
        await test.drain(retries=True)
    assert sorted(calls) == ["one", "two", "two"]


async def test_resque_job_that_nobody_wants_retried_is_dead_at_once(autojump_clock: object):
    app, attempts = App(dialect="resque"), []

    @app.handler("q")
    async def fail(ctx: Context, wait: bool) -> None:
        attempts.append(ctx.attempt)
        if wait and ctx.attempt < 3:
            raise RetryAfter(60)
        raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "fail", [False]))
        await test.enqueue(Job("q", "fail", [True]))
        await test.drain(retries=True)
        assert [job.args for job in test.dead] == [(False,), (True,)]
    assert sorted(attempts) == [1, 1, 2, 3]


async def test_job_on_a_sidekiq_queue_enqueues_on_a_resque_queue_and_back(autojump_clock: object):
    app, ran = App(), []
    app.queue("old", dialect="resque")

    @app.handler("new", "Relay")
    async def relay(ctx: Context) -> None:
        ctx.enqueue(Job("old", "Relay"))
        ctx.schedule(3600, Job("old", "End", [1]))

    @app.handler("old", "Relay")
    async def relay_back(ctx: Context) -> None:
        ctx.enqueue(Job("new", "End", [2]))

    @app.handler("old", "End")
    @app.handler("new", "End")
    async def end(ctx: Context, number: int) -> None:
        ran.append((ctx.job.queue, number))

    async with testing.run(app) as test:
        await test.enqueue(Job("new", "Relay"))
        await test.drain(retries=True)
    assert ran == [("new", 2), ("old", 1)]


@pytest.mark.parametrize("dialect", ["ruby", "", "sidekiq2:x", 5])
def test_unknown_dialect_is_refused_where_it_is_named(dialect: str):
    with pytest.raises(ConfigurationError, match="a dialect is one of sidekiq, resque, goworkers"):
        App(dialect=dialect)
    with pytest.raises(ConfigurationError, match="a dialect is one of"):
        App().queue("q", dialect=dialect)


def test_namespace_is_the_familys_own_the_apps_or_the_one_that_is_named():
    def key_of(app: App) -> str:
        app.queue("q")
        return app.dialects["q"].keys("").queue("q")

    assert key_of(App(dialect="resque")) == "resque:queue:q"
    assert key_of(App(dialect="resque", namespace="prod")) == "prod:queue:q"
    assert key_of(App(dialect="resque:mine", namespace="prod")) == "mine:queue:q"
    assert key_of(App(dialect="goworkers")) == "queue:q"
