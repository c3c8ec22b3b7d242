"""Unique jobs beside a real Ruby Sidekiq, which knows nothing of them: it pushes, deletes, and retries what is dead."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from any_client import AnyClient
from harness import Jobs
from servers import Server, Worker, wait_for
from test_ruby import Ruby, pytestmark, ruby
from unique_app import once

__all__ = ["pytestmark", "ruby"]
Start = Callable[..., Worker]


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    jobs.baseline = None  # that of another app
    options = ("--lease", "2", "--shutdown-timeout", "1")
    return lambda: run_worker(server.url, "unique_app:app", *options, RUNS=str(jobs.runs), SEARCH_SOON="1")


def test_jobs_that_ruby_pushes_are_held_to_it_when_they_are_fetched(
    start: Start, ruby: Ruby, jobs: Jobs, server: Server
):
    first, *doubles, other = ruby.push(
        *({"queue": "q", "class": "Once", "args": [key, 1]} for key in (1, 1, 1, 2)),
    )
    worker = start().wait_started()
    wait_for(lambda: {first, other} <= jobs.counted("end").keys(), "one of each kind runs")
    for jid in doubles:
        wait_for(
            lambda jid=jid: f"skipped class=Once jid={jid} queue=q attempt=1 duplicate_of={first}" in worker.text,
            "the others are skipped",
        )
    wait_for(lambda: server.command("EXISTS", "tw:unique") == 0, "no lock is left")
    assert jobs.counted("start").keys() == {first, other}


def test_lock_of_a_job_that_ruby_deleted_is_found(start: Start, ruby: Ruby, server: Server):
    client = AnyClient("sync", server.url)
    client.schedule(600, once.job(1))
    [payload] = server.command("ZRANGE", "schedule", 0, -1)  # type: ignore[misc]
    server.command("DEL", "schedule")
    server.command("ZADD", "retry", 9e9, payload)
    ruby.act("delete")
    start()
    wait_for(lambda: server.command("EXISTS", "tw:unique") == 0, "its lock is let go")
    assert client.enqueue(once.job(1))[0].duplicate_of is None
    client.close()


def test_dead_job_that_ruby_retries_takes_its_lock_again_or_is_dead_again(
    start: Start, ruby: Ruby, jobs: Jobs, server: Server
):
    client = AnyClient("sync", server.url)
    [there] = client.schedule(600, once.job(1))
    dead = [once.job(key) for key in (1, 2)]
    for job in dead:
        fields = {
            "queue": "q",
            "class": "Once",
            "args": list(job.args),
            "jid": job.jid,
            "retry": True,
            "retry_count": 3,
        }
        fields |= {"error_class": "E", "error_message": "m", "failed_at": 1.7e9, "tw_lock": job.lock and job.lock.key}
        server.command("ZADD", "dead", 1.7e9, json.dumps(fields))
    ruby.act("revive")
    start()
    wait_for(lambda: dead[1].jid in jobs.counted("end"), "whose lock is free runs")
    wait_for(lambda: jobs.jids("dead") == {dead[0].jid}, "the other is dead again")
    [payload] = server.command("ZRANGE", "dead", 0, -1)  # type: ignore[misc]
    assert f"job {there} has the lock" in json.loads(payload)["error_message"]
    client.close()
