"""`batches` and `batch`: what they show, cancel and retry, on a real server with real workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio
from batches_app import BURIES, member, told
from harness import Jobs
from servers import Server, Worker, wait_for

from trioworkers import Batch, Client
from trioworkers.send import Send


@pytest.fixture
def ask(server: Server) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trioworkers", *words, "--redis", server.url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


Ask = Callable[..., subprocess.CompletedProcess[str]]


def send(server: Server, *batches: Batch) -> None:
    async def main() -> None:
        async with Client(server.url) as client:
            await client.enqueue(*batches)

    trio.run(main)


def batch_of(count: int, *args: object, description: str = "some") -> Batch:
    batch = Batch(description, on_finished=told.job("finished"), on_success=told.job("success"))
    batch.add(*(member.job(*args) for _ in range(count)))
    return batch


def test_batches_and_their_members_are_shown(server: Server, ask: Ask):
    hostile = batch_of(2, 0.0, description="\x1b[31m<b>\u202e")
    plain = batch_of(3, 0.0)
    send(server, hostile, plain)
    rows = [json.loads(line) for line in ask("batches", "--json").stdout.splitlines()]
    assert [(row["batch"], row["state"], row["total"], row["pending"]) for row in rows] == [
        (plain.id, "running", 3, 3),
        (hostile.id, "running", 2, 2),
    ]
    assert "\x1b" not in ask("batches").stdout
    shown = ask("batch", plain.id).stdout
    assert "3: 3 pending, none ended" in shown
    assert shown.count("Member") == 3
    assert json.loads(ask("batch", plain.id, "--json").stdout)["members"][0]["in"] == "queue"
    assert ask("jobs", "q", "--where", f"batch={hostile.id}", "--json").stdout.count("\n") == 2


def test_who_waits_for_whom_and_what_lies_in_it_is_shown_within_bounds(server: Server, ask: Ask):
    outer = Batch("outer")
    first = outer.add(*(member.job(0.0) for _ in range(5)))
    outer.add(member.job(0.0), after=[first])
    outer.add(*(member.job(0.0) for _ in range(30)))
    inner, innermost = batch_of(2, 0.0, description="\x1b[31minner"), batch_of(1, 0.0, description="innermost")

    async def main() -> None:
        async with Client(server.url) as client:
            await client.enqueue(outer)
            await client._opened().send(map(Send, inner.members(parent=outer.id)))  # as a member sends it
            await client._opened().send(map(Send, innermost.members(parent=inner.id)))
            for _ in range(25):
                await client._opened().send(map(Send, batch_of(1, 0.0).members(parent=innermost.id)))

    trio.run(main)
    shown = ask("batch", outer.id)
    assert shown.stdout.count("Member") == 20
    assert "… and 16 more members" in shown.stderr
    assert "  batch " + inner.id + "  running, 3 of 3 pending  " in shown.stdout
    assert "    batch " + innermost.id + "  running, 26 of 26 pending  innermost" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "      … and 5 more" in shown.stdout
    assert len(json.loads(ask("batch", outer.id, "--json").stdout)["members"]) == 36
    waits = Batch()
    waits.add(member.job(0.0), after=[waits.add(*(member.job(0.0) for _ in range(5)))])
    send(server, waits)
    assert re.search(r"waiting .* after \w+, \w+, \w+ and 2 more", ask("batch", waits.id).stdout)


def test_what_is_no_batch_is_told(server: Server, ask: Ask):
    assert "no batches" in ask("batches").stderr
    for words in (("batch", "none"), ("batch", "cancel", "none"), ("batch", "retry", "none")):
        told_of = ask(*words)
        assert told_of.returncode == 1
        assert "no batch none" in told_of.stderr
    assert ask("batch", "a", "b", "c").returncode == 2
    server.command("SET", "tw:batch:odd", "text")
    server.command("ZADD", "tw:batches", 1, "odd", 2, "gone")
    assert ask("batch", "odd").returncode == 1


def test_cancelled_batch_ends(server: Server, ask: Ask, run_worker: Callable[..., Worker], jobs: Jobs):
    batch = batch_of(30, 600)
    send(server, batch)
    run_worker(server.url, "batches_app:app", RUNS=str(jobs.runs)).wait_started()
    wait_for(lambda: len(jobs.counted("start")) == 20, "as many run as may")
    told_of = ask("batch", "cancel", batch.id)
    assert (told_of.returncode, told_of.stderr) == (0, "")
    wait_for(lambda: jobs.counted("finished").total() == 1, "it is over")
    assert jobs.counted("success").total() == 0
    assert json.loads(ask("batch", batch.id, "--json").stdout)["state"] == "finished"
    assert ask("batch", "cancel", batch.id).returncode == 1


def test_dead_members_are_retried(server: Server, ask: Ask, run_worker: Callable[..., Worker], jobs: Jobs):
    batch, other = batch_of(3, 0.01, BURIES), batch_of(3, 0.01, BURIES)
    send(server, batch, other)
    run_worker(server.url, "batches_app:app", RUNS=str(jobs.runs)).wait_started()
    wait_for(lambda: server.command("ZCARD", "dead") == 6, "all are dead")
    assert json.loads(ask("batch", batch.id, "--json").stdout)["state"] == "dead members"
    assert ask("batch", "retry", batch.id).returncode == 0
    wait_for(lambda: jobs.counted("success").total() == 1, "it is a success")
    assert server.command("ZCARD", "dead") == 3
