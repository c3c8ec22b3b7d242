"""Real workers obey at a distance: cancel one job, tell where jobs are, pause and resume queues and classes."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable
from typing import Any

import pytest
import trio
from harness import Jobs, children_of
from servers import Server, Worker, wait_for

from trioworkers.broker.people.fleet_control import FleetControl
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.control_messages import ControlMessage, Reply
from trioworkers.wire.keys import Keys

RunWorker = Callable[..., Worker]


def tell(server: Server, what: Callable[[FleetControl], Any]) -> Any:
    async def main() -> Any:
        async with connect(server.url, Link(server.url)) as connection:
            return await what(FleetControl(connection, Keys()))

    return trio.run(main)


def asked(server: Server, process_id: str = "w1", *, patience_s: float = 40.0, **what: Any) -> Reply | None:
    """Patient, for the machine may be slow: a computing child that has to be killed, say, is an interpreter that just starts."""
    message = ControlMessage(secrets.token_hex(8), patience_s=patience_s, **what)
    return tell(server, lambda fleet: fleet.send(process_id, message, 60.0))


def test_cancelled_job_is_buried_with_the_reason_and_its_computation_is_killed(
    work: RunWorker, server: Server, jobs: Jobs
):
    worker = work().wait_started()
    jobs.push(1, "Compute", odd=1.10)
    wait_for(lambda: jobs.counted("start") and children_of(worker.process.pid), "it computes")
    (jid,) = jobs.payloads
    assert asked(server, do="cancel", jid=jid) == Reply("done")
    (payload,) = server.command("ZRANGE", "dead", 0, -1)
    found = json.loads(payload)
    assert (found["error_class"], found["error_message"]) == ("trioworkers.Cancelled", "cancelled by an operator")
    assert {name: found[name] for name in json.loads(jobs.payloads[jid])} == json.loads(jobs.payloads[jid])
    assert jobs.in_progress() == 0
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert not children_of(worker.process.pid)


@pytest.mark.parametrize(("then", "queued"), [("discard", 0), ("requeue", 1)])
def test_cancelled_job_is_forgotten_or_runs_again_if_so_wished(
    work: RunWorker, server: Server, jobs: Jobs, then: str, queued: int
):
    worker = work().wait_started()
    jobs.push(1, "Sleep", 60)
    wait_for(lambda: jobs.counted("start"), "it runs")
    tell(server, lambda fleet: fleet.pause(["q"]))  # that it isn't fetched again at once
    wait_for(lambda: "queue q is paused" in worker.text, "it has heard of that")
    (jid,) = jobs.payloads
    assert asked(server, do="cancel", jid=jid, then=then) == Reply("done")
    assert jobs.queued() == list(jobs.payloads.values())[:queued]
    assert server.command("ZCARD", "dead") == jobs.in_progress() == 0
    assert asked(server, do="cancel", jid=jid) == Reply("unknown")


def test_job_that_does_not_stop_is_said_to_run_on_and_keeps_its_fate(work: RunWorker, server: Server, jobs: Jobs):
    worker = work("w1", "--shutdown-timeout", "0").wait_started()
    jobs.push(1, "Stubborn")
    wait_for(lambda: jobs.counted("start"), "it runs")
    assert asked(server, do="cancel", jid=next(iter(jobs.payloads)), patience_s=0.2) == Reply("stubborn")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert jobs.jids("dead") == set(jobs.payloads)
    assert jobs.queued() == []


def test_worker_tells_where_its_jobs_await(work: RunWorker, server: Server, jobs: Jobs):
    work().wait_started()
    jobs.push(3, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 3, "all run")
    answer = asked(server, do="tree", limit=2)
    assert answer is not None
    assert (answer.result, len(answer.jobs), answer.more) == ("done", 2, 1)
    assert "await trio.sleep(seconds)" in answer.jobs[0]
    assert "sleep_forever" not in answer.jobs[0]
    jid = list(jobs.payloads)[1]
    one = asked(server, do="tree", jid=jid)
    assert one is not None
    assert [jid in text for text in one.jobs] == [True]


def test_paused_queue_is_not_fetched_by_workers_of_now_and_later(work: RunWorker, server: Server, jobs: Jobs):
    first = work().wait_started()  # blocks in its fetch
    tell(server, lambda fleet: fleet.pause(["q"]))
    wait_for(lambda: "queue q is paused" in first.text, "it hears")
    second = work("w2").wait_started()
    jobs.push(5, "Sleep", 0)
    server.send(signal.SIGKILL)
    server.kill()
    server.start()  # a restart does not resume
    third = work("w3").wait_started()
    assert len(jobs.queued()) == 5
    assert jobs.counted("start") == {}
    assert tell(server, lambda fleet: fleet.paused()).queues == {"q"}
    tell(server, lambda fleet: fleet.resume(["q"]))
    jobs.expect_all_done(extra_runs=0)
    assert all("queue q is paused" in worker.text for worker in (first, second, third))


def test_jobs_of_a_paused_class_are_held_and_the_others_run(work: RunWorker, server: Server, jobs: Jobs):
    tell(server, lambda fleet: fleet.pause(classes=["FailAfter"]))
    work().wait_started()
    jobs.push(20, "FailAfter", 0)
    held = set(jobs.payloads)
    jobs.push(5, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == 5, "the others run")
    wait_for(lambda: jobs.jids("schedule") == held, "they are held")
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert server.command("ZCARD", "retry") == 0
    payload = json.loads(str(server.command("ZRANGE", "schedule", 0, 0)[0]))  # type: ignore[index]
    assert "retry_count" not in payload
    assert payload.pop("tw_held") is True
    assert payload == json.loads(jobs.payloads[payload["jid"]])
