"""A worker of unique jobs is killed just before and just after each of its steps reaches Redis, or loses the reply: no lock is left, none is taken twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from any_client import AnyClient
from harness import Jobs
from proxy import Proxy
from servers import Server, Worker, wait_for
from unique_app import latest, once

from trioworkers import Job, Refused, Unavailable
from trioworkers.broker.enqueue import ENQUEUE_UNIQUE
from trioworkers.broker.holds.locks import CLAIM_LOCKS
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.settle import SETTLE_HELD

Start = Callable[..., Worker]
NOWHERE = ("queue:q", "retry", "schedule", "tw:unique", "tw:next", "tw:repairs")


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    jobs.baseline = None  # that of another app

    def begin(process_id: str, url: str = "") -> Worker:
        options = ("--process-id", process_id, "--lease", "1", "--shutdown-timeout", "1")
        jobs.workers.append(run_worker(url or server.url, "unique_app:app", *options, RUNS=str(jobs.runs)))
        return jobs.workers[-1]

    return begin


@pytest.fixture
def client(server: Server) -> Iterator[AnyClient]:
    with_server = AnyClient("sync", server.url)
    yield with_server
    with_server.close()


def ends_well(jobs: Jobs, server: Server, jids: set[str]) -> None:
    wait_for(lambda: jids <= jobs.counted("end").keys() | jobs.jids("dead"), "all come to their end")
    wait_for(lambda: server.command("EXISTS", *NOWHERE) == 0 and jobs.in_progress() == 0, "nothing is held")


@pytest.mark.parametrize("what", ["before", "after", "reply lost"])
@pytest.mark.parametrize("script", [CLAIM_LOCKS, SETTLE_HELD], ids=lambda script: script.name)
def test_worker_is_killed_at_a_step_or_loses_its_reply(
    start: Start, jobs: Jobs, server: Server, proxy: Proxy, client: AnyClient, script: Script, what: str
):
    for each in (CLAIM_LOCKS, SETTLE_HELD):  # a script that Redis doesn't know yet would take two steps
        server.command("SCRIPT", "LOAD", each.text)
    sent = client.enqueue(*(once.job(n, 0.05) for n in range(10)), *(latest.job(n, 1) for n in range(10)))
    followers = client.enqueue(*(latest.job(n, 2) for n in range(5)))
    ruby = [Job("q", "Once", [n]) for n in range(8, 14)]  # two of them have doubles
    client.enqueue(*ruby)
    assert all(sent.duplicate_of is not None for sent in followers)
    proxy.stop_at(script.sha.encode(), what if what == "before" else "after")
    worker = start("w1", proxy.url)
    wait_for(proxy.caught.is_set, f"the worker comes to {script.name}")
    time.sleep(0.1)
    if what == "reply lost":
        proxy.reset_all()
        proxy.go_on()
    else:
        worker.kill()
        proxy.close()
        start("w2")
    ends_well(jobs, server, {*sent[:10], *sent[15:], *followers, *(job.jid for job in ruby[2:])})


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_repeated_call_gets_the_answer_of_the_first(server: Server, proxy: Proxy, kind: str):
    client = AnyClient(kind, proxy.url)
    [first] = client.enqueue(once.job(0))
    with ThreadPoolExecutor(1) as pool:
        with proxy.losing_replies():
            sending = pool.submit(client.enqueue, once.job(0), once.job(1), latest.job(5, 1))
            wait_for(lambda: server.command("HLEN", "tw:unique") == 3, "it is carried out")
            assert not sending.done()
        again = sending.result()
    client.close()
    assert [sent.duplicate_of for sent in again] == [first, None, None]
    found = server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(found, list)
    assert sorted(json.loads(payload)["jid"] for payload in found) == sorted([first, *again[1:]])


@pytest.mark.parametrize("when", ["before", "after"])
def test_client_is_killed_at_its_step(server: Server, proxy: Proxy, when: str):
    """It is there with its lock, or neither is."""
    client = AnyClient("sync", proxy.url, retry_for=0)
    client.enqueue(once.job(0))
    proxy.stop_at(ENQUEUE_UNIQUE.sha.encode(), when)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.enqueue, once.job(1))
        wait_for(proxy.caught.is_set, "it comes to its step")
        time.sleep(0.1)
        proxy.close()
        with pytest.raises(Unavailable):
            sending.result()
    assert server.command("HLEN", "tw:unique") == server.command("LLEN", "queue:q")


def test_lock_of_a_job_that_somebody_deleted_is_let_go_by_the_workers_that_run(
    run_worker: Start, server: Server, client: AnyClient
):
    [deleted] = client.schedule(600, once.job(1))
    client.schedule(600, once.job(2))
    options = ("--lease", "2", "--shutdown-timeout", "1")
    workers = [run_worker(server.url, "unique_app:app", *options, SEARCH_SOON="1", RUNS="/dev/null") for _ in range(2)]
    found = server.command("ZRANGE", "schedule", 0, -1)
    assert isinstance(found, list)
    server.command("ZREM", "schedule", *[payload for payload in found if deleted in payload])
    wait_for(lambda: server.command("HLEN", "tw:unique") == 1, "the lock is let go")
    told = f"of job {deleted}"
    wait_for(lambda: any(told in worker.text for worker in workers), "and that is told")
    time.sleep(2)
    assert sum(worker.text.count(told) for worker in workers) == 1
    assert server.command("HLEN", "tw:unique") == 1


@pytest.mark.parametrize("key", ["tw:unique", "tw:next"])
def test_key_of_the_wrong_type_stops_unique_jobs_with_one_line_and_nobody_else(
    start: Start, server: Server, jobs: Jobs, client: AnyClient, key: str
):
    [sent] = client.enqueue(once.job(1))
    server.command("DEL", key)
    server.command("SET", key, "somebody's")
    worker = start("w1").wait_started()
    plain = [Job("q", "Free") for _ in range(20)]
    for job in plain:
        client.enqueue(job)
    wait_for(lambda: {job.jid for job in plain} <= jobs.counted("end").keys(), "others run on")
    wait_for(lambda: jobs.jids("schedule") == {sent}, "it is tried again in a while")
    with pytest.raises(Refused):
        client.enqueue(once.job(2))
    time.sleep(1)
    assert worker.text.count("unique jobs can't be held to their locks") == 1
    assert worker.text.count("ERROR") <= 2


def test_broken_locks_are_none(start: Start, server: Server, jobs: Jobs, client: AnyClient):
    [sent] = client.enqueue(once.job(1))
    [key] = server.command("HKEYS", "tw:unique")  # type: ignore[misc]
    server.command("HSET", "tw:unique", key, "somebody's", "Once:else", "junk")
    worker = start("w1").wait_started()
    wait_for(lambda: sent in jobs.counted("end"), "it takes its lock again, and runs")
    wait_for(lambda: server.command("EXISTS", "tw:unique") == 0, "and lets it go; the broken one is removed")
    wait_for(lambda: worker.text.count("could not be read") == 1, "in one line")
    assert "ERROR" not in worker.text
