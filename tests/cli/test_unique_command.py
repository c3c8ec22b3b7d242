"""`trioworkers unique`: who has which lock, and letting one go by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio
from acting import act, refused
from servers import Server, Worker, wait_for
from unique_app import app, latest, once

from trioworkers import App, Client, Job, Throttle


def sent(server: Server, *jobs: Job, delay_s: float = 0.0) -> list[str]:
    async def send() -> list[str]:
        async with Client(server.url) as client:
            return [*await (client.schedule(delay_s, *jobs) if delay_s else client.enqueue(*jobs))]

    return trio.run(send)


@pytest.fixture(autouse=True)
def _of_this_server(server: Server) -> None:
    app.configure(redis_url=server.url)


def test_locks_are_listed_and_shown_with_the_place_of_their_job(server: Server):
    one, two, _, follower = sent(server, once.job(1), latest.job(2, 1), once.job(1), latest.job(2, 2))
    rows = {row["jid"]: row for row in map(json.loads, act(server.url, "unique", "--json").stdout.splitlines())}
    assert rows.keys() == {one, two}
    assert (rows[one]["next"], rows[two]["next"]) == (None, follower)
    key = rows[two]["lock"]
    assert key.startswith("Latest:")
    text = act(server.url, "unique", "show", key).stdout
    assert f"job       {two}, in queue q" in text
    assert f"next      {follower}" in text
    assert json.loads(act(server.url, "unique", "show", key, "--json").stdout)["places"] == ["in queue q"]
    assert "Once:" in act(server.url, "unique", "--limit", "1").output + act(server.url, "unique").output


def test_what_is_to_follow_is_a_place_like_others(server: Server):
    _, follower = sent(server, latest.job(2, 1), latest.job(2, 2))
    assert follower in act(server.url, "next").stdout
    assert "in the next set" in act(server.url, "show", follower).stdout
    assert (
        act(server.url, "stats", "--json").stdout.count('"next": 1')
        or '"next":1' in act(server.url, "stats", "--json").stdout
    )
    lines = act(server.url, "export", "next").stdout
    act(server.url, "delete", "--in", "next", "--all", "--yes")
    assert server.command("EXISTS", "tw:next") == 0
    assert json.loads(lines)["in"] == "next"


def test_released_lock_is_free_and_a_worker_notes_it(run_worker: Callable[..., Worker], server: Server):
    worker = run_worker(server.url, "unique_app:app", RUNS="/dev/null").wait_started()
    [jid] = sent(server, once.job(1), delay_s=600)
    [key] = [json.loads(line)["lock"] for line in act(server.url, "unique", "--json").stdout.splitlines()]
    assert "Nobody is there to say yes" in refused(server.url, "unique", "release", key)
    assert act(server.url, "unique", "release", key, "--yes").stdout == f"{key}: given back; job {jid} had it\n"
    wait_for(lambda: f"the lock {key} of job {jid} was given back by an operator" in worker.text, "the log tells")
    assert "nobody has the lock" in refused(server.url, "unique", "release", key, "--yes")
    assert "nobody has the lock" in refused(server.url, "unique", "show", key)


def test_throttled_spell_is_shown_and_ended(server: Server):
    @App().handler("q", "Mail", unique=Throttle(every=60))
    async def mail(to: str) -> None: ...

    [jid] = sent(server, mail.job("a"))
    lock = mail.job("a").lock
    assert lock is not None
    assert f"job {jid} was sent; no other one is for" in act(server.url, "unique", "show", lock.key).stdout
    act(server.url, "unique", "release", lock.key, "--yes")
    assert server.command("EXISTS", f"tw:throttle:{lock.key}") == 0


@pytest.mark.parametrize("value", ["junk", "", "\x93\x01\x02\x03", "\x81\x01\x02"])
def test_lock_that_others_wrote_is_shown_as_what_it_is(server: Server, value: str):
    server.command("HSET", "tw:unique", "A:\x1b[31mk", value)
    row = json.loads(act(server.url, "unique", "--json").stdout)
    assert "not written by us" in row["problem"]
    assert "\x1b" not in act(server.url, "unique").stdout
    act(server.url, "unique", "release", "A:\x1b[31mk", "--yes")
    assert server.command("EXISTS", "tw:unique") == 0


@pytest.mark.parametrize("words", [["drop", "A:k"], ["show"], ["release"]])
def test_what_makes_no_sense_is_refused(server: Server, words: list[str]):
    assert "unique" in refused(server.url, "unique", *words)
