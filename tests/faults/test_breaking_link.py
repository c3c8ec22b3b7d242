"""A link whose connections break after so many bytes, each by itself or all together: what is moved at once becomes small enough to come through, and what can't is put out of the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Jobs
from proxy import Proxy
from servers import Server, Worker, wait_for

EVERY_BYTES = 300_000


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True], ids=["each by itself", "all together"])
def test_all_that_fits_comes_through_and_what_never_can_goes_to_the_dead_set(
    work: Callable[..., Worker], jobs: Jobs, server: Server, proxy: Proxy, together: bool
):
    """At once it would be ten times as much: a fetch, what the audit reads, counts and puts back of what it lost, what outcomes take, what a heartbeat shows."""
    proxy.breaks_after, proxy.breaks_together = EVERY_BYTES, together
    worker = work("w1", "--redis", proxy.url, "--lease", "4", CONCURRENCY="20").wait_started()
    jobs.push(15, "Sleep", 0.01, pad="x" * 100_000)
    jobs.push(1, "Sleep", 0.01, pad="x" * 3 * EVERY_BYTES)
    jobs.push(15, "Sleep", 0.01, pad="x" * 100_000)
    [too_large] = (jid for jid, payload in jobs.payloads.items() if len(payload) > EVERY_BYTES)
    wait_for(lambda: jobs.jids("dead") == {too_large}, "what can't pass is dead", timeout_s=240)
    said = f"a payload of {len(jobs.payloads[too_large])} bytes on queue q goes to the dead set unread"
    wait_for(lambda: said in worker.text, "the log says so")
    del jobs.payloads[too_large]
    server.command("DEL", "dead")
    jobs.expect_all_done(extra_runs=0, timeout_s=240)
    assert server.command("GET", "stat:processed") == "30"


@pytest.mark.slow
@pytest.mark.parametrize("capsule", [{}, {"CAPSULE": "1"}], ids=["queue", "capsule"])
@pytest.mark.parametrize("every_bytes", [300_000, 500_000, 700_000])
def test_connections_that_break_together_stop_no_worker(
    work: Callable[..., Worker],
    jobs: Jobs,
    server: Server,
    proxy: Proxy,
    every_bytes: int,
    capsule: dict[str, str],
):
    """Between two breaks little more than two payloads pass. Each lost fetch leaves one in the list: to read, count and put back that one must not cost as much again."""
    proxy.breaks_after, proxy.breaks_together = every_bytes, True
    work("w1", "--redis", proxy.url, "--lease", "4", CONCURRENCY="20", **capsule).wait_started()
    jobs.push(30, "Sleep", 0.01, pad="x" * 100_000)
    wait_for(lambda: len(jobs.counted("end")) == 30, "all have run", timeout_s=240)
    assert proxy.breaks > 2
    jobs.expect_all_done(extra_runs=0, timeout_s=240)
    assert server.command("GET", "stat:processed") == "30"
