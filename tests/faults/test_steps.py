"""A worker is killed just before and just after each of its steps reaches Redis: nothing is lost, another worker goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from harness import Jobs, all_scripts
from proxy import Proxy
from servers import Server, Worker, wait_for

from trioworkers.broker.capsule_intake import FETCH_CAPSULE
from trioworkers.broker.in_progress import PAGE, PUT_BACK, RELEASE
from trioworkers.broker.intake import FETCH
from trioworkers.broker.presence import BEAT, CLAIM, DEREGISTER
from trioworkers.broker.promote import DUE, PROMOTE
from trioworkers.broker.reclaim import RECLAIM
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.settle import SETTLE
from trioworkers.broker.settle_large import SETTLE_LARGE, SETTLE_LARGE_FROM_BYTES

Work = Callable[..., Worker]
ALL = all_scripts().values()
IN_A_HURRY = [FETCH, FETCH_CAPSULE, SETTLE, SETTLE_LARGE, PROMOTE, RECLAIM]
SELDOM = [CLAIM, BEAT, PAGE, DUE, PUT_BACK, RELEASE, DEREGISTER]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "script",
    [*IN_A_HURRY, *(pytest.param(script, marks=pytest.mark.slow) for script in SELDOM)],
    ids=lambda script: script.name,
)
def test_worker_is_killed_at_a_step(work: Work, jobs: Jobs, server: Server, proxy: Proxy, script: Script, when: str):
    for each in ALL:  # a script that Redis doesn't know yet would take two steps
        server.command("SCRIPT", "LOAD", each.text)
    fields = {"pad": "x" * SETTLE_LARGE_FROM_BYTES} if script is SETTLE_LARGE else {}
    jobs.push(20, "Sleep", 0.2, **fields)
    jobs.push_elsewhere(10, "schedule", "Sleep", 0.2, **fields)
    jobs.push_elsewhere(10, "queue:q:dead:inprogress", "Sleep", 0.2, **fields)
    server.command("HSET", "tw:inprogress", "queue:q:dead:inprogress", "dead q")

    in_capsule = {"CAPSULE": "1"} if script is FETCH_CAPSULE else {}
    proxy.stop_at(script.sha.encode(), when)
    worker = work("w1", "--redis", proxy.url, "--lease", "1", **in_capsule)
    if script is PUT_BACK:
        worker.wait_started()
        jobs.push_elsewhere(5, "queue:q:w1:inprogress", "Sleep", 0.2)
    if script in (RELEASE, DEREGISTER):
        worker.wait_started()
        worker.signal(signal.SIGTERM)
    wait_for(proxy.caught.is_set, f"the worker comes to {script.name}")
    time.sleep(0.1)
    worker.kill()
    proxy.close()
    jobs.fault_is_over()

    work("w2", "--lease", "1", **in_capsule).wait_started()
    jobs.expect_all_done(extra_runs=len(jobs.payloads))


def test_reply_of_a_capsule_s_fetch_is_lost(work: Work, jobs: Jobs, server: Server, proxy: Proxy):
    server.command("SCRIPT", "LOAD", FETCH_CAPSULE.text)
    jobs.push(40, "Sleep", 0.05)
    jobs.push_elsewhere(40, "queue:other", "Sleep", 0.05)
    proxy.stop_at(FETCH_CAPSULE.sha.encode(), "after")
    worker = work("w1", "--redis", proxy.url, "--lease", "30", CAPSULE="1", CONCURRENCY="50")
    wait_for(proxy.caught.is_set, "it fetches")
    wait_for(lambda: jobs.in_progress() == 50, "the script has moved what it could")
    proxy.reset_all()
    proxy.go_on()
    jobs.expect_all_done(extra_runs=0)
    assert "never arrived here: put back" in worker.text


def test_worker_is_cut_off_at_each_beat(work: Work, jobs: Jobs, proxy: Proxy):
    worker = work("w1", "--redis", proxy.url, "--lease", "1").wait_started()
    work("w2", "--lease", "1").wait_started()
    jobs.push(10, "Sleep", 5)
    for _ in range(15):
        proxy.stop_at(BEAT.sha.encode(), "after")
        wait_for(proxy.caught.is_set, "it beats")
        proxy.reset_all()
        proxy.go_on()
    jobs.expect_all_done(extra_runs=0)
    assert "taken over" not in worker.text


def test_due_jobs_survive_workers_that_are_killed_at_random(work: Work, jobs: Jobs, server: Server):
    jobs.push_elsewhere(5000, "retry", "Sleep", 0)
    jobs.push_elsewhere(5000, "schedule", "Sleep", 0)
    for number in range(8):
        worker = work(f"w{number % 2}", "--lease", "1", CONCURRENCY="20").wait_started()
        time.sleep(0.05 * number)
        worker.kill()
    work("w0", CONCURRENCY="100").wait_started()
    # A job may have been running in three workers that were killed: then it is in the dead set, whether it had ended or not.
    wait_for(lambda: jobs.counted("end").keys() | jobs.jids("dead") >= jobs.payloads.keys(), "all have a place")
    wait_for(lambda: jobs.in_progress() == 0 and not jobs.queued(), "nothing is stuck")
    assert sum(jobs.counted("start").values()) <= 10_000 + 8 * 20
    assert (server.command("ZCARD", "schedule"), server.command("ZCARD", "retry")) == (0, 0)
