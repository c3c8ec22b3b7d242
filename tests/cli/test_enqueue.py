"""`trioworkers enqueue`: the jid on stdout; on stderr whatever will keep the job waiting."""

from __future__ import annotations

import json
from collections.abc import Callable

from acting import act
from harness import Jobs
from servers import Server, Worker, wait_for

WAITS = "no worker serves queue {} now, so the job waits; served: {}\n"


def enqueue(url: str, *words: str) -> tuple[str, str]:
    done = act(url, "enqueue", *words)
    return done.stdout, done.stderr


def test_job_that_nobody_will_run_soon_is_told_on_stderr_only(redis_url: str, shared_server: Server):
    jid, told = enqueue(redis_url, "mial", "A")
    assert told == WAITS.format("mial", "none")
    assert (len(jid), json.loads(str(shared_server.command("LINDEX", "queue:mial", 0)))["jid"]) == (25, jid.strip())
    for number in range(6):
        info = {"queues": [f"mail{number}"], "labels": []}
        shared_server.command("SADD", "processes", f"rb:{number}")
        shared_server.command("HSET", f"rb:{number}", "info", json.dumps(info), "busy", 0, "beat", "1.5")
    assert enqueue(redis_url, "mial", "A", "--in", "60")[1] == WAITS.format(
        "mial", "mail0, mail1, mail2, mail3, mail4, …"
    )
    assert enqueue(redis_url, "mail3", "A")[1] == ""
    shared_server.command("HSET", "rb:3", "quiet", "true")
    assert "no worker serves queue mail3" in enqueue(redis_url, "mail3", "A")[1]


def test_nothing_is_told_while_a_worker_serves_the_queue_unless_it_is_paused(
    work: Callable[..., Worker], server: Server, jobs: Jobs
):
    work().wait_started()
    assert enqueue(server.url, "q", "Sleep", "0")[1] == ""
    act(server.url, "pause", "q", "--class", "Sleep")
    told = enqueue(server.url, "q", "Sleep", "0")[1]
    assert "trioworkers resume q\n" in told
    assert "trioworkers resume --class Sleep\n" in told
    act(server.url, "resume", "q", "--class", "Sleep")
    wait_for(lambda: not jobs.queued() and not jobs.in_progress(), "both are done")


def test_who_may_only_send_is_told_nothing(server: Server):
    server.command("ACL", "SETUSER", "sender", "on", ">pw", "~*", "+@all", "-smembers")
    jid, told = enqueue(server.url.replace("//", "//sender:pw@"), "q", "A")
    assert (len(jid), told) == (25, "")


def test_class_without_a_handler_is_told_if_all_workers_say_what_they_have(
    work: Callable[..., Worker], server: Server, jobs: Jobs
):
    work().wait_started()
    told = enqueue(server.url, "q", "Slep", "0")[1]
    assert told.startswith("no worker of queue q has a handler for class Slep, so the job will fail; known: ")
    info = {"queues": ["q"], "labels": []}
    server.command("SADD", "processes", "rb:1")
    server.command("HSET", "rb:1", "info", json.dumps(info), "busy", 0, "beat", "1.5")
    assert enqueue(server.url, "q", "Slep", "0")[1] == ""


def test_what_only_looks_like_json_is_told(redis_url: str, shared_server: Server):
    told = enqueue(redis_url, "mail", "A", '{"id": 7', "[1,", "plain", '{"id": 7}')[1].splitlines()
    assert [line.partition(" is no JSON (")[0] for line in told[:2]] == ["'{\"id\": 7'", "'[1,'"]
    assert told[0].endswith("so it is sent as a string")
    assert len(told) == 3
    assert json.loads(str(shared_server.command("LINDEX", "queue:mail", 0)))["args"] == [
        '{"id": 7',
        "[1,",
        "plain",
        {"id": 7},
    ]


def test_number_that_json_does_not_have_is_told(redis_url: str, shared_server: Server):
    told = enqueue(redis_url, "mail", "A", "1e999", "007", "2024-01-02", "nan", "7")[1].splitlines()
    assert [line.partition(" is no JSON (")[0] for line in told[:2]] == ["'1e999'", "'007'"]
    assert len(told) == 3
    args = json.loads(str(shared_server.command("LINDEX", "queue:mail", 0)))["args"]
    assert args == ["1e999", "007", "2024-01-02", "nan", 7]
