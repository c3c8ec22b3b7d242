"""Redis is away, or somewhere else: long outages, workers that come back one after another, failovers by a real Sentinel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import Jobs
from proxy import Proxy
from servers import Sentinel, Server, Worker, wait_for

Work = Callable[..., Worker]
LEASE_S = 4.0


def test_workers_come_back_from_an_outage_one_after_another(work: Work, jobs: Jobs, server: Server):
    """Who is back first finds the leases of the others run out; their jobs run on, though, and must not be taken over."""
    with ExitStack() as stack:
        proxies = [Proxy(server.port) for _ in range(3)]
        for proxy in proxies:
            stack.callback(proxy.close)
        workers = [
            work(f"w{number}", "--redis", proxy.url, "--lease", str(LEASE_S), CONCURRENCY="10").wait_started()
            for number, proxy in enumerate(proxies)
        ]
        jobs.push(30, "Sleep", 13)
        wait_for(lambda: len(jobs.counted("start")) == 30, "all run")
        for proxy in proxies:
            proxy.refuse = True
            proxy.reset_all()
        wait_for(lambda: not server.command("KEYS", "tw:lease:*"), "all leases have run out")
        jobs.fault_is_over()
        for proxy in proxies:
            proxy.refuse = False
            time.sleep(LEASE_S / 4)  # the last one, up to a second later, still within a lease of the first one
        jobs.expect_all_done(extra_runs=0)
        assert "taken over" not in "".join(worker.text for worker in workers)


def test_workers_that_come_back_more_than_a_lease_apart_keep_their_jobs(
    work: Work, jobs: Jobs, server: Server, tmp_path: Path
):
    """What kept the first one away for so long may keep the others for as long again. A worker that is new then knows of it, too."""
    with ExitStack() as stack:
        proxies = [Proxy(server.port) for _ in range(2)]
        for proxy in proxies:
            stack.callback(proxy.close)
        first, last = (
            work(f"w{number}", "--redis", proxy.url, CONCURRENCY="10").wait_started()
            for number, proxy in enumerate(proxies)
        )
        jobs.push(20, "Until", str(tmp_path / "go"))
        wait_for(lambda: len(jobs.counted("start")) == 20, "all run")
        for proxy in proxies:
            proxy.refuse = True
            proxy.reset_all()
        time.sleep(10)  # five leases
        proxies[0].refuse = False
        wait_for(lambda: "is back after" in first.text, "one is back")
        wait_for(lambda: server.command("EXISTS", "tw:outage") == 1, "and has said so")
        assert server.command("PTTL", "tw:outage") > 4000  # as long as it was away, or what is left of that
        server.command("PEXPIRE", "tw:outage", 300_000)  # however long a busy machine takes for the new one's start
        new = work("new", CONCURRENCY="10").wait_started()
        time.sleep(6)  # three leases
        proxies[1].refuse = False
        jobs.fault_is_over()
        wait_for(lambda: "is back after" in last.text, "and so is the other one")
        (tmp_path / "go").touch()
        jobs.expect_all_done(extra_runs=0)
        assert "put back into" not in first.text + last.text + new.text


@pytest.mark.parametrize("outage_s", [0, 5])
def test_who_dies_when_others_are_back_from_an_outage_is_not_waited_for(
    work: Work, jobs: Jobs, server: Server, outage_s: int
):
    """That patience is for those alone who were missing then."""
    proxy = Proxy(server.port)
    work("back", "--redis", proxy.url, CONCURRENCY="10").wait_started()
    dies = work("dies", CONCURRENCY="10").wait_started()
    proxy.refuse = outage_s > 0
    if outage_s:
        proxy.reset_all()
        time.sleep(outage_s)
        proxy.refuse = False
        wait_for(lambda: server.command("EXISTS", "tw:outage") == 1, "one is back")
        server.command("PEXPIRE", "tw:outage", 300_000)
    jobs.push(20, "Sleep", 4)
    wait_for(lambda: len(jobs.counted("start")) == 20, "both run some")
    time.sleep(3)  # its lease was seen
    dies.kill()
    jobs.expect_all_done(extra_runs=10)
    proxy.close()


@pytest.mark.slow
def test_worker_that_stays_away_is_dead_for_those_who_are_back(work: Work, jobs: Jobs, server: Server):
    """Cut off for good and dead can't be told apart: its jobs run elsewhere, and it lets go of them when it hears of that."""
    proxy = Proxy(server.port)
    away = work("away", "--redis", proxy.url, CONCURRENCY="10").wait_started()
    jobs.push(10, "Sleep", 12)
    wait_for(lambda: len(jobs.counted("start")) == 10, "all run")
    work("here", CONCURRENCY="10").wait_started()
    proxy.refuse = True
    proxy.reset_all()
    wait_for(lambda: sum(jobs.counted("start").values()) == 20, "they are taken over")
    proxy.refuse = False
    jobs.fault_is_over()
    wait_for(lambda: away.text.count("taken over") >= 10, "it lets go of them")
    jobs.expect_all_done(extra_runs=10)
    assert set(jobs.counted("end").values()) == {1}
    proxy.close()


@pytest.mark.parametrize("how", [pytest.param("asked for", marks=pytest.mark.slow), "killed"])
def test_sentinel_makes_a_replica_the_primary(work: Work, jobs: Jobs, server: Server, tmp_path: Path, how: str):
    with replicated(server, tmp_path) as (replica, sentinel), ExitStack() as stack:
        proxy = Proxy(sentinel.primary_port())  # as a service name that leads to the primary
        stack.callback(proxy.close)
        worker = work("w1", "--redis", proxy.url, CONCURRENCY="20").wait_started()
        jobs.push(600, "Sleep", 0.1)
        server.wait_replicated()
        wait_for(lambda: len(jobs.counted("start")) > 50, "it works")
        jobs.fault_is_over()  # measured is the whole failover
        if how == "killed":
            server.kill()
        else:
            sentinel.command("SENTINEL", "FAILOVER", "main")
        wait_for(lambda: sentinel.primary_port() == replica.port, "the replica is the primary")
        proxy.refuse = True
        proxy.reset_all()
        jobs.server = replica
        # What was settled at the old primary and is not at the new one is what Redis lost: those jobs run again, and none but those.
        forgotten = jobs.jids_in_lists() & jobs.counted("end").keys()
        proxy.lead_to(sentinel.primary_port())
        proxy.refuse = False
        jobs.expect_all_done(extra_runs=len(forgotten) + 20)
        assert "Traceback" not in worker.text


@contextmanager
def replicated(primary: Server, folder: Path) -> Iterator[tuple[Server, Sentinel]]:
    """A replica of `primary`, and a Sentinel that knows both."""
    for name in ("replica", "sentinel"):
        (folder / name).mkdir()
    replica = Server(folder / "replica").start()
    sentinel = Sentinel(folder / "sentinel", primary)
    try:
        replica.command("REPLICAOF", "127.0.0.1", primary.port)
        wait_for(lambda: "master_link_status:up" in str(replica.command("INFO", "replication")), "it replicates")
        sentinel.start()
        wait_for(lambda: "slaves=1" in str(sentinel.command("INFO", "sentinel")), "the sentinel knows both")
        yield replica, sentinel
    finally:
        sentinel.kill()
        replica.kill()
