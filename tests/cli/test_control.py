"""The commands that speak to running workers, against real ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from acting import act, payload, refused
from harness import Jobs
from servers import Server, Worker, wait_for

RunWorker = Callable[..., Worker]


def test_cancel_finds_the_worker_and_says_what_became_of_the_job(work: RunWorker, server: Server, jobs: Jobs):
    work("w1").wait_started()
    work("w2").wait_started()
    jobs.push(3, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 3, "all run")
    first, second, third = jobs.payloads
    assert "it is in the dead set" in act(server.url, "cancel", first).stdout
    assert "it is forgotten" in act(server.url, "cancel", second, "--discard").stdout
    act(server.url, "pause", "q")
    assert "it is back on its queue" in act(server.url, "cancel", third, "--requeue").stdout
    assert jobs.jids("dead") == {first}
    wait_for(lambda: jobs.queued() == [jobs.payloads[third]] or jobs.in_progress() == 1, "it is queued, or runs again")


def test_cancel_says_when_it_can_not(server: Server):
    server.command("HSET", "tw:inprogress", "queue:q:gone:inprogress", "gone q")
    server.command("LPUSH", "queue:q:gone:inprogress", payload(1))
    assert "gives no sign of life" in refused(server.url, "cancel", "jid1")
    server.command("SADD", "processes", "rb:7:x")
    server.command("HSET", "rb:7:x", "info", json.dumps({"labels": []}), "busy", 1, "beat", "1.5")
    server.command("HSET", "rb:7:x:work", "t", json.dumps({"queue": "q", "payload": payload(2), "run_at": 1}))
    assert "not one of ours" in refused(server.url, "cancel", "jid2")


def test_pause_and_resume_of_a_class_bring_its_jobs_back(work: RunWorker, server: Server, jobs: Jobs):
    assert act(server.url, "pause", "--class", "Sleep").stdout == "Sleep: paused\n"
    work().wait_started()
    jobs.push(20, "Sleep", 0)
    wait_for(lambda: len(jobs.jids("schedule")) == 20, "they are held")
    jobs.push_elsewhere(1, "schedule", "Sleep", 0, score=time.time() + 1000)  # this one is really meant for later
    text = act(server.url, "resume", "--class", "Sleep").stdout
    assert text == "Sleep: resumed\n20 jobs that had been held: back in the queue\n"
    wait_for(lambda: len(jobs.counted("end")) == 20, "they run")
    (left,) = jobs.jids("schedule")
    assert left == list(jobs.payloads)[-1]
    assert server.command("EXISTS", "tw:paused:classes", "paused") == 0


def test_beginning_that_several_processes_share_reaches_none(redis_url: str, shared_server: Server):
    for number in range(2):
        shared_server.command("SADD", "processes", f"rb:{number}")
        shared_server.command("HSET", f"rb:{number}", "info", "{}", "busy", 0, "beat", "1.5")
    for words in (("stop", "rb"), ("quiet", "rb:1", "rb")):
        assert "2 identities begin with rb: rb:0, rb:1" in refused(redis_url, *words)
    assert shared_server.command("EXISTS", "rb:0-signals", "rb:1-signals") == 0
    assert act(redis_url, "stop", "rb:1").stdout.startswith("rb:1: told to stop")
    assert shared_server.command("LRANGE", "rb:1-signals", 0, -1) == ["TERM"]


def test_quiet_and_stop_reach_the_process(work: RunWorker, server: Server, jobs: Jobs):
    worker, other = work("w1").wait_started(), work("w2").wait_started()
    assert "w1: told to fetch no more" in act(server.url, "quiet", "w1").stdout
    wait_for(lambda: "quiet: fetching no more" in worker.text, "it hears")
    assert "quiet" not in other.text
    act(server.url, "stop", "--all")
    assert (worker.ended(), other.ended()) == (0, 0)
