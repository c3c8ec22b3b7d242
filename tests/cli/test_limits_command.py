"""`trioworkers limits`: what it shows, and what it has otherwise, with real workers and on state that others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from acting import act, refused
from harness import Jobs
from servers import Server, Worker, wait_for

RunWorker = Callable[..., Worker]


@pytest.fixture
def worker(run_worker: RunWorker, server: Server, jobs: Jobs) -> Worker:
    # Nobody dies here. On a busy machine a short lease may run out for a moment, and then its permits are free.
    options = ("--process-id", "w1", "--lease", "30", "--shutdown-timeout", "1")
    jobs.workers.append(run_worker(server.url, "limits_app:app", *options, RUNS=str(jobs.runs)))
    return jobs.workers[0].wait_started()


def rows(server: Server, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in act(server.url, "limits", *words, "--json").stdout.splitlines()]


def limit(server: Server, name: str) -> dict[str, Any]:
    return next(row for row in rows(server) if row["limit"] == name)


def test_who_holds_and_who_waits(worker: Worker, server: Server, jobs: Jobs):
    jobs.push(6, "Limited", 60)
    jobs.push(4, "Tenant", 60, "a")
    jobs.push_elsewhere(5, "queue:limited", "Queued", 60, queue="limited")
    jobs.push(4, "Part", 60)
    wait_for(lambda: len(jobs.counted("start")) == 4 + 2 + 3 + 3, "as many run as may")
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 4, "the others are parked")
    queues = [json.loads(line) for line in act(server.url, "queues", "--json").stdout.splitlines()]
    assert {row["queue"]: row["parked"] for row in queues if row["parked"]} == {
        "q": 4
    }  # who waits within its slot isn't
    found = {row["limit"]: (row["held"], row["waiting"]) for row in rows(server)}
    assert found["crm"] == (4, 2)
    assert found['tenant:"a"'] == (2, 2)
    assert found["@limited"] == (3, 0)
    assert found["part"] == (3, 1)
    shown = rows(server, "show", "crm")
    assert sum(1 for row in shown if row.get("holds") is True) == 4
    assert {row["process"] for row in shown if row.get("holds") is True} == {"w1"}
    assert sum(1 for row in shown if row.get("holds") is False) == 2
    assert any(row.get("within") for row in rows(server, "show", "part"))
    assert "4 at once" in act(server.url, "limits", "show", "crm").stdout


def test_numbers_that_are_set_hold_at_once_for_all_and_say_so(worker: Worker, server: Server, jobs: Jobs):
    jobs.push(9, "Limited", 60)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 5, "the others are parked")
    told = act(server.url, "limits", "set", "crm", "--concurrency", "6").stdout
    assert told == (
        "crm: 6 at once instead of 4 at once in code, for all workers, until `trioworkers limits reset crm`\n"
    )
    wait_for(lambda: len(jobs.counted("start")) == 6, "two more run")
    assert limit(server, "crm")["remark"] == "instead of 4 at once in code"
    assert act(server.url, "limits", "reset", "crm").stdout == "crm: 4 at once, as the code says\n"
    assert limit(server, "crm")["override"] is False
    assert "20/s" in act(server.url, "limits", "set", "crm", "--rate", "20/s", "--burst", "3").stdout


@pytest.mark.parametrize(("name", "job_class", "queue"), [("crm", "Limited", "q"), ("@limited", "Queued", "limited")])
def test_closed_limit_lets_nothing_start_until_it_is_opened(
    worker: Worker, server: Server, jobs: Jobs, name: str, job_class: str, queue: str
):
    assert "closed until `trioworkers limits open" in act(server.url, "limits", "close", name).stdout
    jobs.push_elsewhere(3, f"queue:{queue}", job_class, 0, queue=queue)
    if queue == "q":
        wait_for(lambda: server.command("ZCARD", "tw:parked") == 3, "they are parked")
    assert limit(server, name)["closed"] is True
    assert not jobs.runs.exists()
    assert act(server.url, "limits", "open", name).stdout == f"{name}: open\n"
    wait_for(lambda: len(jobs.counted("end")) == 3, "they run")


def test_closed_for_a_while_opens_by_itself(worker: Worker, server: Server, jobs: Jobs):
    assert "closed for 1.0s" in act(server.url, "limits", "close", "crm", "--for", "1").stdout
    jobs.push(2, "Limited", 0)
    wait_for(lambda: len(jobs.counted("end")) == 2, "they run")


def test_what_can_not_be_is_refused(server: Server):
    assert "no limit is called crm; there are: none" in refused(server.url, "limits", "close", "crm")
    assert "no limit is called crm" in refused(server.url, "limits", "show", "crm")
    for words in (
        ("set", "crm"),
        ("set", "crm", "--rate", "fast"),
        ("close", "crm", "--concurrency", "3"),
        ("open", "crm", "--for", "3"),
        ("show",),
        ("frobnicate", "crm"),
        ("--burst", "3"),
    ):
        assert act(server.url, "limits", *words, status=2).exit_code == 2


def test_what_somebody_forged_is_shown_as_it_counts(server: Server):
    server.command("HSET", "tw:limits", "forged", "garbage")
    server.command("HSET", "tw:limits", "\x1b[31mred", "\x93\x05")
    server.command("SET", "tw:permits:forged", "garbage")
    server.command("HSET", "tw:overrides", "other", "garbage")
    server.command("HSET", "tw:inprogress", "list", "w1 q")
    server.command("SET", "tw:holds:w1 q", "garbage")
    text = act(server.url, "limits").stdout
    assert "\x1b" not in text
    assert {row["limit"] for row in rows(server)} == {"forged", "other", "\x1b[31mred"}
    assert "WRONGTYPE" in next(row["remark"] for row in rows(server) if row["limit"] == "forged")
