"""The way to Redis breaks: what is lost, held, reset or frozen between a worker and its server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Jobs
from proxy import Proxy
from servers import Server, Worker, blocked_fetches, wait_for

from trioworkers.broker.intake import FETCH

Work = Callable[..., Worker]


def test_worker_killed_while_the_reply_of_its_fetch_is_on_the_way(work: Work, jobs: Jobs, proxy: Proxy):
    worker = work("same", "--redis", proxy.url).wait_started()
    wait_for(lambda: blocked_fetches(jobs.server) == 2, "it waits in blocking fetches of both its queues")
    proxy.replies_pass.clear()
    jobs.push(20, "Sleep", 0.1)
    wait_for(lambda: jobs.in_progress() > 0, "something is fetched")
    worker.kill()
    proxy.replies_pass.set()
    assert jobs.counted("start") == {}
    jobs.fault_is_over()
    work("same").wait_started()
    jobs.expect_all_done(extra_runs=0)


def test_worker_killed_before_its_outcomes_reach_redis(work: Work, jobs: Jobs, proxy: Proxy, tmp_path: Path):
    worker = work("same", "--redis", proxy.url).wait_started()
    jobs.push(5, "Until", str(tmp_path / "go"))
    wait_for(lambda: len(jobs.counted("start")) == 5, "all run")
    proxy.requests_pass.clear()
    (tmp_path / "go").touch()
    wait_for(lambda: len(jobs.counted("end")) == 5, "all end")
    worker.kill()
    proxy.requests_pass.set()
    proxy.reset_all()
    jobs.fault_is_over()
    work("same").wait_started()
    jobs.expect_all_done(extra_runs=5)
    assert set(jobs.counted("end").values()) == {2}


def test_reply_of_a_fetch_is_lost(work: Work, jobs: Jobs, proxy: Proxy):
    work("w1", "--redis", proxy.url).wait_started()
    for _ in range(3):
        wait_for(lambda: blocked_fetches(jobs.server) == 2, "it waits in blocking fetches of both its queues")
        with proxy.losing_replies():
            jobs.push(5, "Sleep", 0.05)
            wait_for(lambda: jobs.in_progress() > 0, "they are fetched into the void")
        jobs.fault_is_over()
        jobs.expect_all_done(extra_runs=0)


@pytest.mark.parametrize("moment", ["while it waits", "before it looks suspects up"])
def test_worker_is_made_quiet_while_the_reply_of_its_fetch_is_on_the_way(
    work: Work, jobs: Jobs, proxy: Proxy, server: Server, moment: str
):
    server.command("HSET", "tw:crashes", "somebody", 1)
    if moment == "while it waits":
        quiet = work("quiet", "--redis", proxy.url).wait_started()
        wait_for(lambda: blocked_fetches(server) == 2, "it waits in blocking fetches of both its queues")
        proxy.replies_pass.clear()
        jobs.push(5, "Sleep", 0.1)
    else:
        jobs.push(5, "Sleep", 0.1)
        server.command("SCRIPT", "LOAD", FETCH.text)
        # The fetch of this queue, not that of the other one, which may come first.
        proxy.stop_at(b"queue:q:quiet:inprogress\r\n$13\r\ntw:inprogress", "after")
        quiet = work("quiet", "--redis", proxy.url)
        wait_for(proxy.caught.is_set, "it fetches")
    wait_for(lambda: jobs.in_progress() > 0, "something is fetched")
    quiet.signal(signal.SIGTSTP)
    wait_for(lambda: "fetching no more" in quiet.text, "it is quiet")
    proxy.go_on()
    jobs.fault_is_over()
    wait_for(lambda: len(jobs.queued()) == 5, "they are back on their queue, though the quiet worker lives on")
    work("other").wait_started()
    wait_for(lambda: len(jobs.counted("end")) == 5, "they run elsewhere")
    quiet.signal(signal.SIGTERM)
    assert quiet.ended() == 0
    jobs.expect_all_done(extra_runs=0)


def test_replies_that_are_none(work: Work, jobs: Jobs, proxy: Proxy):
    """As when the beginning of a reply is lost: what coredis makes of the rest is any kind of error."""
    worker = work("w1", "--redis", proxy.url).wait_started()
    for garbage in (b":12x\r\n", b"\r\n", b"*3z\r\n", b"arbage\r\n"):
        proxy.instead = garbage
        jobs.push(5, "Sleep", 0.05)
        wait_for(lambda: not proxy.instead, "it gets that instead of a reply")
        jobs.expect_all_done(extra_runs=0)
    assert "Traceback" not in worker.text


@pytest.mark.parametrize(("times", "pause_s"), [(15, 0.15), pytest.param(60, 1.0, marks=pytest.mark.slow)])
def test_connections_are_reset_again_and_again(work: Work, jobs: Jobs, proxy: Proxy, times: int, pause_s: float):
    worker = work("w1", "--redis", proxy.url, CONCURRENCY="20").wait_started()
    jobs.push(1500, "Sleep", 0.03)
    for _ in range(times):
        time.sleep(pause_s)
        proxy.reset_all()
        jobs.push(20, "Sleep", 0.03)
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=0)
    assert "Traceback" not in worker.text


@pytest.mark.parametrize("stalls_s", [(1.5, 7.0), pytest.param((30.0,), marks=pytest.mark.slow)])
def test_redis_stalls_for_a_moment_and_for_longer_than_every_timeout(
    work: Work, jobs: Jobs, server: Server, stalls_s: tuple[float, ...]
):
    worker = work("w1", "--lease", "4", CONCURRENCY="20").wait_started()
    jobs.push(600, "Sleep", 0.05)
    for stall_s in stalls_s:
        wait_for(lambda: jobs.in_progress() > 0, "it works")
        server.send(signal.SIGSTOP)
        time.sleep(stall_s)
        server.send(signal.SIGCONT)
        jobs.fault_is_over()
        jobs.push(100, "Sleep", 0.05)
        wait_for(lambda: not jobs.queued(), "it goes on")
    jobs.expect_all_done(extra_runs=0)
    assert "Traceback" not in worker.text


def test_old_sockets_freeze_while_new_ones_work(work: Work, jobs: Jobs, proxy: Proxy):
    worker = work("w1", "--redis", proxy.url).wait_started()
    jobs.push(10, "Sleep", 1)
    wait_for(lambda: len(jobs.counted("start")) == 10, "all run")
    proxy.freeze_open()
    jobs.fault_is_over()
    jobs.push(10, "Sleep", 0.05)
    jobs.expect_all_done(extra_runs=0)
    assert "Traceback" not in worker.text


def test_server_still_holds_the_fetch_of_a_socket_that_is_gone(work: Work, jobs: Jobs, proxy: Proxy):
    work("w1", "--redis", proxy.url).wait_started()
    wait_for(lambda: blocked_fetches(jobs.server) == 2, "it waits in blocking fetches of both its queues")
    proxy.freeze_open()  # the server sees an open connection with a blocked BLMOVE
    jobs.push(1, "Sleep", 0.05)
    wait_for(lambda: jobs.in_progress() == 1, "it is delivered into the void")
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=0)


def test_link_is_slow_and_drips(work: Work, jobs: Jobs, proxy: Proxy):
    proxy.delay_s, proxy.drip = 0.1, True
    worker = work("w1", "--redis", proxy.url, "--lease", "10").wait_started()
    jobs.push(100, "Sleep", 0.05)
    jobs.expect_all_done(extra_runs=0)
    assert "Traceback" not in worker.text


@pytest.mark.parametrize(
    ("job_class", "fields", "place"),
    [
        ("Sleep", {"args": [0.3]}, None),
        ("FailAfter", {"args": [0.3]}, "retry"),
        ("FailAfter", {"args": [0.3], "retry": 0}, "dead"),
        ("FailAfter", {"args": [0.3], "retry": False}, None),
    ],
)
def test_reply_of_a_settle_is_lost(
    work: Work, jobs: Jobs, proxy: Proxy, server: Server, job_class: str, fields: dict[str, object], place: str | None
):
    worker = work("w1", "--redis", proxy.url).wait_started()
    jobs.push(1, "Sleep", 0)
    wait_for(lambda: server.command("GET", "stat:processed") == "1", "Redis knows the script")
    jobs.push(10, job_class, **fields)
    wait_for(lambda: len(jobs.counted("start")) == 11, "all run")
    with proxy.losing_replies():
        wait_for(lambda: server.command("GET", "stat:processed") != "1", "outcomes are written")
    wait_for(lambda: jobs.in_progress() == 0, "all outcomes are written")
    time.sleep(0.5)
    assert server.command("GET", "stat:processed") == "11"
    assert {name: server.command("ZCARD", name) for name in ("retry", "dead")} == {
        name: 10 if name == place else 0 for name in ("retry", "dead")
    }
    assert jobs.in_progress() == 0
    assert "no longer ours" not in worker.text
    jobs.push(5, "Sleep", 0)
    wait_for(lambda: server.command("GET", "stat:processed") == "16", "its slots are free")


def test_requeue_whose_reply_is_lost_is_in_one_place(work: Work, jobs: Jobs, proxy: Proxy):
    worker = work("w1", "--redis", proxy.url, "--shutdown-timeout", "0.5").wait_started()
    jobs.push(10, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 10, "all run")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in worker.text, "it stops")
    proxy.lose_replies = True
    assert worker.ended() == 0
    assert len(jobs.queued()) + jobs.in_progress() == 10
    assert sorted({json.loads(payload)["jid"] for payload in jobs.queued()}) == sorted(
        {json.loads(p)["jid"] for p in jobs.queued()}
    )
    proxy.lose_replies = False


def test_jobs_that_fill_the_threads_do_not_keep_their_worker_from_redis(work: Work, jobs: Jobs, proxy: Proxy):
    """Redis is given by name, and looked up in a thread: not in one of the forty that all jobs share."""
    url = f"redis://localhost:{proxy.port}/0"
    work("w1", "--redis", url).wait_started()
    jobs.push(60, "Thread", 10)
    wait_for(lambda: sum(jobs.counted("start").values()) == 60, "all run, and all threads are taken")
    work("w2").wait_started()  # would take them over
    proxy.reset_all()
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=0)


def test_slow_line_carries_large_jobs_a_few_at_a_time(work: Work, jobs: Jobs, proxy: Proxy):
    """2 MB/s, and more than it carries in the time that a reply may take: 150 kB each, all waiting."""
    proxy.bandwidth = 2e6
    jobs.push(60, "Sleep", 0.01, pad="x" * 150_000)
    work("w1", "--redis", proxy.url)
    jobs.expect_all_done(extra_runs=0, timeout_s=60)


@pytest.mark.slow
def test_very_slow_line_carries_what_it_can_and_says_so(work: Work, jobs: Jobs, proxy: Proxy):
    """200 kB/s, of which the proxy's buffers hold as much as passes in seconds: there the worker sees nothing move."""
    proxy.bandwidth = 2e5
    jobs.push(40, "Sleep", 0.01, pad="x" * 50_000)
    worker = work("w1", "--redis", proxy.url, "--lease", "15")
    jobs.expect_all_done(extra_runs=0, timeout_s=240)
    assert "the way to Redis at" in worker.text
    assert "is slow" in worker.text
    assert "is unreachable" not in worker.text


@pytest.mark.slow
def test_lease_is_kept_while_the_line_is_full(work: Work, jobs: Jobs, proxy: Proxy):
    proxy.bandwidth = 1e6
    worker = work("w1", "--redis", proxy.url).wait_started()
    work("w2").wait_started()  # would take over
    jobs.push(60, "Sleep", 3, pad="x" * 150_000)
    jobs.expect_all_done(extra_runs=0, timeout_s=120)
    assert "which died" not in worker.text
