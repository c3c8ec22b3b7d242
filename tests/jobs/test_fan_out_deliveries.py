"""Every call is delivered once: the sink's own log says so, with real workers that fail, are stopped and are killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable

from scripted_sink import Sink, scripted_sink
from servers import Server, Worker, wait_for

RunWorker = Callable[..., Worker]
JOBS = 20


def push(server: Server, job_class: str) -> dict[str, str]:
    payloads = {
        f"{number:024x}": json.dumps({"class": job_class, "args": [], "jid": f"{number:024x}", "queue": "q"})
        for number in range(JOBS)
    }
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", *payloads.values())
    return payloads


def in_progress(server: Server) -> list[str]:
    found = server.command("LRANGE", "queue:q:me:inprogress", 0, -1)
    assert isinstance(found, list)
    return found


def all_delivered_once(sink: Sink, server: Server) -> None:
    wanted = Counter({f"{number:024x}:{name}": 1 for number in range(JOBS) for name in "abc"})
    wait_for(lambda: len(sink.delivered()) == len(wanted), f"all calls arrive, not {len(sink.delivered())}")
    wait_for(lambda: not in_progress(server), "all jobs are settled")
    assert sink.delivered() == wanted
    assert server.command("ZCARD", "retry") == server.command("ZCARD", "dead") == 0


def start(run_worker: RunWorker, server: Server, sink: Sink, **environment: str) -> Worker:
    options = ("--process-id", "me", "--shutdown-timeout", "0")
    return run_worker(server.url, "fan_out_app:app", *options, SINK=sink.url, **environment).wait_started()


def test_calls_that_fail_are_retried_and_the_others_are_not(server: Server, run_worker: RunWorker):
    with scripted_sink(lambda name, time: 503 if name == "b" and time == 1 else 200) as sink:
        push(server, "Calls")
        start(run_worker, server, sink)
        all_delivered_once(sink, server)
        assert Counter(status for _, status in sink.log) == {200: 3 * JOBS, 503: JOBS}


def test_job_that_is_stopped_by_term_makes_no_call_again_that_was_done(server: Server, run_worker: RunWorker):
    with scripted_sink(lambda name, time: None if name == "c" and time == 1 else 200) as sink:
        push(server, "Calls")
        worker = start(run_worker, server, sink)
        wait_for(lambda: len(sink.held) == JOBS and len(sink.log) == 2 * JOBS, "all calls but c are done")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        found = server.command("LRANGE", "queue:q", 0, -1)
        assert isinstance(found, list)
        assert [sorted(json.loads(payload)["tw_done"]) for payload in found] == [["a", "b"]] * JOBS
        start(run_worker, server, sink)
        all_delivered_once(sink, server)


def test_job_without_a_call_done_comes_back_with_the_same_bytes(server: Server, run_worker: RunWorker):
    with scripted_sink(lambda name, time: None) as sink:
        payloads = push(server, "PaidCalls")
        worker = start(run_worker, server, sink)
        wait_for(lambda: len(sink.held) == 3 * JOBS, "all calls are on their way")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        assert server.command("LRANGE", "queue:q", 0, -1) == list(payloads.values())[::-1]


def test_killed_worker_repeats_no_call_that_a_checkpoint_has_recorded(server: Server, run_worker: RunWorker):
    with scripted_sink(lambda name, time: None if name == "c" and time == 1 else 200) as sink:
        push(server, "PaidCalls")
        worker = start(run_worker, server, sink)

        def recorded() -> bool:
            done = [sorted(json.loads(payload).get("tw_done", [])) for payload in in_progress(server)]
            return len(sink.held) == JOBS and done == [["a", "b"]] * JOBS

        wait_for(recorded, "what is done stands in Redis")
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        start(run_worker, server, sink)
        all_delivered_once(sink, server)


def test_call_that_failed_for_good_is_reported_when_the_others_are_done(server: Server, run_worker: RunWorker):
    def script(name: str, time: int) -> int:
        return {"a": 200, "b": 404, "c": 503 if time == 1 else 200}[name]

    with scripted_sink(script) as sink:
        push(server, "Calls")
        start(run_worker, server, sink)
        wait_for(lambda: server.command("ZCARD", "dead") == JOBS, "all jobs are buried")
        assert Counter(key[-1] for key, _ in sink.log) == {"a": JOBS, "b": JOBS, "c": 2 * JOBS}
        found = server.command("ZRANGE", "dead", 0, -1)
        assert isinstance(found, list)
        for payload in map(json.loads, found):
            assert "b: 404 Not Found (permanent" in payload["error_message"]
            assert (sorted(payload["tw_done"]), payload.get("tw_failed")) == (["a", "c"], None)


def test_jobs_of_a_paused_host_wait_for_it_and_are_delivered_once(server: Server, run_worker: RunWorker):
    is_away = True

    def waiting() -> dict[tuple[object, object], object]:
        """Since when each job that waits does so: by jid, and by how many attempts it has had."""
        payloads = server.command("ZRANGE", "schedule", 0, -1)
        assert isinstance(payloads, list)
        jobs = [json.loads(payload) for payload in payloads]
        return {(fields["jid"], fields.get("retry_count")): fields["tw_snoozed"] for fields in jobs}

    with scripted_sink(lambda _, __: 503 if is_away else 200) as sink:
        push(server, "Calls")
        worker = start(run_worker, server, sink, BREAKER="yes")
        wait_for(lambda: len(waiting()) >= JOBS - 3 and not in_progress(server), "most wait for their host")
        since, tried = waiting(), len(sink.log)
        wait_for(lambda: len(sink.log) >= tried + 3, "the host is tried again and again")
        kept: dict[tuple[object, object], object] = {}  # the others were let through to try: an attempt that counts

        def most_wait_still() -> bool:
            """At times they don't: they all come due together, and are told once more to wait."""
            kept.clear()
            kept.update((job, moment) for job, moment in waiting().items() if job in since)
            return len(kept) >= JOBS / 2

        wait_for(most_wait_still, "most wait for their host still")
        assert kept == {job: since[job] for job in kept}
        assert worker.text.count("waits for its host") <= JOBS + len(sink.log)
        assert worker.text.count("is paused for everyone") == 1
        is_away = False
        all_delivered_once(sink, server)
        assert worker.text.count("answers again") == 1
        assert server.command("ZCARD", "schedule") == 0
