"""Steps and rows are done once: the sink's own log says so, with real workers that fail, are stopped and are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_sink import Sink, scripted_sink
from servers import Server, Worker, wait_for

RunWorker = Callable[..., Worker]
JOBS = 10


def push(server: Server, job_class: str, *args: object) -> None:
    payloads = [
        json.dumps({"class": job_class, "args": args, "jid": f"{number:024x}", "queue": "q"}) for number in range(JOBS)
    ]
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", *payloads)


def texts(server: Server, *command: object) -> list[str]:
    found = server.command(*command)
    assert isinstance(found, list)
    return found


def payloads(server: Server, key: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in texts(server, "LRANGE", key, 0, -1)]


def start(
    run_worker: RunWorker, server: Server, sink: Sink, *, process_id: str = "me", lease: str = "30", **environment: str
) -> Worker:
    options = ("--process-id", process_id, "--shutdown-timeout", "5", "--lease", lease)
    return run_worker(server.url, "long_work_app:app", *options, SINK=sink.url, **environment).wait_started()


def all_done_once(sink: Sink, server: Server, names: Sequence[str]) -> None:
    wanted = Counter({f"{number:024x}:{name}": 1 for number in range(JOBS) for name in names})
    wait_for(lambda: len(sink.delivered()) == len(wanted), "all is done")
    wait_for(lambda: not payloads(server, "queue:q:me:inprogress"), "all jobs are settled")
    assert sink.delivered() == wanted
    assert server.command("ZCARD", "retry") == server.command("ZCARD", "dead") == 0
    assert texts(server, "KEYS", "tw:steps:*") == []


@pytest.mark.parametrize("size", [1, 30_000], ids=["in the payload", "beside it"])
def test_killed_worker_repeats_no_step_that_is_recorded(server: Server, run_worker: RunWorker, size: int):
    with scripted_sink(lambda name, time: None if name == "c" and time == 1 else 200) as sink:
        push(server, "Steps", size)
        worker = start(run_worker, server, sink)
        wait_for(lambda: len(sink.held) == JOBS, "all are in their third step")
        records = [payload["tw_record"] for payload in payloads(server, "queue:q:me:inprogress")]
        beside = [texts(server, "HKEYS", key) for key in texts(server, "KEYS", "tw:steps:*")]
        if size == 1:
            assert [list(record["steps"]) for record in records] == [["a", "b"]] * JOBS
            assert beside == []
        else:
            assert [record["beside"][0] for record in records] == [2] * JOBS
            assert [sorted(names) for names in beside] == [["a", "b"]] * JOBS
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        start(run_worker, server, sink)
        all_done_once(sink, server, "abc")


@pytest.mark.slow
def test_job_that_is_taken_over_repeats_no_step_that_is_recorded(server: Server, run_worker: RunWorker):
    """From a worker that is frozen for longer than its lease, and goes on when the other one has done all."""
    with scripted_sink(lambda name, time: None if name == "c" and time == 1 else 200) as sink:
        push(server, "Steps", 1)
        frozen = start(run_worker, server, sink, lease="1")
        wait_for(lambda: len(sink.held) == JOBS, "all are in their third step")
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            start(run_worker, server, sink, lease="1", process_id="other")
            wait_for(lambda: len(sink.delivered()) == 3 * JOBS, "the other one has done all")
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
        all_done_once(sink, server, "abc")
        frozen.signal(signal.SIGTERM)
        frozen.ended()
        all_done_once(sink, server, "abc")


def test_step_that_fails_is_retried_and_those_before_it_are_not(server: Server, run_worker: RunWorker):
    with scripted_sink(lambda name, time: 503 if name == "b" and time == 1 else 200) as sink:
        push(server, "Steps", 20_000)
        start(run_worker, server, sink)
        wait_for(lambda: server.command("ZCARD", "retry") == JOBS, "all wait for their retry")
        for payload in texts(server, "ZRANGE", "retry", 0, -1):
            server.command("ZADD", "retry", time.time(), payload)
        all_done_once(sink, server, "abc")


def test_rows_are_done_once_over_deploys_that_count_no_attempt(server: Server, run_worker: RunWorker):
    rows = 100
    with scripted_sink(lambda _, __: 200) as sink:
        push(server, "Rows")
        for done in (JOBS * 20, JOBS * 80, JOBS * 130):
            worker = start(run_worker, server, sink, ROWS=str(rows))
            wait_for(lambda done=done: len(sink.log) >= done, "some rows are done")  # type: ignore[misc]
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
            waiting = payloads(server, "queue:q")
            assert [payload.get("retry_count") for payload in waiting] == [None] * JOBS
            assert all(payload["tw_record"]["at"]["rows"] for payload in waiting)
        start(run_worker, server, sink, ROWS=str(rows))
        all_done_once(sink, server, [f"{name}{row}" for row in range(rows) for name in "ab"])


def test_killed_worker_repeats_at_most_the_row_that_it_was_in(server: Server, run_worker: RunWorker):
    rows = 20
    with scripted_sink(lambda _, __: 200) as sink:
        push(server, "Rows")
        for done in (JOBS * 10, JOBS * 24):
            worker = start(run_worker, server, sink, ROWS=str(rows))
            wait_for(lambda done=done: len(sink.log) >= done, "some rows are done")  # type: ignore[misc]
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        start(run_worker, server, sink, ROWS=str(rows))
        wanted = {f"{number:024x}:{name}{row}" for number in range(JOBS) for row in range(rows) for name in "ab"}
        wait_for(lambda: sink.delivered().keys() == wanted, "all rows are done")
        wait_for(lambda: not payloads(server, "queue:q:me:inprogress"), "all jobs are settled")
        assert max(sink.delivered().values()) <= 3
        assert sum(sink.delivered().values()) <= len(wanted) + 2 * 2 * JOBS  # two kills, two calls in the row of each
