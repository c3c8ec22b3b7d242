"""Promises about processes and signals, kept by real ones: nothing lost, whatever happens to the worker."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Jobs, children_of
from servers import Server, Worker, blocked_fetches, wait_for

RunWorker = Callable[..., Worker]

LESS_THAN_THEY_TAKE_S = 60.0
"""Far more than the promised deadline and 2 s, for the machine may be slow; far less than what jobs would take."""


def test_idle_worker_stops_at_once_and_leaves_nothing(work: RunWorker, server: Server):
    worker = work().wait_started()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert server.command("SMEMBERS", "processes") == []
    assert server.command("KEYS", "tw:*") == []


def test_thousand_jobs_that_finish_in_time_run_once(work: RunWorker, jobs: Jobs):
    worker = work("w1", "--shutdown-timeout", "30", CONCURRENCY="1000").wait_started()
    jobs.push(1000, "Sleep", 1.0)
    wait_for(lambda: len(jobs.counted("start")) == 1000, "all run")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert set(jobs.counted("end").values()) == {1}
    assert len(jobs.counted("end")) == 1000
    assert (jobs.queued(), jobs.in_progress()) == ([], 0)


def test_thousand_jobs_that_take_too_long_go_back_as_they_were(work: RunWorker, jobs: Jobs):
    worker = work("w1", CONCURRENCY="1000").wait_started()
    jobs.push(1000, "Sleep", 600)
    wait_for(lambda: len(jobs.counted("start")) == 1000, "all run")
    worker.signal(signal.SIGTERM)
    assert worker.ended(LESS_THAN_THEY_TAKE_S) == 0
    assert sorted(jobs.queued()) == sorted(jobs.payloads.values())
    assert jobs.in_progress() == 0
    assert jobs.server.command("ZCARD", "retry") == 0


@pytest.mark.parametrize(("job_class", "args"), [("Stubborn", ()), ("Block", (600,)), ("Compute", ())])
def test_job_that_will_not_stop_does_not_keep_the_process(
    work: RunWorker, jobs: Jobs, job_class: str, args: tuple[object]
):
    worker = work().wait_started()
    jobs.push(1, job_class, *args)
    wait_for(lambda: jobs.counted("start"), "it runs")
    worker.signal(signal.SIGTERM)
    assert worker.ended(LESS_THAN_THEY_TAKE_S) == 0
    assert jobs.queued() == list(jobs.payloads.values())
    assert jobs.in_progress() == 0
    wait_for(lambda: not children_of(worker.process.pid), "no child process is left")


def test_second_signal_cancels_at_once_and_third_exits(work: RunWorker, jobs: Jobs):
    worker = work("w1", "--shutdown-timeout", "60").wait_started()
    jobs.push(10, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 10, "all run")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in worker.text, "it stops")
    worker.signal(signal.SIGINT)
    assert worker.ended() == 0
    assert sorted(jobs.queued()) == sorted(jobs.payloads.values())

    worker = work("w2", "--shutdown-timeout", "60").wait_started()
    wait_for(lambda: jobs.in_progress() == 10, "all run")
    # Signals of one kind that come at once are one: each is of another, or has been heard.
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in worker.text, "it stops")
    worker.signal(signal.SIGINT)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert len(jobs.queued()) + jobs.in_progress() == 10


def test_quiet_worker_fetches_no_more(work: RunWorker, jobs: Jobs):
    worker = work().wait_started()
    wait_for(lambda: blocked_fetches(jobs.server) == 2, "it waits for jobs of both its queues")
    worker.signal(signal.SIGTSTP)
    wait_for(lambda: "quiet" in worker.text, "it is quiet")
    wait_for(lambda: blocked_fetches(jobs.server) == 0, "the fetch that waited is over")
    jobs.push(1, "Sleep", 0)
    time.sleep(0.3)
    assert len(jobs.queued()) == 1
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_ttin_tells_where_each_job_is(work: RunWorker, jobs: Jobs):
    worker = work().wait_started()
    jobs.push(1, "Sleep", 60)
    wait_for(lambda: jobs.counted("start"), "it runs")
    worker.signal(signal.SIGTTIN)
    wait_for(lambda: "running jobs" in worker.text, "it tells")
    assert f"Sleep jid={0:024x} queue=q age=" in worker.text
    assert "await trio.sleep(seconds)" in worker.text


def test_killed_worker_takes_its_jobs_back_under_the_same_id(work: RunWorker, jobs: Jobs, tmp_path: Path):
    worker = work("same", CONCURRENCY="500").wait_started()
    jobs.push(500, "Until", str(tmp_path / "go"))
    wait_for(lambda: len(jobs.counted("start")) == 500, "all run")
    worker.kill()
    assert jobs.in_progress() == 500
    work("same", CONCURRENCY="500").wait_started()
    (tmp_path / "go").touch()
    wait_for(lambda: len(jobs.counted("end")) == 500, "all are done")
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert sum(jobs.counted("start").values()) <= 1000


def test_jobs_of_a_killed_worker_are_taken_over(work: RunWorker, jobs: Jobs):
    first, second = work("first"), work("second")
    first.wait_started()
    second.wait_started()
    jobs.push(150, "Sleep", 1.0)
    wait_for(lambda: len(jobs.counted("start")) > 100, "both have some")
    first.kill()
    wait_for(lambda: len(jobs.counted("end")) == 150, "all are done")
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert sum(jobs.counted("start").values()) <= 250


KILLS = 12


def test_nothing_is_lost_in_many_kills_at_random_moments(work: RunWorker, jobs: Jobs):
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    jobs.push(3000, "Sleep", 0.02)
    for _ in range(KILLS):
        worker = work("same", CONCURRENCY="50").wait_started()
        time.sleep(chance.uniform(0.0, 0.3))
        worker.kill()
    work("same", CONCURRENCY="50").wait_started()
    # A job may have ended and be in the dead set as well: killed between its last line and its outcome, three times.
    wait_for(lambda: jobs.counted("end").keys() | jobs.jids("dead") == jobs.payloads.keys(), "all have a place")
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert sum(jobs.counted("start").values()) <= 3000 + KILLS * 50


def test_job_that_kills_its_process_is_buried_and_its_neighbours_get_done(work: RunWorker, jobs: Jobs):
    jobs.push(5, "Sleep", 0.3)
    jobs.push(1, "Die")
    jobs.push(5, "Sleep", 0.3)
    for how, status in (("exit", 7), ("segmentation fault", -signal.SIGSEGV), ("kill", -signal.SIGKILL)):
        assert work("same", DIE_BY=how).ended() == status
    worker = work("same").wait_started()
    wait_for(lambda: len(jobs.counted("end")) == 10, "the neighbours get done")
    (dead,) = jobs.server.command("ZRANGE", "dead", 0, -1)
    assert json.loads(dead)["class"] == "Die"
    assert "3 workers died" in json.loads(dead)["error_message"]
    jobs.push(1, "Gorge")
    wait_for(lambda: jobs.server.command("ZCARD", "retry") == 1, "asking for too much memory is its own failure only")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_second_worker_under_one_process_id_refuses_to_start(work: RunWorker):
    work("same").wait_started()
    second = work("same")
    assert second.ended() == 1
    assert "in use by process" in second.text.splitlines()[-1]
    assert "Traceback" not in second.text


def test_strict_worker_that_stops_for_another_kind_fails_even_if_a_job_will_not_end(
    work: RunWorker, jobs: Jobs, server: Server
):
    worker = work("w1", "--strict").wait_started()
    jobs.push(1, "Stubborn")
    wait_for(lambda: jobs.counted("start"), "it runs")
    server.command("SADD", "processes", "h:7:n")
    server.command("HSET", "h:7:n", "info", '{"queues":["q"]}', "quiet", "false", "beat", "1")
    server.command("EXPIRE", "h:7:n", 60)
    assert worker.ended() == 1
    assert "strict, so stopped: another kind of worker" in worker.text.splitlines()[-1]
    assert jobs.queued() == list(jobs.payloads.values())


@pytest.mark.parametrize("job_class", ["Sleep", "Stubborn"])
def test_worker_whose_process_id_another_one_took_ends_whatever_its_jobs_do(
    work: RunWorker, jobs: Jobs, server: Server, job_class: str
):
    worker = work().wait_started()
    jobs.push(1, job_class, *([60] if job_class == "Sleep" else []))
    wait_for(lambda: jobs.counted("start"), "it runs")
    server.command("SET", "tw:lease:w1", "another")
    assert worker.ended() == 1
    assert "its lease is of another" in worker.text.splitlines()[-1]
    assert "unreachable" not in worker.text
    assert jobs.in_progress() == 1  # it is the other one's now


def test_redis_killed_and_restarted_under_load_is_two_lines_in_the_log(work: RunWorker, jobs: Jobs, server: Server):
    worker = work("w1", CONCURRENCY="50").wait_started()
    jobs.push(2000, "Sleep", 0.02)
    wait_for(lambda: len(jobs.counted("start")) > 200, "it works")
    server.kill()
    wait_for(lambda: "unreachable" in worker.text, "it notices")
    server.start()
    wait_for(lambda: len(jobs.counted("end")) == 2000, "all are done")
    wait_for(lambda: jobs.in_progress() == 0 and not jobs.queued(), "all are settled")
    assert sum(jobs.counted("start").values()) <= 2050
    lines = [line for line in worker.text.splitlines() if "Redis at" in line]
    assert len(lines) == 2
    assert "unreachable" in lines[0]
    assert "is back" in lines[1]


def test_outage_longer_than_the_lease_takes_no_running_job_over(work: RunWorker, jobs: Jobs, server: Server):
    first, second = work("first", CONCURRENCY="20"), work("second", CONCURRENCY="20")
    first.wait_started()
    second.wait_started()
    jobs.push(40, "Sleep", 6)
    wait_for(lambda: len(jobs.counted("start")) == 40, "all run")
    server.kill()
    time.sleep(3.5)
    server.start()
    wait_for(lambda: len(jobs.counted("end")) == 40, "all are done")
    wait_for(lambda: jobs.in_progress() == 0, "all are settled")
    assert set(jobs.counted("start").values()) == {1}
    assert jobs.queued() == []


def test_frozen_worker_cancels_what_others_took_over(work: RunWorker, jobs: Jobs, tmp_path: Path):
    frozen = work("frozen").wait_started()
    jobs.push(5, "Until", str(tmp_path / "go"))
    wait_for(lambda: len(jobs.counted("start")) == 5, "all run")
    work("other").wait_started()
    frozen.signal(signal.SIGSTOP)
    wait_for(lambda: sum(jobs.counted("start").values()) == 10, "the other takes over")
    frozen.signal(signal.SIGCONT)
    wait_for(lambda: frozen.text.count("taken over") >= 5, "it says so")
    (tmp_path / "go").touch()
    wait_for(lambda: len(jobs.counted("end")) == 5 and jobs.in_progress() == 0, "all are done")
    assert sum(jobs.counted("end").values()) == 5


def test_quiet_worker_cancels_what_others_took_over(work: RunWorker, jobs: Jobs, server: Server):
    quiet = work("quiet").wait_started()
    jobs.push(5, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 5, "all run")
    quiet.signal(signal.SIGTSTP)
    wait_for(lambda: "fetching no more" in quiet.text, "it is quiet")
    wait_for(lambda: blocked_fetches(server) == 0, "the fetch that waited is over")  # or it would get one of them
    take_over = "redis.call('DEL', KEYS[1]) while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do end"
    server.command("EVAL", take_over, 3, "tw:lease:quiet", "queue:q:quiet:inprogress", "queue:q")
    wait_for(lambda: quiet.text.count("taken over") == 5, "it says so")
    assert sorted(jobs.queued()) == sorted(jobs.payloads.values())


def test_worker_starts_before_redis_does(run_worker: RunWorker, server: Server, tmp_path: Path):
    server.kill()
    worker = run_worker(server.url, "process_app:app", RUNS=str(tmp_path / "runs"))
    wait_for(lambda: "unreachable" in worker.text, "it says so")
    server.start()
    worker.wait_started()
    assert "Traceback" not in worker.text
    assert len(worker.text.splitlines()) <= 4


def test_worker_that_is_made_quiet_before_it_has_started_starts_quiet(work: RunWorker, jobs: Jobs, server: Server):
    server.kill()
    worker = work()
    wait_for(lambda: "unreachable" in worker.text, "it waits for Redis")
    worker.signal(signal.SIGTSTP)
    server.start()
    wait_for(lambda: "quiet" in worker.text, "it is quiet")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere:app", "no module"),
        ("process_app:nothing", "has no 'nothing'; it has app"),
        ("process_app:note", "not an App"),
    ],
)
def test_wrong_target_is_one_line(run_worker: RunWorker, target: str, words: str, tmp_path: Path):
    worker = run_worker("redis://127.0.0.1:1/0", target, RUNS=str(tmp_path / "runs"))
    assert worker.ended() == 1
    assert words in worker.text
    assert len(worker.text.splitlines()) == 1
